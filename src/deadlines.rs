//! How long to wait for a peer, on a clock of the caller's.
//!
//! ```text
//!           connected   first header      POSDATA begins              last byte of FORCEREADY
//! server        |--handshake--|                 |-----------evaluation-----------|
//!                                    |-message-|                      |--message-|---message---|
//!                                      it leaves, is taken             it comes     STATUS -> READY
//!
//! driver        |--handshake--|--evaluation--|-message-|  (computes)  |-evaluation-|-message-|
//!                 any command   next command   POSDATA                  GETFORCE     FORCEREADY
//! ```

use core::fmt;
use core::time::Duration;

use crate::Header;

/// How long to wait for a peer; for ever where there is `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Deadlines {
    /// From the connection to the first header that the peer sends: a server's answer to STATUS, a driver's STATUS.
    /// Until then no other deadline runs; if this is `None`, the others run from the start.
    pub handshake: Option<Duration>,
    /// For each message from its first byte to its last, coming or leaving, however it dribbles; and for what a peer
    /// has to say without computing: an answer to STATUS, that it has taken INIT, its end after EXIT.
    pub message: Option<Duration>,
    /// For what the peer computes. A server waits so long from the first byte of positions to the last of
    /// their forces, a driver from one message of its server's to the next; what a driver computes itself does not count.
    pub evaluation: Option<Duration>,
}

impl Deadlines {
    /// Everything may take for ever.
    pub const NONE: Self = Self {
        handshake: None,
        message: None,
        evaluation: None,
    };
}

impl Default for Deadlines {
    /// Ten seconds for a handshake, a minute for a message, for ever to compute.
    fn default() -> Self {
        Self {
            handshake: Some(Duration::from_secs(10)),
            message: Some(Duration::from_secs(60)),
            evaluation: None,
        }
    }
}

/// One of the [`Deadlines`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Deadline {
    /// [`Deadlines::handshake`].
    Handshake,
    /// [`Deadlines::message`].
    Message,
    /// [`Deadlines::evaluation`].
    Evaluation,
}

/// What an exchange waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Awaited {
    /// Nothing of the peer's: the exchange is through, or it is the caller's turn.
    Nothing,
    /// A driver waits for its server's next message.
    Command,
    /// A driver waits to be asked for what it has computed.
    GetForce,
    /// A server waits for the answer to STATUS.
    Status,
    /// A server waits for the driver to take INIT: for the answer to the STATUS behind it.
    Init,
    /// A server waits for forces, or for HAVEDATA before them.
    Forces,
    /// A server waits for the driver to close the connection after EXIT.
    Close,
    /// Part of a message has come, and its rest has not.
    Rest,
    /// A message is leaving and the peer is to take it.
    Taken,
}

/// What an exchange waits for, and how far that has come ([`Transfer::waits_for`](crate::Transfer::waits_for)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Wait {
    /// What is waited for.
    pub awaited: Awaited,
    /// The message that has begun to move, unless that is not known yet.
    pub within: Option<Header>,
    /// Bytes of it that have moved.
    pub moved: usize,
    /// Bytes that it has, if it comes and as far as it has told by now.
    pub announced: Option<usize>,
    /// A whole header has come over this connection.
    pub(crate) greeted: bool,
    /// A driver computes for us, or is being told what.
    pub(crate) evaluating: bool,
    /// Bytes that had moved before this message, which tells it from every other.
    pub(crate) mark: u64,
}

impl Wait {
    /// Whether the peer is late if it stays silent: part of a message has moved, in either direction, or it has been
    /// asked something for which it need not compute. Forces are not owed, however long a driver takes for them.
    /// Immediate acknowledgement is for what is.
    #[must_use]
    pub const fn owed(&self) -> bool {
        matches!(self.deadline(), Some(Deadline::Message))
    }

    /// The deadline that it runs into, once there has been a handshake.
    const fn deadline(&self) -> Option<Deadline> {
        match self.awaited {
            Awaited::Nothing => None,
            Awaited::Command | Awaited::GetForce | Awaited::Forces => Some(Deadline::Evaluation),
            Awaited::Status | Awaited::Init | Awaited::Close | Awaited::Rest | Awaited::Taken => {
                Some(Deadline::Message)
            }
        }
    }

    /// The same of an exchange that is through. A driver may be computing: what it may take goes on.
    pub(crate) const fn nothing(self) -> Self {
        Self {
            awaited: Awaited::Nothing,
            ..self
        }
    }

    /// The same while the transport still keeps what it was given.
    pub(crate) const fn taken(self) -> Self {
        Self {
            awaited: Awaited::Taken,
            ..self
        }
    }
}

/// Holds the [`Deadlines`] of one connection against a clock.
///
/// It has no clock itself: `now` is the time since any moment that stays the same, of a clock that does not go back.
/// [`blocking::Timed`](crate::blocking::Timed), `asynch::Timed` and `smoltcp::poll_by` look where it is to be looked. By
/// hand, [`note`](Self::note) after each try to move something, whether that ended the exchange or not, and
/// [`check`](Self::check) when nothing more can be moved:
///
/// ```
/// use core::time::Duration;
/// use forcewire::{Awaited, Deadline, Deadlines, Server, Step, Transfer, Watch};
///
/// let seconds = Duration::from_secs;
/// let deadlines = Deadlines { handshake: Some(seconds(10)), ..Deadlines::NONE };
/// let mut watch = Watch::new(deadlines);
/// let mut server = Server::new();
///
/// let mut asking = server.status();
/// if let Step::Write(bytes) = asking.step()? {
///     assert_eq!(bytes, b"STATUS      ");
///     asking.advance(12);
/// }
/// watch.note(seconds(100), &asking.waits_for());
/// assert_eq!(watch.due(), Some(seconds(110))); // sleep until then, or until something comes
/// assert_eq!(watch.check(seconds(109)), Ok(()));
/// let late = watch.check(seconds(110)).unwrap_err();
/// assert_eq!((late.deadline, late.awaited), (Deadline::Handshake, Awaited::Status));
/// # Ok::<(), forcewire::ProtocolError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    deadlines: Deadlines,
    wait: Option<Wait>,
    /// Since when we wait for the handshake, for this message, for what is computed.
    handshake: Option<Duration>,
    message: Duration,
    evaluation: Option<Duration>,
}

impl Watch {
    /// For a connection about which nothing has been noted yet. The clock starts with the first note.
    #[must_use]
    pub const fn new(deadlines: Deadlines) -> Self {
        Self {
            deadlines,
            wait: None,
            handshake: None,
            message: Duration::ZERO,
            evaluation: None,
        }
    }

    /// What it was made with.
    #[must_use]
    pub const fn deadlines(&self) -> Deadlines {
        self.deadlines
    }

    /// Takes down what is waited for now. Whatever that is has its time from its own beginning, not from the
    /// last piece that came of it; an exchange that was dropped and made again keeps the time that it had.
    pub fn note(&mut self, now: Duration, wait: &Wait) {
        let key = |wait: &Wait| (wait.mark, wait.deadline());
        if self.wait.as_ref().map(key) != Some(key(wait)) {
            self.message = now;
        }
        if wait.awaited != Awaited::Nothing {
            self.handshake.get_or_insert(now);
        }
        if wait.evaluating {
            self.evaluation.get_or_insert(now);
        } else {
            self.evaluation = None;
        }
        self.wait = Some(*wait);
    }

    /// The shortest time that this may take; for ever, if `None`.
    #[cfg(feature = "std")]
    pub(crate) fn limit(&self, wait: &Wait) -> Option<Duration> {
        let Deadlines {
            handshake,
            message,
            evaluation,
        } = self.deadlines;
        let evaluates = wait.evaluating || wait.deadline() == Some(Deadline::Evaluation);
        let limits = [
            message.filter(|_| wait.owed()),
            evaluation.filter(|_| evaluates),
        ];
        let handshake = handshake.filter(|_| !wait.greeted);
        handshake.or_else(|| limits.into_iter().flatten().min())
    }

    /// When the first deadline passes if nothing happens until then; never, if `None`.
    #[must_use]
    pub fn due(&self) -> Option<Duration> {
        self.first().map(|(_, _, at)| at)
    }

    /// Whether what was noted last may go on.
    ///
    /// # Errors
    ///
    /// The deadline that has passed, once: from now on it runs anew, for who goes on waiting.
    pub fn check(&mut self, now: Duration) -> Result<(), TimedOut> {
        let (Some(wait), Some((deadline, limit, at))) = (self.wait, self.first()) else {
            return Ok(());
        };
        if now < at {
            return Ok(());
        }
        match deadline {
            Deadline::Handshake => self.handshake = Some(now),
            Deadline::Message => self.message = now,
            Deadline::Evaluation => {
                self.message = now;
                self.evaluation = self.evaluation.and(Some(now));
            }
        }
        Err(TimedOut {
            deadline,
            limit,
            awaited: wait.awaited,
            within: wait.within,
            moved: wait.moved,
            announced: wait.announced,
        })
    }

    /// The deadline that passes first, how long that is, and when.
    fn first(&self) -> Option<(Deadline, Duration, Duration)> {
        let wait = self.wait?;
        let class = wait.deadline()?;
        let at = |deadline, since: Option<Duration>, limit: Option<Duration>| {
            let (since, limit) = (since?, limit?);
            Some((deadline, limit, since.saturating_add(limit)))
        };
        if !wait.greeted && self.deadlines.handshake.is_some() {
            return at(
                Deadline::Handshake,
                self.handshake,
                self.deadlines.handshake,
            );
        }
        let message = match class {
            Deadline::Message => at(
                Deadline::Message,
                Some(self.message),
                self.deadlines.message,
            ),
            _ => None,
        };
        let since = match class {
            Deadline::Evaluation => self.evaluation.or(Some(self.message)),
            _ => self.evaluation,
        };
        let evaluation = at(Deadline::Evaluation, since, self.deadlines.evaluation);
        match (message, evaluation) {
            (Some(message), Some(evaluation)) if evaluation.2 < message.2 => Some(evaluation),
            (message, evaluation) => message.or(evaluation),
        }
    }
}

/// A deadline has passed.
///
/// Nothing is lost by it. Between two messages the connection is as good as before: wait again, or do something else with
/// it, such as a server's `exit`. Inside a message ([`is_midway`](Self::is_midway)) only the exchange that was under way can
/// go on, made again with the same arguments; else the connection is of no more use and to be closed. Only a server's
/// `exit` is possible while an answer is coming.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct TimedOut {
    /// Which one.
    pub deadline: Deadline,
    /// How long that was.
    pub limit: Duration,
    /// What was waited for.
    pub awaited: Awaited,
    /// The message that has begun to move, unless that is not known yet.
    pub within: Option<Header>,
    /// Bytes of it that have moved.
    pub moved: usize,
    /// Bytes that it has, if it comes and as far as it has told by now.
    pub announced: Option<usize>,
}

impl TimedOut {
    /// Whether part of a message has moved: only the same exchange can go on, or the connection must be closed.
    #[must_use]
    pub const fn is_midway(&self) -> bool {
        self.moved > 0
    }

    /// What has happened, without what can be done.
    pub(crate) fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let within = self.within.map_or("a message", Header::name);
        f.write_str("waited ")?;
        describe_duration(self.limit, f)?;
        f.write_str(" for ")?;
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
        f.write_str(match self.deadline {
            Deadline::Evaluation if !self.is_midway() => ": is it still computing?",
            Deadline::Handshake => ": does it speak the i-PI protocol?",
            _ => ": is it still running?",
        })
    }
}

/// As Duration's `Debug` has it, but for zeros at the end. That one reaches panics, as do numbers of 64 bits.
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
            " Go on with the same call, or close the connection"
        } else {
            " The connection is still good"
        })
    }
}

impl core::error::Error for TimedOut {}
