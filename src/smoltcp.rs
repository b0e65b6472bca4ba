//! Exchanges over a smoltcp TCP socket, without ever waiting.

use core::fmt;
use core::task::Poll;

use core::time::Duration;

use smoltcp::socket::tcp::{RecvError, SendError, Socket};

use crate::fmt::debug_as_display;
use crate::{DeadlineTimer, Error, Exchange, Step};

/// Moves what can be moved now; [`Poll::Pending`] until the exchange is through.
///
/// Call it after every `Interface::poll` that did something, and poll the interface again afterwards: only
/// then does what was queued leave. The exchange may be made anew for every call.
///
/// Set the socket up with `set_nagle_enabled(false)` and `set_ack_delay(None)`; smoltcp's defaults cost 10 ms
/// a message and more. Both rings may be smaller than a message, down to 12 bytes for sending: a message is
/// begun on an empty ring, because smoltcp never lets a segment cross the ring's end and i-PI reads an
/// answer to STATUS with one `recv(12)` (i-PI 3.3.1 `ipi/interfaces/sockets.py`, `recv_msg`).
///
/// # Errors
///
/// [`Error::Protocol`] as the exchange says, [`Error::Transport`] if the connection was reset, was never
/// there or has been closed on our side.
pub fn poll<T: Exchange>(
    socket: &mut Socket<'_>,
    transfer: &mut T,
) -> Result<Poll<T::Output>, Error<ConnectionLost>> {
    loop {
        let midway = transfer.midway();
        let moved = match transfer.step()? {
            Step::Done(output) => return Ok(Poll::Ready(output)),
            // What a lost connection had queued stays queued.
            Step::Write(_) if !midway && socket.send_queue() > 0 && socket.may_send() => 0,
            Step::Write(bytes) => socket.send_slice(bytes)?,
            Step::Read(bytes) => match socket.recv_slice(bytes) {
                Err(RecvError::Finished) => {
                    transfer.end();
                    continue;
                }
                result => result?,
            },
        };
        if moved == 0 {
            return Ok(Poll::Pending);
        }
        transfer.advance(moved);
    }
}

/// Like [`poll`], with deadlines: one [`DeadlineTimer`] for each connection, and the time since any moment that stays the
/// same; that with which the interface is polled is `(now - Instant::ZERO).into()`.
///
/// [`DeadlineTimer::due`] says when to call again if nothing comes until then: a moment of the same clock, to be joined with
/// `Interface::poll_at`.
///
/// # Errors
///
/// As [`poll`], and [`Error::TimedOut`] if nothing more can be moved and a deadline has passed. The exchange can
/// be made again, to wait as long once more.
pub fn poll_by<T: Exchange>(
    socket: &mut Socket<'_>,
    transfer: &mut T,
    watch: &mut DeadlineTimer,
    now: Duration,
) -> Result<Poll<T::Output>, Error<ConnectionLost>> {
    let polled = poll(socket, transfer)?;
    watch.note(now, &transfer.waits_for());
    if polled.is_pending() {
        watch.check(now)?;
    }
    Ok(polled)
}

/// The TCP connection was reset, closed on our side, or never made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLost;

impl fmt::Display for ConnectionLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the TCP connection was reset or is not open: connect again")
    }
}

debug_as_display!(ConnectionLost);

impl core::error::Error for ConnectionLost {}

#[cfg(feature = "defmt")]
impl defmt::Format for ConnectionLost {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "{}", defmt::Display2Format(self));
    }
}

impl From<SendError> for Error<ConnectionLost> {
    fn from(_: SendError) -> Self {
        Self::Transport(ConnectionLost)
    }
}

impl From<RecvError> for Error<ConnectionLost> {
    fn from(_: RecvError) -> Self {
        Self::Transport(ConnectionLost)
    }
}
