//! Events while a driver computes.

use std::thread::sleep;
use std::time::Duration;

use forcewire::Header::Ready;

use super::{BESIDE, ORDER, situation};
use crate::check::line::PAUSE;
use crate::check::server::{Manner, Situation};
use crate::check::wire::header;

pub const SITUATIONS: &[Situation] = &[
    situation(
        "dies-computing",
        "closes while it computes, with bytes unread",
        "out of memory, out of time, SCF not converged",
        BESIDE,
        |s| {
            let driver = s.given()?;
            // The next bytes stay unread, so the close sends a reset.
            sleep(50 * PAUSE);
            drop(driver);
            Ok(Vec::new())
        },
    ),
    situation(
        "closes-computing",
        "closes while it computes",
        "out of memory, out of time, SCF not converged",
        BESIDE,
        |s| {
            drop(s.asked()?);
            Ok(Vec::new())
        },
    ),
    situation(
        "never-replies",
        "takes positions and never replies",
        "a deadlock, a suspended job, a machine that is gone",
        "servers know time limits: i-PI's `<timeout>`, ASE's `timeout`",
        |s| Ok(vec![s.given()?.then(Manner::Silent)]),
    ),
    situation(
        "loses-positions",
        "says READY after it was given positions",
        "a driver that was restarted behind a proxy",
        ORDER,
        |s| {
            let mut driver = s.given()?;
            driver.line.send(header(Ready))?;
            Ok(vec![driver])
        },
    )
    .may_end(),
    situation(
        "slow",
        "takes a second to compute",
        "forces are expensive",
        ORDER,
        |s| {
            let mut driver = s.asked()?;
            sleep(Duration::from_secs(1));
            driver.replies()?;
            Ok(vec![driver])
        },
    ),
];
