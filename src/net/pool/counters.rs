//! Counters of a pool's work.

use core::time::Duration;
use std::string::String;

use super::DriverId;

/// Counters of a pool's work since it was created.
///
/// ```
/// use forcewire::net::{Pool, PoolOptions};
///
/// let pool = Pool::new(PoolOptions::default())?;
/// let counters = pool.counters();
/// assert_eq!((counters.evaluations, counters.latencies.quantile(0.5)), (0, None));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Counters {
    /// Accepted connections, including peers that are not allowed.
    pub connections: u64,
    /// Drivers that have joined.
    pub joined: u64,
    /// Answers, including those to cancelled jobs and second answers.
    pub evaluations: u64,
    /// How often a job was lost with its driver and went back into the queue.
    pub requeued: u64,
    /// Jobs that failed because too many drivers were lost over them.
    pub given_up: u64,
    /// Jobs that were given to a second driver while the first still computed
    /// ([`PoolOptions::stragglers`](crate::net::PoolOptions::stragglers)).
    pub given_twice: u64,
    /// Times from the first byte of the positions to the last byte of the forces; a batch counts
    /// once.
    pub latencies: Latencies,
    /// The last driver that was lost or dropped over a job, or violated the protocol.
    pub last_loss: Option<Loss>,
}

/// A lost driver.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loss {
    /// Its number.
    pub driver: DriverId,
    /// The address of the driver, or its process and the unix socket.
    pub peer: String,
    /// The text of its [`LeftReason`](crate::net::LeftReason).
    pub why: String,
    /// The number of jobs that it had.
    pub jobs: usize,
}

/// A histogram of times by powers of two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latencies {
    /// How many times are below 1, 2, 4, ... microseconds.
    counts: [u64; BUCKETS],
    longest: Duration,
}

/// The buckets go up to 2^39 microseconds, which is six days.
const BUCKETS: usize = 40;

impl Default for Latencies {
    fn default() -> Self {
        Self {
            counts: [0; BUCKETS],
            longest: Duration::ZERO,
        }
    }
}

impl Latencies {
    pub(super) fn add(&mut self, time: Duration) {
        let micros = time.as_micros();
        let bucket = (u128::BITS - micros.leading_zeros()) as usize;
        if let Some(count) = self.counts.get_mut(bucket.min(BUCKETS - 1)) {
            *count += 1;
        }
        self.longest = self.longest.max(time);
    }

    /// The number of times.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The longest time; zero if there are none.
    #[must_use]
    pub const fn longest(&self) -> Duration {
        self.longest
    }

    /// An upper bound for this fraction of the times: 0.5 for the median. It is at most twice the
    /// exact value. `None` if there are none.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // of 2^53 evaluations
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let wanted = self.count() as f64 * part.clamp(0.0, 1.0);
        let mut seen = 0;
        let mut micros = 1;
        for count in self.counts {
            seen += count;
            if seen > 0 && seen as f64 >= wanted {
                return Some(Duration::from_micros(micros));
            }
            micros *= 2;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_a_bound_within_a_factor_of_two() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile(0.5), None);
        for micros in [0, 3, 3, 3, 100] {
            latencies.add(Duration::from_micros(micros));
        }
        latencies.add(Duration::from_secs(1 << 30));
        let micros = |part| latencies.quantile(part).map(|time| time.as_micros());
        assert_eq!((micros(0.0), micros(0.5)), (Some(1), Some(4)));
        assert_eq!(micros(0.8), Some(128));
        assert_eq!(
            (latencies.count(), latencies.longest().as_secs()),
            (6, 1 << 30)
        );
    }
}
