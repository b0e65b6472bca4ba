//! Connections that are not drivers.

use std::time::Duration;

use forcewire::Header::Ready;

use super::{BESIDE, ORDER, situation};
use crate::check::server::{Manner, Situation};
use crate::check::situation::WORDS;
use crate::check::wire::{HTTP, header, noise};

pub const SITUATIONS: &[Situation] = &[
    situation(
        "says-nothing",
        "connects and says nothing",
        "a port scanner, a driver that is stopped, a half-open connection",
        BESIDE,
        |s| Ok(vec![s.mute()?]),
    ),
    situation(
        "closes-at-once",
        "connects and closes",
        "a health check, a driver that fails at its start",
        BESIDE,
        |s| {
            drop(s.connect()?);
            Ok(Vec::new())
        },
    ),
    situation(
        "resets-at-once",
        "connects and resets",
        "a port scanner, a firewall",
        BESIDE,
        |s| {
            s.connect()?.line.reset();
            Ok(Vec::new())
        },
    ),
    situation(
        "connects-100-times",
        "connects and closes 100 times",
        "a driver that fails at its start, restarted by a script",
        BESIDE,
        |s| {
            for _ in 0..100 {
                drop(s.connect()?);
            }
            Ok(Vec::new())
        },
    ),
    situation(
        "thirty-mutes",
        "is 30 connections that say nothing",
        "a cluster's jobs that were suspended",
        BESIDE,
        |s| {
            let mut mutes = vec![s.mute()?];
            // Some servers accept only a few connections.
            let more = || Some(s.connect_within(Duration::ZERO).ok()?.then(Manner::Silent));
            mutes.extend(std::iter::from_fn(more).take(29));
            Ok(mutes)
        },
    ),
    situation(
        "half-closed",
        "connects and closes its half",
        "a client that has nothing to send (`nc -N`)",
        BESIDE,
        |s| {
            let driver = s.mute()?;
            driver.line.say_no_more();
            Ok(vec![driver])
        },
    ),
    situation("http", "speaks HTTP", "a browser, a scanner", WORDS, |s| {
        s.says(HTTP)
    }),
    situation(
        "garbage",
        "sends 1000 random bytes",
        "TLS, ssh, another protocol's client",
        WORDS,
        |s| s.says(&noise(1000)),
    ),
    situation(
        "speaks-first",
        "says READY before it is asked",
        "a driver that announces itself",
        ORDER,
        |s| s.says(header(Ready)),
    ),
];
