//! How long to wait for a peer.
//!
//! ```text
//!           connected   first header      POSDATA begins              last byte of FORCEREADY
//! server        |--handshake--|                 |-----------evaluation-----------|
//!                                    |-message-|                      |--message-|---message---|
//!                                      POSDATA leaves                FORCEREADY    STATUS -> READY
//!
//! driver        |--handshake--|--evaluation--|-message-|  (computes)  |-evaluation-|-message-|
//!                 any command   next command   POSDATA                  GETFORCE     FORCEREADY
//! ```
//!
//! A deadline is checked after the connection has been tried: bytes that have arrived are never
//! late. The exchange times out when a deadline has passed and no more bytes can be read or sent. A
//! stream of bytes without a pause gets the same time once more. If the check itself is late,
//! because the process was stopped or the board computed, and bytes are available, the deadline
//! also runs once more ([`DeadlineTimer::check_moving`]).
//!
//! The bytes of a message don't restart its clock. [`TimedOut`] restarts every clock: an exchange
//! that is run again has its full limits.

mod limits;
mod timed_out;
mod timer;

pub use limits::{Deadline, Deadlines};
pub use timed_out::TimedOut;
pub use timer::DeadlineTimer;
