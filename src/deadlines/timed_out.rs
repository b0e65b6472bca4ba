//! A deadline that has passed, and how to continue.

use core::fmt;
use core::time::Duration;

use super::Deadline;
use crate::exchange::{Awaited, Wait};
use crate::fmt::debug_as_display;
use crate::protocol::Header;

/// A deadline has passed.
///
/// Nothing is lost. To wait for the same time again, keep the exchange and run it again: `run(&mut
/// socket, &mut exchange)`. A new exchange can continue only if it is of the same kind and its
/// arrays hold the same numbers.
///
/// Between two messages another exchange may follow too, such as a server's `exit`. Inside a
/// message ([`is_midway`](Self::is_midway)) only the current exchange can continue; to give it up,
/// close the connection. There is one exception: a server may run `exit` while an answer arrives.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct TimedOut {
    /// The deadline that has passed.
    pub deadline: Deadline,
    /// The limit that was set for it.
    pub limit: Duration,
    /// What was waited for.
    pub awaited: Awaited,
    /// The message that has begun to move, if it is known.
    pub within: Option<Header>,
    /// How many bytes of the message have moved.
    pub moved: usize,
    /// The length of an incoming message, as far as the bytes received announce it.
    pub announced: Option<usize>,
}

impl TimedOut {
    pub(super) fn new(deadline: Deadline, limit: Duration, wait: Option<Wait>) -> Self {
        let late = Self {
            deadline,
            limit,
            awaited: Awaited::Nothing,
            within: None,
            moved: 0,
            announced: None,
        };
        wait.map_or(late, |wait| Self {
            awaited: wait.awaited,
            within: wait.within,
            moved: wait.moved,
            announced: wait.announced,
            ..late
        })
    }

    /// Whether part of a message has moved. Then only the same exchange can continue, or the
    /// connection must be closed.
    #[must_use]
    pub const fn is_midway(&self) -> bool {
        self.moved > 0
    }

    /// Describes what happened, without the advice.
    pub(crate) fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let within = self.within.map_or("a message", Header::name);
        if self.deadline == Deadline::Exchange {
            f.write_str("the exchange took longer than ")?;
            describe_duration(self.limit, f)?;
            f.write_str(" and still waits for ")?;
        } else {
            f.write_str("waited ")?;
            describe_duration(self.limit, f)?;
            f.write_str(" for ")?;
        }
        match self.awaited {
            Awaited::Nothing => f.write_str("nothing"),
            Awaited::Command if self.deadline == Deadline::Handshake => {
                f.write_str("the server's first message")
            }
            Awaited::Command => f.write_str("the server's next message"),
            Awaited::GetForce => f.write_str("the server to ask for the forces"),
            Awaited::Status if self.deadline == Deadline::Handshake => {
                f.write_str("the driver's answer to the first STATUS")
            }
            Awaited::Status => f.write_str("the driver's answer to STATUS"),
            Awaited::Init => f.write_str("the driver to take INIT"),
            Awaited::Forces => f.write_str("the driver's forces"),
            Awaited::Close => f.write_str("the driver to close the connection after EXIT"),
            Awaited::Rest => write!(f, "the rest of {within}"),
            Awaited::Taken => write!(f, "the peer to take {within}"),
        }?;
        match self.announced {
            _ if !self.is_midway() => {}
            Some(announced) => write!(f, ", {} of {announced} bytes have moved", self.moved)?,
            None => write!(f, ", {} bytes have moved", self.moved)?,
        }
        f.write_str(match (self.deadline, self.awaited) {
            (Deadline::Evaluation, _) if !self.is_midway() => ": is it still computing?",
            (Deadline::Exchange, Awaited::Forces) => ": is it still computing?",
            (Deadline::Exchange, _) => ": does it send the same again and again?",
            (Deadline::Handshake, _) => ": does it speak the i-PI protocol?",
            _ => ": is it still running?",
        })
    }
}

/// Like Duration's `Debug`, without trailing zeros. That implementation contains reachable panics,
/// as 64-bit arithmetic does.
fn describe_duration(time: Duration, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    match (seconds, time.subsec_millis()) {
        (0, 0) => write!(f, "{}µs", time.subsec_micros()),
        (0, millis) => write!(f, "{millis}ms"),
        (seconds, 0) => write!(f, "{seconds}s"),
        (seconds, millis) => write!(f, "{seconds}.{millis:03}s"),
    }
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe(f)?;
        f.write_str(if self.is_midway() {
            " Run the same exchange again, or close the connection"
        } else {
            " The connection is still good"
        })
    }
}

debug_as_display!(TimedOut);

impl core::error::Error for TimedOut {}
