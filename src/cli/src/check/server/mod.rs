//! A server under test, and us as its drivers: a good one, the clumsy one beside it, and what the server made of both.
//!
//! What a server takes for the truth shows in what it asks next. The kit therefore wants a run that is the same each
//! time and comes to an end; the control is such a run with a good driver alone. Beside a clumsy driver, every structure
//! of the control must have had a right answer at the end, and no other may have been asked for.

use std::collections::HashSet;
use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use forcewire::Header;

use super::ending::{judge_end, last_line, quoted};
use super::line::{Address, Line, Lost};
use super::program::{PREFIX, Subject, TICK};
use super::report::Finding;
use super::situation::About;
use super::wire::{self, ATOM, MATRIX, Structure};

/// What is the same for all situations.
pub struct Plan {
    pub target: Target,
    pub patience: Duration,
    /// For a program to start.
    pub start: Duration,
    /// What was asked of the good driver in the control runs. None if the server can't be started anew.
    pub control: Option<Asked>,
}

/// The server.
pub enum Target {
    /// Started for each situation.
    Command { line: String, unix: bool },
    /// One that is there already.
    Running(Address),
}

/// One of the situations. The script gives back connections that are still there: the kit goes on with them as good
/// drivers, to see what the server asks.
pub struct Situation {
    pub about: About,
    pub script: fn(&mut Session) -> Result<Vec<Clumsy>, Lost>,
}

pub struct Session<'a> {
    plan: &'a Plan,
    subject: Option<Subject>,
    address: Address,
    book: Arc<Book>,
    /// Bytes that it had said when it let us connect.
    said: Option<usize>,
}

/// A structure by its bytes: cell, count and positions.
type Key = Vec<u8>;

/// Structures of a run in their order.
pub type Asked = Vec<Key>;

/// What all drivers of a run have seen.
#[derive(Default)]
struct Book {
    asked: Mutex<Asked>,
    /// Structures that have had a right answer.
    right: Mutex<HashSet<Key>>,
    /// Of these, answers of the good driver's.
    good: AtomicUsize,
    /// Right answers of any driver's, after its script.
    later: AtomicUsize,
    /// When the good driver joined, or the server last sent positions.
    heard: Mutex<Option<Instant>>,
    over: AtomicBool,
}

/// Evaluations that a server has to ask for.
const ENOUGH: usize = 3;

/// The longest run.
const LONGEST: Duration = Duration::from_secs(120);

impl Plan {
    /// Two runs with a good driver alone, which have to be the same.
    ///
    /// # Errors
    ///
    /// They were not, or one did not end well.
    pub fn control(&mut self) -> Result<(), String> {
        let first = self.alone()?;
        if let Target::Running(_) = self.target {
            return Ok(());
        }
        let second = self.alone()?;
        if first.len() < ENOUGH {
            let asked = first.len();
            return Err(format!(
                "the server asked for {asked} structures only: give it {ENOUGH} or more to do"
            ));
        }
        if first != second {
            return Err("two runs with a good driver asked for different structures: make the server's run \
                        the same each time (a seed, one thread), so that a wrong one can be seen"
                .into());
        }
        self.control = Some(first);
        Ok(())
    }

    fn alone(&self) -> Result<Asked, String> {
        let session = self.begin()?;
        let book = session.book.clone();
        let finding = session.finish(Vec::new());
        if finding.how == "carried on" {
            Ok(locked(&book.asked).clone())
        } else {
            Err(format!("with a good driver alone: {}", finding.because))
        }
    }

    /// Plays one situation: starts the server, lets the clumsy driver do its thing, then a good one join.
    ///
    /// # Errors
    ///
    /// The server could not be started, or the clumsy driver never got so far.
    pub fn play(&self, situation: &Situation) -> Result<Finding, String> {
        let mut session = self.begin()?;
        match (situation.script)(&mut session) {
            Ok(left) => Ok(session.finish(left)),
            // It had enough before we were done.
            Err(Lost::Closed(_)) => Ok(session.finish(Vec::new())),
            Err(Lost::Silent(_)) => {
                let said = session.said();
                let patience = self.patience;
                Ok(Finding::hung(format!(
                    "said nothing to its only driver for {patience:?}{}",
                    quoted(last_line(&said))
                )))
            }
        }
    }

    fn begin(&self) -> Result<Session<'_>, String> {
        let failed = |error: io::Error| format!("the server can't be started: {error}");
        let (subject, address) = match &self.target {
            Target::Running(address) => (None, address.clone()),
            Target::Command { line, unix } => {
                let address = free_address(*unix).map_err(failed)?;
                (
                    Some(Subject::start(line, &address).map_err(failed)?),
                    address,
                )
            }
        };
        Ok(Session {
            plan: self,
            subject,
            address,
            book: Arc::default(),
            said: None,
        })
    }
}

impl Session<'_> {
    /// A connection of a driver's, once the server listens.
    pub fn connect(&mut self) -> Result<Clumsy, Lost> {
        self.connect_within(self.plan.start)
    }

    pub fn connect_within(&mut self, limit: Duration) -> Result<Clumsy, Lost> {
        let start = Instant::now();
        loop {
            match Line::connect(&self.address) {
                Ok(line) => {
                    line.patience(self.plan.patience);
                    let said = self.said().len();
                    self.said.get_or_insert(said);
                    return Ok(Clumsy {
                        line,
                        patience: self.plan.patience,
                        book: self.book.clone(),
                        good: false,
                        manner: Manner::Good,
                        asked: None,
                    });
                }
                Err(_) if self.subject.as_mut().is_some_and(|it| it.ended().is_some()) => {
                    return Err(Lost::Closed(0));
                }
                Err(_) if start.elapsed() > limit => return Err(Lost::Silent(0)),
                Err(_) => sleep(10 * TICK),
            }
        }
    }

    /// A driver that has been asked STATUS and not answered.
    pub fn probed(&mut self) -> Result<Clumsy, Lost> {
        let mut driver = self.connect()?;
        driver.line.receive(12, self.plan.patience)?;
        Ok(driver)
    }

    /// A driver that has been given positions.
    pub fn given(&mut self) -> Result<Clumsy, Lost> {
        let mut driver = self.connect()?;
        while driver.turn()? != Header::PosData {}
        Ok(driver)
    }

    /// A driver that is to send its forces now.
    pub fn asked(&mut self) -> Result<Clumsy, Lost> {
        let mut driver = self.connect()?;
        while driver.turn()? != Header::GetForce {}
        Ok(driver)
    }

    /// A driver that sends something else than its forces, and goes on.
    pub fn answers(&mut self, reply: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Result<Vec<Clumsy>, Lost> {
        let mut driver = self.asked()?;
        let bytes = reply(driver.reply());
        driver.line.send(&bytes)?;
        driver.asked = None;
        Ok(vec![driver])
    }

    /// A driver that sends the beginning of its reply and closes.
    pub fn cut(&mut self, end: impl FnOnce(usize) -> usize) -> Result<Vec<Clumsy>, Lost> {
        let mut driver = self.asked()?;
        let reply = driver.reply();
        driver.line.send(&reply[..end(reply.len())])?;
        Ok(Vec::new())
    }

    fn said(&self) -> String {
        self.subject.as_ref().map(Subject::said).unwrap_or_default()
    }

    /// Lets a good driver join and sees the run to its end.
    fn finish(mut self, left: Vec<Clumsy>) -> Finding {
        let mut drivers: Vec<_> = left.into_iter().map(Clumsy::goes_on).collect();
        let mut finding = None;
        // A server that had someone to talk to listens.
        let limit = match drivers.len() {
            0 => self.plan.start,
            _ => self.plan.patience,
        };
        match self.connect_within(limit) {
            Ok(mut good) => {
                good.good = true;
                drivers.push(good.goes_on());
            }
            Err(Lost::Silent(_)) => {
                finding = Some(Finding::hung("does not let a good driver connect"))
            }
            // It has ended.
            Err(Lost::Closed(_)) => {}
        }
        *locked(&self.book.heard) = Some(Instant::now());
        let finding = finding.unwrap_or_else(|| self.watch());
        self.book.over.store(true, Ordering::Relaxed);
        for driver in drivers {
            let _ = driver.join();
        }
        finding
    }

    /// Waits until the server ends, or nothing happens any more.
    fn watch(&mut self) -> Finding {
        let start = Instant::now();
        loop {
            let ended = self.subject.as_mut().and_then(Subject::ended);
            // In this order: what was asked before the end has been written down by now.
            sleep(TICK);
            if let Some(strange) = self.strange() {
                return Finding::wrong(strange);
            }
            let good = self.book.good.load(Ordering::Relaxed);
            if let Some(status) = ended {
                sleep(10 * TICK);
                let at = self.said.unwrap_or_default();
                let said = self.subject.as_ref().map(|it| it.said_since(at));
                let finding = judge_end(status, &said.unwrap_or_default());
                return match self.missing() {
                    _ if !status.success() => finding,
                    Some(0) | None => Finding::handled(
                        "carried on",
                        format!("the whole run is right; {good} of it by the good driver"),
                    ),
                    Some(missing) => Finding::wrong(format!(
                        "ended well, but {missing} of its structures never had a right answer"
                    )),
                };
            }
            if self.subject.is_none() && self.book.later.load(Ordering::Relaxed) >= ENOUGH {
                return Finding::handled("carried on", "the work goes on");
            }
            if start.elapsed() > LONGEST {
                return Finding::hung(format!("has not come to its end within {LONGEST:?}"));
            }
            let silent = locked(&self.book.heard).map_or(Duration::ZERO, |heard| heard.elapsed());
            if silent > self.plan.patience {
                let said = self.said();
                let patience = self.plan.patience;
                return Finding::hung(format!(
                    "runs, and asked the good driver nothing for {patience:?} (answers by then: {good}){}",
                    quoted(last_line(&said))
                ));
            }
        }
    }

    /// A structure that the control run did not ask for.
    fn strange(&self) -> Option<String> {
        let control: HashSet<_> = self.plan.control.iter().flatten().collect();
        let asked = locked(&self.book.asked);
        asked.iter().find_map(|key| {
            let (cell, rest) = key.split_at(2 * MATRIX);
            let mut numbers = [wire::numbers(cell), wire::numbers(&rest[4..])]
                .into_iter()
                .flatten();
            if numbers.any(|x| !x.is_finite()) {
                return Some("took it: the next structure's numbers are not finite".to_owned());
            }
            let strange = !control.is_empty() && !control.contains(key);
            strange.then(|| {
                "took it: asked for a structure that the control run does not have".to_owned()
            })
        })
    }

    fn missing(&self) -> Option<usize> {
        let right = locked(&self.book.right);
        let control: HashSet<_> = self.plan.control.as_ref()?.iter().collect();
        Some(
            control
                .into_iter()
                .filter(|key| !right.contains(*key))
                .count(),
        )
    }
}

/// A driver of ours, good until its script says otherwise.
pub struct Clumsy {
    pub line: Line,
    patience: Duration,
    book: Arc<Book>,
    /// Whether it is the good driver beside the clumsy one.
    good: bool,
    /// What it was given and has not replied to.
    asked: Option<(Key, Structure)>,
    /// How it goes on after its script.
    manner: Manner,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Manner {
    Good,
    /// Keeps the connection and does nothing.
    Silent,
    /// Answers every STATUS with NEEDINIT.
    NeedsInit,
}

impl Clumsy {
    /// Hears one message and does what a driver does, but for the forces: those are the caller's.
    pub fn turn(&mut self) -> Result<Header, Lost> {
        let word = self.line.receive(12, self.patience)?;
        self.hears(&word)
    }

    fn hears(&mut self, word: &[u8]) -> Result<Header, Lost> {
        const WORDS: [Header; 5] = [
            Header::Status,
            Header::Init,
            Header::PosData,
            Header::GetForce,
            Header::Exit,
        ];
        let header = WORDS.into_iter().find(|header| header.bytes() == word);
        match header {
            Some(Header::Status) => {
                let status = match self.asked {
                    _ if self.manner == Manner::NeedsInit => Header::NeedInit,
                    Some(_) => Header::HaveData,
                    None => Header::Ready,
                };
                self.line.send(status.bytes())?;
            }
            Some(Header::Init) => {
                let start = self.line.receive(8, self.patience)?;
                let length = usize::try_from(wire::integer(&start[4..])).unwrap_or(0);
                self.line.receive(length, self.patience)?;
            }
            Some(Header::PosData) => self.takes_positions()?,
            Some(Header::GetForce) => {}
            Some(Header::Exit) | None | Some(_) => return Err(Lost::Closed(0)),
        }
        Ok(header.unwrap_or(Header::Exit))
    }

    fn takes_positions(&mut self) -> Result<(), Lost> {
        let mut key = self.line.receive(2 * MATRIX + 4, self.patience)?;
        let natoms = usize::try_from(wire::integer(&key[2 * MATRIX..])).unwrap_or(0);
        let positions = self.line.receive(natoms * ATOM, self.patience)?;
        let structure = Structure {
            h: [[0.0; 3]; 3], // springs know no cell
            positions: wire::numbers(&positions).as_chunks().0.to_owned(),
        };
        key.extend(positions);
        locked(&self.book.asked).push(key.clone());
        *locked(&self.book.heard) = Some(Instant::now());
        self.asked = Some((key, structure));
        Ok(())
    }

    /// What it should send now.
    pub fn reply(&self) -> Vec<u8> {
        let answer = self
            .asked
            .as_ref()
            .map(|(_, structure)| wire::springs(structure));
        answer.as_ref().map(wire::forceready).unwrap_or_default()
    }

    /// The right answer is on its way, whatever way that was.
    pub fn is_right(&mut self) {
        if let Some((key, _)) = self.asked.take() {
            locked(&self.book.right).insert(key);
            if self.good {
                self.book.good.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// What it does after its script.
    pub fn then(self, manner: Manner) -> Self {
        Self { manner, ..self }
    }

    /// Goes on in its manner, until the server has had enough.
    fn goes_on(mut self) -> JoinHandle<()> {
        thread::spawn(move || {
            while !self.book.over.load(Ordering::Relaxed) {
                if self.manner == Manner::Silent {
                    sleep(4 * TICK);
                    continue;
                }
                let word = match self.line.receive(12, 20 * TICK) {
                    Err(Lost::Silent(0)) => continue,
                    Err(_) => return,
                    Ok(word) => word,
                };
                let reply = match self.hears(&word) {
                    Ok(Header::GetForce) if self.asked.is_some() => self.reply(),
                    Ok(Header::GetForce) | Err(_) => return,
                    Ok(_) => continue,
                };
                // Before it is sent: the server may be at its end as soon as it has it.
                let right = self.asked.clone();
                self.is_right();
                if self.line.send(&reply).is_err() {
                    if let Some((key, _)) = right {
                        locked(&self.book.right).remove(&key);
                    }
                    return;
                }
                self.book.later.fetch_add(1, Ordering::Relaxed);
            }
        })
    }
}

/// A place where nobody listens.
fn free_address(unix: bool) -> io::Result<Address> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    if unix {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = format!("{PREFIX}check_{}_s{count}", std::process::id());
        return Ok(Address::Unix(PathBuf::from(path)));
    }
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    Ok(Address::Tcp("127.0.0.1".into(), port))
}

/// A thread that panicked leaves nothing half done here.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
