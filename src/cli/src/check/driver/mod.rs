//! Tests a driver, with the kit as its server: the good conversation that is the control, and the
//! judgement of endings.

mod ends;
mod session;

use std::io;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::Instant;

use super::ending::{last_line, quoted};
use super::limits::{Calibration, Limits};
use super::line::Lost;
use super::listener::Listener;
use super::physics::{PHYSICS, Precision};
use super::program::{PREFIX, Subject, TICK};
use super::report::{Finding, Verdict};
use super::situation::About;
use super::wire::{Answer, Structure};
pub use session::Session;

/// The common data of all situations.
pub struct Plan {
    pub command: String,
    pub unix: bool,
    /// Two structures with the same number of atoms.
    pub structures: [Structure; 2],
    /// The structure for the derivatives.
    pub physics: Structure,
    pub precision: Precision,
    pub calibration: Calibration,
    /// Another run's answers for the two structures, computed on first use.
    pub right: OnceLock<Result<Vec<Answer>, String>>,
}

/// A situation to play.
pub struct Situation {
    pub about: About,
    /// Whether the situation needs a fresh connection.
    pub fresh: bool,
    /// Whether the server keeps to the protocol in it, so that the driver has no reason to end.
    pub legal: bool,
    pub script: fn(&mut Session) -> Result<Finding, Stop>,
}

/// Why a script stops.
#[derive(Debug)]
pub enum Stop {
    Lost(Lost),
    /// An answer with wrong numbers.
    Wrong(String),
    /// An answer with an infinite or NaN energy, force or virial.
    NotFinite(&'static str),
    /// READY instead of HAVEDATA: the driver has dropped the structure.
    Dropped,
}

impl From<Lost> for Stop {
    fn from(lost: Lost) -> Self {
        Self::Lost(lost)
    }
}

impl Stop {
    fn explain(self) -> String {
        match self {
            Self::Wrong(what) => what,
            Self::NotFinite(what) => format!("{what} infinite or NaN"),
            Self::Dropped => "the driver did not take the structure".into(),
            Self::Lost(Lost::Closed(_) | Lost::Refused) => {
                "the driver closed the connection".into()
            }
            Self::Lost(Lost::Silent(_)) => "the driver was silent".into(),
        }
    }
}

impl Plan {
    /// Plays one situation: starts the driver, holds the control conversation, then does the clumsy
    /// thing.
    ///
    /// # Errors
    ///
    /// The control conversation failed, so the situation can't be judged.
    pub fn play(&self, situation: &Situation, limits: Limits) -> Result<Finding, String> {
        let mut session = self.begin(limits)?;
        if !situation.fresh {
            session.control()?;
        }
        session.said = session.subject.said().len();
        let finding = match (situation.script)(&mut session) {
            Ok(finding) => finding,
            Err(stop) => session.stopped(stop),
        };
        let went_on = ["carried on", "came back", "recovered", "consistent"].contains(&finding.how);
        if situation.legal && finding.verdict == Verdict::Handled && !went_on {
            let other = match situation.about.name {
                PHYSICS => " (another structure: --structure)",
                _ => "",
            };
            return Ok(Finding {
                verdict: Verdict::GaveUp,
                because: format!("nothing was wrong, and it {}{other}", finding.because),
                ..finding
            });
        }
        Ok(finding)
    }

    /// The answers of a separate run of the driver for these structures alone.
    pub fn reference(
        &self,
        structures: &[Structure],
        limits: Limits,
    ) -> Result<Vec<Answer>, String> {
        let mut session = self.begin(limits)?;
        let answers = structures
            .iter()
            .map(|structure| session.evaluate(structure));
        let answers: Result<Vec<_>, _> = answers.collect();
        answers.map_err(Stop::explain)
    }

    fn begin(&self, limits: Limits) -> Result<Session<'_>, String> {
        let failed =
            |error: io::Error| format!("the kit can't listen or start the driver: {error}");
        let listener = Listener::new(self.unix.then(unix_path)).map_err(failed)?;
        let address = listener.address().map_err(failed)?;
        let mut subject = Subject::start(&self.command, &address).map_err(failed)?;
        let start = Instant::now();
        loop {
            if let Some(line) = listener.accept() {
                line.patience(limits.patience);
                return Ok(Session {
                    plan: self,
                    limits,
                    subject,
                    listener: Some(listener),
                    line,
                    right: Vec::new(),
                    said: 0,
                    inside: false,
                });
            }
            let why = match subject.ended() {
                Some(status) => format!("the driver ended before it connected ({status})"),
                None if start.elapsed() > limits.start => {
                    format!(
                        "the driver has not connected within {:.0?}",
                        self.calibration.start()
                    )
                }
                None => {
                    sleep(TICK);
                    continue;
                }
            };
            return Err(format!("{why}{}", quoted(last_line(&subject.said()))));
        }
    }
}

/// A path at which i-PI's driver and ASE's look as well.
fn unix_path() -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{PREFIX}check_{}_{count}", std::process::id()).into()
}
