//! Every state that a server and its driver can be in together.
//!
//! The real machines, a queue of a few bytes in each direction, and between any two bytes anything that can happen to
//! a connection: either side leaves, its last bytes arrive or not, everything in flight is lost, EXIT. Whoever is left
//! alone notices or hears what was still on its way, then both connect anew, for the same evaluation or another one.
//!
//! The walk is breadth-first and ends when nothing new is found. What it has found is all there is: then each state is
//! asked for its way out.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::io::Write;

use crate::copy::copy;
use forcewire::{
    Cell, Driver, Evaluation, Event, Exchange, Initialize, Mode, ProtocolError, Request, Server,
    Step, Virial,
};

/// What is walked through.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub mode: Mode,
    pub initialize: Initialize,
    /// The server may say EXIT at any time, not only go.
    pub exits: bool,
    /// Bytes that can be on their way to the driver, and to the server.
    pub room: (usize, usize),
    /// Bytes that move at once, at most.
    pub piece: usize,
}

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub states: usize,
    pub moves: usize,
    /// Ways to a state that was known already, all of which went on as the first had.
    pub met_again: usize,
    /// Moves until an evaluation is complete once nothing fails any more, at most.
    pub longest: usize,
}

impl Found {
    pub fn add(&mut self, other: Self) {
        self.states += other.states;
        self.moves += other.moves;
        self.met_again += other.met_again;
        self.longest = self.longest.max(other.longest);
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:8} states, {:8} moves between them, {:4} at most to an evaluation",
            self.states, self.moves, self.longest
        )
    }
}

/// Why a state should not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nobody can move.
    Deadlock(String),
    /// Moves that lead nowhere.
    Livelock,
}

/// Everything that a state consists of.
struct State {
    server: Server,
    driver: Driver,
    down: Vec<u8>,
    up: Vec<u8>,
    asker: Asker,
    worker: Worker,
    /// Which of the two evaluations the asker wants. Changes with each that is complete.
    wanted: usize,
    /// What each side holds of a message that is not whole.
    server_has: Partial,
    driver_has: Partial,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asker {
    Evaluates,
    Exits,
    /// Has left the connection and waits for the next one.
    Away,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Worker {
    Receives,
    /// Computes this evaluation.
    Computes(usize),
    Replies(usize),
    Away,
}

/// Of a message that is not whole: how much has moved, a digest of that, and the arrays that it goes into.
#[derive(Clone, Copy)]
struct Partial {
    moved: usize,
    digest: u64,
    atoms: [[f64; 3]; 2],
    cells: [Cell; 2],
    extras: [u8; 4],
}

impl Partial {
    /// Nothing; the arrays hold what no message does.
    const NOTHING: Self = Self {
        moved: 0,
        digest: 0,
        atoms: [[-777.0; 3]; 2],
        cells: [Cell::orthorhombic([-777.0; 3]); 2],
        extras: [b'#'; 4],
    };
}

/// What can happen next. The first three do, sooner or later; the others may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Move {
    Server,
    Driver,
    Computed,
    Exit,
    ServerLeaves,
    DriverLeaves,
    /// The connection is lost and everything in flight with it.
    Cut,
}

const MOVES: [Move; 7] = [
    Move::Server,
    Move::Driver,
    Move::Computed,
    Move::Exit,
    Move::ServerLeaves,
    Move::DriverLeaves,
    Move::Cut,
];

/// What came of a move.
enum Outcome {
    Blocked,
    /// A byte has moved, or one side has gone on.
    Moved,
    /// An evaluation is complete.
    Complete,
}

/// The atom of this evaluation, and what is to be found for it.
fn question(which: usize) -> (Cell, [f64; 3]) {
    let x = which as f64;
    let cell = Cell::from_rows([[10.0 + x, 1.0, 2.0], [0.0, 9.0, 3.0], [0.0, 0.0, 8.0]]);
    (cell, [1.5 + x, -2.25, 0.125])
}

fn truth(which: usize) -> (Evaluation, [f64; 3], &'static [u8]) {
    let x = which as f64;
    let evaluation = Evaluation {
        energy: -0.5 - x,
        virial: Virial([[1.0 + x, 2.0, 3.0], [2.0, 4.0, 5.0], [3.0, 5.0, 6.0]]),
    };
    (evaluation, [0.25, -0.125, 2.0 + x], [b"{}", b"[]"][which])
}

/// Adds what has moved to a digest of it.
fn digest(before: u64, bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    before.hash(&mut hasher);
    hasher.write(bytes);
    hasher.finish()
}

/// Says what a transfer would do next.
fn look<T: Exchange>(mut transfer: T, text: &mut Vec<u8>) {
    match transfer.step() {
        Ok(Step::Read(slice)) => text.extend([0, slice.len() as u8]),
        Ok(Step::Write(slice)) => text.extend(slice.iter()),
        Ok(Step::Done(_)) => text.push(1),
        Err(_) => text.push(2),
    }
    text.extend([
        u8::from(transfer.midway()),
        transfer.waits_for().owed().into(),
    ]);
}

/// Lets a transfer move some bytes or hear the end: nothing if it can't, or what it ended with.
fn carry<T: Exchange>(
    mut transfer: T,
    plan: &Plan,
    inbox: &mut Vec<u8>,
    outbox: Option<(&mut Vec<u8>, usize)>,
    has: &mut Partial,
) -> Option<Option<Result<T::Output, ProtocolError>>> {
    let (alone, blocked) = (outbox.is_none(), None);
    let moved = match transfer.step() {
        Ok(Step::Done(output)) => return Some(Some(Ok(output))),
        Err(error) => return Some(Some(Err(error))),
        Ok(Step::Write(slice)) => {
            let n = slice.len().min(plan.piece);
            let n = match outbox {
                Some((queue, room)) => {
                    let n = n.min(room - queue.len());
                    queue.extend(&slice[..n]);
                    n
                }
                None => n, // into the void
            };
            if n == 0 {
                return blocked;
            }
            has.digest = digest(has.digest, &slice[..n]);
            n
        }
        Ok(Step::Read(_)) if inbox.is_empty() && alone => {
            transfer.end();
            0
        }
        Ok(Step::Read(_)) if inbox.is_empty() => return blocked,
        Ok(Step::Read(slice)) => {
            let n = slice.len().min(plan.piece).min(inbox.len());
            slice[..n].copy_from_slice(&inbox[..n]);
            has.digest = digest(has.digest, &inbox[..n]);
            inbox.drain(..n);
            n
        }
    };
    transfer.advance(moved);
    has.moved += moved;
    match transfer.step() {
        Ok(Step::Done(output)) => Some(Some(Ok(output))),
        Err(error) => Some(Some(Err(error))),
        Ok(_) => Some(None),
    }
}

impl State {
    /// A new connection.
    fn new(plan: &Plan, wanted: usize) -> Self {
        Self {
            server: Server::new().mode(plan.mode),
            driver: Driver::new().initialize(plan.initialize),
            down: Vec::new(),
            up: Vec::new(),
            asker: Asker::Evaluates,
            worker: Worker::Receives,
            wanted,
            server_has: Partial::NOTHING,
            driver_has: Partial::NOTHING,
        }
    }

    fn copy(&self) -> Self {
        Self {
            server: copy(&self.server),
            driver: copy(&self.driver),
            down: self.down.clone(),
            up: self.up.clone(),
            ..*self
        }
    }

    /// What tells this state from others. That it is enough is checked: whenever a state is met again, it must go on
    /// as the first time.
    fn identity(&self) -> u128 {
        let mut text = Vec::new();
        self.describe(&mut text).expect("a Vec takes everything");
        let half = |salt: u64| u128::from(digest(salt, &text));
        half(0) << 64 | half(1)
    }

    fn describe(&self, text: &mut Vec<u8>) -> std::io::Result<()> {
        for bytes in [&self.down, &self.up] {
            write!(text, "{} ", bytes.len())?;
            text.extend(bytes);
        }
        write!(text, "{:?} {:?} {}", self.asker, self.worker, self.wanted)?;
        for has in [&self.server_has, &self.driver_has] {
            write!(text, " {} {}", has.moved, has.digest)?;
        }
        for machine in [&self.server as &dyn fmt::Debug, &self.driver] {
            // Bytes moved over all connections are no state, and come last.
            let from = text.len();
            write!(text, "{machine:?}")?;
            let traffic = text[from..].windows(9).rposition(|it| it == b", traffic");
            text.truncate(from + traffic.expect("the machine's traffic"));
        }
        write!(text, "{:?}", self.driver.replica())?;
        text.extend(self.driver.init_text());
        // What is not shown, in what it would do.
        let (cell, position) = question(self.wanted);
        let request = Request::new(&cell, std::slice::from_ref(&position));
        let (forces, extras) = (&mut [[0.0; 3]], &mut [0; 4]);
        look(copy(&self.server).status(), text);
        look(copy(&self.server).initialize(0, b""), text);
        look(copy(&self.server).send_positions(request), text);
        look(copy(&self.server).get_forces(forces, extras), text);
        look(copy(&self.server).exit(), text);
        let (cells, positions) = (&mut [cell; 2], &mut [[0.0; 3]; 2]);
        look(copy(&self.driver).receive_batch(cells, positions), text);
        look(copy(&self.driver).await_getforce(), text);
        let (evaluation, force, _) = truth(0);
        let structures = self.driver.structures();
        let (evaluations, forces) = ([evaluation; 2], [force; 2]);
        let reply = (&evaluations[..structures], &forces[..structures]);
        look(copy(&self.driver).reply_batch(reply.0, reply.1, &[]), text);
        Ok(())
    }

    /// What comes of a move: nothing if it can't be made, or the states that it may lead to.
    fn after(&self, plan: &Plan, which: Move) -> Option<(Vec<Self>, bool)> {
        let mut next = self.copy();
        let mut complete = false;
        match which {
            Move::Server | Move::Driver | Move::Computed => {
                let outcome = match which {
                    Move::Server => next.server_moves(plan),
                    Move::Driver => next.driver_moves(plan),
                    _ => next.computed(),
                };
                match outcome {
                    Outcome::Blocked => return None,
                    Outcome::Moved => {}
                    Outcome::Complete => complete = true,
                }
            }
            Move::Exit if plan.exits && self.asker == Asker::Evaluates => next.asker = Asker::Exits,
            Move::ServerLeaves if self.asker != Asker::Away => next.server_leaves(),
            Move::DriverLeaves if self.worker != Worker::Away => next.driver_leaves(),
            Move::Cut => {
                next.server_leaves();
                next.driver_leaves();
            }
            _ => return None,
        }
        if next.asker != Asker::Away || next.worker != Worker::Away {
            return Some((vec![next], complete));
        }
        // Both have left. A machine that was reset is as a new one, and whatever is wanted then is a new question.
        next.down.clear();
        next.up.clear();
        (next.asker, next.worker) = (Asker::Evaluates, Worker::Receives);
        let anew = [0, 1].map(|wanted| {
            let mut next = next.copy();
            next.wanted = wanted;
            assert_eq!(next.identity(), Self::new(plan, wanted).identity());
            next
        });
        Some((anew.into(), complete))
    }

    /// The server closes the connection or restarts; what it has sent may still arrive.
    fn server_leaves(&mut self) {
        self.server.reset();
        self.server_has = Partial::NOTHING;
        self.up.clear();
        self.asker = Asker::Away;
    }

    fn driver_leaves(&mut self) {
        self.driver.reset();
        self.driver_has = Partial::NOTHING;
        self.down.clear();
        self.worker = Worker::Away;
    }

    fn server_moves(&mut self, plan: &Plan) -> Outcome {
        let alone = self.worker == Worker::Away;
        let outbox = (!alone).then_some((&mut self.down, plan.room.0));
        let (cell, position) = question(self.wanted);
        let has = &mut self.server_has;
        let mut arrays = *has;
        let outcome = match self.asker {
            Asker::Away => return Outcome::Blocked,
            Asker::Exits => {
                let exit = self.server.exit();
                match carry(exit, plan, &mut self.up, outbox, has) {
                    None => return Outcome::Blocked,
                    Some(None) => None,
                    // Half a message has left: nothing can be said.
                    Some(Some(Ok(()) | Err(ProtocolError::InvalidStatus { .. }))) => {
                        self.server_leaves();
                        return Outcome::Moved;
                    }
                    Some(Some(Err(error))) => Some(Err(error)),
                }
            }
            Asker::Evaluates => {
                let request = Request::new(&cell, std::slice::from_ref(&position));
                let evaluate =
                    self.server
                        .evaluate(request, &mut arrays.atoms[..1], &mut arrays.extras[..2]);
                match carry(evaluate, plan, &mut self.up, outbox, has) {
                    None => return Outcome::Blocked,
                    Some(outcome) => outcome,
                }
            }
        };
        (has.atoms, has.extras) = (arrays.atoms, arrays.extras);
        match outcome {
            None => {
                if !self.server.status().midway() {
                    self.server_has = Partial::NOTHING;
                }
                Outcome::Moved
            }
            Some(Ok(answer)) => {
                let (evaluation, force, extras) = truth(self.wanted);
                assert_eq!(answer.energy.to_bits(), evaluation.energy.to_bits());
                assert_eq!(answer.virial, evaluation.virial);
                assert_eq!(has.atoms[0], force);
                assert_eq!(answer.extras(&has.extras), extras);
                self.server_has = Partial::NOTHING;
                self.wanted = 1 - self.wanted;
                Outcome::Complete
            }
            Some(Err(error)) => {
                let gone = matches!(
                    error,
                    ProtocolError::Unanswered(_) | ProtocolError::EndOfStream { .. }
                );
                assert!(alone && gone, "{error:?}");
                self.server_leaves();
                Outcome::Moved
            }
        }
    }

    fn driver_moves(&mut self, plan: &Plan) -> Outcome {
        let alone = self.asker == Asker::Away;
        let outbox = (!alone).then_some((&mut self.up, plan.room.1));
        let has = &mut self.driver_has;
        // What the driver was told, if it was; or why it can't go on.
        let told = match self.worker {
            Worker::Away => return Outcome::Blocked,
            Worker::Computes(_) => {
                let attend = self.driver.await_getforce();
                match carry(attend, plan, &mut self.down, outbox, has) {
                    None => return Outcome::Blocked,
                    // Asked for the forces: they come when they come.
                    Some(Some(Ok(None))) if has.moved == 0 => return Outcome::Blocked,
                    Some(Some(Ok(event))) => event.map(Ok),
                    Some(Some(Err(error))) => Some(Err(error)),
                    Some(None) => None,
                }
            }
            Worker::Replies(which) => {
                let (evaluation, force, extras) = truth(which);
                let structures = self.driver.structures();
                let (evaluations, forces, extras) = ([evaluation; 2], [force; 2], [extras; 2]);
                let reply = self.driver.reply_batch(
                    &evaluations[..structures],
                    &forces[..structures],
                    &extras[..structures],
                );
                match carry(reply, plan, &mut self.down, outbox, has) {
                    None => return Outcome::Blocked,
                    Some(Some(Ok(()))) => {
                        self.worker = Worker::Receives;
                        None
                    }
                    Some(Some(Err(error))) => Some(Err(error)),
                    Some(None) => None,
                }
            }
            Worker::Receives => {
                let mut arrays = *has;
                let receive = self
                    .driver
                    .receive_batch(&mut arrays.cells, &mut arrays.atoms);
                match carry(receive, plan, &mut self.down, outbox, has) {
                    None => return Outcome::Blocked,
                    Some(told) => {
                        (has.cells, has.atoms) = (arrays.cells, arrays.atoms);
                        told
                    }
                }
            }
        };
        match told {
            None | Some(Ok(Event::Init { replica: 0 })) => {}
            Some(Ok(Event::Positions {
                natoms: 1,
                structures,
                cell,
            })) => {
                let which = [0, 1].into_iter().find(|&it| question(it).0 == cell);
                let which = which.expect("the cell of one of the two");
                let (cells, atoms) = (&has.cells[..structures], &has.atoms[..structures]);
                assert!(cells.iter().all(|&it| it == cell), "{cells:?}");
                assert!(atoms.iter().all(|&it| it == question(which).1), "{atoms:?}");
                // Nothing of a connection before, and nothing that was computed already.
                assert!(alone || which == self.wanted);
                self.worker = Worker::Computes(which);
            }
            Some(Ok(Event::Exit | Event::Closed)) => {
                assert!(alone || self.asker == Asker::Exits);
                self.driver_leaves();
            }
            Some(Ok(event)) => panic!("{event:?}"),
            Some(Err(ProtocolError::EndOfStream { .. })) if alone => self.driver_leaves(),
            Some(Err(error)) => panic!("{error:?}"),
        }
        if !self.driver.await_getforce().midway() {
            self.driver_has = Partial::NOTHING;
        }
        Outcome::Moved
    }

    fn computed(&mut self) -> Outcome {
        match self.worker {
            Worker::Computes(which) => {
                self.worker = Worker::Replies(which);
                Outcome::Moved
            }
            _ => Outcome::Blocked,
        }
    }
}

/// One state's ways out: those that are sure to be taken, and those that may be.
#[derive(Default)]
struct Ways {
    /// Where to, and whether that completes an evaluation.
    sure: Vec<(usize, bool)>,
    perhaps: Vec<usize>,
}

/// Walks through every state. Of those that are met again, one in `check` must go on as the first time.
pub fn walk(plan: Plan, check: usize) -> Result<Found, Fault> {
    let mut known: HashMap<u128, usize> = HashMap::new();
    let mut ways: Vec<Ways> = Vec::new();
    let mut front = VecDeque::new();
    let mut found = Found::default();
    let mut met: Vec<(usize, State)> = Vec::new();
    for wanted in [0, 1] {
        let state = State::new(&plan, wanted);
        known.insert(state.identity(), wanted);
        ways.push(Ways::default());
        front.push_back((wanted, state));
    }
    while let Some((index, state)) = front.pop_front() {
        for which in MOVES {
            let Some((states, complete)) = state.after(&plan, which) else {
                continue;
            };
            for next in states {
                let new = known.len();
                let to = *known.entry(next.identity()).or_insert(new);
                found.moves += 1;
                match which {
                    Move::Server | Move::Driver | Move::Computed => {
                        ways[index].sure.push((to, complete));
                    }
                    _ => ways[index].perhaps.push(to),
                }
                if to == new {
                    ways.push(Ways::default());
                    front.push_back((to, next));
                } else if found.moves.is_multiple_of(check) {
                    met.push((to, next));
                }
            }
        }
        if ways[index].sure.is_empty() {
            let (down, up) = (state.down.escape_ascii(), state.up.escape_ascii());
            return Err(Fault::Deadlock(format!(
                "{:?} {:?} \"{down}\" \"{up}\"\n{:?}\n{:?}",
                state.asker, state.worker, state.server, state.driver
            )));
        }
        // Once the ways of those states are known.
        if met.len() > 1000 || front.is_empty() {
            met.retain(|(first, again)| {
                if ways[*first].sure.is_empty() {
                    return true;
                }
                assert!(goes_on_alike(&plan, &known, &ways[*first], again));
                found.met_again += 1;
                false
            });
        }
    }
    found.states = known.len();
    found.longest = longest(&ways).ok_or(Fault::Livelock)?;
    Ok(found)
}

/// Whether a state that was met again leads where it did the first time.
fn goes_on_alike(plan: &Plan, known: &HashMap<u128, usize>, ways: &Ways, again: &State) -> bool {
    let (mut sure, mut perhaps) = (ways.sure.iter(), ways.perhaps.iter());
    for which in MOVES {
        let Some((states, complete)) = again.after(plan, which) else {
            continue;
        };
        for next in states {
            let to = known.get(&next.identity());
            let same = match which {
                Move::Server | Move::Driver | Move::Computed => {
                    sure.next() == to.map(|&to| (to, complete)).as_ref()
                }
                _ => perhaps.next() == to,
            };
            if !same {
                return false;
            }
        }
    }
    sure.next().is_none() && perhaps.next().is_none()
}

/// The longest way to a complete evaluation on which nothing fails. None if some way goes round in circles: then it
/// may never be complete. No state is without a way, so if there is no circle, every way ends so.
fn longest(ways: &[Ways]) -> Option<usize> {
    /// Moves from here, at most; not known yet; being looked for.
    #[derive(Clone, Copy, PartialEq)]
    enum Length {
        Unknown,
        Open,
        Known(usize),
    }
    let mut lengths = vec![Length::Unknown; ways.len()];
    let mut path = Vec::new();
    for start in 0..ways.len() {
        path.push(start);
        while let Some(&at) = path.last() {
            if let Length::Known(_) = lengths[at] {
                path.pop();
                continue;
            }
            let mut most = Some(0);
            for &(to, complete) in &ways[at].sure {
                let length = if complete {
                    Length::Known(0)
                } else {
                    lengths[to]
                };
                match length {
                    Length::Known(length) => most = most.map(|most: usize| most.max(length + 1)),
                    Length::Open => return None,
                    Length::Unknown => {
                        path.push(to);
                        most = None;
                        break;
                    }
                }
            }
            lengths[at] = most.map_or(Length::Open, Length::Known);
        }
    }
    let lengths = lengths.iter().map(|length| match length {
        Length::Known(length) => *length,
        _ => 0,
    });
    lengths.max()
}
