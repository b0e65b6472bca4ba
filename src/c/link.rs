//! The connection of a handle: the caller's functions, or a socket.

use core::ffi::{c_int, c_void};

use forcewire::blocking::Transport;
use forcewire::{Error, Wait};

use crate::status::Fault;

/// A connection that the caller has made, for instance over a serial line, lwIP or TLS.
///
/// `recv` and `send` move at least one byte and return how many they moved. `recv` returns 0 after
/// the peer has closed its side. A negative number is an error: the library's call then returns
/// FORCEWIRE_CONNECTION, or FORCEWIRE_TIMED_OUT if the number is -FORCEWIRE_TIMED_OUT. After
/// FORCEWIRE_TIMED_OUT the same call with the same arguments continues where it stopped.
///
/// `owed` is true if a silent peer is late: it is in the middle of a message, or owes an answer
/// that needs no computation.
///
/// `flush` may be NULL. Otherwise the library calls it at the end of each message, and `send` may
/// keep the pieces until then. It returns 0 on success. Without it each piece becomes a separate
/// TCP segment, and i-PI drops a driver whose answer to STATUS arrives in two.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct forcewire_transport_t {
    /// The first argument of the functions.
    pub context: *mut c_void,
    pub recv: Option<
        unsafe extern "C" fn(
            context: *mut c_void,
            bytes: *mut c_void,
            size: usize,
            owed: bool,
        ) -> isize,
    >,
    pub send: Option<
        unsafe extern "C" fn(context: *mut c_void, bytes: *const c_void, size: usize) -> isize,
    >,
    pub flush: Option<unsafe extern "C" fn(context: *mut c_void) -> c_int>,
}

pub enum Link {
    None,
    Functions(forcewire_transport_t),
    #[cfg(feature = "std")]
    Stream(std::boxed::Box<forcewire::net::Stream>),
}

/// Checks the result of a function that was given `size` bytes.
fn moved(n: isize, size: usize) -> Result<usize, Fault> {
    match usize::try_from(n) {
        Ok(n) if n <= size => Ok(n),
        _ => Err(Fault::Code(n)),
    }
}

/// Adds the peer's name to the error.
#[cfg(feature = "std")]
fn io(stream: &forcewire::net::Stream, error: Error<std::io::Error>) -> Error<Fault> {
    match error {
        Error::TimedOut(late) => {
            let text = std::format!("{}: {late}", stream.peer());
            let error = std::io::Error::new(std::io::ErrorKind::TimedOut, text);
            Error::Transport(Fault::Io(error))
        }
        error => error.map_transport(Fault::Io),
    }
}

#[cfg_attr(not(feature = "std"), allow(unused_variables))] // only sockets use all of `wait`
impl Transport for Link {
    type Error = Fault;

    fn read(&mut self, buffer: &mut [u8], wait: &Wait) -> Result<usize, Error<Fault>> {
        let size = buffer.len();
        match self {
            Self::Functions(forcewire_transport_t {
                context,
                recv: Some(recv),
                ..
            }) => {
                // SAFETY: the caller's function gets room for exactly `size` bytes.
                let n = unsafe { recv(*context, buffer.as_mut_ptr().cast(), size, wait.owed()) };
                moved(n, size).map_err(Error::Transport)
            }
            #[cfg(feature = "std")]
            Self::Stream(stream) => stream.read(buffer, wait).map_err(|error| io(stream, error)),
            _ => Err(Error::Transport(Fault::Code(0))),
        }
    }

    fn write(&mut self, bytes: &[u8], wait: &Wait) -> Result<usize, Error<Fault>> {
        let size = bytes.len();
        match self {
            Self::Functions(forcewire_transport_t {
                context,
                send: Some(send),
                ..
            }) => {
                // SAFETY: the caller's function gets exactly `size` bytes.
                let n = unsafe { send(*context, bytes.as_ptr().cast(), size) };
                moved(n, size).map_err(Error::Transport)
            }
            #[cfg(feature = "std")]
            Self::Stream(stream) => stream.write(bytes, wait).map_err(|error| io(stream, error)),
            _ => Err(Error::Transport(Fault::Code(0))),
        }
    }

    fn flush(&mut self, wait: &Wait) -> Result<(), Error<Fault>> {
        match self {
            Self::Functions(forcewire_transport_t {
                context,
                flush: Some(flush),
                ..
            }) => {
                // SAFETY: the caller passes a valid function.
                match unsafe { flush(*context) } {
                    0 => Ok(()),
                    code => Err(Error::Transport(Fault::Code(code as isize))),
                }
            }
            #[cfg(feature = "std")]
            Self::Stream(stream) => stream.flush(wait).map_err(|error| io(stream, error)),
            _ => Ok(()),
        }
    }

    #[cfg(feature = "std")]
    fn lends(&mut self, array: &[u8]) -> bool {
        match self {
            Self::Stream(stream) => stream.lends(array),
            _ => false,
        }
    }

    #[cfg(feature = "std")]
    fn flush_with(&mut self, array: &[u8], wait: &Wait) -> Result<(), Error<Fault>> {
        match self {
            Self::Stream(stream) => stream
                .flush_with(array, wait)
                .map_err(|error| io(stream, error)),
            _ => self.flush(wait),
        }
    }

    #[cfg(feature = "std")]
    fn exchange_done(&mut self) {
        if let Self::Stream(stream) = self {
            stream.exchange_done();
        }
    }
}
