//! Messages out of turn, and INIT.

use forcewire::Header::GetForce;

use super::{ORDER, TEXT, after_control};
use crate::check::driver::{Situation, Stop};
use crate::check::wire::{header, init};

pub const SITUATIONS: &[Situation] = &[
    after_control(
        "getforce-first",
        "asks GETFORCE without POSDATA",
        "a server that has lost count, or was restarted",
        ORDER,
        |s| {
            s.is_ready()?;
            s.send(GetForce)?;
            match s.line.receive(12, s.patience()) {
                Ok(heard) if heard == header(forcewire::Header::ForceReady) => Err(Stop::Wrong(
                    "sent the forces of the step before once more".into(),
                )),
                Ok(heard) => {
                    let heard = heard.escape_ascii();
                    Err(Stop::Wrong(format!("answered \"{heard}\" to GETFORCE")))
                }
                // A driver that is silent may have ignored the message.
                Err(crate::check::line::Lost::Silent(_)) => s.carries_on(),
                Err(lost) => Err(lost.into()),
            }
        },
    ),
    after_control(
        "posdata-twice",
        "sends POSDATA twice, of two structures",
        "a server that sends again what it thinks was lost",
        ORDER,
        |s| {
            s.is_ready()?;
            s.line.send(&s.posdata(1))?;
            s.has_data()?;
            s.line.send(&s.posdata(0))?;
            s.has_data()?;
            s.computes(0)
        },
    ),
    after_control(
        "init-unasked",
        "sends INIT to a driver that is READY",
        "older servers always do, i-PI where a driver once asked",
        TEXT,
        |s| {
            s.is_ready()?;
            s.line.send(&init(1, b" "))?;
            s.carries_on()
        },
    ),
    after_control(
        "init-empty",
        "sends INIT with no text",
        "a server without parameters",
        TEXT,
        |s| {
            s.is_ready()?;
            s.line.send(&init(0, b""))?;
            s.carries_on()
        },
    ),
    after_control(
        "init-long",
        "sends INIT with 5000 bytes of text",
        "a server with many parameters; buffers of 80 and 1024 bytes are in use",
        TEXT,
        |s| {
            s.is_ready()?;
            s.line.send(&init(5000, &b"a : 1, ".repeat(715)[..5000]))?;
            s.carries_on()
        },
    ),
    after_control(
        "init-negative",
        "sends INIT with a length of -5",
        "a stream out of step",
        TEXT,
        |s| {
            s.is_ready()?;
            s.line.send(&init(-5, b""))?;
            s.carries_on()
        },
    ),
    after_control(
        "init-huge",
        "sends INIT with a length of 2147483647, and little of it",
        "a stream out of step; IPICalculator.jl writes eight bytes of length",
        TEXT,
        |s| {
            s.is_ready()?;
            s.stall(&init(i32::MAX, b"k : 1"))
        },
    ),
];
