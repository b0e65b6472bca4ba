//! Reaching a server that may not be there yet.

use core::time::Duration;
use std::format;
use std::io::{self, ErrorKind};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Instant;

#[cfg(unix)]
use super::credentials::Credentials;
use super::socket::Socket;
use super::{Address, Stream};
use crate::Backoff;

/// How long to wait for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For the server to listen. Zero tries once.
    pub connect: Duration,
    /// For the peer's first header, [`Deadlines::handshake`](crate::Deadlines::handshake); if `None`, the other two
    /// hold from the start. A server may well accept connections long before it begins.
    pub handshake: Option<Duration>,
    /// For each message from its beginning to its end, and for what needs no computing,
    /// [`Deadlines::message`](crate::Deadlines::message). This and the others are checked four times in their
    /// course, so that a quarter may come on top.
    pub message: Duration,
    /// For what the peer computes, [`Deadlines::evaluation`](crate::Deadlines::evaluation): a server's next message, a
    /// driver's forces; for ever if `None`. A server may well compute for hours between two steps.
    pub idle: Option<Duration>,
}

impl Default for Patience {
    /// A minute for the server to listen, a minute for a message, for ever between messages and before the first.
    fn default() -> Self {
        let minute = Duration::from_secs(60);
        Self {
            connect: minute,
            handshake: None,
            message: minute,
            idle: None,
        }
    }
}

/// The first pause after a failed attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Connects to a server with the default [`Patience`].
///
/// # Errors
///
/// As [`connect_with`].
pub fn connect(address: &Address) -> io::Result<Stream> {
    connect_with(address, Patience::default(), |_, _| {})
}

/// Connects to a server, trying again while it isn't there; `failed` hears of each attempt that will be
/// repeated and of the pause before the next.
///
/// TCP is set to send without delay (`TCP_NODELAY`); every address that a name has is tried. A unix socket must be that
/// of a process of the same user, or root's, and no symbolic link: [`Stream::from_unix`] takes one that you trust.
///
/// # Errors
///
/// The last attempt's, with the address in its text: when `patience.connect` is over, or at once if trying
/// again won't help (an unknown name, a path too long, no permission).
pub fn connect_with(
    address: &Address,
    patience: Patience,
    mut failed: impl FnMut(&io::Error, Duration),
) -> io::Result<Stream> {
    let start = Instant::now();
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    loop {
        let left = patience.connect.saturating_sub(start.elapsed());
        // A host that swallows packets must not use up the time of others behind the same name.
        let error = match attempt(
            address,
            left.clamp(Duration::from_secs(1), Duration::from_secs(10)),
        ) {
            Ok(socket) => return Stream::new(socket, address.clone(), patience),
            Err(error) => error,
        };
        let error = io::Error::new(error.kind(), format!("no connection to {address}: {error}"));
        if left.is_zero() || !worth_repeating(error.kind()) {
            return Err(error);
        }
        let pause = backoff.failed().min(left);
        failed(&error, pause);
        std::thread::sleep(pause);
    }
}

/// Whether a server that is about to start would cure it.
fn worth_repeating(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::NotFound
            | ErrorKind::TimedOut
            | ErrorKind::WouldBlock
            | ErrorKind::Interrupted
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NetworkDown
    )
}

fn attempt(address: &Address, longest: Duration) -> io::Result<Socket> {
    match address {
        Address::Tcp { host, port } => {
            let mut last = io::Error::new(ErrorKind::AddrNotAvailable, "the name has no address");
            for address in (host.as_str(), *port).to_socket_addrs()? {
                match TcpStream::connect_timeout(&address, longest) {
                    Ok(socket) => return Ok(Socket::Tcp(socket)),
                    Err(error) => last = error,
                }
            }
            Err(last)
        }
        #[cfg(unix)]
        Address::Unix(path) => {
            // Whoever may write into a directory like /tmp could lead us elsewhere.
            if path.is_symlink() {
                let text = "it is a symbolic link, name the socket itself";
                return Err(io::Error::new(ErrorKind::PermissionDenied, text));
            }
            let socket = std::os::unix::net::UnixStream::connect(path)?;
            Credentials::of(&socket)?.check()?;
            Ok(Socket::Unix(socket))
        }
        #[cfg(not(unix))]
        Address::Unix(_) => Err(io::Error::new(
            ErrorKind::Unsupported,
            "no unix sockets on this system",
        )),
    }
}
