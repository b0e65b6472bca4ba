//! Listening, and a socket file that is there for as long as its server.

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

/// Listens at an address until one driver has connected, as [`connect`](super::connect) does on
/// the other side. `options.connect` is how long to wait for it.
///
/// A name is listened on at every address that it has. The file of a unix socket is for processes
/// of the same user (mode 0600); those of others and not of root are not accepted. It is removed
/// when the driver has connected, and one that a killed server left is replaced. Many drivers have
/// a [`Pool`](super::Pool).
///
/// # Errors
///
/// With the address in its text: of the kind [`AddrInUse`](ErrorKind::AddrInUse) if another server
/// listens there, [`TimedOut`](ErrorKind::TimedOut) if no driver has connected in time, and the
/// system's.
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
                // One of another user, or one that closed before it was accepted.
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

/// Those to which someone has connected, when there are any or this time is over.
fn ready(listeners: &[Listener], limit: Duration) -> io::Result<Vec<&Listener>> {
    let interest = |listener| PollFd::new(AsFd::as_fd(listener), PollFlags::POLLIN);
    let mut descriptors: Vec<_> = listeners.iter().map(interest).collect();
    // Rounded up, so that the last wait is not many of no time.
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

/// Whether the next try to accept may succeed at once or after another wait.
fn has_passed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::ConnectionAborted
    )
}

/// Something that drivers connect to. Its socket file, if it has one, is removed with it.
#[derive(Debug)]
pub(super) struct Listener {
    // First, so that its file is removed while it holds the inode: no file of another server has
    // the same number then.
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
    /// Listens on every address that a name has (`localhost` may be two), or on a unix socket.
    ///
    /// Unless `anyone`, no other user may connect to that.
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

    /// Its address: with the port that the system chose, if it was asked to.
    pub(super) const fn address(&self) -> &Address {
        &self.address
    }

    /// The next connection.
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

/// A connection, and whose.
pub(super) struct Accepted {
    pub(super) socket: Socket,
    /// The name of the peer in messages.
    pub(super) peer: String,
    pub(super) from: Origin,
}

/// Where a connection comes from.
pub(super) enum Origin {
    Address(SocketAddr),
    Process(Credentials),
}

impl Origin {
    /// Whether this is a process of the same user or of root.
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
    // First, because it includes every address of IPv4 and could not be had after one of them.
    addresses.sort_by_key(|address| !(address.is_ipv6() && address.ip().is_unspecified()));
    let mut attempts = 1..=PORTS;
    loop {
        match bind(&addresses) {
            // The system's port at the first address may be in use at another one.
            Err(error)
                if error.kind() == ErrorKind::AddrInUse
                    && port == 0
                    && attempts.next().is_some() => {}
            result => return result,
        }
    }
}

/// Ports to try when the system chooses.
const PORTS: usize = 16;

/// Listens on those of a name's addresses that this host has.
fn bind(addresses: &[SocketAddr]) -> io::Result<Vec<Listener>> {
    let mut listeners: Vec<Listener> = Vec::new();
    let (mut port, mut both) = (0, false);
    let mut failed = io::Error::new(ErrorKind::AddrNotAvailable, "the name has no address");
    for &(mut address) in addresses {
        if address.port() == 0 {
            // The same port on all of them.
            address.set_port(port);
        }
        let socket = match TcpListener::bind(address) {
            Ok(socket) => socket,
            // Included in `::`.
            Err(error) if error.kind() == ErrorKind::AddrInUse && both && address.is_ipv4() => {
                continue;
            }
            // A driver would reach the other server.
            Err(error) if error.kind() == ErrorKind::AddrInUse => return Err(error),
            // A host without IPv6 may well have an IPv6 address for its name.
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
        // The process of a connection made before this is checked when it is accepted.
        std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    }
    Ok(Listener {
        _file: Some(file),
        socket: Listening::Unix(socket),
        address: Address::Unix(path.into()),
    })
}

/// Device and inode.
fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// Removes a socket of ours on which no one listens any more: a server that was killed left it.
/// Only called with the lock, so it is not one on which a server is just about to listen, unless
/// that server does not use locks.
fn remove_stale(path: &Path) -> io::Result<()> {
    let before = path.symlink_metadata()?;
    if !before.file_type().is_socket() {
        let text = "there is a file of that name, and it is no socket";
        return Err(io::Error::new(ErrorKind::AlreadyExists, text));
    }
    for pause in [Some(UNLOCKED), None] {
        // Does not wait, unlike std's: a server that accepts no one is not one that has ended.
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

/// How long a server of another program may take from bind to listen. i-PI makes the two calls one
/// after the other (3.3.1, `ipi/interfaces/sockets.py`, `InterfaceSocket.open`).
const UNLOCKED: Duration = Duration::from_millis(10);

/// A socket file that we have made, and the lock on its name.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// A server of another program may have removed it and put its own in this place.
    identity: (u64, u64),
    _lock: Lock,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        remove(&self.path, self.identity);
    }
}

/// Removes a file if it is still this one.
fn remove(path: &Path, expected: (u64, u64)) {
    let ours = |file: Metadata| identity(&file) == expected;
    if path.symlink_metadata().is_ok_and(ours) {
        let _ = std::fs::remove_file(path);
    }
}

/// The right to listen at a path, held from before the first look at what is there until the
/// socket file has been removed: a locked file beside it.
///
/// Without it, a server that is just about to listen is one that has ended to another one that
/// starts at the same time. Neither link nor rename replaces a socket only if it is a certain one.
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
        // Again if the server that held the lock has removed its file meanwhile.
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

/// Lock files to try before others are deemed to be faster.
const LOCKS: usize = 100;

impl Drop for Lock {
    fn drop(&mut self) {
        // Locked until it has no name: closing the file comes after this.
        if let Ok(file) = self.file.metadata() {
            remove(&self.path, identity(&file));
        }
    }
}
