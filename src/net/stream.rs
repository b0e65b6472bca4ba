//! A connection that costs one system call a message.

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
use crate::{Error, Transfer};

/// A connection to a peer, for [`blocking::run`](crate::blocking::run).
///
/// Takes what has arrived in one call and serves fields from it; gathers the pieces of a message until it
/// is flushed. A peer that begins a message and stalls runs into [`Patience::message`]; the exchange can
/// be made again after that, nothing that came is lost.
#[derive(Debug)]
pub struct Stream {
    socket: Socket,
    peer: Address,
    patience: Patience,
    input: Box<[u8]>,
    /// What of `input` came from the kernel, and what of that has been served.
    filled: usize,
    served: usize,
    output: Outbox,
    /// Since when we wait for the rest of a message, or for the next.
    since: Option<Instant>,
    /// When the kernel wakes a read to look at the clock.
    tick: Option<Duration>,
    /// Whether a call may wait at all.
    waits: bool,
}

impl Stream {
    pub(super) fn new(socket: Socket, peer: Address, patience: Patience) -> io::Result<Self> {
        socket.send_at_once()?;
        socket.set_write_timeout(patience.message.max(SHORTEST))?;
        Ok(Self {
            socket,
            peer,
            patience,
            input: vec![0; BUFFER].into_boxed_slice(),
            filled: 0,
            served: 0,
            output: Outbox::default(),
            since: None,
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
    /// [attends](crate::Driver::attend) while it computes, for instance.
    ///
    /// # Errors
    ///
    /// As [`blocking::run`](crate::blocking::run). A peer that lets [`Patience::message`] pass is found out here too.
    pub fn poll<T: Transfer>(&mut self, transfer: T) -> Result<Poll<T::Output>, Error<io::Error>> {
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
    fn receive(&mut self, mut buffer: Option<&mut [u8]>, owed: bool) -> io::Result<usize> {
        let limit = if owed {
            Some(self.patience.message)
        } else {
            self.patience.idle
        };
        // No timer runs where none is needed: between two messages that come whole.
        let tick = limit.map(|limit| (limit / 4).max(SHORTEST));
        if self.tick != tick {
            self.socket.set_read_timeout(tick)?;
            self.tick = tick;
        }
        loop {
            // Before a read too: each drop of a message that dribbles in would set the clock back.
            if let Some(error) = limit.and_then(|limit| self.impatient(limit, owed)) {
                return Err(error);
            }
            let buffer = buffer.as_deref_mut().unwrap_or(&mut self.input);
            match self.socket.read(buffer) {
                Err(error) if is_timeout(&error) && self.waits => {}
                result => {
                    if !owed {
                        self.since = None;
                    }
                    return result.map_err(|error| self.named(error));
                }
            }
        }
    }

    /// The error to give up with, once we have waited for longer than this.
    fn impatient(&mut self, limit: Duration, owed: bool) -> Option<io::Error> {
        if self.since.get_or_insert_with(Instant::now).elapsed() < limit {
            return None;
        }
        self.since = None;
        let what = if owed {
            "an answer or the rest of a message"
        } else {
            "the next message"
        };
        let peer = &self.peer;
        let text = format!("waited {limit:?} for {what} from {peer}: is it still running?");
        Some(io::Error::new(ErrorKind::TimedOut, text))
    }

    /// The same error with the peer's name in it.
    fn named(&self, error: io::Error) -> io::Error {
        let peer = &self.peer;
        match error.kind() {
            ErrorKind::Interrupted => error,
            ErrorKind::WouldBlock if !self.waits => error,
            _ if is_timeout(&error) => {
                let limit = self.patience.message;
                let text = format!(
                    "{peer} took nothing of what was sent for {limit:?}: is it still running?"
                );
                io::Error::new(ErrorKind::TimedOut, text)
            }
            kind => io::Error::new(kind, format!("connection to {peer} lost: {error}")),
        }
    }
}

impl Transport for Stream {
    type Error = io::Error;

    fn read(&mut self, buffer: &mut [u8], owed: bool) -> io::Result<usize> {
        if !owed {
            self.since = None; // whatever was waited for has come
        }
        if self.served == self.filled {
            if buffer.len() >= BUFFER {
                return self.receive(Some(buffer), owed);
            }
            // A peer without TCP_NODELAY holds the rest back until the beginning is acknowledged; the
            // kernel waits 40 ms with that, unless told each time. An array of this size comes in full
            // segments, which no one holds back.
            if owed {
                self.socket.acknowledge_at_once();
            }
            self.filled = self.receive(None, owed)?;
            self.served = 0;
        }
        let fresh = self.input.get(self.served..self.filled).unwrap_or_default();
        let n = copy(fresh, buffer);
        self.served += n;
        Ok(n)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.output.write(&self.socket, bytes);
        result.map_err(|error| self.named(error))
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.output.flush(&self.socket);
        result.map_err(|error| self.named(error))
    }
}

/// Linux says `WouldBlock` when a time-out of a socket passes, other systems `TimedOut`.
fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// The shortest time-out that a socket knows.
const SHORTEST: Duration = Duration::from_millis(1);
