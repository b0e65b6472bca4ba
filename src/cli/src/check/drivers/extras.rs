//! Extras, and bytes that nobody asked for.

use forcewire::Header::ForceReady;

use super::{EXTRAS, ORDER, REPLY, situation, spoils};
use crate::check::server::{Manner, Situation};
use crate::check::wire::{FORCES, header, reals, with};

pub const SITUATIONS: &[Situation] = &[
    spoils(
        "extras-not-json",
        "sends extras that are no JSON",
        "drivers have sent \"nothing\", a blank, a NUL and 0x01",
        EXTRAS,
        |s| s.with_extras(b"nothing"),
    ),
    spoils(
        "extras-array",
        "sends extras that are a JSON array",
        "a driver that has one thing to tell",
        EXTRAS,
        |s| s.with_extras(b"[1, 2]"),
    ),
    spoils(
        "extras-not-utf8",
        "sends extras that are no UTF-8",
        "binary data, a Latin-1 locale",
        EXTRAS,
        |s| s.with_extras(b"\xff\xfe\x80"),
    ),
    situation(
        "extras-megabyte",
        "sends a megabyte of extras",
        "a density, a log file",
        EXTRAS,
        |s| s.with_extras(format!("{{\"log\": \"{}\"}}", "x".repeat(1_000_000)).as_bytes()),
    ),
    spoils(
        "extras-negative",
        "announces -5 bytes of extras",
        "a stream out of step",
        EXTRAS,
        |s| {
            let mut driver = s.asked()?;
            let reply = driver.reply();
            let at = reply.len() - 4;
            driver.line.send(&with(reply, at, &(-5i32).to_le_bytes()))?;
            // The numbers are all there, and right.
            driver.is_right();
            Ok(vec![driver])
        },
    ),
    spoils(
        "extras-huge",
        "announces 2147483647 bytes of extras, and sends none",
        "a stream out of step",
        EXTRAS,
        |s| {
            let mut driver = s.asked()?;
            let reply = driver.reply();
            let at = reply.len() - 4;
            driver
                .line
                .send(&with(reply, at, &i32::MAX.to_le_bytes()))?;
            Ok(vec![driver.then(Manner::Silent)])
        },
    ),
    spoils(
        "reply-twice",
        "sends its reply twice, the second with other forces",
        "a driver that answers a repeated GETFORCE",
        ORDER,
        |s| {
            let mut driver = s.asked()?;
            let reply = driver.reply();
            let second = with(reply.clone(), FORCES, &reals(&[1.0, 2.0, 3.0]));
            driver.line.send(&[reply, second].concat())?;
            driver.is_right();
            Ok(vec![driver])
        },
    ),
    spoils(
        "more-than-asked",
        "sends 5 bytes more than its reply",
        "a driver of another version",
        REPLY,
        |s| {
            let mut driver = s.asked()?;
            let reply = driver.reply();
            driver.line.send(&[&reply[..], b"extra"].concat())?;
            driver.is_right();
            Ok(vec![driver])
        },
    ),
    spoils(
        "reply-unasked",
        "sends forces before it is given positions",
        "a driver that lives one step behind",
        ORDER,
        |s| {
            let mut driver = s.probed()?;
            driver.line.send(header(ForceReady))?;
            Ok(vec![driver])
        },
    ),
];
