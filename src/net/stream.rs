//! A connection that costs one system call a message.

use core::fmt;
use core::task::Poll;
use core::time::Duration;
use std::boxed::Box;
use std::format;
use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::time::Instant;
use std::vec;

#[cfg(unix)]
use std::os::fd::OwnedFd;
#[cfg(unix)]
use std::os::unix::net::UnixStream;

use super::Address;
use super::outbox::Outbox;
use super::socket::{BUFFER, Socket, copy};
use crate::blocking::Transport;
use crate::fmt::debug_as_display;
use crate::{DeadlineTimer, Deadlines, Error, Exchange, TimedOut, Wait};

/// A connection to a peer, for [`blocking::run`](crate::blocking::run).
///
/// Takes what has arrived in one call and serves fields from it; gathers the pieces of a message
/// until it is flushed.
///
/// When one of the [`Deadlines`] passes, the error is of the kind
/// [`TimedOut`](ErrorKind::TimedOut), and its `source` is the [`TimedOut`](crate::TimedOut) that
/// says what was waited for and what can still be done. Nothing that came is lost: keep the
/// exchange and run it again to wait for as long again. The kernel wakes a waiting call four times
/// within the shortest limit, so an exchange may time out a quarter of that late.
///
/// The socket is tried before the clock is judged: bytes that have arrived are never late, even if
/// this process was stopped meanwhile, and a limit of zero takes and sends what the socket allows
/// without waiting.
#[derive(Debug)]
pub struct Stream {
    socket: Socket,
    peer: Address,
    input: Box<[u8]>,
    /// What of `input` came from the kernel, and what of that has been served.
    filled: usize,
    served: usize,
    output: Outbox,
    /// When the clock of `timer` began.
    connected: Instant,
    timer: DeadlineTimer,
    /// After which time the kernel wakes a read to look at the clock.
    tick: Option<Duration>,
    /// Whether a call may wait at all.
    waits: bool,
    /// What the poll under way may still do: messages to begin, and calls of the kernel.
    budget: usize,
    /// The last poll stopped because its budget was used up.
    stopped: bool,
}

/// Messages that one [`Stream::poll`] begins, and times that it reads from the kernel.
const BUDGET: usize = 64;

impl Stream {
    pub(super) fn new(socket: Socket, peer: Address, deadlines: Deadlines) -> io::Result<Self> {
        // Runtimes hand out sockets that do not block, with which a wait would be a busy loop.
        socket.set_nonblocking(false)?;
        socket.send_at_once()?;
        if let Some(limit) = shortest(&deadlines) {
            socket.set_write_timeout(tick(limit))?;
        }
        Ok(Self {
            socket,
            peer,
            input: vec![0; BUFFER].into_boxed_slice(),
            filled: 0,
            served: 0,
            output: Outbox::default(),
            connected: Instant::now(),
            timer: DeadlineTimer::new(deadlines),
            tick: None,
            waits: true,
            budget: 0,
            stopped: false,
        })
    }

    /// Takes over a TCP connection, and has it block.
    ///
    /// # Errors
    ///
    /// Those of asking for the peer's address and of setting socket options.
    pub fn from_tcp(socket: TcpStream, deadlines: Deadlines) -> io::Result<Self> {
        let peer = socket.peer_addr()?;
        Self::new(Socket::Tcp(socket), peer.into(), deadlines)
    }

    /// Takes over a unix connection, and has it block. `peer` is what errors call it.
    ///
    /// # Errors
    ///
    /// Those of setting socket options.
    #[cfg(unix)]
    pub fn from_unix(socket: UnixStream, peer: Address, deadlines: Deadlines) -> io::Result<Self> {
        Self::new(Socket::Unix(socket), peer, deadlines)
    }

    /// Closes the connection in both directions, for the peer too, without waiting.
    ///
    /// # Errors
    ///
    /// The system's, if the connection was lost already.
    pub fn shutdown(&self) -> io::Result<()> {
        self.socket.shutdown()
    }

    /// Where the peer is.
    #[must_use]
    pub const fn peer(&self) -> &Address {
        &self.peer
    }

    /// Carries an exchange on as far as it goes without waiting; `Pending` if it is not done. A
    /// driver can listen with [`await_getforce`](crate::Driver::await_getforce) while it computes,
    /// for instance. Poll `&mut exchange` to keep the exchange for the next poll.
    ///
    /// One poll begins 64 messages and reads from the kernel 64 times at most, so that a peer that
    /// floods this one does not hold it up. [`must_poll_again`](Self::must_poll_again) tells
    /// `Pending` for that reason from `Pending` because nothing is there.
    ///
    /// # Errors
    ///
    /// As [`blocking::run`](crate::blocking::run). Deadlines are judged when nothing more can be
    /// moved.
    pub fn poll<T: Exchange>(&mut self, exchange: T) -> Result<Poll<T::Output>, Error<io::Error>> {
        self.budget = BUDGET;
        self.stopped = false;
        self.waits = false;
        let result = self.without_waiting(|stream| Ok(crate::blocking::run(stream, exchange)));
        self.waits = true;
        let result = result.map_err(Error::Transport)?;
        match result {
            Err(Error::Transport(error)) if error.kind() == ErrorKind::WouldBlock => {
                Ok(Poll::Pending)
            }
            result => result.map(Poll::Ready),
        }
    }

    /// Whether the last [`poll`](Self::poll) was pending although there may be more to read: poll
    /// again soon, instead of waiting for something to come.
    #[must_use]
    pub const fn must_poll_again(&self) -> bool {
        self.stopped
    }

    /// Does this with a socket that does not block.
    fn without_waiting<T>(
        &mut self,
        call: impl FnOnce(&mut Self) -> io::Result<T>,
    ) -> io::Result<T> {
        self.socket.set_nonblocking(true)?;
        let result = call(self);
        self.socket.set_nonblocking(false)?;
        result
    }

    /// Takes one of what a poll may do, or ends the poll.
    fn spend(&mut self) -> io::Result<()> {
        if self.waits {
            return Ok(());
        }
        match self.budget.checked_sub(1) {
            Some(budget) => {
                self.budget = budget;
                Ok(())
            }
            None => {
                self.stopped = true;
                Err(ErrorKind::WouldBlock.into())
            }
        }
    }

    /// Makes a call of the kernel, again until it has done something or a deadline has passed.
    fn within<T>(
        &mut self,
        wait: &Wait,
        mut call: impl FnMut(&mut Self) -> io::Result<Option<T>>,
    ) -> io::Result<T> {
        // No clock is read where no deadline applies.
        let timed = self.timer.limit(wait).is_some();
        if !timed {
            self.timer.end_exchange();
        }
        loop {
            // Before the call: what has arrived by then is not late, however long this process was
            // stopped.
            let now = match timed {
                true => self.connected.elapsed(),
                false => Duration::ZERO,
            };
            let mut is_due = false;
            if timed {
                self.timer.note(now, wait);
                let result = self.timer.check_moving(now);
                result.map_err(|late| self.late(late))?;
                is_due = self.timer.due().is_some_and(|at| at <= now);
            }
            let result = if is_due && self.waits {
                self.without_waiting(&mut call)
            } else {
                call(self)
            };
            match result {
                Ok(Some(value)) => return Ok(value),
                Ok(None) => {}
                Err(error) if is_timeout(&error) => {
                    if timed {
                        let result = self.timer.check(now);
                        result.map_err(|late| self.late(late))?;
                    }
                    if !self.waits {
                        return Err(error);
                    }
                }
                Err(error) => return Err(self.named(error)),
            }
        }
    }

    /// Reads from the kernel, into `buffer` or, if there is none, into the stream's own; waits
    /// until a deadline passes.
    fn receive(&mut self, mut buffer: Option<&mut [u8]>, wait: &Wait) -> io::Result<usize> {
        self.spend()?;
        // No timer runs where none is needed: between two messages that come whole.
        let tick = self.timer.limit(wait).map(tick);
        if self.waits && self.tick != tick {
            self.socket.set_read_timeout(tick)?;
            self.tick = tick;
        }
        self.within(wait, |stream| {
            let buffer = buffer.as_deref_mut().unwrap_or(&mut stream.input);
            stream.socket.read(buffer).map(Some)
        })
    }

    /// The error for a deadline that has passed.
    fn late(&self, late: TimedOut) -> io::Error {
        let peer = self.peer.clone();
        io::Error::new(ErrorKind::TimedOut, Late { peer, late })
    }

    /// The same error with the peer's name in it.
    fn named(&self, error: io::Error) -> io::Error {
        let peer = &self.peer;
        match error.kind() {
            ErrorKind::Interrupted => error,
            ErrorKind::WouldBlock if !self.waits => error,
            kind => io::Error::new(kind, format!("connection to {peer} lost: {error}")),
        }
    }
}

/// Gives up the connection, which blocks. What the stream has read ahead or kept is lost: between
/// two messages that is nothing.
#[cfg(unix)]
impl From<Stream> for OwnedFd {
    fn from(stream: Stream) -> Self {
        match stream.socket {
            Socket::Tcp(socket) => socket.into(),
            Socket::Unix(socket) => socket.into(),
        }
    }
}

impl Transport for Stream {
    type Error = io::Error;

    fn read(&mut self, buffer: &mut [u8], wait: &Wait) -> Result<usize, Error<io::Error>> {
        if wait.moved == 0 {
            self.spend().map_err(Error::Transport)?;
        }
        if self.served == self.filled {
            if buffer.len() >= BUFFER {
                return self.receive(Some(buffer), wait).map_err(Error::Transport);
            }
            // A peer without TCP_NODELAY holds the rest back until the beginning is acknowledged.
            // The kernel delays that by 40 ms unless it is asked each time not to. An array of more
            // than a buffer comes in full segments, which no peer holds back.
            if wait.owed() {
                self.socket.acknowledge_at_once();
            }
            self.filled = self.receive(None, wait).map_err(Error::Transport)?;
            self.served = 0;
        }
        let fresh = self.input.get(self.served..self.filled).unwrap_or_default();
        let n = copy(fresh, buffer);
        self.served += n;
        Ok(n)
    }

    fn write(&mut self, bytes: &[u8], wait: &Wait) -> Result<usize, Error<io::Error>> {
        if self.output.fits(bytes) {
            return Ok(self.output.keep(bytes));
        }
        let sent = self.within(wait, |stream| stream.output.push(&stream.socket, bytes));
        sent.map_err(Error::Transport)
    }

    fn flush(&mut self, wait: &Wait) -> Result<(), Error<io::Error>> {
        if self.output.is_empty() {
            return Ok(());
        }
        let wait = wait.taken();
        let sent = self.within(&wait, |stream| {
            stream.output.push(&stream.socket, &[])?;
            Ok(stream.output.is_empty().then_some(()))
        });
        sent.map_err(Error::Transport)
    }

    fn exchange_done(&mut self) {
        self.timer.end_exchange();
    }
}

/// A deadline that has passed, with the peer's name.
struct Late {
    peer: Address,
    late: TimedOut,
}

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.peer, self.late)
    }
}

debug_as_display!(Late);

impl core::error::Error for Late {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(&self.late)
    }
}

/// The shortest of the limits.
fn shortest(deadlines: &Deadlines) -> Option<Duration> {
    let Deadlines {
        handshake,
        message,
        evaluation,
        exchange,
    } = *deadlines;
    let limits = [handshake, message, evaluation, exchange];
    limits.into_iter().flatten().min()
}

/// After which time the kernel wakes a call with this limit to look at the clock.
fn tick(limit: Duration) -> Duration {
    (limit / 4).max(SHORTEST)
}

/// Unix returns `WouldBlock` when a time-out of a socket passes, and Windows `TimedOut`. On unix that
/// is the network's own: the connection is lost.
fn is_timeout(error: &io::Error) -> bool {
    error.kind() == ErrorKind::WouldBlock || cfg!(windows) && error.kind() == ErrorKind::TimedOut
}

/// The shortest time-out of a socket that every system has.
const SHORTEST: Duration = Duration::from_millis(1);
