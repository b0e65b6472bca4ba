//! Bytes that arrive split otherwise than they were sent.

use std::thread::sleep;
use std::time::Duration;

use forcewire::Header::{GetForce, HaveData, Status};

use super::{ORDER, after_control};
use crate::check::driver::Situation;
use crate::check::line::PAUSE;
use crate::check::situation::STREAM;
use crate::check::wire::header;

pub const SITUATIONS: &[Situation] = &[
    after_control(
        "split-header",
        "sends a header in two segments",
        "a router fragments, a sender writes twice",
        STREAM,
        |s| {
            s.line.send(&header(Status)[..1])?;
            s.line.is_taken();
            s.line.send(&header(Status)[1..])?;
            s.hears_ready()?;
            s.carries_on()
        },
    )
    .legal(),
    after_control(
        "dribble",
        "sends everything a byte at a time",
        "a serial line, a microcontroller without buffers",
        STREAM,
        |s| {
            s.line.dribble(header(Status))?;
            s.hears_ready()?;
            s.line.dribble(&s.posdata(1))?;
            s.line.dribble(header(Status))?;
            s.expects(HaveData)?;
            s.line.dribble(header(GetForce))?;
            s.is_answered(1)
        },
    )
    .legal(),
    after_control(
        "pieces",
        "sends positions in pieces of 5 bytes",
        "a large structure over a real network comes in segments that end anywhere",
        STREAM,
        |s| {
            s.is_ready()?;
            s.line.pieces(&s.posdata(1), 5)?;
            s.has_data()?;
            s.computes(1)
        },
    )
    .legal(),
    after_control(
        "one-segment",
        "sends POSDATA, STATUS and GETFORCE in one write",
        "a server that does not wait for HAVEDATA, or whose kernel puts writes together",
        STREAM,
        |s| {
            s.is_ready()?;
            let message = [&s.posdata(1), header(Status), header(GetForce)].concat();
            s.line.send(&message)?;
            s.expects(HaveData)?;
            s.is_answered(1)
        },
    )
    .legal(),
    after_control(
        "consolidated",
        "sends POSDATA and GETFORCE in one write",
        "i-PI since 3.2 does, unless it is told not to",
        "i-PI 3.3.1 sockets.py, `dispatch_send`",
        |s| {
            s.is_ready()?;
            s.line.send(&[&s.posdata(1), header(GetForce)].concat())?;
            s.is_answered(1)
        },
    )
    .legal(),
    after_control(
        "ten-status",
        "asks STATUS ten times in one write",
        "an impatient server, or one that polls a driver that computes",
        ORDER,
        |s| {
            s.is_ready()?;
            s.line.send(&header(Status).repeat(10))?;
            for _ in 0..10 {
                s.hears_ready()?;
            }
            s.carries_on()
        },
    )
    .legal(),
    after_control(
        "status-behind-getforce",
        "sends GETFORCE and the next STATUS in one write",
        "a server that hurries to the next step",
        STREAM,
        |s| {
            s.is_ready()?;
            s.line.send(&s.posdata(1))?;
            s.has_data()?;
            s.line.send(&[header(GetForce), header(Status)].concat())?;
            let answer = s.answer(s.structure(1).positions.len())?;
            s.is(&answer, 1)?;
            s.hears_ready()?;
            s.carries_on()
        },
    )
    .legal(),
    after_control(
        "slow-reader",
        "takes the reply 7 bytes at a time",
        "a busy server, a narrow network",
        STREAM,
        |s| {
            s.is_ready()?;
            s.line.small_window();
            s.line.send(&s.posdata(1))?;
            s.has_data()?;
            s.send(GetForce)?;
            sleep(100 * PAUSE);
            let answer = s.answer_by(s.structure(1).positions.len(), 7, 5 * PAUSE)?;
            s.is(&answer, 1)?;
            s.carries_on()
        },
    )
    .legal(),
    after_control(
        "idle",
        "says nothing for a second between two steps",
        "another driver is slower, the server writes a restart",
        ORDER,
        |s| {
            sleep(Duration::from_secs(1));
            s.carries_on()
        },
    )
    .legal(),
    after_control(
        "no-status",
        "sends POSDATA without STATUS before it",
        "a server that knows the driver's state (IPICalculator.jl asks once)",
        ORDER,
        |s| {
            s.is_ready()?;
            let natoms = s.structure(1).positions.len();
            for index in [1, 0, 1] {
                s.line.send(&s.posdata(index))?;
                let answer = s.forces(natoms)?;
                s.is(&answer, index)?;
            }
            s.carries_on()
        },
    )
    .legal(),
];
