//! `open_socket`, `writebuffer` and `readbuffer`, for programs that were written for i-PI's
//! `sockets.c`.
//!
//! They work on a plain descriptor and buffer nothing, because such programs also read and write
//! the descriptor themselves. The library remembers what each descriptor was connected to, for its
//! error messages.

use core::ffi::{CStr, c_char, c_int, c_long, c_void};
use core::mem::MaybeUninit;
use core::ptr::{null, null_mut};
use std::cell::Cell;
use std::ffi::OsStr;
use std::io::{self, ErrorKind, Write};
use std::net::TcpStream;
use std::os::fd::{BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use std::{process, str, thread};

use forcewire::Deadlines;
use forcewire::net::{Address, ConnectOptions, connect_with};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::guard::guard;
use crate::memory::{array, array_mut, print};
use crate::status::INTERNAL;
use crate::status::forcewire_status_t::{self, *};

/// For forcewire_on_error(): print one line that says what happened and end the program, with the
/// forcewire_status_t as its exit status. This is the default.
pub const FORCEWIRE_EXIT: c_int = 0;
/// For forcewire_on_error(): let the call return, with forcewire_error() no longer FORCEWIRE_OK. If
/// readbuffer() fails, the buffer is filled with bytes of 255, which is NaN as a real, -1 as an
/// integer, and no header of the protocol.
pub const FORCEWIRE_CONTINUE: c_int = 1;

/// The size of a header, which programs read in a separate call: a stream that ends before it has
/// ended between two messages.
const HEADER: usize = 12;

/// Connects to a server and sets psockfd to the descriptor, or to -1. If inet is positive, connects
/// over TCP (IPv4 or IPv6, without Nagle's algorithm) to this host and port. Otherwise connects to
/// the unix socket whose path is the prefix followed by the host. Each text ends at a NUL; trailing
/// blanks don't count.
///
/// Makes one attempt, of at most ten seconds per address. A unix socket must belong to a process of
/// the same user or of root, and must not be a symbolic link.
///
/// Programs whose fsockets.f90 is older than the prefix pass four arguments. That makes no
/// difference over TCP; for unix sockets, link them with
/// -Wl,--defsym=open_socket=forcewire_open_socket_4.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open_socket(
    psockfd: *mut c_int,
    inet: *const c_int,
    port: *const c_int,
    host: *const c_char,
    prefix: *const c_char,
) {
    // SAFETY: the caller passes valid memory.
    guarded(|| unsafe {
        // A caller with four arguments passes no prefix: the fifth argument is then an arbitrary
        // register value.
        let unix = inet.as_ref().is_some_and(|&inet| inet <= 0);
        let prefix = unix.then(|| fortran(prefix, LONGEST)).flatten();
        open(psockfd, inet, port, fortran(host, LONGEST), prefix);
    });
}

/// open_socket() with i-PI's usual prefix, /tmp/ipi_.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forcewire_open_socket_4(
    psockfd: *mut c_int,
    inet: *const c_int,
    port: *const c_int,
    host: *const c_char,
) {
    // SAFETY: the caller passes valid memory.
    guarded(|| unsafe { open(psockfd, inet, port, fortran(host, LONGEST), None) });
}

/// open_socket() for Fortran programs without an interface: CALL open_socket(psockfd, inet, port,
/// host) or CALL open_socket(psockfd, inet, port, host, prefix). The compiler passes the lengths of
/// the texts after the other arguments, so no NUL is needed. Not for C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open_socket_(
    psockfd: *mut c_int,
    inet: *const c_int,
    port: *const c_int,
    host: *const c_char,
    prefix_or_host_size: usize,
    host_size: usize,
    prefix_size: usize,
) {
    // Every valid address is larger than the length of a text (Linux: vm.mmap_min_addr).
    let (prefix, host_size, prefix_size) = if prefix_or_host_size < LOWEST {
        (null(), prefix_or_host_size, 0)
    } else {
        (prefix_or_host_size as *const c_char, host_size, prefix_size)
    };
    // SAFETY: the caller passes valid memory.
    guarded(|| unsafe {
        let host = fortran(host, low_half(host_size));
        let prefix = fortran(prefix, low_half(prefix_size));
        open(psockfd, inet, port, host, prefix);
    });
}

/// Sends all plen bytes of data. Does nothing if plen is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn writebuffer(
    psockfd: *const c_int,
    data: *const c_void,
    plen: *const c_int,
) {
    // SAFETY: the caller passes valid memory.
    guarded(|| unsafe {
        report(buffer(psockfd, plen).and_then(|(socket, len)| {
            let bytes = array(data.cast::<u8>(), len);
            write(socket, bytes.ok_or_else(|| invalid("there is no data"))?)
        }));
    });
}

/// writebuffer() for Fortran programs without an interface.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn writebuffer_(
    psockfd: *const c_int,
    data: *const c_void,
    plen: *const c_int,
) {
    // SAFETY: the caller passes valid memory.
    unsafe { writebuffer(psockfd, data, plen) }
}

/// Reads exactly plen bytes. Does nothing if plen is 0.
///
/// If the stream ends before the first of 12 bytes, the status is FORCEWIRE_CLOSED: it ended
/// between two messages. Anywhere else the status is FORCEWIRE_BROKEN.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn readbuffer(psockfd: *const c_int, data: *mut c_void, plen: *const c_int) {
    // SAFETY: the caller passes valid memory, which may be uninitialized.
    guarded(|| unsafe {
        report(buffer(psockfd, plen).and_then(|(socket, len)| {
            let room = array_mut(data.cast::<MaybeUninit<u8>>(), len);
            let room = room.ok_or_else(|| invalid("there is no room"))?;
            // A program that ignores the error must not take old contents for received data.
            read(socket, room).inspect_err(|_| room.fill(MaybeUninit::new(0xff)))
        }));
    });
}

/// readbuffer() for Fortran programs without an interface.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn readbuffer_(psockfd: *const c_int, data: *mut c_void, plen: *const c_int) {
    // SAFETY: the caller passes valid memory.
    unsafe { readbuffer(psockfd, data, plen) }
}

/// Sets what open_socket(), readbuffer() and writebuffer() do on failure, in all threads:
/// FORCEWIRE_EXIT or FORCEWIRE_CONTINUE.
#[unsafe(no_mangle)]
pub extern "C" fn forcewire_on_error(mode: c_int) {
    guarded(|| ON_ERROR.store(mode, Ordering::Relaxed));
}

/// Returns the status of the first call that failed in this thread since forcewire_clear_error(),
/// with FORCEWIRE_CONTINUE.
#[unsafe(no_mangle)]
pub extern "C" fn forcewire_error() -> forcewire_status_t {
    let status = || {
        first(|failure| {
            failure
                .as_ref()
                .map_or(FORCEWIRE_OK, |failure| failure.status)
        })
    };
    guard(status, || FORCEWIRE_INTERNAL)
}

/// Describes the failure of forcewire_error(), with the peer's name. Writes at most `size` bytes to
/// `text`, including the NUL, and returns `text`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forcewire_error_text(text: *mut c_char, size: usize) -> *const c_char {
    // SAFETY: the caller passes valid memory.
    let print = || unsafe {
        first(|failure| match failure {
            Some(failure) => print(text, size, failure.text()),
            None => print(text, size, "all is well"),
        })
    };
    guard(print, || INTERNAL.as_ptr())
}

/// Clears the failure of this thread.
#[unsafe(no_mangle)]
pub extern "C" fn forcewire_clear_error() {
    guarded(|| first(|failure| *failure = None));
}

/// Sleeps for this many seconds. i-PI's sockets.c has this function, and its fsockets.f90 needs it.
#[unsafe(no_mangle)]
pub extern "C" fn c_sleep(seconds: f64) {
    guarded(|| {
        thread::sleep(match Duration::try_from_secs_f64(seconds) {
            Err(_) if seconds > 0.0 => Duration::MAX,
            duration => duration.unwrap_or_default(),
        })
    });
}

/// Maps a segment of shared memory that i-PI 3.3 created, or returns NULL. i-PI's sockets.c has
/// this function too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shm_map(name: *const c_char, nbytes: c_long) -> *mut c_void {
    use rustix::fs::{Mode, fstat};
    use rustix::mm::{MapFlags, ProtFlags, mmap};
    use rustix::shm::OFlags;

    // SAFETY: the caller passes a valid text.
    let name = unsafe { fortran(name, LONGEST) }.unwrap_or_default();
    let map = || -> io::Result<*mut c_void> {
        let len = usize::try_from(nbytes).map_err(io::Error::other)?;
        let path = [b"/", name].concat();
        let segment = rustix::shm::open(path, OFlags::RDWR, Mode::empty())?;
        if fstat(&segment)?.st_size < nbytes {
            return Err(io::Error::other("the segment is shorter"));
        }
        // SAFETY: the kernel chooses a free range of addresses.
        let memory = unsafe {
            mmap(
                null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                segment,
                0,
            )
        };
        Ok(memory?)
    };
    let map = || {
        map().unwrap_or_else(|error| {
            let name = name.escape_ascii();
            let text = format!("can't map {nbytes} bytes of i-PI's shared memory {name}: {error}");
            report(Err((FORCEWIRE_CONNECTION, text)));
            null_mut()
        })
    };
    guard(map, || {
        report_panic();
        null_mut()
    })
}

/// Unmaps a segment that shm_map() mapped.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shm_unmap(memory: *mut c_void, nbytes: c_long) {
    guarded(|| {
        if let (Ok(len), false) = (usize::try_from(nbytes), memory.is_null()) {
            // SAFETY: the mapping is the caller's, and nothing uses it any more.
            let _ = unsafe { rustix::mm::munmap(memory, len) };
        }
    });
}

/// The longest text that a Fortran program may pass without its length.
const LONGEST: usize = 1024;
/// No memory is mapped below this address.
const LOWEST: usize = 4096;

/// A failure: the status to return, and its text.
type Failure = (forcewire_status_t, String);

static ON_ERROR: AtomicI32 = AtomicI32::new(FORCEWIRE_EXIT);

/// The peer that each descriptor was connected to.
static PEERS: Mutex<Vec<(RawFd, String)>> = Mutex::new(Vec::new());

thread_local! {
    /// The first failure of this thread. The type has no destructor, so destructors of thread-local
    /// variables can still use it.
    static FIRST: Cell<Option<First>> = const { Cell::new(None) };
}

/// A recorded failure.
struct First {
    status: forcewire_status_t,
    text: [u8; 512],
}

impl First {
    fn new((status, text): &Failure) -> Self {
        let mut first = Self {
            status: *status,
            text: [0; 512],
        };
        // SAFETY: there is this much room.
        unsafe { print(first.text.as_mut_ptr().cast(), first.text.len(), text) };
        first
    }

    fn text(&self) -> &str {
        let text = CStr::from_bytes_until_nul(&self.text).unwrap_or_default();
        text.to_str().unwrap_or_default()
    }
}

fn first<T>(look: impl FnOnce(&mut Option<First>) -> T) -> T {
    const { assert!(!core::mem::needs_drop::<First>()) };
    FIRST.with(|cell| {
        let mut first = cell.take();
        let result = look(&mut first);
        cell.set(first);
        result
    })
}

/// Runs the body of a call that returns nothing.
fn guarded(body: impl FnOnce()) {
    guard(body, report_panic);
}

fn report_panic() {
    let text = INTERNAL.to_str().unwrap_or_default();
    report(Err((FORCEWIRE_INTERNAL, text.into())));
}

/// Handles a failure as forcewire_on_error() set.
fn report(result: Result<(), Failure>) {
    let Err(failure) = result else { return };
    if ON_ERROR.load(Ordering::Relaxed) == FORCEWIRE_CONTINUE {
        first(|first| {
            first.get_or_insert_with(|| First::new(&failure));
        });
    } else {
        let (status, text) = failure;
        let _ = writeln!(io::stderr(), "forcewire: {text}");
        process::exit(status as i32);
    }
}

fn invalid(text: &str) -> Failure {
    (FORCEWIRE_INVALID_ARGUMENT, text.into())
}

/// A Fortran text, up to a NUL, without its trailing blanks. At most `most` bytes are read.
///
/// # Safety
///
/// `text` is below the lowest address, or points to `most` bytes or to a NUL before that.
unsafe fn fortran<'a>(text: *const c_char, most: usize) -> Option<&'a [u8]> {
    if text.addr() < LOWEST {
        return None;
    }
    // SAFETY: the caller keeps to the conditions above, and bytes after a NUL are not read.
    let len = (0..most)
        .find(|&at| unsafe { text.add(at).read() } == 0)
        .unwrap_or(most);
    // SAFETY: the loop above has read these bytes.
    unsafe { array(text.cast::<u8>(), len) }.map(<[u8]>::trim_ascii_end)
}

/// gfortran before version 8 and other compilers pass lengths in 4 bytes, so the upper half of the
/// register is undefined.
const fn low_half(size: usize) -> usize {
    size & 0xffff_ffff
}

/// # Safety
///
/// The pointers are NULL or the caller's memory.
unsafe fn open(
    psockfd: *mut c_int,
    inet: *const c_int,
    port: *const c_int,
    host: Option<&[u8]>,
    prefix: Option<&[u8]>,
) {
    // SAFETY: the caller keeps to the conditions above.
    let (descriptor, inet, port) = unsafe { (psockfd.as_mut(), inet.as_ref(), port.as_ref()) };
    let (Some(descriptor), Some(&inet), Some(&port), Some(host)) = (descriptor, inet, port, host)
    else {
        return report(Err(invalid(
            "open_socket needs psockfd, inet, port and host",
        )));
    };
    let prefix = prefix.unwrap_or(Address::PREFIX.as_bytes());
    *descriptor = -1;
    report(connect(inet > 0, port, host, prefix).map(|(socket, peer)| {
        *descriptor = socket;
        let mut peers = PEERS.lock().unwrap_or_else(PoisonError::into_inner);
        // An earlier socket with this number has been closed.
        peers.retain(|(number, _)| *number != socket);
        peers.push((socket, peer));
    }));
}

/// Connects, and names the peer.
fn connect(
    inet: bool,
    port: c_int,
    host: &[u8],
    prefix: &[u8],
) -> Result<(RawFd, String), Failure> {
    let address = if inet {
        let (Ok(host), Ok(port)) = (str::from_utf8(host), u16::try_from(port)) else {
            let host = host.escape_ascii();
            return Err(invalid(&format!(
                "no connection to {host}, port {port}: there is no such port or name"
            )));
        };
        Address::tcp(host, port)
    } else {
        Address::Unix(OsStr::from_bytes(&[prefix, host].concat()).into())
    };
    // A single attempt, as in sockets.c, and no deadlines: readbuffer() and writebuffer() have none
    // either.
    let options = ConnectOptions::new()
        .connect(Duration::ZERO)
        .deadlines(Deadlines::NONE)
        .keep_alive(None);
    match connect_with(&address, options, |_, _| {}) {
        Ok(stream) => Ok((OwnedFd::from(stream).into_raw_fd(), address.to_string())),
        Err(error) => {
            let (status, hint) = match error.kind() {
                ErrorKind::InvalidInput => (FORCEWIRE_INVALID_ARGUMENT, ""),
                ErrorKind::TimedOut => (FORCEWIRE_TIMED_OUT, ""),
                ErrorKind::ConnectionRefused | ErrorKind::NotFound => {
                    (FORCEWIRE_CONNECTION, ": start the server first")
                }
                _ => (FORCEWIRE_CONNECTION, ""),
            };
            Err((status, format!("{error}{hint}")))
        }
    }
}

/// The descriptor and the length from the caller's pointers.
///
/// # Safety
///
/// The pointers are NULL or the caller's memory. The descriptor stays open during the call.
unsafe fn buffer<'a>(
    psockfd: *const c_int,
    plen: *const c_int,
) -> Result<(BorrowedFd<'a>, usize), Failure> {
    // SAFETY: the caller keeps to the conditions above.
    let (Some(&socket), Some(&len)) = (unsafe { (psockfd.as_ref(), plen.as_ref()) }) else {
        return Err(invalid("there is no descriptor or no length"));
    };
    let Ok(len) = usize::try_from(len) else {
        let text = format!(
            "a buffer of {len} bytes was to be moved: count in 4-byte integers, at most 2^31 - 1 \
             bytes"
        );
        return Err(invalid(&text));
    };
    if socket < 0 {
        return Err(invalid(&format!(
            "descriptor {socket} is no connection: open_socket failed, or was not called"
        )));
    }
    // SAFETY: the caller keeps to the conditions above, and -1 is excluded.
    Ok((unsafe { BorrowedFd::borrow_raw(socket) }, len))
}

fn write(socket: BorrowedFd<'_>, bytes: &[u8]) -> Result<(), Failure> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match retry_on_intr(|| send(socket, rest, NO_SIGNAL)) {
            Ok(n) => rest = rest.get(n..).unwrap_or_default(),
            Err(error) => {
                let sent = bytes.len() - rest.len();
                return Err(lost(socket, error, sent, bytes.len(), "sent"));
            }
        }
    }
    Ok(())
}

fn read(socket: BorrowedFd<'_>, buffer: &mut [MaybeUninit<u8>]) -> Result<(), Failure> {
    let len = buffer.len();
    let mut at = 0;
    while at < len {
        let midway = at > 0 || len != HEADER;
        let room = buffer.get_mut(at..).unwrap_or_default();
        match receive(socket, room, midway) {
            Ok(0) if midway => {
                let text = format!(
                    "{} closed the connection in the middle of a message, after {at} of {len} \
                     bytes: it ended or gave up waiting, its own output may tell why",
                    peer(socket)
                );
                return Err((FORCEWIRE_BROKEN, text));
            }
            Ok(0) => {
                let text = format!(
                    "{} closed the connection between two messages, after 0 of {len} bytes: it has \
                     ended, or has no more work for this driver",
                    peer(socket)
                );
                return Err((FORCEWIRE_CLOSED, text));
            }
            Ok(n) => at += n,
            Err(error) => return Err(lost(socket, error, at, len, "received")),
        }
    }
    Ok(())
}

/// Reads some bytes; 0 if the peer has closed its side.
///
/// A peer without `TCP_NODELAY` holds the rest of a message back until its beginning is
/// acknowledged, which the kernel delays by 40 ms unless `TCP_QUICKACK` is set again each time.
/// That call pays only if this one would wait.
fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [MaybeUninit<u8>],
    midway: bool,
) -> Result<usize, Errno> {
    let mut take = |flags| recv(socket, &mut *buffer, flags).map(|(_, n)| n);
    if midway {
        match retry_on_intr(|| take(RecvFlags::DONTWAIT)) {
            Err(Errno::AGAIN) => {}
            result => return result,
        }
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let _ = rustix::net::sockopt::set_tcp_quickack(socket, true);
    }
    retry_on_intr(|| take(RecvFlags::empty()))
}

fn lost(socket: BorrowedFd<'_>, error: Errno, moved: usize, len: usize, how: &str) -> Failure {
    let peer = peer(socket);
    if error == Errno::AGAIN {
        let text = format!(
            "{peer} sent or took nothing for too long, after {moved} of {len} bytes were {how}: is \
             it still running?"
        );
        return (FORCEWIRE_TIMED_OUT, text);
    }
    let error = io::Error::from(error);
    let text =
        format!("connection to {peer} lost after {moved} of {len} bytes were {how}: {error}");
    (FORCEWIRE_CONNECTION, text)
}

/// The peer's name.
fn peer(socket: BorrowedFd<'_>) -> String {
    use std::os::fd::AsRawFd;

    let number = socket.as_raw_fd();
    let peers = PEERS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, peer)) = peers.iter().find(|(socket, _)| *socket == number) {
        return peer.clone();
    }
    // rustix's getpeername would assert the form of the address.
    let copy = socket.try_clone_to_owned().map(TcpStream::from);
    match copy.and_then(|copy| copy.peer_addr()) {
        Ok(address) => format!("{address}"),
        Err(_) => format!("the peer at descriptor {number}"),
    }
}

/// A peer that has gone causes an error instead of a signal that ends the program.
#[cfg(not(target_vendor = "apple"))]
const NO_SIGNAL: SendFlags = SendFlags::NOSIGNAL;
/// On these systems std sets a socket option for that.
#[cfg(target_vendor = "apple")]
const NO_SIGNAL: SendFlags = SendFlags::empty();
