//! Ready-made arrays: single structures, batches, and errors of a potential.

use forcewire::{
    Cell, Driver, Evaluation, Event, Exchange, Initialize, Potential, PotentialError,
    ProtocolError, Quantity, Scalar, Storage, Virial, potential::Real,
};
use forcewire_support::*;

/// A potential that pulls every atom towards the origin and has the cell's first number as its
/// energy. It records its calls.
struct Pull<T> {
    given: Vec<(Cell, Vec<[T; 3]>)>,
    /// The number of the evaluation that fails.
    fails_at: usize,
}

impl<T> Pull<T> {
    fn new() -> Self {
        Self {
            given: Vec::new(),
            fails_at: usize::MAX,
        }
    }
}

impl<T: Real> Potential for Pull<T> {
    type Real = T;

    fn evaluate(
        &mut self,
        cell: &Cell,
        positions: &[[T; 3]],
        forces: &mut [[T; 3]],
    ) -> Result<Evaluation, PotentialError> {
        assert_eq!(positions.len(), forces.len());
        self.given.push((*cell, positions.to_vec()));
        if self.given.len() > self.fails_at {
            return Err(PotentialError::ResultNotFinite);
        }
        for (force, position) in forces.iter_mut().zip(positions) {
            *force = position.map(|x| -x);
        }
        Ok(Evaluation {
            energy: cell.h()[0][0],
            virial: Virial::isotropic(cell.h()[1][1]),
        })
    }
}

/// The answer of [`Pull`], in `T`.
fn pulled<T: Scalar>(structure: &Structure) -> Answer {
    let force = |position: &[f64; 3]| position.map(|x| (-T::from_f64(x)).to_f64());
    let yy = structure.h[4];
    Answer {
        evaluation: Evaluation {
            energy: structure.h[0],
            virial: Virial([[yy, 0.0, 0.0], [0.0, yy, 0.0], [0.0, 0.0, yy]]),
        },
        forces: structure.positions.iter().map(force).collect(),
        extras: Vec::new(),
    }
}

/// Runs an exchange with all bytes of the server. Returns its result and the driver's bytes.
#[track_caller]
fn run<T: Exchange>(transfer: T, mut inbox: &[u8]) -> (Result<T::Output, ProtocolError>, Vec<u8>) {
    let (result, said) = pour(transfer, &mut inbox);
    assert!(inbox.is_empty(), "{} bytes are left", inbox.len());
    (result, said)
}

#[test]
fn a_structure_is_evaluated_and_replied_to() {
    fn check<T: Real>() {
        let mut driver = Driver::new().allow_changing_atoms();
        let mut storage = Storage::<T, 40>::new();
        let mut pull = Pull::new();
        // Fewer atoms than the arrays hold, as many, none, and fewer again.
        for structure in [water(), atoms(40), atoms(0), golden()] {
            let (event, _) = run(storage.receive(&mut driver), &posdata(&structure));
            assert_eq!(event, Ok(structure.event()));
            storage
                .evaluate(driver.natoms(), driver.structures(), &mut pull)
                .unwrap();
            let (cell, positions) = pull.given.pop().unwrap();
            assert_eq!(cell, structure.cell());
            let rounded = structure.positions.iter().map(|it| it.map(T::from_f64));
            assert!(rounded.eq(positions));
            let (result, said) = run(storage.reply(&mut driver), GETFORCE);
            assert_eq!(result, Ok(()));
            assert_eq!(said, forceready(&pulled::<T>(&structure)));
        }
    }
    check::<f64>();
    check::<f32>();
}

#[test]
fn each_structure_of_a_batch_is_evaluated_with_its_cell() {
    fn check<T: Real>() {
        let mut batch = [water(), atoms(3), atoms(3)];
        for (edge, structure) in batch.iter_mut().enumerate() {
            structure.h[0] += edge as f64;
            structure.h[4] -= edge as f64;
        }
        let mut driver = Driver::new().initialize(Initialize::Once);
        let mut storage = Storage::<T, 9, 3>::default();
        let mut pull = Pull::new();
        let (event, _) = run(storage.receive(&mut driver), &init(0, " batch_size:3"));
        assert_eq!(event, Ok(Event::Init { replica: 0 }));
        for _ in 0..2 {
            let (event, _) = run(storage.receive(&mut driver), &posdata_batch(&batch));
            let expected = Event::Positions {
                natoms: 3,
                structures: 3,
                cell: batch[0].cell(),
            };
            assert_eq!(event, Ok(expected));
            storage
                .evaluate(driver.natoms(), driver.structures(), &mut pull)
                .unwrap();
            let (result, said) = run(storage.reply(&mut driver), GETFORCE);
            assert_eq!(result, Ok(()));
            assert_eq!(said, forceready_batch(&batch.each_ref().map(pulled::<T>)));
        }
    }
    check::<f64>();
    check::<f32>();
}

#[test]
fn a_single_structure_uses_part_of_a_batchs_storage() {
    let mut driver = Driver::new();
    let mut storage = Storage::<f64, 9, 3>::new();
    let mut pull = Pull::new();
    let _ = run(storage.receive(&mut driver), &posdata(&water()));
    storage
        .evaluate(driver.natoms(), driver.structures(), &mut pull)
        .unwrap();
    assert_eq!(pull.given.len(), 1);
    let (_, said) = run(storage.reply(&mut driver), GETFORCE);
    assert_eq!(said, forceready(&pulled::<f64>(&water())));
}

#[test]
fn what_the_potential_refuses_is_not_replied_to() {
    let mut driver = Driver::new();
    let mut storage = Storage::<f64, 6, 2>::new();
    let mut pull = Pull::new();
    let _ = run(storage.receive(&mut driver), &init(0, "batch_size:2"));
    let mut batch = [water(), atoms(3)];
    batch[1].h[0] += 1.0;
    let two = posdata_batch(&batch);
    for fails_at in 0..2 {
        let _ = run(storage.receive(&mut driver), &two);
        pull.given.clear();
        pull.fails_at = fails_at;
        let result = storage.evaluate(driver.natoms(), driver.structures(), &mut pull);
        assert_eq!(result, Err(PotentialError::ResultNotFinite));
        let (result, said) = run(storage.reply(&mut driver), b"");
        assert_eq!(
            result,
            Err(ProtocolError::WrongLength {
                quantity: Quantity::Evaluations,
                given: fails_at,
                expected: 2
            })
        );
        assert_eq!(said, b"");
        // Another potential may succeed.
        pull.fails_at = usize::MAX;
        storage
            .evaluate(driver.natoms(), driver.structures(), &mut pull)
            .unwrap();
        let (result, said) = run(storage.reply(&mut driver), GETFORCE);
        assert_eq!(result, Ok(()));
        assert_eq!(said, forceready_batch(&batch.each_ref().map(pulled::<f64>)));
    }
}

#[test]
fn storage_that_is_too_small_is_refused() {
    let mut driver = Driver::new();
    let mut small = Storage::<f64, 2>::new();
    let (event, _) = run(
        small.receive(&mut driver),
        &posdata(&water())[..Posdata::of(3).positions(0)],
    );
    let error = ProtocolError::TooManyAtoms {
        announced: 3,
        capacity: 2,
    };
    assert_eq!(event, Err(error));

    // A larger storage continues, with the cell that was received before.
    let mut large = Storage::<f64, 4>::new();
    let (event, _) = run(
        large.receive(&mut driver),
        &posdata(&water())[Posdata::of(3).positions(0)..],
    );
    assert_eq!(event, Ok(water().event()));
    let mut pull = Pull::new();
    large
        .evaluate(driver.natoms(), driver.structures(), &mut pull)
        .unwrap();
    assert_eq!(pull.given, [(water().cell(), water().positions)]);
    let (_, said) = run(large.reply(&mut driver), GETFORCE);
    assert_eq!(said, forceready(&pulled::<f64>(&water())));
}

#[test]
fn a_batch_needs_storage_for_its_structures() {
    let mut driver = Driver::new();
    let mut storage = Storage::<f64, 6>::new();
    let _ = run(storage.receive(&mut driver), &init(0, "batch_size:2"));
    let header = &posdata_batch(&[water(), water()])[..16];
    let (event, _) = run(storage.receive(&mut driver), header);
    let error = ProtocolError::TooManyStructures {
        announced: 2,
        capacity: 1,
    };
    assert_eq!(event, Err(error));
}

/// The forces of the previous step do not belong to this one.
#[test]
fn a_structure_that_was_not_evaluated_is_not_replied_to() {
    let mut driver = Driver::new();
    let mut storage = Storage::<f64, 3>::new();
    let _ = run(storage.receive(&mut driver), &posdata(&water()));
    let (result, _) = run(storage.reply(&mut driver), b"");
    assert!(matches!(result, Err(ProtocolError::WrongLength { .. })));

    storage
        .evaluate(driver.natoms(), driver.structures(), &mut Pull::new())
        .unwrap();
    let (result, _) = run(storage.reply(&mut driver), GETFORCE);
    assert_eq!(result, Ok(()));

    let (event, _) = run(storage.receive(&mut driver), &posdata(&water()));
    assert_eq!(event, Ok(water().event()));
    let (result, said) = run(storage.reply(&mut driver), b"");
    assert!(matches!(result, Err(ProtocolError::WrongLength { .. })));
    assert_eq!(said, b"");
}

/// Numbers of another exchange, or in the wrong order.
#[test]
fn more_than_the_storage_holds_is_not_evaluated() {
    let mut storage = Storage::<f64, 6, 2>::new();
    let mut pull = Pull::new();
    let most = usize::MAX;
    for (natoms, structures) in [(7, 1), (4, 2), (2, 3), (0, 3), (most, 2), (most, most)] {
        let result = storage.evaluate(natoms, structures, &mut pull);
        assert_eq!(result, Err(PotentialError::NoRoom { natoms, structures }));
    }
    assert_eq!(pull.given, []);
    for (natoms, structures) in [(6, 1), (3, 2), (0, 2), (6, 0), (most, 0)] {
        assert_eq!(storage.evaluate(natoms, structures, &mut pull), Ok(()));
    }
}

/// Nothing is sent either if fewer structures were evaluated than received.
#[test]
fn less_than_came_is_not_replied_with() {
    let mut driver = Driver::new();
    let mut storage = Storage::<f64, 6, 2>::new();
    let _ = run(storage.receive(&mut driver), &posdata(&water()));
    for (natoms, structures) in [(2, 1), (1, 2), (3, 2), (4, 1), (0, 1), (3, 0)] {
        storage
            .evaluate(natoms, structures, &mut Pull::new())
            .unwrap();
        let (result, said) = run(storage.reply(&mut driver), b"");
        assert!(
            matches!(result, Err(ProtocolError::WrongLength { .. })),
            "{result:?}"
        );
        assert_eq!(said, b"");
    }
    storage.evaluate(3, 1, &mut Pull::new()).unwrap();
    let (_, said) = run(storage.reply(&mut driver), GETFORCE);
    assert_eq!(said, forceready(&pulled::<f64>(&water())));
}

/// There are two threads here; on a device, an interrupt, a task or another core.
#[test]
fn the_driver_awaits_getforce_while_the_potential_computes() {
    let mut driver = Driver::new();
    let mut storage = Storage::<f64, 3>::new();
    let (event, _) = run(storage.receive(&mut driver), &posdata(&water()));
    let Ok(Event::Positions {
        natoms, structures, ..
    }) = event
    else {
        panic!("{event:?}")
    };
    let (asked, wait) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let storage = &mut storage;
        let computing = scope.spawn(move || {
            // Continue only after the server has asked.
            wait.recv().unwrap();
            storage.evaluate(natoms, structures, &mut Pull::new())
        });
        let (result, said) = run(driver.await_getforce(), &[STATUS, GETFORCE].concat());
        assert_eq!((result, said.as_slice()), (Ok(None), HAVEDATA));
        asked.send(()).unwrap();
        assert_eq!(computing.join().unwrap(), Ok(()));
    });
    let (result, said) = run(storage.reply(&mut driver), b"");
    assert_eq!(result, Ok(()));
    assert_eq!(said, forceready(&pulled::<f64>(&water())));
}

#[test]
fn storage_can_be_static() {
    static EMPTY: Storage<f32, 1000, 4> = Storage::new();
    // Positions and forces, and cells and evaluations with their counters.
    assert!(size_of_val(&EMPTY) <= 1000 * 24 + 4 * 152 + 32);
}

#[test]
fn a_driver_is_at_most_1272_bytes() {
    assert!(size_of::<Driver>() <= 1272);
}

/// Positions that were received elsewhere get no reply from earlier evaluations here.
#[test]
fn a_reply_is_for_the_structure_that_was_evaluated() {
    let mut driver = Driver::new().allow_changing_atoms();
    let mut storage = Storage::<f64, 9>::new();
    let mut pull = Pull::new();
    let _ = run(storage.receive(&mut driver), &posdata(&water()));
    storage.evaluate(3, 1, &mut pull).unwrap();
    let (sent, _) = run(storage.reply(&mut driver), GETFORCE);
    assert_eq!(sent, Ok(()));

    let mut elsewhere = [[0.0; 3]; 3];
    let _ = run(driver.receive(&mut elsewhere), &posdata(&atoms(3)));
    let (refused, said) = run(storage.reply(&mut driver), b"");
    let error = ProtocolError::WrongLength {
        quantity: Quantity::Evaluations,
        given: 0,
        expected: 1,
    };
    assert_eq!((refused, said), (Err(error), vec![]));
    let (sent, _) = run(
        driver.reply(&Evaluation::default(), &elsewhere, b""),
        GETFORCE,
    );
    assert_eq!(sent, Ok(()));
}
