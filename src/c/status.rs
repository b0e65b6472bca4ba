//! The statuses that calls return, with their texts.

use core::ffi::{CStr, c_char, c_int};
use core::fmt;

use embedded_io::ErrorKind;
use forcewire::{Error, ProtocolError};

use crate::guard::guard;

/// What a call returns. forcewire_driver_error() and the like return a text with the peer's name
/// and what to do.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum forcewire_status_t {
    /// No error.
    FORCEWIRE_OK = 0,
    /// An argument is invalid: NULL, a length that does not fit, a cell without a volume. The call
    /// did nothing.
    FORCEWIRE_INVALID_ARGUMENT = 1,
    /// The handle is not connected.
    FORCEWIRE_NOT_CONNECTED = 2,
    /// The peer closed the connection between two messages. ASE's server ends this way.
    FORCEWIRE_CLOSED = 3,
    /// The peer closed the connection in the middle of a message.
    FORCEWIRE_BROKEN = 4,
    /// The peer sent or accepted nothing for too long. Repeat the call with the same arguments: it
    /// continues where it stopped.
    FORCEWIRE_TIMED_OUT = 5,
    /// There is no connection, or it was lost.
    FORCEWIRE_CONNECTION = 6,
    /// The peer violated the protocol. Close the connection.
    FORCEWIRE_PROTOCOL = 7,
    /// The call does not fit the state of the conversation, or an unfinished call has to be
    /// repeated first, with the same arrays. The call did nothing.
    FORCEWIRE_OUT_OF_TURN = 8,
    /// The peer announced more atoms than there is room for. Repeat the call with longer arrays, or
    /// close the connection.
    FORCEWIRE_NO_ROOM = 9,
    /// A number is infinite or NaN.
    FORCEWIRE_NOT_FINITE = 10,
    /// The potential failed. No reply was sent: close the connection.
    FORCEWIRE_POTENTIAL = 11,
    /// The number of atoms differs from that of the previous structure. FORCEWIRE_CHANGING_ATOMS
    /// would allow this.
    FORCEWIRE_ATOMS_CHANGED = 12,
    /// The library failed internally and closed the connection. This is a defect of forcewire:
    /// please report it, with the lines on the error output.
    FORCEWIRE_INTERNAL = 13,
}

use forcewire_status_t::*;

/// The text of FORCEWIRE_INTERNAL.
pub const INTERNAL: &CStr =
    c"forcewire failed internally, which is a defect of the library: please report it, with the \
    lines on the error output; the connection is closed";

/// Describes a status in a few words. Never returns NULL.
#[unsafe(no_mangle)]
pub extern "C" fn forcewire_strerror(status: c_int) -> *const c_char {
    /// The descriptions, indexed by status.
    const MEANING: [&CStr; 14] = [
        c"all is well",
        c"an argument is invalid",
        c"the handle is not connected",
        c"the peer closed the connection between two messages",
        c"the peer closed the connection in the middle of a message",
        c"the peer sent or took nothing for too long",
        c"there is no connection, or it was lost",
        c"the peer does not keep to the protocol",
        c"the call is out of turn",
        c"the peer sends more atoms than there is room for",
        c"there are infinite numbers or NaN",
        c"the potential failed",
        c"the number of atoms has changed",
        INTERNAL,
    ];
    let meaning = || {
        let index = usize::try_from(status).ok();
        let meaning = index.and_then(|index| MEANING.get(index));
        meaning.map_or(c"forcewire has no such status", |meaning| *meaning)
    };
    guard(meaning, || INTERNAL).as_ptr()
}

/// Why a call failed.
#[derive(Debug)]
pub enum Failure {
    /// No call has failed.
    None,
    InvalidArgument(&'static str),
    NotConnected,
    /// The peer has gone, which is no fault of this side.
    Closed,
    Exchange(Error<Fault>),
    /// The caller's potential returned this number.
    Potential(c_int),
    /// An earlier call began the reply with other arrays.
    OtherArrays,
    /// The library has panicked.
    Internal,
}

/// The number that the caller's functions return after a time-out.
const TIMED_OUT: isize = -(FORCEWIRE_TIMED_OUT as isize);

/// Why a connection failed.
#[derive(Debug)]
pub enum Fault {
    /// The caller's function returned this number.
    Code(isize),
    #[cfg(feature = "std")]
    Io(std::io::Error),
}

impl Failure {
    pub fn status(&self) -> forcewire_status_t {
        match self {
            Self::None => FORCEWIRE_OK,
            Self::InvalidArgument(_) => FORCEWIRE_INVALID_ARGUMENT,
            Self::NotConnected => FORCEWIRE_NOT_CONNECTED,
            Self::Closed => FORCEWIRE_CLOSED,
            Self::Internal => FORCEWIRE_INTERNAL,
            Self::OtherArrays => FORCEWIRE_OUT_OF_TURN,
            Self::Potential(_) | Self::Exchange(Error::Potential(_)) => FORCEWIRE_POTENTIAL,
            Self::Exchange(Error::TimedOut(_) | Error::Transport(Fault::Code(TIMED_OUT))) => {
                FORCEWIRE_TIMED_OUT
            }
            #[cfg(feature = "std")]
            Self::Exchange(Error::Transport(Fault::Io(error)))
                if error.kind() == std::io::ErrorKind::TimedOut =>
            {
                FORCEWIRE_TIMED_OUT
            }
            Self::Exchange(Error::Protocol(error)) => match error {
                ProtocolError::TooManyAtoms { .. } | ProtocolError::TooManyStructures { .. } => {
                    FORCEWIRE_NO_ROOM
                }
                ProtocolError::AtomsChanged { .. } => FORCEWIRE_ATOMS_CHANGED,
                ProtocolError::NotFinite(_) => FORCEWIRE_NOT_FINITE,
                ProtocolError::EndOfStream { .. } => FORCEWIRE_BROKEN,
                ProtocolError::Unanswered(_) => FORCEWIRE_CLOSED,
                ProtocolError::NothingToReplyTo
                | ProtocolError::InvalidStatus { .. }
                | ProtocolError::Unfinished(_)
                | ProtocolError::ReplyDue
                | ProtocolError::Drained
                | ProtocolError::AnswerDue => FORCEWIRE_OUT_OF_TURN,
                ProtocolError::WrongLength { .. }
                | ProtocolError::TextTooLong(_)
                | ProtocolError::SingularCell
                | ProtocolError::NotUpperTriangular => FORCEWIRE_INVALID_ARGUMENT,
                _ => FORCEWIRE_PROTOCOL,
            },
            Self::Exchange(_) => FORCEWIRE_CONNECTION,
        }
    }
}

impl Failure {
    /// The protocol error of a failed conversation, if it is one.
    pub const fn protocol(&self) -> Option<ProtocolError> {
        match self {
            Self::Exchange(Error::Protocol(error)) => Some(*error),
            _ => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("all is well"),
            Self::InvalidArgument(text) => f.write_str(text),
            Self::NotConnected => f.write_str("the handle is not connected: connect or attach it"),
            Self::Closed => f.write_str(
                "the server closed the connection between two messages: it has ended, or has no \
                 more work for this driver",
            ),
            Self::Exchange(error) => error.fmt(f),
            Self::OtherArrays => f.write_str(
                "a reply was begun with other arrays, or the forces have changed: make the call \
                 again with those, or call forcewire_driver_reply(), or close the connection",
            ),
            Self::Internal => f.write_str(INTERNAL.to_str().unwrap_or_default()),
            Self::Potential(code) => write!(
                f,
                "the potential returned {code}: no reply was sent, close the connection"
            ),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(TIMED_OUT) => {
                f.write_str("the peer sent or took nothing for too long: is it still running?")
            }
            Self::Code(code) => write!(f, "the connection failed: its function returned {code}"),
            #[cfg(feature = "std")]
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for Fault {}

impl embedded_io::Error for Fault {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Code(_) => ErrorKind::Other,
            #[cfg(feature = "std")]
            Self::Io(error) => error.kind().into(),
        }
    }
}
