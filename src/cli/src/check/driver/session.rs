//! A session with a driver, in which the kit is the server: the conversation and the expected
//! numbers.

use std::time::{Duration, Instant};

use forcewire::Header;

use super::{Plan, Stop};
use crate::check::ending::{last_line, quoted};
use crate::check::limits::Limits;
use crate::check::line::{Line, Lost};
use crate::check::listener::Listener;
use crate::check::physics::Precision;
use crate::check::program::Subject;
use crate::check::report::Finding;
use crate::check::wire::{self, Answer, FORCES, MATRIX, Structure};

pub struct Session<'a> {
    pub(super) plan: &'a Plan,
    pub(super) limits: Limits,
    pub(super) subject: Subject,
    pub(super) listener: Option<Listener>,
    pub line: Line,
    /// The driver's answers in the control conversation, one per structure.
    pub(super) right: Vec<Answer>,
    /// How many bytes of output the driver had written by then.
    pub(super) said: usize,
    /// Whether the last message sent to the driver is incomplete.
    pub(super) inside: bool,
}

impl Session<'_> {
    /// A correct conversation: the numbers are finite, repeatable, and differ between structures.
    pub(super) fn control(&mut self) -> Result<(), String> {
        let [a, b] = &self.plan.structures;
        let conversation = |session: &mut Self| {
            let start = Instant::now();
            let found = session.evaluate(a)?;
            session.plan.calibration.took(start.elapsed());
            session.right = vec![found, session.evaluate(b)?];
            session.is_right()
        };
        let result = conversation(self).map_err(Stop::explain);
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
        self.limits.patience
    }

    pub fn send(&mut self, header: Header) -> Result<(), Stop> {
        Ok(self.line.send(wire::header(header))?)
    }

    /// The next header from the driver.
    pub fn hears(&mut self) -> Result<String, Stop> {
        let bytes = self.line.receive(12, self.limits.patience)?;
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

    /// Sends INIT if the driver needs it.
    pub fn is_ready(&mut self) -> Result<(), Stop> {
        self.send(Header::Status)?;
        let heard = self.hears()?;
        self.ready(&heard)
    }

    /// The finding for this answer to STATUS.
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

    /// Lets the driver evaluate a structure with the classic exchange.
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
        let patience = self.limits.patience;
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

    /// Whether the first structure has the same answer as at first.
    pub fn is_right(&mut self) -> Result<(), Stop> {
        let answer = self.evaluate(&self.plan.structures[0])?;
        self.is(&answer, 0)
    }

    /// Whether this is the driver's answer for a structure: its answer in the control conversation
    /// or, if this connection had none, in a separate run.
    pub fn is(&self, answer: &Answer, index: usize) -> Result<(), Stop> {
        let plan = self.plan;
        let right = match &self.right[..] {
            [] => plan
                .right
                .get_or_init(|| plan.reference(&plan.structures, self.limits))
                .as_deref()
                .map_err(|what| Stop::Wrong(format!("{what} (after another start)")))?,
            right => right,
        };
        match right.get(index) {
            Some(right) if !same(right, answer) => Err(Stop::Wrong(format!(
                "answered with an energy of {} instead of {}, or with other forces",
                answer.energy, right.energy
            ))),
            _ => Ok(()),
        }
    }

    /// Evaluates a structure that was not in the control conversation. Its numbers must be the same
    /// twice, and the same as in a separate run with this structure only.
    pub fn evaluates_another(&mut self, structure: &Structure) -> Result<(), Stop> {
        let first = self.evaluate(structure)?;
        if !same(&first, &self.evaluate(structure)?) {
            return Err(Stop::Wrong("answered twice, with different numbers".into()));
        }
        // If the driver refuses the structure, the separate run fails too and there is nothing to
        // compare with.
        let alone = self
            .plan
            .reference(std::slice::from_ref(structure), self.limits);
        match alone.as_deref() {
            Ok([alone]) if !same(&first, alone) => Err(Stop::Wrong(format!(
                "answered with an energy of {}, and after another start with {}, or with other forces",
                first.energy, alone.energy
            ))),
            _ => Ok(()),
        }
    }

    /// Continues after a legal message, or an illegal one that the driver seems to have survived.
    pub fn carries_on(&mut self) -> Result<Finding, Stop> {
        self.is_right()?;
        Ok(Finding::handled(
            "carried on",
            "the numbers are right, then and afterwards",
        ))
    }

    /// Continues after a header that the driver may take for STATUS: an answer to it must not count
    /// as the answer to the next STATUS.
    pub fn carries_on_after_an_answer(&mut self) -> Result<Finding, Stop> {
        match self.line.receive(12, self.limits.patience / 2) {
            Ok(heard) => {
                let heard = heard.escape_ascii().to_string();
                self.ready(heard.trim_end())?;
            }
            Err(Lost::Silent(0)) => {}
            Err(lost) => return Err(lost.into()),
        }
        self.carries_on()
    }

    /// Asks for forces after a complete POSDATA that no driver can compute, as if nothing were
    /// wrong. A driver whose potential ignores the cell may still find its usual numbers.
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
}

/// The part of an answer that is not finite.
fn not_finite(answer: &Answer) -> Option<&'static str> {
    let bad = |numbers: &[f64]| numbers.iter().any(|x| !x.is_finite());
    match answer {
        _ if bad(&[answer.energy]) => Some("the energy is"),
        _ if bad(&answer.forces) => Some("forces are"),
        _ if bad(&answer.virial) => Some("the virial is"),
        _ => None,
    }
}

/// Whether two answers are equal within the convergence of electronic structure codes.
fn same(a: &Answer, b: &Answer) -> bool {
    /// Forces that are zero by symmetry are not exactly zero.
    const FLOOR: f64 = 1e-9;
    let close = |a: &[f64], b: &[f64]| {
        let size = a.iter().fold(0.0f64, |size, x| size.max(x.abs()));
        let limit = 1e-6 * size + FLOOR;
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= limit)
    };
    close(&[a.energy], &[b.energy]) && close(&a.forces, &b.forces) && close(&a.virial, &b.virial)
}
