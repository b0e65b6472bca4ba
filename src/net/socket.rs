//! The sockets of the operating system, TCP and unix alike.

use core::time::Duration;
#[cfg(not(unix))]
use std::io::Write;
use std::io::{self, IoSlice, Read};
use std::net::{Shutdown, TcpStream};
use std::vec::Vec;

#[cfg(unix)]
use std::os::unix::net::UnixStream;

/// Bytes that are taken from the kernel at once, and bytes that are gathered before they leave. Arrays
/// larger than this are not copied on their way: 2731 atoms and more.
pub(super) const BUFFER: usize = 64 * 1024;

/// Bytes that are copied at once. Beyond 2 KiB glibc uses `rep movsb`, which is slow on AMD's Zen 3 and 4
/// (glibc bug 30994); 24 kB then took 4.5 µs instead of 0.6.
const COPY: usize = 1024;

#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

#[cfg(unix)]
impl std::os::fd::AsRawFd for Socket {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        match self {
            Self::Tcp(socket) => socket.as_raw_fd(),
            Self::Unix(socket) => socket.as_raw_fd(),
        }
    }
}

impl Socket {
    /// Sends at once what is written: on TCP, no algorithm of Nagle's.
    pub(super) fn send_at_once(&self) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.set_nodelay(true),
            #[cfg(unix)]
            Self::Unix(_) => Ok(()),
        }
    }

    /// Gives up writing when the peer takes nothing for this long.
    pub(super) fn set_write_timeout(&self, limit: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.set_write_timeout(Some(limit)),
            #[cfg(unix)]
            Self::Unix(socket) => socket.set_write_timeout(Some(limit)),
        }
    }

    pub(super) fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.set_nonblocking(nonblocking),
            #[cfg(unix)]
            Self::Unix(socket) => socket.set_nonblocking(nonblocking),
        }
    }

    /// Closes both directions.
    pub(super) fn shutdown(&self) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.shutdown(Shutdown::Both),
            #[cfg(unix)]
            Self::Unix(socket) => socket.shutdown(Shutdown::Both),
        }
    }

    pub(super) fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.set_read_timeout(timeout),
            #[cfg(unix)]
            Self::Unix(socket) => socket.set_read_timeout(timeout),
        }
    }

    /// Asks for the next acknowledgement at once (`TCP_QUICKACK`); the kernel forgets it soon. No more than
    /// a wish: where it can't be had, peers without `TCP_NODELAY` are slow and nothing else.
    pub(super) fn acknowledge_at_once(&self) {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Self::Tcp(socket) = self {
            #[cfg(target_os = "android")]
            use std::os::android::net::TcpStreamExt;
            #[cfg(target_os = "linux")]
            use std::os::linux::net::TcpStreamExt;
            let _ = socket.set_quickack(true);
        }
    }

    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => Read::read(&mut &*socket, buffer),
            #[cfg(unix)]
            Self::Unix(socket) => Read::read(&mut &*socket, buffer),
        }
    }

    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    /// Sends the beginning of these pieces. A peer that has gone is an error and not SIGPIPE, which ends a program
    /// that has not said otherwise: Rust's have, C's that use this library have not.
    #[cfg(unix)]
    pub(super) fn write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        use nix::sys::socket::{MsgFlags, send};
        use std::os::fd::AsRawFd;

        // There std sets an option of the socket instead.
        #[cfg(target_vendor = "apple")]
        let mut flags = MsgFlags::empty();
        #[cfg(not(target_vendor = "apple"))]
        let mut flags = MsgFlags::MSG_NOSIGNAL;
        let mut pieces = pieces.iter().filter(|piece| !piece.is_empty());
        let Some(first) = pieces.next() else {
            return Ok(0);
        };
        // A call for each, because `writev` knows no flags; they leave together all the same.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if pieces.next().is_some() {
            flags |= MsgFlags::from_bits_retain(nix::libc::MSG_MORE);
        }
        Ok(send(self.as_raw_fd(), first, flags)?)
    }

    #[cfg(not(unix))]
    pub(super) fn write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => Write::write_vectored(&mut &*socket, pieces),
        }
    }
}

/// Copies as much as both hold, and says how much that is.
pub(super) fn copy(from: &[u8], to: &mut [u8]) -> usize {
    for (from, to) in from.chunks(COPY).zip(to.chunks_mut(COPY)) {
        let n = from.len().min(to.len());
        if let (Some(from), Some(to)) = (from.get(..n), to.get_mut(..n)) {
            to.copy_from_slice(from);
        }
    }
    from.len().min(to.len())
}

/// Appends `from`, likewise.
pub(super) fn append(from: &[u8], to: &mut Vec<u8>) {
    for piece in from.chunks(COPY) {
        to.extend_from_slice(piece);
    }
}
