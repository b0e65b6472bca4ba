//! The drivers of a server. Reports drivers that join and leave, and waits for more, within limits.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use forcewire::net::{
    Address, Answered, DriverId, Job, LeftReason, Pool, PoolEvent, PoolOptions, Subnet, Ticket,
};
use forcewire::{Deadline, Mode};
use indicatif::ProgressBar;
use rustix::process::{Resource, getrlimit, setrlimit};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::arguments::seconds;
use crate::meet::Announced;
use crate::say::{Failure, counted, say, up_to};
use crate::trouble::explain;

/// How often to check for a signal, and the limits that the pool does not know.
const TICK: Duration = Duration::from_millis(100);

/// How many drivers may come and go before the server has its turn again.
const MOST_EVENTS: usize = 1000;

/// How long drivers may take to close after EXIT.
const PARTING: Duration = Duration::from_secs(5);

/// How to evaluate structures with drivers.
#[derive(Args, Debug)]
pub struct Asking {
    /// Drivers to wait for before the first evaluation; others may come and go
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u64).range(1..))]
    drivers: u64,
    /// Seconds to wait for them, and for another if none is there
    #[arg(long, value_name = "S", default_value = "60", value_parser = seconds)]
    wait: Duration,
    #[command(flatten)]
    treatment: Treatment,
    /// Text of INIT
    #[arg(
        long,
        value_name = "TEXT",
        default_value = " ",
        hide_default_value = true,
        value_parser = init_text
    )]
    init: String,
}

/// How to treat drivers.
#[derive(Args, Debug)]
pub struct Treatment {
    /// Seconds for an evaluation, after which the driver is dropped
    #[arg(long, value_name = "S", value_parser = seconds)]
    timeout: Option<Duration>,
    /// Seconds after which a structure also goes to an idle driver [default: never]
    #[arg(long, value_name = "S", value_parser = seconds)]
    stragglers: Option<Duration>,
    /// Drivers that may be lost over one structure
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u32).range(1..))]
    attempts: u32,
    /// consolidated, classic, or strict (ABINIT)
    #[arg(
        long,
        value_name = "MODE",
        default_value = "consolidated",
        hide_possible_values = true
    )]
    mode: Conversation,
    /// Structures to send at once to drivers that ask for INIT
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    batch: Option<u32>,
    /// Wrap atoms into the cell first (LAMMPS of 2021)
    #[arg(long)]
    fold: bool,
    /// Count only answers of drivers that have read the FILE of --meet
    #[arg(long, requires = "meet")]
    meet_only: bool,
    /// Accept TCP drivers only from there, as 10.1.0.0/16; repeatable
    #[arg(long, value_name = "SUBNET")]
    allow: Vec<Subnet>,
}

/// Refuses an empty INIT: drivers that wait for its bytes take it for the end of the connection.
fn init_text(text: &str) -> Result<String, String> {
    match text {
        "" => Err("a text of no bytes ends i-PI's own driver and others: give a blank".into()),
        text => Ok(text.into()),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Conversation {
    Consolidated,
    Classic,
    Strict,
}

impl Treatment {
    pub fn options(&self) -> Result<PoolOptions, Failure> {
        let mode = match (self.mode, self.batch) {
            (Conversation::Consolidated, Some(size)) => Mode::Batched(size as usize),
            (Conversation::Consolidated, None) => Mode::Consolidated,
            (Conversation::Classic, None) => Mode::Classic,
            (Conversation::Strict, None) => Mode::Strict,
            (_, Some(_)) => {
                return Err(Failure::Usage(
                    "--batch is for --mode consolidated only".into(),
                ));
            }
        };
        let mut options = PoolOptions::default()
            .mode(mode)
            .attempts(Some(self.attempts))
            .stragglers(self.stragglers)
            .fold(self.fold)
            .allow(self.allow.clone());
        options.deadlines.evaluation = self.timeout;
        Ok(options)
    }
}

impl Asking {
    /// The most structures that a driver may have at a time.
    pub fn batch(&self) -> usize {
        self.treatment.batch.map_or(1, |size| size as usize)
    }
}

/// The outcome of a job: an answer, or the reason why there is none.
pub struct Outcome {
    pub ticket: Ticket,
    pub answer: Result<Answered, String>,
}

/// Raises the limit on open connections to what the system allows. A shell's default is 1024, for
/// programs that use `select`.
fn allow_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // If that fails, fewer drivers connect and the others wait.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Signals that end a run and keep the finished results. The second signal ends the program at
/// once.
pub fn interruptions() -> Result<Arc<AtomicBool>, Failure> {
    let interrupted = Arc::new(AtomicBool::new(false));
    // Not SIGHUP: nohup sets it to be ignored, and a handler would undo that.
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, 1, interrupted.clone())?;
        flag::register(signal, interrupted.clone())?;
    }
    Ok(interrupted)
}

pub struct Drivers {
    pool: Pool,
    address: Address,
    /// How long to wait for drivers.
    wait: Duration,
    /// The time since which there has been no driver.
    alone: Option<Instant>,
    /// The value of `alone` before a driver joined that may not count.
    was_alone: Option<Instant>,
    bar: ProgressBar,
    interrupted: Arc<AtomicBool>,
    /// The file of `--meet`.
    announced: Option<Announced>,
    meet_only: bool,
    /// Drivers that have presented the token.
    met: HashSet<DriverId>,
    /// Resubmitted jobs, with their original tickets.
    again: HashMap<Ticket, Ticket>,
    /// Jobs without an answer, by their original tickets.
    waiting: BTreeSet<Ticket>,
    losses: Losses,
}

/// Drivers that were lost over jobs, one after another, since the last answer.
///
/// The pool counts only losses of drivers that have answered before. If none has, a structure that
/// crashes its driver would go from one driver to the next without an end.
#[derive(Default)]
struct Losses {
    count: u32,
    /// The longest time that one of them was connected.
    longest: Duration,
    /// How many losses make a job fail.
    most: u32,
    joined: HashMap<DriverId, Instant>,
}

/// This many drivers that never answered count as one that did, as in the pool.
const NEWCOMERS: u32 = 4;

impl Losses {
    fn lost(&mut self, driver: DriverId) {
        let lived = self.joined.remove(&driver).map(|since| since.elapsed());
        self.longest = self.longest.max(lived.unwrap_or_default());
        self.count += 1;
    }

    fn answered(&mut self) {
        (self.count, self.longest) = (0, Duration::ZERO);
    }

    /// Whether no connected driver has lasted clearly longer than the lost ones.
    fn are_all(&self) -> bool {
        let limit = 2 * self.longest + Duration::from_secs(1);
        let mut present = self.joined.values();
        self.count >= self.most && present.all(|since| since.elapsed() < limit)
    }
}

impl Drivers {
    /// Listens for drivers in this mode, and prints the address.
    pub fn listen(
        asking: &Asking,
        meet: Option<&Path>,
        address: &Address,
        bar: &ProgressBar,
        interrupted: &Arc<AtomicBool>,
    ) -> Result<Self, Failure> {
        let options = asking.treatment.options()?;
        let mut drivers = Self::open(options, address, bar, interrupted)?;
        drivers.wait = asking.wait;
        drivers.announce(meet, &asking.treatment)?;
        drivers.set_init(asking.init.clone().into_bytes());
        Ok(drivers)
    }

    /// Listens and prints the address. Waits for drivers without a limit.
    pub fn open(
        options: PoolOptions,
        address: &Address,
        bar: &ProgressBar,
        interrupted: &Arc<AtomicBool>,
    ) -> Result<Self, Failure> {
        allow_descriptors();
        let attempts = options.attempts.unwrap_or(u32::MAX);
        let mut pool = Pool::new(options)?;
        // Print the host as it was given: a name may have several addresses.
        let address = match (pool.listen(address)?, address) {
            (Address::Tcp { port, .. }, Address::Tcp { host, .. }) => Address::tcp(host, port),
            (bound, _) => bound,
        };
        let drivers = Self {
            pool,
            address,
            wait: Duration::MAX,
            alone: None,
            was_alone: None,
            announced: None,
            meet_only: false,
            met: HashSet::new(),
            again: HashMap::new(),
            waiting: BTreeSet::new(),
            losses: Losses {
                most: attempts.saturating_mul(NEWCOMERS),
                ..Losses::default()
            },
            bar: bar.clone(),
            interrupted: interrupted.clone(),
        };
        drivers.say(&format!("listening on {}", drivers.address));
        Ok(drivers)
    }

    /// Writes the file of `--meet`, if one was given.
    pub fn announce(&mut self, meet: Option<&Path>, treatment: &Treatment) -> Result<(), Failure> {
        self.meet_only = treatment.meet_only;
        self.announced = match meet {
            Some(path) => Some(Announced::write(path, &self.address)?),
            None => None,
        };
        // INIT presents the token.
        self.set_init(Vec::new());
        Ok(())
    }

    /// The address for drivers.
    pub const fn address(&self) -> &Address {
        &self.address
    }

    pub fn say(&self, text: &str) {
        self.bar.suspend(|| say(text));
    }

    /// Hides the progress bar while something is printed.
    pub fn suspend<T>(&self, does: impl FnOnce() -> T) -> T {
        self.bar.suspend(does)
    }

    pub fn count(&self) -> usize {
        self.pool.drivers()
    }

    /// Waits until the requested number of drivers has joined.
    pub fn gather(&mut self, asking: &Asking) -> Result<(), Failure> {
        let start = Instant::now();
        let wanted = counted(asking.drivers, "driver");
        self.say(&format!("waiting {} for {wanted}", up_to(self.wait)));
        while (self.count() as u64) < asking.drivers {
            let left = self.wait.saturating_sub(start.elapsed());
            if left.is_zero() {
                let (wait, count, address) = (self.wait, self.count(), &self.address);
                return Err(Failure::Run(format!(
                    "waited {wait:?} for {wanted}, and {count} joined: start them while the server waits, at {address}"
                )));
            }
            self.turn(left)?;
        }
        Ok(())
    }

    pub fn submit(&mut self, job: Job) -> Result<Ticket, Failure> {
        let ticket = self
            .pool
            .submit(job)
            .map_err(|refused| Failure::Run(explain(&refused.why.into())))?;
        self.waiting.insert(ticket);
        Ok(ticket)
    }

    /// Sets the text of INIT.
    pub fn set_init(&mut self, text: Vec<u8>) {
        self.pool.set_init(match &self.announced {
            Some(announced) => announced.token.put_into_init(&text),
            None => text,
        });
    }

    /// Cancels a job whose answer is no longer needed.
    pub fn cancel(&mut self, ticket: Ticket) {
        self.waiting.remove(&ticket);
        self.pool.cancel(ticket);
        let again = self.again.extract_if(|_, before| *before == ticket);
        for (ticket, _) in again {
            self.pool.cancel(ticket);
        }
    }

    /// The outcome of the next job, within a limit if there is one.
    pub fn next(&mut self, limit: Option<Duration>) -> Result<Option<Outcome>, Failure> {
        let start = Instant::now();
        loop {
            let mut left = limit.map_or(TICK, |limit| limit.saturating_sub(start.elapsed()));
            let late = limit.is_some() && left.is_zero();
            if self.count() > 0 {
                self.was_alone = self.alone.take().or(self.was_alone);
            } else {
                if self.alone.is_none() {
                    let wait = up_to(self.wait);
                    self.say(&format!("there is no driver; waiting {wait} for another"));
                }
                let since = self.alone.get_or_insert_with(Instant::now);
                left = left.min(self.wait.saturating_sub(since.elapsed()));
            }
            if let Some(outcome) = self.turn(left)? {
                return Ok(Some(outcome));
            }
            if self.alone.is_some_and(|since| since.elapsed() >= self.wait) {
                let wait = self.wait;
                return Err(Failure::Run(format!(
                    "there is no driver, and none has come within {wait:?}: see what ended them"
                )));
            }
            if late {
                return Ok(None);
            }
        }
    }

    /// Lets a driver compute one structure.
    pub fn evaluate(&mut self, job: Job) -> Result<Answered, Failure> {
        self.submit(job)?;
        loop {
            if let Some(outcome) = self.next(None)? {
                return outcome.answer.map_err(Failure::Run);
            }
        }
    }

    /// Waits for the next event, up to a limit.
    pub fn turn(&mut self, left: Duration) -> Result<Option<Outcome>, Failure> {
        self.check_interrupted()?;
        let event = self.pool.next(Some(left.min(TICK)))?;
        let outcome = event.and_then(|event| self.note(event));
        Ok(match outcome {
            Some(outcome) => {
                self.waiting.remove(&outcome.ticket);
                Some(outcome)
            }
            None => self.give_up(),
        })
    }

    /// The failure of the oldest job, if drivers are lost over it one after another.
    fn give_up(&mut self) -> Option<Outcome> {
        if !self.losses.are_all() {
            return None;
        }
        let ticket = *self.waiting.first()?;
        let count = self.losses.count;
        self.losses.answered();
        self.cancel(ticket);
        Some(Outcome {
            ticket,
            answer: Err(format!(
                "{count} drivers were lost over what they were given, and none has answered: see why, or allow \
                 more --attempts"
            )),
        })
    }

    /// Serves drivers that have no job, without waiting.
    pub fn catch_up(&mut self) -> Result<(), Failure> {
        self.check_interrupted()?;
        for _ in 0..MOST_EVENTS {
            match self.pool.next(Some(Duration::ZERO))? {
                Some(event) => {
                    if let Some(outcome) = self.note(event) {
                        self.waiting.remove(&outcome.ticket);
                    }
                }
                None => break,
            }
        }
        Ok(())
    }

    fn check_interrupted(&self) -> Result<(), Failure> {
        match self.interrupted.load(Ordering::Relaxed) {
            true => Err(Failure::Run("interrupted".into())),
            false => Ok(()),
        }
    }

    /// Returns the outcome of a job; prints other events.
    fn note(&mut self, event: PoolEvent) -> Option<Outcome> {
        match event {
            PoolEvent::Answered(answer) => return self.answered(answer),
            PoolEvent::GivenUp {
                ticket, attempts, ..
            } => {
                let drivers = counted(attempts, "driver");
                let why =
                    format!("{drivers} lost over one structure: see why, or allow more --attempts");
                return Some(Outcome {
                    ticket: self.again.remove(&ticket).unwrap_or(ticket),
                    answer: Err(why),
                });
            }
            PoolEvent::Joined { driver, peer } => {
                self.losses.joined.insert(driver, Instant::now());
                self.say(&format!("driver {driver} ({peer}) joined"));
            }
            PoolEvent::Left {
                driver,
                peer,
                why,
                requeued,
            } => {
                self.met.remove(&driver);
                match requeued {
                    0 => drop(self.losses.joined.remove(&driver)),
                    _ => self.losses.lost(driver),
                }
                if matches!(why, LeftReason::Dismissed) && self.count() == 0 {
                    // The driver was dismissed before it counted.
                    self.alone = self.was_alone;
                }
                let flag = match why {
                    LeftReason::Late(late) if late.deadline == Deadline::Evaluation => {
                        " (--timeout)"
                    }
                    LeftReason::NotAllowed => " (--allow)",
                    _ => "",
                };
                let others = match requeued {
                    0 => String::new(),
                    1 => "; its 1 evaluation goes to another".into(),
                    more => format!("; its {more} evaluations go to others"),
                };
                self.say(&format!(
                    "driver {driver} ({peer}) left: {why}{flag}{others}"
                ));
            }
            _ => {}
        }
        None
    }

    /// Accepts an answer if its driver counts.
    fn answered(&mut self, mut answer: Answered) -> Option<Outcome> {
        let driver = answer.driver;
        self.losses.answered();
        let ticket = self.again.remove(&answer.ticket).unwrap_or(answer.ticket);
        if let Some(announced) = &self.announced {
            let len = answer.extras.len();
            if announced.token.take_off(&mut answer.extras) {
                answer.extras_sent -= len - answer.extras.len();
                self.met.insert(driver);
            }
        }
        if self.meet_only && !self.met.contains(&driver) {
            if self.pool.dismiss(driver) {
                self.say(&format!(
                    "driver {driver} has not read the file of --meet: its answers don't count"
                ));
            }
            return match self.pool.submit(answer.job) {
                Ok(again) => {
                    self.again.insert(again, ticket);
                    None
                }
                Err(refused) => Some(Outcome {
                    ticket,
                    answer: Err(explain(&refused.why.into())),
                }),
            };
        }
        self.was_alone = None;
        Some(Outcome {
            ticket,
            answer: Ok(answer),
        })
    }

    /// Sends EXIT to all drivers, without which i-PI's Python driver spins forever.
    pub fn close(self) -> Result<(), Failure> {
        let Self { pool, bar, .. } = self;
        let left = pool.close(PARTING)?;
        if left > 0 {
            let drivers = counted(left as u64, "driver");
            bar.suspend(|| say(format_args!("{drivers} had not closed after {PARTING:?}")));
        }
        Ok(())
    }
}
