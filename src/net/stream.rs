//! A connection that needs one system call per message.

use core::task::Poll;
use core::time::Duration;
use std::format;
use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::time::Instant;

#[cfg(unix)]
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
#[cfg(unix)]
use std::os::unix::net::UnixStream;

use super::Address;
use super::inbox::{AROUND, Inbox};
use super::outbox::Outbox;
use super::socket::Socket;
use crate::blocking::Transport;
use crate::deadlines::{DeadlineTimer, Deadlines};
use crate::error::Error;
use crate::exchange::{Exchange, Wait};

/// A connection to a peer, for [`blocking::run`](crate::blocking::run).
///
/// One read takes everything that has arrived, and fields are served from it. The pieces of a
/// message are collected and sent in one call when it is complete.
///
/// An array for an expected message may be written to before that message is recognized. As always,
/// its contents are valid only once the exchange reports so.
///
/// When one of the [`Deadlines`] passes, the error is [`Error::TimedOut`], which reports what was
/// waited for and how to continue. No received bytes are lost: keep the exchange and run it again
/// to wait for the full time once more. The kernel wakes a waiting call four times within the
/// shortest limit, so an exchange may time out late by a quarter of that limit.
///
/// The socket is tried before the clock is read. Bytes that have arrived are therefore never late,
/// even if this process was stopped meanwhile, and a limit of zero moves as many bytes as the
/// socket allows without waiting.
#[derive(Debug)]
pub struct Stream {
    socket: Socket,
    peer: Address,
    inbox: Inbox,
    outbox: Outbox,
    /// The time zero of `timer`.
    connected: Instant,
    timer: DeadlineTimer,
    /// How often the kernel wakes a waiting call to check the clock.
    tick: Option<Duration>,
    /// There is a limit for a peer's computation, which ends with its first bytes.
    timed: bool,
    /// Neither an evaluation nor an exchange has a limit, so the peer may take any time.
    patient: bool,
    /// Whether a call may wait at all.
    waits: bool,
    /// The peer sends with Nagle's algorithm.
    delays: bool,
    /// The remaining budget of the current poll: messages to begin, and system calls.
    budget: usize,
    /// The last poll stopped because it had used up its budget.
    stopped: bool,
}

/// The most messages that one [`Stream::poll`] begins, and the most times that it reads from the
/// kernel.
const BUDGET: usize = 64;

/// A peer without `TCP_NODELAY` holds the rest of a message back until its beginning is
/// acknowledged, and the kernel delays that by 40 ms or more. A wait of this length for the rest of
/// a message means such a peer, or a slow network.
const DELAYED: Duration = Duration::from_millis(20);

impl Stream {
    pub(super) fn new(socket: Socket, peer: Address, deadlines: Deadlines) -> io::Result<Self> {
        // Async runtimes hand out non-blocking sockets, on which each wait would take two calls.
        socket.set_nonblocking(false)?;
        socket.send_at_once()?;
        // Set once for all messages: setting it for each costs more than waking up now and then.
        let tick = shortest(&deadlines).map(tick);
        if let Some(tick) = tick {
            socket.set_timeouts(tick)?;
        }
        Ok(Self {
            socket,
            peer,
            inbox: Inbox::new(),
            outbox: Outbox::default(),
            connected: Instant::now(),
            timer: DeadlineTimer::new(deadlines),
            tick,
            timed: deadlines.evaluation.is_some(),
            patient: deadlines.evaluation.is_none() && deadlines.exchange.is_none(),
            waits: true,
            delays: false,
            budget: 0,
            stopped: false,
        })
    }

    /// Takes over a TCP connection and makes it blocking.
    ///
    /// # Errors
    ///
    /// The system's errors, if the peer's address can't be read or a socket option can't be set.
    pub fn from_tcp(socket: TcpStream, deadlines: Deadlines) -> io::Result<Self> {
        let peer = socket.peer_addr()?;
        Self::new(Socket::Tcp(socket), peer.into(), deadlines)
    }

    /// Takes over a unix connection and makes it blocking. Errors name the peer as `peer`.
    ///
    /// # Errors
    ///
    /// The system's errors, if a socket option can't be set.
    #[cfg(unix)]
    pub fn from_unix(socket: UnixStream, peer: Address, deadlines: Deadlines) -> io::Result<Self> {
        Self::new(Socket::Unix(socket), peer, deadlines)
    }

    /// Ends a TCP connection when the peer's host becomes unreachable, because the host or its
    /// network is off. While no bytes move, the system probes the host after half of `limit` and
    /// then four more times in the other half, in whole seconds (`SO_KEEPALIVE`). If there is no
    /// answer, the waiting read fails with [`TimedOut`](ErrorKind::TimedOut) as an error of the
    /// transport. A running host answers no matter how long its program computes. Has no effect on
    /// a unix socket.
    ///
    /// # Errors
    ///
    /// The system's errors.
    pub fn keep_alive(&self, limit: Duration) -> io::Result<()> {
        self.socket.keep_alive(limit)
    }

    /// Closes the connection in both directions without waiting; the peer sees the end too.
    ///
    /// # Errors
    ///
    /// The system's error, if the connection was already lost.
    pub fn shutdown(&self) -> io::Result<()> {
        self.socket.shutdown()
    }

    /// The address of the peer.
    #[must_use]
    pub const fn peer(&self) -> &Address {
        &self.peer
    }

    /// Advances an exchange as far as possible without waiting; `Pending` if it is not complete. A
    /// driver can use this to listen with [`await_getforce`](crate::Driver::await_getforce) while
    /// it computes. Poll `&mut exchange` to keep the exchange for the next poll.
    ///
    /// One poll begins at most 64 messages and reads from the kernel at most 64 times, so that a
    /// flood from the peer does not hold the program up. [`must_poll_again`](Self::must_poll_again)
    /// tells whether the poll stopped for that reason or because no bytes were there.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`blocking::run`](crate::blocking::run). Deadlines are checked when no
    /// more bytes can move.
    pub fn poll<T: Exchange>(&mut self, exchange: T) -> Result<Poll<T::Output>, Error<io::Error>> {
        self.budget = BUDGET;
        self.stopped = false;
        self.waits = false;
        let result = crate::blocking::run(self, exchange);
        self.waits = true;
        match result {
            Err(Error::Transport(error)) if error.kind() == ErrorKind::WouldBlock => {
                Ok(Poll::Pending)
            }
            result => result.map(Poll::Ready),
        }
    }

    /// Whether the last [`poll`](Self::poll) was pending although more bytes may be available. Poll
    /// again soon instead of waiting for the socket.
    #[must_use]
    pub const fn must_poll_again(&self) -> bool {
        self.stopped
    }

    /// Takes one unit of the poll's budget, or ends the poll.
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

    /// Repeats a system call until it makes progress or a deadline passes. The call's argument is
    /// whether it may wait.
    fn within<T>(
        &mut self,
        wait: &Wait,
        direction: Direction,
        mut call: impl FnMut(&mut Self, bool) -> io::Result<Option<T>>,
    ) -> Result<T, Error<io::Error>> {
        // The clock is read only if a deadline applies.
        let timed = self.timer.limit(wait).is_some();
        if !timed {
            self.timer.end_exchange();
        }
        loop {
            // The time before the call counts: bytes that had arrived by then are not late, however
            // long this process was stopped.
            let now = match timed {
                true => self.connected.elapsed(),
                false => Duration::ZERO,
            };
            let mut is_due = false;
            if timed {
                self.timer.note(now, wait);
                self.timer.check_moving(now)?;
                is_due = self.timer.due().is_some_and(|at| at <= now);
            }
            match call(self, self.waits && !is_due) {
                Ok(Some(value)) => return Ok(value),
                Ok(None) => {}
                Err(error) if is_timeout(&error) => {
                    if timed {
                        self.timer.check(now)?;
                    }
                    if !self.waits {
                        return Err(Error::Transport(error));
                    }
                    self.rest(direction).map_err(Error::Transport)?;
                }
                Err(error) => return Err(Error::Transport(self.named(error))),
            }
        }
    }

    /// Waits if the kernel did not.
    #[cfg_attr(not(unix), allow(clippy::unused_self, clippy::unnecessary_wraps))]
    #[cold]
    fn rest(&self, direction: Direction) -> io::Result<()> {
        #[cfg(unix)]
        self.socket.wait_if_nonblocking(direction, self.tick)?;
        #[cfg(not(unix))]
        let Direction = direction;
        Ok(())
    }

    /// Reads from the kernel, into `buffer` or ahead of it. Waits until a deadline passes.
    fn receive(&mut self, buffer: &mut [u8], wait: &Wait) -> Result<usize, Error<io::Error>> {
        self.spend().map_err(Error::Transport)?;
        let owed = wait.owed() && self.socket.is_tcp();
        if owed && self.delays {
            // The kernel clears the setting soon, so it is set before each wait.
            self.socket.acknowledge_at_once();
        }
        let begin = (owed && self.waits && !self.delays).then(Instant::now);
        let result = self.within(wait, READING, |stream, waits| {
            let socket = &stream.socket;
            let n = stream.inbox.fill(buffer, |slices| match slices {
                [ahead] => socket.receive(ahead, waits),
                slices => socket.receive_vectored(slices, waits),
            })?;
            Ok(Some(n))
        });
        let is_held_back = match begin {
            Some(begin) => begin.elapsed() >= DELAYED,
            // A poll does not wait, so it can't measure a delay.
            None => owed && !self.waits && result.is_err(),
        };
        if is_held_back && !self.delays {
            self.delays = self.waits;
            self.socket.acknowledge_at_once();
        }
        result
    }

    /// Adds the peer's name to an error, unless it only means to wait or that a signal arrived.
    #[cold]
    fn failed(&self, error: io::Error) -> Result<(), Error<io::Error>> {
        match is_timeout(&error) || error.kind() == ErrorKind::Interrupted {
            true => Ok(()),
            false => Err(Error::Transport(self.named(error))),
        }
    }

    /// Adds the peer's name to the error.
    #[cold]
    fn named(&self, error: io::Error) -> io::Error {
        let peer = &self.peer;
        match error.kind() {
            ErrorKind::Interrupted => error,
            ErrorKind::WouldBlock if !self.waits => error,
            kind => io::Error::new(kind, format!("connection to {peer} lost: {error}")),
        }
    }
}

/// Lets a program wait for the socket together with others, after a pending [`poll`](Stream::poll)
/// that need not be repeated at once ([`must_poll_again`](Stream::must_poll_again)). Only the
/// stream may move bytes.
#[cfg(unix)]
impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Tcp(socket) => socket.as_fd(),
            Socket::Unix(socket) => socket.as_fd(),
        }
    }
}

/// Gives up the connection, which stays blocking. Bytes that the stream has read ahead or kept are
/// lost; between two messages there are none.
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
        if self.inbox.is_empty() {
            return self.receive(buffer, wait);
        }
        if !wait.evaluating {
            // The answer has arrived already, although the kernel is not asked for the bytes after
            // it.
            self.timer.end_evaluation();
        }
        Ok(self.inbox.serve(buffer))
    }

    const BUFFERS: bool = true;

    fn serve(&mut self, buffer: &mut [u8]) -> usize {
        match self.waits && !self.timed {
            true => self.inbox.serve(buffer),
            false => 0,
        }
    }

    fn keep(&mut self, bytes: &[u8]) -> bool {
        self.outbox.keeps(bytes)
    }

    fn flush_at_once(&mut self, array: &[u8]) -> Result<bool, Error<io::Error>> {
        // On other systems it would take two more calls to switch waiting off and on.
        if self.outbox.is_empty() || cfg!(not(unix)) {
            return Ok(self.outbox.is_empty());
        }
        match self.outbox.send(&self.socket, array, false) {
            Ok(()) => Ok(self.outbox.is_empty()),
            Err(error) => self.failed(error).map(|()| false).inspect_err(|_| {
                self.outbox.take_over(array);
            }),
        }
    }

    fn read_ahead(
        &mut self,
        before: usize,
        array: &mut [u8],
    ) -> Result<Option<usize>, Error<io::Error>> {
        if !self.patient || !self.waits || !self.inbox.is_empty() {
            return Ok(None);
        }
        let socket = &self.socket;
        let result = match array.len() < AROUND {
            true => self.inbox.refill(|ahead| socket.receive(ahead, true)),
            false => self.inbox.fill_around(before, array, |slices| {
                socket.receive_vectored(slices, true)
            }),
        };
        match result {
            Ok(n) => Ok(Some(n)),
            Err(error) => self.failed(error).map(|()| None),
        }
    }

    fn take_from(&mut self, array: &[u8]) -> bool {
        self.inbox.take_from(array)
    }

    fn write(&mut self, bytes: &[u8], wait: &Wait) -> Result<usize, Error<io::Error>> {
        if self.outbox.fits(bytes) {
            return Ok(self.outbox.keep(bytes));
        }
        self.within(wait, WRITING, |stream, waits| {
            stream.outbox.push(&stream.socket, bytes, waits)
        })
    }

    fn flush(&mut self, wait: &Wait) -> Result<(), Error<io::Error>> {
        self.flush_with(&[], wait)
    }

    fn lends(&mut self, array: &[u8]) -> bool {
        self.outbox.lend(array)
    }

    fn flush_with(&mut self, array: &[u8], wait: &Wait) -> Result<(), Error<io::Error>> {
        // Most messages are sent at once and need no clock.
        if self.flush_at_once(array)? {
            return Ok(());
        }
        let wait = wait.taken();
        let sent = self.within(&wait, WRITING, |stream, waits| {
            stream.outbox.send(&stream.socket, array, waits)?;
            Ok(stream.outbox.is_empty().then_some(()))
        });
        if sent.is_err() {
            self.outbox.take_over(array);
        }
        sent
    }

    fn exchange_done(&mut self) {
        self.timer.end_exchange();
    }
}

/// The event to wait for: bytes to read, or room to write.
#[cfg(unix)]
type Direction = nix::poll::PollFlags;
#[cfg(unix)]
const READING: Direction = Direction::POLLIN;
#[cfg(unix)]
const WRITING: Direction = Direction::POLLOUT;

/// The event to wait for; unused on this system.
#[cfg(not(unix))]
#[derive(Clone, Copy)]
struct Direction;
#[cfg(not(unix))]
const READING: Direction = Direction;
#[cfg(not(unix))]
const WRITING: Direction = Direction;

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

/// How often the kernel wakes a call with this limit to check the clock.
fn tick(limit: Duration) -> Duration {
    (limit / 4).max(SHORTEST)
}

/// Unix returns `WouldBlock` when a socket's time-out passes, and Windows `TimedOut`. On unix,
/// `TimedOut` is an error of the network: the connection is lost.
fn is_timeout(error: &io::Error) -> bool {
    error.kind() == ErrorKind::WouldBlock || cfg!(windows) && error.kind() == ErrorKind::TimedOut
}

/// The shortest socket time-out that every system supports.
const SHORTEST: Duration = Duration::from_millis(1);
