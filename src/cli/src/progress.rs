//! The progress of a run: a bar on a terminal, otherwise a line from time to time.

use std::fmt;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::say::say;

/// How often to log a line if there is no terminal.
const REPORT: Duration = Duration::from_secs(10);

pub struct Progress {
    pub bar: ProgressBar,
    what: &'static str,
    total: Option<u64>,
    start: Instant,
    first: u64,
    reported: Instant,
}

impl Progress {
    /// Counts `what`, starting at `first`. Always written to standard error.
    pub fn new(what: &'static str, first: u64, total: Option<u64>) -> Self {
        let bar = match io::stderr().is_terminal() {
            true => ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(10)),
            false => ProgressBar::hidden(),
        };
        let template = match total {
            Some(_) => "{bar:24} {pos} of {len} {what}, {rate}, {eta} left, {msg}",
            None => "{spinner} {pos} {what}, {rate}, {msg}",
        };
        let style =
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let rate = |state: &ProgressState, out: &mut dyn fmt::Write| {
            let _ = write!(out, "{:.1}/s", state.per_sec());
        };
        let name = move |_: &ProgressState, out: &mut dyn fmt::Write| {
            let _ = write!(out, "{what}");
        };
        bar.set_style(style.with_key("rate", rate).with_key("what", name));
        bar.set_position(first);
        bar.reset_eta();
        let now = Instant::now();
        Self {
            bar,
            what,
            total,
            start: now,
            first,
            reported: now,
        }
    }

    /// Sets how many are done, and the text next to the bar.
    pub fn show(&mut self, done: u64, state: impl FnOnce() -> String) {
        if !self.bar.is_hidden() {
            self.bar.set_message(state());
            self.bar.set_position(done);
        } else if self.reported.elapsed() >= REPORT {
            self.reported = Instant::now();
            let rate = (done - self.first) as f64 / self.start.elapsed().as_secs_f64();
            say(format_args!("{}, {rate:.1}/s, {}", self.of(done), state()));
        }
    }

    /// A text like "3 of 10 frames".
    pub fn of(&self, done: u64) -> String {
        match self.total {
            Some(total) => format!("{done} of {total} {}", self.what),
            None => format!("{done} {}", self.what),
        }
    }

    pub fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
