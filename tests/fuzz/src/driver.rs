//! A driver that receives any bytes, and a driver whose caller makes any calls.

use forcewire::{
    Cell, Driver, Evaluation, Event, Exchange, Header, Initialize, ProtocolError, Quantity, Scalar,
    Sink, Source, Virial,
};

use super::choices::{Choices, Wire};
use super::layout::{
    self, ATOM, ForceReady, GETFORCE, HEADER, INTEGER, MATRIX, POSDATA, Posdata, REAL, STATUS,
    integer_at, numbers, real_at,
};
use super::model::{DriverModel, HEADERS, Told, bits, header, kept};

const ATOMS: usize = 40;
const STRUCTURES: usize = 3;

pub fn settings(choices: &mut Choices<'_>) -> DriverModel {
    let byte = choices.byte();
    DriverModel {
        initialize: match byte & 3 {
            0 | 3 => Initialize::Never,
            1 => Initialize::Once,
            _ => Initialize::EveryStep,
        },
        changing_atoms: byte & 4 != 0,
        not_finite: byte & 8 != 0,
        single: byte & 16 != 0,
        atoms: if byte & 32 != 0 { 2 } else { ATOMS },
        any_format: byte & 128 != 0,
        structures: if byte & 64 != 0 { 0 } else { STRUCTURES },
    }
}

/// A driver with these settings.
pub fn driver(model: &DriverModel) -> Driver {
    let mut driver = Driver::new().initialize(model.initialize);
    if model.changing_atoms {
        driver = driver.allow_changing_atoms();
    }
    if model.not_finite {
        driver = driver.allow_not_finite();
    }
    if model.any_format {
        driver = driver.trust_number_format();
    }
    driver
}

/// A server sends these bytes and closes. The driver must return and send the same as the model.
pub fn driver_bytes(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let model = settings(&mut choices);
    let (told, said) = if model.single {
        converses::<f32>(&model, Wire::new(choices.0), usize::MAX)
    } else {
        converses::<f64>(&model, Wire::new(choices.0), usize::MAX)
    };
    assert_eq!((told, said), model.converse(choices.0));
}

/// A driver's conversation, in which each exchange is dropped and recreated after this many bytes.
pub fn converses<T: Scalar>(
    model: &DriverModel,
    mut wire: Wire<'_>,
    piece: usize,
) -> (Vec<Told>, Vec<u8>) {
    let mut driver = driver(model);
    let mut told = Vec::new();
    let mut cells = [Cell::orthorhombic([-777.0; 3]); STRUCTURES];
    let mut positions = [[T::ZERO; 3]; ATOMS];
    // The structure to which the caller replies.
    let mut replying: Option<(usize, usize)> = None;
    loop {
        let moved = match replying {
            None => {
                let (cells, positions) = (
                    &mut cells[..model.structures],
                    &mut positions[..model.atoms],
                );
                let mut receive = driver.receive_batch(cells, positions);
                wire.move_some(&mut receive, piece)
            }
            Some((natoms, structures)) => {
                let mut index = -1.0;
                let evaluations = cells.map(|cell| {
                    index += 1.0;
                    let virial = Virial(*cell.h());
                    Evaluation {
                        energy: index,
                        virial,
                    }
                });
                let extras = [&b""[..], b"x", b"xx"];
                let mut reply = driver.reply_batch(
                    &evaluations[..structures],
                    &positions[..natoms * structures],
                    &extras[..structures],
                );
                match wire.move_some(&mut reply, piece) {
                    Err(Ok(())) => {
                        replying = None;
                        continue;
                    }
                    Err(Err(error)) => Err(Err(error)),
                    Ok(n) => Ok(n),
                }
            }
        };
        assert!(told.len() < 1000, "it goes on for ever");
        match moved {
            Ok(n) => assert_ne!(n, 0, "the stream has an end"),
            Err(Ok(Event::Init { replica })) => told.push(Told::Init(replica)),
            Err(Ok(Event::Positions {
                natoms,
                structures,
                cell,
            })) => {
                if let ([], 1) = (&cells[..model.structures], structures) {
                    cells[0] = cell; // there was no room for it
                }
                let h: Vec<_> = cells[..structures].iter().map(|it| *it.h()).collect();
                assert_eq!(bits(h[0].as_flattened()), bits(cell.h().as_flattened()));
                let reals = positions[..natoms * structures].as_flattened();
                let reals: Vec<_> = reals.iter().map(|x| x.to_f64()).collect();
                told.push(Told::Positions {
                    natoms,
                    structures,
                    cells: bits(h.as_flattened().as_flattened()),
                    positions: bits(&reals),
                });
                replying = Some((natoms, structures));
            }
            Err(Ok(Event::Exit)) => told.push(Told::Exit),
            Err(Ok(_)) => told.push(Told::Closed),
            Err(Err(error)) => told.push(Told::Refused(format!("{error:?}"))),
        }
        if let Some(Told::Exit | Told::Closed | Told::Refused(_)) = told.last() {
            return (told, wire.said);
        }
    }
}

/// The caller makes any calls in any order, with arrays of any length and contents, and the server
/// sends anything. The driver sends complete messages, each in answer to a request, and each reply
/// has the numbers of one call. Positions that it returns come from a single message, and a refusal
/// changes nothing.
pub fn driver_operations(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let model = settings(&mut choices);
    let mut driver = driver(&model);
    let mut heard = Vec::new();
    let mut said = Said::default();
    let mut arrays = Arrays::new(ATOMS);
    // The number of messages from the server, and of replies. No two replies have a number in
    // common.
    let (mut messages, mut replies) = (0, 1);
    while !choices.is_empty() {
        let (what, most) = (choices.below(22), 1 + 7 * usize::from(choices.byte() >> 3));
        let now = |driver: &mut Driver| {
            let wait = driver.await_getforce().waits_for();
            let known = (driver.status(), driver.replica());
            let structures = (driver.natoms(), driver.structures());
            (wait, known, structures, driver.traffic())
        };
        let (before, traffic) = (now(&mut driver), driver.traffic());
        let mut wire = Wire::new(&heard);
        wire.ended = false;
        let (natoms, structures) = (choices.below(ATOMS + 1), choices.below(STRUCTURES + 1));
        let expected = (driver.natoms(), driver.structures().min(STRUCTURES));
        let reply = Reply::new(replies, expected);
        let mut event = None;
        // Whether the refusal was due to a mistake of the caller.
        let refused = match what {
            0 => {
                let mut receive = driver.receive(&mut arrays.double[..natoms]);
                returns(wire.move_some(&mut receive, most), &mut event)
            }
            1 => {
                let cells = &mut arrays.cells[..structures];
                let mut receive = driver.receive_batch(cells, &mut arrays.double);
                returns(wire.move_some(&mut receive, most), &mut event)
            }
            2 => {
                let mut receive = driver.receive_batch(&mut arrays.cells, &mut arrays.single);
                let refused = returns(wire.move_some(&mut receive, most), &mut event);
                drop(receive);
                let atoms = expected.0.saturating_mul(expected.1).min(ATOMS);
                if event.is_some() {
                    for (to, from) in arrays.double[..atoms].iter_mut().zip(&arrays.single) {
                        *to = from.map(f64::from);
                    }
                }
                refused
            }
            3 => is_the_callers(wire.move_some(&mut driver.await_getforce(), most)),
            4 => {
                let mut reply = driver.reply_batch(&reply.evaluations, &reply.double, &[]);
                is_the_callers(wire.move_some(&mut reply, most))
            }
            5 => {
                let extras = [reply.letter; ATOMS];
                let extras = &extras[..natoms];
                let evaluation = reply.evaluations[0];
                let mut reply = driver.reply(&evaluation, &reply.single, extras);
                is_the_callers(wire.move_some(&mut reply, most))
            }
            6 => {
                // Usually with another length than needed.
                let reply = Reply::new(replies, (natoms, 1));
                let extras = [reply.letter; 2];
                let evaluation = Reply::new(replies, (0, 1)).evaluations[0];
                let mut reply = driver.reply(&evaluation, &reply.double, &extras);
                is_the_callers(wire.move_some(&mut reply, most))
            }
            7 | 8 => {
                messages += 1;
                heard.extend(message(&mut choices, messages));
                continue;
            }
            9 => {
                wire.inbox = &[];
                wire.ended = true;
                let mut receive = driver.receive(&mut arrays.double);
                is_the_callers(wire.move_some(&mut receive, most))
            }
            10 => {
                said.check();
                driver.reset();
                assert_ne!(driver.status(), Header::HaveData);
                (heard, said) = (Vec::new(), Said::default());
                continue;
            }
            12 => {
                // Use other arrays, and continue with them if they are accepted.
                let mut other = Arrays::new(ATOMS + 1);
                let mut receive = driver.receive_batch(&mut other.cells, &mut other.double);
                let refused = returns(wire.move_some(&mut receive, most), &mut event);
                drop(receive);
                if !refused {
                    arrays = other;
                }
                refused
            }
            13 => {
                // Use the same arrays with one changed number.
                let (atom, axis) = (natoms.min(ATOMS - 1), structures % 3);
                let (double, single) = (
                    &mut arrays.double[atom][axis],
                    &mut arrays.single[atom][axis],
                );
                *double = f64::from_bits(double.to_bits() ^ 1);
                *single = f32::from_bits(single.to_bits() ^ 1);
                continue;
            }
            14 => {
                let mut rows = *arrays.cells[structures % STRUCTURES].h();
                let number = &mut rows[natoms % 3][structures % 3];
                *number = f64::from_bits(number.to_bits() ^ 1);
                arrays.cells[structures % STRUCTURES] = Cell::from_rows(rows);
                continue;
            }
            15 => {
                // The same numbers at another address.
                arrays = arrays.clone();
                continue;
            }
            16 => {
                // Keep the exchange as long as bytes arrive.
                let mut sink = Collects::default();
                let mut receive = driver.receive_into(&mut arrays.cells, &mut sink);
                let mut refused = false;
                for _ in 0..=natoms {
                    let moved = wire.move_some(&mut receive, most);
                    let stops = !matches!(moved, Ok(1..));
                    refused = returns(moved, &mut event);
                    if stops {
                        break;
                    }
                }
                drop(receive);
                if event.is_some() {
                    let (from, to) = (&sink.0, &mut arrays.double);
                    to[..from.len()].copy_from_slice(from);
                }
                // The reason for a refusal may have arrived after other messages.
                refused && wire.inbox.len() == heard.len() && wire.said.is_empty()
            }
            17 => {
                let mut source = Gives(&reply);
                let mut reply = driver.reply_from(&reply.evaluations, &mut source, &[]);
                let mut refused = false;
                for _ in 0..=natoms {
                    let moved = wire.move_some(&mut reply, most);
                    let stops = !matches!(moved, Ok(1..));
                    refused = is_the_callers(moved);
                    if stops {
                        break;
                    }
                }
                drop(reply);
                refused && wire.inbox.len() == heard.len() && wire.said.is_empty()
            }
            18 => {
                replies = 1 + replies % 1000;
                continue;
            }
            19 => {
                // Change one number of the reply.
                let mut reply = reply;
                let last = reply.evaluations.len() - 1;
                let odd = if choices.bit() { f64::NAN } else { -1.0 };
                match natoms % 3 {
                    0 => reply.evaluations[last].energy = odd,
                    1 => reply.evaluations[last].virial.0[2][structures % 3] = odd,
                    _ => {
                        if let Some(force) = reply.double.last_mut() {
                            force[structures % 3] = odd;
                        }
                    }
                }
                // The exchange is stepped once, and dropped before any byte of it was sent.
                let mut exchange = driver.reply_batch(&reply.evaluations, &reply.double, &[]);
                match exchange.step() {
                    Err(error) => is_the_callers::<()>(Err(Err(error))),
                    Ok(_) => false,
                }
            }
            20 => is_the_callers(wire.move_some(&mut driver.drain(), most)),
            21 => {
                // Another kind of exchange than the current one.
                let _ = driver.receive(&mut arrays.double).step();
                let _ = driver.await_getforce().step();
                let _ = driver
                    .reply(&reply.evaluations[0], &reply.single, b"")
                    .step();
                false
            }
            _ => {
                // No bytes have moved, whatever the slice was.
                driver.receive(&mut arrays.double).advance(0);
                driver.await_getforce().advance(0);
                false
            }
        };
        let left = wire.inbox.len();
        said.bytes.extend(wire.said);
        if refused {
            assert_eq!(before, now(&mut driver));
        }
        let received = driver.traffic().received - traffic.received;
        if what != 9 {
            assert_eq!(received as usize, heard.len() - left);
            said.heard.extend(heard.drain(..received as usize));
        }
        if let Some(Event::Positions {
            natoms,
            structures,
            cell,
        }) = event
        {
            let single = what == 2;
            let rows: Vec<_> = arrays.cells.iter().map(|it| *it.h()).collect();
            let atoms = &arrays.double[..natoms * structures];
            let carried = said.last_positions(natoms, structures, single);
            assert_eq!(bits(cell.h().as_flattened()), bits(&carried.0[..9]));
            if what != 0 && structures <= rows.len() && (structures > 1 || what != 1) {
                let rows = &rows[..structures];
                assert_eq!(bits(rows.as_flattened().as_flattened()), bits(&carried.0));
            }
            assert_eq!(bits(atoms.as_flattened()), bits(&carried.1));
        }
    }
    said.check();
}

/// The caller's arrays.
#[derive(Clone)]
struct Arrays {
    cells: Vec<Cell>,
    double: Vec<[f64; 3]>,
    single: Vec<[f32; 3]>,
}

impl Arrays {
    /// Room for this many atoms, filled with numbers that no message contains.
    fn new(atoms: usize) -> Self {
        Self {
            cells: vec![Cell::orthorhombic([-777.7; 3]); STRUCTURES],
            double: vec![[-777.7; 3]; atoms],
            single: vec![[-777.7; 3]; atoms],
        }
    }
}

/// A reply in which every number identifies itself.
#[derive(Clone)]
struct Reply {
    evaluations: Vec<Evaluation>,
    double: Vec<[f64; 3]>,
    single: Vec<[f32; 3]>,
    letter: u8,
}

impl Reply {
    fn new(which: usize, (natoms, structures): (usize, usize)) -> Self {
        let energy = which as f64;
        let virial = Virial([[energy; 3]; 3]);
        // All numbers are exact in single precision.
        let atoms = 0..natoms
            .saturating_mul(structures)
            .min(2 * ATOMS * STRUCTURES);
        let double: Vec<_> = atoms.map(|atom| force(which, atom)).collect();
        Self {
            evaluations: vec![Evaluation { energy, virial }; structures],
            single: double.iter().map(|it| it.map(|x| x as f32)).collect(),
            double,
            letter: letter(which),
        }
    }
}

fn force(which: usize, atom: usize) -> [f64; 3] {
    [0, 1, 2].map(|axis| which as f64 + (3 * atom + axis) as f64 / 1024.0)
}

fn letter(which: usize) -> u8 {
    b'a' + (which % 26) as u8
}

/// A sink that keeps all positions.
#[derive(Default)]
struct Collects(Vec<[f64; 3]>);

impl Sink for Collects {
    type Real = f64;

    fn begin(&mut self, natoms: usize) -> bool {
        assert!(self.0.is_empty());
        natoms <= ATOMS
    }

    fn put(&mut self, first: usize, atoms: &[[f64; 3]]) {
        assert_eq!(first, self.0.len());
        self.0.extend(atoms);
    }
}

/// A source that provides the forces of a reply.
struct Gives<'a>(&'a Reply);

impl Source for Gives<'_> {
    type Real = f64;

    fn natoms(&self) -> usize {
        self.0.double.len()
    }

    fn get(&mut self, first: usize, atoms: &mut [[f64; 3]]) {
        atoms.copy_from_slice(&self.0.double[first..][..atoms.len()]);
    }
}

/// Like [`is_the_callers`], but also stores the result of the exchange.
fn returns(moved: Result<usize, Result<Event, ProtocolError>>, event: &mut Option<Event>) -> bool {
    if let Err(Ok(it)) = &moved {
        *event = Some(*it);
    }
    is_the_callers(moved)
}

/// Whether an exchange was refused for a mistake of its caller rather than its peer.
fn is_the_callers<O>(moved: Result<usize, Result<O, ProtocolError>>) -> bool {
    use ProtocolError::{
        NotFinite, NothingToReplyTo, ReplyDue, TooManyAtoms, TooManyStructures, Unfinished,
        WrongLength,
    };
    matches!(
        moved,
        Err(Err(NothingToReplyTo
            | NotFinite(
                Quantity::Energy | Quantity::Forces | Quantity::Virial
            )
            | ReplyDue
            | Unfinished(_)
            | TooManyAtoms { .. }
            | TooManyStructures { .. }
            | WrongLength { .. }))
    )
}

/// A message from the server, complete or not, valid or not. No two share a number of positions.
fn message(choices: &mut Choices<'_>, serial: usize) -> Vec<u8> {
    let mut message = Vec::new();
    let natoms = choices.of([0, 1, 2, 2, 2, 33]);
    let batch = choices.of([1, 2, 3]);
    match choices.below(8) {
        which @ 0..5 => {
            let command = HEADERS[which].0;
            if command == Header::Init {
                let text = [&b"batch_size:2"[..], b"", b" ", b"k:1,batch_size:3"][natoms % 4];
                message.extend(layout::init(1, text));
            } else if command == Header::PosData {
                let edge = 16.0 + serial as f64 / 1024.0;
                let h = [edge, 1.0, 2.0, 0.0, edge, 3.0, 0.0, 0.0, edge];
                let inverse = [0.0625, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
                let positions = (0..3 * natoms * batch).map(|i| (1024 * serial + i) as f64);
                let positions: Vec<_> = positions.collect();
                message.extend(match batch {
                    1 => layout::posdata(&h, &inverse, &positions),
                    _ => layout::posdata_batch(&vec![[h, inverse]; batch], &positions),
                });
            } else {
                message.extend(header(command));
            }
        }
        5 => message.extend(HEADERS[5 + natoms % 4].1),
        6 => message.extend([choices.byte(), choices.byte(), choices.byte()]),
        _ => {
            message.extend(POSDATA);
            message.extend([choices.byte(); 20]);
        }
    }
    message
}

/// All bytes that the driver has received and sent over one connection.
#[derive(Default)]
struct Said {
    heard: Vec<u8>,
    bytes: Vec<u8>,
}

impl Said {
    /// Checks that there is at most one answer for each STATUS and one reply for each GETFORCE, and
    /// that all but the last are complete.
    fn check(&self) {
        let count = |word: &[u8]| self.heard.windows(HEADER).filter(|&it| it == word).count();
        let (mut answers, mut replies) = (0, 0);
        let mut rest = self.bytes.as_slice();
        while !rest.is_empty() {
            let known = HEADERS.iter().skip(5);
            let n = rest.len().min(HEADER);
            let mut known = known.filter(|it| it.1.starts_with(&rest[..n]));
            let (header, _) = known.next().expect("a driver's header");
            if *header == Header::ForceReady {
                replies += 1;
                match whole_reply(rest) {
                    Some(n) => rest = &rest[n..],
                    None => break,
                }
            } else {
                answers += 1;
                rest = &rest[n..];
            }
        }
        assert!(answers <= count(STATUS) && replies <= count(GETFORCE));
    }

    /// The cells and positions of the last message, converted to the caller's type.
    fn last_positions(
        &self,
        natoms: usize,
        structures: usize,
        single: bool,
    ) -> (Vec<f64>, Vec<f64>) {
        let places = Posdata::batch(structures, natoms);
        let message = &self.heard[self.heard.len() - places.end()..];
        assert_eq!(message[..HEADER], *POSDATA);
        let h = (0..structures).flat_map(|it| numbers(&message[places.cell(it)..][..MATRIX]));
        let positions = numbers(&message[places.positions(0)..]).into_iter();
        (h.collect(), positions.map(|x| kept(x, single)).collect())
    }
}

/// The length of a reply to one structure or a batch, if it is complete. All of its numbers must
/// come from a single call.
fn whole_reply(message: &[u8]) -> Option<usize> {
    let real = |at: usize| Some(real_at(message.get(at..at + REAL)?, 0));
    let count = |at: usize| {
        let count = message.get(at..at + INTEGER)?;
        usize::try_from(integer_at(count, 0)).ok()
    };
    let sent = |structure| real(ForceReady::batch(structure, 0).energy(structure));
    let energy = sent(0)?;
    let mut structures = 0;
    while sent(structures)?.to_bits() == energy.to_bits() && structures < STRUCTURES {
        structures += 1;
    }
    let which = energy as usize;
    assert_eq!(which as f64, energy, "no call has this energy");
    let natoms = count(ForceReady::batch(structures, 0).atoms())?;
    let places = ForceReady::batch(structures, natoms);
    for atom in 0..natoms * structures {
        let at = places.forces(0) + atom * ATOM;
        let sent = numbers(message.get(at..at + ATOM)?);
        assert_eq!(sent, force(which, atom), "a force of another call");
    }
    for number in 0..9 * structures {
        let sent = real(places.virial(0) + number * REAL)?;
        assert_eq!(sent, energy, "a virial of another call");
    }
    let mut at = places.extras();
    for _ in 0..structures {
        let extras = at + INTEGER;
        at = extras + count(at)?;
        let all = message
            .get(extras..at)?
            .iter()
            .all(|&it| it == letter(which));
        assert!(all, "extras of another call");
    }
    Some(at)
}
