//! The address to which a driver under test connects.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use super::line::{Address, Line};

/// The socket to which a driver under test connects.
pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// Listens on a loopback port that the system chooses, or at this path.
    pub fn new(path: Option<PathBuf>) -> io::Result<Self> {
        let listener = match path {
            None => Self::tcp(0)?,
            Some(path) => {
                let listener = UnixListener::bind(&path)?;
                listener.set_nonblocking(true)?;
                Self::Unix(listener, path)
            }
        };
        Ok(listener)
    }

    fn tcp(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        listener.set_nonblocking(true)?;
        Ok(Self::Tcp(listener))
    }

    pub fn address(&self) -> io::Result<Address> {
        Ok(match self {
            Self::Tcp(listener) => Address::Tcp("127.0.0.1".into(), listener.local_addr()?.port()),
            Self::Unix(_, path) => Address::Unix(path.clone()),
        })
    }

    /// Stops listening and starts again at the same address.
    pub fn again(self, absence: Duration) -> io::Result<Self> {
        match self.address()? {
            Address::Tcp(_, port) => {
                drop(self);
                sleep(absence);
                Self::tcp(port)
            }
            Address::Unix(path) => {
                drop(self);
                sleep(absence);
                Self::new(Some(path))
            }
        }
    }

    /// Accepts a driver, if one has connected.
    pub fn accept(&self) -> Option<Line> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().ok()?;
                stream.set_nonblocking(false).ok()?;
                stream.set_nodelay(true).ok()?;
                Some(Line::Tcp(stream))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().ok()?;
                stream.set_nonblocking(false).ok()?;
                Some(Line::Unix(stream))
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            let _ = std::fs::remove_file(path);
        }
    }
}
