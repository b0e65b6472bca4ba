//! Separate calls in the order of i-PI's `DriverSocket`: what is known about the driver, and when
//! it is late.

use forcewire::{Exchange, Header, Mode, ProtocolError, Request, Server, Status, Step};

use super::{
    MODES, at_ready, at_work, busy, has_data, needs_init, out_of_the_array, positions, ready,
    request, server,
};
use forcewire_support::server::script;
use forcewire_support::*;

/// `dispatch` of i-PI's classic interface.
#[test]
fn every_step_of_a_classic_conversation() {
    at_every_split(|split| {
        let mut server = server(Mode::Classic);
        let mut script = script(&mut server, split)
            .for_replica(-3)
            .knows(Status::UP)
            .asks()
            .says(STATUS)
            .knows(busy())
            .hears(NEEDINIT)
            .learns(needs_init())
            .knows(needs_init())
            .initializes()
            .says([&init(-3, " "), STATUS].concat())
            .ends()
            .knows(busy());
        for step in 0..3 {
            let answer = answer(1, f64::from(step), b"{}");
            script = script
                .asks()
                .says_nothing()
                .hears(READY)
                .learns(ready())
                .knows(ready())
                .sends(&golden())
                .says([&posdata(&golden()), STATUS].concat())
                .ends()
                .knows(busy())
                // The driver computes, so this call waits.
                .asks()
                .waits()
                .hears(HAVEDATA)
                .learns(has_data())
                .knows(has_data())
                .takes()
                .says([GETFORCE, STATUS].concat())
                .knows(busy())
                .hears(forceready(&answer))
                .gets(&answer)
                .knows(busy());
        }
        script
            .exits()
            .says(EXIT)
            .knows(Status::DISCONNECTED)
            .hears_the_end()
            .ends()
            .knows(Status::DISCONNECTED);
    });
}

/// i-PI's `dispatch_send`, and the code that collects the forces later.
#[test]
fn every_step_of_a_consolidated_conversation() {
    at_every_split(|split| {
        let mut server = Server::new();
        let mut script = script(&mut server, split);
        for step in 0..3 {
            let answer = answer(1, f64::from(step), b"{}");
            script = script.asks();
            script = match step {
                0 => script.says(STATUS),
                _ => script.says_nothing(),
            };
            script = script
                .hears(READY)
                .learns(ready())
                .sends(&golden())
                .says([&posdata(&golden()), GETFORCE, STATUS].concat())
                .ends()
                .knows(busy())
                // The driver would not answer STATUS before the forces.
                .asks()
                .learns(busy())
                .takes()
                .waits()
                .drops()
                .asks()
                .learns(busy())
                .takes()
                .hears(forceready(&answer))
                .gets(&answer)
                .knows(busy());
        }
    });
}

#[test]
fn every_step_of_a_strict_conversation() {
    at_every_split(|split| {
        let mut server = server(Mode::Strict);
        let mut script = script(&mut server, split);
        for step in 0..3 {
            let answer = answer(1, f64::from(step), b"{}");
            script = script
                .knows(Status::UP)
                .asks()
                .says(STATUS)
                .hears(NEEDINIT)
                .learns(needs_init())
                // INIT would have to follow.
                .asks()
                .learns(needs_init())
                .initializes()
                .says([&init(0, " "), STATUS].concat())
                .ends()
                .asks()
                .hears(READY)
                .learns(ready())
                // POSDATA would have to follow.
                .asks()
                .learns(ready())
                .sends(&golden())
                .says([&posdata(&golden()), STATUS].concat())
                .ends()
                .asks()
                .hears(HAVEDATA)
                .learns(has_data())
                .asks()
                .learns(has_data())
                .takes()
                .says(GETFORCE)
                .hears(forceready(&answer))
                .gets(&answer);
        }
    });
}

/// `evaluate` does not repeat separate steps that came before it. But positions that another
/// exchange sent are not its own: their forces are for `get_forces`.
#[test]
fn evaluate_continues_after_every_step() {
    for (mode, steps) in MODES
        .into_iter()
        .flat_map(|mode| (0..6).map(move |n| (mode, n)))
    {
        at_every_split(|split| {
            let (have_data, known, request) = match mode {
                Mode::Consolidated => (&b""[..], busy(), vec![]),
                _ => (HAVEDATA, has_data(), request(mode)),
            };
            let heard = [NEEDINIT, READY, have_data, &hex(GOLDEN_FORCEREADY)];
            let said = [
                STATUS,
                &init(0, " "),
                STATUS,
                &positions(mode, &golden()),
                &request,
            ];
            let mut server = server(mode);
            let mut script = script(&mut server, split).hears(heard.concat());
            for step in 0..steps {
                script = match step {
                    0 => script.asks().learns(needs_init()),
                    1 => script.initializes().ends(),
                    2 => script.asks().learns(ready()),
                    3 => script.sends(&golden()).ends(),
                    _ => script.asks().learns(known),
                };
            }
            let script = match steps {
                0..4 => script.evaluates(&golden()),
                _ => script
                    .evaluates(&golden())
                    .refuses(ProtocolError::AnswerDue)
                    .takes(),
            };
            script.says(said.concat()).gets(&golden_answer());
        });
    }
}

/// The status of a driver that is asked again may have changed.
#[test]
fn a_driver_may_be_asked_as_often_as_one_likes() {
    at_every_split(|split| {
        let mut server = server(Mode::Classic);
        let mut script = script(&mut server, split);
        for (answer, status) in [
            (READY, ready()),
            (NEEDINIT, needs_init()),
            (NEEDINIT, needs_init()),
            (READY, ready()),
            (READY, ready()),
        ] {
            script = script.asks().says(STATUS).hears(answer).learns(status);
        }
        script
            .evaluates(&golden())
            .says(positions(Mode::Classic, &golden()));
    });
}

// ---- the end ----

/// EXIT is sent no matter what the driver does, and the driver's bytes after that are dropped.
#[test]
fn exit_in_every_phase() {
    let noise = [&hex(GOLDEN_FORCEREADY)[..], &[0xff; 2000]].concat();
    for mode in MODES {
        for last in [&b""[..], READY, &hex(GOLDEN_FORCEREADY)[..50], &noise] {
            at_every_split(|split| {
                let phases = [
                    server(mode),
                    at_ready(server(mode)),
                    at_work(mode, false),
                    at_work(mode, true),
                ];
                for mut server in phases {
                    script(&mut server, split)
                        .exits()
                        .says(EXIT)
                        .hears(last)
                        .waits()
                        .knows(Status::DISCONNECTED)
                        .asks()
                        .learns(Status::DISCONNECTED)
                        .exits()
                        .says_nothing()
                        .hears_the_end()
                        .ends()
                        .asks()
                        .learns(Status::DISCONNECTED)
                        .exits()
                        .ends();
                }
            });
        }
    }
}

/// Bytes of an answer that arrive before EXIT is sent are dropped with it.
#[test]
fn exit_inside_of_an_answer() {
    for came in 1..hex(GOLDEN_FORCEREADY).len() {
        let split = Split::Anew(came as u64);
        let mut server = at_work(Mode::Consolidated, true);
        let reply = hex(GOLDEN_FORCEREADY);
        script(&mut server, split)
            .has_sent(&golden())
            .takes()
            .hears(&reply[..came])
            .waits()
            .exits()
            .says(EXIT)
            .hears(&reply[came..])
            .hears_the_end()
            .ends();
    }
}

/// After half of an answer is given up, only EXIT is possible.
#[test]
fn nothing_but_exit_follows_half_an_answer() {
    let mut server = at_work(Mode::Consolidated, true);
    script(&mut server, Split::Whole)
        .has_sent(&golden())
        .takes()
        .hears(&hex(GOLDEN_FORCEREADY)[..50])
        .waits();
    assert!(matches!(
        server.exit().step(),
        Ok(Step::Write(b"EXIT        "))
    ));
    script(&mut server, Split::Whole)
        .knows(Status::DISCONNECTED)
        .takes()
        .refuses(ProtocolError::InvalidStatus {
            command: Header::GetForce,
            status: Status::DISCONNECTED,
        })
        .asks()
        .learns(Status::DISCONNECTED)
        .exits()
        .says(EXIT)
        .hears_the_end()
        .ends();
}

/// A message whose rest is in the machine is completed first; that is impossible if the caller has
/// the rest.
#[test]
fn exit_behind_half_a_message() {
    let structure = atoms(40);
    let (cell, all) = (structure.cell(), positions(Mode::Consolidated, &structure));
    let request = Request::new(&cell, &structure.positions);
    for moved in 0..=all.len() {
        let mut server = at_ready(Server::new());
        let said = pour_some(server.send_positions(request), &mut &b""[..], moved);
        assert_eq!(said, all[..moved]);
        let script = script(&mut server, Split::Anew(moved as u64)).exits();
        match moved {
            // Nothing was sent, so nothing has begun.
            0 => script.says(EXIT),
            n if n >= out_of_the_array(&all, 24) => script.says([&all[moved..], EXIT].concat()),
            _ => {
                let script = script.refuses(ProtocolError::Unfinished(Header::PosData));
                // The server is unchanged.
                drop(script);
                let said = pour_some(server.send_positions(request), &mut &b""[..], 10_000);
                assert_eq!(said, all[moved..]);
                continue;
            }
        }
        .hears_the_end()
        .ends();
    }
}

// ---- deadlines ----

#[test]
fn a_deadline_that_has_passed_is_known_until_something_is_heard() {
    at_every_split(|split| {
        let late = |status| status | Status::TIMEOUT;
        script(&mut Server::new(), split)
            .then(Server::mark_timed_out)
            .knows(late(Status::UP))
            .asks()
            .says(STATUS)
            .knows(late(busy()))
            .hears(&READY[..1])
            .knows(busy())
            .then(Server::mark_timed_out)
            .knows(late(busy()))
            .hears(&READY[1..])
            .learns(ready())
            .evaluates(&golden())
            .says(positions(Mode::Consolidated, &golden()))
            .then(Server::mark_timed_out)
            .knows(late(busy()))
            .drops()
            .asks()
            .learns(late(busy()))
            .takes()
            .hears(hex(GOLDEN_FORCEREADY))
            .gets(&golden_answer())
            .knows(busy())
            .then(Server::mark_timed_out)
            .reconnects()
            .knows(Status::UP)
            .then(Server::mark_timed_out)
            .hears_the_end()
            .asks()
            .says(STATUS)
            .learns(Status::DISCONNECTED);
    });
}

/// A transport that moved no bytes has received none.
#[test]
fn a_deadline_is_not_met_by_nothing() {
    let mut server = Server::new();
    pour_some(server.status(), &mut &b""[..], 12);
    server.mark_timed_out();
    let mut asking = server.status();
    assert!(matches!(asking.step(), Ok(Step::Read(_))));
    asking.advance(0);
    drop(asking);
    assert_eq!(server.last_status(), busy() | Status::TIMEOUT);
}

/// Forces are not owed, because they take time to compute. Answers without a computation are owed,
/// and so is the rest of a message.
#[test]
fn what_is_owed_and_what_is_midway() {
    for mode in MODES {
        let (cell, atoms) = (golden().cell(), golden().positions);
        let (mut forces, mut extras) = ([[0.0; 3]], [0; 2]);
        let mut server = server(mode);
        let mut moves = |message: &[u8], heard: bool, owed: bool| {
            for (n, byte) in message.iter().enumerate() {
                let request = Request::new(&cell, &atoms);
                let evaluate = server.evaluate(request, &mut forces, &mut extras);
                let (inbox, expected) = if heard {
                    (vec![*byte], vec![])
                } else {
                    (vec![], vec![*byte])
                };
                assert_eq!(pour_some(evaluate, &mut &inbox[..], 1), expected);
                let within = n + 1 < message.len();
                let look = server.status();
                assert_eq!(look.midway(), within, "{mode:?}, {n}");
                let wait = look.waits_for();
                assert_eq!(wait.owed(), within || owed, "{mode:?}, {n}");
                if within {
                    // The name of an incoming message is known once its header has arrived.
                    let name = message[..12].trim_ascii_end();
                    let known = Some(name).filter(|_| !heard || n + 1 >= 12);
                    let said = wait.within.map(|it| it.name().as_bytes());
                    assert_eq!((said, wait.moved), (known, n + 1), "{mode:?}");
                }
            }
        };
        let behind = mode != Mode::Strict;
        moves(STATUS, false, true);
        moves(NEEDINIT, true, false);
        moves(&[&init(0, " "), STATUS].concat(), false, true);
        for turn in 0..2 {
            if turn > 0 && !behind {
                moves(STATUS, false, true);
            }
            moves(READY, true, false);
            moves(&positions(mode, &golden()), false, false);
            if mode != Mode::Consolidated {
                moves(HAVEDATA, true, false);
                moves(&request(mode), false, false);
            }
            moves(&hex(GOLDEN_FORCEREADY), true, behind);
        }
    }
    // EXIT is answered at once by closing.
    let mut server = Server::new();
    let look = server.exit();
    assert!(!look.midway() && !look.waits_for().owed());
    drop(look);
    pour_some(server.exit(), &mut &b""[..], 7);
    assert_eq!(server.exit().waits_for().within, Some(Header::Exit));
    pour_some(server.exit(), &mut &b""[..], 5);
    let look = server.exit();
    assert!(!look.midway() && look.waits_for().owed());
}
