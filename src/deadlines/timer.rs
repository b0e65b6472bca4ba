//! Compares the deadlines of one connection with a clock.

use core::time::Duration;

use super::{Deadline, Deadlines, TimedOut};
use crate::exchange::{Awaited, Wait};

/// The deadline for a wait after the handshake.
const fn deadline(wait: &Wait) -> Option<Deadline> {
    match wait.awaited {
        Awaited::Nothing => None,
        Awaited::Command | Awaited::GetForce | Awaited::Forces => Some(Deadline::Evaluation),
        Awaited::Status | Awaited::Init | Awaited::Close | Awaited::Rest | Awaited::Taken => {
            Some(Deadline::Message)
        }
    }
}

/// Compares the [`Deadlines`] of one connection with a clock.
///
/// The timer has no clock itself. `now` is monotonic time since an arbitrary fixed epoch.
/// [`blocking::WithDeadlines`](crate::blocking::WithDeadlines), `asynch::WithDeadlines`,
/// `smoltcp::poll_by` and `net::Stream` use it. To use it by hand, read the clock and try to move
/// bytes. Then [`note`](Self::note) what the exchange waits for, even if it is done, and
/// [`check`](Self::check) if no more bytes can move.
///
/// ```
/// use core::time::Duration;
/// use forcewire::{Awaited, Deadline, Deadlines, Server, Step, Exchange, DeadlineTimer};
///
/// let seconds = Duration::from_secs;
/// let mut timer = DeadlineTimer::new(Deadlines::NONE.handshake(seconds(10)));
/// let mut server = Server::new();
///
/// let mut status = server.status();
/// if let Step::Write(bytes) = status.step()? {
///     assert_eq!(bytes, b"STATUS      ");
///     status.advance(12);
/// }
/// timer.note(seconds(100), &status.waits_for());
/// assert_eq!(timer.due(), Some(seconds(110))); // sleep until then, or until something comes
/// assert_eq!(timer.check(seconds(109)), Ok(()));
/// let late = timer.check(seconds(110)).unwrap_err();
/// assert_eq!((late.deadline, late.awaited), (Deadline::Handshake, Awaited::Status));
/// # Ok::<(), forcewire::ProtocolError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct DeadlineTimer {
    deadlines: Deadlines,
    wait: Option<Wait>,
    /// When the waits for the handshake, for this message, for the computation and for the exchange
    /// began.
    handshake: Option<Duration>,
    message: Duration,
    evaluation: Option<Duration>,
    exchange: Option<Duration>,
    overrun: Option<Overrun>,
}

/// A deadline that had already passed before an attempt to move bytes.
#[derive(Clone, Copy, Debug)]
struct Overrun {
    deadline: Deadline,
    /// When that was noticed, and whether the check itself was late.
    since: Duration,
    neglected: bool,
    /// How many bytes had moved by then.
    position: u64,
}

/// The shortest extension for bytes that arrive without a pause after a deadline.
const LEAST_OVERRUN: Duration = Duration::from_secs(1);

impl DeadlineTimer {
    /// Makes a timer for a new connection. The clock starts with the first note.
    #[must_use]
    pub const fn new(deadlines: Deadlines) -> Self {
        Self {
            deadlines,
            wait: None,
            handshake: None,
            message: Duration::ZERO,
            evaluation: None,
            exchange: None,
            overrun: None,
        }
    }

    /// The limits of this timer.
    #[must_use]
    pub const fn deadlines(&self) -> Deadlines {
        self.deadlines
    }

    /// Records the current wait. The time of each message, answer and exchange runs from its own
    /// beginning, not from the last bytes that moved. An exchange that was dropped and is run again
    /// keeps its time; one that is done ([`Awaited::Nothing`]) ends it.
    pub fn note(&mut self, now: Duration, wait: &Wait) {
        let key = |wait: &Wait| (wait.mark, deadline(wait));
        let is_new = self.wait.as_ref().map(key) != Some(key(wait));
        if is_new {
            self.message = now;
        }
        self.note_flush(now, wait);
        // A deadline that began with the previous message has ended with it.
        let is_over = |overrun: &Overrun| match overrun.deadline {
            Deadline::Message => true,
            Deadline::Evaluation => self.evaluation.is_none(),
            Deadline::Handshake | Deadline::Exchange => false,
        };
        if is_new && self.overrun.as_ref().is_some_and(is_over) {
            self.overrun = None;
        }
        self.wait = Some(*wait);
    }

    /// Starts and ends the times that span several messages. A flush that need not wait records
    /// only these. An exchange that is run again begins with a flush, which must not restart the
    /// clock of its wait.
    pub(crate) fn note_flush(&mut self, now: Duration, wait: &Wait) {
        if wait.awaited == Awaited::Nothing {
            self.exchange = None;
        } else {
            self.handshake.get_or_insert(now);
            self.exchange.get_or_insert(now);
        }
        if wait.evaluating {
            self.evaluation.get_or_insert(now);
        } else {
            self.evaluation = None;
        }
    }

    /// Ends the time of the exchange.
    pub(crate) const fn end_exchange(&mut self) {
        self.exchange = None;
    }

    /// Ends the time of the computation.
    #[cfg(feature = "std")]
    pub(crate) const fn end_evaluation(&mut self) {
        self.evaluation = None;
    }

    /// The shortest limit for this wait; `None` means no limit.
    #[cfg(feature = "std")]
    pub(crate) fn limit(&self, wait: &Wait) -> Option<Duration> {
        let Deadlines {
            handshake,
            message,
            evaluation,
            exchange,
        } = self.deadlines;
        let class = deadline(wait);
        let evaluates = wait.evaluating || class == Some(Deadline::Evaluation);
        let limits = [
            message.filter(|_| wait.owed()),
            evaluation.filter(|_| evaluates),
            exchange.filter(|_| class.is_some()),
        ];
        let handshake = handshake.filter(|_| !wait.greeted);
        handshake.or_else(|| limits.into_iter().flatten().min())
    }

    /// When the next deadline passes if nothing moves before; `None` means never.
    #[must_use]
    pub fn due(&self) -> Option<Duration> {
        let (deadline, limit, at) = self.first()?;
        match self.overrun {
            Some(overrun)
                if overrun.deadline == deadline
                    && overrun.neglected
                    && self.position() > overrun.position =>
            {
                Some(overrun.since.saturating_add(limit))
            }
            _ => Some(at),
        }
    }

    /// Checks the last recorded wait, when no more bytes can move. Pass the clock's time before the
    /// last attempt, so that bytes that had arrived by a deadline are never late.
    ///
    /// # Errors
    ///
    /// The deadline that has passed, reported once. After that every deadline restarts with the
    /// next [`note`](Self::note).
    pub fn check(&mut self, now: Duration) -> Result<(), TimedOut> {
        match (self.first(), self.due()) {
            (Some((deadline, limit, _)), Some(at)) if now >= at => {
                Err(self.expire(deadline, limit))
            }
            _ => Ok(()),
        }
    }

    /// Checks the last recorded wait before an attempt to move bytes. Call it if bytes may keep
    /// arriving without a pause, or if the check may be late. If this method notices a deadline
    /// late by more than half its limit, and bytes move afterwards, the deadline runs once more
    /// from this moment: the first bytes had arrived in time, and the rest may be on its way.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`check`](Self::check), if bytes still move without a pause after the
    /// limit, or a second if that is longer, has passed once more.
    pub fn check_moving(&mut self, now: Duration) -> Result<(), TimedOut> {
        let Some((deadline, limit, at)) = self.first().filter(|(.., at)| now >= *at) else {
            self.overrun = None;
            return Ok(());
        };
        match self.overrun {
            Some(overrun) if overrun.deadline == deadline => {
                if now < overrun.since.saturating_add(limit.max(LEAST_OVERRUN)) {
                    return Ok(());
                }
                Err(self.expire(deadline, limit))
            }
            _ => {
                self.overrun = Some(Overrun {
                    deadline,
                    since: now,
                    neglected: now > at.saturating_add(limit / 2),
                    position: self.position(),
                });
                Ok(())
            }
        }
    }

    /// How many bytes had moved over the connection when the wait was recorded.
    fn position(&self) -> u64 {
        self.wait
            .as_ref()
            .map_or(0, |wait| wait.mark.saturating_add(wait.moved as u64))
    }

    /// Returns the time-out and restarts the clocks of all deadlines.
    fn expire(&mut self, deadline: Deadline, limit: Duration) -> TimedOut {
        let wait = self.wait.take();
        *self = Self::new(self.deadlines);
        TimedOut::new(deadline, limit, wait)
    }

    /// The deadline that passes first, with its limit and its time.
    fn first(&self) -> Option<(Deadline, Duration, Duration)> {
        let wait = self.wait.as_ref()?;
        let class = deadline(wait)?;
        let at = |deadline, since: Option<Duration>, limit: Option<Duration>| {
            let (since, limit) = (since?, limit?);
            Some((deadline, limit, since.saturating_add(limit)))
        };
        let limits = &self.deadlines;
        if !wait.greeted && limits.handshake.is_some() {
            return at(Deadline::Handshake, self.handshake, limits.handshake);
        }
        let (message, computed) = match class {
            Deadline::Evaluation => (None, self.evaluation.or(Some(self.message))),
            _ => (Some(self.message), self.evaluation),
        };
        // If two pass at once, the earlier one in this list is the closer cause.
        [
            at(Deadline::Message, message, limits.message),
            at(Deadline::Evaluation, computed, limits.evaluation),
            at(Deadline::Exchange, self.exchange, limits.exchange),
        ]
        .into_iter()
        .flatten()
        .min_by_key(|(.., at)| *at)
    }
}
