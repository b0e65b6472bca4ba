//! Replies in pieces, and replies that end too early.

use std::thread::sleep;

use super::{BESIDE, EXTRAS, REPLY, situation};
use crate::check::line::PAUSE;
use crate::check::server::{Manner, Situation};
use crate::check::situation::STREAM;
use crate::check::wire::{ATOM, ENERGY, FORCES, MATRIX};

pub const SITUATIONS: &[Situation] = &[
    situation(
        "dribble",
        "sends its reply a byte at a time",
        "a serial line, a microcontroller without buffers",
        STREAM,
        |s| {
            let mut driver = s.asked()?;
            let reply = driver.reply();
            driver.line.dribble(&reply)?;
            driver.is_right();
            Ok(vec![driver])
        },
    ),
    situation(
        "split-reply",
        "sends FORCEREADY's header in two segments",
        "a router fragments, a sender writes twice",
        STREAM,
        |s| {
            let mut driver = s.asked()?;
            let reply = driver.reply();
            driver.line.send(&reply[..5])?;
            sleep(50 * PAUSE);
            driver.line.send(&reply[5..])?;
            driver.is_right();
            Ok(vec![driver])
        },
    ),
    situation(
        "stalls-in-reply",
        "stops in the middle of its forces",
        "a suspended driver, a cable that is pulled",
        BESIDE,
        |s| {
            let mut driver = s.asked()?;
            let reply = driver.reply();
            driver.line.send(&reply[..FORCES + 10])?;
            Ok(vec![driver.then(Manner::Silent)])
        },
    ),
    situation(
        "cut-header",
        "closes inside FORCEREADY's header",
        "killed while it sends",
        REPLY,
        |s| s.cut(|_| 7),
    ),
    situation(
        "cut-energy",
        "closes inside the energy",
        "killed while it sends",
        REPLY,
        |s| s.cut(|_| ENERGY + 3),
    ),
    situation(
        "cut-count",
        "closes inside the number of atoms",
        "killed while it sends",
        REPLY,
        |s| s.cut(|_| FORCES - 2),
    ),
    situation(
        "cut-forces",
        "closes inside the forces",
        "killed while it sends",
        REPLY,
        |s| s.cut(|_| FORCES + ATOM / 2),
    ),
    situation(
        "cut-virial",
        "closes inside the virial",
        "killed while it sends",
        REPLY,
        |s| s.cut(|len| len - 4 - MATRIX / 2),
    ),
    situation(
        "cut-extras",
        "closes before the end of its extras",
        "killed while it sends",
        EXTRAS,
        |s| {
            let mut driver = s.asked()?;
            driver.line.send(&driver.reply_announcing(20))?;
            driver.line.send(b"{\"dipole\"")?;
            Ok(Vec::new())
        },
    ),
];
