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
//! A deadline is judged after the connection has been tried: bytes that have arrived are never
//! late. The exchange times out when a deadline has passed and nothing more can be read or sent.
//! Bytes that never stop coming may come for as long again. If nobody looked in time, because the
//! process was stopped or the board computed, and bytes are there, the deadline runs once more
//! ([`DeadlineTimer::check_moving`]).
//!
//! The bytes of a message don't set its clock back. [`TimedOut`] sets back every clock: an exchange
//! that is run again after it has its full limits again.

mod limits;
mod timed_out;
mod timer;

pub use limits::{Deadline, Deadlines};
pub use timed_out::TimedOut;
pub use timer::DeadlineTimer;
