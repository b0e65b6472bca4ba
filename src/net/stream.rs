//! A connection that costs one system call a message.

use core::time::Duration;
use std::boxed::Box;
use std::format;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Instant;
use std::vec;
use std::vec::Vec;

#[cfg(unix)]
use std::os::unix::net::UnixStream;

use super::{Address, Patience};
use crate::blocking::Transport;

/// Bytes that are taken from the kernel at once, and bytes that are gathered before they leave. Arrays
/// larger than this are not copied on their way: 2731 atoms and more.
const BUFFER: usize = 64 * 1024;

/// Bytes that are copied at once. Beyond 2 KiB glibc uses `rep movsb`, which is slow on AMD's Zen 3 and 4
/// (glibc bug 30994); 24 kB then took 4.5 µs instead of 0.6.
const COPY: usize = 1024;

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
    output: Vec<u8>,
    /// What of `output` has left.
    sent: usize,
    /// Since when we wait for the rest of a message, or for the next.
    since: Option<Instant>,
    /// When the kernel wakes a read to look at the clock.
    tick: Option<Duration>,
}

#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Stream {
    pub(super) fn new(socket: Socket, peer: Address, patience: Patience) -> io::Result<Self> {
        socket.prepare(patience.message.max(SHORTEST))?;
        Ok(Self {
            socket,
            peer,
            patience,
            input: vec![0; BUFFER].into_boxed_slice(),
            filled: 0,
            served: 0,
            output: Vec::with_capacity(BUFFER),
            sent: 0,
            since: None,
            tick: None,
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
        match &self.socket {
            Socket::Tcp(socket) => socket.shutdown(Shutdown::Both),
            #[cfg(unix)]
            Socket::Unix(socket) => socket.shutdown(Shutdown::Both),
        }
    }

    /// Where the peer is.
    #[must_use]
    pub const fn peer(&self) -> &Address {
        &self.peer
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
                Err(error) if is_timeout(&error) => {}
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
            "the rest of a message"
        } else {
            "the next message"
        };
        let peer = &self.peer;
        let text = format!("waited {limit:?} for {what} from {peer}: is the server still running?");
        Some(io::Error::new(ErrorKind::TimedOut, text))
    }

    /// The same error with the peer's name in it.
    fn named(&self, error: io::Error) -> io::Error {
        let peer = &self.peer;
        match error.kind() {
            ErrorKind::Interrupted => error,
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

    fn gathered(&self) -> &[u8] {
        self.output.get(self.sent..).unwrap_or_default()
    }

    /// Counts bytes of the gathered ones that have left.
    fn left(&mut self, n: usize) {
        self.sent += n;
        if self.sent >= self.output.len() {
            self.output.clear();
            self.sent = 0;
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
        let mut n = 0;
        for (to, mut from) in buffer.chunks_mut(COPY).zip(fresh.chunks(COPY)) {
            n += from.read(to)?; // a slice reads like a stream
        }
        self.served += n;
        Ok(n)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.output.len() + bytes.len() <= BUFFER {
            for piece in bytes.chunks(COPY) {
                self.output.extend_from_slice(piece);
            }
            return Ok(bytes.len());
        }
        loop {
            let gathered = self.gathered();
            let before = gathered.len();
            let pieces = [IoSlice::new(gathered), IoSlice::new(bytes)];
            let n = self
                .socket
                .write_vectored(&pieces)
                .map_err(|error| self.named(error))?;
            self.left(n.min(before));
            if n > before || n == 0 {
                return Ok(n.saturating_sub(before));
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            match self
                .socket
                .write(self.gathered())
                .map_err(|error| self.named(error))?
            {
                0 => return Err(self.named(ErrorKind::WriteZero.into())),
                n => self.left(n),
            }
        }
        Ok(())
    }
}

/// Linux says `WouldBlock` when a time-out of a socket passes, other systems `TimedOut`.
fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// The shortest time-out that a socket knows.
const SHORTEST: Duration = Duration::from_millis(1);

impl Socket {
    /// Sends at once what is written, and gives up writing when the peer takes nothing for this long.
    fn prepare(&self, limit: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => {
                socket.set_nodelay(true)?;
                socket.set_write_timeout(Some(limit))
            }
            #[cfg(unix)]
            Self::Unix(socket) => socket.set_write_timeout(Some(limit)),
        }
    }

    fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.set_read_timeout(timeout),
            #[cfg(unix)]
            Self::Unix(socket) => socket.set_read_timeout(timeout),
        }
    }

    /// Asks for the next acknowledgement at once (`TCP_QUICKACK`); the kernel forgets it soon. No more than
    /// a wish: where it can't be had, peers without `TCP_NODELAY` are slow and nothing else.
    fn acknowledge_at_once(&self) {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Self::Tcp(socket) = self {
            #[cfg(target_os = "android")]
            use std::os::android::net::TcpStreamExt;
            #[cfg(target_os = "linux")]
            use std::os::linux::net::TcpStreamExt;
            let _ = socket.set_quickack(true);
        }
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => Read::read(&mut &*socket, buffer),
            #[cfg(unix)]
            Self::Unix(socket) => Read::read(&mut &*socket, buffer),
        }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => Write::write(&mut &*socket, bytes),
            #[cfg(unix)]
            Self::Unix(socket) => Write::write(&mut &*socket, bytes),
        }
    }

    fn write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => Write::write_vectored(&mut &*socket, pieces),
            #[cfg(unix)]
            Self::Unix(socket) => Write::write_vectored(&mut &*socket, pieces),
        }
    }
}
