//! Positions into a sink and forces out of a source: bytes and numbers are the same as with arrays.

use std::mem::size_of;
use std::task::Poll;

use forcewire::{
    Driver, Error, Evaluation, Event, Exchange, Header, Initialize, ProtocolError, Quantity,
    Scalar, Sink, Source, Step, Virial, asynch, blocking,
};
use forcewire_support::fake::Fake;
use forcewire_support::network::Hosts;
use forcewire_support::slow::{Slow, polled};
use forcewire_support::*;
use smoltcp::socket::tcp::Socket;

/// The number of structures in a message, and of atoms in each: none, less than a chunk, one chunk,
/// one more, several.
const SIZES: [(usize, usize); 9] = [
    (1, 0),
    (1, 1),
    (1, 32),
    (1, 33),
    (1, 100),
    (2, 0),
    (2, 16),
    (2, 33),
    (3, 50),
];

/// How many bytes move at a time.
#[derive(Clone, Copy, Debug)]
enum Pieces {
    Of(usize),
    Random(u64),
}

const PIECES: [Pieces; 7] = [
    Pieces::Of(1),
    Pieces::Of(5),
    Pieces::Of(7),
    Pieces::Of(12),
    Pieces::Random(1),
    Pieces::Random(2),
    Pieces::Of(usize::MAX),
];

/// Runs an exchange with the server's bytes. Returns its result and the bytes sent.
fn run<X: Exchange>(
    mut exchange: X,
    inbox: &mut &[u8],
    pieces: Pieces,
) -> (Result<X::Output, ProtocolError>, Vec<u8>) {
    let mut dice = Dice::new(match pieces {
        Pieces::Of(_) => 0,
        Pieces::Random(seed) => seed,
    });
    let mut piece = |most: usize| match pieces {
        Pieces::Of(n) => n.min(most),
        Pieces::Random(_) => 1 + dice.below(most),
    };
    let mut sent = vec![];
    loop {
        let n = match exchange.step() {
            Err(error) => return (Err(error), sent),
            Ok(Step::Done(output)) => return (Ok(output), sent),
            Ok(Step::Write(bytes)) => {
                let n = piece(bytes.len());
                sent.extend(&bytes[..n]);
                n
            }
            Ok(Step::Read(bytes)) => {
                assert!(!inbox.is_empty(), "waits for ever");
                let n = piece(bytes.len().min(inbox.len()));
                let (came, rest) = inbox.split_at(n);
                bytes[..n].copy_from_slice(came);
                *inbox = rest;
                n
            }
        };
        exchange.advance(n);
    }
}

/// Keeps the numbers, and checks the order of the calls.
#[derive(Debug, Default)]
struct Taken<T> {
    room: usize,
    begun: Vec<usize>,
    atoms: Vec<[T; 3]>,
}

impl<T> Taken<T> {
    fn with_room(room: usize) -> Self {
        Self {
            room,
            begun: vec![],
            atoms: vec![],
        }
    }
}

impl<T: Scalar> Sink for Taken<T> {
    type Real = T;

    fn begin(&mut self, natoms: usize) -> bool {
        assert!(self.atoms.is_empty(), "begins after atoms have come");
        self.begun.push(natoms);
        natoms <= self.room
    }

    fn put(&mut self, first: usize, atoms: &[[T; 3]]) {
        assert_eq!(first, self.atoms.len(), "in order and without gaps");
        assert!((1..=32).contains(&atoms.len()), "{} atoms", atoms.len());
        self.atoms.extend(atoms);
    }
}

/// Provides its numbers, and checks the order of the calls.
#[derive(Debug)]
struct Given<T> {
    forces: Vec<[T; 3]>,
    next: usize,
}

impl<T> Given<T> {
    fn new(forces: Vec<[T; 3]>) -> Self {
        Self { forces, next: 0 }
    }
}

impl<T: Scalar> Source for Given<T> {
    type Real = T;

    fn natoms(&self) -> usize {
        self.forces.len()
    }

    fn get(&mut self, first: usize, atoms: &mut [[T; 3]]) {
        assert_eq!(first, self.next, "in order and without gaps");
        assert!((1..=32).contains(&atoms.len()), "{} atoms", atoms.len());
        atoms.copy_from_slice(&self.forces[first..first + atoms.len()]);
        self.next += atoms.len();
    }
}

fn structures((count, natoms): (usize, usize)) -> Vec<Structure> {
    let structure = |i: usize| {
        let mut structure = atoms(natoms);
        structure.h[0] += i as f64;
        for x in structure.positions.as_flattened_mut() {
            *x += 1000.0 * i as f64;
        }
        structure
    };
    (0..count).map(structure).collect()
}

fn answers((count, natoms): (usize, usize)) -> Vec<Answer> {
    let answer = |i: usize| {
        let extras = ["{\"dipole\": 1.5}", "", "{}"][i];
        answer(natoms, 0.3 + i as f64, extras.as_bytes())
    };
    (0..count).map(answer).collect()
}

fn positions_of(structures: &[Structure]) -> Vec<u8> {
    match structures {
        [structure] => posdata(structure),
        _ => posdata_batch(structures),
    }
}

fn in_order<T: Scalar>(atoms: impl Iterator<Item = [f64; 3]>) -> Vec<[T; 3]> {
    atoms.map(|atom| atom.map(T::from_f64)).collect()
}

/// All atoms of these structures.
fn all<T: Scalar>(structures: &[Structure]) -> Vec<[T; 3]> {
    in_order(structures.iter().flat_map(|each| each.positions.clone()))
}

fn all_forces<T: Scalar>(answers: &[Answer]) -> Vec<[T; 3]> {
    in_order(answers.iter().flat_map(|each| each.forces.clone()))
}

/// The same answers with forces rounded to this type.
fn rounded<T: Scalar>(mut answers: Vec<Answer>) -> Vec<Answer> {
    for x in answers
        .iter_mut()
        .flat_map(|each| each.forces.as_flattened_mut())
    {
        *x = T::from_f64(*x).to_f64();
    }
    answers
}

/// A driver that accepts this many structures at once.
fn driver(structures: usize) -> Driver {
    if structures == 1 {
        return Driver::new();
    }
    let mut driver = Driver::new().initialize(Initialize::Once);
    let init = init(0, format!("batch_size:{structures}"));
    let receive = driver.receive::<f64>(&mut []);
    assert!(run(receive, &mut init.as_slice(), Pieces::Of(99)).0.is_ok());
    driver
}

fn event(structures: &[Structure]) -> Event {
    Event::Positions {
        natoms: structures[0].positions.len(),
        structures: structures.len(),
        cell: structures[0].cell(),
    }
}

/// The bits of numbers, because a zero may have a sign.
fn bits<T: Scalar>(atoms: &[[T; 3]]) -> Vec<u64> {
    let numbers = atoms.as_flattened().iter();
    numbers.map(|x| x.to_f64().to_bits()).collect()
}

/// A driver that has positions of this size.
fn computing(size: (usize, usize)) -> Driver {
    let structures = structures(size);
    let (mut driver, mut sink) = (driver(size.0), Taken::<f32>::with_room(1000));
    let mut cells = vec![UNTOUCHED_CELL; size.0];
    let message = positions_of(&structures);
    let receive = driver.receive_into(&mut cells, &mut sink);
    let (result, _) = run(receive, &mut message.as_slice(), Pieces::Of(100));
    assert_eq!(result, Ok(event(&structures)));
    driver
}

#[test]
fn a_sink_has_the_numbers_that_an_array_has() {
    fn check<T: Scalar>() {
        for size in SIZES {
            let structures = structures(size);
            let message = positions_of(&structures);
            let total = size.0 * size.1;
            for pieces in PIECES {
                let mut array = vec![[T::ZERO; 3]; total];
                let mut cells = vec![UNTOUCHED_CELL; size.0];
                let mut plain = driver(size.0);
                let receive = plain.receive_batch(&mut cells, &mut array);
                let expected = run(receive, &mut message.as_slice(), pieces);

                let (mut driver, mut sink) = (driver(size.0), Taken::<T>::with_room(total));
                let mut cells_too = vec![UNTOUCHED_CELL; size.0];
                let mut inbox = message.as_slice();
                let receive = driver.receive_into(&mut cells_too, &mut sink);
                assert_eq!(run(receive, &mut inbox, pieces), expected, "{pieces:?}");
                assert_eq!(expected.0, Ok(event(&structures)));
                assert_eq!((inbox.len(), &cells_too), (0, &cells));
                assert_eq!(bits(&sink.atoms), bits(&array), "{size:?}, {pieces:?}");
                assert_eq!(bits(&sink.atoms), bits(&all::<T>(&structures)));
                assert_eq!(sink.begun, [total], "{size:?}");
            }
        }
    }
    check::<f64>();
    check::<f32>();
}

#[test]
fn a_source_sends_the_bytes_that_an_array_sends() {
    fn check<T: Scalar>() {
        for size in SIZES {
            let answers = rounded::<T>(answers(size));
            let message = forceready_batch(&answers);
            let evaluations: Vec<_> = answers.iter().map(|each| each.evaluation).collect();
            let extras: Vec<_> = answers.iter().map(|each| each.extras.as_slice()).collect();
            let forces = all_forces::<T>(&answers);
            for pieces in PIECES {
                for asked in [[STATUS, GETFORCE].concat(), GETFORCE.to_vec()] {
                    let mut driver = computing(size);
                    let reply = driver.reply_batch(&evaluations, &forces, &extras);
                    let expected = run(reply, &mut asked.as_slice(), pieces);

                    let (mut driver, mut source) = (computing(size), Given::new(forces.clone()));
                    let reply = driver.reply_from(&evaluations, &mut source, &extras);
                    let mut inbox = asked.as_slice();
                    let sent = run(reply, &mut inbox, pieces);
                    assert!(sent == expected, "{size:?}, {pieces:?}");
                    assert!(sent.0.is_ok() && sent.1.ends_with(&message));
                    assert_eq!(source.next, forces.len());
                    assert_eq!(driver.status(), Header::Ready);
                }
            }
        }
    }
    check::<f64>();
    check::<f32>();
}

#[test]
fn a_source_of_another_length_is_refused_before_it_is_asked() {
    let mut driver = computing((1, 33));
    let evaluations = [answer(33, 1.0, b"").evaluation];
    for len in [0, 32, 34] {
        let mut source = Given::new(vec![[0.0; 3]; len]);
        let reply = driver.reply_from(&evaluations, &mut source, &[]);
        let error = ProtocolError::WrongLength {
            quantity: Quantity::Forces,
            given: len,
            expected: 33,
        };
        assert_eq!(
            run(reply, &mut { GETFORCE }, PIECES[0]),
            (Err(error), vec![])
        );
        assert_eq!(source.next, 0);
    }
}

/// No byte of the positions has been read by then.
#[test]
fn a_sink_without_room_refuses_and_another_one_may_take_them() {
    for size in [(1, 33), (2, 33)] {
        let (structures, total) = (structures(size), size.0 * size.1);
        let message = positions_of(&structures);
        let (mut driver, mut inbox) = (driver(size.0), message.as_slice());
        let mut cells = vec![UNTOUCHED_CELL; size.0];
        let mut small = Taken::<f64>::with_room(total - 1);
        let error = ProtocolError::TooManyAtoms {
            announced: total,
            capacity: 0,
        };
        for _ in 0..2 {
            let receive = driver.receive_into(&mut cells, &mut small);
            let (result, _) = run(receive, &mut inbox, Pieces::Of(7));
            assert_eq!(result, Err(error));
            assert!(small.atoms.is_empty());
        }
        // The exchange that was refused may be run again once there is room.
        let mut receive = driver.receive_into(&mut cells, &mut small);
        for _ in 0..2 {
            let (result, _) = run(&mut receive, &mut inbox, Pieces::Of(7));
            assert_eq!(result, Err(error));
        }
        drop(receive);
        let mut sink = Taken::<f32>::with_room(total);
        let receive = driver.receive_into(&mut cells, &mut sink);
        let (result, _) = run(receive, &mut inbox, Pieces::Of(7));
        assert_eq!(result, Ok(event(&structures)));
        assert_eq!((&sink.begun, sink.atoms), (&vec![total], all(&structures)));
    }
}

/// A sink is also told about a structure without atoms, and may refuse it.
#[test]
fn a_sink_begins_without_atoms() {
    struct Refuses(bool);
    impl Sink for Refuses {
        type Real = f64;
        fn begin(&mut self, natoms: usize) -> bool {
            assert_eq!(natoms, 0);
            !self.0
        }
        fn put(&mut self, _: usize, _: &[[f64; 3]]) {
            panic!("there is nothing to put");
        }
    }
    for size in [(1, 0), (2, 0)] {
        let structures = structures(size);
        let message = positions_of(&structures);
        let (mut driver, mut inbox) = (driver(size.0), message.as_slice());
        let mut cells = vec![UNTOUCHED_CELL; size.0];
        for refuses in [true, true, false] {
            let mut sink = Refuses(refuses);
            let receive = driver.receive_into(&mut cells, &mut sink);
            let (result, _) = run(receive, &mut inbox, Pieces::Of(7));
            let error = ProtocolError::TooManyAtoms {
                announced: 0,
                capacity: 0,
            };
            let expected = if refuses {
                Err(error)
            } else {
                Ok(event(&structures))
            };
            assert_eq!(result, expected, "{size:?}");
            if refuses {
                // No structure has been reported, so there is none to reply to.
                let nothing = Some(ProtocolError::NothingToReplyTo);
                let zero = vec![Evaluation::default(); size.0];
                let forces: &[[f64; 3]] = &[];
                assert_eq!(driver.await_getforce().step().err(), nothing);
                assert_eq!(driver.reply_batch(&zero, forces, &[]).step().err(), nothing);
            }
        }
    }
}

#[test]
fn nan_in_a_late_chunk_of_positions_is_refused_and_the_sink_had_finite_ones_only() {
    fn check<T: Scalar>() {
        for wrong in [0, 31, 32, 63, 64, 99] {
            for number in [f64::NAN, f64::INFINITY, -f64::NAN] {
                let mut structure = atoms(100);
                structure.positions[wrong][1] = number;
                let message = posdata(&structure);
                for pieces in PIECES {
                    let (mut driver, mut sink) = (Driver::new(), Taken::<T>::with_room(100));
                    let receive = driver.receive_into(&mut [], &mut sink);
                    let (result, _) = run(receive, &mut message.as_slice(), pieces);
                    let error = ProtocolError::NotFinite(Quantity::Positions);
                    assert_eq!(result, Err(error), "{wrong}");
                    // The chunks before the wrong number.
                    assert_eq!(sink.atoms.len(), wrong / 32 * 32);
                    let numbers = sink.atoms.as_flattened().iter();
                    assert!(numbers.copied().all(|x| x.to_f64().is_finite()));
                    // The error is final.
                    let receive = driver.receive_into(&mut [], &mut sink);
                    assert_eq!(run(receive, &mut { STATUS }, pieces), (Err(error), vec![]));
                }
            }
        }
    }
    check::<f64>();
    check::<f32>();
}

/// A number that is finite on the wire but too large for the type in memory.
#[test]
fn positions_beyond_single_precision_are_not_finite_in_a_sink_of_it() {
    let mut structure = atoms(40);
    structure.positions[35][2] = 1e300;
    let message = posdata(&structure);
    let (mut driver, mut sink) = (Driver::new(), Taken::<f32>::with_room(40));
    let receive = driver.receive_into(&mut [], &mut sink);
    let (result, _) = run(receive, &mut message.as_slice(), PIECES[6]);
    let error = ProtocolError::NotFinite(Quantity::Positions);
    assert_eq!((result, sink.atoms.len()), (Err(error), 32));
}

#[test]
fn nan_passes_in_both_directions_where_it_is_allowed() {
    let mut structure = atoms(40);
    structure.positions[35][2] = f64::NAN;
    let message = posdata(&structure);
    let mut driver = Driver::new().allow_not_finite();
    let mut sink = Taken::<f64>::with_room(40);
    let receive = driver.receive_into(&mut [], &mut sink);
    let (result, _) = run(receive, &mut message.as_slice(), PIECES[1]);
    assert!(result.is_ok() && sink.atoms[35][2].is_nan());
    let mut answer = answer(40, 1.0, b"");
    answer.forces[35][2] = f64::NAN;
    let mut source = Given::new(answer.forces.clone());
    let reply = driver.reply_from(std::slice::from_ref(&answer.evaluation), &mut source, &[]);
    let (result, sent) = run(reply, &mut { GETFORCE }, PIECES[1]);
    assert_eq!((result, sent), (Ok(()), forceready(&answer)));
}

/// The server receives a part of a reply, without any number that is not finite.
#[test]
fn nan_from_a_source_breaks_the_reply_off() {
    fn check<T: Scalar>() {
        for wrong in [0, 27, 33, 64, 99] {
            let mut answer = rounded::<T>(vec![answer(100, 0.5, b"{}")]).remove(0);
            let whole = forceready(&answer);
            answer.forces[wrong][0] = f64::NAN;
            let forces = in_order::<T>(answer.forces.iter().copied());
            for pieces in PIECES {
                let (mut driver, mut source) = (computing((1, 100)), Given::new(forces.clone()));
                let evaluations = std::slice::from_ref(&answer.evaluation);
                let extras = [answer.extras.as_slice()];
                let reply = driver.reply_from(evaluations, &mut source, &extras);
                let (result, sent) = run(reply, &mut { GETFORCE }, pieces);
                let error = ProtocolError::NotFinite(Quantity::Forces);
                assert_eq!(result, Err(error), "{wrong}");
                assert!(sent.len() <= 24 + 24 * wrong, "{wrong}: {}", sent.len());
                assert!(whole.starts_with(&sent), "{wrong}");
                // The error is final, whatever the numbers are.
                let mut right = Given::new(vec![[T::ZERO; 3]; 100]);
                let reply = driver.reply_from(evaluations, &mut right, &extras);
                assert_eq!(run(reply, &mut { GETFORCE }, pieces), (Err(error), vec![]));
            }
        }
    }
    check::<f64>();
    check::<f32>();
}

/// An energy or a virial is checked before the first byte is sent, as with an array.
#[test]
fn nan_beside_a_source_is_refused_before_a_byte_leaves() {
    let mut driver = computing((1, 33));
    let right = answer(33, 0.5, b"");
    let energy = Evaluation {
        energy: f64::NAN,
        ..right.evaluation
    };
    let virial = Evaluation {
        virial: Virial([[f64::INFINITY; 3]; 3]),
        ..right.evaluation
    };
    for (evaluation, quantity) in [(energy, Quantity::Energy), (virial, Quantity::Virial)] {
        let mut source = Given::new(right.forces.clone());
        let reply = driver.reply_from(std::slice::from_ref(&evaluation), &mut source, &[]);
        let error = ProtocolError::NotFinite(quantity);
        assert_eq!(
            run(reply, &mut { GETFORCE }, PIECES[0]),
            (Err(error), vec![])
        );
        assert_eq!(source.next, 0);
    }
    let mut source = Given::new(right.forces.clone());
    let reply = driver.reply_from(std::slice::from_ref(&right.evaluation), &mut source, &[]);
    let sent = run(reply, &mut { GETFORCE }, PIECES[0]);
    assert_eq!(sent, (Ok(()), forceready(&right)));
}

/// The driver can't know what a sink has done with its atoms.
#[test]
fn a_sink_that_took_atoms_is_not_gone_on_with_by_another_exchange() {
    fn check<T: Scalar>() {
        for size in [(1, 40), (2, 33)] {
            let (structures, total) = (structures(size), size.0 * size.1);
            let message = positions_of(&structures);
            let first = Posdata::batch(size.0, size.1).positions(0);
            for cut in 0..=message.len() {
                let mut driver = driver(size.0);
                let mut cells = vec![UNTOUCHED_CELL; size.0];
                let mut sink = Taken::<T>::with_room(total);
                let mut inbox = message.as_slice();
                let receive = driver.receive_into(&mut cells, &mut sink);
                pour_at_most(receive, &mut inbox, cut);
                let taken = (cut.saturating_sub(first) / 768 * 32).min(total);
                let taken = if cut == message.len() { total } else { taken };
                assert_eq!(sink.atoms.len(), taken, "{cut}");
                let before = inbox.len();
                let again = driver.receive_into(&mut cells, &mut sink);
                let (result, _) = run(again, &mut inbox, PIECES[6]);
                if taken == 0 {
                    assert_eq!(result, Ok(event(&structures)), "{cut}");
                    assert_eq!(bits(&sink.atoms), bits(&all::<T>(&structures)));
                    continue;
                }
                let error = ProtocolError::Unfinished(Header::PosData);
                assert_eq!((result, inbox.len()), (Err(error), before), "{cut}");
                assert_eq!(sink.atoms.len(), taken);
                // An array can't continue it either.
                let mut array = sink.atoms.clone();
                array.resize(total, [T::ZERO; 3]);
                let again = driver.receive_batch(&mut cells, &mut array);
                assert_eq!(run(again, &mut inbox, PIECES[6]).0, Err(error), "{cut}");
                assert_eq!(sink.begun.len(), 1);
            }
        }
    }
    check::<f64>();
    check::<f32>();
}

#[test]
fn a_sink_that_is_kept_goes_on_after_every_byte() {
    for size in SIZES {
        let (structures, total) = (structures(size), size.0 * size.1);
        let message = positions_of(&structures);
        let mut driver = driver(size.0);
        let mut cells = vec![UNTOUCHED_CELL; size.0];
        let mut sink = Taken::<f64>::with_room(total);
        let mut receive = driver.receive_into(&mut cells, &mut sink);
        for byte in message.chunks(1) {
            pour_at_most(&mut receive, &mut &byte[..], 1);
        }
        assert!(matches!(receive.step(), Ok(Step::Done(ended)) if ended == event(&structures)));
        drop(receive);
        assert_eq!(bits(&sink.atoms), bits(&all::<f64>(&structures)));
    }
}

#[test]
fn a_source_that_gave_forces_is_not_gone_on_with_by_another_exchange() {
    fn check<T: Scalar>() {
        let answer = rounded::<T>(vec![answer(40, 0.5, b"{}")]).remove(0);
        let message = forceready(&answer);
        let evaluations = std::slice::from_ref(&answer.evaluation);
        let forces = in_order::<T>(answer.forces.iter().copied());
        let extras = [answer.extras.as_slice()];
        for moved in 0..=12 + message.len() {
            let (mut driver, mut source) = (computing((1, 40)), Given::new(forces.clone()));
            let mut inbox = GETFORCE;
            let mut reply = driver.reply_from(evaluations, &mut source, &extras);
            let mut sent = pour_at_most(&mut reply, &mut inbox, moved);
            if moved % 2 == 0 {
                // The kept exchange continues.
                sent.extend(run(&mut reply, &mut inbox, PIECES[6]).1);
                assert!(sent == message, "{moved}");
                continue;
            }
            drop(reply);
            source.next = 0;
            let again = driver.reply_from(evaluations, &mut source, &extras);
            let (result, rest) = run(again, &mut inbox, PIECES[6]);
            if sent.is_empty() {
                assert_eq!((result, &rest), (Ok(()), &message), "{moved}");
                continue;
            }
            let error = if sent.len() < message.len() {
                ProtocolError::Unfinished(Header::ForceReady)
            } else {
                ProtocolError::NothingToReplyTo
            };
            assert_eq!((result, rest), (Err(error), vec![]), "{moved}");
            assert_eq!(source.next, 0, "{moved}");
            // The same forces in an array can't continue it either.
            let again = driver.reply_batch(evaluations, &forces, &extras);
            assert_eq!(run(again, &mut inbox, PIECES[6]), (Err(error), vec![]));
        }
    }
    check::<f64>();
    check::<f32>();
}

#[test]
fn a_reset_forgets_what_a_sink_or_a_source_has_begun() {
    let message = posdata(&atoms(40));
    let (mut driver, mut sink) = (Driver::new(), Taken::<f64>::with_room(40));
    let receive = driver.receive_into(&mut [], &mut sink);
    pour_at_most(receive, &mut message.as_slice(), 1000);
    driver.reset();
    let mut sink = Taken::<f64>::with_room(40);
    let receive = driver.receive_into(&mut [], &mut sink);
    let (result, _) = run(receive, &mut message.as_slice(), PIECES[2]);
    assert_eq!((result, sink.atoms.len()), (Ok(atoms(40).event()), 40));
    let evaluations = [Evaluation::default()];
    let mut source = Given::new(vec![[1.0; 3]; 40]);
    let reply = driver.reply_from(&evaluations, &mut source, &[]);
    assert_eq!(pour_at_most(reply, &mut { GETFORCE }, 112).len(), 100);
    driver.reset();
    let reply = driver.reply_from(&evaluations, &mut source, &[]);
    let error = ProtocolError::NothingToReplyTo;
    assert_eq!(
        run(reply, &mut { GETFORCE }, PIECES[2]),
        (Err(error), vec![])
    );
}

#[test]
fn the_stream_ends_at_each_byte_of_positions_for_a_sink() {
    for size in [(1, 40), (2, 33)] {
        let (message, total) = (positions_of(&structures(size)), size.0 * size.1);
        for cut in 1..message.len() {
            let (mut driver, mut sink) = (driver(size.0), Taken::<f32>::with_room(total));
            let mut cells = vec![UNTOUCHED_CELL; size.0];
            let receive = driver.receive_into(&mut cells, &mut sink);
            let error = ProtocolError::EndOfStream {
                within: (cut >= 12).then_some(Header::PosData),
                after: cut,
            };
            let ended = pour(receive, &mut &message[..cut]);
            assert_eq!(ended, (Err(error), vec![]), "{cut}");
        }
    }
}

/// A server that closes in the middle of GETFORCE gets no reply.
#[test]
fn the_stream_ends_before_a_source_is_asked() {
    let evaluations = [Evaluation::default()];
    for cut in 1..GETFORCE.len() {
        let (mut driver, mut source) = (computing((1, 33)), Given::new(vec![[1.0; 3]; 33]));
        let reply = driver.reply_from(&evaluations, &mut source, &[]);
        let error = ProtocolError::EndOfStream {
            within: None,
            after: cut,
        };
        assert_eq!(pour(reply, &mut &GETFORCE[..cut]), (Err(error), vec![]));
        assert_eq!(source.next, 0);
    }
}

// ---- over each transport ----

const SIZE: (usize, usize) = (2, 33);

/// Two evaluations of a batch: the messages of a driver and its server.
fn conversation() -> (Vec<u8>, Vec<u8>) {
    let (structures, answers) = (structures(SIZE), rounded::<f32>(answers(SIZE)));
    let init = init(0, "batch_size:2");
    let step = [&positions_of(&structures), GETFORCE, STATUS].concat();
    let heard = [STATUS, &init, STATUS, &step, &step, EXIT].concat();
    let reply = [&forceready_batch(&answers), READY].concat();
    let sent = [NEEDINIT, READY, &reply, &reply].concat();
    (heard, sent)
}

/// The driver's arrays, which are empty.
struct Windows {
    sink: Taken<f64>,
    source: Given<f32>,
    evaluations: Vec<Evaluation>,
}

impl Windows {
    fn new() -> Self {
        let answers = answers(SIZE);
        Self {
            sink: Taken::with_room(100),
            source: Given::new(all_forces(&answers)),
            evaluations: answers.iter().map(|each| each.evaluation).collect(),
        }
    }

    /// Prepares the reply to received positions.
    fn next(&mut self) {
        assert_eq!(bits(&self.sink.atoms), bits(&all::<f64>(&structures(SIZE))));
        self.sink = Taken::with_room(100);
        self.source.next = 0;
    }
}

const EXTRAS: [&[u8]; 2] = [b"{\"dipole\": 1.5}", b""];

#[test]
fn windows_over_a_stream_that_blocks() {
    let (heard, sent) = conversation();
    at_every_split(|split| {
        if let Split::Anew(_) = split {
            return;
        }
        let mut socket = Fake::new(&heard).split(split);
        let (mut driver, mut windows) =
            (Driver::new().initialize(Initialize::Once), Windows::new());
        let mut cells = [UNTOUCHED_CELL; 2];
        loop {
            let receive = driver.receive_into(&mut cells, &mut windows.sink);
            match blocking::run(&mut socket, receive).unwrap() {
                Event::Positions { .. } => windows.next(),
                Event::Init { .. } => continue,
                _ => break,
            }
            let Windows {
                source,
                evaluations,
                ..
            } = &mut windows;
            let reply = driver.reply_from(evaluations, source, &EXTRAS);
            blocking::run(&mut socket, reply).unwrap();
        }
        assert!(socket.said() == sent, "{split:?}");
    });
}

/// Each future is dropped after some polls, and its exchange is kept.
#[test]
fn windows_over_an_asynchronous_stream() {
    let (heard, sent) = conversation();
    for polls in [1, 2, 3, 10, usize::MAX] {
        at_every_split(|split| {
            let mut socket = Slow::new(&heard, split);
            let mut driver = Driver::new().initialize(Initialize::Once);
            let (mut windows, mut cells) = (Windows::new(), [UNTOUCHED_CELL; 2]);
            loop {
                let mut receive = driver.receive_into(&mut cells, &mut windows.sink);
                let event = loop {
                    if let Some(event) = polled(asynch::run(&mut socket, &mut receive), polls) {
                        break event.unwrap();
                    }
                };
                drop(receive);
                match event {
                    Event::Positions { .. } => windows.next(),
                    Event::Init { .. } => continue,
                    _ => break,
                }
                let Windows {
                    source,
                    evaluations,
                    ..
                } = &mut windows;
                let mut reply = driver.reply_from(evaluations, source, &EXTRAS);
                while polled(asynch::run(&mut socket, &mut reply), polls).is_none() {}
            }
            assert!(socket.outbox == sent, "{split:?}, {polls} polls");
        });
    }
}

/// The bytes received over this socket.
fn received(socket: &mut Socket<'_>) -> Vec<u8> {
    let mut bytes = vec![];
    while socket.can_recv() {
        let take = |piece: &mut [u8]| (piece.len(), piece.to_vec());
        bytes.extend(socket.recv(take).unwrap());
    }
    bytes
}

#[test]
fn windows_over_smoltcp() {
    let (heard, sent) = conversation();
    // Rings that hold everything, rings smaller than a message, and a cable that loses frames.
    for (receive, transmit, loses) in [(9000, 9000, 0), (100, 50, 0), (700, 300, 7)] {
        let mut hosts = Hosts::new((65_535, 65_535), (receive, transmit), loses);
        let mut heard = heard.as_slice();
        let (mut from_driver, mut cells) = (vec![], [UNTOUCHED_CELL; 2]);
        let mut driver = Driver::new().initialize(Initialize::Once);
        let mut windows = Windows::new();
        macro_rules! run {
            ($exchange:expr) => {{
                let mut exchange = $exchange;
                loop {
                    let server = hosts.server.socket();
                    let n = server.send_slice(heard).unwrap();
                    heard = &heard[n..];
                    from_driver.extend(received(server));
                    let polled = forcewire::smoltcp::poll(hosts.driver.socket(), &mut exchange);
                    if let Poll::Ready(output) = polled.unwrap() {
                        break output;
                    }
                    hosts.turn();
                }
            }};
        }
        loop {
            match run!(driver.receive_into(&mut cells, &mut windows.sink)) {
                Event::Positions { .. } => windows.next(),
                Event::Init { .. } => continue,
                _ => break,
            }
            let Windows {
                source,
                evaluations,
                ..
            } = &mut windows;
            run!(driver.reply_from(evaluations, source, &EXTRAS));
        }
        while from_driver.len() < sent.len() {
            hosts.turn();
            from_driver.extend(received(hosts.server.socket()));
        }
        assert!(from_driver == sent, "{receive} and {transmit} bytes");
    }
}

// ---- more atoms than memory ----

/// A million atoms, 24 MB in each direction, through a driver with less than 64 KiB. Positions are
/// passed to another device as they arrive, and its forces are sent as they arrive.
#[cfg(unix)]
mod a_million_atoms {
    use std::io;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
    use std::thread;

    use embedded_io_adapters::std::FromStd;
    use forcewire::{Cell, Mode, Request, Server};

    use super::*;

    const NATOMS: usize = 1_000_000;
    /// How many chunks may be in transit to the device, and from it.
    const CHUNKS: usize = 16;

    type Chunk<T> = ([[T; 3]; 32], usize);

    /// The driver's end of the queues to the device.
    struct ToDevice<T> {
        line: SyncSender<Chunk<T>>,
        chunk: [[T; 3]; 32],
        natoms: usize,
    }

    struct FromDevice<T> {
        line: Receiver<Chunk<T>>,
        /// The rest of a chunk.
        chunk: Chunk<T>,
        at: usize,
        natoms: usize,
    }

    impl<T: Scalar> Sink for ToDevice<T> {
        type Real = T;

        fn begin(&mut self, natoms: usize) -> bool {
            self.natoms = natoms;
            true
        }

        fn put(&mut self, _: usize, atoms: &[[T; 3]]) {
            self.chunk[..atoms.len()].copy_from_slice(atoms);
            self.line.send((self.chunk, atoms.len())).unwrap();
        }
    }

    impl<T: Scalar> Source for FromDevice<T> {
        type Real = T;

        fn natoms(&self) -> usize {
            self.natoms
        }

        fn get(&mut self, _: usize, atoms: &mut [[T; 3]]) {
            for atom in atoms {
                if self.at == self.chunk.1 {
                    (self.chunk, self.at) = (self.line.recv().unwrap(), 0);
                }
                *atom = self.chunk.0[self.at];
                self.at += 1;
            }
        }
    }

    /// The force on an atom at this position.
    fn force<T: Scalar>(atom: [T; 3]) -> [T; 3] {
        atom.map(|x| T::from_f64(-0.25 * x.to_f64()))
    }

    /// All memory of the driver's side.
    struct Side<T> {
        driver: Driver,
        sink: ToDevice<T>,
        source: FromDevice<T>,
        evaluation: [Evaluation; 1],
    }

    fn drive<T: Scalar>(socket: UnixStream, to: SyncSender<Chunk<T>>, from: Receiver<Chunk<T>>) {
        let lines = 2 * (CHUNKS + 1) * size_of::<Chunk<T>>();
        let held = size_of::<Side<T>>() + lines;
        assert!(held <= 64 * 1024, "{held} bytes");
        let chunk = [[T::ZERO; 3]; 32];
        let mut side = Side {
            driver: Driver::new(),
            sink: ToDevice {
                line: to,
                chunk,
                natoms: 0,
            },
            source: FromDevice {
                line: from,
                chunk: (chunk, 0),
                at: 0,
                natoms: NATOMS,
            },
            evaluation: [Evaluation::default()],
        };
        let mut socket = FromStd::new(socket);
        let mut steps = 0;
        loop {
            let receive = side.driver.receive_into(&mut [], &mut side.sink);
            match blocking::run(&mut socket, receive) {
                Ok(Event::Positions { natoms, .. }) => {
                    assert_eq!((natoms, side.sink.natoms), (NATOMS, NATOMS));
                    side.evaluation[0].energy = f64::from(steps);
                    let reply =
                        side.driver
                            .reply_from(&side.evaluation, &mut side.source, &[b"{}"]);
                    blocking::run(&mut socket, reply).unwrap();
                    steps += 1;
                }
                Ok(Event::Exit | Event::Closed) => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(steps, 2);
    }

    /// The device stores the positions in its own memory until all have arrived.
    fn compute<T: Scalar>(from: &Receiver<Chunk<T>>, to: &SyncSender<Chunk<T>>) {
        loop {
            let mut memory = Vec::with_capacity(NATOMS);
            while memory.len() < NATOMS {
                let Ok((chunk, len)) = from.recv() else {
                    return;
                };
                memory.extend_from_slice(&chunk[..len]);
            }
            for atoms in memory.chunks(32) {
                let mut chunk = [[T::ZERO; 3]; 32];
                for (to, atom) in chunk.iter_mut().zip(atoms) {
                    *to = force(*atom);
                }
                to.send((chunk, atoms.len())).unwrap();
            }
        }
    }

    #[test]
    fn through_a_driver_that_holds_64_kib() {
        runs::<f64>();
    }

    #[test]
    fn through_one_of_single_precision() {
        runs::<f32>();
    }

    fn runs<T: Scalar + Send>() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (to, at_device) = sync_channel(CHUNKS);
        let (from_device, from) = sync_channel(CHUNKS);
        thread::scope(|scope| {
            scope.spawn(move || compute::<T>(&at_device, &from_device));
            scope.spawn(move || drive(theirs, to, from));
            let mut socket = FromStd::new(ours);
            let mut server = Server::new().mode(Mode::Consolidated);
            let cell = Cell::orthorhombic([1000.0; 3]);
            let mut forces = vec![[0.0; 3]; NATOMS];
            for step in 0..2 {
                let number = |i: usize| (i % 999_983) as f64 / 7.0 + f64::from(step);
                let positions: Vec<_> = (0..NATOMS)
                    .map(|i| [number(3 * i), number(3 * i + 1), number(3 * i + 2)])
                    .collect();
                let mut extras = [0; 8];
                let request = Request::new(&cell, &positions);
                let evaluate = server.evaluate(request, &mut forces, &mut extras);
                let answer = blocking::run(&mut socket, evaluate).unwrap();
                assert_eq!(answer.evaluation.energy, f64::from(step));
                assert_eq!(answer.extras(&extras), b"{}");
                // In the driver's precision, where -0.25 is exact.
                let truth = |atom: &[f64; 3]| force(atom.map(|x| T::from_f64(x).to_f64()));
                let mut pairs = forces.iter().zip(&positions);
                assert!(pairs.all(|(got, atom)| *got == truth(atom)), "{step}");
            }
            let exit: Result<(), Error<io::Error>> = blocking::run(&mut socket, server.exit());
            exit.unwrap();
        });
    }
}
