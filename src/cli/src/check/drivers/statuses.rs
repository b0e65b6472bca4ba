//! Answers to STATUS.

use std::thread::sleep;
use std::time::Duration;

use forcewire::Header::{HaveData, Ready};

use super::{ORDER, situation};
use crate::check::line::PAUSE;
use crate::check::server::{Manner, Situation};
use crate::check::situation::{STREAM, WORDS};
use crate::check::wire::header;

pub const SITUATIONS: &[Situation] = &[
    situation(
        "late-status",
        "answers STATUS a second late",
        "a driver that reads its input first",
        ORDER,
        |s| {
            let mut driver = s.probed()?;
            sleep(Duration::from_secs(1));
            driver.line.send(header(Ready))?;
            Ok(vec![driver])
        },
    ),
    situation(
        "split-status",
        "sends its answer to STATUS in two segments",
        "a router fragments, a sender writes twice",
        STREAM,
        |s| {
            let mut driver = s.probed()?;
            driver.line.send(&header(Ready)[..1])?;
            sleep(50 * PAUSE);
            driver.line.send(&header(Ready)[1..])?;
            Ok(vec![driver])
        },
    ),
    situation(
        "unknown-status",
        "answers STATUS with a header that there is not",
        "a newer driver, a stream out of step",
        WORDS,
        |s| {
            let mut driver = s.probed()?;
            driver.line.send(b"PERHAPS     ")?;
            Ok(vec![driver])
        },
    )
    .may_end(),
    situation(
        "needinit-for-ever",
        "says NEEDINIT for ever",
        "a driver that does not understand its INIT",
        ORDER,
        |s| Ok(vec![s.connect()?.then(Manner::NeedsInit)]),
    )
    .may_end(),
    situation(
        "havedata-at-once",
        "says HAVEDATA and was given nothing",
        "a driver that has connected again in the middle of a step",
        ORDER,
        |s| {
            let mut driver = s.probed()?;
            driver.line.send(header(HaveData))?;
            Ok(vec![driver])
        },
    )
    .may_end(),
];
