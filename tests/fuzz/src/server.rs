//! A server that receives any bytes, and a server whose caller makes any calls.

use forcewire::{
    Answer, Cell, Exchange, Header, Mode, ProtocolError, Quantity, Request, Scalar, Server, Status,
    Step,
};

use super::choices::{Choices, Wire};
use super::layout::{
    HEADER, INTEGER, POSDATA, Posdata, REAL, forceready, init, integer_at, real_at,
};
use super::model::{Answered, EDGE, HEADERS, ServerModel, answered_bits, header, positions};

const ATOMS: usize = 99;
const STRUCTURES: usize = 3;
/// The number of evaluations that the caller requests, one after another.
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

/// A driver sends these bytes and closes. The server must return and send the same as the model.
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

/// A server's conversation, in which each exchange is dropped and recreated after this many bytes.
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
    // NaN differs from itself.
    let energies = [first.evaluation.energy, all[0].evaluation.energy].map(f64::to_bits);
    assert_eq!(energies[0], energies[1]);
    let all = &all[..structures];
    let evaluations = all.iter().flat_map(|it| {
        let virial = it.evaluation.virial.0.as_flattened().iter();
        std::iter::once(it.evaluation.energy).chain(virial.copied().collect::<Vec<_>>())
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

/// The caller makes any calls in any order, with arrays of any length and contents, and the driver
/// sends anything. The server sends what a driver expects. An answer that it returns comes from one
/// message, and belongs to the positions of that call if the driver keeps to the protocol. A
/// refusal changes nothing.
pub fn server_operations(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let model = settings(&mut choices);
    let mut server = server(&model);
    let mut heard = Vec::new();
    let mut said = Said::new(model.mode);
    // The number of the request; no two requests share a number.
    let mut serial = 0;
    let mut asked = Asked::new(serial);
    let mut arrays = Arrays::new();
    // How many answers the driver has sent, whether it sent one without a request, and whether it
    // sent anything that is not a message.
    let (mut answered, mut early, mut noise) = (0, false, false);
    while !choices.is_empty() {
        let (what, most) = (choices.below(22), 1 + 7 * usize::from(choices.byte() >> 3));
        let now = |server: &mut Server| {
            let midway = server.status().midway();
            let known = (server.last_status(), server.capacity(), server.natoms());
            (known, server.traffic(), midway)
        };
        let before = now(&mut server);
        let structures = server.capacity().min(1 + choices.below(STRUCTURES + 1));
        let structures = structures.min(STRUCTURES);
        let atoms = (model.natoms * structures).min(ATOMS);
        let request = asked.request(structures, atoms);
        let mut wire = Wire::new(&heard);
        wire.ended = false;
        // The answer returned by a call.
        let mut came = None;
        let refused = match what {
            0 => is_the_callers(wire.move_some(&mut server.status(), most)),
            1 => is_the_callers(wire.move_some(&mut server.initialize(2, b"k:1"), most)),
            2 => is_the_callers(wire.move_some(&mut server.send_positions(request), most)),
            3 => {
                let (answers, forces, extras) = arrays.slices(structures, atoms, model.extras);
                let mut take = server.get_forces_batch(answers, forces, extras);
                returns(wire.move_some(&mut take, most), &mut came)
            }
            4 | 5 => {
                let (answers, forces, extras) = arrays.slices(structures, atoms, model.extras);
                let mut evaluate = server.evaluate_batch(request, answers, forces, extras);
                returns(wire.move_some(&mut evaluate, most), &mut came)
            }
            6 => {
                let (cells, positions) = (&asked.cells, &asked.single[..model.natoms]);
                let request = Request::new(&cells[0], positions).init(b"other");
                let forces = &mut arrays.single[..model.natoms];
                let mut evaluate = server.evaluate(request, forces, &mut arrays.extras[..1]);
                let refused = returns(wire.move_some(&mut evaluate, most), &mut came);
                drop(evaluate);
                for (to, from) in arrays.forces.iter_mut().zip(&arrays.single) {
                    if came.is_some() {
                        *to = from.map(f64::from);
                    }
                }
                refused
            }
            7 => {
                let wrong = choices.below(ATOMS);
                let request = Request::new(&asked.cells[0], &asked.double[..wrong]);
                is_the_callers(wire.move_some(&mut server.send_positions(request), most))
            }
            8 => is_the_callers(wire.move_some(&mut server.exit(), most)),
            9 | 10 => {
                let capacity = server.capacity();
                let last = said.last_request();
                let (bytes, answers) = answer(&model, capacity, last, &mut choices);
                answered += answers;
                early |= answered > said.requests();
                let bare = answers == 0 && bytes.starts_with(header(Header::ForceReady));
                noise |= bare || bytes.len() < 12;
                heard.extend(bytes);
                continue;
            }
            11 => {
                server.mark_timed_out();
                wire.inbox = &[];
                wire.ended = choices.bit();
                is_the_callers(wire.move_some(&mut server.status(), most));
                false
            }
            13 => {
                // Make another request in the same arrays.
                serial = (serial + 1) % 1000;
                asked.fill(serial);
                continue;
            }
            14 if atoms == 0 => continue,
            14 => {
                // Change one number of the request, perhaps to NaN, for this call only.
                let mut odd = asked.clone();
                let number = &mut odd.double[atoms - 1][2];
                *number = if choices.bit() { f64::NAN } else { -1.0 };
                let request = odd.request(structures, atoms);
                let (answers, forces, extras) = arrays.slices(structures, atoms, model.extras);
                let mut evaluate = server.evaluate_batch(request, answers, forces, extras);
                match evaluate.step() {
                    Ok(Step::Done(_)) => panic!("an answer to another request"),
                    Ok(_) => false,
                    Err(error) => is_the_callers::<()>(Err(Err(error))),
                }
            }
            15 => {
                // The same numbers at another address.
                (asked, arrays) = (asked.clone(), arrays.clone());
                continue;
            }
            16 | 17 => {
                // Use other arrays for the answer, and continue with them if they are accepted.
                let mut other = Arrays::new();
                let (answers, forces, extras) = other.slices(structures, atoms, model.extras);
                let refused = if what == 16 {
                    let mut evaluate = server.evaluate_batch(request, answers, forces, extras);
                    returns(wire.move_some(&mut evaluate, most), &mut came)
                } else {
                    let mut take = server.get_forces_batch(answers, forces, extras);
                    returns(wire.move_some(&mut take, most), &mut came)
                };
                if !refused {
                    arrays = other;
                }
                refused
            }
            18 => {
                // Change a number in the arrays for the answer.
                let which = choices.below(ATOMS);
                let (force, answer) = (&mut arrays.forces[which][1], &mut arrays.answers);
                *force = f64::from_bits(force.to_bits() ^ 1);
                let energy = &mut answer[which % STRUCTURES].evaluation.energy;
                *energy = f64::from_bits(energy.to_bits() ^ u64::from(choices.bit()));
                arrays.extras[which % 40] ^= u8::from(choices.bit());
                continue;
            }
            19 | 20 => is_the_callers(wire.move_some(&mut server.discard(), most)),
            21 => {
                // Another kind of exchange than the current one.
                let _ = server.send_positions(request).step();
                let _ = server.initialize(1, b"").step();
                let _ = server.status().step();
                false
            }
            _ => {
                said.check();
                server.reset();
                assert_eq!(server.last_status(), Status::UP);
                (heard, said) = (Vec::new(), Said::new(model.mode));
                (answered, early, noise) = (0, false, false);
                continue;
            }
        };
        let left = wire.inbox.len();
        said.bytes.extend(wire.said);
        if refused {
            assert_eq!(before, now(&mut server));
        }
        if what != 11 {
            let received = (server.traffic().received - before.1.received) as usize;
            assert_eq!(received, heard.len() - left);
            heard.drain(..received);
        }
        // A driver that answers before it is asked may send anything.
        if let Some(first) = came
            && !noise
            && !early
        {
            let single = what == 6;
            let structures = if single { 1 } else { structures };
            let which = arrays.check(&model, first, structures, single);
            let expected = match what {
                3 | 17 => said.last_request(),
                _ => Some(serial),
            };
            assert_eq!(Some(which), expected, "an answer to another request");
        }
        server.status().advance(0);
    }
    said.check();
}

/// The caller's requests.
#[derive(Clone)]
struct Asked {
    cells: Vec<Cell>,
    double: Vec<[f64; 3]>,
    single: Vec<[f32; 3]>,
}

impl Asked {
    fn new(serial: usize) -> Self {
        let mut asked = Self {
            cells: vec![Cell::orthorhombic([EDGE; 3]); STRUCTURES],
            double: vec![[0.0; 3]; ATOMS],
            single: vec![[0.0; 3]; ATOMS],
        };
        asked.fill(serial);
        asked
    }

    /// Fills in numbers that identify the request. All are exact in single precision.
    fn fill(&mut self, serial: usize) {
        self.cells
            .fill(Cell::orthorhombic([EDGE + serial as f64; 3]));
        for (atom, (double, single)) in self.double.iter_mut().zip(&mut self.single).enumerate() {
            *double = triple(serial, atom);
            *single = double.map(|x| x as f32);
        }
    }

    fn request(&self, structures: usize, atoms: usize) -> Request<'_, f64> {
        Request::batch(&self.cells[..structures], &self.double[..atoms])
    }
}

fn triple(which: usize, atom: usize) -> [f64; 3] {
    [0, 1, 2].map(|axis| which as f64 + (1 + 3 * atom + axis) as f64 / 1024.0)
}

fn letter(which: usize) -> u8 {
    b'a' + (which % 26) as u8
}

/// The caller's arrays for answers.
#[derive(Clone)]
struct Arrays {
    answers: Vec<Answer>,
    forces: Vec<[f64; 3]>,
    single: Vec<[f32; 3]>,
    extras: Vec<u8>,
}

impl Arrays {
    fn new() -> Self {
        Self {
            answers: vec![Answer::default(); STRUCTURES],
            forces: vec![[-777.7; 3]; ATOMS],
            single: vec![[-777.7; 3]; ATOMS],
            extras: vec![b'#'; 40],
        }
    }

    fn slices(
        &mut self,
        structures: usize,
        atoms: usize,
        extras: usize,
    ) -> (&mut [Answer], &mut [[f64; 3]], &mut [u8]) {
        (
            &mut self.answers[..structures],
            &mut self.forces[..atoms],
            &mut self.extras[..extras],
        )
    }

    /// Finds the request to which the answer in the arrays belongs. All of its numbers come from
    /// one message.
    fn check(&self, model: &ServerModel, first: Answer, structures: usize, single: bool) -> usize {
        let which = first.evaluation.energy as usize;
        for structure in 0..structures {
            let answer = if single {
                &first
            } else {
                &self.answers[structure]
            };
            assert_eq!(answer.evaluation.energy, which as f64);
            assert_eq!(answer.evaluation.virial.0, [[which as f64; 3]; 3]);
            let extras = answer.extras(&self.extras);
            assert!(extras.iter().all(|&it| it == letter(which)));
            for atom in structure * model.natoms..(structure + 1) * model.natoms {
                assert_eq!(self.forces[atom], triple(which, atom));
            }
        }
        which
    }
}

/// Like [`is_the_callers`], but also stores the result of the exchange.
fn returns(moved: Result<usize, Result<Answer, ProtocolError>>, came: &mut Option<Answer>) -> bool {
    if let Err(Ok(it)) = &moved {
        *came = Some(*it);
    }
    is_the_callers(moved)
}

/// Whether an exchange was refused for a mistake of its caller rather than its peer.
fn is_the_callers<O>(moved: Result<usize, Result<O, ProtocolError>>) -> bool {
    use ProtocolError::{
        AnswerDue, AtomsChanged, InvalidStatus, NotFinite, Unfinished, WrongLength,
    };
    matches!(
        moved,
        Err(Err(InvalidStatus { .. }
            | AnswerDue
            | Unfinished(_)
            | WrongLength { .. }
            | NotFinite(Quantity::Positions)
            | AtomsChanged { .. }))
    )
}

/// Bytes that a driver may or may not send, and how many answers to `last` they contain.
fn answer(
    model: &ServerModel,
    carried: usize,
    last: Option<usize>,
    choices: &mut Choices<'_>,
) -> (Vec<u8>, usize) {
    let bytes = match choices.below(10) {
        0..3 => header(Header::Ready).to_vec(),
        3 => header(Header::NeedInit).to_vec(),
        4 | 5 => header(Header::HaveData).to_vec(),
        6 | 7 => {
            let (which, carried) = (last.unwrap_or(0), carried.min(STRUCTURES));
            let real = which as f64;
            let forces = (0..model.natoms * carried).flat_map(|atom| triple(which, atom));
            let reply = forceready(
                &vec![real; carried],
                &forces.collect::<Vec<_>>(),
                &vec![real; 9 * carried],
                &vec![[letter(which); 2]; carried],
            );
            return (reply, 1);
        }
        8 => HEADERS[choices.below(9)].1.to_vec(),
        _ => vec![choices.byte(), choices.byte()],
    };
    (bytes, 0)
}

/// All bytes that the server has sent over one connection.
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

    /// How many requests were sent far enough to identify them, and the number of the last one.
    fn requests(&self) -> usize {
        self.positions().count()
    }

    fn last_request(&self) -> Option<usize> {
        self.positions().last()
    }

    /// For each POSDATA the number of its request, taken from its first cell.
    fn positions(&self) -> impl Iterator<Item = usize> {
        let starts = self.bytes.windows(HEADER).enumerate();
        let starts = starts.filter(|it| it.1 == POSDATA).map(|it| it.0);
        let batched = matches!(self.mode, Mode::Batched(_));
        let announced = self.bytes.windows(10).any(|it| it == b"batch_size");
        starts.filter_map(move |at| {
            let structures = if batched && announced { 2 } else { 1 };
            let at = at + Posdata::batch(structures, 0).cell(0);
            let edge = self.bytes.get(at..at + REAL)?;
            Some((real_at(edge, 0) - EDGE) as usize)
        })
    }

    /// Checks what a driver accepts (`src/manual/protocol.md`, sections 2 and 4): nothing before
    /// STATUS; GETFORCE once after POSDATA; INIT and POSDATA only after a STATUS; in strict mode
    /// STATUS before each of them; nothing after EXIT; complete messages, except for the last.
    fn check(&self) {
        let mut rest = self.bytes.as_slice();
        // The previous message, whether GETFORCE is still due, and the number of structures that
        // INIT has announced.
        let (mut before, mut owed, mut batch) = (None, false, 1);
        while rest.len() >= HEADER {
            let word = &rest[..HEADER];
            let it = HEADERS.iter().find(|it| it.1 == word).expect("a header").0;
            let allowed = match it {
                Header::Status => self.mode != Mode::Strict || before != Some(Header::Status),
                Header::Init => before == Some(Header::Status) && !owed,
                Header::PosData => before == Some(Header::Status) && !owed,
                Header::GetForce => owed,
                Header::Exit => true,
                _ => false,
            };
            assert!(allowed, "{it:?} after {before:?}");
            assert_ne!(before, Some(Header::Exit));
            let Some(n) = whole_message(it, rest, batch) else {
                return;
            };
            if it == Header::Init
                && let Mode::Batched(size) = self.mode
            {
                batch = size.max(1);
            }
            owed = match it {
                Header::PosData => true,
                Header::GetForce => false,
                _ => owed,
            };
            before = Some(it);
            rest = &rest[n..];
        }
        let begun = HEADERS.iter().any(|it| it.1.starts_with(rest));
        assert!(begun, "{}", rest.escape_ascii());
    }
}

/// The length of a message, if it is complete.
fn whole_message(header: Header, bytes: &[u8], batch: usize) -> Option<usize> {
    let count = |at: usize| -> Option<usize> {
        let bytes = bytes.get(at..at + INTEGER)?;
        Some(usize::try_from(integer_at(bytes, 0)).expect("not negative"))
    };
    let n = match header {
        Header::Init => init(0, "").len() + count(init(0, "").len() - INTEGER)?,
        Header::PosData => {
            let natoms = count(Posdata::batch(batch, 0).atoms())?;
            Posdata::batch(batch, natoms).end()
        }
        _ => HEADER,
    };
    bytes.get(..n).map(<[u8]>::len)
}
