//! Handles: their memory, and what the library keeps in it.

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

/// Words of 8 bytes in a handle. On a 32-bit machine, and without sockets, less of it is used.
pub const FORCEWIRE_HANDLE: usize = 192;

/// A driver: the side that computes forces, and its connection to a server.
///
/// Lives in the caller's memory, for instance on the stack; the library owns what is in it. Only
/// one thread may use a handle at a time; different handles share nothing. A handle must not be
/// copied.
#[repr(C)]
pub struct forcewire_driver_t {
    pub memory: [u64; FORCEWIRE_HANDLE],
}

/// A server: the side that asks for forces, and its connection to one driver.
///
/// Lives in the caller's memory, for instance on the stack; the library owns what is in it. Only
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

/// A machine, its connection, and the last error.
#[repr(C)]
pub struct Handle<M: Machine> {
    /// Distinguishes a handle from zeroed memory and from a handle of the other kind. Comes first.
    mark: u32,
    link: Link,
    failure: Failure,
    pub machine: M,
    pub kept: M::Kept,
}

/// A machine of the protocol: a driver or a server.
pub trait Machine: Sized {
    const MARK: u32;

    /// The state between two calls, besides the machine.
    type Kept: Default;

    /// Resets it for the next connection.
    fn renew(&mut self);

    /// What it does before its connection is closed.
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

    /// Puts a handle into the caller's memory, whatever that held.
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
        // SAFETY: there is memory for it.
        unsafe { memory.write(handle) };
        FORCEWIRE_OK
    }

    /// The handle in the caller's memory, if there is one.
    ///
    /// # Safety
    ///
    /// `memory` is NULL or points to a handle's memory, which [`put`](Self::put) has filled or
    /// which is set to anything else, and nothing else uses it as long as the reference is used.
    pub unsafe fn of<'a, S>(memory: *mut S) -> Option<&'a mut Self> {
        let memory = memory.cast::<Self>();
        if memory.is_null() || !memory.is_aligned() {
            return None;
        }
        // SAFETY: the memory is there; the mark is first in it and may have any value.
        if unsafe { memory.cast::<u32>().read() } != M::MARK {
            return None;
        }
        // SAFETY: only `put` sets the mark.
        Some(unsafe { &mut *memory })
    }

    /// Connects to a new peer through this.
    pub fn attach(&mut self, link: Link) {
        // The caller's functions may be those of the new connection, or gone with the old one.
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

    /// An argument is invalid.
    pub fn refuse(&mut self, why: &'static str) -> forcewire_status_t {
        self.fail(Failure::InvalidArgument(why))
    }

    /// The library has panicked in a call on this handle: nothing can be known of its state.
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
    /// Reads what the server has sent with positions that will get no reply, before the connection
    /// is closed. A server that was late is not waited for again.
    pub fn drain(&mut self) {
        if core::mem::replace(&mut self.kept.drained, true) {
            return;
        }
        let mut drain = self.machine.drain();
        let wait = drain.waits_for();
        // As `blocking::run` does, without its writes and flushes.
        while let Ok(Step::Read(bytes)) = drain.step() {
            match self.link.read(bytes, &wait) {
                Err(Error::Transport(fault)) if fault.kind() == ErrorKind::Interrupted => {}
                Ok(n) if n > 0 => drain.advance(n),
                // The server is late or has gone: there is nothing to reset.
                _ => break,
            }
        }
    }

    /// Reads what the server has sent. After a time-out, or once the connection is lost, only what
    /// is here already.
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

/// Runs the body of a call on a handle. If it panics, the connection is closed and the status is
/// FORCEWIRE_INTERNAL.
///
/// # Safety
///
/// As [`Handle::of`], after the body's references have ended.
#[inline(always)]
pub unsafe fn guarded<M: Machine, S>(
    memory: *mut S,
    body: impl FnOnce() -> forcewire_status_t,
) -> forcewire_status_t {
    guard(body, || {
        // SAFETY: the caller's word.
        unsafe { Handle::<M>::of(memory) }.map_or(FORCEWIRE_INTERNAL, Handle::break_off)
    })
}

/// Connects a handle through the caller's functions.
///
/// # Safety
///
/// That of [`Handle::of`]; `transport` is NULL or can be read.
pub unsafe fn attach<M: Machine, S>(
    memory: *mut S,
    transport: *const forcewire_transport_t,
) -> forcewire_status_t {
    // SAFETY: the caller's word.
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
/// That of [`Handle::of`].
pub unsafe fn close<M: Machine, S>(memory: *mut S) -> forcewire_status_t {
    // SAFETY: the caller's word.
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
/// That of [`Handle::of`] and of [`print`].
pub unsafe fn error<M: Machine, S>(
    memory: *const S,
    text: *mut c_char,
    size: usize,
) -> *const c_char {
    let print = || {
        // SAFETY: the caller's word.
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
