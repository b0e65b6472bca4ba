//! Extras, and bytes without a request.

use forcewire::Header::ForceReady;

use super::{EXTRAS, ORDER, REPLY, situation};
use crate::check::server::{Manner, Situation};
use crate::check::wire::{FORCES, header, reals, with};

pub const SITUATIONS: &[Situation] = &[
    situation(
        "extras-not-json",
        "sends extras that are no JSON",
        "drivers have sent \"nothing\", a blank, a NUL and 0x01",
        EXTRAS,
        |s| s.with_extras(b"nothing"),
    )
    .may_end(),
    situation(
        "extras-array",
        "sends extras that are a JSON array",
        "a driver that has one thing to tell",
        EXTRAS,
        |s| s.with_extras(b"[1, 2]"),
    )
    .may_end(),
    situation(
        "extras-not-utf8",
        "sends extras that are no UTF-8",
        "binary data, a Latin-1 locale",
        EXTRAS,
        |s| s.with_extras(b"\xff\xfe\x80"),
    )
    .may_end(),
    situation(
        "extras-megabyte",
        "sends a megabyte of extras",
        "a density, a log file",
        EXTRAS,
        |s| s.with_extras(format!("{{\"log\": \"{}\"}}", "x".repeat(1_000_000)).as_bytes()),
    ),
    situation(
        "extras-negative",
        "announces -5 bytes of extras",
        "a stream out of step",
        EXTRAS,
        |s| {
            let mut driver = s.asked()?;
            driver.line.send(&driver.reply_announcing(-5))?;
            // The numbers are complete and correct.
            driver.is_right();
            Ok(vec![driver])
        },
    )
    .may_end(),
    situation(
        "extras-huge",
        "announces 2147483647 bytes of extras, and sends none",
        "a stream out of step",
        EXTRAS,
        |s| {
            let mut driver = s.asked()?;
            driver.line.send(&driver.reply_announcing(i32::MAX))?;
            Ok(vec![driver.then(Manner::Silent)])
        },
    )
    .may_end(),
    situation(
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
    )
    .may_end(),
    situation(
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
    )
    .may_end(),
    situation(
        "reply-unasked",
        "sends forces before it is given positions",
        "a driver that lives one step behind",
        ORDER,
        |s| {
            let mut driver = s.probed()?;
            driver.line.send(header(ForceReady))?;
            Ok(vec![driver])
        },
    )
    .may_end(),
];
