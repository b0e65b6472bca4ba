//! Exchanges over a smoltcp TCP socket, without ever waiting.

use core::fmt;
use core::task::Poll;
use core::time::Duration;

use smoltcp::socket::tcp::{RecvError, SendError, Socket, State};

use crate::deadlines::DeadlineTimer;
use crate::error::Error;
use crate::exchange::{Exchange, Step, Wait};
use crate::fmt::debug_as_display;
use crate::protocol::header::HEADER;

/// Moves what can be moved now; [`Poll::Pending`] until the exchange is done.
///
/// Call it after every `Interface::poll` that did something, and poll the interface again
/// afterwards: only then is what was queued sent. Keep the exchange between the calls. While a
/// connection is being made (`Listen`, `SynSent`, `SynReceived`) the exchange is pending.
///
/// One call is bounded by the rings, because nothing comes or leaves before the interface is
/// polled: it reads what the receive ring holds, at most `recv_capacity() / 12` messages, and
/// writes what the transmit ring takes. After [`Poll::Pending`] nothing more can be moved, so it is
/// safe to sleep until the interface has something to do.
///
/// # Sizes
///
/// Set the socket up with `set_nagle_enabled(false)` and `set_ack_delay(None)`; smoltcp's defaults
/// cost 10 ms a message and more. Both rings may be smaller than a message. The transmit ring must
/// hold 12 bytes, a header.
///
/// i-PI reads an answer to STATUS with one `recv(12)` (i-PI 3.3.1 `ipi/interfaces/sockets.py`,
/// `recv_msg`), and smoltcp never lets a segment cross the end of its ring. So a message whose
/// header would cross the end waits until all before it is acknowledged, which a peer may delay by
/// 40 ms. A transmit ring that holds a whole reply and 12 bytes more avoids that wait. (After
/// unacknowledged bytes a header can also be cut by the end of a full segment, but only for a peer
/// that asks before it has read what it asked for last: i-PI and ASE don't.)
///
/// # Errors
///
/// [`Error::Protocol`] as the exchange says, [`Error::Transport`] with a [`SocketError`].
pub fn poll<T: Exchange>(
    socket: &mut Socket<'_>,
    mut exchange: T,
) -> Result<Poll<T::Output>, Error<SocketError>> {
    if socket.send_capacity() < HEADER {
        return Err(Error::Transport(SocketError::RingTooSmall));
    }
    loop {
        let midway = exchange.midway();
        let moved = match exchange.step()? {
            Step::Done(output) => return Ok(Poll::Ready(output)),
            _ if is_opening(socket) => 0,
            Step::Write(bytes) if midway => socket.send_slice(bytes)?,
            Step::Write(bytes) => socket.send(|room| begin(room, bytes))?,
            Step::Read(bytes) => match socket.recv_slice(bytes) {
                Err(RecvError::Finished) => {
                    exchange.end();
                    continue;
                }
                result => result?,
            },
        };
        if moved == 0 {
            return Ok(Poll::Pending);
        }
        exchange.advance(moved);
    }
}

/// Whether the connection is still being made.
fn is_opening(socket: &Socket<'_>) -> bool {
    matches!(
        socket.state(),
        State::Listen | State::SynSent | State::SynReceived
    )
}

/// Puts the beginning of a message into the room that is left before the end of the ring, unless
/// its header would be cut there. The ring starts over when it is empty, so a ring of 12 bytes
/// always has room at last.
fn begin(room: &mut [u8], bytes: &[u8]) -> (usize, usize) {
    let n = room.len().min(bytes.len());
    match (room.get_mut(..n), bytes.get(..n)) {
        (Some(room), Some(bytes)) if n >= HEADER => {
            room.copy_from_slice(bytes);
            (n, n)
        }
        _ => (0, 0),
    }
}

/// Like [`poll`], with deadlines: one [`DeadlineTimer`] for each connection, and monotonic time
/// since an arbitrary fixed epoch. The time with which the interface is polled is `(now -
/// Instant::ZERO).into()`.
///
/// [`DeadlineTimer::due`] returns when to call again if nothing comes until then: a moment of the
/// same clock, to be joined with `Interface::poll_at`.
///
/// No deadline runs while a connection is being made. A message counts as sent when the peer has
/// acknowledged it: until then [`Deadlines::message`](crate::Deadlines#structfield.message) runs.
///
/// # Errors
///
/// As [`poll`], and [`Error::TimedOut`] if nothing more can be moved and a deadline has passed.
/// Call again with the same exchange to wait for as long again.
pub fn poll_by<T: Exchange>(
    socket: &mut Socket<'_>,
    mut exchange: T,
    timer: &mut DeadlineTimer,
    now: Duration,
) -> Result<Poll<T::Output>, Error<SocketError>> {
    if is_opening(socket) {
        return poll(socket, &mut exchange);
    }
    timer.note(now, &waits_for(socket, &exchange));
    timer.check_moving(now)?;
    let polled = poll(socket, &mut exchange).inspect_err(|_| timer.end_exchange())?;
    if polled.is_pending() {
        timer.note(now, &waits_for(socket, &exchange));
        timer.check(now)?;
    } else {
        timer.note(now, &exchange.waits_for());
    }
    Ok(polled)
}

/// What the exchange waits for: between two messages, for the peer to take what is still in the
/// ring.
fn waits_for(socket: &Socket<'_>, exchange: &impl Exchange) -> Wait {
    let wait = exchange.waits_for();
    if socket.send_queue() > 0 && wait.moved == 0 {
        wait.taken()
    } else {
        wait
    }
}

/// Why a socket can't carry an exchange.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SocketError {
    /// The TCP connection was reset, was closed on this side, or was never made.
    ConnectionLost,
    /// The transmit ring holds less than a header, 12 bytes.
    RingTooSmall,
}

impl fmt::Display for SocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ConnectionLost => "the TCP connection was reset or is not open: connect again",
            Self::RingTooSmall => {
                "the transmit ring of the socket holds less than 12 bytes: give it a larger buffer"
            }
        })
    }
}

debug_as_display!(SocketError);

impl core::error::Error for SocketError {}

#[cfg(feature = "defmt")]
impl defmt::Format for SocketError {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "{}", defmt::Display2Format(self));
    }
}

impl From<SendError> for Error<SocketError> {
    fn from(_: SendError) -> Self {
        Self::Transport(SocketError::ConnectionLost)
    }
}

impl From<RecvError> for Error<SocketError> {
    fn from(_: RecvError) -> Self {
        Self::Transport(SocketError::ConnectionLost)
    }
}
