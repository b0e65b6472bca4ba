//! Why a connection over a line has ended.

use core::fmt;

use embedded_io::ErrorKind;

use crate::fmt::debug_as_display;

/// Why a connection over a line has failed. The connection has ended, and CLOSE is sent to the
/// peer.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Fault {
    /// Bytes were changed, lost or added: a checksum was wrong, or the received bytes are not a
    /// frame.
    Damaged,
    /// A complete frame was lost.
    Lost,
    /// The rest of a frame did not arrive within a second.
    Cut,
    /// Nothing arrived within the limit of [`Framing::set_silence`](super::Framing::set_silence) or
    /// of the call.
    Silent,
    /// The peer has restarted and does not know this connection.
    Restarted,
    /// The peer has ended the connection because it found a fault.
    Reported,
    /// The stream below reported an error, for instance an overrun of the UART: bytes may be lost.
    Stream,
    /// The stream below has ended.
    Gone,
    /// There is no connection: it was never opened, or has been closed.
    NotOpen,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Damaged => {
                "bytes were damaged on the line: open it again, and look at the cable and the speed"
            }
            Self::Lost => {
                "a frame was lost on the line: open it again, and look for an overrun of the UART"
            }
            Self::Cut => "a frame stopped halfway: bytes were lost on the line, open it again",
            Self::Silent => "nothing came over the line in time: is its other end running?",
            Self::Restarted => "the other end of the line has started again: open it again",
            Self::Reported => "the other end of the line has found a fault: open it again",
            Self::Stream => {
                "the stream under the line has reported an error, and bytes may be lost: open it again"
            }
            Self::Gone => "the stream under the line has ended: is the device still there?",
            Self::NotOpen => "the line is not open",
        })
    }
}

debug_as_display!(Fault);

impl core::error::Error for Fault {}

/// The error of a [`Line`](super::Line).
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum LineError<E> {
    /// The stream failed. After a time-out the call may be repeated; any other error has ended the
    /// connection.
    Stream(E),
    /// The stream accepted none of the bytes offered.
    WriteZero,
    /// Bytes arrived for a second, but no data. The call may be repeated, as after a time-out of
    /// the stream.
    NoData,
    /// The connection has ended, or was never opened.
    Fault(Fault),
}

impl<E> From<Fault> for LineError<E> {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl<E: fmt::Display> fmt::Display for LineError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(error) => error.fmt(f),
            Self::WriteZero => f.write_str("the stream under the line takes no more bytes"),
            Self::NoData => f.write_str("the line was busy for a second and brought no data"),
            Self::Fault(fault) => fault.fmt(f),
        }
    }
}

debug_as_display!(LineError<E>);

impl<E: fmt::Display> core::error::Error for LineError<E> {}

impl<E: embedded_io::Error> embedded_io::Error for LineError<E> {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Stream(error) => error.kind(),
            Self::WriteZero => ErrorKind::WriteZero,
            Self::NoData => ErrorKind::TimedOut,
            // Never `TimedOut`, after which an exchange may continue.
            Self::Fault(fault) => match fault {
                Fault::Damaged | Fault::Lost | Fault::Cut | Fault::Stream => ErrorKind::InvalidData,
                Fault::Silent | Fault::Gone => ErrorKind::ConnectionAborted,
                Fault::Restarted | Fault::Reported => ErrorKind::ConnectionReset,
                Fault::NotOpen => ErrorKind::NotConnected,
            },
        }
    }
}
