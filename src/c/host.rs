//! Sockets for handles.

use core::ffi::{c_char, c_int};
use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::str;
use std::time::Duration;

use forcewire::net::{Address, ConnectOptions, Stream, accept, connect_with};
use forcewire::{Deadlines, Driver, Server};
use rustix::net::{AddressFamily, getsockname};

use crate::handle::{self, Handle, Machine, forcewire_driver_t, forcewire_server_t};
use crate::link::Link;
use crate::memory::text;
use crate::status::Fault;
use crate::status::forcewire_status_t::{self, *};

/// How to connect, and time limits, in seconds.
///
/// A field of 0 means its default; NULL means all defaults. INFINITY means no limit. With less than
/// a microsecond, a call makes a single attempt.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct forcewire_options_t {
    /// How long to wait for the server to listen, or for the driver to connect. Default: a minute.
    pub connect: f64,
    /// From the connection to the peer's first message. Default: no limit.
    pub handshake: f64,
    /// For each message from its first byte to its last, in both directions, and for answers that
    /// need no computation. Default: a minute.
    pub message: f64,
    /// For the peer's computation: until the forces arrive, or the server's next message. Default:
    /// no limit.
    pub evaluation: f64,
    /// For a call as a whole. Default: no limit.
    pub exchange: f64,
    /// How long the peer's host may be unreachable over TCP, because it or its network is off.
    /// Default: five minutes.
    pub keep_alive: f64,
}

/// Connects the driver to a server at HOST:PORT, [IPV6]:PORT or unix:NAME; a NAME without a slash
/// means i-PI's /tmp/ipi_NAME. Retries while nothing listens there. Not in libraries for firmware.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forcewire_driver_connect(
    driver: *mut forcewire_driver_t,
    address: *const c_char,
    options: *const forcewire_options_t,
) -> forcewire_status_t {
    let call = || {
        // SAFETY: the caller passes a valid handle and valid memory.
        unsafe {
            open::<Driver, _>(driver, options, |options| {
                connect_with(&named(address)?, options, |_, _| {})
            })
        }
    };
    // SAFETY: the caller passes a valid handle.
    unsafe { handle::guarded::<Driver, _>(driver, call) }
}

/// Listens at an address, written as for forcewire_driver_connect(), until one driver has
/// connected. A program with many drivers accepts them itself and calls forcewire_server_adopt()
/// for each. Not in libraries for firmware.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forcewire_server_accept(
    server: *mut forcewire_server_t,
    address: *const c_char,
    options: *const forcewire_options_t,
) -> forcewire_status_t {
    let call = || {
        // SAFETY: the caller passes a valid handle and valid memory.
        unsafe { open::<Server, _>(server, options, |options| accept(&named(address)?, options)) }
    };
    // SAFETY: the caller passes a valid handle.
    unsafe { handle::guarded::<Server, _>(server, call) }
}

/// Takes over a connected TCP or unix socket. The socket is closed with the driver, and also if
/// this call fails.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forcewire_driver_adopt(
    driver: *mut forcewire_driver_t,
    socket: c_int,
    options: *const forcewire_options_t,
) -> forcewire_status_t {
    // SAFETY: the caller hands over its descriptor.
    let socket = unsafe { owned(socket) };
    let call = || {
        // SAFETY: the caller passes a valid handle and valid memory.
        unsafe { open::<Driver, _>(driver, options, |options| adopt(socket, options)) }
    };
    // SAFETY: the caller passes a valid handle.
    unsafe { handle::guarded::<Driver, _>(driver, call) }
}

/// Takes over a connected TCP or unix socket. The socket is closed with the server, and also if
/// this call fails.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forcewire_server_adopt(
    server: *mut forcewire_server_t,
    socket: c_int,
    options: *const forcewire_options_t,
) -> forcewire_status_t {
    // SAFETY: as above.
    let socket = unsafe { owned(socket) };
    let call = || {
        // SAFETY: as above.
        unsafe { open::<Server, _>(server, options, |options| adopt(socket, options)) }
    };
    // SAFETY: the caller passes a valid handle.
    unsafe { handle::guarded::<Server, _>(server, call) }
}

/// Opens a connection for a handle.
///
/// # Safety
///
/// The conditions of [`Handle::of`] hold; `options` is NULL or can be read.
unsafe fn open<M: Machine, S>(
    memory: *mut S,
    options: *const forcewire_options_t,
    connection: impl FnOnce(ConnectOptions) -> io::Result<Stream>,
) -> forcewire_status_t {
    // SAFETY: the caller keeps to the conditions above.
    let (Some(handle), options) = (unsafe { (Handle::<M>::of(memory), options.as_ref()) }) else {
        return FORCEWIRE_INVALID_ARGUMENT;
    };
    let Some(options) = options.map_or(Some(ConnectOptions::new()), forcewire_options_t::read)
    else {
        return handle.refuse("the options are no numbers of seconds");
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

impl forcewire_options_t {
    /// The options as the Rust library has them; None if a field is negative or NaN.
    fn read(&self) -> Option<ConnectOptions> {
        let mut options = ConnectOptions::new();
        let connect = limit(self.connect, Some(options.connect))?;
        options.connect = connect.unwrap_or(Duration::MAX);
        let default = options.deadlines;
        let mut deadlines = Deadlines::NONE;
        deadlines.handshake = limit(self.handshake, default.handshake)?;
        deadlines.message = limit(self.message, default.message)?;
        deadlines.evaluation = limit(self.evaluation, default.evaluation)?;
        deadlines.exchange = limit(self.exchange, default.exchange)?;
        options.keep_alive = limit(self.keep_alive, options.keep_alive)?;
        Some(options.deadlines(deadlines))
    }
}

/// The time limit that a field stands for; the outer None if it is invalid.
fn limit(seconds: f64, default: Option<Duration>) -> Option<Option<Duration>> {
    if seconds == 0.0 {
        Some(default)
    } else if seconds == f64::INFINITY {
        Some(None)
    } else {
        // A time too long for a Duration means no limit, too.
        match Duration::try_from_secs_f64(seconds) {
            Err(_) if seconds > 0.0 => Some(None),
            limit => limit.ok().map(Some),
        }
    }
}

/// # Safety
///
/// The conditions of [`text`] hold.
unsafe fn named(address: *const c_char) -> io::Result<Address> {
    // SAFETY: the caller keeps to the conditions above.
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
    // SAFETY: the caller keeps to the conditions above.
    (socket >= 0).then(|| unsafe { OwnedFd::from_raw_fd(socket) })
}

fn adopt(socket: Option<OwnedFd>, options: ConnectOptions) -> io::Result<Stream> {
    let (socket, deadlines) = (socket.ok_or(ErrorKind::InvalidInput)?, options.deadlines);
    if getsockname(&socket)?.address_family() == AddressFamily::UNIX {
        let peer = Address::Unix(format!("descriptor {}", socket.as_raw_fd()).into());
        Stream::from_unix(UnixStream::from(socket), peer, deadlines)
    } else {
        let stream = Stream::from_tcp(TcpStream::from(socket), deadlines)?;
        if let Some(limit) = options.keep_alive {
            stream.keep_alive(limit)?;
        }
        Ok(stream)
    }
}
