//! Wrong replies.

use forcewire::Header::PosData;

use super::{ORDER, REPLY, situation};
use crate::check::server::Situation;
use crate::check::situation::FINITE;
use crate::check::wire::{ATOM, ENERGY, FORCES, MATRIX, header, reals, with};

pub const SITUATIONS: &[Situation] = &[
    situation(
        "wrong-header",
        "answers GETFORCE with POSDATA",
        "two servers connected to each other",
        ORDER,
        |s| s.answers(|reply| with(reply, 0, header(PosData))),
    )
    .may_end(),
    situation(
        "one-atom-less",
        "sends forces of one atom less",
        "another input than the server's",
        REPLY,
        |s| {
            s.answers(|reply| {
                let atoms = (reply.len() - FORCES - MATRIX - 4) / ATOM;
                let mut reply = with(reply, FORCES - 4, &(atoms as i32 - 1).to_le_bytes());
                reply.drain(FORCES..FORCES + ATOM);
                reply
            })
        },
    )
    .may_end(),
    situation(
        "one-atom-more",
        "sends forces of one atom more",
        "another input than the server's",
        REPLY,
        |s| {
            s.answers(|reply| {
                let atoms = (reply.len() - FORCES - MATRIX - 4) / ATOM;
                let mut reply = with(reply, FORCES - 4, &(atoms as i32 + 1).to_le_bytes());
                reply.splice(FORCES..FORCES, [0; ATOM]);
                reply
            })
        },
    )
    .may_end(),
    situation(
        "negative-atoms",
        "announces forces of -1 atoms",
        "a stream out of step, an overflow",
        REPLY,
        |s| s.answers(|reply| with(reply, FORCES - 4, &(-1i32).to_le_bytes())),
    )
    .may_end(),
    situation(
        "huge-atoms",
        "announces forces of 2147483647 atoms",
        "a stream out of step",
        REPLY,
        |s| s.answers(|reply| with(reply, FORCES - 4, &i32::MAX.to_le_bytes())),
    )
    .may_end(),
    situation(
        "nan-energy",
        "sends an energy that is NaN",
        "SCF not converged",
        FINITE,
        |s| s.answers(|reply| with(reply, ENERGY, &reals(&[f64::NAN]))),
    )
    .may_end(),
    situation(
        "nan-forces",
        "sends a force that is NaN",
        "two atoms at one place, SCF not converged",
        FINITE,
        |s| s.answers(|reply| with(reply, FORCES + 8, &reals(&[f64::NAN]))),
    )
    .may_end(),
    situation(
        "infinite-forces",
        "sends a force that is infinite",
        "two atoms at one place",
        FINITE,
        |s| s.answers(|reply| with(reply, FORCES, &reals(&[f64::INFINITY]))),
    )
    .may_end(),
    situation(
        "infinite-virial",
        "sends a virial that is infinite",
        "a stress that is divided by no volume",
        FINITE,
        |s| {
            s.answers(|reply| {
                let at = reply.len() - 4 - MATRIX;
                with(reply, at, &reals(&[f64::INFINITY]))
            })
        },
    )
    .may_end(),
];
