//! Bytes that are not a message.

use forcewire::Header::Status;

use super::{Outcome, after_control};
use crate::check::driver::{Session, Situation};
use crate::check::situation::WORDS;
use crate::check::wire::{HTTP, header, noise};

pub const SITUATIONS: &[Situation] = &[
    after_control(
        "unknown-header",
        "sends a header that there is not",
        "a newer server, another protocol",
        WORDS,
        |s| {
            s.line.send(b"GETSTRESS   ")?;
            s.carries_on()
        },
    ),
    after_control(
        "lower-case",
        "sends \"status\" in lower case",
        "a server written from memory",
        WORDS,
        |s| {
            s.line.send(b"status      ")?;
            s.carries_on_after_an_answer()
        },
    ),
    after_control(
        "nul-padding",
        "pads headers with NUL",
        "a C server that copies a string into zeros",
        WORDS,
        |s| {
            s.line.send(b"STATUS\0\0\0\0\0\0")?;
            s.carries_on_after_an_answer()
        },
    ),
    after_control(
        "http",
        "speaks HTTP",
        "the port belongs to something else",
        WORDS,
        |s| {
            s.line.send(&[HTTP, header(Status)].concat())?;
            carries_on_from_status(s)
        },
    )
    .at_once(),
    after_control(
        "garbage",
        "sends 1000 random bytes",
        "the port belongs to something else, a stream out of step",
        WORDS,
        |s| {
            s.line.send(&[&noise(1000), header(Status)].concat())?;
            carries_on_from_status(s)
        },
    ),
];

/// Continues after bytes that were sent in one write with STATUS. In separate writes, the driver's
/// speed would decide whether it reads them together.
fn carries_on_from_status(s: &mut Session) -> Outcome {
    s.hears_ready()?;
    s.carries_on()
}
