//! The clumsy and hostile drivers that servers are played against. A good one joins each of them.

use std::thread::sleep;
use std::time::Duration;

use forcewire::Header::{ForceReady, HaveData, PosData, Ready};

use crate::line::{Lost, PAUSE};
use crate::server::{Clumsy, Manner, Session, Situation};
use crate::situation::{About, CONTROL, FINITE, STREAM, WORDS};
use crate::wire::{ATOM, ENERGY, FORCES, HTTP, MATRIX, header, noise, reals, with};

type Outcome = Result<Vec<Clumsy>, Lost>;

const fn situation(
    name: &'static str,
    does: &'static str,
    why: &'static str,
    reference: &'static str,
    script: fn(&mut Session) -> Outcome,
) -> Situation {
    Situation {
        about: About::new(name, does, why, reference),
        script,
    }
}

const BESIDE: &str =
    "whoever connects may be gone, slow or something else; the others' work goes on";
const REPLY: &str = "FORCEREADY: float64 energy, int32 atoms, forces, virial, int32 length, extras; atoms as in POSDATA";
const EXTRAS: &str =
    "extras: int32 length, at least 0; empty, or a JSON object in UTF-8 for i-PI (`parse_extra`)";
const ORDER: &str =
    "STATUS is answered with NEEDINIT, READY or HAVEDATA, and GETFORCE with FORCEREADY";

/// All of them. The first one is the control.
pub const DRIVERS: &[Situation] = &[
    situation(
        CONTROL,
        "(control: a good driver)",
        "what has to go well before anything else can be judged",
        ORDER,
        |_| Ok(Vec::new()),
    ),
    // Connections that are none.
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
            // Some servers let in a few only.
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
    // Answers to STATUS.
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
    ),
    situation(
        "needinit-for-ever",
        "says NEEDINIT for ever",
        "a driver that does not understand its INIT",
        ORDER,
        |s| Ok(vec![s.connect()?.then(Manner::NeedsInit)]),
    ),
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
    ),
    // While it computes.
    situation(
        "dies-computing",
        "closes while it computes, with bytes unread",
        "out of memory, out of time, SCF not converged",
        BESIDE,
        |s| {
            let driver = s.given()?;
            // What comes next is left unread, so the close is a reset.
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
    ),
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
    // Replies in pieces, and of other lengths.
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
            let reply = driver.reply();
            let at = reply.len() - 4;
            driver.line.send(&with(reply, at, &20i32.to_le_bytes()))?;
            driver.line.send(b"{\"dipole\"")?;
            Ok(Vec::new())
        },
    ),
    situation(
        "wrong-header",
        "answers GETFORCE with POSDATA",
        "two servers connected to each other",
        ORDER,
        |s| s.answers(|reply| with(reply, 0, header(PosData))),
    ),
    situation(
        "one-atom-less",
        "sends forces of one atom less",
        "another input than the server's",
        REPLY,
        |s| {
            s.answers(|reply| {
                let atoms = (reply.len() - FORCES - MATRIX - 4) / ATOM;
                let mut reply = with(reply, FORCES - 4, &(atoms as i32 - 1).to_le_bytes());
                reply.drain(FORCES..FORCES + ATOM);
                reply
            })
        },
    ),
    situation(
        "one-atom-more",
        "sends forces of one atom more",
        "another input than the server's",
        REPLY,
        |s| {
            s.answers(|reply| {
                let atoms = (reply.len() - FORCES - MATRIX - 4) / ATOM;
                let mut reply = with(reply, FORCES - 4, &(atoms as i32 + 1).to_le_bytes());
                reply.splice(FORCES..FORCES, [0; ATOM]);
                reply
            })
        },
    ),
    situation(
        "negative-atoms",
        "announces forces of -1 atoms",
        "a stream out of step, an overflow",
        REPLY,
        |s| s.answers(|reply| with(reply, FORCES - 4, &(-1i32).to_le_bytes())),
    ),
    situation(
        "huge-atoms",
        "announces forces of 2147483647 atoms",
        "a stream out of step",
        REPLY,
        |s| s.answers(|reply| with(reply, FORCES - 4, &i32::MAX.to_le_bytes())),
    ),
    situation(
        "nan-energy",
        "sends an energy that is NaN",
        "SCF not converged",
        FINITE,
        |s| s.answers(|reply| with(reply, ENERGY, &reals(&[f64::NAN]))),
    ),
    situation(
        "nan-forces",
        "sends a force that is NaN",
        "two atoms at one place, SCF not converged",
        FINITE,
        |s| s.answers(|reply| with(reply, FORCES + 8, &reals(&[f64::NAN]))),
    ),
    situation(
        "infinite-forces",
        "sends a force that is infinite",
        "two atoms at one place",
        FINITE,
        |s| s.answers(|reply| with(reply, FORCES, &reals(&[f64::INFINITY]))),
    ),
    situation(
        "infinite-virial",
        "sends a virial that is infinite",
        "a stress that is divided by no volume",
        FINITE,
        |s| {
            s.answers(|reply| {
                let at = reply.len() - 4 - MATRIX;
                with(reply, at, &reals(&[f64::INFINITY]))
            })
        },
    ),
    situation(
        "extras-not-json",
        "sends extras that are no JSON",
        "drivers have sent \"nothing\", a blank, a NUL and 0x01",
        EXTRAS,
        |s| s.with_extras(b"nothing"),
    ),
    situation(
        "extras-array",
        "sends extras that are a JSON array",
        "a driver that has one thing to tell",
        EXTRAS,
        |s| s.with_extras(b"[1, 2]"),
    ),
    situation(
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
    situation(
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
    situation(
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
    ),
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
    ),
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
    ),
];

impl Session<'_> {
    /// A connection that says nothing, whatever it hears.
    fn mute(&mut self) -> Result<Clumsy, Lost> {
        Ok(self.connect()?.then(Manner::Silent))
    }

    fn says(&mut self, bytes: &[u8]) -> Outcome {
        let mut driver = self.connect()?;
        driver.line.send(bytes)?;
        Ok(vec![driver])
    }

    /// The numbers are right, whatever comes behind them.
    fn with_extras(&mut self, extras: &[u8]) -> Outcome {
        let mut driver = self.asked()?;
        let reply = driver.reply();
        let at = reply.len() - 4;
        let reply = with(reply, at, &(extras.len() as i32).to_le_bytes());
        driver.line.send(&[&reply, extras].concat())?;
        driver.is_right();
        Ok(vec![driver])
    }
}

impl Clumsy {
    fn replies(&mut self) -> Result<(), Lost> {
        self.line.send(&self.reply())?;
        self.is_right();
        Ok(())
    }
}
