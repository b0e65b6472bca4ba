//! How long to wait for a peer, on a clock of the caller's.
//!
//! ```text
//!           connected   first header      POSDATA begins              last byte of FORCEREADY
//! server        |--handshake--|                 |-----------evaluation-----------|
//!                                    |-message-|                      |--message-|---message---|
//!                                      it leaves, is taken             it comes     STATUS -> READY
//!
//! driver        |--handshake--|--evaluation--|-message-|  (computes)  |-evaluation-|-message-|
//!                 any command   next command   POSDATA                  GETFORCE     FORCEREADY
//! ```

mod timed_out;
mod timer;

use core::time::Duration;

pub use timed_out::TimedOut;
pub use timer::DeadlineTimer;

/// How long to wait for a peer; for ever where there is `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Deadlines {
    /// From the connection to the first header that the peer sends: a server's answer to STATUS, a driver's STATUS.
    /// Until then no other deadline runs; if this is `None`, the others run from the start.
    pub handshake: Option<Duration>,
    /// For each message from its first byte to its last, coming or leaving, however it dribbles; and for what a peer
    /// has to say without computing: an answer to STATUS, that it has taken INIT, its end after EXIT.
    pub message: Option<Duration>,
    /// For what the peer computes. A server waits so long from the first byte of positions to the last of
    /// their forces, a driver from one message of its server's to the next; what a driver computes itself does not count.
    pub evaluation: Option<Duration>,
}

impl Deadlines {
    /// Everything may take for ever.
    pub const NONE: Self = Self {
        handshake: None,
        message: None,
        evaluation: None,
    };
}

impl Default for Deadlines {
    /// Ten seconds for a handshake, a minute for a message, for ever to compute.
    fn default() -> Self {
        Self {
            handshake: Some(Duration::from_secs(10)),
            message: Some(Duration::from_secs(60)),
            evaluation: None,
        }
    }
}

/// One of the [`Deadlines`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Deadline {
    /// [`Deadlines::handshake`].
    Handshake,
    /// [`Deadlines::message`].
    Message,
    /// [`Deadlines::evaluation`].
    Evaluation,
}
