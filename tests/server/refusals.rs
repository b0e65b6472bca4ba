//! Refusals by a server, of its driver and its caller: the exact errors, and that each says what to
//! do.

use forcewire::{Cell, Header, Mode, ProtocolError, Quantity, Request, Scalar, Server, Status};

use super::{
    MODES, at_ready, at_work, computes, has_data, needs_init, positions, reads, ready, request,
    rounded, run, server, told,
};
use forcewire_support::server::{Call, script, script_with_room};
use forcewire_support::*;

const ODD: [f64; 3] = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];

fn wrong(quantity: Quantity, given: usize, expected: usize) -> ProtocolError {
    ProtocolError::WrongLength {
        quantity,
        given,
        expected,
    }
}

/// The driver's reply to [`one`] is refused for this reason in every mode.
fn refuses_reply(reply: &[u8], error: ProtocolError) {
    for mode in MODES {
        at_every_split(|split| {
            let mut server = at_work(mode, true);
            script(&mut server, split)
                .has_sent(&golden())
                .calls(Call::Forces)
                .hears(reply)
                .refuses(error)
                .knows(Status::DISCONNECTED);
        });
    }
}

// ---- faults of the driver ----

#[test]
fn forces_for_another_number_of_atoms() {
    for announced in [0, 2, 3, -1, i32::MIN, i32::MAX] {
        let mut reply = forceready(&answer(3, 1.0, b""));
        reply[20..24].copy_from_slice(&integer(announced));
        let error = ProtocolError::WrongAtoms {
            announced,
            expected: 1,
        };
        refuses_reply(&reply, error);
    }
    // Nothing has been written to the array.
    let mut server = at_work(Mode::Consolidated, true);
    let mut forces = [[UNTOUCHED; 3]];
    let reply = forceready(&answer(2, 1.0, b""));
    let taken = run(server.get_forces(&mut forces, &mut []), &reply);
    let error = ProtocolError::WrongAtoms {
        announced: 2,
        expected: 1,
    };
    assert_eq!((taken, forces), (Err(error), [[UNTOUCHED; 3]]));
    reads(
        error,
        &["answered for 2 atoms", "given 1", "the same system"],
    );
}

#[test]
fn forces_for_another_number_of_atoms_in_a_batch() {
    at_every_split(|split| {
        let mut server = told(2);
        let batch = [water(), water()];
        script(&mut server, split)
            .evaluates_batch(&batch)
            .says([&posdata_batch(&batch), GETFORCE, STATUS].concat())
            .hears(forceready_batch(&[
                answer(2, 1.0, b""),
                answer(2, 1.0, b""),
            ]))
            .refuses(ProtocolError::WrongAtoms {
                announced: 2,
                expected: 3,
            });
    });
}

#[test]
fn extras_of_negative_length() {
    for len in [-1, i32::MIN] {
        let mut reply = forceready(&Answer {
            extras: vec![],
            ..golden_answer()
        });
        let end = reply.len();
        reply[end - 4..].copy_from_slice(&integer(len));
        refuses_reply(&reply, ProtocolError::NegativeLength(len));
    }
    // In a batch, the same holds for copies: otherwise the start of the next ones would be unknown.
    at_every_split(|split| {
        let answers = [answer(1, 1.0, b"{}"), answer(1, 2.0, b"")];
        let mut reply = forceready_batch(&answers);
        let end = reply.len();
        reply[end - 4..].copy_from_slice(&integer(-7));
        let mut server = told(2);
        script(&mut server, split)
            .evaluates(&golden())
            .says([&posdata_batch(&[golden(), golden()]), GETFORCE, STATUS].concat())
            .hears(reply)
            .refuses(ProtocolError::NegativeLength(-7));
    });
    reads(
        ProtocolError::NegativeLength(-7),
        &["a text of -7 bytes", "out of step"],
    );
}

/// The golden answer with one number that is not finite.
fn odd_answers(odd: f64) -> [(Quantity, Answer); 4] {
    let answer = |change: fn(&mut Answer, f64)| {
        let mut answer = golden_answer();
        change(&mut answer, odd);
        answer
    };
    [
        (
            Quantity::Energy,
            answer(|it, odd| it.evaluation.energy = odd),
        ),
        (Quantity::Forces, answer(|it, odd| it.forces[0][2] = odd)),
        (
            Quantity::Virial,
            answer(|it, odd| it.evaluation.virial.0[2][2] = odd),
        ),
        // i-PI reads the upper triangle only.
        (
            Quantity::Virial,
            answer(|it, odd| it.evaluation.virial.0[2][0] = odd),
        ),
    ]
}

#[test]
fn an_answer_that_is_not_finite() {
    for odd in ODD {
        for (quantity, answer) in odd_answers(odd) {
            refuses_reply(&forceready(&answer), ProtocolError::NotFinite(quantity));
            for place in 0..3 {
                let mut answers = [golden_answer(), golden_answer(), golden_answer()];
                answers[place] = answer.clone();
                at_every_split(|split| {
                    let mut server = told(3);
                    let batch = [golden(), golden(), golden()];
                    script(&mut server, split)
                        .evaluates_batch(&batch)
                        .says([&posdata_batch(&batch), GETFORCE, STATUS].concat())
                        .hears(forceready_batch(&answers))
                        .refuses(ProtocolError::NotFinite(quantity));
                });
            }
        }
    }
    reads(
        ProtocolError::NotFinite(Quantity::Forces),
        &["forces", "NaN", "nothing was computed"],
    );
}

#[test]
fn a_force_that_is_not_finite_among_many() {
    fn check<T: Scalar>(odd: f64) {
        for (natoms, at) in [(1, 0), (33, 0), (33, 32), (100, 31), (100, 64), (100, 99)] {
            let (structure, mut answer) = (atoms(natoms), answer(natoms, 1.0, b""));
            answer.forces[at][1] = odd;
            for split in [Split::Whole, Split::Random(1), Split::Anew(2)] {
                let mut server = at_ready(Server::new());
                script_with_room::<T>(&mut server, split, 0)
                    .sends(&structure)
                    .goes_on()
                    .takes()
                    .hears(forceready(&answer))
                    .refuses(ProtocolError::NotFinite(Quantity::Forces));
            }
        }
    }
    for odd in ODD {
        check::<f64>(odd);
        check::<f32>(odd);
    }
    // Too large for the caller's type.
    check::<f32>(1e300);
}

#[test]
fn what_is_not_finite_passes_where_it_is_allowed() {
    for odd in ODD {
        for mode in MODES {
            at_every_split(|split| {
                let mut structure = atoms(33);
                structure.positions[32] = [odd; 3];
                let mut answer = answer(33, 1.0, b"");
                answer.evaluation.energy = odd;
                answer.evaluation.virial.0[1][1] = odd;
                answer.forces[32] = [odd; 3];
                let mut server = at_ready(server(mode).allow_not_finite());
                let script = script(&mut server, split).evaluates(&structure);
                computes(script, mode, &structure, &answer);
            });
        }
    }
}

// ---- mistakes of the caller ----

/// Each call refuses before a byte was sent; then `good` can be sent.
fn refuses_structures(
    make: impl Fn() -> Server,
    structures: &[Structure],
    error: ProtocolError,
    good: &Structure,
) {
    at_every_split(|split| {
        let mut server = make();
        let known = server.natoms();
        let script = script(&mut server, split)
            .sends_batch(structures)
            .refuses(error)
            .evaluates_batch(structures)
            .refuses(error)
            .says_nothing()
            .knows(ready())
            .then(|server| assert_eq!(server.natoms(), known))
            .evaluates(good);
        let answer = answer(good.positions.len(), 1.0, b"");
        computes(script, Mode::Consolidated, good, &answer);
    });
}

fn at_ready_again() -> Server {
    let mut server = at_ready(Server::new());
    let script = script(&mut server, Split::Whole).evaluates(&water());
    computes(script, Mode::Consolidated, &water(), &answer(3, 1.0, b""))
        .asks()
        .hears(READY)
        .learns(ready());
    server
}

#[test]
fn a_cell_that_is_not_upper_triangular() {
    for below in [3, 6, 7] {
        for value in [1e-300, -5.0, f64::MAX] {
            let mut structure = golden();
            structure.h[below] = value;
            let error = ProtocolError::NotUpperTriangular;
            refuses_structures(|| at_ready(Server::new()), &[structure], error, &golden());
        }
    }
    // A zero may have a sign.
    at_every_split(|split| {
        let mut structure = cube(vec![[0.0; 3]]);
        structure.h[6] = -0.0;
        let mut server = at_ready(Server::new());
        script(&mut server, split).sends(&structure).goes_on();
    });
    reads(
        ProtocolError::NotUpperTriangular,
        &["below its diagonal", "Cell::to_upper_triangular"],
    );
}

#[test]
fn a_cell_that_is_flat() {
    for diagonal in [0, 4, 8] {
        let mut structure = golden();
        structure.h[diagonal] = 0.0;
        let error = ProtocolError::SingularCell;
        refuses_structures(|| at_ready(Server::new()), &[structure], error, &golden());
    }
    reads(ProtocolError::SingularCell, &["in one plane", "give a box"]);
}

/// Cells must have an inverse, whether or not infinite numbers are allowed.
#[test]
fn a_cell_that_is_not_finite() {
    for odd in ODD {
        for at in 0..9 {
            let mut structure = golden();
            structure.h[at] = odd;
            let error = ProtocolError::NotFinite(Quantity::Cell);
            let structure = [structure];
            refuses_structures(|| at_ready(Server::new()), &structure, error, &golden());
            let allowing = || at_ready(Server::new().allow_not_finite());
            refuses_structures(allowing, &structure, error, &golden());
        }
    }
}

#[test]
fn positions_that_are_not_finite() {
    for odd in ODD {
        for (natoms, at) in [(1, 0), (33, 16), (100, 99)] {
            let mut structure = atoms(natoms);
            structure.positions[at][2] = odd;
            let error = ProtocolError::NotFinite(Quantity::Positions);
            let good = atoms(natoms);
            refuses_structures(|| at_ready(Server::new()), &[structure], error, &good);
        }
    }
}

#[test]
fn a_number_of_atoms_that_changes() {
    for natoms in [0, 2, 4, 100] {
        let error = ProtocolError::AtomsChanged {
            announced: natoms,
            expected: 3,
        };
        refuses_structures(at_ready_again, &[atoms(natoms)], error, &water());
        // The number of atoms may change if the caller allows it.
        at_every_split(|split| {
            let mut server = at_ready_again().allow_changing_atoms();
            let (structure, answer) = (atoms(natoms), answer(natoms, 1.0, b""));
            let script = script(&mut server, split).evaluates(&structure);
            computes(script, Mode::Consolidated, &structure, &answer)
                .then(|server| assert_eq!(server.natoms(), natoms));
        });
    }
    reads(
        ProtocolError::AtomsChanged {
            announced: 4,
            expected: 3,
        },
        &["4 atoms after 3", "allow_changing_atoms"],
    );
}

#[test]
fn too_many_structures() {
    let error = wrong(Quantity::Structures, 3, 1);
    let three = [water(), water(), water()];
    refuses_structures(|| at_ready(Server::new()), &three, error, &water());
    at_every_split(|split| {
        let mut server = told(2);
        let two = [water(), water()];
        script(&mut server, split)
            .sends_batch(&three)
            .refuses(wrong(Quantity::Structures, 3, 2))
            .evaluates_batch(&three)
            .refuses(wrong(Quantity::Structures, 3, 2))
            .sends_batch(&two)
            .says([&posdata_batch(&two), GETFORCE, STATUS].concat())
            .ends();
    });
    reads(
        wrong(Quantity::Structures, 3, 2),
        &["structures", "length 3", "2 is needed"],
    );
}

#[test]
fn no_structures_and_uneven_ones() {
    let none = wrong(Quantity::Structures, 0, 1);
    refuses_structures(|| at_ready(Server::new()), &[], none, &golden());
    // Five atoms are not the atoms of two structures, and one is not either.
    for (natoms, expected) in [(5, 4), (1, 0)] {
        let mut server = told(2);
        let cells = [golden().cell(); 2];
        let positions = vec![[0.0; 3]; natoms];
        let request = Request::batch(&cells, &positions);
        let error = wrong(Quantity::Positions, natoms, expected);
        assert_eq!(run(server.send_positions(request), b""), Err(error));
        assert_eq!(server.last_status(), ready());
    }
}

/// The server is unchanged, no matter at which step the arrays are passed: with the right ones it
/// continues.
#[test]
fn arrays_of_other_lengths() {
    let reply = forceready(&answer(3, 1.0, b"{}"));
    // After a part of the energy, of the forces, of the virial, of the extras.
    let pieces = [0, 13, 30, 96, 120, 173, reply.len() - 1];
    for (lengths, error) in [
        ([0, 0, 64], wrong(Quantity::Forces, 0, 3)),
        ([2, 0, 64], wrong(Quantity::Forces, 2, 3)),
        ([4, 0, 64], wrong(Quantity::Forces, 4, 3)),
        ([3, 2, 64], wrong(Quantity::Evaluations, 2, 1)),
    ] {
        for mode in MODES {
            at_every_split(|split| {
                let mut server = at_ready(server(mode));
                let mut script = script(&mut server, split)
                    .has_sent(&water())
                    .refuses_with(lengths, Call::Evaluate, error)
                    .sends(&water())
                    .says(positions(mode, &water()))
                    .ends()
                    .refuses_with(lengths, Call::Forces, error);
                if mode != Mode::Consolidated {
                    script = script
                        .asks()
                        .hears(HAVEDATA)
                        .learns(has_data())
                        .refuses_with(lengths, Call::Forces, error)
                        .takes()
                        .says(request(mode));
                }
                for piece in pieces.windows(2) {
                    script = script
                        .hears(&reply[piece[0]..piece[1]])
                        .takes()
                        .waits()
                        .refuses_with(lengths, Call::Forces, error);
                }
                script
                    .takes()
                    .hears(&reply[reply.len() - 1..])
                    .gets(&answer(3, 1.0, b"{}"));
            });
        }
    }
    reads(
        wrong(Quantity::Forces, 2, 3),
        &["forces", "length 2", "3 is needed"],
    );
    reads(wrong(Quantity::Evaluations, 2, 1), &["evaluations"]);
}

#[test]
fn answers_of_a_batch_have_a_place_each() {
    let batch = [water(), water()];
    for (lengths, error) in [
        ([6, 0, 64], wrong(Quantity::Evaluations, 0, 2)),
        ([6, 1, 64], wrong(Quantity::Evaluations, 1, 2)),
        ([6, 3, 64], wrong(Quantity::Evaluations, 3, 2)),
        ([3, 2, 64], wrong(Quantity::Forces, 3, 6)),
    ] {
        at_every_split(|split| {
            let mut server = told(3);
            let answers = [
                answer(3, 1.0, b"{}"),
                answer(3, 2.0, b"1"),
                answer(3, 3.0, b""),
            ];
            script(&mut server, split)
                .sends_batch(&batch)
                .goes_on()
                .refuses_with(lengths, Call::Forces, error)
                .takes()
                .hears(forceready_batch(&answers))
                .gets_batch(&answers[..2]);
        });
    }
}

/// A shorter buffer is refused while bytes are still to come that were announced to fit.
#[test]
fn a_buffer_that_has_become_shorter() {
    at_every_split(|split| {
        let answer = answer(1, 1.0, &[b'e'; 50]);
        let reply = forceready(&answer);
        let mut server = at_work(Mode::Consolidated, true);
        script(&mut server, split)
            .has_sent(&golden())
            .takes()
            .hears(&reply[..reply.len() - 10])
            .waits()
            .refuses_with([1, 0, 49], Call::Forces, wrong(Quantity::Extras, 49, 50))
            .takes()
            .hears(&reply[reply.len() - 10..])
            .gets(&answer);
    });
}

/// A structure's positions as an array of this type.
fn held<T: Scalar>(structure: &Structure) -> Vec<[T; 3]> {
    structure
        .positions
        .iter()
        .map(|it| it.map(T::from_f64))
        .collect()
}

/// Half of a message was sent: its rest is not taken from a longer or shorter array.
#[test]
fn structures_of_other_lengths_than_those_half_sent() {
    let structure = atoms(100);
    let cells = [structure.cell(); 2];
    let sent = positions(Mode::Consolidated, &structure);
    fn check<T: Scalar>(cells: &[Cell; 2], held: &[[T; 3]], moved: usize, sent: &[u8]) {
        let mut server = at_ready(Server::new());
        let request = Request::new(&cells[0], held);
        pour_some(server.send_positions(request), &mut &b""[..], moved);
        for natoms in [0, 1, 99] {
            let other = Request::new(&cells[0], &held[..natoms]);
            let error = ProtocolError::Unfinished(Header::PosData);
            assert_eq!(
                pour(server.send_positions(other), &mut &b""[..]),
                (Err(error), vec![])
            );
        }
        let two = Request::batch(cells, held);
        let error = ProtocolError::Unfinished(Header::PosData);
        assert_eq!(
            pour(server.send_positions(two), &mut &b""[..]),
            (Err(error), vec![])
        );
        let rest = pour(server.send_positions(request), &mut &b""[..]);
        assert_eq!(rest, (Ok(()), sent[moved..].to_vec()));
    }
    for moved in [1, 160, 161, 770, 2000, 2295] {
        check::<f64>(&cells, &held(&structure), moved, &sent);
        let sent = positions(Mode::Consolidated, &rounded::<f32>(structure.clone()));
        check::<f32>(&cells, &held(&structure), moved, &sent);
    }
}

/// Half of a message was sent: its rest is not taken from an array of another type, even with the
/// same numbers.
#[test]
fn positions_of_another_kind_than_those_half_sent() {
    fn begins<T: Scalar>(server: &mut Server, structure: &Structure, most: usize) -> Vec<u8> {
        let (cell, positions) = (structure.cell(), held::<T>(structure));
        let request = Request::new(&cell, &positions);
        pour_some(server.send_positions(request), &mut &b""[..], most)
    }
    fn goes_on<T: Scalar>(
        server: &mut Server,
        structure: &Structure,
    ) -> (Result<(), ProtocolError>, Vec<u8>) {
        let (cell, positions) = (structure.cell(), held::<T>(structure));
        let request = Request::new(&cell, &positions);
        pour(server.send_positions(request), &mut &b""[..])
    }
    let structure = rounded::<f32>(atoms(100));
    let whole = positions(Mode::Consolidated, &structure);
    for moved in [1, 159, 160, 161, 767, 768, 769, 2000, 2559, 2560, 2570] {
        let rest = (Ok(()), whole[moved..].to_vec());
        let mut server = at_ready(Server::new());
        let left = begins::<f32>(&mut server, &structure, moved);
        assert!(left == whole[..moved], "{moved}");
        if moved < 2560 {
            let error = ProtocolError::Unfinished(Header::PosData);
            let told = goes_on::<f64>(&mut server, &structure);
            assert_eq!(told, (Err(error), vec![]), "{moved}");
        }
        assert!(goes_on::<f32>(&mut server, &structure) == rest, "{moved}");

        let mut server = at_ready(Server::new());
        let left = begins::<f64>(&mut server, &structure, moved);
        assert!(left == whole[..moved], "{moved}");
        let error = ProtocolError::Unfinished(Header::PosData);
        let told = goes_on::<f32>(&mut server, &structure);
        assert_eq!(told, (Err(error), vec![]), "{moved}");
        // Nothing is lost.
        assert!(goes_on::<f64>(&mut server, &structure) == rest, "{moved}");
    }
}

/// The first half of the forces is in one array: the second half is not written to one of another
/// type.
#[test]
fn forces_of_another_kind_than_those_half_here() {
    let answer = answer(3, 1.0, b"");
    let reply = forceready(&answer);
    for here in [25, 60, 95] {
        let mut server = at_ready(Server::new());
        let (cell, positions) = (water().cell(), water().positions);
        pour(
            server.send_positions(Request::new(&cell, &positions)),
            &mut &b""[..],
        )
        .0
        .unwrap();
        let mut forces = [[0.0; 3]; 3];
        pour_some(
            server.get_forces(&mut forces, &mut []),
            &mut &reply[..here],
            reply.len(),
        );
        let mut single = [[0.0_f32; 3]; 3];
        let told = pour(server.get_forces(&mut single, &mut []), &mut &reply[here..]).0;
        let error = ProtocolError::Unfinished(Header::ForceReady);
        assert_eq!(told, Err(error), "{here}");
        assert!(single == [[0.0; 3]; 3]);
        let told = pour(server.get_forces(&mut forces, &mut []), &mut &reply[here..]).0;
        assert_eq!(told.unwrap().evaluation.energy, answer.evaluation.energy);
        assert_eq!(forces, answer.forces.as_slice());
    }
}

/// 2 GiB of INIT would not fit into memory, but a slice that is mapped and never touched works.
#[test]
#[cfg(target_pointer_width = "64")]
fn a_text_too_long_to_be_announced() {
    let text = vec![0_u8; i32::MAX as usize + 1];
    let most = i32::MAX as usize;
    for (mode, len, error) in [
        (Mode::Classic, most + 1, Some(most + 1)),
        (Mode::Classic, most, None),
        (Mode::Batched(2), most, Some(most + 14)),
        (Mode::Batched(2), most - 13, Some(most + 1)),
        (Mode::Batched(2), most - 14, None),
    ] {
        let mut server = server(mode);
        script(&mut server, Split::Whole)
            .asks()
            .says(STATUS)
            .hears(NEEDINIT)
            .learns(needs_init());
        match error {
            Some(len_with_batch) => {
                let (result, said) = pour(server.initialize(0, &text[..len]), &mut &b""[..]);
                let error = ProtocolError::TextTooLong(len_with_batch);
                assert_eq!((result, said), (Err(error), vec![]), "{mode:?}");
                // The server is unchanged.
                script(&mut server, Split::Whole).initializes().goes_on();
            }
            None => {
                let said = pour_some(server.initialize(0, &text[..len]), &mut &b""[..], 20);
                assert_eq!(said[16..], integer(i32::MAX));
            }
        }
    }
    reads(
        ProtocolError::TextTooLong(most + 1),
        &["2147483648 bytes", "2147483647"],
    );
}
