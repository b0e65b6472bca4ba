//! Extras: as many bytes as there is room for, and how many were sent.

use forcewire::{Mode, Request, Scalar};

use super::{MODES, at_ready, computes, run, server};
use forcewire_support::server::script_with_room;
use forcewire_support::*;

fn check<T: Scalar>(extras: &[u8], room: usize) {
    for mode in MODES {
        at_every_split(|split| {
            let mut server = at_ready(server(mode));
            let mut script = script_with_room::<T>(&mut server, split, room);
            // Twice, to check that the bytes after the extras are read correctly.
            for turn in 0..2 {
                script = match (turn, mode) {
                    (0, _) => script.evaluates(&golden()),
                    (_, Mode::Strict) => script.evaluates(&golden()).says(STATUS).hears(READY),
                    _ => script.hears(READY).evaluates(&golden()),
                };
                let answer = answer(1, f64::from(turn), extras);
                script = computes(script, mode, &golden(), &answer);
            }
        });
    }
}

/// Extras of drivers without any: no bytes, a blank, a NUL, 0x01 (NWChem), "nothing" (DeePMD).
#[test]
fn extras_of_every_driver() {
    for extras in [
        &b""[..],
        b" ",
        b"\0",
        b"\x01",
        b"nothing",
        b"{\"dipole\": [1, 2, 3]}",
    ] {
        check::<f64>(extras, 64);
        check::<f32>(extras, 64);
    }
}

/// Up to the available room, and beyond it, where bytes are dropped 768 at a time.
#[test]
fn extras_that_there_is_no_room_for_are_dropped_and_counted() {
    for (len, room) in [
        (1, 0),
        (5, 5),
        (6, 5),
        (767, 0),
        (768, 0),
        (769, 0),
        (900, 100),
        (3000, 1),
    ] {
        let extras: Vec<_> = (0..len).map(|i| b'a' + (i % 26) as u8).collect();
        check::<f64>(&extras, room);
    }
}

#[test]
fn the_answer_knows_where_its_extras_are() {
    let (cell, positions) = (golden().cell(), golden().positions);
    let mut server = at_ready(server(Mode::Consolidated));
    let (mut forces, mut extras) = ([[0.0; 3]], *b"########");
    let request = Request::new(&cell, &positions);
    let evaluate = server.evaluate(request, &mut forces, &mut extras);
    let answer = run(evaluate, &hex(GOLDEN_FORCEREADY)).unwrap();
    assert_eq!(
        (answer.extras(&extras), answer.extras_sent()),
        (&b"{}"[..], 2)
    );
    assert_eq!(extras, *b"{}######");
    // An empty buffer is allowed.
    assert_eq!(answer.extras(&[]), b"");
    assert_eq!(forcewire::Answer::default().extras(&extras), b"");
}
