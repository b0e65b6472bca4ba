//! The messages that a server sends for an evaluation, and which of them share a write.

use super::state::Phase;
use crate::protocol::Header;

/// The messages that a server sends for an evaluation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Mode {
    /// STATUS, POSDATA, STATUS, GETFORCE. Every driver supports this; it needs one more round trip.
    /// i-PI before 3.2 and ASE do this.
    Classic,
    /// POSDATA and GETFORCE in one write, as i-PI ≥ 3.2 does by default.
    #[default]
    Consolidated,
    /// The four messages of [`Classic`](Self::Classic) only: each STATUS is followed by POSDATA or
    /// GETFORCE (or INIT, if the driver asks for it). ABINIT 9.6 and pysisyphus require it.
    Strict,
    /// Consolidated, with up to this many structures at once for drivers that ask for INIT, which
    /// announces batches (i-PI ≥ 3.3, `batch_size`). Other drivers receive one structure at a time.
    Batched(usize),
}

impl Mode {
    /// The message that is sent after this one in the same write.
    pub(super) const fn follower(self, message: Header) -> Option<Header> {
        match (message, self) {
            (Header::PosData, Self::Consolidated | Self::Batched(_)) => Some(Header::GetForce),
            (Header::Init | Header::PosData, _) => Some(Header::Status),
            (Header::GetForce, Self::Strict) => None,
            (Header::GetForce, _) => Some(Header::Status),
            _ => None,
        }
    }

    /// What is known about the driver after a write that began with this message.
    pub(super) const fn after(self, first: Header) -> Phase {
        match (first, self) {
            (Header::Init, _) => Phase::Initializing,
            (Header::PosData, Self::Consolidated | Self::Batched(_)) => Phase::Awaiting,
            (Header::PosData, _) => Phase::Computing,
            (Header::GetForce, _) => Phase::Awaiting,
            (Header::Exit, _) => Phase::Leaving,
            _ => Phase::Asked,
        }
    }

    /// The number of structures per batch that INIT announces.
    pub(super) const fn batch_size(self) -> usize {
        match self {
            Self::Batched(size) => size,
            _ => 1,
        }
    }
}
