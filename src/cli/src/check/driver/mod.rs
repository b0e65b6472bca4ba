//! A driver under test, and us as its server: the good conversation that is the control, and how ends are judged.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use forcewire::Header;

use super::ending::{judge_end, last_line, quoted};
use super::line::{Line, Lost};
use super::listener::Listener;
use super::physics::Precision;
use super::program::{PREFIX, Subject, TICK};
use super::report::Finding;
use super::situation::About;
use super::wire::{self, Answer, FORCES, MATRIX, Structure};

/// What is the same for all situations.
pub struct Plan {
    pub command: String,
    pub unix: bool,
    /// Two structures with the same number of atoms.
    pub structures: [Structure; 2],
    /// The one whose derivatives are taken.
    pub physics: Structure,
    pub precision: Precision,
    pub patience: Duration,
    /// For a program to start.
    pub start: Duration,
}

/// One of the situations.
pub struct Situation {
    pub about: About,
    /// Whether it needs a connection on which nothing has been said.
    pub fresh: bool,
    pub script: fn(&mut Session) -> Result<Finding, Stop>,
}

/// Why a script does not go on.
#[derive(Debug)]
pub enum Stop {
    Lost(Lost),
    /// An answer that is not what the numbers should be.
    Wrong(String),
    /// An answer whose energy, forces or virial are infinite or NaN.
    NotFinite(&'static str),
    /// READY instead of HAVEDATA: it has let the structure drop, and says so.
    Dropped,
}

impl From<Lost> for Stop {
    fn from(lost: Lost) -> Self {
        Self::Lost(lost)
    }
}

pub struct Session<'a> {
    plan: &'a Plan,
    subject: Subject,
    listener: Option<Listener>,
    pub line: Line,
    /// What the driver found in the control conversation, for each structure.
    right: Vec<Answer>,
    /// Bytes that it had said by then.
    said: usize,
}

impl Plan {
    /// Plays one situation: starts the driver, holds the control conversation and does the clumsy thing.
    ///
    /// # Errors
    ///
    /// The control conversation failed, and nothing can be said of the situation.
    pub fn play(&self, situation: &Situation) -> Result<Finding, String> {
        let (subject, listener, line) = self.begin()?;
        let mut session = Session {
            plan: self,
            subject,
            listener: Some(listener),
            line,
            right: Vec::new(),
            said: 0,
        };
        if !situation.fresh {
            session.control()?;
        }
        session.said = session.subject.said().len();
        Ok(match (situation.script)(&mut session) {
            Ok(finding) => finding,
            Err(stop) => session.stopped(stop),
        })
    }

    fn begin(&self) -> Result<(Subject, Listener, Line), String> {
        let failed =
            |error: io::Error| format!("the kit can't listen or start the driver: {error}");
        let listener = Listener::new(self.unix.then(unix_path)).map_err(failed)?;
        let address = listener.address().map_err(failed)?;
        let mut subject = Subject::start(&self.command, &address).map_err(failed)?;
        let start = Instant::now();
        loop {
            if let Some(line) = listener.accept() {
                line.patience(self.patience);
                return Ok((subject, listener, line));
            }
            let why = match subject.ended() {
                Some(status) => format!("the driver ended before it connected ({status})"),
                None if start.elapsed() > self.start => {
                    format!("the driver has not connected within {:?}", self.start)
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

/// A path where i-PI's driver and ASE's look, too.
fn unix_path() -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{PREFIX}check_{}_{count}", std::process::id()).into()
}

impl Session<'_> {
    /// A conversation as it should be: the numbers are finite, come again, and differ between structures.
    fn control(&mut self) -> Result<(), String> {
        let failed = |stop| match stop {
            Stop::Wrong(what) => what,
            Stop::NotFinite(what) => format!("{what} infinite or NaN"),
            Stop::Dropped => "the driver did not take the structure".into(),
            Stop::Lost(Lost::Closed(_) | Lost::Refused) => {
                "the driver closed the connection".into()
            }
            Stop::Lost(Lost::Silent(_)) => "the driver was silent".into(),
        };
        let [a, b] = &self.plan.structures;
        let conversation = |session: &mut Self| {
            let found = session.evaluate(a)?;
            session.right = vec![found, session.evaluate(b)?];
            session.is_right()
        };
        let result = conversation(self).map_err(failed);
        let result = result.and_then(|()| match &self.right[..] {
            [a, b] if same(a, b) => {
                Err("the driver finds the same for two structures, so the kit could not see a wrong answer".into())
            }
            _ => Ok(()),
        });
        result.map_err(|what| format!("{what}{}", quoted(last_line(&self.subject.said()))))
    }

    pub fn structure(&self, index: usize) -> &Structure {
        &self.plan.structures[index]
    }

    pub fn physics(&self) -> &Structure {
        &self.plan.physics
    }

    pub fn precision(&self) -> Precision {
        self.plan.precision
    }

    pub fn posdata(&self, index: usize) -> Vec<u8> {
        wire::posdata(self.structure(index))
    }

    pub fn patience(&self) -> Duration {
        self.plan.patience
    }

    pub fn send(&mut self, header: Header) -> Result<(), Stop> {
        Ok(self.line.send(wire::header(header))?)
    }

    /// The next header that the driver sends.
    pub fn hears(&mut self) -> Result<String, Stop> {
        let bytes = self.line.receive(12, self.plan.patience)?;
        Ok(bytes.escape_ascii().to_string().trim_end().to_owned())
    }

    pub fn expects(&mut self, header: Header) -> Result<(), Stop> {
        let heard = self.hears()?;
        if heard == header.name() {
            Ok(())
        } else {
            let expected = header.name();
            Err(Stop::Wrong(format!(
                "answered {heard:?} instead of {expected}"
            )))
        }
    }

    /// Gives INIT where the driver wants it.
    pub fn is_ready(&mut self) -> Result<(), Stop> {
        self.send(Header::Status)?;
        let heard = self.hears()?;
        self.ready(&heard)
    }

    /// What comes of this answer to STATUS.
    pub fn ready(&mut self, heard: &str) -> Result<(), Stop> {
        match heard {
            "READY" => Ok(()),
            "NEEDINIT" => {
                self.line.send(&wire::init(1, b" "))?;
                self.send(Header::Status)?;
                self.expects(Header::Ready)
            }
            _ => Err(Stop::Wrong(format!(
                "answered {heard:?} to STATUS instead of READY"
            ))),
        }
    }

    /// Has a structure evaluated in the classic way.
    pub fn evaluate(&mut self, structure: &Structure) -> Result<Answer, Stop> {
        self.is_ready()?;
        self.line.send(&wire::posdata(structure))?;
        self.has_data()?;
        self.forces(structure.positions.len())
    }

    pub fn has_data(&mut self) -> Result<(), Stop> {
        self.send(Header::Status)?;
        match self.hears()?.as_str() {
            "HAVEDATA" => Ok(()),
            "READY" => Err(Stop::Dropped),
            heard => Err(Stop::Wrong(format!(
                "answered {heard:?} instead of HAVEDATA"
            ))),
        }
    }

    /// Asks for the forces.
    pub fn forces(&mut self, natoms: usize) -> Result<Answer, Stop> {
        self.send(Header::GetForce)?;
        self.answer(natoms)
    }

    pub fn answer(&mut self, natoms: usize) -> Result<Answer, Stop> {
        self.answer_by(natoms, usize::MAX / 2, Duration::ZERO)
    }

    /// Reads FORCEREADY, piece by piece.
    pub fn answer_by(
        &mut self,
        natoms: usize,
        piece: usize,
        pause: Duration,
    ) -> Result<Answer, Stop> {
        let patience = self.plan.patience;
        let mut read = |len| self.line.receive_by(len, piece, pause, patience);
        let start = read(FORCES)?;
        if !start.starts_with(wire::header(Header::ForceReady)) {
            let heard = start[..12].escape_ascii();
            return Err(Stop::Wrong(format!(
                "answered \"{heard}\" instead of FORCEREADY"
            )));
        }
        let energy = wire::numbers(&start[12..20])[0];
        let count = wire::integer(&start[20..]);
        if usize::try_from(count) != Ok(natoms) {
            return Err(Stop::Wrong(format!(
                "answered with forces of {count} atoms for {natoms}"
            )));
        }
        let forces = wire::numbers(&read(3 * 8 * natoms)?);
        let virial = wire::numbers(&read(MATRIX)?);
        let length = wire::integer(&read(4)?);
        let Ok(length) = usize::try_from(length) else {
            return Err(Stop::Wrong(format!(
                "answered with {length} bytes of extras"
            )));
        };
        let extras = read(length)?;
        let answer = Answer {
            energy,
            forces,
            virial,
            extras,
        };
        match not_finite(&answer) {
            None => Ok(answer),
            Some(what) => Err(Stop::NotFinite(what)),
        }
    }

    /// Whether the first structure gives once more what it gave at first.
    pub fn is_right(&mut self) -> Result<(), Stop> {
        let answer = self.evaluate(&self.plan.structures[0])?;
        self.is(&answer, 0)
    }

    pub fn is(&self, answer: &Answer, index: usize) -> Result<(), Stop> {
        match self.right.get(index) {
            Some(right) if !same(right, answer) => Err(Stop::Wrong(format!(
                "answered with an energy of {} instead of {}, or with other forces",
                answer.energy, right.energy
            ))),
            _ => Ok(()),
        }
    }

    /// After something legal, or something that the driver seems to have got over.
    pub fn carries_on(&mut self) -> Result<Finding, Stop> {
        self.is_right()?;
        Ok(Finding::handled(
            "carried on",
            "the numbers are right, then and afterwards",
        ))
    }

    /// After a header that may pass for STATUS: if it was answered, that answer is not the next one's.
    pub fn carries_on_after_an_answer(&mut self) -> Result<Finding, Stop> {
        match self.line.receive(12, self.plan.patience / 2) {
            Ok(heard) => {
                let heard = heard.escape_ascii().to_string();
                self.ready(heard.trim_end())?;
            }
            Err(Lost::Silent(0)) => {}
            Err(lost) => return Err(lost.into()),
        }
        self.carries_on()
    }

    /// After a whole POSDATA that no driver can compute: asks for the forces as if nothing were wrong. A driver whose
    /// potential does not look at the cell may find what it always finds.
    pub fn refuses(&mut self, natoms: usize, cell_only: bool) -> Result<Finding, Stop> {
        self.has_data()?;
        let answer = self.forces(natoms)?;
        if cell_only && self.is(&answer, 0).is_ok() {
            return Ok(Finding::handled(
                "carried on",
                "what it computes does not depend on the cell",
            ));
        }
        Err(Stop::Wrong(format!(
            "computed it: energy {}",
            answer.energy
        )))
    }

    /// A message that ends where it should not: whatever the driver still says, and how it ends.
    pub fn cut(&mut self, bytes: &[u8]) -> Result<Finding, Stop> {
        self.line.send(bytes)?;
        self.line.say_no_more();
        let (heard, closed) = self.line.drain(self.plan.patience);
        let word = wire::header(Header::ForceReady);
        if heard.windows(word.len()).any(|bytes| bytes == word) {
            return Err(Stop::Wrong(
                "sent forces for a message that it never had".into(),
            ));
        }
        Ok(self.end(closed))
    }

    /// A message that begins and does not end until we lose patience and close.
    pub fn stall(&mut self, bytes: &[u8]) -> Result<Finding, Stop> {
        self.line.send(bytes)?;
        match self.line.receive(12, self.plan.patience) {
            Ok(heard) => {
                let heard = heard.escape_ascii();
                Err(Stop::Wrong(format!(
                    "answered \"{heard}\" to half a message"
                )))
            }
            Err(Lost::Closed(_) | Lost::Refused) => Ok(self.end(true)),
            Err(Lost::Silent(_)) => {
                self.line.say_no_more();
                let (_, closed) = self.line.drain(self.plan.patience);
                let mut finding = self.end(closed);
                finding.because =
                    format!("waited until the server closed, then {}", finding.because);
                Ok(finding)
            }
        }
    }

    /// Leaves the connection without a word.
    pub fn hangs_up(&mut self) -> Result<Finding, Stop> {
        self.line.say_no_more();
        let (_, closed) = self.line.drain(self.plan.patience);
        Ok(self.end(closed))
    }

    /// Cuts the cable, with a reset where there is one.
    pub fn resets(&mut self) -> Result<Finding, Stop> {
        self.replace()?.reset();
        Ok(self.end(false))
    }

    /// The server goes away and comes back.
    pub fn restarts(&mut self) -> Result<Finding, Stop> {
        drop(self.replace()?);
        let again = self
            .listener
            .take()
            .map(|listener| listener.again(Duration::from_millis(200)));
        match again {
            Some(Ok(listener)) => self.listener = Some(listener),
            _ => return Ok(Finding::hung("the kit could not listen again")),
        }
        Ok(self.end(false))
    }

    /// The line that we have, with a dead one in its place.
    fn replace(&mut self) -> Result<Line, Stop> {
        let (dead, _) = std::os::unix::net::UnixStream::pair().map_err(|_| Lost::Closed(0))?;
        Ok(std::mem::replace(&mut self.line, Line::Unix(dead)))
    }

    /// After EXIT: the driver ends, and well.
    pub fn exits(&mut self) -> Result<Finding, Stop> {
        let (_, closed) = self.line.drain(self.plan.patience);
        match self.subject.ends_within(self.plan.patience) {
            None if !closed => Ok(Finding::hung("neither closed nor ended after EXIT")),
            _ => Ok(self.end(closed)),
        }
    }

    /// What it means that the script could not go on.
    fn stopped(&mut self, stop: Stop) -> Finding {
        match stop {
            Stop::Wrong(what) => Finding::wrong(what),
            Stop::NotFinite(what) => Finding {
                how: "NaN in, NaN out",
                ..Finding::wrong(format!("computed it: {what} infinite or NaN"))
            },
            Stop::Lost(lost) => self.lost(lost),
            Stop::Dropped => match self.is_right() {
                Ok(()) => {
                    Finding::handled("recovered", "let the structure drop; the next one is right")
                }
                Err(Stop::Dropped) => Finding::hung("takes no structure any more"),
                Err(stop) => self.stopped(stop),
            },
        }
    }

    /// The connection is over: does the driver end, or come back?
    fn lost(&mut self, lost: Lost) -> Finding {
        match lost {
            Lost::Closed(_) | Lost::Refused => self.end(true),
            Lost::Silent(after) => match self.subject.ended() {
                Some(_) => self.end(false),
                None => Finding::hung(match after {
                    0 => format!("no answer within {:?}, and it runs on", self.plan.patience),
                    _ => format!("stopped after {after} bytes of its answer, and runs on"),
                }),
            },
        }
    }

    /// Judges how it ends. A driver that we have seen closing may go on with something else.
    fn end(&mut self, closed: bool) -> Finding {
        let start = Instant::now();
        let back = loop {
            if let Some(status) = self.subject.ended() {
                return judge_end(status, &self.subject.said_since(self.said));
            }
            if let Some(line) = self.listener.as_ref().and_then(Listener::accept) {
                break line;
            }
            if start.elapsed() > self.plan.patience {
                return match closed {
                    true => Finding::handled("closed", "closed the connection, and runs on"),
                    false => {
                        Finding::hung("the connection is over, and it runs on without coming back")
                    }
                };
            }
            sleep(TICK);
        };
        self.line = back;
        self.line.patience(self.plan.patience);
        match self.is_right() {
            Ok(()) => Finding::handled("came back", "connected again; the numbers are right"),
            Err(Stop::Wrong(what)) => Finding::wrong(format!("connected again, then {what}")),
            Err(_) => Finding::hung("connected again, and did not take part"),
        }
    }
}

/// What of an answer is not finite.
fn not_finite(answer: &Answer) -> Option<&'static str> {
    let bad = |numbers: &[f64]| numbers.iter().any(|x| !x.is_finite());
    match answer {
        _ if bad(&[answer.energy]) => Some("the energy is"),
        _ if bad(&answer.forces) => Some("forces are"),
        _ if bad(&answer.virial) => Some("the virial is"),
        _ => None,
    }
}

/// Whether two answers are the same but for what electronic structure codes don't converge.
fn same(a: &Answer, b: &Answer) -> bool {
    let close = |a: &[f64], b: &[f64]| {
        let size = a.iter().fold(0.0f64, |size, x| size.max(x.abs()));
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-6 * size)
    };
    close(&[a.energy], &[b.energy]) && close(&a.forces, &b.forces) && close(&a.virial, &b.virial)
}
