//! Pauses between attempts to connect.

use core::time::Duration;

/// How long to pause before connecting again. The pause doubles with each failure in a row, up to a
/// limit.
///
/// i-PI allows 0.1 s for sending a message (3.3.1 `ipi/interfaces/sockets.py`, `TIMEOUT`), drops a
/// driver that takes longer, and doubles the time for the next message. A board on a slow line
/// succeeds if it connects again. This type has no clock; the caller waits.
///
/// ```
/// use core::time::Duration;
/// use forcewire::Backoff;
///
/// let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(300));
/// let pauses: Vec<_> = (0..5).map(|_| backoff.failed().as_millis()).collect();
/// assert_eq!(pauses, [50, 100, 200, 300, 300]);
/// assert_eq!(backoff.failures(), 5);
/// backoff.succeeded();
/// assert_eq!(backoff.failed().as_millis(), 50);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    /// The pause is `first` after the first failure, and never more than `longest`.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            failures: 0,
        }
    }

    /// Counts a failed attempt and returns the pause before the next.
    pub fn failed(&mut self) -> Duration {
        let mut pause = self.first;
        for _ in 0..self.failures {
            if pause >= self.longest {
                break;
            }
            pause = pause.saturating_mul(2);
        }
        self.failures = self.failures.saturating_add(1);
        pause.min(self.longest)
    }

    /// Records that a connection was useful. A connection alone does not count: otherwise there
    /// would be no pauses if a server drops each driver at once.
    pub const fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// The number of failures in a row.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }
}
