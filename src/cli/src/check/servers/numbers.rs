//! Numbers that are not finite, and singular cells.

use super::{Outcome, after_control};
use crate::check::driver::{Session, Situation};
use crate::check::situation::FINITE;
use crate::check::wire::{ATOM, CELL, MATRIX, POSITIONS, posdata, reals, with};

pub const SITUATIONS: &[Situation] = &[
    after_control(
        "nan-position",
        "sends a position that is NaN",
        "a simulation that has blown up",
        FINITE,
        |s| position(s, f64::NAN),
    ),
    after_control(
        "infinite-position",
        "sends an infinite position",
        "a simulation that has blown up",
        FINITE,
        |s| position(s, f64::NEG_INFINITY),
    ),
    after_control(
        "infinite-cell",
        "sends a cell with an infinite length",
        "an aperiodic system in a server that means well, a barostat that has blown up",
        FINITE,
        |s| {
            s.is_ready()?;
            let message = with(s.posdata(0), CELL, &f64::INFINITY.to_le_bytes());
            s.line.send(&message)?;
            s.refuses(s.structure(0).positions.len(), true)
        },
    ),
    after_control(
        "nan-cell",
        "sends a cell of NaN",
        "a barostat that has blown up",
        FINITE,
        |s| {
            s.is_ready()?;
            let message = with(s.posdata(0), CELL, &reals(&[f64::NAN; 9]));
            s.line.send(&message)?;
            s.refuses(s.structure(0).positions.len(), true)
        },
    ),
    after_control(
        "singular-cell",
        "sends a cell with two equal vectors",
        "a mistake in an input, a barostat that has blown up",
        "three vectors in a plane have no inverse, and images no nearest one",
        |s| {
            s.is_ready()?;
            let mut flat = s.structure(0).clone();
            for row in &mut flat.h {
                row[1] = row[0];
            }
            s.line.send(&posdata(&flat))?;
            s.refuses(flat.positions.len(), true)
        },
    ),
    after_control(
        "wrong-inverse",
        "sends a wrong inverse with a right cell",
        "ASE sends the transposed inverse, pysisyphus and eOn the unit matrix, IPICalculator.jl zeros",
        "i-PI's driver.py: \"inverse of the cell. mostly useless legacy stuff\"",
        |s| {
            s.is_ready()?;
            let message = with(s.posdata(0), CELL + MATRIX, &[0; MATRIX]);
            s.line.send(&message)?;
            s.has_data()?;
            s.computes(0)
        },
    ),
];

fn position(s: &mut Session, number: f64) -> Outcome {
    s.is_ready()?;
    let message = with(s.posdata(0), POSITIONS + ATOM + 8, &number.to_le_bytes());
    s.line.send(&message)?;
    s.refuses(s.structure(0).positions.len(), false)
}
