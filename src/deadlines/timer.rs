//! The deadlines of one connection held against a clock.

use core::time::Duration;

use super::{Deadline, Deadlines, TimedOut};
use crate::exchange::{Awaited, Wait};

/// The deadline that what is awaited runs into, once there has been a handshake.
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
/// It has no clock itself: `now` is the time since any moment that stays the same, of a clock that does not go back.
/// [`blocking::WithDeadlines`](crate::blocking::WithDeadlines), `asynch::WithDeadlines` and `smoltcp::poll_by` look where it is to be looked. By
/// hand, [`note`](Self::note) after each try to move something, whether that ended the exchange or not, and
/// [`check`](Self::check) when nothing more can be moved:
///
/// ```
/// use core::time::Duration;
/// use forcewire::{Awaited, Deadline, Deadlines, Server, Step, Exchange, DeadlineTimer};
///
/// let seconds = Duration::from_secs;
/// let deadlines = Deadlines { handshake: Some(seconds(10)), ..Deadlines::NONE };
/// let mut watch = DeadlineTimer::new(deadlines);
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
pub struct DeadlineTimer {
    deadlines: Deadlines,
    wait: Option<Wait>,
    /// Since when we wait for the handshake, for this message, for what is computed.
    handshake: Option<Duration>,
    message: Duration,
    evaluation: Option<Duration>,
}

impl DeadlineTimer {
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
        let key = |wait: &Wait| (wait.mark, deadline(wait));
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
        let evaluates = wait.evaluating || deadline(wait) == Some(Deadline::Evaluation);
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
        let class = deadline(&wait)?;
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
