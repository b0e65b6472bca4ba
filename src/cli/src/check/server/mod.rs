//! Tests a server, with the kit as its drivers: a good one, and the clumsy one at its side.
//!
//! The next structure of a server shows which numbers it believed. The kit therefore needs a run
//! that is the same each time and comes to an end; the control is such a run with only the good
//! driver. Beside a clumsy driver, every structure of the control must have got a right answer by
//! the end, and the server must have asked for no other structure.

mod book;
mod clumsy;
mod heard;
mod session;

use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::ending::{last_line, quoted};
use super::limits::{Calibration, Limits};
use super::line::{Address, Lost};
use super::program::{PREFIX, Subject};
use super::report::{Fault, Finding};
use super::situation::About;
use super::wire::Structure;
use book::{Asked, locked};
pub use clumsy::{Clumsy, Manner};
pub use session::Session;

/// The common data of all situations.
pub struct Plan {
    pub target: Target,
    pub calibration: Calibration,
    /// The expected first structure, if it is known.
    pub expected: Option<Structure>,
    /// The structures that the good driver received in the control runs. `None` if the server can't
    /// be restarted.
    pub control: Option<Asked>,
}

/// The server under test.
pub enum Target {
    /// A command that starts the server for each situation.
    Command { line: String, unix: bool },
    /// A server that is already running.
    Running(Address),
}

/// A situation to play. The script returns the connections that are still open. The kit continues
/// with them as good drivers, to see what the server asks.
pub struct Situation {
    pub about: About,
    pub judged: Judged,
    pub script: fn(&mut Session) -> Result<Vec<Clumsy>, Lost>,
}

/// How a server may react to a situation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// The server has to continue: with another driver, or with this one, which does nothing wrong.
    GoesOn,
    /// The server may also end with a reason, because the driver's messages spoil the run.
    MayEnd,
    /// The server has to continue, and its messages have to be right.
    Messages,
    /// The server has to continue, and to send INIT to a driver that asks for it.
    Init,
}

/// The fewest evaluations that a server has to ask for.
const ENOUGH: usize = 3;

impl Plan {
    /// Runs the server twice with only a good driver; both runs have to be the same.
    ///
    /// # Errors
    ///
    /// An explanation if the runs differ or one did not end well.
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
        let session = self.begin(self.calibration.limits(1))?;
        let book = session.book.clone();
        let finding = session.finish(Vec::new(), Judged::MayEnd);
        let unreadable = |fault: &Fault| ["byte order", "float32", "int64"].contains(&fault.name);
        if let Some(fault) = book.faults().into_iter().find(unreadable) {
            return Err(format!("{}{}", fault.sentence, book.seen()));
        }
        if finding.how == "carried on" {
            self.calibration.took(book.slowest());
            Ok(locked(&book.asked).clone())
        } else {
            let because = finding.because;
            Err(format!(
                "with a good driver alone: {because}{}",
                book.seen()
            ))
        }
    }

    /// Plays one situation: starts the server, lets the clumsy driver play its part, then lets a
    /// good one join.
    ///
    /// # Errors
    ///
    /// An explanation if the server could not be started or the clumsy driver never reached its
    /// part.
    pub fn play(&self, situation: &Situation, limits: Limits) -> Result<Finding, String> {
        let mut session = self.begin(limits)?;
        match (situation.script)(&mut session) {
            Ok(left) => Ok(session.finish(left, situation.judged)),
            // The server closed before the script ended.
            Err(Lost::Closed(_)) => Ok(session.finish(Vec::new(), situation.judged)),
            Err(Lost::Refused) => Err(session.refused()),
            Err(Lost::Silent(_)) => {
                let said = session.said();
                let patience = limits.patience;
                Ok(Finding::hung(format!(
                    "said nothing to its only driver for {patience:.0?}{}",
                    quoted(last_line(&said))
                )))
            }
        }
    }

    fn begin(&self, limits: Limits) -> Result<Session<'_>, String> {
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
            limits,
            subject,
            address,
            book: Arc::default(),
            said: None,
        })
    }
}

/// An address where nobody listens.
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
