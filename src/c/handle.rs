//! Handles: their memory and contents.

use core::ffi::c_char;
use core::fmt;

use embedded_io::{Error as _, ErrorKind};
use forcewire::blocking::Transport;
use forcewire::{Driver, Error, Exchange, Server, Step, blocking};

use crate::guard::guard;
use crate::link::{Link, forcewire_transport_t};
use crate::memory::print;
use crate::status::forcewire_status_t::{self, *};
use crate::status::{Failure, Fault, INTERNAL};
use crate::unfinished::Unfinished;

/// The size of a handle in words of 8 bytes. A 32-bit machine or a build without sockets uses less
/// of it.
pub const FORCEWIRE_HANDLE: usize = 192;

/// A driver: the side that computes forces, and its connection to a server.
///
/// The caller provides the memory, for instance on the stack; the library owns its contents. Only
/// one thread may use a handle at a time; different handles share nothing. A handle must not be
/// copied.
#[repr(C)]
pub struct forcewire_driver_t {
    pub memory: [u64; FORCEWIRE_HANDLE],
}

/// A server: the side that asks for forces, and its connection to one driver.
///
/// The caller provides the memory, for instance on the stack; the library owns its contents. Only
/// one thread may use a handle at a time; different handles share nothing. A handle must not be
/// copied.
#[repr(C)]
pub struct forcewire_server_t {
    pub memory: [u64; FORCEWIRE_HANDLE],
}

/// Allow the number of atoms to change from one structure to the next.
pub const FORCEWIRE_CHANGING_ATOMS: u32 = 4;
/// Allow infinite numbers and NaN, in both directions.
pub const FORCEWIRE_NOT_FINITE_TOO: u32 = 8;

/// A protocol machine, its connection, and the last error.
#[repr(C)]
pub struct Handle<M: Machine> {
    /// The first field: distinguishes a handle from zeroed memory and from a handle of the other
    /// kind.
    mark: u32,
    link: Link,
    failure: Failure,
    pub machine: M,
    pub kept: M::Kept,
}

/// A protocol machine: a driver or a server.
pub trait Machine: Sized {
    const MARK: u32;

    /// State to keep between two calls, besides the machine.
    type Kept: Default;

    /// Resets the machine for the next connection.
    fn renew(&mut self);

    /// Called before the connection is closed.
    fn leave(handle: &mut Handle<Self>);
}

impl Machine for Driver {
    const MARK: u32 = u32::from_le_bytes(*b"fwDr");

    type Kept = Unfinished;

    fn renew(&mut self) {
        self.reset();
    }

    fn leave(handle: &mut Handle<Self>) {
        handle.leave();
    }
}

impl Machine for Server {
    const MARK: u32 = u32::from_le_bytes(*b"fwSe");

    type Kept = ();

    fn renew(&mut self) {
        self.reset();
    }

    fn leave(_: &mut Handle<Self>) {}
}

impl<M: Machine> Handle<M> {
    const FITS: () = assert!(
        size_of::<Self>() <= 8 * FORCEWIRE_HANDLE && align_of::<Self>() <= 8,
        "FORCEWIRE_HANDLE is too small"
    );

    /// Writes a new handle to the caller's memory and overwrites what it held.
    ///
    /// # Safety
    ///
    /// `memory` is NULL or points to a handle's memory, which nothing else uses.
    pub unsafe fn put<S>(memory: *mut S, machine: M) -> forcewire_status_t {
        const { Self::FITS };
        let memory = memory.cast::<Self>();
        if memory.is_null() || !memory.is_aligned() {
            return FORCEWIRE_INVALID_ARGUMENT;
        }
        let handle = Self {
            mark: M::MARK,
            link: Link::None,
            failure: Failure::None,
            machine,
            kept: M::Kept::default(),
        };
        // SAFETY: the memory is not NULL and large enough for a handle.
        unsafe { memory.write(handle) };
        FORCEWIRE_OK
    }

    /// The handle in the caller's memory, if there is one.
    ///
    /// # Safety
    ///
    /// `memory` is NULL or points to a handle's memory, which either [`put`](Self::put) has filled
    /// or does not begin with a handle's mark. Nothing else uses it during the lifetime of the
    /// reference.
    pub unsafe fn of<'a, S>(memory: *mut S) -> Option<&'a mut Self> {
        let memory = memory.cast::<Self>();
        if memory.is_null() || !memory.is_aligned() {
            return None;
        }
        // SAFETY: the memory begins with the mark, for which every bit pattern is valid.
        if unsafe { memory.cast::<u32>().read() } != M::MARK {
            return None;
        }
        // SAFETY: only `put` sets the mark.
        Some(unsafe { &mut *memory })
    }

    /// Connects to a new peer through this link.
    pub fn attach(&mut self, link: Link) {
        // If the old link is the caller's functions, don't call them: they may already belong to
        // the new connection, or be gone.
        #[cfg(feature = "std")]
        if let Link::Stream(_) = self.link {
            M::leave(self);
        }
        self.link = link;
        self.failure = Failure::None;
        self.machine.renew();
        self.kept = M::Kept::default();
    }

    /// Runs an exchange to its end.
    pub fn run<'a, T: Exchange>(
        &'a mut self,
        exchange: impl FnOnce(&'a mut M) -> T,
    ) -> Result<T::Output, forcewire_status_t> {
        let Self {
            link,
            failure,
            machine,
            ..
        } = self;
        if let Link::None = link {
            *failure = Failure::NotConnected;
            return Err(failure.status());
        }
        let result = blocking::run(link, exchange(machine));
        result
            .inspect(|_| *failure = Failure::None)
            .map_err(|error| {
                *failure = Failure::Exchange(error);
                failure.status()
            })
    }

    pub fn fail(&mut self, failure: Failure) -> forcewire_status_t {
        self.failure = failure;
        self.failure.status()
    }

    /// Fails with an invalid argument.
    pub fn refuse(&mut self, why: &'static str) -> forcewire_status_t {
        self.fail(Failure::InvalidArgument(why))
    }

    /// Closes the connection after a panic in a call on this handle, whose state is then unknown.
    fn break_off(&mut self) -> forcewire_status_t {
        self.link = Link::None;
        self.kept = M::Kept::default();
        self.fail(Failure::Internal)
    }

    pub const fn failure(&self) -> &Failure {
        &self.failure
    }
}

impl Handle<Driver> {
    /// Reads what the server sent with positions that will get no reply, before the connection is
    /// closed. After a time-out the call does not wait for the server again.
    pub fn drain(&mut self) {
        if core::mem::replace(&mut self.kept.drained, true) {
            return;
        }
        let mut drain = self.machine.drain();
        let wait = drain.waits_for();
        // The loop of `blocking::run`, without writes and flushes.
        while let Ok(Step::Read(bytes)) = drain.step() {
            match self.link.read(bytes, &wait) {
                Err(Error::Transport(fault)) if fault.kind() == ErrorKind::Interrupted => {}
                Ok(n) if n > 0 => drain.advance(n),
                // The server is late or has gone, so no unread bytes remain that would reset the
                // connection.
                _ => break,
            }
        }
    }

    /// Reads what the server has sent. After a time-out, or once the connection is lost, reads only
    /// what has already arrived.
    fn leave(&mut self) {
        match &self.failure {
            Failure::Exchange(Error::TimedOut(_) | Error::Transport(_)) => {
                #[cfg(feature = "std")]
                if let Link::Stream(stream) = &mut self.link {
                    let _ = stream.poll(self.machine.drain());
                }
            }
            _ => self.drain(),
        }
    }
}

/// The last error, with the peer's name.
impl<M: Machine> fmt::Display for Handle<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[cfg(feature = "std")]
        if let (Link::Stream(stream), Failure::Closed | Failure::Exchange(Error::Protocol(_))) =
            (&self.link, &self.failure)
        {
            write!(f, "{}: ", stream.peer())?;
        }
        self.failure.fmt(f)
    }
}

/// Runs the body of a call on a handle. After a panic it closes the connection and returns
/// FORCEWIRE_INTERNAL.
///
/// # Safety
///
/// The conditions of [`Handle::of`] hold once the body's references have ended.
#[inline(always)]
pub unsafe fn guarded<M: Machine, S>(
    memory: *mut S,
    body: impl FnOnce() -> forcewire_status_t,
) -> forcewire_status_t {
    guard(body, || {
        // SAFETY: the caller keeps to the conditions above.
        unsafe { Handle::<M>::of(memory) }.map_or(FORCEWIRE_INTERNAL, Handle::break_off)
    })
}

/// Connects a handle through the caller's functions.
///
/// # Safety
///
/// The conditions of [`Handle::of`] hold; `transport` is NULL or can be read.
pub unsafe fn attach<M: Machine, S>(
    memory: *mut S,
    transport: *const forcewire_transport_t,
) -> forcewire_status_t {
    // SAFETY: the caller keeps to the conditions above.
    let (Some(handle), transport) = (unsafe { (Handle::<M>::of(memory), transport.as_ref()) })
    else {
        return FORCEWIRE_INVALID_ARGUMENT;
    };
    match transport {
        Some(transport) if transport.recv.is_some() && transport.send.is_some() => {
            handle.attach(Link::Functions(*transport));
            FORCEWIRE_OK
        }
        _ => handle.refuse("a transport needs the functions recv and send"),
    }
}

/// Ends the connection.
///
/// # Safety
///
/// The conditions of [`Handle::of`] hold.
pub unsafe fn close<M: Machine, S>(memory: *mut S) -> forcewire_status_t {
    // SAFETY: the caller keeps to the conditions above.
    match unsafe { Handle::<M>::of(memory) } {
        Some(handle) => {
            M::leave(handle);
            handle.link = Link::None;
            handle.failure = Failure::None;
            handle.kept = M::Kept::default();
            FORCEWIRE_OK
        }
        None => FORCEWIRE_INVALID_ARGUMENT,
    }
}

/// Describes the last error.
///
/// # Safety
///
/// The conditions of [`Handle::of`] and [`print`] hold.
pub unsafe fn error<M: Machine, S>(
    memory: *const S,
    text: *mut c_char,
    size: usize,
) -> *const c_char {
    let print = || {
        // SAFETY: the caller keeps to the conditions above.
        unsafe {
            match Handle::<M>::of(memory.cast_mut()) {
                Some(handle) => print(text, size, handle),
                None => print(text, size, "the handle is NULL or was never initialized"),
            }
        }
    };
    guard(print, || INTERNAL.as_ptr())
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Exchange(Error::Transport(fault))
    }
}
