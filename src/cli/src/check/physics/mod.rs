//! Checks by finite differences whether forces and virial are the derivatives of the energy.
//!
//! The check makes 43 evaluations of one structure: unchanged, with each of 12 coordinates
//! displaced in both directions, and with each of the nine strain elements in both directions. A
//! fault is a hypothesis that makes the numbers agree: "forces times 51.42", "forces of the step
//! before", "the cell transposed". The first one that agrees is reported.

mod factors;
mod forces;
mod series;
mod virial;

use super::driver::{Session, Stop};
use super::report::{Fault, Finding};
use super::situation::About;
use super::wire::Structure;
use series::{Series, Steps};

/// The only situation that is played on demand.
pub const PHYSICS: &str = "physics";

pub const ABOUT: About = About::new(
    PHYSICS,
    "moves atoms and cell a little, 43 times (--physics)",
    "gradients for forces, units, transposed cells, stress for virial: all go unnoticed in a short run",
    "forces are -dU/dr in hartree/bohr, the virial -dU/d(strain) in hartree; the cell's vectors are columns of h",
);

/// The precision in which a driver computes.
#[derive(Clone, Copy, Debug)]
pub struct Precision {
    pub single: bool,
}

impl Precision {
    const fn steps(self) -> Steps {
        match self.single {
            false => Steps {
                length: 5e-3,
                strain: 1e-3,
            },
            true => Steps {
                length: 4e-2,
                strain: 4e-3,
            },
        }
    }

    /// The tolerance between differences and sent numbers, relative to the largest.
    const fn tolerance(self) -> f64 {
        match self.single {
            false => 1e-3,
            true => 3e-2,
        }
    }
}

/// Findings about the energy's derivatives.
#[derive(Debug, Default)]
struct Report {
    faults: Vec<Fault>,
    /// Parts that could not be judged, and why.
    notes: Vec<String>,
}

/// Plays the situation.
pub fn play(session: &mut Session) -> Result<Finding, Stop> {
    let precision = session.precision();
    let structure = session.physics().clone();
    let series = Series::measure(&structure, precision.steps(), |structure| {
        session.evaluate(structure)
    })?;
    let report = judge(&series, precision);
    let notes = report.notes.join("; ");
    if let Some(finding) = Finding::faulty(&report.faults) {
        return Ok(finding);
    }
    let because = match notes.is_empty() {
        true => "forces and virial are the derivatives of the energy".into(),
        false => notes,
    };
    Ok(Finding::handled("consistent", because))
}

fn judge(series: &Series, precision: Precision) -> Report {
    let mut report = Report::default();
    let tolerance = precision.tolerance();
    if series.is_constant() {
        let note = "energy, forces and virial are the same for all structures: there is nothing to compare";
        report.notes.push(note.into());
        return report;
    }
    if !precision.single && series.is_single() {
        report.faults.push(Fault::new(
            "single precision",
            "all forces are float32 numbers: energies drift in a long run; compute in double precision, \
             or repeat with --single if that is meant",
        ));
    }
    let forces = forces::judge(series, tolerance);
    let virial = match &forces.fault {
        // Without correct energies the virial can't be judged.
        Some(fault) if fault.name == "noise" || fault.name == forces::LATE => None,
        _ => Some(virial::judge(series, &forces, tolerance)),
    };
    let virial_scale = virial.as_ref().and_then(|virial| virial.scale);
    if let (Some(scale), Some(other)) = (forces.scale, virial_scale)
        && !factors::is(scale, 1.0)
        && factors::is(scale / other, 1.0)
    {
        report.faults.push(factors::energy(scale, series));
        return report;
    }
    report.notes.extend(forces.note);
    report.faults.extend(forces.fault);
    if let Some(virial) = virial {
        report.notes.extend(virial.note);
        report.faults.extend(virial.fault);
    }
    report
}

/// Four atoms 6 to 7 bohr apart, some through the faces of a triclinic cell, and no pair near the
/// middle between two images.
pub fn four_atoms() -> Structure {
    let h = [[14.0, 3.0, 2.0], [0.0, 13.0, 3.5], [0.0, 0.0, 15.0]];
    let fractions = [
        [0.8, 0.64, 0.24],
        [0.49, 0.8, 0.95],
        [0.13, 0.63, 0.89],
        [0.1, 0.92, 0.15],
    ];
    let place = |s: [f64; 3]| h.map(|row| row[0] * s[0] + row[1] * s[1] + row[2] * s[2]);
    Structure {
        h,
        positions: fractions.map(place).to_vec(),
    }
}
