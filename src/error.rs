//! Why an exchange over a transport failed: the transport, the conversation, a deadline or the
//! potential.

use core::fmt;

use crate::deadlines::TimedOut;
use crate::fmt::debug_as_display;
use crate::potential::PotentialError;
use crate::protocol::ProtocolError;

/// Why an exchange over a transport failed.
#[derive(Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Error<E> {
    /// The conversation failed.
    Protocol(ProtocolError),
    /// The transport failed. After a time-out, run the exchange again to continue.
    Transport(E),
    /// The transport accepted none of the bytes offered and never will (a write of zero bytes).
    WriteZero,
    /// One of the caller's deadlines has passed. Run the exchange again to continue; [`TimedOut`]
    /// describes the alternatives.
    TimedOut(TimedOut),
    /// The potential could not be evaluated. The server waits for a reply that will not come: close
    /// the connection.
    Potential(PotentialError),
}

impl<E> Error<E> {
    /// Converts the transport's error.
    pub fn map_transport<F>(self, map: impl FnOnce(E) -> F) -> Error<F> {
        match self {
            Self::Protocol(error) => Error::Protocol(error),
            Self::Transport(error) => Error::Transport(map(error)),
            Self::WriteZero => Error::WriteZero,
            Self::TimedOut(late) => Error::TimedOut(late),
            Self::Potential(error) => Error::Potential(error),
        }
    }
}

impl<E> From<ProtocolError> for Error<E> {
    fn from(error: ProtocolError) -> Self {
        Self::Protocol(error)
    }
}

impl<E> From<TimedOut> for Error<E> {
    fn from(late: TimedOut) -> Self {
        Self::TimedOut(late)
    }
}

impl<E> From<PotentialError> for Error<E> {
    fn from(error: PotentialError) -> Self {
        Self::Potential(error)
    }
}

impl<E: fmt::Display> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol(error) => error.fmt(f),
            Self::Transport(error) => error.fmt(f),
            Self::WriteZero => {
                f.write_str("the connection takes no more bytes: it is closed, connect again")
            }
            Self::TimedOut(late) => late.fmt(f),
            Self::Potential(error) => error.fmt(f),
        }
    }
}

debug_as_display!(Error<E>);

impl<E: fmt::Display> core::error::Error for Error<E> {}

#[cfg(feature = "defmt")]
impl<E: defmt::Format> defmt::Format for Error<E> {
    fn format(&self, f: defmt::Formatter<'_>) {
        match self {
            Self::Protocol(error) => defmt::write!(f, "{}", error),
            Self::Transport(error) => defmt::write!(f, "{}", error),
            Self::WriteZero => {
                defmt::write!(f, "the connection takes no more bytes: connect again")
            }
            Self::TimedOut(late) => defmt::write!(f, "{}", defmt::Display2Format(late)),
            Self::Potential(error) => defmt::write!(f, "{}", error),
        }
    }
}
