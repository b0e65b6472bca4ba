//! Bytes that are not a message.

use super::{after_control, at_once};
use crate::check::driver::Situation;
use crate::check::situation::WORDS;
use crate::check::wire::{HTTP, noise};

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
    at_once(
        "http",
        "speaks HTTP",
        "the port belongs to something else",
        WORDS,
        |s| {
            s.line.send(HTTP)?;
            s.carries_on()
        },
    ),
    after_control(
        "garbage",
        "sends 1000 random bytes",
        "the port belongs to something else, a stream out of step",
        WORDS,
        |s| {
            s.line.send(&noise(1000))?;
            s.carries_on()
        },
    ),
];
