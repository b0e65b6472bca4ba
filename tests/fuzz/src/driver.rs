//! A driver that hears anything, and one whose caller does anything.

use forcewire::{
    Cell, Driver, Evaluation, Event, Header, Initialize, ProtocolError, Scalar, Virial,
};

use super::choices::{Choices, Wire};
use super::model::{DriverModel, HEADERS, Told, bits, header};

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

/// A server sends these bytes and closes: the driver tells and says what the model does.
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

/// A driver's conversation, of which so many bytes move before each exchange is dropped and made again.
pub fn converses<T: Scalar>(
    model: &DriverModel,
    mut wire: Wire<'_>,
    piece: usize,
) -> (Vec<Told>, Vec<u8>) {
    let mut driver = driver(model);
    let mut told = Vec::new();
    let mut cells = [Cell::orthorhombic([-777.0; 3]); STRUCTURES];
    let mut positions = [[T::ZERO; 3]; ATOMS];
    // What the caller replies to.
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

/// The caller calls anything in any order, with arrays of any length, and the server says anything. What the driver
/// says is whole messages, each of them asked for; what it refuses changes nothing.
pub fn driver_operations(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let model = settings(&mut choices);
    let mut driver = driver(&model);
    let mut heard = Vec::new();
    let mut said = Said::default();
    let mut cells = [Cell::orthorhombic([1.0; 3]); STRUCTURES];
    let (mut double, mut single) = ([[0.0; 3]; ATOMS], [[0.0_f32; 3]; ATOMS]);
    while !choices.is_empty() {
        let (what, most) = (choices.below(12), 1 + 7 * usize::from(choices.byte() >> 3));
        let now = |driver: &Driver| (driver.status(), driver.traffic(), driver.natoms());
        let before = now(&driver);
        let mut wire = Wire::new(&heard);
        wire.ended = false;
        let (natoms, structures) = (choices.below(ATOMS + 1), choices.below(STRUCTURES + 1));
        let exact = driver.natoms().saturating_mul(driver.structures());
        let evaluations = [Evaluation {
            energy: 1.0,
            virial: Virial::ZERO,
        }; STRUCTURES];
        // Whether the caller was refused for what it did itself.
        let refused = match what {
            0 => {
                let mut receive = driver.receive(&mut double[..natoms]);
                is_the_callers(wire.move_some(&mut receive, most))
            }
            1 => {
                let mut receive = driver.receive_batch(&mut cells[..structures], &mut double);
                is_the_callers(wire.move_some(&mut receive, most))
            }
            2 => {
                let mut receive = driver.receive_batch(&mut cells, &mut single);
                is_the_callers(wire.move_some(&mut receive, most))
            }
            3 => is_the_callers(wire.move_some(&mut driver.await_getforce(), most)),
            4 => {
                let forces = double.get(..exact).unwrap_or(&double);
                let structures = driver.structures().min(STRUCTURES);
                let mut reply = driver.reply_batch(&evaluations[..structures], forces, &[]);
                is_the_callers(wire.move_some(&mut reply, most))
            }
            5 => {
                let forces = single.get(..exact).unwrap_or(&single);
                let mut reply = driver.reply(&evaluations[0], forces, &[b' '; ATOMS][..natoms]);
                is_the_callers(wire.move_some(&mut reply, most))
            }
            6 => {
                let mut reply = driver.reply(&evaluations[0], &double[..natoms], b"{}");
                is_the_callers(wire.move_some(&mut reply, most))
            }
            7 | 8 => {
                let message = message(&mut choices);
                heard.extend(message);
                continue;
            }
            9 => {
                wire.inbox = &[];
                wire.ended = true;
                is_the_callers(wire.move_some(&mut driver.receive(&mut double), most))
            }
            10 => {
                said.check();
                driver.reset();
                assert_ne!(driver.status(), Header::HaveData);
                (heard, said) = (Vec::new(), Said::default());
                continue;
            }
            _ => {
                // Nothing has moved, whatever the slice.
                use forcewire::Exchange;
                driver.receive(&mut double).advance(0);
                driver.await_getforce().advance(0);
                false
            }
        };
        let left = wire.inbox.len();
        said.bytes.extend(wire.said);
        if refused {
            assert_eq!(before, now(&driver));
        }
        let received = driver.traffic().received - before.1.received;
        if what != 9 {
            assert_eq!(received as usize, heard.len() - left);
            said.heard.extend(heard.drain(..received as usize));
        }
    }
    said.check();
}

/// Whether an exchange was refused for what its caller did, not its peer.
fn is_the_callers<O>(moved: Result<usize, Result<O, ProtocolError>>) -> bool {
    use ProtocolError::{
        NothingToReplyTo, ReplyDue, TooManyAtoms, TooManyStructures, Unfinished, WrongLength,
    };
    matches!(
        moved,
        Err(Err(NothingToReplyTo
            | ReplyDue
            | Unfinished(_)
            | TooManyAtoms { .. }
            | TooManyStructures { .. }
            | WrongLength { .. }))
    )
}

/// A message of a server's, whole or not, right or wrong.
pub fn message(choices: &mut Choices<'_>) -> Vec<u8> {
    let mut message = Vec::new();
    let natoms = choices.of([0, 1, 2, 2, 2, 33]);
    let batch = choices.of([1, 2, 3]);
    match choices.below(8) {
        which @ 0..5 => {
            let command = HEADERS[which].0;
            message.extend(header(command));
            if command == Header::Init {
                let text = [&b"batch_size:2"[..], b"", b" ", b"k:1,batch_size:3"][natoms % 4];
                message.extend(1_i32.to_le_bytes());
                message.extend((text.len() as i32).to_le_bytes());
                message.extend(text);
            }
            if command == Header::PosData {
                let natoms_bytes = (natoms as i32).to_le_bytes();
                let cell = [16.0, 1.0, 2.0, 0.0, 16.0, 3.0, 0.0, 0.0, 16.0, 0.0625];
                let zeros = [0.0; 8];
                let reals = cell.into_iter().chain(zeros);
                let bytes = reals.flat_map(f64::to_le_bytes).collect::<Vec<_>>();
                if batch == 1 {
                    message.extend(&bytes);
                    message.extend(natoms_bytes);
                } else {
                    message.extend(natoms_bytes);
                    message.extend(bytes.repeat(batch));
                }
                let reals = (0..3 * natoms * batch).map(|i| i as f64);
                message.extend(reals.flat_map(f64::to_le_bytes));
            }
        }
        5 => message.extend(HEADERS[5 + natoms % 4].1),
        6 => message.extend([choices.byte(), choices.byte(), choices.byte()]),
        _ => {
            message.extend(header(Header::PosData));
            message.extend([choices.byte(); 20]);
        }
    }
    message
}

/// All that one connection's driver has heard and said.
#[derive(Default)]
struct Said {
    heard: Vec<u8>,
    bytes: Vec<u8>,
}

impl Said {
    /// An answer for each STATUS at most, a reply for each GETFORCE, and each of them whole, but for the last.
    fn check(&self) {
        let count = |word: &[u8; 12]| self.heard.windows(12).filter(|it| it == word).count();
        let (mut answers, mut replies) = (0, 0);
        let mut rest = self.bytes.as_slice();
        while !rest.is_empty() {
            let known = HEADERS.iter().skip(5);
            let n = rest.len().min(12);
            let mut known = known.filter(|it| it.1.starts_with(&rest[..n]));
            let (header, _) = known.next().expect("a driver's header");
            rest = &rest[n..];
            if *header == Header::ForceReady {
                replies += 1;
                match whole_reply(rest) {
                    Some(n) => rest = &rest[n..],
                    None => break,
                }
            } else {
                answers += 1;
            }
        }
        assert!(answers <= count(b"STATUS      ") && replies <= count(b"GETFORCE    "));
    }
}

/// The length of a reply behind its header: of one structure, or of a batch, told by their energies, which are 1.
fn whole_reply(bytes: &[u8]) -> Option<usize> {
    let (mut at, mut structures) = (0, 0);
    while bytes.get(at..at + 8)? == 1_f64.to_le_bytes() && structures < STRUCTURES {
        (at, structures) = (at + 8, structures + 1);
    }
    let integer = |at: usize| -> Option<usize> {
        let bytes = bytes.get(at..at + 4)?.try_into().expect("4");
        usize::try_from(i32::from_le_bytes(bytes)).ok()
    };
    at += 4 + 24 * integer(at)? * structures + 72 * structures;
    for _ in 0..structures {
        at += 4 + integer(at)?;
    }
    bytes.get(..at).map(<[u8]>::len)
}
