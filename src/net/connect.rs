//! Connects to a server that may not be listening yet.

use core::time::Duration;
use std::format;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
#[cfg(unix)]
use std::os::fd::AsFd;
#[cfg(unix)]
use std::path::Path;
use std::time::Instant;

#[cfg(unix)]
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use socket2::SockRef;
#[cfg(unix)]
use socket2::{Domain, Type};

use super::address::resolve;
#[cfg(unix)]
use super::credentials::Credentials;
use super::socket::Socket;
use super::{Address, Stream};
use crate::backoff::Backoff;
use crate::deadlines::Deadlines;

/// How to connect, and how long to wait for the peer afterwards.
///
/// ```
/// use core::time::Duration;
/// use forcewire::Deadlines;
/// use forcewire::net::ConnectOptions;
///
/// let deadlines = Deadlines::NONE.message(Duration::from_secs(10));
/// let options = ConnectOptions::new().connect(Duration::ZERO).deadlines(deadlines);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectOptions {
    /// How long to wait for the server to listen, or for a driver to connect. Zero makes one
    /// attempt of at most ten seconds per address. The time for looking up a name is not counted.
    pub connect: Duration,
    /// Time limits for the peer once it is connected.
    pub deadlines: Deadlines,
    /// How long the peer's host may be unreachable before a TCP connection counts as lost
    /// ([`Stream::keep_alive`]). `None` leaves this to the deadlines.
    pub keep_alive: Option<Duration>,
}

impl ConnectOptions {
    /// The defaults: a minute for the server to listen, a minute for a message, five minutes for an
    /// unreachable host. There is no limit before the first message or between messages, because a
    /// server may accept connections long before it begins and compute for hours between two steps.
    #[must_use]
    pub const fn new() -> Self {
        let minute = Duration::from_secs(60);
        Self {
            connect: minute,
            deadlines: Deadlines::NONE.message(minute),
            keep_alive: Some(minute.saturating_mul(5)),
        }
    }

    /// Sets [`connect`](Self#structfield.connect).
    #[must_use]
    pub const fn connect(self, limit: Duration) -> Self {
        Self {
            connect: limit,
            ..self
        }
    }

    /// Sets [`deadlines`](Self#structfield.deadlines).
    #[must_use]
    pub const fn deadlines(self, deadlines: Deadlines) -> Self {
        Self { deadlines, ..self }
    }

    /// Sets [`keep_alive`](Self#structfield.keep_alive).
    #[must_use]
    pub const fn keep_alive(self, limit: Option<Duration>) -> Self {
        Self {
            keep_alive: limit,
            ..self
        }
    }

    /// Makes a stream of this socket.
    pub(super) fn stream(self, socket: Socket, peer: Address) -> io::Result<Stream> {
        let stream = Stream::new(socket, peer, self.deadlines)?;
        if let Some(limit) = self.keep_alive {
            stream.keep_alive(limit)?;
        }
        Ok(stream)
    }
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// The pause after the first failed attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// The longest time for one attempt at all addresses of a name.
const ATTEMPT: Duration = Duration::from_secs(10);

/// Connects to a server with the default [`ConnectOptions`].
///
/// # Errors
///
/// Returns the errors of [`connect_with`].
pub fn connect(address: &Address) -> io::Result<Stream> {
    connect_with(address, ConnectOptions::new(), |_, _| {})
}

/// Connects to a server, retrying until it listens. `failed` is called after each failed attempt
/// that will be repeated, with its error and the pause before the next.
///
/// TCP sockets send without delay (`TCP_NODELAY`). Every address of a name is tried. A unix socket
/// must belong to a process of the same user or of root, and its path must not be a symbolic link:
/// [`Stream::from_unix`] takes one that you trust.
///
/// # Errors
///
/// The error of the last attempt, with the address in its text. It is returned when
/// `options.connect` is over, or at once if another attempt can't help at any address (an unknown
/// name, a path that is too long, no permission).
pub fn connect_with(
    address: &Address,
    options: ConnectOptions,
    mut failed: impl FnMut(&io::Error, Duration),
) -> io::Result<Stream> {
    let start = Instant::now();
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    loop {
        let remaining = options.connect.saturating_sub(start.elapsed());
        let limit = match options.connect.is_zero() {
            true => ATTEMPT,
            false => remaining.min(ATTEMPT),
        };
        let error = match attempt(address, limit) {
            Ok(socket) => return options.stream(socket, address.clone()),
            Err(error) => error,
        };
        let repeats = !remaining.is_zero() && is_worth_repeating(&error);
        let error = io::Error::new(error.kind(), format!("no connection to {address}: {error}"));
        if !repeats {
            return Err(error);
        }
        let pause = backoff.failed().min(remaining);
        failed(&error, pause);
        std::thread::sleep(pause);
    }
}

/// Whether this error may go away once the server or the network is up.
fn is_worth_repeating(error: &io::Error) -> bool {
    // This host has no support for the address family, for instance IPv6. std has no kind for that
    // error.
    #[cfg(unix)]
    if error.raw_os_error() == Some(nix::libc::EAFNOSUPPORT) {
        return true;
    }
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::AddrNotAvailable
            | ErrorKind::NotFound
            | ErrorKind::TimedOut
            | ErrorKind::WouldBlock
            | ErrorKind::Interrupted
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NetworkDown
    )
}

fn attempt(address: &Address, limit: Duration) -> io::Result<Socket> {
    match address {
        Address::Tcp { host, port } => {
            let (start, mut first) = (Instant::now(), None);
            let addresses = resolve(host, *port)?;
            for (address, remaining) in addresses.iter().zip((1..=addresses.len() as u32).rev()) {
                // An address that swallows packets uses only its share of the time.
                let share = limit.saturating_sub(start.elapsed()) / remaining;
                match tcp(address, share) {
                    Ok(socket) => return Ok(Socket::Tcp(socket)),
                    // It is enough that one address is worth another attempt.
                    Err(error) => match &first {
                        Some(kept) if is_worth_repeating(kept) || !is_worth_repeating(&error) => {}
                        _ => first = Some(error),
                    },
                }
            }
            let none = || io::Error::new(ErrorKind::AddrNotAvailable, "the name has no address");
            Err(first.unwrap_or_else(none))
        }
        #[cfg(unix)]
        Address::Unix(path) => unix(path, limit),
        #[cfg(not(unix))]
        Address::Unix(_) => Err(io::Error::new(
            ErrorKind::Unsupported,
            "no unix sockets on this system",
        )),
    }
}

fn tcp(address: &SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    #[cfg(unix)]
    let socket = connect_within(address, limit)?;
    #[cfg(not(unix))]
    let socket = TcpStream::connect_timeout(address, limit)?;
    // If nobody listens there, the system may choose the server's port as ours and connect the
    // socket to itself (a simultaneous open).
    if socket
        .peer_addr()
        .is_ok_and(|peer| socket.local_addr().is_ok_and(|local| local == peer))
    {
        // Close without waiting for stray packets, which would keep the port from its server.
        let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
        return Err(ErrorKind::ConnectionRefused.into());
    }
    Ok(socket)
}

/// Connects like [`TcpStream::connect_timeout`], which also fails if a new connection is reset at
/// once. Here the first message reports the reset, or an end of the stream if the stream ended
/// before the socket was read.
#[cfg(unix)]
fn connect_within(address: &SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    let start = Instant::now();
    let socket = socket2::Socket::new(Domain::for_address(*address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&(*address).into()) {
        Err(error) if error.raw_os_error() != Some(nix::libc::EINPROGRESS) => return Err(error),
        _ => {}
    }
    loop {
        let remaining = limit.saturating_sub(start.elapsed());
        let mut descriptors = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
        let timeout = PollTimeout::try_from(remaining).unwrap_or(PollTimeout::MAX);
        match poll(&mut descriptors, timeout) {
            Ok(0) if remaining < Duration::from_millis(1) => {
                return Err(io::Error::new(ErrorKind::TimedOut, "it does not answer"));
            }
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => break,
            Err(error) => return Err(error.into()),
        }
    }
    // A socket that has a peer is connected; later errors are not connect errors.
    if let Err(unconnected) = socket.peer_addr() {
        match socket.take_error()? {
            Some(error) if error.kind() == ErrorKind::ConnectionReset => {}
            error => return Err(error.unwrap_or(unconnected)),
        }
    }
    socket.set_nonblocking(false)?;
    Ok(socket.into())
}

#[cfg(unix)]
fn unix(path: &Path, limit: Duration) -> io::Result<Socket> {
    // Anyone who may write to a directory like /tmp could place a link there that leads elsewhere.
    if path.is_symlink() {
        let text = "it is a symbolic link, name the socket itself";
        return Err(io::Error::new(ErrorKind::PermissionDenied, text));
    }
    let start = Instant::now();
    let socket = loop {
        // This call doesn't wait. std's does, and no time-out ends it while the server's queue is
        // full.
        match mio::net::UnixStream::connect(path) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if start.elapsed() >= limit {
                    let text = "the server accepts nobody, and its queue is full";
                    return Err(io::Error::new(ErrorKind::TimedOut, text));
                }
                std::thread::sleep(FIRST_PAUSE.min(limit));
            }
            result => break result?,
        }
    };
    let socket = std::os::unix::net::UnixStream::from(socket);
    Credentials::of(&socket)?.check()?;
    Ok(Socket::Unix(socket))
}
