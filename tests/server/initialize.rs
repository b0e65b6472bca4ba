//! INIT, for drivers that ask for it: never, once, for every structure.

use forcewire::{Exchange, Header, Mode, ProtocolError, Quantity, Scalar, Server, Step};

use super::{MODES, busy, computes, needs_init, positions, server};
use forcewire_support::server::{Script, script};
use forcewire_support::*;

/// The driver answers NEEDINIT to the STATUS that was sent, and READY to the STATUS after INIT.
#[track_caller]
fn initialized<'s, T: Scalar>(script: Script<'s, T>, init: Vec<u8>) -> Script<'s, T> {
    script
        .hears(NEEDINIT)
        .says([&init, STATUS].concat())
        .hears(READY)
}

/// LAMMPS, CP2K and ABINIT never ask.
#[test]
fn a_driver_that_does_not_ask_gets_none() {
    at_every_split(|split| {
        for mode in MODES {
            let mut server = server(mode);
            let script = script(&mut server, split)
                .for_replica(7)
                .with_text("sigma : 1")
                .evaluates(&golden())
                .says(STATUS)
                .hears(READY);
            computes(script, mode, &golden(), &golden_answer());
        }
    });
}

/// i-PI's Python driver asks once.
#[test]
fn a_driver_that_asks_once() {
    at_every_split(|split| {
        for mode in MODES {
            let mut server = server(mode);
            let script = script(&mut server, split).evaluates(&golden()).says(STATUS);
            let script = initialized(script, init(0, " "));
            let script = computes(script, mode, &golden(), &golden_answer()).evaluates(&golden());
            let script = match mode {
                Mode::Strict => script.says(STATUS),
                _ => script.says_nothing(),
            };
            computes(script.hears(READY), mode, &golden(), &golden_answer());
        }
    });
}

/// Quantum ESPRESSO, NWChem and GPAW ask after every evaluation, and receive the number of the
/// replica each time.
#[test]
fn a_driver_that_asks_for_every_structure() {
    at_every_split(|split| {
        for mode in MODES {
            let mut server = server(mode);
            let mut script = script(&mut server, split).with_text("k : 1 , ");
            for replica in [0, 1, i32::MAX, -1, i32::MIN] {
                script = script.for_replica(replica).evaluates(&golden());
                script = match mode {
                    Mode::Strict => script.says(STATUS),
                    _ if replica == 0 => script.says(STATUS),
                    _ => script.says_nothing(),
                };
                script = initialized(script, init(replica, "k : 1 , "));
                script = computes(script, mode, &golden(), &golden_answer());
            }
        }
    });
}

/// QE 6.7 takes the length for a set of flags, and a length of 0 ends every driver built on i-PI's
/// C `readbuffer`.
#[test]
fn the_text_is_one_blank_unless_there_is_one() {
    at_every_split(|split| {
        let text = |text: &str, sent: &str| {
            let mut server = Server::new();
            let script = script(&mut server, split)
                .with_text(text)
                .evaluates(&golden())
                .says(STATUS);
            initialized(script, init(0, sent)).says(positions(Mode::Consolidated, &golden()));
        };
        text("", " ");
        text(" ", " ");
        text("\0", "\0");
        text(" sigma : 6.43 , ", " sigma : 6.43 , ");
    });
}

#[test]
fn a_text_of_any_length() {
    // The scratch holds 768 bytes, of which INIT's beginning takes 20 and the STATUS after it 12.
    for len in [1, 735, 736, 737, 747, 748, 749, 768, 5000] {
        let text: Vec<_> = (0..len).map(|i| b'a' + (i % 26) as u8).collect();
        at_every_split(|split| {
            let mut server = Server::new();
            let script = script(&mut server, split)
                .for_replica(-2)
                .with_text(&text)
                .evaluates(&golden())
                .says(STATUS);
            initialized(script, init(-2, &text)).says(positions(Mode::Consolidated, &golden()));
        });
    }
}

// ---- batches ----

/// The format follows i-PI's `DriverSocket.initialize`: after the text, with a comma unless the
/// text is blank.
#[test]
fn batches_are_announced_behind_the_text() {
    at_every_split(|split| {
        let announced = |size, text: &str, sent: &str| {
            let mut server = server(Mode::Batched(size));
            let script = script(&mut server, split)
                .with_text(text)
                .evaluates(&golden())
                .says(STATUS)
                .then(|server| assert_eq!(server.capacity(), 1));
            initialized(script, init(0, sent))
                .says(
                    [
                        posdata_batch(&vec![golden(); size]),
                        [GETFORCE, STATUS].concat(),
                    ]
                    .concat(),
                )
                .then(|server| assert_eq!(server.capacity(), size));
        };
        announced(3, "", "  batch_size:3");
        announced(2, "\t\n", "\t\n batch_size:2");
        announced(12, " sigma : 6.43 , ", " sigma : 6.43 , , batch_size:12");
        announced(2, "\0", "\0, batch_size:2");
        for len in [1500].into_iter().chain(700..780) {
            let text = "x".repeat(len);
            announced(2, &text, &format!("{text}, batch_size:2"));
        }
    });
}

#[test]
fn the_announcement_is_i_pis_own() {
    at_every_split(|split| {
        script(&mut server(Mode::Batched(3)), split)
            .asks()
            .says(STATUS)
            .hears(NEEDINIT)
            .learns(needs_init())
            .initializes()
            .says([&hex(GOLDEN_INIT), STATUS].concat())
            .ends();
    });
}

#[test]
fn a_batch_of_one_is_not_announced() {
    at_every_split(|split| {
        for size in [0, 1] {
            let mut server = server(Mode::Batched(size));
            let script = script(&mut server, split)
                .with_text("k : 1")
                .evaluates(&golden())
                .says(STATUS);
            let script = initialized(script, init(0, "k : 1"));
            computes(script, Mode::Consolidated, &golden(), &golden_answer())
                .then(|server| assert_eq!(server.capacity(), 1));
        }
    });
}

/// INIT holds the number of structures as a signed 32-bit integer.
#[test]
fn more_structures_than_can_be_announced_are_refused() {
    let most = i32::MAX as usize;
    for (size, refused) in [(most, false), (most + 1, true), (usize::MAX, true)] {
        let mut server = server(Mode::Batched(size));
        pour(server.status(), &mut &*NEEDINIT).0.unwrap();
        let (result, said) = pour(server.initialize(0, b" "), &mut &b""[..]);
        let error = ProtocolError::WrongLength {
            quantity: Quantity::Structures,
            given: size,
            expected: most,
        };
        assert_eq!(result, if refused { Err(error) } else { Ok(()) });
        assert_eq!(said.is_empty(), refused);
    }
}

/// Batches need an INIT that announced them: asking for INIT again announces nothing.
#[test]
fn a_driver_that_is_asked_twice_was_told_nothing_yet() {
    at_every_split(|split| {
        script(&mut server(Mode::Batched(3)), split)
            .asks()
            .says(STATUS)
            .hears(NEEDINIT)
            .learns(needs_init())
            .asks()
            .says(STATUS)
            .drops()
            .then(|server| assert_eq!(server.capacity(), 1))
            .knows(busy())
            .asks()
            .hears(NEEDINIT)
            .learns(needs_init())
            .initializes()
            .says([&hex(GOLDEN_INIT), STATUS].concat())
            .ends()
            .then(|server| assert_eq!(server.capacity(), 3));
    });
}

/// INIT does not count as sent because a STATUS was sent.
#[test]
fn init_is_still_to_be_sent_after_another_question() {
    let mut server = Server::new();
    script(&mut server, Split::Whole)
        .asks()
        .says(STATUS)
        .hears(NEEDINIT)
        .learns(needs_init());
    let mut question = server.status();
    assert!(matches!(question.step(), Ok(Step::Write(b"STATUS      "))));
    question.advance(12);
    drop(question);
    script(&mut server, Split::Whole)
        .initializes()
        .refuses(ProtocolError::InvalidStatus {
            command: Header::Init,
            status: busy(),
        })
        .asks()
        .hears(NEEDINIT)
        .learns(needs_init())
        .initializes()
        .says([&init(0, " "), STATUS].concat())
        .ends();
}
