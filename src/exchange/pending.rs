//! What an exchange waits for.

use crate::protocol::Header;

/// What an exchange waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Awaited {
    /// The exchange is done, or it is the caller's turn.
    Nothing,
    /// A driver waits for its server's next message.
    Command,
    /// A driver waits for GETFORCE.
    GetForce,
    /// A server waits for the answer to STATUS.
    Status,
    /// A server waits for the driver to take INIT: for the answer to the STATUS after it.
    Init,
    /// A server waits for forces, or for HAVEDATA before them.
    Forces,
    /// A server waits for the driver to close the connection after EXIT.
    Close,
    /// Part of a message has come, and the rest has not.
    Rest,
    /// A message is being sent, and the peer has not taken all of it.
    Taken,
}

/// What an exchange waits for, and how much of that has moved
/// ([`Exchange::waits_for`](crate::Exchange::waits_for)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Wait {
    /// What is waited for.
    pub awaited: Awaited,
    /// The message that has begun to move, unless that is not known yet.
    pub within: Option<Header>,
    /// Bytes of the message that have moved.
    pub moved: usize,
    /// The length of a message that comes, as far as its bytes so far announce it.
    pub announced: Option<usize>,
    /// A whole header has come over this connection.
    pub(crate) greeted: bool,
    /// The peer computes for this side, or is being sent what to compute.
    pub(crate) evaluating: bool,
    /// Bytes that had moved before this message. No two messages of a connection share this number.
    pub(crate) mark: u64,
}

impl Wait {
    /// Whether the peer has no reason to stay silent: part of a message has moved, in either
    /// direction, or the peer owes an answer for which it need not compute. Forces are not owed,
    /// however long a driver takes for them.
    ///
    /// It is worth acknowledging at once what comes then, so that a peer without `TCP_NODELAY`
    /// sends the rest.
    #[must_use]
    pub const fn owed(&self) -> bool {
        matches!(
            self.awaited,
            Awaited::Status | Awaited::Init | Awaited::Close | Awaited::Rest | Awaited::Taken
        )
    }

    /// The same for an exchange that is done. The driver may still compute.
    pub(crate) const fn nothing(self) -> Self {
        Self {
            awaited: Awaited::Nothing,
            ..self
        }
    }

    /// The same while the transport keeps bytes that the peer has not taken.
    pub(crate) const fn taken(self) -> Self {
        Self {
            awaited: Awaited::Taken,
            ..self
        }
    }
}
