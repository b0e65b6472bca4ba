//! Reaching a server that may not be there yet.

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

/// How to connect, and how long to wait for the peer then.
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
    /// How long to wait for the server to listen, and for a driver to connect. Zero tries once,
    /// for at most ten seconds an address. Looking up a name is not counted.
    pub connect: Duration,
    /// How long to wait for the peer of a connection.
    pub deadlines: Deadlines,
    /// How long the peer's host may be unreachable before a TCP connection counts as lost
    /// ([`Stream::keep_alive`]). `None` leaves that to the deadlines.
    pub keep_alive: Option<Duration>,
}

impl ConnectOptions {
    /// A minute for the server to listen, a minute for a message, no limit between messages and
    /// before the first: a server may accept connections long before it begins, and compute for
    /// hours between two steps. Five minutes for an unreachable host.
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

    /// A stream of this socket.
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

/// The first pause after a failed attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// An attempt at all addresses of a name lasts at most this long.
const ATTEMPT: Duration = Duration::from_secs(10);

/// Connects to a server with the default [`ConnectOptions`].
///
/// # Errors
///
/// As [`connect_with`].
pub fn connect(address: &Address) -> io::Result<Stream> {
    connect_with(address, ConnectOptions::new(), |_, _| {})
}

/// Connects to a server, trying again while it isn't there. `failed` is called for each attempt
/// that will be repeated, with its error and the pause before the next.
///
/// TCP is set to send without delay (`TCP_NODELAY`); every address that a name has is tried. A unix
/// socket must belong to a process of the same user or of root, and its path must not be a symbolic
/// link: [`Stream::from_unix`] takes one that you trust.
///
/// # Errors
///
/// The last attempt's, with the address in its text: when `options.connect` is over, or at once if
/// trying again won't help at any address (an unknown name, a path too long, no permission).
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

/// Whether this error may pass when a server starts, or a network.
fn is_worth_repeating(error: &io::Error) -> bool {
    // std has no kind for it: the host has no IPv6, for instance.
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
            for (address, left) in addresses.iter().zip((1..=addresses.len() as u32).rev()) {
                // One that swallows packets leaves their share to the others.
                let share = limit.saturating_sub(start.elapsed()) / left;
                match tcp(address, share) {
                    Ok(socket) => return Ok(Socket::Tcp(socket)),
                    // One address that is worth another try is enough.
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
    // The system may choose the port of the server as ours, and connect the socket to itself
    // (a simultaneous open) where nobody listens.
    if socket
        .peer_addr()
        .is_ok_and(|peer| socket.local_addr().is_ok_and(|local| local == peer))
    {
        // Closed without waiting for stray packets, which would keep the port from its server.
        let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
        return Err(ErrorKind::ConnectionRefused.into());
    }
    Ok(socket)
}

/// As [`TcpStream::connect_timeout`], for which a connection that was made and then reset at once
/// has failed. Here the first message reports it: as a reset, or as an end if it came before the
/// socket was read.
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
    // A socket that has a peer is connected, and its error is not a matter of connecting.
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
    // Anyone who may write into a directory like /tmp could lead us elsewhere.
    if path.is_symlink() {
        let text = "it is a symbolic link, name the socket itself";
        return Err(io::Error::new(ErrorKind::PermissionDenied, text));
    }
    let start = Instant::now();
    let socket = loop {
        // Does not wait, unlike std's, which no time-out ends while the server's queue is full.
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
