//! A server that hears anything, and one whose caller does anything.

use forcewire::{
    Answer, Cell, Exchange, Header, Mode, ProtocolError, Request, Scalar, Server, Status,
};

use super::choices::{Choices, Wire};
use super::model::{Answered, EDGE, HEADERS, ServerModel, answered_bits, header, positions};

const ATOMS: usize = 99;
const STRUCTURES: usize = 3;
/// Evaluations that the caller wants, one after the other.
const EVALUATIONS: usize = 3;

pub fn settings(choices: &mut Choices<'_>) -> ServerModel {
    let byte = choices.byte();
    ServerModel {
        mode: [
            Mode::Classic,
            Mode::Consolidated,
            Mode::Strict,
            Mode::Batched(if byte & 128 != 0 { 2 } else { 3 }),
        ][usize::from(byte & 3)],
        natoms: [0, 1, 2, 33][usize::from(byte >> 2 & 3)],
        single: byte & 16 != 0,
        not_finite: byte & 32 != 0,
        extras: if byte & 64 != 0 { 5 } else { 40 },
    }
}

/// A server with these settings.
pub fn server(model: &ServerModel) -> Server {
    let server = Server::new().mode(model.mode);
    if model.not_finite {
        server.allow_not_finite()
    } else {
        server
    }
}

/// A driver sends these bytes and closes: the server gets and says what the model does.
pub fn server_bytes(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let model = settings(&mut choices);
    let came = if model.single {
        converses::<f32>(&model, Wire::new(choices.0), usize::MAX)
    } else {
        converses::<f64>(&model, Wire::new(choices.0), usize::MAX)
    };
    assert_eq!(came, model.converse(choices.0, EVALUATIONS));
}

/// A server's conversation, of which so many bytes move before each exchange is dropped and made again.
pub fn converses<T: Scalar>(
    model: &ServerModel,
    mut wire: Wire<'_>,
    piece: usize,
) -> (Vec<Result<Answered, String>>, Vec<u8>) {
    let mut server = server(model);
    let mut answers = Vec::new();
    for index in 0..EVALUATIONS {
        let structures = server.capacity().min(index + 1);
        let answer = evaluates::<T>(&mut server, model, structures, &mut wire, piece);
        let failed = answer.is_err();
        answers.push(answer.map_err(|error| format!("{error:?}")));
        if failed {
            break;
        }
    }
    (answers, wire.said)
}

fn evaluates<T: Scalar>(
    server: &mut Server,
    model: &ServerModel,
    structures: usize,
    wire: &mut Wire<'_>,
    piece: usize,
) -> Result<Answered, ProtocolError> {
    let cells = [Cell::orthorhombic([EDGE; 3]); STRUCTURES];
    let atoms = model.natoms * structures;
    let (mut positions_, mut forces) = ([[T::ZERO; 3]; ATOMS], [[T::ZERO; 3]; ATOMS]);
    let reals = (0..structures).flat_map(|index| positions(model.natoms, index));
    for (to, from) in positions_.as_flattened_mut().iter_mut().zip(reals) {
        *to = T::from_f64(from);
    }
    let mut extras = [b'#'; 40];
    let mut all = [Answer::default(); STRUCTURES];
    let first = loop {
        let request = Request::batch(&cells[..structures], &positions_[..atoms]);
        let extras = &mut extras[..model.extras];
        let forces = &mut forces[..atoms];
        let mut evaluate = server.evaluate_batch(request, &mut all[..structures], forces, extras);
        match wire.move_some(&mut evaluate, piece) {
            Ok(n) => assert_ne!(n, 0, "the stream has an end"),
            Err(over) => break over?,
        }
    };
    // NaN is not itself.
    let energies = [first.energy, all[0].energy].map(f64::to_bits);
    assert_eq!(energies[0], energies[1]);
    let all = &all[..structures];
    let evaluations = all.iter().flat_map(|it| {
        let virial = it.virial.0.as_flattened().iter();
        std::iter::once(it.energy).chain(virial.copied().collect::<Vec<_>>())
    });
    let forces = forces[..atoms].as_flattened().iter().map(|x| x.to_f64());
    let reals: Vec<_> = evaluations.chain(forces).collect();
    Ok(Answered {
        reals: answered_bits(&reals),
        extras: all
            .iter()
            .map(|it| it.extras(&extras[..model.extras]).to_vec())
            .collect(),
        sent: all.iter().map(|it| it.extras_sent()).collect(),
    })
}

/// The caller calls anything in any order, with arrays of any length, and the driver says anything. What the server
/// says is what a driver expects; what it refuses changes nothing.
pub fn server_operations(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let model = settings(&mut choices);
    let mut server = server(&model);
    let mut heard = Vec::new();
    let mut said = Said::new(model.mode);
    let cells = [Cell::orthorhombic([EDGE; 3]); STRUCTURES];
    let (double, single) = ([[0.5; 3]; ATOMS], [[0.5_f32; 3]; ATOMS]);
    let (mut forces, mut extras) = ([[0.0; 3]; ATOMS], [0; 40]);
    let mut single_forces = [[0.0_f32; 3]; ATOMS];
    let mut answers = [Answer::default(); STRUCTURES];
    while !choices.is_empty() {
        let (what, most) = (choices.below(13), 1 + 7 * usize::from(choices.byte() >> 3));
        let before = (server.last_status(), server.traffic(), server.natoms());
        let structures = server.capacity().min(1 + choices.below(STRUCTURES + 1));
        let atoms = (model.natoms * structures).min(ATOMS);
        let request = Request::batch(&cells[..structures.min(STRUCTURES)], &double[..atoms]);
        let mut wire = Wire::new(&heard);
        wire.ended = false;
        let refused = match what {
            0 => is_the_callers(wire.move_some(&mut server.status(), most)),
            1 => is_the_callers(wire.move_some(&mut server.initialize(2, b"k:1"), most)),
            2 => is_the_callers(wire.move_some(&mut server.send_positions(request), most)),
            3 => {
                let (forces, extras) = (&mut forces[..atoms], &mut extras[..model.extras]);
                let answers = &mut answers[..structures];
                let mut take = server.get_forces_batch(answers, forces, extras);
                is_the_callers(wire.move_some(&mut take, most))
            }
            4 | 5 => {
                let (forces, extras) = (&mut forces[..atoms], &mut extras[..model.extras]);
                let answers = &mut answers[..structures];
                let mut evaluate = server.evaluate_batch(request, answers, forces, extras);
                is_the_callers(wire.move_some(&mut evaluate, most))
            }
            6 => {
                let request = Request::new(&cells[0], &single[..model.natoms]).init(b"other");
                let forces = &mut single_forces[..model.natoms];
                let mut evaluate = server.evaluate(request, forces, &mut extras[..1]);
                is_the_callers(wire.move_some(&mut evaluate, most))
            }
            7 => {
                let wrong = choices.below(ATOMS);
                let request = Request::new(&cells[0], &double[..wrong]);
                is_the_callers(wire.move_some(&mut server.send_positions(request), most))
            }
            8 => is_the_callers(wire.move_some(&mut server.exit(), most)),
            9 | 10 => {
                heard.extend(answer(&model, server.capacity(), &mut choices));
                continue;
            }
            11 => {
                server.mark_timed_out();
                wire.inbox = &[];
                wire.ended = choices.bit();
                is_the_callers(wire.move_some(&mut server.status(), most));
                false
            }
            _ => {
                said.check();
                server.reset();
                assert_eq!(server.last_status(), Status::UP);
                (heard, said) = (Vec::new(), Said::new(model.mode));
                continue;
            }
        };
        let left = wire.inbox.len();
        said.bytes.extend(wire.said);
        if refused {
            assert_eq!(
                before,
                (server.last_status(), server.traffic(), server.natoms())
            );
        }
        if what != 11 {
            let received = (server.traffic().received - before.1.received) as usize;
            assert_eq!(received, heard.len() - left);
            heard.drain(..received);
        }
        server.status().advance(0);
    }
    said.check();
}

/// Whether an exchange was refused for what its caller did, not its peer.
fn is_the_callers<O>(moved: Result<usize, Result<O, ProtocolError>>) -> bool {
    use ProtocolError::{AnswerDue, AtomsChanged, InvalidStatus, Unfinished, WrongLength};
    matches!(
        moved,
        Err(Err(InvalidStatus { .. }
            | AnswerDue
            | Unfinished(_)
            | WrongLength { .. }
            | AtomsChanged { .. }))
    )
}

/// Something that a driver may say, or may not.
fn answer(model: &ServerModel, carried: usize, choices: &mut Choices<'_>) -> Vec<u8> {
    match choices.below(10) {
        0..3 => header(Header::Ready).to_vec(),
        3 => header(Header::NeedInit).to_vec(),
        4 | 5 => header(Header::HaveData).to_vec(),
        6 | 7 => {
            let carried = carried.min(STRUCTURES);
            let mut reply = header(Header::ForceReady).to_vec();
            reply.extend([0; 8].repeat(carried));
            reply.extend((model.natoms as i32).to_le_bytes());
            reply.extend([0; 24].repeat(model.natoms * carried));
            reply.extend([0; 72].repeat(carried));
            reply.extend([2, 0, 0, 0, b'{', b'}'].repeat(carried));
            reply
        }
        8 => HEADERS[choices.below(9)].1.to_vec(),
        _ => vec![choices.byte(), choices.byte()],
    }
}

/// All that one connection's server has said.
struct Said {
    mode: Mode,
    bytes: Vec<u8>,
}

impl Said {
    fn new(mode: Mode) -> Self {
        Self {
            mode,
            bytes: Vec::new(),
        }
    }

    /// What a driver accepts (`src/manual/protocol.md`, sections 2 and 4): nothing before STATUS; GETFORCE after POSDATA,
    /// once; INIT and POSDATA only after a STATUS; in strict mode STATUS before and between them; nothing after EXIT; each
    /// message whole, except the last.
    fn check(&self) {
        let mut rest = self.bytes.as_slice();
        // The message before, and whether GETFORCE is still to come; structures, once INIT has announced them.
        let (mut before, mut owed, mut batch) = (None, false, 1);
        while rest.len() >= 12 {
            let (word, behind) = rest.split_at(12);
            let it = HEADERS.iter().find(|it| it.1 == word).expect("a header").0;
            let allowed = match it {
                Header::Status => self.mode != Mode::Strict || before != Some(Header::Status),
                Header::Init => before == Some(Header::Status) && !owed,
                Header::PosData => before == Some(Header::Status) && !owed,
                Header::GetForce => owed,
                Header::Exit => true,
                _ => false,
            };
            assert!(allowed, "{it:?} behind {before:?}");
            assert_ne!(before, Some(Header::Exit));
            let Some(n) = whole_message(it, behind, batch) else {
                return;
            };
            if it == Header::Init
                && let Mode::Batched(size) = self.mode
            {
                batch = size;
            }
            owed = match it {
                Header::PosData => true,
                Header::GetForce => false,
                _ => owed,
            };
            before = Some(it);
            rest = &behind[n..];
        }
        let begun = HEADERS.iter().any(|it| it.1.starts_with(rest));
        assert!(begun, "{}", rest.escape_ascii());
    }
}

/// The length of a message behind its header, if all of it is there.
fn whole_message(header: Header, bytes: &[u8], batch: usize) -> Option<usize> {
    let integer = |at: usize| -> Option<usize> {
        let bytes = bytes.get(at..at + 4)?.try_into().expect("4");
        Some(usize::try_from(i32::from_le_bytes(bytes)).expect("not negative"))
    };
    let n = match header {
        Header::Init => 8 + integer(4)?,
        Header::PosData if batch > 1 => 4 + 144 * batch + 24 * batch * integer(0)?,
        Header::PosData => 148 + 24 * integer(144)?,
        _ => 0,
    };
    bytes.get(..n).map(<[u8]>::len)
}
