//! TCP and unix sockets of the operating system, behind one type.

use core::time::Duration;
use std::io::{self, IoSlice, IoSliceMut};
#[cfg(not(unix))]
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
#[cfg(unix)]
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::vec::Vec;

#[cfg(unix)]
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{MsgFlags, recv, recvmsg, send, sendmsg},
};
use socket2::{SockRef, TcpKeepalive};

/// The most bytes to read from the kernel at once, and to collect before sending.
pub(super) const BUFFER: usize = 64 * 1024;

/// The number of keep-alive probes before a silent host is considered gone.
const PROBES: u32 = 4;

/// The number of bytes to copy at once. Beyond 2 KiB glibc uses `rep movsb`, which is slow on AMD's
/// Zen 3 and 4 (glibc bug 30994): a copy of 24 kB took 4.5 µs instead of 0.6.
const COPY: usize = 1024;

#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

#[cfg(unix)]
impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
        }
    }
}

#[cfg(unix)]
impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Socket {
    /// Sends each write at once: disables Nagle's algorithm on TCP.
    pub(super) fn send_at_once(&self) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.set_nodelay(true),
            #[cfg(unix)]
            Self::Unix(_) => Ok(()),
        }
    }

    /// Ends a read or write after this long without progress.
    pub(super) fn set_timeouts(&self, limit: Duration) -> io::Result<()> {
        // For the kernel zero means no limit; for std it is an error.
        let limit = Some(limit.max(Duration::from_micros(1)));
        match self {
            Self::Tcp(socket) => {
                socket.set_read_timeout(limit)?;
                socket.set_write_timeout(limit)
            }
            #[cfg(unix)]
            Self::Unix(socket) => {
                socket.set_read_timeout(limit)?;
                socket.set_write_timeout(limit)
            }
        }
    }

    /// Closes a connection to a host that does not answer for this long.
    pub(super) fn keep_alive(&self, limit: Duration) -> io::Result<()> {
        #[allow(irrefutable_let_patterns)] // there are no others on Windows
        let Self::Tcp(socket) = self else {
            return Ok(());
        };
        // All systems count in seconds, and Linux takes at most 32767 of them.
        let seconds = |time: Duration| Duration::from_secs(time.as_secs().clamp(1, 32767));
        let idle = seconds(limit / 2);
        let options = TcpKeepalive::new().with_time(idle);
        #[cfg(not(any(target_os = "openbsd", target_os = "haiku")))]
        let options = options
            .with_interval(seconds(limit.saturating_sub(idle) / PROBES))
            .with_retries(PROBES);
        SockRef::from(socket).set_tcp_keepalive(&options)
    }

    pub(super) const fn is_tcp(&self) -> bool {
        matches!(self, Self::Tcp(_))
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

    /// Waits for this event or until the limit, if another owner of the socket has made it
    /// non-blocking since this library [made it blocking](Self::set_nonblocking). A call on a
    /// blocking socket has waited already.
    #[cfg(unix)]
    pub(super) fn wait_if_nonblocking(
        &self,
        event: PollFlags,
        limit: Option<Duration>,
    ) -> io::Result<()> {
        let flags = OFlag::from_bits_retain(fcntl(self, FcntlArg::F_GETFL)?);
        if !flags.contains(OFlag::O_NONBLOCK) {
            return Ok(());
        }
        let limit = limit.map(|limit| PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX));
        let mut descriptors = [PollFd::new(self.as_fd(), event)];
        match poll(&mut descriptors, limit.unwrap_or(PollTimeout::NONE)) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Asks for the next acknowledgement at once (`TCP_QUICKACK`); the setting does not last.
    /// Errors are ignored: without it, peers that lack `TCP_NODELAY` are only slower.
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
        self.receive(buffer, true)
    }
}

#[cfg(unix)]
impl Socket {
    /// Reads some bytes. The call waits for them only if `waits` is true and the socket blocks.
    pub(super) fn receive(&self, buffer: &mut [u8], waits: bool) -> io::Result<usize> {
        Ok(recv(self.as_raw_fd(), buffer, flags(waits))?)
    }

    /// Reads some bytes into several buffers, which are filled in order.
    pub(super) fn receive_vectored(
        &self,
        buffers: &mut [IoSliceMut<'_>],
        waits: bool,
    ) -> io::Result<usize> {
        Ok(recvmsg::<()>(self.as_raw_fd(), buffers, None, flags(waits))?.bytes)
    }

    /// Sends the first bytes of these pieces. If the peer has gone, the result is an error rather
    /// than SIGPIPE, which would end a program that does not ignore it. Rust programs ignore it,
    /// but C programs that use this library may not.
    pub(super) fn send(&self, pieces: &[IoSlice<'_>], waits: bool) -> io::Result<usize> {
        // On this system std sets a socket option instead.
        #[cfg(target_vendor = "apple")]
        let no_signal = MsgFlags::empty();
        #[cfg(not(target_vendor = "apple"))]
        let no_signal = MsgFlags::MSG_NOSIGNAL;
        let (socket, flags) = (self.as_raw_fd(), flags(waits) | no_signal);
        let mut filled = pieces.iter().filter(|piece| !piece.is_empty());
        // The kernel handles a single piece faster than a list.
        Ok(match (filled.next(), filled.next()) {
            (None, _) => 0,
            (Some(only), None) => send(socket, only, flags)?,
            _ => sendmsg::<()>(socket, pieces, &[], flags, None)?,
        })
    }
}

#[cfg(unix)]
const fn flags(waits: bool) -> MsgFlags {
    if waits {
        MsgFlags::empty()
    } else {
        MsgFlags::MSG_DONTWAIT
    }
}

#[cfg(not(unix))]
impl Socket {
    /// Reads some bytes. The call waits for them only if `waits` is true.
    pub(super) fn receive(&self, buffer: &mut [u8], waits: bool) -> io::Result<usize> {
        let Self::Tcp(mut socket) = self;
        self.with(waits, || Read::read(&mut socket, buffer))
    }

    /// Reads some bytes into several buffers, which are filled in order.
    pub(super) fn receive_vectored(
        &self,
        buffers: &mut [IoSliceMut<'_>],
        waits: bool,
    ) -> io::Result<usize> {
        let Self::Tcp(mut socket) = self;
        self.with(waits, || Read::read_vectored(&mut socket, buffers))
    }

    /// Sends the first bytes of these pieces.
    pub(super) fn send(&self, pieces: &[IoSlice<'_>], waits: bool) -> io::Result<usize> {
        let Self::Tcp(mut socket) = self;
        self.with(waits, || Write::write_vectored(&mut socket, pieces))
    }

    /// Makes a call, blocking or not.
    fn with<T>(&self, waits: bool, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if waits {
            return call();
        }
        self.set_nonblocking(true)?;
        let result = call();
        self.set_nonblocking(false)?;
        result
    }
}

/// Copies as many bytes as both hold, and returns how many.
pub(super) fn copy(from: &[u8], to: &mut [u8]) -> usize {
    let n = from.len().min(to.len());
    if let (Some(from), Some(to)) = (from.get(..n), to.get_mut(..n)) {
        for (from, to) in from.chunks(COPY).zip(to.chunks_mut(COPY)) {
            to.copy_from_slice(from);
        }
    }
    n
}

/// Appends `from`, copied in the same small chunks.
pub(super) fn append(from: &[u8], to: &mut Vec<u8>) {
    for piece in from.chunks(COPY) {
        to.extend_from_slice(piece);
    }
}
