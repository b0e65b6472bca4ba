//! How long is waited: in proportion to the machine and the program, not to a guess.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::line::PAUSE;

/// What limits follow.
#[derive(Debug)]
pub struct Calibration {
    patience: Duration,
    start: Duration,
    /// How late a sleep ends on this machine.
    lateness: Duration,
    /// The longest that the program took for one answer in a good conversation, in microseconds.
    slowest: AtomicU64,
}

/// The limits of one situation.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Without a sign of life.
    pub patience: Duration,
    /// For a program to start.
    pub start: Duration,
    /// The longest run of a server.
    pub run: Duration,
}

impl Calibration {
    /// Measures the machine.
    pub fn new(patience: Duration, start: Duration) -> Self {
        const SLEEPS: u32 = 20;
        let late = |_| {
            let begin = Instant::now();
            sleep(PAUSE);
            begin.elapsed().saturating_sub(PAUSE)
        };
        Self {
            patience,
            start,
            lateness: (0..SLEEPS).map(late).max().unwrap_or_default(),
            slowest: AtomicU64::new(0),
        }
    }

    /// The limit for a start, as it was given.
    pub const fn start(&self) -> Duration {
        self.start
    }

    /// The program took this long for an answer.
    pub fn took(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.slowest.fetch_max(micros, Ordering::Relaxed);
    }

    /// The limits for this machine and program, `times` those of the calibration.
    pub fn limits(&self, times: u32) -> Limits {
        const RUN: Duration = Duration::from_secs(120);
        let slowest = Duration::from_micros(self.slowest.load(Ordering::Relaxed));
        let patience = self.patience.max(10 * slowest) + 50 * self.lateness;
        Limits {
            patience: times * patience,
            start: times * (self.start + 50 * self.lateness),
            run: times * (RUN + 20 * slowest),
        }
    }
}
