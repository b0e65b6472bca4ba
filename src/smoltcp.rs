//! Exchanges over a smoltcp TCP socket, without waiting.

use core::fmt;
use core::task::Poll;
use core::time::Duration;

use smoltcp::socket::tcp::{RecvError, SendError, Socket, State};

use crate::deadlines::DeadlineTimer;
use crate::error::Error;
use crate::exchange::{Exchange, Step, Wait};
use crate::fmt::debug_as_display;
use crate::protocol::header::HEADER;

/// Moves as many bytes as possible now. Returns [`Poll::Pending`] until the exchange is done.
///
/// Call this function after every `Interface::poll` that did something, and poll the interface
/// again afterwards: only that sends the queued bytes. Keep the exchange between the calls. The
/// exchange is pending while a connection is being established (`Listen`, `SynSent`,
/// `SynReceived`).
///
/// The rings bound the work of one call, because no bytes arrive or leave before the interface is
/// polled. A call reads the contents of the receive ring, at most `recv_capacity() / 12` messages,
/// and fills the transmit ring. After [`Poll::Pending`] no more bytes can move, so the task may
/// sleep until the interface has something to do.
///
/// # Sizes
///
/// Set the socket up with `set_nagle_enabled(false)` and `set_ack_delay(None)`; smoltcp's defaults
/// cost at least 10 ms per message. Both rings may be smaller than a message. The transmit ring
/// must hold a header, which is 12 bytes.
///
/// i-PI reads an answer to STATUS with one `recv(12)` (i-PI 3.3.1 `ipi/interfaces/sockets.py`,
/// `recv_msg`), and smoltcp never lets a segment cross the end of its ring. So if a message's
/// header would cross the end, the message waits until all earlier bytes are acknowledged, which a
/// peer may delay by 40 ms. A transmit ring with room for a whole reply and 12 more bytes avoids
/// that wait. (A full segment after unacknowledged bytes can also split a header, but only if a
/// peer makes a request before it has read the answer to the previous one. i-PI and ASE don't.)
///
/// # Errors
///
/// [`Error::Protocol`] as documented for the exchange, [`Error::Transport`] with a [`SocketError`].
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

/// Whether the connection is still being established.
fn is_opening(socket: &Socket<'_>) -> bool {
    matches!(
        socket.state(),
        State::Listen | State::SynSent | State::SynReceived
    )
}

/// Copies the beginning of a message into the room before the end of the ring, unless that would
/// split its header. An empty ring starts over, so even a ring of 12 bytes has room in the end.
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

/// [`poll`] with deadlines. `timer` is one [`DeadlineTimer`] for each connection, and `now` is
/// monotonic time since an arbitrary fixed epoch. Poll the interface with the time `(now -
/// Instant::ZERO).into()`.
///
/// [`DeadlineTimer::due`] returns when to call again if nothing arrives before, on the same clock.
/// Combine it with `Interface::poll_at`.
///
/// No deadline runs while a connection is being established. A message counts as sent once the peer
/// has acknowledged it; until then [`Deadlines::message`](crate::Deadlines#structfield.message)
/// runs.
///
/// # Errors
///
/// Returns the errors of [`poll`], and [`Error::TimedOut`] if no more bytes can move and a deadline
/// has passed. Call again with the same exchange to wait for the full time once more.
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

/// The wait of the exchange. Between two messages it is the wait until the peer has acknowledged
/// the bytes in the ring.
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
    /// The TCP connection was reset, closed on this side, or never established.
    ConnectionLost,
    /// The transmit ring is smaller than a header (12 bytes).
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
