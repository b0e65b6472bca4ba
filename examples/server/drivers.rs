//! The drivers: who joins and who leaves is told, who does not come is waited for, within limits.

use std::error::Error;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use forcewire::net::{Address, Answered, Job, Pool, PoolEvent, PoolOptions, Ticket};
use indicatif::ProgressBar;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

/// How often the pool is left, to see whether the user still wants us or another limit has passed.
const TICK: Duration = Duration::from_millis(100);

/// How long drivers have to close when they are told EXIT.
const PARTING: Duration = Duration::from_secs(5);

/// The process was asked to end by this signal, and nothing is computed any more.
#[derive(Debug)]
pub struct Ended {
    signal: usize,
}

impl Ended {
    /// What shells report of a process that a signal has ended.
    pub fn status(&self) -> u8 {
        u8::try_from(128 + self.signal).unwrap_or(1)
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match i32::try_from(self.signal) {
            Ok(SIGHUP) => "SIGHUP",
            _ => "SIGTERM",
        };
        write!(f, "ended by {name}, after what was being computed")
    }
}

impl Error for Ended {}

/// Writes a line to the standard error. A log that can't be written is no reason to lose work.
pub fn log(text: &str) {
    let _ = io::stderr().write_all(format!("server: {text}\n").as_bytes());
}

/// So many drivers were lost over a job that it has no answer.
#[derive(Debug)]
pub struct GivenUp {
    pub ticket: Ticket,
    attempts: u32,
}

impl fmt::Display for GivenUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let drivers = match self.attempts {
            1 => "1 driver was".into(),
            more => format!("{more} drivers were"),
        };
        write!(
            f,
            "{drivers} lost over one structure: see why, or allow more --attempts"
        )
    }
}

impl Error for GivenUp {}

/// The answer to a job, if it has one.
pub type Outcome = Result<Answered, GivenUp>;

pub struct Drivers {
    pool: Pool,
    /// How long to wait for drivers.
    wait: Duration,
    /// Since when there is none.
    alone: Option<Instant>,
    bar: ProgressBar,
    interrupted: Arc<AtomicBool>,
    /// The signal by which the process was asked to end, or 0.
    ending: Arc<AtomicUsize>,
    /// Drivers get nothing more to compute.
    drained: bool,
    /// Nothing has happened in the last turn.
    quiet: bool,
}

impl Drivers {
    /// Listens, and says where.
    pub fn listen(
        options: PoolOptions,
        address: &Address,
        wait: Duration,
    ) -> Result<Self, Box<dyn Error>> {
        let interrupted = Arc::new(AtomicBool::new(false));
        let ending = Arc::new(AtomicUsize::new(0));
        let asked = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // With nohup the run outlives its terminal.
            if signal == SIGHUP && ignores_hangups() {
                continue;
            }
            // The second one ends us at once.
            flag::register_conditional_shutdown(signal, 128 + signal, asked.clone())?;
            flag::register(signal, asked.clone())?;
            match usize::try_from(signal) {
                Ok(number) if signal != SIGINT => {
                    flag::register_usize(signal, ending.clone(), number)?;
                }
                _ => {
                    flag::register(signal, interrupted.clone())?;
                }
            }
        }
        let mut pool = Pool::new(options)?;
        // The host as it was given: a name may be more than one address.
        let bound = match (pool.listen(address)?, address) {
            (Address::Tcp { port, .. }, Address::Tcp { host, .. }) => Address::tcp(host, port),
            (bound, _) => bound,
        };
        let drivers = Self {
            pool,
            wait,
            alone: None,
            bar: ProgressBar::hidden(),
            interrupted,
            ending,
            drained: false,
            quiet: false,
        };
        drivers.say(&format!("listening on {bound}"));
        Ok(drivers)
    }

    /// What is said from now on is said above this.
    pub fn show(&mut self, bar: &ProgressBar) {
        self.bar = bar.clone();
    }

    pub fn say(&self, text: &str) {
        self.bar.suspend(|| log(text));
    }

    pub fn count(&self) -> usize {
        self.pool.drivers()
    }

    /// Waits until so many have joined.
    pub fn gather(&mut self, count: usize) -> Result<(), Box<dyn Error>> {
        let start = Instant::now();
        let wanted = counted(count, "driver");
        self.say(&format!("waiting up to {:?} for {wanted}", self.wait));
        while self.count() < count {
            let left = self.wait.saturating_sub(start.elapsed());
            // One that has connected may still answer.
            if left.is_zero() && self.pool.connections() <= self.count() {
                return Err(format!(
                    "waited {:?} for {wanted}, and {} joined: start them while the server waits, with its address",
                    self.wait,
                    self.count()
                )
                .into());
            }
            self.turn(left)?;
            self.check_ending()?;
        }
        Ok(())
    }

    /// Fails if the process was asked to end and all that was being computed has been answered.
    fn check_ending(&self) -> Result<(), Ended> {
        let signal = self.ending.load(Ordering::Relaxed);
        match self.drained && self.quiet && self.pool.running() == 0 {
            true => Err(Ended { signal }),
            false => Ok(()),
        }
    }

    pub fn submit(&mut self, job: Job) -> Result<Ticket, Box<dyn Error>> {
        Ok(self.pool.submit(job)?)
    }

    /// What has become of the next job, within a limit if there is one.
    pub fn next(&mut self, limit: Option<Duration>) -> Result<Option<Outcome>, Box<dyn Error>> {
        let start = Instant::now();
        loop {
            let mut left = limit.map_or(TICK, |limit| limit.saturating_sub(start.elapsed()));
            let late = left.is_zero();
            if self.count() > 0 || self.drained {
                self.alone = None;
            } else {
                if self.alone.is_none() {
                    let wait = self.wait;
                    self.say(&format!(
                        "no driver is left; waiting up to {wait:?} for another"
                    ));
                }
                let since = self.alone.get_or_insert_with(Instant::now);
                left = left.min(self.wait.saturating_sub(since.elapsed()));
            }
            if let Some(outcome) = self.turn(left)? {
                return Ok(Some(outcome));
            }
            self.check_ending()?;
            let waited = self.alone.is_some_and(|since| since.elapsed() >= self.wait);
            // One that has connected may still answer.
            if waited && self.pool.connections() == 0 {
                return Err(format!(
                    "no driver is left, and none has come within {:?}: see what ended them",
                    self.wait
                )
                .into());
            }
            if late {
                return Ok(None);
            }
        }
    }

    /// Has one structure computed.
    pub fn evaluate(&mut self, job: Job) -> Result<Answered, Box<dyn Error>> {
        self.submit(job)?;
        loop {
            if let Some(outcome) = self.next(None)? {
                return Ok(outcome?);
            }
        }
    }

    /// The next thing that happens, if it does so soon.
    fn turn(&mut self, left: Duration) -> Result<Option<Outcome>, Box<dyn Error>> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Err("interrupted".into());
        }
        if self.ending.load(Ordering::Relaxed) != 0 && !self.drained {
            self.drained = true;
            let running = counted(self.pool.running(), "evaluation");
            self.say(&format!("asked to end: waiting for {running}"));
            self.pool.drain();
        }
        let event = self.pool.next(Some(left.min(TICK)))?;
        self.quiet = event.is_none();
        match event {
            Some(PoolEvent::Answered(answer)) => return Ok(Some(Ok(answer))),
            Some(PoolEvent::GivenUp {
                ticket, attempts, ..
            }) => return Ok(Some(Err(GivenUp { ticket, attempts }))),
            Some(PoolEvent::Joined { driver, peer }) => {
                self.alone = None; // it may have left again already
                self.say(&format!("driver {driver} ({peer}) joined"));
            }
            Some(PoolEvent::Left {
                driver,
                peer,
                why,
                requeued,
            }) => {
                let others = match requeued {
                    0 => String::new(),
                    1 => "; its 1 evaluation goes to another".into(),
                    more => format!("; its {more} evaluations go to others"),
                };
                self.say(&format!("driver {driver} ({peer}) left: {why}{others}"));
            }
            _ => {}
        }
        Ok(None)
    }

    /// Tells them all to exit: i-PI's Python driver would spin for ever otherwise.
    pub fn close(self) -> io::Result<()> {
        let left = self.pool.close(PARTING)?;
        if left > 0 {
            let drivers = counted(left, "driver");
            log(&format!("{drivers} had not closed after {PARTING:?}"));
        }
        Ok(())
    }
}

/// Whether the process was started with SIGHUP ignored, as nohup does. Only Linux reports that.
fn ignores_hangups() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (SIGHUP - 1)) != 0)
}

pub fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}
