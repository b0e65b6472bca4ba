//! How a server ends.

use forcewire::Header::Exit;

use super::{END, after_control};
use crate::check::driver::Situation;
use crate::check::wire::header;

pub const SITUATIONS: &[Situation] = &[
    after_control(
        "exit-at-once",
        "sends EXIT before anything else",
        "a simulation that ends while a driver connects",
        END,
        |s| s.sends_exit(),
    )
    .at_once(),
    after_control(
        "exit-ready",
        "sends EXIT to a driver that is READY",
        "the end of every run of i-PI's",
        END,
        |s| s.sends_exit(),
    ),
    after_control(
        "exit-behind-posdata",
        "sends POSDATA and EXIT in one write",
        "a simulation that is stopped in the middle of a step",
        END,
        |s| {
            s.is_ready()?;
            s.line.send(&[&s.posdata(1), header(Exit)].concat())?;
            s.exits()
        },
    ),
    after_control(
        "exit-havedata",
        "sends EXIT instead of GETFORCE",
        "a simulation that is stopped in the middle of a step",
        END,
        |s| {
            s.is_ready()?;
            s.line.send(&s.posdata(1))?;
            s.has_data()?;
            s.sends_exit()
        },
    ),
    after_control(
        "close",
        "closes without EXIT",
        "ASE's server, and every one that crashes",
        END,
        |s| s.hangs_up(),
    ),
    after_control(
        "close-at-once",
        "closes before the first byte",
        "a server that is full, or an allow-list",
        END,
        |s| s.hangs_up(),
    )
    .at_once(),
    after_control(
        "restart",
        "goes away and comes back at the same address",
        "a simulation that is restarted",
        "a driver that connects again begins without data",
        |s| s.restarts(),
    ),
];
