//! The deadlines of one connection held against a clock.

use core::time::Duration;

use super::{Deadline, Deadlines, TimedOut};
use crate::exchange::{Awaited, Wait};

/// The deadline that applies to what is awaited, once there has been a handshake.
const fn deadline(wait: &Wait) -> Option<Deadline> {
    match wait.awaited {
        Awaited::Nothing => None,
        Awaited::Command | Awaited::GetForce | Awaited::Forces => Some(Deadline::Evaluation),
        Awaited::Status | Awaited::Init | Awaited::Close | Awaited::Rest | Awaited::Taken => {
            Some(Deadline::Message)
        }
    }
}

/// Holds the [`Deadlines`] of one connection against a clock.
///
/// The timer has no clock itself. `now` is monotonic time since an arbitrary fixed epoch.
/// [`blocking::WithDeadlines`](crate::blocking::WithDeadlines), `asynch::WithDeadlines`,
/// `smoltcp::poll_by` and `net::Stream` use one. By hand: read the clock, try to move bytes, then
/// [`note`](Self::note) what the exchange waits for, whether it is done or not, and
/// [`check`](Self::check) if nothing more can be moved.
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
    /// When the wait for the handshake, for this message, for what is computed and the exchange
    /// began.
    handshake: Option<Duration>,
    message: Duration,
    evaluation: Option<Duration>,
    exchange: Option<Duration>,
    overrun: Option<Overrun>,
}

/// A deadline that had passed before a try to move more.
#[derive(Clone, Copy, Debug)]
struct Overrun {
    deadline: Deadline,
    /// When that was noticed, and whether nobody had looked for a long time then.
    since: Duration,
    neglected: bool,
    /// Bytes that had moved then.
    position: u64,
}

/// Bytes that come without a pause may come for this long after a deadline, however short that is.
const LEAST_OVERRUN: Duration = Duration::from_secs(1);

impl DeadlineTimer {
    /// For a connection about which nothing has been noted yet. The clock starts with the first
    /// note.
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

    /// The limits that it was made with.
    #[must_use]
    pub const fn deadlines(&self) -> Deadlines {
        self.deadlines
    }

    /// Notes what is waited for now. Each message, answer and exchange has its time from its own
    /// beginning, not from the last bytes that moved. An exchange that was dropped and is run again
    /// keeps the time that it had; one that is done ([`Awaited::Nothing`]) ends the time of the
    /// exchange.
    pub fn note(&mut self, now: Duration, wait: &Wait) {
        let key = |wait: &Wait| (wait.mark, deadline(wait));
        let is_new = self.wait.as_ref().map(key) != Some(key(wait));
        if is_new {
            self.message = now;
        }
        self.note_flush(now, wait);
        // One that began with the message before is over with it.
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

    /// Begins and ends the times that span several messages. This is all there is to note of a
    /// flush that need not wait: an exchange that is run again begins with one, which must not set
    /// back the clock of what it waits for.
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

    /// Ends the time of what is computed.
    #[cfg(feature = "std")]
    pub(crate) const fn end_evaluation(&mut self) {
        self.evaluation = None;
    }

    /// The shortest time that this may take; without a limit, if `None`.
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

    /// When the first deadline passes if nothing happens until then; never, if `None`.
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

    /// Checks what was noted last, when nothing more can be moved. For `now`, take the clock's time
    /// from before the last try, so that bytes that had arrived by a deadline are never late.
    ///
    /// # Errors
    ///
    /// The deadline that has passed, once. After that every deadline runs anew, from the next
    /// [`note`](Self::note).
    pub fn check(&mut self, now: Duration) -> Result<(), TimedOut> {
        match (self.first(), self.due()) {
            (Some((deadline, limit, _)), Some(at)) if now >= at => {
                Err(self.expire(deadline, limit))
            }
            _ => Ok(()),
        }
    }

    /// Checks what was noted last, before a try to move more. Call it where bytes may never stop
    /// coming, or where nobody may look for a long time. If a deadline is noticed here more than
    /// half its limit late, and bytes move then, it runs once more from this moment: their
    /// beginning was there in time, and the rest may be on its way.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check), if bytes still move without a pause as long after this moment as
    /// the limit is, and a second at least.
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

    /// Bytes that had moved over the connection when the wait was noted.
    fn position(&self) -> u64 {
        self.wait
            .as_ref()
            .map_or(0, |wait| wait.mark.saturating_add(wait.moved as u64))
    }

    /// The time-out; the clocks of all deadlines begin anew.
    fn expire(&mut self, deadline: Deadline, limit: Duration) -> TimedOut {
        let wait = self.wait.take();
        *self = Self::new(self.deadlines);
        TimedOut::new(deadline, limit, wait)
    }

    /// The deadline that passes first, its limit, and when it passes.
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
        // Of two that pass at once the first of these is the nearer cause.
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
