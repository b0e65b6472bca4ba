//! Infinite numbers and NaN at every place of a message: refused before they are used, or passed on
//! to the last bit if the caller allows them.

use std::convert::Infallible;
use std::marker::PhantomData;

use forcewire::blocking::Transport;
use forcewire::potential::Real;
use forcewire::{
    Cell, Driver, Error, Evaluation, Event, Potential, PotentialError, ProtocolError, Quantity,
    Request, Scalar, Server, Storage, Virial, Wait, blocking,
};

use forcewire_support::*;

/// Infinities, and NaN of every kind: quiet and signalling, of both signs, with the smallest and
/// largest payload.
const ODD: [f64; 8] = [
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::from_bits(0x7ff8_0000_0000_0000),
    f64::from_bits(0xfff8_0000_0000_0000),
    f64::from_bits(0x7ff0_0000_0000_0001),
    f64::from_bits(0xfff0_0000_0000_0001),
    f64::from_bits(0x7fff_ffff_ffff_ffff),
    f64::from_bits(0xffff_ffff_ffff_ffff),
];

/// Extreme numbers that are still finite.
const EXTREME: [f64; 6] = [
    f64::MAX,
    f64::MIN,
    f64::MIN_POSITIVE,
    -f64::MIN_POSITIVE,
    5e-324,
    -0.0,
];

/// Structures smaller and larger than the scratch, which holds 32 atoms.
const NATOMS: [usize; 5] = [1, 2, 32, 33, 65];

/// A connection on which all bytes of the peer have already arrived.
struct Recorded<'a> {
    heard: &'a [u8],
    said: Vec<u8>,
}

impl Transport for Recorded<'_> {
    type Error = Infallible;

    fn read(&mut self, buffer: &mut [u8], _: &Wait) -> Result<usize, Error<Infallible>> {
        let n = buffer.len().min(self.heard.len());
        let (came, rest) = self.heard.split_at(n);
        buffer[..n].copy_from_slice(came);
        self.heard = rest;
        Ok(n)
    }

    fn write(&mut self, bytes: &[u8], _: &Wait) -> Result<usize, Error<Infallible>> {
        self.said.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self, _: &Wait) -> Result<(), Error<Infallible>> {
        Ok(())
    }
}

/// A potential that counts its calls.
#[derive(Default)]
struct Counts<T> {
    asked: usize,
    real: PhantomData<T>,
}

impl<T: Real> Potential for Counts<T> {
    type Real = T;

    fn evaluate(
        &mut self,
        _: &Cell,
        _: &[[T; 3]],
        _: &mut [[T; 3]],
    ) -> Result<Evaluation, PotentialError> {
        self.asked += 1;
        Ok(Evaluation::default())
    }
}

/// Returns the message with another number at this offset.
fn with_real(message: &[u8], at: usize, odd: f64) -> Vec<u8> {
    let mut message = message.to_vec();
    put_real(&mut message, at, odd);
    message
}

/// A complete driver receives these bytes. Returns how it ended, and how often its potential was
/// called before.
fn serves<T: Real>(heard: &[u8]) -> (Result<(), Error<Infallible>>, usize) {
    let mut socket = Recorded {
        heard,
        said: vec![],
    };
    let mut driver = Driver::new();
    let mut storage = Storage::<T, 65, 2>::new();
    let mut potential = Counts::<T>::default();
    let mut serve = || loop {
        match blocking::run(&mut socket, storage.receive(&mut driver))? {
            Event::Positions {
                natoms, structures, ..
            } => {
                storage.evaluate(natoms, structures, &mut potential)?;
                blocking::run(&mut socket, storage.reply(&mut driver))?;
            }
            Event::Init { .. } => {}
            _ => return Ok(()),
        }
    };
    let result = serve();
    (result, potential.asked)
}

// ---- what a driver receives ----

fn refused_before_anyone_computes<T: Real>(odd: f64) {
    let error = |quantity| Err(Error::Protocol(ProtocolError::NotFinite(quantity)));
    for natoms in NATOMS {
        let message = posdata(&atoms(natoms));
        for real in 0..9 {
            let heard = with_real(&message, Posdata::of(natoms).cell(0) + REAL * real, odd);
            assert_eq!(serves::<T>(&heard), (error(Quantity::Cell), 0));
        }
        for real in 0..3 * natoms {
            let heard = with_real(
                &message,
                Posdata::of(natoms).positions(0) + REAL * real,
                odd,
            );
            assert_eq!(serves::<T>(&heard), (error(Quantity::Positions), 0));
        }
        // The inverse is not checked, because peers do not agree on it.
        for real in 9..18 {
            let heard = with_real(&message, Posdata::of(natoms).cell(0) + REAL * real, odd);
            let heard = [&heard, GETFORCE, EXIT].concat();
            assert_eq!(serves::<T>(&heard), (Ok(()), 1));
        }
    }
    // In either structure of a batch, which has the number of atoms, two cells with their inverses,
    // and two atoms each.
    let announced = init(0, "batch_size:2");
    let message = posdata_batch(&[atoms(2), atoms(2)]);
    let batch = Posdata::batch(2, 2);
    for real in 0..36 {
        let heard = with_real(&message, batch.cell(0) + REAL * real, odd);
        let heard = [&announced, &heard, GETFORCE, EXIT].concat();
        let expected = match real % 18 {
            ..9 => (error(Quantity::Cell), 0),
            _ => (Ok(()), 2),
        };
        assert_eq!(serves::<T>(&heard), expected, "{real}");
    }
    for real in 0..12 {
        let heard = with_real(&message, batch.positions(0) + REAL * real, odd);
        let heard = [&announced[..], &heard].concat();
        assert_eq!(serves::<T>(&heard), (error(Quantity::Positions), 0));
    }
}

#[test]
fn what_a_server_sends_is_refused_before_anyone_computes_with_it() {
    for odd in ODD {
        refused_before_anyone_computes::<f64>(odd);
        refused_before_anyone_computes::<f32>(odd);
    }
}

/// A cell is refused as soon as it has arrived: no position is read or written into the caller's
/// array.
#[test]
fn a_cell_is_refused_before_positions_are_read() {
    let message = posdata(&atoms(3));
    for real in 0..9 {
        let heard = with_real(&message, Posdata::of(3).cell(0) + REAL * real, f64::NAN);
        let (mut driver, mut positions) = (Driver::new(), [[UNTOUCHED; 3]; 3]);
        let mut inbox = heard.as_slice();
        let (told, _) = pour(driver.receive(&mut positions), &mut inbox);
        assert_eq!(told, Err(ProtocolError::NotFinite(Quantity::Cell)));
        assert_eq!(inbox.len(), 72);
        assert_eq!(positions, [[UNTOUCHED; 3]; 3]);
    }
}

#[test]
fn extreme_numbers_are_numbers() {
    let places = Posdata::of(33);
    let (first, last) = (places.positions(0), places.end() - REAL);
    for extreme in EXTREME {
        let message = posdata(&atoms(33));
        for at in [places.cell(0), first, last] {
            let heard = [&with_real(&message, at, extreme), GETFORCE, EXIT].concat();
            assert_eq!(serves::<f64>(&heard), (Ok(()), 1), "{extreme}");
        }
    }
    // In single precision a position has to be in range: the largest number that rounds down to
    // `f32::MAX`, and the next one.
    let most = f64::from(f32::MAX) + 2_f64.powi(103);
    for (position, told) in [(most.next_down(), 1), (most, 0), (f64::MAX, 0)] {
        for position in [position, -position] {
            for at in [first, last] {
                let heard = with_real(&posdata(&atoms(33)), at, position);
                let heard = [&heard, GETFORCE, EXIT].concat();
                assert_eq!(serves::<f32>(&heard).1, told, "{position}");
            }
        }
    }
}

// ---- numbers that a driver is asked to send ----

/// Answers with this number in one place (energy, forces or virial of structures of two atoms), and
/// the place.
fn odd_answers(structures: usize, odd: f64) -> Vec<(Quantity, Vec<Answer>)> {
    let mut all = Vec::new();
    for structure in 0..structures {
        for real in 0..16 {
            let mut answers = vec![answer(2, 1.0, b"{}"); structures];
            let it = &mut answers[structure];
            let quantity = match real {
                0 => {
                    it.evaluation.energy = odd;
                    Quantity::Energy
                }
                1..7 => {
                    it.forces.as_flattened_mut()[real - 1] = odd;
                    Quantity::Forces
                }
                _ => {
                    it.evaluation.virial.0.as_flattened_mut()[real - 7] = odd;
                    Quantity::Virial
                }
            };
            all.push((quantity, answers));
        }
    }
    all
}

/// A driver that was asked for the forces on two atoms, or of a batch.
fn asked(mut driver: Driver, structures: usize) -> Driver {
    let batch = vec![atoms(2); structures];
    let heard = match structures {
        1 => posdata(&batch[0]),
        _ => [init(0, "batch_size:2"), posdata_batch(&batch)].concat(),
    };
    let mut inbox = heard.as_slice();
    let (mut cells, mut positions) = ([UNTOUCHED_CELL; 2], [[0.0; 3]; 4]);
    while driver.status() != forcewire::Header::HaveData {
        let told = pour(driver.receive_batch(&mut cells, &mut positions), &mut inbox).0;
        assert!(told.is_ok(), "{told:?}");
    }
    driver
}

fn replies<T: Scalar>(
    driver: &mut Driver,
    answers: &[Answer],
) -> (Result<(), ProtocolError>, Vec<u8>) {
    let evaluations: Vec<_> = answers.iter().map(|it| it.evaluation).collect();
    let forces = answers.iter().flat_map(|it| &it.forces);
    let forces: Vec<_> = forces.map(|it| it.map(T::from_f64)).collect();
    let extras: Vec<_> = answers.iter().map(|it| it.extras.as_slice()).collect();
    let reply = driver.reply_batch(&evaluations, &forces, &extras);
    pour(reply, &mut { GETFORCE })
}

#[test]
fn what_a_driver_computes_is_refused_before_a_byte_of_it_leaves() {
    fn check<T: Scalar>(structures: usize, odd: f64) {
        let right = vec![answer(2, 1.0, b"{}"); structures];
        for (quantity, answers) in odd_answers(structures, odd) {
            let mut driver = asked(Driver::new(), structures);
            let error = Err(ProtocolError::NotFinite(quantity));
            assert_eq!(replies::<T>(&mut driver, &answers), (error, vec![]));
            // The driver is unchanged.
            assert_eq!(replies::<T>(&mut driver, &right).0, Ok(()));
        }
    }
    for odd in ODD {
        for structures in [1, 2] {
            check::<f64>(structures, odd);
            check::<f32>(structures, odd);
        }
    }
}

// ---- numbers that a server is asked to send, and receives ----

const BOX: Cell = Cell::orthorhombic([20.0; 3]);

#[test]
fn what_a_server_is_to_send_is_refused_before_a_byte_of_it_leaves() {
    fn check<T: Scalar>(request: Request<'_, T>, quantity: Quantity) {
        let mut server = Server::new();
        assert!(pour(server.status(), &mut { READY }).0.is_ok());
        let (told, said) = pour(server.send_positions(request), &mut &b""[..]);
        let error = ProtocolError::NotFinite(quantity);
        assert_eq!((told, said), (Err(error), vec![]));
        let status = forcewire::Status::UP | forcewire::Status::READY;
        assert_eq!(server.last_status(), status, "as it was");
    }
    for odd in ODD {
        for real in 0..9 {
            let mut h = *BOX.h();
            h.as_flattened_mut()[real] = odd;
            let cell = Cell::from_rows(h);
            check(Request::new(&cell, &[[0.5; 3]]), Quantity::Cell);
        }
        for natoms in NATOMS {
            for real in 0..3 * natoms {
                let mut positions = atoms(natoms).positions;
                positions.as_flattened_mut()[real] = odd;
                check(Request::new(&BOX, &positions), Quantity::Positions);
                let single: Vec<_> = positions.iter().map(|it| it.map(|x| x as f32)).collect();
                check(Request::new(&BOX, &single), Quantity::Positions);
            }
        }
    }
}

/// A server's result for a reply with this many atoms.
fn takes<T: Scalar>(
    server: Server,
    natoms: usize,
    reply: &[u8],
) -> (Result<forcewire::Answer, ProtocolError>, Vec<[T; 3]>) {
    let mut server = server;
    let positions: Vec<_> = atoms(natoms).positions;
    let positions: Vec<_> = positions.iter().map(|it| it.map(T::from_f64)).collect();
    let mut forces = vec![[T::from_f64(UNTOUCHED); 3]; natoms];
    let request = Request::new(&BOX, &positions);
    let heard = [READY, reply].concat();
    let evaluate = server.evaluate(request, &mut forces, &mut []);
    let (told, _) = pour(evaluate, &mut heard.as_slice());
    (told, forces)
}

#[test]
fn what_a_driver_answers_is_refused() {
    fn check<T: Scalar>(natoms: usize, reply: &[u8], quantity: Quantity) {
        let (told, _) = takes::<T>(Server::new(), natoms, reply);
        assert_eq!(told, Err(ProtocolError::NotFinite(quantity)));
    }
    for odd in ODD {
        for natoms in NATOMS {
            let reply = forceready(&answer(natoms, 1.0, b"{}"));
            let at = |real: usize| match real {
                0 => (12, Quantity::Energy),
                1..10 => (24 + 24 * natoms + 8 * (real - 1), Quantity::Virial),
                _ => (24 + 8 * (real - 10), Quantity::Forces),
            };
            for (at, quantity) in (0..10 + 3 * natoms).map(at) {
                check::<f64>(natoms, &with_real(&reply, at, odd), quantity);
                check::<f32>(natoms, &with_real(&reply, at, odd), quantity);
            }
        }
    }
}

// ---- numbers that are allowed ----

/// A NaN carries a payload, in which some programs record its origin: it is not changed.
#[test]
fn what_is_allowed_passes_to_the_last_bit() {
    let bits = |reals: &[f64]| reals.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    for odd in ODD {
        for real in 0..99 {
            let mut structure = atoms(33);
            structure.positions.as_flattened_mut()[real] = odd;
            let message = posdata(&structure);
            let mut positions = [[UNTOUCHED; 3]; 33];
            let mut driver = Driver::new().allow_not_finite();
            let told = pour(driver.receive(&mut positions), &mut &message[..]).0;
            assert_eq!(told, Ok(structure.event()));
            assert_eq!(
                bits(positions.as_flattened()),
                bits(structure.positions.as_flattened())
            );
        }
        for real in 0..9 {
            let mut structure = atoms(1);
            structure.h[real] = odd;
            let message = posdata(&structure);
            let mut driver = Driver::new().allow_not_finite();
            let told = pour(driver.receive(&mut [[0.0; 3]]), &mut &message[..]).0;
            match told {
                Ok(Event::Positions { cell, .. }) => {
                    assert_eq!(bits(cell.h().as_flattened()), bits(&structure.h));
                }
                other => panic!("{other:?}"),
            }
        }
        for structures in [1, 2] {
            for (_, answers) in odd_answers(structures, odd) {
                let mut driver = asked(Driver::new().allow_not_finite(), structures);
                let reply = (Ok(()), forceready_batch(&answers));
                assert_eq!(replies::<f64>(&mut driver, &answers), reply);
            }
        }
        for (_, answers) in odd_answers(1, odd) {
            let server = Server::new().allow_not_finite();
            let (told, forces) = takes::<f64>(server, 2, &forceready(&answers[0]));
            let (told, evaluation) = (told.expect("an answer"), answers[0].evaluation);
            assert_eq!(bits(&[told.evaluation.energy]), bits(&[evaluation.energy]));
            assert_eq!(
                bits(forces.as_flattened()),
                bits(answers[0].forces.as_flattened())
            );
            // Making a virial symmetric is arithmetic: numbers that were not finite before are not
            // finite afterwards.
            let finite = |virial: &Virial| virial.is_finite();
            assert_eq!(finite(&told.evaluation.virial), finite(&evaluation.virial));
        }
    }
}
