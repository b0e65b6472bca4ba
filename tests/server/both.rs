//! Server and driver in one process, in every mode. The answers equal the potential's own results.

use std::collections::VecDeque;

use forcewire::potential::{LennardJones, Real};
use forcewire::{
    Answer, Cell, Driver, Event, Exchange, Initialize, Mode, Potential, ProtocolError, Request,
    Scalar, Server, Status, Step, Storage,
};

use forcewire_support::*;

const MODES: [Mode; 4] = [
    Mode::Classic,
    Mode::Consolidated,
    Mode::Strict,
    Mode::Batched(3),
];

/// Moves as much as possible, a few bytes at a time. Returns the result if the exchange has ended.
fn carry<X: Exchange>(
    mut transfer: X,
    inbox: &mut VecDeque<u8>,
    outbox: &mut VecDeque<u8>,
    dice: &mut Dice,
) -> Option<Result<X::Output, ProtocolError>> {
    // Steps until the exchange waits; sometimes stops earlier, at random.
    while dice.below(8) > 0 {
        let n = match transfer.step() {
            Err(error) => return Some(Err(error)),
            Ok(Step::Done(output)) => return Some(Ok(output)),
            Ok(Step::Write(slice)) => {
                let n = 1 + dice.below(slice.len());
                outbox.extend(&slice[..n]);
                n
            }
            Ok(Step::Read(_)) if inbox.is_empty() => return None,
            Ok(Step::Read(slice)) => {
                let n = 1 + dice.below(slice.len().min(inbox.len()));
                for (to, from) in slice.iter_mut().zip(inbox.drain(..n)) {
                    *to = from;
                }
                n
            }
        };
        transfer.advance(n);
    }
    None
}

/// A driver with room for three structures of 40 atoms.
struct Peer<T> {
    driver: Driver,
    storage: Storage<T, 120, 3>,
    replying: bool,
    events: Vec<Event>,
}

impl<T: Real> Peer<T> {
    fn new(when: Initialize) -> Self {
        Self {
            driver: Driver::new().initialize(when),
            storage: Storage::new(),
            replying: false,
            events: Vec::new(),
        }
    }

    fn go_on(
        &mut self,
        potential: &mut LennardJones<T>,
        inbox: &mut VecDeque<u8>,
        outbox: &mut VecDeque<u8>,
        dice: &mut Dice,
    ) {
        let Self {
            driver, storage, ..
        } = self;
        if self.replying {
            let done = carry(storage.reply(driver), inbox, outbox, dice);
            self.replying = !matches!(done, Some(Ok(())));
        } else if let Some(event) = carry(storage.receive(driver), inbox, outbox, dice) {
            let event = event.unwrap();
            self.events.push(event);
            if let Event::Positions { .. } = event {
                storage
                    .evaluate(driver.natoms(), driver.structures(), potential)
                    .unwrap();
                self.replying = true;
            }
        }
    }
}

/// Atoms near the points of a lattice, in another cell for each structure.
fn structures<T: Scalar>(natoms: usize, count: usize) -> (Vec<Cell>, Vec<[T; 3]>) {
    let cell = |i: usize| {
        let x = 24.0 + i as f64;
        Cell::from_vectors([[x, 0.0, 0.0], [1.0, 25.0, 0.0], [-2.0, 3.0, 26.0]])
    };
    let mut dice = Dice::new(5);
    let mut off = |n: usize| 6.0 * n as f64 + dice.below(1000) as f64 / 500.0;
    let positions = (0..count * natoms).map(|i| {
        let i = i % natoms;
        [off(i % 4), off(i / 4 % 4), off(i / 16)].map(T::from_f64)
    });
    ((0..count).map(cell).collect(), positions.collect())
}

/// Three evaluations with a server whose atoms are `T` and a driver whose atoms are `D`.
fn evaluate<T: Scalar, D: Real>(mode: Mode, when: Initialize, natoms: usize, seed: u64) {
    let what = (mode, when, natoms, seed);
    let mut dice = Dice::new(seed);
    let mut potential = LennardJones::<D>::new(6.0, 0.001, 12.0);
    let mut server = Server::new().mode(mode);
    let mut peer = Peer::<D>::new(when);
    let (mut there, mut back) = (VecDeque::new(), VecDeque::new());
    let size = match mode {
        Mode::Batched(size) if when != Initialize::Never => size,
        _ => 1,
    };
    for count in [size, 1, size] {
        let (cells, positions) = structures::<T>(natoms, count);
        let mut answers = vec![Answer::default(); count];
        let (mut forces, mut extras) = (vec![[T::ZERO; 3]; natoms * count], [0; 4]);
        let request = Request::batch(&cells, &positions).replica(7);
        let mut turns = 0;
        let first = loop {
            let evaluate = server.evaluate_batch(request, &mut answers, &mut forces, &mut extras);
            if let Some(result) = carry(evaluate, &mut back, &mut there, &mut dice) {
                break result.unwrap_or_else(|error| panic!("{what:?}: {error}"));
            }
            peer.go_on(&mut potential, &mut there, &mut back, &mut dice);
            turns += 1;
            assert!(turns < 100_000, "{what:?}: nothing moves any more");
        };
        assert_eq!(answers[0], first);
        for (i, (cell, answer)) in cells.iter().zip(&answers).enumerate() {
            // The potential's own results.
            let own = &positions[i * natoms..][..natoms];
            let own: Vec<_> = own
                .iter()
                .map(|it| it.map(|x| D::from_f64(x.to_f64())))
                .collect();
            let mut expected = vec![[D::ZERO; 3]; natoms];
            let evaluation = potential.evaluate(cell, &own, &mut expected).unwrap();
            assert_eq!(answer.evaluation, evaluation);
            let expected = expected
                .iter()
                .map(|it| it.map(|x| T::from_f64(x.to_f64())));
            assert!(
                expected.eq(forces[i * natoms..][..natoms].iter().copied()),
                "{what:?}"
            );
            assert!(natoms == 0 || answer.evaluation.energy != 0.0);
        }
    }
    let exit = loop {
        if let Some(result) = carry(server.exit(), &mut back, &mut there, &mut dice) {
            break result;
        }
        if peer.events.last() == Some(&Event::Exit) {
            assert!(back.is_empty() || server.last_status() == Status::DISCONNECTED);
            back.clear();
            server.exit().end();
        } else {
            peer.go_on(&mut potential, &mut there, &mut back, &mut dice);
        }
    };
    assert_eq!(exit, Ok(()), "{what:?}");
    let inits = peer
        .events
        .iter()
        .filter(|it| matches!(it, Event::Init { replica: 7 }));
    let expected = match when {
        Initialize::Never => 0,
        Initialize::Once => 1,
        _ => 3,
    };
    assert_eq!(inits.count(), expected, "{what:?}");
    assert_eq!(peer.events.len(), 3 + expected + 1, "{what:?}");
}

#[test]
fn what_comes_back_is_what_the_potential_gives() {
    for mode in MODES {
        for when in [Initialize::Never, Initialize::Once, Initialize::EveryStep] {
            for natoms in [0, 1, 2, 33, 40] {
                let seed = natoms as u64;
                evaluate::<f64, f64>(mode, when, natoms, seed);
                evaluate::<f32, f64>(mode, when, natoms, seed);
                evaluate::<f64, f32>(mode, when, natoms, seed);
                evaluate::<f32, f32>(mode, when, natoms, seed);
            }
        }
    }
}

/// A caller with any other cell rotates it with its atoms, and rotates the answer back.
#[test]
fn a_rotated_system_is_the_same() {
    let cell = Cell::from_vectors([[3.0, 20.0, -4.0], [25.0, 1.0, 2.0], [-2.0, 3.0, 26.0]]);
    let (upper, rotation) = cell.to_upper_triangular().unwrap();
    let (_, positions) = structures::<f64>(40, 1);
    let rotated: Vec<_> = positions.iter().map(|it| rotation.apply(*it)).collect();
    let mut potential = LennardJones::<f64>::new(6.0, 0.001, 9.0);
    let mut expected = vec![[0.0; 3]; 40];
    let evaluation = potential
        .evaluate(&cell, &positions, &mut expected)
        .unwrap();

    let mut peer = Peer::new(Initialize::Never);
    let (mut there, mut back, mut dice) = (VecDeque::new(), VecDeque::new(), Dice::new(1));
    let (mut server, mut forces) = (Server::new(), vec![[0.0; 3]; 40]);
    let answer = loop {
        let evaluate = server.evaluate(Request::new(&upper, &rotated), &mut forces, &mut []);
        if let Some(answer) = carry(evaluate, &mut back, &mut there, &mut dice) {
            break answer.unwrap();
        }
        peer.go_on(&mut potential, &mut there, &mut back, &mut dice);
    };
    let same = |ours: &[f64], theirs: &[f64]| {
        let largest = theirs
            .iter()
            .fold(0.0_f64, |largest, x| largest.max(x.abs()));
        let near = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-12 * largest;
        assert!(ours.iter().zip(theirs).all(near), "{ours:?}\n{theirs:?}");
    };
    same(&[answer.evaluation.energy], &[evaluation.energy]);
    let virial = rotation.undo_virial(&answer.evaluation.virial);
    same(virial.0.as_flattened(), evaluation.virial.0.as_flattened());
    let forces: Vec<_> = forces.iter().map(|it| rotation.undo(*it)).collect();
    same(forces.as_flattened(), expected.as_flattened());
}
