//! Decides when to connect again, and when to give up.

use core::time::Duration;

use forcewire::Backoff;

/// The rule for the pause between two connections, for all boards. `mps2-an385-c/attempts.c` is the
/// same rule in C; `tests/board` and `tests/firmware` count the connections of both.
///
/// A pause follows every connection that ended without EXIT. It is 100 ms after a connection over
/// which the server received a reply, and 100, 200, 400 and 800 ms after successive connections
/// without a reply. After the fifth of those the board gives up. A server that closes properly
/// counts too: after five connections without a reply it has no work for this board.
#[derive(Clone, Debug)]
pub struct Attempts {
    backoff: Backoff,
}

impl Attempts {
    /// How many connections in a row may end without a reply.
    pub const LIMIT: u32 = 5;

    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_millis(800);

    /// The state before the first connection.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            backoff: Backoff::new(Self::FIRST, Self::LONGEST),
        }
    }

    /// Records that a connection has ended, and whether the server received a reply. Returns the
    /// pause before the next one, or `None` to give up.
    pub fn ended(&mut self, replied: bool) -> Option<Duration> {
        if replied {
            self.backoff.succeeded();
            return Some(Self::FIRST);
        }
        let pause = self.backoff.failed();
        (self.backoff.failures() < Self::LIMIT).then_some(pause)
    }
}

impl Default for Attempts {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(pause: Option<Duration>) -> Option<u128> {
        pause.map(|pause| pause.as_millis())
    }

    #[test]
    fn five_connections_without_a_reply_are_the_last() {
        let mut attempts = Attempts::new();
        let pauses: [_; 5] = core::array::from_fn(|_| millis(attempts.ended(false)));
        assert_eq!(pauses, [Some(100), Some(200), Some(400), Some(800), None]);
    }

    #[test]
    fn a_reply_starts_the_count_anew_and_is_followed_by_a_pause() {
        let mut attempts = Attempts::new();
        for _ in 0..100 {
            assert!(attempts.ended(false).is_some());
            assert_eq!(millis(attempts.ended(true)), Some(100));
        }
    }
}
