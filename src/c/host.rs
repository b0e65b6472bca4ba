//! Sockets for the handles.

use core::ffi::{c_char, c_int};
use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};
use std::{fs, str};

use forcewire::net::{Address, ConnectOptions, Stream, connect_with};
use forcewire::{Deadlines, Driver, Server};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, getsockname};

use crate::handle::{self, Handle, Machine, forcewire_driver_t, forcewire_server_t};
use crate::link::Link;
use crate::memory::text;
use crate::status::Fault;
use crate::status::forcewire_status_t::{self, *};

/// How long to wait for what, in seconds. Where one may be given, NULL means a minute, a minute,
/// and for ever.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct forcewire_patience_t {
    /// For the server to listen, or the driver to connect. 0 tries once.
    pub connect: f64,
    /// For the rest of a message once its beginning has come, and for the peer to take what is
    /// sent.
    pub message: f64,
    /// For the next message. 0 waits for ever.
    pub idle: f64,
}

/// Connects the driver to a server at HOST:PORT, [IPV6]:PORT or unix:NAME; a NAME without a slash
/// means i-PI's /tmp/ipi_NAME. Tries again while nothing listens there. Not in libraries for
/// firmware.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forcewire_driver_connect(
    driver: *mut forcewire_driver_t,
    address: *const c_char,
    patience: *const forcewire_patience_t,
) -> forcewire_status_t {
    let call = || {
        // SAFETY: the caller's handle and memory.
        unsafe {
            open::<Driver, _>(driver, patience, |options| {
                connect_with(&named(address)?, options, |_, _| {})
            })
        }
    };
    // SAFETY: the caller's handle.
    unsafe { handle::guarded::<Driver, _>(driver, call) }
}

/// Listens at an address, written as for forcewire_driver_connect(), until one driver has
/// connected. A program with many drivers accepts them itself and calls forcewire_server_adopt()
/// for each. Not in libraries for firmware.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forcewire_server_accept(
    server: *mut forcewire_server_t,
    address: *const c_char,
    patience: *const forcewire_patience_t,
) -> forcewire_status_t {
    let call = || {
        // SAFETY: the caller's handle and memory.
        unsafe {
            open::<Server, _>(server, patience, |options| {
                accept(&named(address)?, options)
            })
        }
    };
    // SAFETY: the caller's handle.
    unsafe { handle::guarded::<Server, _>(server, call) }
}

/// Takes over a connected TCP or unix socket, which is closed with the driver, also if this fails.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forcewire_driver_adopt(
    driver: *mut forcewire_driver_t,
    socket: c_int,
    patience: *const forcewire_patience_t,
) -> forcewire_status_t {
    // SAFETY: the caller's descriptor, which is this call's from now on.
    let socket = unsafe { owned(socket) };
    let call = || {
        // SAFETY: the caller's handle and memory.
        unsafe { open::<Driver, _>(driver, patience, |options| adopt(socket, options.deadlines)) }
    };
    // SAFETY: the caller's handle.
    unsafe { handle::guarded::<Driver, _>(driver, call) }
}

/// Takes over a connected TCP or unix socket, which is closed with the server, also if this fails.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forcewire_server_adopt(
    server: *mut forcewire_server_t,
    socket: c_int,
    patience: *const forcewire_patience_t,
) -> forcewire_status_t {
    // SAFETY: as above.
    let socket = unsafe { owned(socket) };
    let call = || {
        // SAFETY: as above.
        unsafe { open::<Server, _>(server, patience, |options| adopt(socket, options.deadlines)) }
    };
    // SAFETY: the caller's handle.
    unsafe { handle::guarded::<Server, _>(server, call) }
}

/// Opens a connection for a handle.
///
/// # Safety
///
/// That of [`Handle::of`]; `patience` is NULL or can be read.
unsafe fn open<M: Machine, S>(
    memory: *mut S,
    patience: *const forcewire_patience_t,
    connection: impl FnOnce(ConnectOptions) -> io::Result<Stream>,
) -> forcewire_status_t {
    // SAFETY: the caller's word.
    let (Some(handle), patience) = (unsafe { (Handle::<M>::of(memory), patience.as_ref()) }) else {
        return FORCEWIRE_INVALID_ARGUMENT;
    };
    let Some(options) = patience.map_or(Some(ConnectOptions::new()), forcewire_patience_t::read)
    else {
        return handle.refuse("patience is no number of seconds");
    };
    match connection(options) {
        Ok(stream) => {
            handle.attach(Link::Stream(Box::new(stream)));
            FORCEWIRE_OK
        }
        Err(error) if error.kind() == ErrorKind::InvalidInput => {
            handle.fail(Fault::Io(error).into());
            FORCEWIRE_INVALID_ARGUMENT
        }
        Err(error) => handle.fail(Fault::Io(error).into()),
    }
}

impl forcewire_patience_t {
    fn read(&self) -> Option<ConnectOptions> {
        let seconds = |seconds| Duration::try_from_secs_f64(seconds).ok();
        let mut deadlines = Deadlines::NONE.message(seconds(self.message)?);
        deadlines.evaluation = Some(seconds(self.idle)?).filter(|idle| !idle.is_zero());
        let options = ConnectOptions::new().connect(seconds(self.connect)?);
        Some(options.deadlines(deadlines))
    }
}

/// # Safety
///
/// That of [`text`].
unsafe fn named(address: *const c_char) -> io::Result<Address> {
    // SAFETY: the caller's word.
    let bytes = unsafe { text(address) }.unwrap_or_default();
    let address = str::from_utf8(bytes).unwrap_or_default();
    let invalid =
        |error| io::Error::new(ErrorKind::InvalidInput, format!("{error}, not {address:?}"));
    address.parse().map_err(invalid)
}

/// # Safety
///
/// `socket` is negative or a descriptor that nothing else closes.
unsafe fn owned(socket: c_int) -> Option<OwnedFd> {
    // SAFETY: the caller's word.
    (socket >= 0).then(|| unsafe { OwnedFd::from_raw_fd(socket) })
}

fn adopt(socket: Option<OwnedFd>, deadlines: Deadlines) -> io::Result<Stream> {
    let socket = socket.ok_or(ErrorKind::InvalidInput)?;
    if getsockname(&socket)?.address_family() == AddressFamily::UNIX {
        let peer = Address::Unix(format!("descriptor {}", socket.as_raw_fd()).into());
        Stream::from_unix(UnixStream::from(socket), peer, deadlines)
    } else {
        Stream::from_tcp(TcpStream::from(socket), deadlines)
    }
}

/// Waits for a driver.
fn accept(address: &Address, options: ConnectOptions) -> io::Result<Stream> {
    let named = |error: io::Error| {
        io::Error::new(error.kind(), format!("can't listen on {address}: {error}"))
    };
    match address {
        Address::Tcp { host, port } => {
            // `localhost` may be two addresses, of which a driver tries either first.
            let bound: Vec<_> = (host.as_str(), *port)
                .to_socket_addrs()
                .map_err(named)?
                .map(TcpListener::bind)
                .collect();
            let listens = bound.iter().any(Result::is_ok);
            let (listeners, errors): (Vec<_>, Vec<_>) = bound.into_iter().partition(Result::is_ok);
            if let (false, Some(Err(error))) = (listens, errors.into_iter().next()) {
                return Err(named(error));
            }
            let listeners: Vec<_> = listeners.into_iter().flatten().collect();
            let (socket, _) = wait(&listeners, address, options.connect)?.accept()?;
            Stream::from_tcp(socket, options.deadlines)
        }
        Address::Unix(path) => {
            let listener = UnixListener::bind(path).map_err(|error| match error.kind() {
                ErrorKind::AddrInUse => io::Error::new(
                    ErrorKind::AddrInUse,
                    format!("can't listen on {address}: a server does already, or did and the file remained: remove it"),
                ),
                _ => named(error),
            })?;
            // Drivers of other users have no business here.
            let waited = fs::set_permissions(path, fs::Permissions::from_mode(0o600))
                .and_then(|()| wait(&[&listener], address, options.connect).map(drop));
            let socket = waited.and_then(|_| listener.accept());
            let _ = fs::remove_file(path);
            Stream::from_unix(socket?.0, address.clone(), options.deadlines)
        }
    }
}

/// The first of these to which a driver has connected.
fn wait<'a, L: AsFd>(listeners: &'a [L], address: &Address, limit: Duration) -> io::Result<&'a L> {
    let start = Instant::now();
    loop {
        let mut descriptors: Vec<_> = listeners
            .iter()
            .map(|it| PollFd::new(it, PollFlags::IN))
            .collect();
        let left = limit.saturating_sub(start.elapsed());
        match poll(&mut descriptors, Timespec::try_from(left).ok().as_ref()) {
            Ok(0) => {
                let text = format!("waited {limit:?} for a driver at {address}: was it started?");
                return Err(io::Error::new(ErrorKind::TimedOut, text));
            }
            Err(rustix::io::Errno::INTR) => {}
            result => {
                result?;
                let mut pairs = listeners.iter().zip(&descriptors);
                if let Some((first, _)) = pairs.find(|(_, it)| !it.revents().is_empty()) {
                    return Ok(first);
                }
            }
        }
    }
}
