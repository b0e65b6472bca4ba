//! What an exchange waits for.

use crate::protocol::Header;

/// What an exchange waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Awaited {
    /// Nothing of the peer's: the exchange is through, or it is the caller's turn.
    Nothing,
    /// A driver waits for its server's next message.
    Command,
    /// A driver waits to be asked for what it has computed.
    GetForce,
    /// A server waits for the answer to STATUS.
    Status,
    /// A server waits for the driver to take INIT: for the answer to the STATUS behind it.
    Init,
    /// A server waits for forces, or for HAVEDATA before them.
    Forces,
    /// A server waits for the driver to close the connection after EXIT.
    Close,
    /// Part of a message has come, and its rest has not.
    Rest,
    /// A message is leaving and the peer is to take it.
    Taken,
}

/// What an exchange waits for, and how far that has come ([`Exchange::waits_for`](crate::Exchange::waits_for)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Wait {
    /// What is waited for.
    pub awaited: Awaited,
    /// The message that has begun to move, unless that is not known yet.
    pub within: Option<Header>,
    /// Bytes of it that have moved.
    pub moved: usize,
    /// Bytes that it has, if it comes and as far as it has told by now.
    pub announced: Option<usize>,
    /// A whole header has come over this connection.
    pub(crate) greeted: bool,
    /// A driver computes for us, or is being told what.
    pub(crate) evaluating: bool,
    /// Bytes that had moved before this message, which tells it from every other.
    pub(crate) mark: u64,
}

impl Wait {
    /// Whether the peer is late if it stays silent: part of a message has moved, in either direction, or it has been
    /// asked something for which it need not compute. Forces are not owed, however long a driver takes for them.
    /// Immediate acknowledgement is for what is.
    #[must_use]
    pub const fn owed(&self) -> bool {
        matches!(
            self.awaited,
            Awaited::Status | Awaited::Init | Awaited::Close | Awaited::Rest | Awaited::Taken
        )
    }

    /// The same of an exchange that is through. A driver may be computing: what it may take goes on.
    pub(crate) const fn nothing(self) -> Self {
        Self {
            awaited: Awaited::Nothing,
            ..self
        }
    }

    /// The same while the transport still keeps what it was given.
    pub(crate) const fn taken(self) -> Self {
        Self {
            awaited: Awaited::Taken,
            ..self
        }
    }
}
