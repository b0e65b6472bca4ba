//! Listening sockets, and the socket file that exists as long as its server.

use core::time::Duration;
use std::ffi::OsString;
use std::format;
use std::fs::{File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::string::{String, ToString};
use std::time::Instant;
use std::vec::Vec;

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::geteuid;

use super::address::resolve;
use super::credentials::Credentials;
use super::socket::Socket;
use super::{Address, ConnectOptions, Stream};

/// Listens at an address until one driver has connected: the counterpart of
/// [`connect`](super::connect). `options.connect` is how long to wait for the driver.
///
/// A name is bound at all of its addresses. Only processes of the same user can open the file of a
/// unix socket (mode 0600), and connections from other users than this one and root are refused.
/// The file is removed once the driver has connected. A stale file of a killed server is replaced.
/// For several drivers, use a [`Pool`](super::Pool).
///
/// # Errors
///
/// The address is part of the text. The kind is [`AddrInUse`](ErrorKind::AddrInUse) if another
/// server listens there and [`TimedOut`](ErrorKind::TimedOut) if no driver has connected in time;
/// other errors are the system's.
pub fn accept(address: &Address, options: ConnectOptions) -> io::Result<Stream> {
    let start = Instant::now();
    let listeners = Listener::open(address, false)?;
    loop {
        let remaining = options.connect.saturating_sub(start.elapsed());
        for listener in ready(&listeners, remaining)? {
            match listener.accept() {
                Ok(Accepted { socket, from, .. }) if from.is_ours() => {
                    let peer = match from {
                        Origin::Address(address) => address.into(),
                        Origin::Process(_) => address.clone(),
                    };
                    return options.stream(socket, peer);
                }
                // The client belonged to another user, or closed before it was accepted.
                Ok(_) => {}
                Err(error) if has_passed(&error) => {}
                Err(error) => return Err(error),
            }
        }
        if remaining.is_zero() {
            let limit = options.connect;
            let text = format!("waited {limit:?} for a driver at {address}: was it started?");
            return Err(io::Error::new(ErrorKind::TimedOut, text));
        }
    }
}

/// Returns the listeners with a waiting connection, as soon as there are any or the time is over.
fn ready(listeners: &[Listener], limit: Duration) -> io::Result<Vec<&Listener>> {
    let interest = |listener| PollFd::new(AsFd::as_fd(listener), PollFlags::POLLIN);
    let mut descriptors: Vec<_> = listeners.iter().map(interest).collect();
    // Round up, or the last wait becomes many waits of zero length.
    let limit = limit.saturating_add(Duration::from_micros(999));
    match poll(
        &mut descriptors,
        PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX),
    ) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(error) => return Err(error.into()),
    }
    let pairs = listeners.iter().zip(&descriptors);
    let ready = pairs.filter(|(_, descriptor)| descriptor.any().unwrap_or(false));
    Ok(ready.map(|(listener, _)| listener).collect())
}

/// Whether another attempt to accept may succeed, at once or after another wait.
fn has_passed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::ConnectionAborted
    )
}

/// A socket that drivers connect to. It removes its socket file, if it has one, when it is dropped.
#[derive(Debug)]
pub(super) struct Listener {
    // This field is dropped first: while the inode is held, no file of another server can have the
    // same number.
    _file: Option<SocketFile>,
    socket: Listening,
    address: Address,
}

#[derive(Debug)]
enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Listens on every address of a name (`localhost` may have two), or on a unix socket.
    ///
    /// Only if `anyone` is true may other users connect to a unix socket.
    pub(super) fn open(address: &Address, anyone: bool) -> io::Result<Vec<Self>> {
        let named = |error: io::Error| match error.kind() {
            ErrorKind::AddrInUse => io::Error::new(
                ErrorKind::AddrInUse,
                format!(
                    "can't listen on {address}: another server does, end it or choose another address"
                ),
            ),
            kind => io::Error::new(kind, format!("can't listen on {address}: {error}")),
        };
        match address {
            Address::Tcp { host, port } => tcp(host, *port).map_err(named),
            Address::Unix(path) => unix(path, anyone)
                .map(|listener| [listener].into())
                .map_err(named),
        }
    }

    /// The address, with the port that the system chose if the caller asked for that.
    pub(super) const fn address(&self) -> &Address {
        &self.address
    }

    /// Accepts the next connection.
    pub(super) fn accept(&self) -> io::Result<Accepted> {
        match &self.socket {
            Listening::Tcp(listener) => {
                let (socket, peer) = listener.accept()?;
                socket.set_nonblocking(true)?;
                Ok(Accepted {
                    socket: Socket::Tcp(socket),
                    peer: Address::from(peer).to_string(),
                    from: Origin::Address(peer),
                })
            }
            Listening::Unix(listener) => {
                let (socket, _) = listener.accept()?;
                socket.set_nonblocking(true)?;
                let peer = Credentials::of(&socket)?;
                Ok(Accepted {
                    socket: Socket::Unix(socket),
                    peer: format!("{peer} at {}", self.address),
                    from: Origin::Process(peer),
                })
            }
        }
    }
}

/// An accepted connection and its origin.
pub(super) struct Accepted {
    pub(super) socket: Socket,
    /// The peer's name in messages.
    pub(super) peer: String,
    pub(super) from: Origin,
}

/// Where a connection comes from.
pub(super) enum Origin {
    Address(SocketAddr),
    Process(Credentials),
}

impl Origin {
    /// Whether the peer is a process of the same user or of root.
    fn is_ours(&self) -> bool {
        match self {
            Self::Address(_) => true,
            Self::Process(peer) => peer.is_ours(),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Listening::Tcp(listener) => listener.as_fd(),
            Listening::Unix(listener) => listener.as_fd(),
        }
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

fn tcp(host: &str, port: u16) -> io::Result<Vec<Listener>> {
    let mut addresses = resolve(host, port)?;
    // Bind this one first: it includes every IPv4 address and would fail after one of them.
    addresses.sort_by_key(|address| !(address.is_ipv6() && address.ip().is_unspecified()));
    let mut attempts = 1..=PORTS;
    loop {
        match bind(&addresses) {
            // The port that the system chose at the first address may be in use at another one.
            Err(error)
                if error.kind() == ErrorKind::AddrInUse
                    && port == 0
                    && attempts.next().is_some() => {}
            result => return result,
        }
    }
}

/// The number of ports to try when the system chooses.
const PORTS: usize = 16;

/// Listens on those addresses of a name that this host has.
fn bind(addresses: &[SocketAddr]) -> io::Result<Vec<Listener>> {
    let mut listeners: Vec<Listener> = Vec::new();
    let (mut port, mut both) = (0, false);
    let mut failed = io::Error::new(ErrorKind::AddrNotAvailable, "the name has no address");
    for &(mut address) in addresses {
        if address.port() == 0 {
            // Use the same port at all addresses.
            address.set_port(port);
        }
        let socket = match TcpListener::bind(address) {
            Ok(socket) => socket,
            // `::` includes this address.
            Err(error) if error.kind() == ErrorKind::AddrInUse && both && address.is_ipv4() => {
                continue;
            }
            // A driver would reach the other server.
            Err(error) if error.kind() == ErrorKind::AddrInUse => return Err(error),
            // A host without IPv6 may still resolve its name to an IPv6 address.
            Err(error) => {
                failed = error;
                continue;
            }
        };
        socket.set_nonblocking(true)?;
        let local = socket.local_addr()?;
        port = local.port();
        both |= local.is_ipv6() && local.ip().is_unspecified();
        listeners.push(Listener {
            _file: None,
            address: local.into(),
            socket: Listening::Tcp(socket),
        });
    }
    if listeners.is_empty() {
        return Err(failed);
    }
    Ok(listeners)
}

fn unix(path: &Path, anyone: bool) -> io::Result<Listener> {
    let lock = Lock::take(path)?;
    let socket = match UnixListener::bind(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            remove_stale(path)?;
            UnixListener::bind(path)?
        }
        result => result?,
    };
    let file = SocketFile {
        path: path.into(),
        identity: identity(&path.symlink_metadata()?),
        _lock: lock,
    };
    socket.set_nonblocking(true)?;
    if !anyone {
        // A client that connected before this call is checked on accept.
        std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    }
    Ok(Listener {
        _file: Some(file),
        socket: Listening::Unix(socket),
        address: Address::Unix(path.into()),
    })
}

/// Device and inode numbers.
fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// Removes one of our sockets if nobody listens on it, because its server was killed. The caller
/// holds the lock, so no other server that uses locks is about to listen here.
fn remove_stale(path: &Path) -> io::Result<()> {
    let before = path.symlink_metadata()?;
    if !before.file_type().is_socket() {
        let text = "there is a file of that name, and it is no socket";
        return Err(io::Error::new(ErrorKind::AlreadyExists, text));
    }
    for pause in [Some(UNLOCKED), None] {
        // This call doesn't wait, unlike std's: a server whose queue is full is still running.
        match mio::net::UnixStream::connect(path) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return Err(error),
            _ => return Err(ErrorKind::AddrInUse.into()),
        }
        if let Some(pause) = pause {
            std::thread::sleep(pause);
        }
    }
    let (owner, ours) = (before.uid(), geteuid().as_raw());
    if owner != ours {
        let text = format!("a server of user {owner} left its socket there, remove it");
        return Err(io::Error::new(ErrorKind::PermissionDenied, text));
    }
    if identity(&path.symlink_metadata()?) != identity(&before) {
        return Err(ErrorKind::AddrInUse.into());
    }
    std::fs::remove_file(path)
}

/// How long a server without locks may take between bind and listen. i-PI makes the two calls in
/// succession (3.3.1, `ipi/interfaces/sockets.py`, `InterfaceSocket.open`).
const UNLOCKED: Duration = Duration::from_millis(10);

/// A socket file that this process made, and the lock on its name.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// The inode, because a server without locks may have removed the file and put its own in its
    /// place.
    identity: (u64, u64),
    _lock: Lock,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        remove(&self.path, self.identity);
    }
}

/// Removes a file if it is still the expected one.
fn remove(path: &Path, expected: (u64, u64)) {
    let ours = |file: Metadata| identity(&file) == expected;
    if path.symlink_metadata().is_ok_and(ours) {
        let _ = std::fs::remove_file(path);
    }
}

/// The right to listen at a path: a locked file next to it. The lock is held from the first look at
/// the path until the socket file has been removed.
///
/// Without the lock, a server that starts at the same time would take a socket that is bound but
/// not yet listening for a stale one. Link and rename don't help: neither can replace one
/// particular socket only.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    fn take(path: &Path) -> io::Result<Self> {
        let path: PathBuf = [path.as_os_str(), ".lock".as_ref()]
            .into_iter()
            .collect::<OsString>()
            .into();
        let named = |error: io::Error| {
            let path = path.display();
            io::Error::new(error.kind(), format!("its lock file {path}: {error}"))
        };
        // Try again if the previous holder has removed the lock file in the meantime.
        for _ in 0..LOCKS {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(O_NOFOLLOW | O_NONBLOCK)
                .open(&path)
                .map_err(named)?;
            let opened = file.metadata()?;
            if !opened.is_file() || opened.uid() != geteuid().as_raw() {
                let text = "it is not a file of this user";
                return Err(named(io::Error::new(ErrorKind::PermissionDenied, text)));
            }
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(ErrorKind::AddrInUse.into()),
                Err(TryLockError::Error(error)) => return Err(named(error)),
            }
            let same = |file: Metadata| identity(&file) == identity(&opened);
            if path.symlink_metadata().is_ok_and(same) {
                return Ok(Self { path, file });
            }
        }
        Err(ErrorKind::AddrInUse.into())
    }
}

/// How many lock files to try before giving up to other servers.
const LOCKS: usize = 100;

impl Drop for Lock {
    fn drop(&mut self) {
        // The file loses its name while it is still locked: it is closed after this.
        if let Ok(file) = self.file.metadata() {
            remove(&self.path, identity(&file));
        }
    }
}
