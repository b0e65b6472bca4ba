//! Time limits, in proportion to the speed of the machine and the program.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::line::PAUSE;

/// The measurements that determine the limits.
#[derive(Debug)]
pub struct Calibration {
    patience: Duration,
    start: Duration,
    /// How late a sleep ends on this machine.
    lateness: Duration,
    /// The longest time that the program took for one answer in a good conversation, in
    /// microseconds.
    slowest: AtomicU64,
}

/// The limits of one situation.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long the program may show no activity.
    pub patience: Duration,
    /// How long the program may take to start.
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

    /// The limit for a start, as the user gave it.
    pub const fn start(&self) -> Duration {
        self.start
    }

    /// Records how long the program took for an answer.
    pub fn took(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.slowest.fetch_max(micros, Ordering::Relaxed);
    }

    /// The limits for this machine and program: the limits of the calibration, `times` as long.
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
