//! A raw connection, for pieces of messages, ends, resets and waits.

use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::net::sockopt::{
    Timeout, set_socket_linger, set_socket_recv_buffer_size, set_socket_timeout,
};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, connect, socket};

/// The pause between pieces that should arrive separately.
pub const PAUSE: Duration = Duration::from_millis(1);

/// How long a message is held back in total: shorter than any program's limit for one message.
const HELD: Duration = Duration::from_millis(400);

#[derive(Clone, Debug)]
pub enum Address {
    Tcp(String, u16),
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

#[derive(Debug)]
pub enum Line {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Why nothing more arrives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Lost {
    /// The peer closed after this many of the expected bytes.
    Closed(usize),
    /// Nothing arrived within our patience.
    Silent(usize),
    /// Nobody listens.
    Refused,
}

impl Line {
    pub fn connect(address: &Address) -> io::Result<Self> {
        let line = match address {
            Address::Tcp(host, port) => {
                let address = (host.as_str(), *port).to_socket_addrs()?.next();
                let address = address.ok_or(io::ErrorKind::NotFound)?;
                // A server that accepts no more connections lets them wait for minutes.
                let stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
                // The system may give the port to the connection itself if nobody listens there.
                if stream.local_addr()? == stream.peer_addr()? {
                    return Err(io::ErrorKind::ConnectionRefused.into());
                }
                stream.set_nodelay(true)?;
                Self::Tcp(stream)
            }
            Address::Unix(path) => {
                let socket = socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
                // If a server's queue is full, connecting waits as long as sending would.
                set_socket_timeout(&socket, Timeout::Send, Some(Duration::from_secs(1)))?;
                connect(&socket, &SocketAddrUnix::new(path)?)?;
                Self::Unix(socket.into())
            }
        };
        Ok(line)
    }

    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Lost> {
        self.stream()
            .write_all(bytes)
            .map_err(|error| match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Lost::Silent(0),
                _ => Lost::Closed(0),
            })
    }

    /// Sends one byte at a time.
    pub fn dribble(&mut self, bytes: &[u8]) -> Result<(), Lost> {
        self.pieces(bytes, 1)
    }

    /// Sends this many bytes at a time, with pauses between the first pieces.
    pub fn pieces(&mut self, bytes: &[u8], len: usize) -> Result<(), Lost> {
        let start = Instant::now();
        for piece in bytes.chunks(len) {
            self.send(piece)?;
            if start.elapsed() < HELD {
                sleep(PAUSE);
            }
        }
        Ok(())
    }

    pub fn receive(&mut self, len: usize, patience: Duration) -> Result<Vec<u8>, Lost> {
        self.receive_by(len, len, Duration::ZERO, patience)
    }

    /// Receives as much as arrives of this many bytes, and why the rest is missing.
    pub fn receive_some(&mut self, len: usize, patience: Duration) -> (Vec<u8>, Option<Lost>) {
        let mut bytes = vec![0; len];
        let lost = self
            .receive_into(&mut bytes, len, Duration::ZERO, patience)
            .err();
        if let Some(Lost::Closed(at) | Lost::Silent(at)) = lost {
            bytes.truncate(at);
        }
        (bytes, lost)
    }

    /// Reads at most `piece` bytes at a time, with pauses between the first pieces.
    pub fn receive_by(
        &mut self,
        len: usize,
        piece: usize,
        pause: Duration,
        patience: Duration,
    ) -> Result<Vec<u8>, Lost> {
        let mut bytes = vec![0; len];
        self.receive_into(&mut bytes, piece, pause, patience)?;
        Ok(bytes)
    }

    fn receive_into(
        &mut self,
        bytes: &mut [u8],
        piece: usize,
        pause: Duration,
        patience: Duration,
    ) -> Result<(), Lost> {
        let len = bytes.len();
        let start = Instant::now();
        let (mut at, mut end) = (0, start + patience);
        while at < len {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Lost::Silent(at));
            }
            self.wait(left);
            let most = len.min(at + piece);
            match self.stream().read(&mut bytes[at..most]) {
                Ok(0) => return Err(Lost::Closed(at)),
                Ok(read) => {
                    at += read;
                    end = Instant::now() + patience;
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {}
                    io::ErrorKind::Interrupted => {}
                    _ => return Err(Lost::Closed(at)),
                },
            }
            if start.elapsed() < HELD {
                sleep(pause);
            }
        }
        Ok(())
    }

    /// Reads until the peer closes or the time is over. Returns true if it closed.
    pub fn drain(&mut self, patience: Duration) -> (Vec<u8>, bool) {
        let (mut bytes, end) = (Vec::new(), Instant::now() + patience);
        loop {
            match self.receive(1, end.saturating_duration_since(Instant::now())) {
                Ok(byte) => bytes.extend(byte),
                Err(lost) => return (bytes, matches!(lost, Lost::Closed(_))),
            }
        }
    }

    /// Waits until the peer has read what was sent, so that the next bytes arrive separately. Linux
    /// reports how many bytes are in the queue of a TCP connection; for other connections this is a
    /// pause.
    pub fn is_taken(&self) {
        const LIMIT: Duration = Duration::from_secs(1);
        let start = Instant::now();
        while start.elapsed() < LIMIT && self.waiting().is_some_and(|bytes| bytes > 0) {
            sleep(PAUSE);
        }
        sleep(20 * PAUSE);
    }

    /// How many bytes the peer has not read, if it runs on this machine. Linux,
    /// `Documentation/networking/proc_net_tcp`.
    fn waiting(&self) -> Option<u64> {
        let Self::Tcp(stream) = self else {
            return None;
        };
        let end = |address: SocketAddr| match address {
            SocketAddr::V4(address) => {
                let ip = u32::from_le_bytes(address.ip().octets());
                Some(format!("{ip:08X}:{:04X}", address.port()))
            }
            SocketAddr::V6(_) => None,
        };
        let (ours, theirs) = (
            end(stream.local_addr().ok()?)?,
            end(stream.peer_addr().ok()?)?,
        );
        let table = fs::read_to_string("/proc/net/tcp").ok()?;
        table.lines().find_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let [_, local, remote, _, queues, ..] = fields[..] else {
                return None;
            };
            let received = queues.split_once(':')?.1;
            (local == theirs && remote == ours).then(|| u64::from_str_radix(received, 16).ok())?
        })
    }

    /// Closes the sending half; reading continues.
    pub fn say_no_more(&self) {
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }

    /// Closes with a reset; a unix socket can only close.
    pub fn reset(self) {
        if let Self::Tcp(stream) = &self {
            let _ = set_socket_linger(stream, Some(Duration::ZERO));
        }
    }

    /// Sets the smallest receive buffer that the system allows, so that the peer soon has to wait.
    pub fn small_window(&self) {
        let _ = set_socket_recv_buffer_size(self, 1);
    }

    fn wait(&self, limit: Duration) {
        let limit = Some(limit.max(PAUSE));
        let _ = match self {
            Self::Tcp(stream) => stream.set_read_timeout(limit),
            Self::Unix(stream) => stream.set_read_timeout(limit),
        };
    }

    /// Sets how long the peer may read nothing of what was sent.
    pub fn patience(&self, limit: Duration) {
        let _ = match self {
            Self::Tcp(stream) => stream.set_write_timeout(Some(limit)),
            Self::Unix(stream) => stream.set_write_timeout(Some(limit)),
        };
    }

    fn stream(&mut self) -> &mut dyn Stream {
        match self {
            Self::Tcp(stream) => stream,
            Self::Unix(stream) => stream,
        }
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}
