//! Several structures at once (i-PI 3.3.1, `dispatch_send_batch`).

use forcewire::{Mode, ProtocolError, Quantity, Request, Scalar};

use super::{at_ready, computes, ready, rounded, run, server, told};
use forcewire_support::server::{Script, script, script_with_room};
use forcewire_support::*;

/// As many structures as `count`, all different, with `natoms` atoms each.
fn structures(natoms: usize, count: usize) -> Vec<Structure> {
    let structure = |i| {
        let mut it = atoms(natoms);
        for position in &mut it.positions {
            position[2] = f64::from(i);
        }
        it
    };
    (0..count as u32).map(structure).collect()
}

/// Answers for them, with extras of different lengths.
fn answers(natoms: usize, count: usize) -> Vec<Answer> {
    let extras = |i| vec![b'0' + (i % 10) as u8; 2 * i];
    (0..count)
        .map(|i| answer(natoms, i as f64 + 0.5, &extras(i)))
        .collect()
}

/// The batch on the wire: the structures, padded with copies of the last.
fn batch(structures: &[Structure], size: usize) -> Vec<u8> {
    let mut all = structures.to_vec();
    all.resize(size, structures[structures.len() - 1].clone());
    [&posdata_batch(&all), GETFORCE, STATUS].concat()
}

/// One evaluation of these structures by a driver that computes its whole batch.
#[track_caller]
fn computes_batch<'s, T: Scalar>(
    script: Script<'s, T>,
    size: usize,
    structures: &[Structure],
    answers: &[Answer],
) -> Script<'s, T> {
    script
        .evaluates_batch(structures)
        .says(batch(structures, size))
        .hears([&forceready_batch(answers), READY].concat())
        .gets_batch(&answers[..structures.len()])
        .asks()
        .learns(ready())
}

#[test]
fn full_short_and_single_batches() {
    for size in [2, 3, 4] {
        at_every_split(|split| {
            let mut server = told(size);
            let mut script = script(&mut server, split);
            for count in (1..=size).chain([1]) {
                let answers = answers(3, size);
                script = computes_batch(script, size, &structures(3, count), &answers);
            }
            script.exits().says(EXIT).hears_the_end().ends();
        });
    }
}

#[test]
fn systems_of_every_size_around_that_of_the_scratch() {
    fn check<T: Scalar>() {
        for natoms in [0, 1, 10, 11, 16, 31, 32, 33, 40] {
            for count in [1, 2, 3] {
                at_every_split(|split| {
                    let structures = structures(natoms, count).into_iter();
                    let structures: Vec<_> = structures.map(rounded::<T>).collect();
                    let mut server = told(3);
                    let script = script_with_room::<T>(&mut server, split, 100);
                    computes_batch(script, 3, &structures, &answers(natoms, 3));
                });
            }
        }
    }
    check::<f64>();
    check::<f32>();
}

#[test]
fn more_structures_than_the_scratch_has_room_for() {
    for count in [1, 50, 100] {
        at_every_split(|split| {
            let mut server = told(100);
            let script = script_with_room::<f64>(&mut server, split, 20_000);
            computes_batch(script, 100, &structures(1, count), &answers(1, 100));
        });
    }
}

#[test]
fn a_batch_written_out() {
    at_every_split(|split| {
        let mut server = told(2);
        script(&mut server, split)
            .sends_batch(&golden_batch())
            .says([&hex(GOLDEN_BATCH), GETFORCE, STATUS].concat())
            .ends();
    });
}

/// The extras of all structures share one buffer. What does not fit is dropped, but every length is
/// reported.
#[test]
fn extras_that_the_buffer_has_no_room_for() {
    for room in 0..=13 {
        at_every_split(|split| {
            let mut server = told(4);
            let script = script_with_room::<f64>(&mut server, split, room);
            // The lengths are 0, 2, 4 and 6 bytes.
            computes_batch(script, 4, &structures(1, 4), &answers(1, 4));
        });
    }
}

/// Copies are computed, and their results are dropped.
#[test]
fn what_is_computed_of_a_copy_is_dropped() {
    at_every_split(|split| {
        let mut odd = answers(2, 3);
        odd[2] = answer(2, f64::NAN, &[b'x'; 2000]);
        odd[2].evaluation.energy = f64::INFINITY;
        odd[2].forces[1] = [f64::NAN; 3];
        let mut server = told(3);
        let script = script(&mut server, split);
        let script = computes_batch(script, 3, &structures(2, 2), &odd);
        computes_batch(script, 3, &structures(2, 2), &answers(2, 3));
    });
}

/// LAMMPS sends READY first, so it gets single structures.
#[test]
fn a_driver_that_never_asked_for_init_gets_one_structure_at_a_time() {
    at_every_split(|split| {
        let mut server = at_ready(server(Mode::Batched(4)));
        let script = script(&mut server, split)
            .then(|server| assert_eq!(server.capacity(), 1))
            .evaluates(&golden());
        let script = computes(script, Mode::Consolidated, &golden(), &golden_answer());
        script
            .hears(READY)
            .evaluates_batch(&[golden(), golden()])
            .refuses(ProtocolError::WrongLength {
                quantity: Quantity::Structures,
                given: 2,
                expected: 1,
            })
            .evaluates(&golden())
            .says([&posdata(&golden()), GETFORCE, STATUS].concat())
            .hears(hex(GOLDEN_FORCEREADY))
            .gets(&golden_answer());
    });
}

/// A whole evaluation in one call, INIT included, with a driver that asks for INIT each time.
#[test]
fn a_batch_from_the_beginning() {
    at_every_split(|split| {
        let (structures, answers) = (structures(5, 3), answers(5, 3));
        let mut server = server(Mode::Batched(3));
        let mut script = script(&mut server, split);
        for (i, first) in [STATUS, b""].into_iter().enumerate() {
            let replica = i as i32 - 1;
            script = script
                .for_replica(replica)
                .with_text("a : 1")
                .evaluates_batch(&structures)
                .says(first)
                .hears(NEEDINIT)
                .says([&init(replica, "a : 1, batch_size:3"), STATUS].concat())
                .hears(READY)
                .says(batch(&structures, 3))
                .hears(forceready_batch(&answers))
                .gets_batch(&answers);
        }
    });
}

/// An answer for one structure needs no array, but fills one that is passed.
#[test]
fn one_structure_in_a_batch_may_have_a_place_for_its_answer() {
    let heard = [&forceready_batch(&answers(1, 3)), READY].concat();
    let (cell, positions) = (golden().cell(), &golden().positions);
    for places in 0..3 {
        let mut server = told(3);
        let mut answers = vec![forcewire::Answer::default(); places];
        let (mut forces, mut extras) = ([[0.0; 3]], []);
        let request = Request::new(&cell, positions);
        let evaluate = server.evaluate_batch(request, &mut answers, &mut forces, &mut extras);
        let result = run(evaluate, &heard);
        if places == 2 {
            let error = ProtocolError::WrongLength {
                quantity: Quantity::Evaluations,
                given: 2,
                expected: 1,
            };
            assert_eq!(result, Err(error));
            assert_eq!(answers, [Default::default(); 2]);
        } else {
            let answer = result.unwrap();
            assert_eq!(answer.evaluation.energy, 0.5 * -1.25);
            assert!(answers.iter().all(|it| *it == answer));
        }
    }
}
