//! A record of what all drivers of a run have received.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::heard;
use crate::check::report::Fault;
use crate::check::wire::{self, MATRIX};

/// A structure by its bytes: cell, count and positions.
pub type Key = Vec<u8>;

/// The structures of a run, in order.
pub type Asked = Vec<Key>;

#[derive(Default)]
pub struct Book {
    pub asked: Mutex<Asked>,
    /// How many right answers each structure has had.
    right: Mutex<HashMap<Key, usize>>,
    /// How many of these the good driver sent.
    pub good: AtomicUsize,
    /// How many right answers any driver sent after its script.
    pub later: AtomicUsize,
    /// When the good driver joined, or when the server last sent positions.
    pub heard: Mutex<Option<Instant>>,
    /// The longest time between two structures, in microseconds.
    slowest: AtomicU64,
    /// Faults in the server's messages.
    faults: Mutex<Vec<Fault>>,
    /// The last messages that the drivers received.
    seen: Mutex<Vec<String>>,
    pub over: AtomicBool,
}

/// How many of these lines to keep.
const KEPT: usize = 8;

impl Book {
    pub fn sees(&self, what: impl Into<String>) {
        let mut seen = locked(&self.seen);
        if seen.len() == KEPT {
            seen.remove(0);
        }
        seen.push(what.into());
    }

    /// The messages that drivers received last, as the end of a sentence.
    pub fn seen(&self) -> String {
        match locked(&self.seen).join(", ") {
            seen if seen.is_empty() => String::new(),
            seen => format!("; its driver saw: {seen}"),
        }
    }

    /// Records a fault, once.
    pub fn faulty(&self, fault: Fault) {
        let mut faults = locked(&self.faults);
        if faults.iter().all(|known| known.name != fault.name) {
            faults.push(fault);
        }
    }

    pub fn faults(&self) -> Vec<Fault> {
        locked(&self.faults).clone()
    }

    pub fn asks(&self, key: Key) {
        locked(&self.asked).push(key);
        let before = locked(&self.heard).replace(Instant::now());
        let gap = before.map_or(Duration::ZERO, |before| before.elapsed());
        let micros = u64::try_from(gap.as_micros()).unwrap_or(u64::MAX);
        self.slowest.fetch_max(micros, Ordering::Relaxed);
    }

    pub fn slowest(&self) -> Duration {
        Duration::from_micros(self.slowest.load(Ordering::Relaxed))
    }

    pub fn is_right(&self, key: Key) {
        *locked(&self.right).entry(key).or_default() += 1;
    }

    pub fn is_not_right(&self, key: &Key) {
        if let Some(count) = locked(&self.right).get_mut(key) {
            *count = count.saturating_sub(1);
        }
    }

    /// Finds a structure that the control run did not ask for.
    pub fn strange(&self, control: Option<&Asked>) -> Option<String> {
        let asked = locked(&self.asked);
        asked.iter().find_map(|key| {
            let (cell, rest) = key.split_at(2 * MATRIX);
            let mut numbers = [wire::numbers(cell), wire::numbers(&rest[4..])]
                .into_iter()
                .flatten();
            if numbers.any(|x| !x.is_finite()) {
                return Some("took it: the next structure's numbers are not finite".to_owned());
            }
            let strange = control.is_some_and(|control| !control.contains(key));
            strange.then(|| {
                "took it: asked for a structure that the control run does not have".to_owned()
            })
        })
    }

    /// How many right answers of the control run are missing here. A structure that is requested
    /// five times needs five.
    pub fn missing(&self, control: &Asked) -> usize {
        let right = locked(&self.right);
        let mut needed = HashMap::<&Key, usize>::new();
        for key in control {
            *needed.entry(key).or_default() += 1;
        }
        let missing = needed
            .into_iter()
            .map(|(key, count)| count.saturating_sub(right.get(key).copied().unwrap_or_default()));
        missing.sum()
    }

    /// Checks a complete POSDATA.
    pub fn looks_at(&self, key: &[u8]) {
        heard::structure(key)
            .into_iter()
            .for_each(|fault| self.faulty(fault));
    }
}

/// Locks a mutex. A thread that panicked leaves no partial update here.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
