//! Numbers of atoms.

use super::{COUNTS, after_control};
use crate::check::driver::Situation;
use crate::check::report::Finding;
use crate::check::wire::{COUNT, POSITIONS, with};

pub const SITUATIONS: &[Situation] = &[
    after_control(
        "negative-atoms",
        "announces -1 atoms",
        "a stream out of step, an overflow",
        COUNTS,
        |s| {
            s.is_ready()?;
            let message = with(s.posdata(1), COUNT, &(-1i32).to_le_bytes());
            s.line.send(&message[..POSITIONS])?;
            s.refuses(0, false)
        },
    ),
    after_control(
        "huge-atoms",
        "announces 2147483647 atoms",
        "a stream out of step",
        COUNTS,
        |s| {
            s.is_ready()?;
            let message = with(s.posdata(1), COUNT, &i32::MAX.to_le_bytes());
            s.stall(&message)
        },
    ),
    after_control(
        "one-atom-more",
        "sends one atom more than before",
        "another simulation at the same port, atoms that are inserted",
        COUNTS,
        |s| {
            let mut more = s.structure(0).clone();
            let [x, y, z] = more.positions[0];
            more.positions.push([x + 40.0, y, z]);
            s.evaluates_another(&more)?;
            s.carries_on()
        },
    ),
    after_control(
        "one-atom-less",
        "sends one atom less than before",
        "another simulation at the same port, atoms that are removed",
        COUNTS,
        |s| {
            let mut less = s.structure(0).clone();
            less.positions.pop();
            s.evaluates_another(&less)?;
            s.carries_on()
        },
    ),
    after_control(
        "zero-atoms",
        "sends no atoms",
        "a server that tries the connection, an empty region",
        COUNTS,
        |s| {
            let mut none = s.structure(0).clone();
            none.positions.clear();
            let energy = s.evaluate(&none)?.energy;
            let because = format!("answered with no forces and an energy of {energy}");
            Ok(Finding::handled("carried on", because))
        },
    )
    .at_once(),
];
