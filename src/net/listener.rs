//! Listening, and a socket file that is there for as long as its server.

use std::format;
use std::fs::Permissions;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::string::{String, ToString};
use std::vec::Vec;

use super::Address;
use super::credentials::Credentials;
use super::socket::Socket;

/// Something that drivers connect to. Its socket file, if it has one, goes with it.
#[derive(Debug)]
pub(super) struct Listener {
    socket: Listening,
    address: Address,
    _file: Option<SocketFile>,
}

#[derive(Debug)]
enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A file that we have made.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and inode: another server may have put its own in this place.
    identity: (u64, u64),
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

    /// Where it listens: the port that the system chose, if it was asked to.
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
                    peer: named(peer).to_string(),
                    from: Origin::Address(peer.ip()),
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
    /// What to call the peer.
    pub(super) peer: String,
    pub(super) from: Origin,
}

/// Where a connection comes from.
pub(super) enum Origin {
    Address(IpAddr),
    Process(Credentials),
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        match &self.socket {
            Listening::Tcp(listener) => listener.as_raw_fd(),
            Listening::Unix(listener) => listener.as_raw_fd(),
        }
    }
}

fn named(address: SocketAddr) -> Address {
    Address::tcp(address.ip().to_string(), address.port())
}

fn tcp(host: &str, mut port: u16) -> io::Result<Vec<Listener>> {
    let mut listeners: Vec<Listener> = Vec::new();
    let mut last = io::Error::new(ErrorKind::AddrNotAvailable, "the name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpListener::bind((address.ip(), port)) {
            Ok(socket) => {
                socket.set_nonblocking(true)?;
                // The same port on all of them, whoever chose it.
                port = socket.local_addr()?.port();
                listeners.push(Listener {
                    address: named(socket.local_addr()?),
                    socket: Listening::Tcp(socket),
                    _file: None,
                });
            }
            // A host without IPv6 may well have an IPv6 address for its name.
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable => last = error,
            Err(error) => return Err(error),
        }
    }
    if listeners.is_empty() {
        return Err(last);
    }
    Ok(listeners)
}

fn unix(path: &Path, anyone: bool) -> io::Result<Listener> {
    let socket = match UnixListener::bind(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            remove_stale(path)?;
            UnixListener::bind(path)?
        }
        result => result?,
    };
    socket.set_nonblocking(true)?;
    if !anyone {
        // Who was faster than this is found out when he is accepted.
        std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    }
    let file = path.symlink_metadata()?;
    let file = SocketFile {
        path: path.into(),
        identity: (file.dev(), file.ino()),
    };
    Ok(Listener {
        socket: Listening::Unix(socket),
        address: Address::Unix(path.into()),
        _file: Some(file),
    })
}

/// Removes a socket on which no one listens any more: what a server that was killed leaves behind.
fn remove_stale(path: &Path) -> io::Result<()> {
    if !path.symlink_metadata()?.file_type().is_socket() {
        let text = "there is a file of that name, and it is no socket";
        return Err(io::Error::new(ErrorKind::AlreadyExists, text));
    }
    // Does not wait, unlike std's: a server that accepts no one has to be told from one that is gone.
    match mio::net::UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(error),
        _ => Err(ErrorKind::AddrInUse.into()),
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = |file: std::fs::Metadata| (file.dev(), file.ino()) == self.identity;
        if self.path.symlink_metadata().is_ok_and(ours) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
