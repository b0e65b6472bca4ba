//! Complete conversations with every kind of driver.

use forcewire::{Exchange, Mode, Request, Scalar, Server, Status, Step, Traffic};

use super::{MODES, at_ready, computes, positions, ready, rounded, server};
use forcewire_support::server::{script, script_with_room};
use forcewire_support::*;

#[test]
fn the_bytes_are_those_of_i_pi() {
    let bytes = hex(GOLDEN_POSDATA);
    assert_eq!(posdata(&golden()), bytes);
    at_every_split(|split| {
        script(&mut Server::new(), split)
            .evaluates(&golden())
            .says(STATUS)
            .hears(READY)
            .says([&bytes, GETFORCE, STATUS].concat())
            .hears(hex(GOLDEN_FORCEREADY))
            .gets(&golden_answer());
    });
}

// ---- modes ----

/// i-PI before 3.2, ASE.
#[test]
fn a_classic_conversation() {
    at_every_split(|split| {
        let mut server = server(Mode::Classic);
        let mut script = script(&mut server, split).evaluates(&water()).says(STATUS);
        for step in 0..5 {
            let answer = answer(3, f64::from(step), b"{}");
            script = script
                .hears(READY)
                .says([&posdata(&water()), STATUS].concat())
                .hears(HAVEDATA)
                .says([GETFORCE, STATUS].concat())
                .hears(forceready(&answer))
                .gets(&answer)
                // STATUS was already sent after GETFORCE.
                .evaluates(&water())
                .says_nothing();
        }
        script
            .exits()
            .says(EXIT)
            // The answer to the last STATUS arrives before the end.
            .hears(READY)
            .waits()
            .hears_the_end()
            .ends();
    });
}

/// i-PI from 3.2 on.
#[test]
fn a_consolidated_conversation() {
    at_every_split(|split| {
        let mut server = Server::new();
        let mut script = script(&mut server, split)
            .asks()
            .says(STATUS)
            .hears(READY)
            .learns(ready());
        for step in 0..5 {
            let answer = answer(3, f64::from(step), b"{}");
            script = script
                .evaluates(&water())
                .says([&posdata(&water()), GETFORCE, STATUS].concat())
                .hears(forceready(&answer))
                .gets(&answer)
                .asks()
                .says_nothing()
                .hears(READY)
                .learns(ready());
        }
        script.exits().says(EXIT).hears_the_end().ends();
    });
}

/// ABINIT 9.6, pysisyphus: each STATUS is followed by POSDATA or GETFORCE.
#[test]
fn a_strict_conversation() {
    at_every_split(|split| {
        let mut server = server(Mode::Strict);
        let mut script = script(&mut server, split);
        for step in 0..5 {
            let answer = answer(3, f64::from(step), b"{}");
            script = script
                .evaluates(&water())
                .says(STATUS)
                .hears(READY)
                .says([&posdata(&water()), STATUS].concat())
                .hears(HAVEDATA)
                .says(GETFORCE)
                .hears(forceready(&answer))
                .gets(&answer);
        }
        script.exits().says(EXIT).hears_the_end().ends();
    });
}

/// All answers of a driver may wait in our receive buffer; each is read after its request was sent.
#[test]
fn what_comes_together_is_taken_one_by_one() {
    at_every_split(|split| {
        let answers: Vec<_> = (0..3).map(|i| answer(3, f64::from(i), b"")).collect();
        let mut server = Server::new();
        let mut script = script(&mut server, split).hears(READY);
        for answer in &answers {
            script = script.hears([&forceready(answer), READY].concat());
        }
        script = script
            .evaluates(&water())
            .says([STATUS, &positions(Mode::Consolidated, &water())].concat())
            .gets(&answers[0]);
        for answer in &answers[1..] {
            script = script
                .evaluates(&water())
                .says(positions(Mode::Consolidated, &water()))
                .gets(answer);
        }
    });
}

#[test]
fn headers_may_be_padded_with_nuls() {
    at_every_split(|split| {
        let mut forceready = hex(GOLDEN_FORCEREADY);
        forceready[10..12].fill(0);
        script(&mut server(Mode::Classic), split)
            .evaluates(&golden())
            .says(STATUS)
            .hears(b"NEEDINIT\0\0\0\0")
            .says([&init(0, " "), STATUS].concat())
            .hears(b"READY\0\0\0\0\0\0\0")
            .says([&posdata(&golden()), STATUS].concat())
            .hears(b"HAVEDATA\0   ")
            .says([GETFORCE, STATUS].concat())
            .hears(forceready)
            .gets(&golden_answer());
    });
}

// ---- systems ----

/// Up to 32 atoms fit into the scratch; longer arrays are sent directly from the caller's memory.
#[test]
fn systems_of_every_size_around_that_of_the_scratch() {
    fn check<T: Scalar>() {
        for natoms in [0, 1, 2, 24, 25, 26, 31, 32, 33, 34, 64, 257] {
            for mode in MODES {
                at_every_split(|split| {
                    let structure = rounded::<T>(atoms(natoms));
                    let answer = answer(natoms, 2.5, b"{}");
                    let mut server = at_ready(server(mode));
                    let script = script_with_room::<T>(&mut server, split, 2);
                    let script = script.evaluates(&structure);
                    computes(script, mode, &structure, &answer);
                });
            }
        }
    }
    check::<f64>();
    check::<f32>();
}

// ---- connections ----

#[test]
fn another_driver_after_a_reset() {
    at_every_split(|split| {
        for mode in MODES {
            let mut server = server(mode);
            let mut script = script(&mut server, split);
            // Another number of atoms each time: it is fixed only within a connection.
            for natoms in 1..4 {
                let (structure, answer) = (atoms(natoms), answer(natoms, 1.0, b""));
                script = script
                    .evaluates(&structure)
                    .says(STATUS)
                    .hears(NEEDINIT)
                    .says([&init(0, " "), STATUS].concat())
                    .hears(READY);
                script = computes(script, mode, &structure, &answer)
                    .exits()
                    .says(EXIT)
                    .hears_the_end()
                    .ends()
                    .reconnects();
            }
        }
    });
}

/// No state of an interrupted conversation remains, wherever it was interrupted.
#[test]
fn another_driver_after_a_reset_at_each_byte() {
    let (cells, positions) = ([golden().cell(); 2], [golden().positions[0]; 2]);
    let (mut answers, mut forces, mut extras) = ([Default::default(); 2], [[0.0; 3]; 2], [0; 2]);
    let both = [golden_answer(), golden_answer()];
    let heard = [NEEDINIT, READY, &forceready_batch(&both)].concat();
    let said = [
        STATUS,
        &init(0, "  batch_size:2"),
        STATUS,
        &posdata_batch(&[golden(), golden()]),
        GETFORCE,
        STATUS,
    ];
    let said = said.concat();
    for moved in 0..=heard.len() + said.len() {
        let mut server = server(Mode::Batched(2));
        let request = Request::batch(&cells, &positions);
        let evaluate = server.evaluate_batch(request, &mut answers, &mut forces, &mut extras);
        pour_at_most(evaluate, &mut &heard[..], moved);
        server.mark_timed_out();
        server.reset();
        let look = server.status();
        assert!(!look.midway() && !look.waits_for().owed());
        drop(look);
        script(&mut server, Split::Anew(moved as u64))
            .knows(Status::UP)
            .then(|server| assert_eq!((server.capacity(), server.natoms()), (1, 0)))
            // With another system, and without an announced batch.
            .hears([READY, &forceready(&answer(3, 1.0, b""))].concat())
            .evaluates(&water())
            .says([STATUS, &super::positions(Mode::Consolidated, &water())].concat())
            .gets(&answer(3, 1.0, b""));
    }
}

/// A caller's count of moved bytes is limited to the slice.
#[test]
fn no_more_moves_than_was_asked_for() {
    let mut server = Server::new();
    let mut status = server.status();
    for (at, moved) in [(0, 5), (5, 100)] {
        assert!(matches!(status.step(), Ok(Step::Write(rest)) if *rest == STATUS[at..]));
        status.advance(moved);
    }
    let Ok(Step::Read(slice)) = status.step() else {
        panic!("{status:?}")
    };
    slice.copy_from_slice(READY);
    status.advance(usize::MAX);
    assert!(matches!(status.step(), Ok(Step::Done(it)) if it.contains(Status::READY)));
    let (sent, received) = (12, 12);
    drop(status);
    assert_eq!(server.traffic(), Traffic { received, sent });
}

/// A server and an exchange in a log: their state, and no arrays.
#[test]
fn a_server_in_a_log() {
    let mut server = Server::new();
    let text = format!("{:?}", server.status());
    for word in ["ServerExchange {", "goal: Status", "Server {", "traffic: "] {
        assert!(text.contains(word), "{text}");
    }
}
