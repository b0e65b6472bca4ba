//! What a handle speaks through: functions of the caller's, or a socket.

use core::ffi::{c_int, c_void};

use forcewire::blocking::Transport;
use forcewire::{Error, Wait};

use crate::status::Fault;

/// A connection that the caller has made: over a serial line, lwIP, TLS.
///
/// `recv` and `send` move some bytes, at least one, and say how many those were. `recv` returns 0 when the peer has
/// closed its side. A negative number is an error, which ends the call that was under way with FORCEWIRE_CONNECTION,
/// or with FORCEWIRE_TIMED_OUT if it is -FORCEWIRE_TIMED_OUT; made again with the same arguments the call goes on
/// where it stopped.
///
/// `owed` tells recv that the peer is late if it stays silent: it is in the middle of a message, or has been asked
/// something that it need not compute.
///
/// `flush` may be NULL. Otherwise it is called, and returns 0, when a message is whole: `send` may keep the pieces
/// until then. Over TCP each piece is a segment of its own else, and i-PI drops a driver whose answer to STATUS comes
/// in two.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct forcewire_transport_t {
    /// Is handed to the functions.
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

/// What a function said of so many bytes.
fn moved(n: isize, size: usize) -> Result<usize, Fault> {
    match usize::try_from(n) {
        Ok(n) if n <= size => Ok(n),
        _ => Err(Fault::Code(n)),
    }
}

#[cfg(feature = "std")]
fn io(error: Error<std::io::Error>) -> Error<Fault> {
    error.map_transport(Fault::Io)
}

#[cfg_attr(not(feature = "std"), allow(unused_variables))] // functions of the caller's are told less
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
                // SAFETY: the caller's function, and room for as many bytes as we say.
                let n = unsafe { recv(*context, buffer.as_mut_ptr().cast(), size, wait.owed()) };
                moved(n, size).map_err(Error::Transport)
            }
            #[cfg(feature = "std")]
            Self::Stream(stream) => stream.read(buffer, wait).map_err(io),
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
                // SAFETY: the caller's function, and as many bytes as we say.
                let n = unsafe { send(*context, bytes.as_ptr().cast(), size) };
                moved(n, size).map_err(Error::Transport)
            }
            #[cfg(feature = "std")]
            Self::Stream(stream) => stream.write(bytes, wait).map_err(io),
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
                // SAFETY: the caller's function.
                match unsafe { flush(*context) } {
                    0 => Ok(()),
                    code => Err(Error::Transport(Fault::Code(code as isize))),
                }
            }
            #[cfg(feature = "std")]
            Self::Stream(stream) => stream.flush(wait).map_err(io),
            _ => Ok(()),
        }
    }

    #[cfg(feature = "std")]
    fn exchange_done(&mut self) {
        if let Self::Stream(stream) = self {
            stream.exchange_done();
        }
    }
}
