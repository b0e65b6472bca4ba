//! A driver and a server over a connection that moves their bytes in any pieces and is cut at any
//! time, with callers that change their requests and their arrays. Every answer belongs to the
//! positions of the call that returns it.

use forcewire::{
    Answer, Cell, Driver, Evaluation, Event, Exchange, Header, Initialize, Mode, ProtocolError,
    Quantity, Request, Scalar, Server, Step, Virial,
};

use super::choices::{Choices, Wire};
use super::model::kept;

const ATOMS: usize = 40;
/// The size of STATUS and EXIT, which may wait until a driver has replied (`tests/states`).
const ROOM: usize = 24;

/// The potential, whose numbers identify atom, structure and evaluation.
fn truth(cell: &Cell, positions: &[[f64; 3]]) -> (Evaluation, Vec<[f64; 3]>) {
    let edge = cell.h()[0][0];
    let forces = positions
        .iter()
        .map(|&[x, y, z]| [y * edge, z - x, x / edge]);
    let energy = positions.iter().map(|[x, y, z]| x * y + z * edge).sum();
    let virial = Virial::from_upper([energy, edge, 1.0, 2.0, 3.0, positions.len() as f64]);
    (Evaluation { energy, virial }, forces.collect())
}

pub fn pair(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    if choices.byte() & 1 == 1 {
        Pair::<f32>::new(&mut choices).run(&mut choices);
    } else {
        Pair::<f64>::new(&mut choices).run(&mut choices);
    }
}

struct Pair<T> {
    server: Server,
    driver: Driver,
    down: Vec<u8>,
    up: Vec<u8>,
    natoms: usize,
    /// The evaluation in progress, and the number to complete.
    wanted: usize,
    evaluations: usize,
    /// How often the caller has replaced its request.
    changes: usize,
    /// Whether the caller drops the forces that the driver owes.
    discards: bool,
    cells: Vec<Cell>,
    /// The positions of the evaluation in progress, for each structure, in double precision and as
    /// the server has them.
    positions: Vec<[f64; 3]>,
    asked: Vec<[f64; 3]>,
    forces: Vec<[f64; 3]>,
    answers: Vec<Answer>,
    extras: [u8; 64],
    driver_cells: [Cell; 3],
    driver_positions: [[T; 3]; ATOMS],
    reply: Option<Reply<T>>,
}

struct Reply<T> {
    evaluations: Vec<Evaluation>,
    forces: Vec<[T; 3]>,
    extras: Vec<&'static [u8]>,
}

impl<T: Scalar> Pair<T> {
    fn new(choices: &mut Choices<'_>) -> Self {
        let mode = choices.of([
            Mode::Classic,
            Mode::Consolidated,
            Mode::Strict,
            Mode::Batched(2),
            Mode::Batched(3),
        ]);
        let initialize = choices.of([Initialize::Never, Initialize::Once, Initialize::EveryStep]);
        let natoms = choices.of([1, 0, 2, 13]);
        let evaluations = 1 + choices.below(4);
        let mut pair = Self {
            server: Server::new().mode(mode),
            driver: Driver::new().initialize(initialize),
            down: Vec::new(),
            up: Vec::new(),
            natoms,
            wanted: 0,
            evaluations,
            changes: 0,
            discards: false,
            cells: Vec::new(),
            positions: Vec::new(),
            asked: Vec::new(),
            forces: Vec::new(),
            answers: Vec::new(),
            extras: [b'#'; 64],
            driver_cells: [Cell::orthorhombic([-777.0; 3]); 3],
            driver_positions: [[T::ZERO; 3]; ATOMS],
            reply: None,
        };
        pair.ask();
        pair
    }

    /// Makes the next request, with as many structures as the driver accepts, but at most the
    /// number of evaluations so far.
    fn ask(&mut self) {
        let structures = self.server.capacity().min(1 + self.wanted);
        let salt = self.wanted as f64 + self.changes as f64 / 8.0;
        self.cells = vec![Cell::orthorhombic([16.0 + salt; 3]); structures];
        let atoms = 0..self.natoms * structures;
        let atom = |i: usize| [i as f64 / 3.0 + salt, -1.0 / (1.0 + i as f64), salt / 7.0];
        self.asked = atoms.map(atom).collect();
        // Rounds the positions to the driver's precision.
        let round = |atom: &[f64; 3]| atom.map(|x| T::from_f64(x).to_f64());
        self.positions = self.asked.iter().map(round).collect();
        self.forces = vec![[-777.0; 3]; self.asked.len()];
        self.answers = vec![Answer::default(); structures];
    }

    fn run(mut self, choices: &mut Choices<'_>) {
        let mut moves = 0;
        while self.wanted < self.evaluations {
            // Chosen while there are choices; after that, in turn and with as many bytes as can
            // move.
            let (which, most) = if choices.is_empty() {
                moves += 1;
                assert!(moves < 2000, "it goes on for ever");
                (moves % 2, usize::MAX)
            } else {
                let byte = choices.byte();
                (usize::from(byte & 7), 1 + usize::from(byte >> 3))
            };
            match which {
                0 | 2 | 4 => self.server_moves(bytes(most)),
                7 if most > 28 => self.reconnect(),
                6 if most > 24 => self.changes_its_mind(most),
                _ => self.driver_moves(bytes(most)),
            }
        }
        // At the end of the stream, the bytes in transit are dropped.
        let mut wire = Wire::new(&self.up);
        assert_eq!(wire.run(self.server.exit()), Some(Ok(())));
        assert!(wire.said.ends_with(b"EXIT        "));
    }

    /// The connection is lost with all bytes in transit, and made again.
    fn reconnect(&mut self) {
        self.server.reset();
        self.driver.reset();
        self.down.clear();
        self.up.clear();
        self.reply = None;
        self.discards = false;
        self.ask();
    }

    /// A caller recreates its exchange in another way. A refused call changes nothing, and the
    /// earlier exchange continues.
    fn changes_its_mind(&mut self, how: usize) {
        match how - 25 {
            0 => {
                // Evaluate other positions; if that is refused because forces are owed, drop those.
                let (cells, asked) = (self.cells.clone(), self.asked.clone());
                let (positions, answers) = (self.positions.clone(), self.answers.clone());
                let forces = self.forces.clone();
                self.changes += 1;
                self.ask();
                match self.looks() {
                    Err(ProtocolError::AnswerDue) => self.discards = true,
                    Err(ProtocolError::Unfinished(_)) => {
                        (self.cells, self.asked, self.positions) = (cells, asked, positions);
                        (self.answers, self.forces) = (answers, forces);
                    }
                    Err(error) => panic!("{error:?}"),
                    Ok(()) => {}
                }
            }
            1 => {
                // Use another array for the forces, and another one for the extras.
                let other = vec![[-888.0; 3]; self.forces.len()];
                let forces = std::mem::replace(&mut self.forces, other);
                let extras = std::mem::replace(&mut self.extras, [b'%'; 64]);
                if self.is_refused() {
                    (self.forces, self.extras) = (forces, extras);
                }
            }
            2 => {
                // Change a force or an energy.
                let forces = self.forces.clone();
                let answers = self.answers.clone();
                match self.forces.first_mut() {
                    Some(force) => force[0] = f64::from_bits(force[0].to_bits() ^ 1),
                    None => self.answers[0].evaluation.energy += 1.0,
                }
                if self.is_refused() {
                    (self.forces, self.answers) = (forces, answers);
                }
            }
            3 => {
                // The same numbers at another address.
                (self.forces, self.answers) = (self.forces.clone(), self.answers.clone());
                (self.asked, self.cells) = (self.asked.clone(), self.cells.clone());
            }
            4 => {
                // The caller no longer wants the answer.
                self.discards = true;
            }
            5 | 6 if self.reply.is_none() => {
                // Use another array for the positions, or the same one with a changed number.
                let (cells, positions) = (self.driver_cells, self.driver_positions);
                if how == 30 {
                    self.driver_positions = [[T::from_f64(-888.0); 3]; ATOMS];
                    self.driver_cells = [Cell::orthorhombic([-888.0; 3]); 3];
                } else {
                    let first = &mut self.driver_positions[0][0];
                    *first = T::from_f64(first.to_f64() + 1.0);
                }
                let (other, atoms) = (&mut self.driver_cells, &mut self.driver_positions);
                let came = match self.driver.receive_batch(other, atoms).step() {
                    Ok(Step::Done(event)) => Ok(Some(event)),
                    Ok(_) => Ok(None),
                    Err(error) => Err(error),
                };
                match came {
                    Ok(None) => {}
                    Ok(Some(event)) => self.takes(event),
                    Err(error) => {
                        assert!(matches!(error, ProtocolError::Unfinished(_)), "{error:?}");
                        (self.driver_cells, self.driver_positions) = (cells, positions);
                    }
                }
            }
            _ => {
                // Try another reply, or one with NaN; nothing of it is sent.
                if let Some(reply) = &self.reply {
                    let mut evaluations = reply.evaluations.clone();
                    let nan = how == 31;
                    evaluations[0].energy = if nan { f64::NAN } else { -1.0 };
                    let refused = self
                        .driver
                        .reply_batch(&evaluations, &reply.forces, &reply.extras)
                        .step()
                        .err();
                    let own = ProtocolError::NotFinite(Quantity::Energy);
                    let due = ProtocolError::Unfinished(Header::ForceReady);
                    match refused {
                        None => assert!(!nan),
                        Some(ProtocolError::NothingToReplyTo) => {}
                        Some(error) => assert!(error == due || (nan && error == own)),
                    }
                }
            }
        }
    }

    /// Recreates the evaluation and drops it before any byte moves.
    fn looks(&mut self) -> Result<(), ProtocolError> {
        let request = Request::batch(&self.cells, &self.asked);
        let (answers, forces) = (&mut self.answers, &mut self.forces);
        let mut evaluate = self
            .server
            .evaluate_batch(request, answers, forces, &mut self.extras);
        evaluate.step().map(|_| ())
    }

    /// Makes the evaluation again and drops it. Returns whether it was refused because its arrays
    /// differ from the original ones.
    fn is_refused(&mut self) -> bool {
        match self.looks() {
            Ok(()) => false,
            Err(ProtocolError::Unfinished(_)) => true,
            // The owed forces belong to another evaluation.
            Err(ProtocolError::AnswerDue) if self.discards => false,
            Err(error) => panic!("{error:?}"),
        }
    }

    fn server_moves(&mut self, most: usize) {
        if self.discards {
            let discard = self.server.discard();
            match carry(discard, &mut self.up, &mut self.down, ROOM, most) {
                None => {}
                Some(Ok(())) => self.discards = false,
                // The positions were sent in part: only their own exchange has the rest.
                Some(Err(ProtocolError::Unfinished(_))) => self.discards = false,
                Some(Err(error)) => panic!("{error:?}"),
            }
            return;
        }
        let request = Request::batch(&self.cells, &self.asked);
        let (answers, forces) = (&mut self.answers, &mut self.forces);
        let evaluate = self
            .server
            .evaluate_batch(request, answers, forces, &mut self.extras);
        match carry(evaluate, &mut self.up, &mut self.down, ROOM, most) {
            None => {}
            Some(Err(error)) => panic!("{error:?}"),
            Some(Ok(_)) => {
                for (index, answer) in self.answers.iter().enumerate() {
                    let atoms = index * self.natoms..(index + 1) * self.natoms;
                    let (evaluation, forces) =
                        truth(&self.cells[index], &self.positions[atoms.clone()]);
                    assert_eq!(answer.evaluation, evaluation);
                    let single = size_of::<T>() == 4;
                    let forces: Vec<_> = forces
                        .iter()
                        .map(|it| it.map(|x| kept(x, single)))
                        .collect();
                    assert_eq!(self.forces[atoms], forces);
                    assert_eq!(answer.extras(&self.extras), EXTRAS[index]);
                }
                self.wanted += 1;
                self.ask();
            }
        }
    }

    fn driver_moves(&mut self, most: usize) {
        let told = match &self.reply {
            None => {
                let (cells, positions) = (&mut self.driver_cells, &mut self.driver_positions);
                let receive = self.driver.receive_batch(cells, positions);
                carry(receive, &mut self.down, &mut self.up, usize::MAX, most)
            }
            Some(reply) => {
                let reply =
                    self.driver
                        .reply_batch(&reply.evaluations, &reply.forces, &reply.extras);
                match carry(reply, &mut self.down, &mut self.up, usize::MAX, most) {
                    None => None,
                    Some(Ok(())) => {
                        self.reply = None;
                        None
                    }
                    Some(Err(error)) => Some(Err(error)),
                }
            }
        };
        match told {
            None => {}
            Some(Ok(event)) => self.takes(event),
            Some(Err(error)) => panic!("{error:?}"),
        }
    }

    /// Handles an event of the driver's caller.
    fn takes(&mut self, event: Event) {
        match event {
            Event::Init { replica: 0 } => {}
            Event::Positions {
                natoms, structures, ..
            } => {
                assert_eq!(natoms, self.natoms);
                let mut reply = Reply {
                    evaluations: Vec::new(),
                    forces: Vec::new(),
                    extras: EXTRAS[..structures].to_vec(),
                };
                for index in 0..structures {
                    let atoms = index * natoms..(index + 1) * natoms;
                    let positions = &self.driver_positions[atoms];
                    let positions: Vec<_> = positions.iter().map(|it| it.map(T::to_f64)).collect();
                    let (evaluation, forces) = truth(&self.driver_cells[index], &positions);
                    reply.evaluations.push(evaluation);
                    reply
                        .forces
                        .extend(forces.iter().map(|it| it.map(T::from_f64)));
                }
                self.reply = Some(reply);
            }
            other => panic!("{other:?}"),
        }
    }
}

/// The number of bytes to move: each number up to 16, then soon whole messages.
fn bytes(most: usize) -> usize {
    match most {
        0..=16 => most,
        17..=26 => 16 << (most - 16),
        _ => usize::MAX,
    }
}

const EXTRAS: [&[u8]; 3] = [b"{}", b"", b"{\"structure\":3}"];

/// Moves up to `most` bytes of an exchange between two queues. Returns its result if it has ended.
fn carry<X: Exchange>(
    mut exchange: X,
    from: &mut Vec<u8>,
    to: &mut Vec<u8>,
    room: usize,
    mut most: usize,
) -> Option<Result<X::Output, ProtocolError>> {
    loop {
        let moved = match exchange.step() {
            Ok(Step::Write(_)) if to.len() >= room => return None,
            Ok(Step::Write(slice)) => {
                let n = slice.len().min(most).min(room - to.len());
                to.extend_from_slice(&slice[..n]);
                n
            }
            Ok(Step::Read(slice)) => {
                let n = slice.len().min(most).min(from.len());
                slice[..n].copy_from_slice(&from[..n]);
                from.drain(..n);
                n
            }
            Ok(Step::Done(output)) => return Some(Ok(output)),
            Err(error) => return Some(Err(error)),
        };
        exchange.advance(moved);
        most -= moved;
        if moved == 0 || most == 0 {
            return None;
        }
    }
}
