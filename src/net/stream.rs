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
use std::os::unix::net::UnixStream;

use super::outbox::Outbox;
use super::socket::{BUFFER, Socket, copy};
use super::{Address, Patience};
use crate::blocking::Transport;
use crate::fmt::debug_as_display;
use crate::{DeadlineTimer, Deadlines, Error, Exchange, TimedOut, Wait};

/// A connection to a peer, for [`blocking::run`](crate::blocking::run).
///
/// Takes what has arrived in one call and serves fields from it; gathers the pieces of a message until it
/// is flushed.
///
/// A peer that lets [`Patience`] pass is an error of the kind [`TimedOut`](ErrorKind::TimedOut), whose `source` is the
/// [`TimedOut`](crate::TimedOut) that says what was waited for and what can still be done. The exchange can be made again
/// after that, nothing that came is lost.
#[derive(Debug)]
pub struct Stream {
    socket: Socket,
    peer: Address,
    input: Box<[u8]>,
    /// What of `input` came from the kernel, and what of that has been served.
    filled: usize,
    served: usize,
    output: Outbox,
    /// Since when the clock of `watch` runs.
    connected: Instant,
    watch: DeadlineTimer,
    /// When the kernel wakes a read to look at the clock.
    tick: Option<Duration>,
    /// Whether a call may wait at all.
    waits: bool,
}

impl Stream {
    pub(super) fn new(socket: Socket, peer: Address, patience: Patience) -> io::Result<Self> {
        socket.send_at_once()?;
        socket.set_write_timeout(tick(patience.message))?;
        Ok(Self {
            socket,
            peer,
            input: vec![0; BUFFER].into_boxed_slice(),
            filled: 0,
            served: 0,
            output: Outbox::default(),
            connected: Instant::now(),
            watch: DeadlineTimer::new(Deadlines {
                handshake: patience.handshake,
                message: Some(patience.message),
                evaluation: patience.idle,
            }),
            tick: None,
            waits: true,
        })
    }

    /// Takes over a TCP connection, which must block.
    ///
    /// # Errors
    ///
    /// Those of asking for the peer's address and of setting socket options.
    pub fn from_tcp(socket: TcpStream, patience: Patience) -> io::Result<Self> {
        let peer = socket.peer_addr()?;
        let peer = Address::tcp(format!("{}", peer.ip()), peer.port());
        Self::new(Socket::Tcp(socket), peer, patience)
    }

    /// Takes over a unix connection, which must block. `peer` is what errors call it.
    ///
    /// # Errors
    ///
    /// Those of setting socket options.
    #[cfg(unix)]
    pub fn from_unix(socket: UnixStream, peer: Address, patience: Patience) -> io::Result<Self> {
        Self::new(Socket::Unix(socket), peer, patience)
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

    /// Carries an exchange on as far as it goes without waiting; `Pending` if it is not through. For a driver that
    /// [attends](crate::Driver::await_getforce) while it computes, for instance.
    ///
    /// # Errors
    ///
    /// As [`blocking::run`](crate::blocking::run). A peer that lets [`Patience::message`] pass is found out here too.
    pub fn poll<T: Exchange>(&mut self, transfer: T) -> Result<Poll<T::Output>, Error<io::Error>> {
        self.socket
            .set_nonblocking(true)
            .map_err(Error::Transport)?;
        self.waits = false;
        let result = crate::blocking::run(self, transfer);
        self.waits = true;
        self.socket
            .set_nonblocking(false)
            .map_err(Error::Transport)?;
        match result {
            Err(Error::Transport(error)) if error.kind() == ErrorKind::WouldBlock => {
                Ok(Poll::Pending)
            }
            result => result.map(Poll::Ready),
        }
    }

    /// Reads from the kernel, into `buffer` or, if there is none, into the stream's own; waits as long as
    /// patience lasts.
    fn receive(&mut self, mut buffer: Option<&mut [u8]>, wait: &Wait) -> io::Result<usize> {
        let limit = self.watch.limit(wait);
        // No timer runs where none is needed: between two messages that come whole.
        let tick = limit.map(tick);
        if self.tick != tick {
            self.socket.set_read_timeout(tick)?;
            self.tick = tick;
        }
        loop {
            // Before a read too: each drop of a message that dribbles in would set the clock back.
            if limit.is_some() && self.waits {
                self.look(wait)?;
            }
            let buffer = buffer.as_deref_mut().unwrap_or(&mut self.input);
            match self.socket.read(buffer) {
                Err(error) if is_timeout(&error) && self.waits => {}
                Err(error) if is_timeout(&error) => {
                    self.look(wait)?;
                    return Err(error);
                }
                result => return result.map_err(|error| self.named(error)),
            }
        }
    }

    /// Gives up, if a deadline has passed.
    fn look(&mut self, wait: &Wait) -> io::Result<()> {
        let now = self.connected.elapsed();
        self.watch.note(now, wait);
        self.watch.check(now).map_err(|late| {
            let peer = self.peer.clone();
            io::Error::new(ErrorKind::TimedOut, Late { peer, late })
        })
    }

    /// Sends, with this, as long as patience lasts.
    fn send<T>(
        &mut self,
        wait: &Wait,
        mut some: impl FnMut(&mut Outbox, &Socket) -> io::Result<Option<T>>,
    ) -> io::Result<T> {
        loop {
            self.look(wait)?;
            match some(&mut self.output, &self.socket) {
                Ok(Some(value)) => return Ok(value),
                Ok(None) => {}
                Err(error) if is_timeout(&error) && self.waits => {}
                Err(error) => return Err(self.named(error)),
            }
        }
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

impl Transport for Stream {
    type Error = io::Error;

    fn read(&mut self, buffer: &mut [u8], wait: &Wait) -> Result<usize, Error<io::Error>> {
        if self.served == self.filled {
            if buffer.len() >= BUFFER {
                return self.receive(Some(buffer), wait).map_err(Error::Transport);
            }
            // A peer without TCP_NODELAY holds the rest back until the beginning is acknowledged; the
            // kernel waits 40 ms with that, unless told each time. An array of this size comes in full
            // segments, which no one holds back.
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
        let sent = self.send(wait, |output, socket| output.push(socket, bytes));
        sent.map_err(Error::Transport)
    }

    fn flush(&mut self, wait: &Wait) -> Result<(), Error<io::Error>> {
        if self.output.is_empty() {
            return Ok(());
        }
        let wait = wait.taken();
        let sent = self.send(&wait, |output, socket| {
            output.push(socket, &[])?;
            Ok(output.is_empty().then_some(()))
        });
        sent.map_err(Error::Transport)
    }
}

/// What a peer was waited for in vain, with the peer's name.
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

/// How often the kernel wakes a call with this limit to look at the clock.
fn tick(limit: Duration) -> Duration {
    (limit / 4).max(SHORTEST)
}

/// Linux says `WouldBlock` when a time-out of a socket passes, other systems `TimedOut`.
fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// The shortest time-out that a socket knows.
const SHORTEST: Duration = Duration::from_millis(1);
