//! What an exchange waits for.

use crate::protocol::Header;

/// What an exchange waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Awaited {
    /// Nothing: the exchange is done, or it is the caller's turn.
    Nothing,
    /// A driver waits for its server's next message.
    Command,
    /// A driver waits for GETFORCE.
    GetForce,
    /// A server waits for the answer to STATUS.
    Status,
    /// A server waits until the driver has accepted INIT: for the answer to the STATUS after it.
    Init,
    /// A server waits for forces, or for HAVEDATA before them.
    Forces,
    /// A server waits for the driver to close the connection after EXIT.
    Close,
    /// Part of a message has arrived, and the rest has not.
    Rest,
    /// A message is being sent, and the peer has not accepted all of it.
    Taken,
}

/// What an exchange waits for, and how much of it has moved
/// ([`Exchange::waits_for`](crate::Exchange::waits_for)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Wait {
    /// What the exchange waits for.
    pub awaited: Awaited,
    /// The message that has begun to move, if it is known.
    pub within: Option<Header>,
    /// How many bytes of the message have moved.
    pub moved: usize,
    /// The length of an incoming message, as far as the bytes received announce it.
    pub announced: Option<usize>,
    /// A complete header has arrived over this connection.
    pub(crate) greeted: bool,
    /// The peer computes for this side, or is being sent a structure to compute.
    pub(crate) evaluating: bool,
    /// How many bytes had moved before this message. The number is unique among the messages of a
    /// connection.
    pub(crate) mark: u64,
}

impl Wait {
    /// Whether the peer has no reason to stay silent: part of a message has moved, in either
    /// direction, or the peer owes an answer that needs no computation. Forces are not owed,
    /// however long a driver takes for them.
    ///
    /// If so, acknowledge received bytes at once, so that a peer without `TCP_NODELAY` sends the
    /// rest.
    #[must_use]
    pub const fn owed(&self) -> bool {
        matches!(
            self.awaited,
            Awaited::Status | Awaited::Init | Awaited::Close | Awaited::Rest | Awaited::Taken
        )
    }

    /// The wait of an exchange that is done. The driver may still be computing.
    pub(crate) const fn nothing(self) -> Self {
        Self {
            awaited: Awaited::Nothing,
            ..self
        }
    }

    /// The wait while the transport keeps bytes that the peer has not accepted.
    pub(crate) const fn taken(self) -> Self {
        Self {
            awaited: Awaited::Taken,
            ..self
        }
    }
}
