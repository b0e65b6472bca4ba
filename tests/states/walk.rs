//! Every state that a server and its driver can be in together.
//!
//! The real machines, a queue of a few bytes in each direction, and between any two bytes anything
//! that can happen to a connection: either side leaves, its last bytes arrive or not, everything in
//! flight is lost, EXIT. The side that remains notices the end, or reads what was still on its way;
//! then both connect anew, for the same evaluation or another one.
//!
//! No exchange is ever kept: each moves one piece, is dropped, and is made anew. And in every state
//! its caller makes it in another way ([`Again`]):
//!
//! - with another array, at the same address or another one, with a shorter one, one of another
//!   type, a sink or a source; with the same array in which a number has changed; with the same one
//!   at another address
//! - with another request, or the same request in which one number has changed or is NaN
//! - with another reply, or the same one in which one number has changed or is NaN, or of another
//!   length
//! - as another kind of exchange: `status`, `initialize`, `send_positions`, `get_forces`,
//!   `evaluate`, `discard`, `exit`; `receive` instead of a reply, `await_getforce` instead of
//!   either
//! - after a reset of both sides
//!
//! Such a move is either refused, with an error that is expected there, and then both machines and
//! both queues are as they were; or it leads to a state that is walked through as any other. No
//! number occurs twice in all evaluations, so an answer, or positions, with a single number of
//! anything else are found when they arrive.
//!
//! The walk is breadth-first and ends when nothing new is found. Then it has found all states, and
//! each is asked for its way out.
//!
//! What it does not do: run an exchange with a sink or a source (`tests/fuzz` does, and
//! `tests/cancellation.rs`), or one with arrays of single precision, to its end; drain a driver
//! (`tests/drain.rs`); change configuration, folding or the number of atoms; call anything while an
//! exchange is alive.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::again::{AGAIN, Again, Came};
use crate::numbers::{FIRST, SECOND};
use crate::state::{Asker, How, Outcome, Scene, State, Worker};
use forcewire::{Initialize, Mode};

/// The configuration of a walk.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub mode: Mode,
    pub initialize: Initialize,
    /// Atoms of each structure.
    pub natoms: usize,
    /// The server may send EXIT at any time, not only close the connection.
    pub exits: bool,
    /// Callers make exchanges again in other ways.
    pub again: bool,
    /// Bytes that can be on their way to the driver, and to the server.
    pub room: (usize, usize),
    /// Bytes that move at once, at most.
    pub piece: usize,
}

impl Plan {
    /// Whether several structures travel together.
    pub fn batches(&self) -> bool {
        matches!(self.mode, Mode::Batched(_)) && self.initialize != Initialize::Never
    }
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub states: usize,
    pub moves: usize,
    /// Ways to a state that was known already, all of which went on as the first had.
    pub met_again: usize,
    /// Moves until an evaluation is complete once nothing fails any more, at most.
    pub longest: usize,
    /// Exchanges that were made again, by kind: accepted, and refused.
    pub again: BTreeMap<&'static str, (usize, usize)>,
}

impl Found {
    pub fn add(&mut self, other: Self) {
        self.states += other.states;
        self.moves += other.moves;
        self.met_again += other.met_again;
        self.longest = self.longest.max(other.longest);
        for (kind, (accepted, refused)) in other.again {
            let sum = self.again.entry(kind).or_default();
            *sum = (sum.0 + accepted, sum.1 + refused);
        }
    }

    /// Exchanges that were made again, in all.
    pub fn made_again(&self) -> usize {
        self.again.values().map(|it| it.0 + it.1).sum()
    }

    /// A table of the kinds of exchanges that were made again.
    pub fn kinds(&self) -> String {
        let mut table = format!("{:>10} {:>10}  made again with\n", "accepted", "refused");
        for (kind, (accepted, refused)) in &self.again {
            table += &format!("{accepted:10} {refused:10}  {kind}\n");
        }
        table
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:8} states, {:9} moves between them, {:9} exchanges made again, {:4} at most to an evaluation",
            self.states,
            self.moves,
            self.made_again(),
            self.longest
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
    /// Something was wrong in this move, after this many states: what led to it, and what was
    /// wrong.
    Wrong {
        states: usize,
        path: Vec<Move>,
        what: String,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deadlock(state) => write!(f, "nobody can move: {state}"),
            Self::Livelock => write!(f, "moves that lead nowhere"),
            Self::Wrong { states, path, what } => {
                // The moves that every program makes are counted only.
                write!(f, "fault after {states} states")?;
                let mut usual = 0;
                for &which in path {
                    match which {
                        Move::Server | Move::Driver | Move::Computed => usual += 1,
                        Move::Again(again) => write!(f, ", {usual} moves, {again:?}")?,
                        other => write!(f, ", {usual} moves, {other:?}")?,
                    }
                    if !matches!(which, Move::Server | Move::Driver | Move::Computed) {
                        usual = 0;
                    }
                }
                let what = what.lines().next().unwrap_or_default();
                write!(f, ", {usual} moves: {what}")
            }
        }
    }
}

/// The next move. The first three do, sooner or later; the others may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    Server,
    Driver,
    Computed,
    Exit,
    ServerLeaves,
    DriverLeaves,
    /// The connection is lost and everything in flight with it.
    Cut,
    Again(Again),
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

/// All moves of a plan.
fn moves(plan: &Plan) -> impl Iterator<Item = Move> {
    let again = AGAIN.into_iter().filter(|_| plan.again).map(Move::Again);
    MOVES.into_iter().chain(again)
}

/// The outcome of a move.
enum After {
    /// It can't be made.
    Nothing,
    /// It was refused and has changed nothing.
    Refused,
    /// The states that it may lead to, and whether that completes an evaluation.
    States(Vec<State>, bool),
}

impl State {
    /// The outcome of a move.
    fn after(&self, scene: &Scene, which: Move) -> After {
        let mut next = self.copy();
        let mut complete = false;
        match which {
            Move::Server | Move::Driver | Move::Computed => {
                let outcome = match which {
                    Move::Server => next.server_moves(scene, How::default()),
                    Move::Driver => next.driver_moves(scene, How::default()),
                    _ => next.computed(),
                };
                match outcome {
                    Outcome::Blocked => return After::Nothing,
                    Outcome::Moved => {}
                    Outcome::Complete => complete = true,
                    Outcome::Refused(error) => panic!("{error:?}"),
                }
            }
            Move::Exit if scene.plan.exits && !matches!(self.asker, Asker::Exits | Asker::Away) => {
                // The old request does not matter any more.
                (next.asker, next.wanted) = (Asker::Exits, FIRST);
                next.taken.clone_from(&scene.usual.1);
                next.forget_identity();
            }
            Move::ServerLeaves if self.asker != Asker::Away => next.server_leaves(scene),
            Move::DriverLeaves if self.worker != Worker::Away => next.driver_leaves(scene),
            Move::Cut => {
                next.server_leaves(scene);
                next.driver_leaves(scene);
                self.begins_anew(&next, scene);
            }
            Move::Again(again) => match self.made_again(scene, again) {
                Came::Nothing => return After::Nothing,
                Came::Refused => return After::Refused,
                Came::Accepted(state, completes) => (next, complete) = (*state, completes),
            },
            _ => return After::Nothing,
        }
        if next.asker != Asker::Away || next.worker != Worker::Away {
            return After::States(vec![next], complete);
        }
        // Both have left. A machine that was reset is as a new one, and whatever is wanted then is
        // a new question.
        next.down.clear();
        next.up.clear();
        (next.asker, next.worker) = (Asker::Evaluates, Worker::Receives);
        next.forget_identity();
        let anew = [FIRST, SECOND].map(|wanted| {
            let mut next = next.copy();
            next.wanted = wanted;
            next.forget_identity();
            let new = State::new(scene, wanted);
            assert_eq!(next.identity(scene), new.identity(scene), "a reset");
            next
        });
        After::States(anew.into(), complete)
    }

    /// Whether machines that were reset begin anew with the arrays in which half a message is.
    fn begins_anew(&self, reset: &Self, scene: &Scene) {
        let here = (self.received.clone(), self.taken.clone());
        for (received, taken) in [&here, &scene.other] {
            let mut reset = reset.copy();
            let mut new = State::new(scene, FIRST);
            for state in [&mut reset, &mut new] {
                (state.asker, state.worker) = (Asker::Evaluates, Worker::Receives);
                state.wanted = self.wanted;
                state.received.clone_from(received);
                state.taken.clone_from(taken);
                state.driver_moves(scene, How::default());
                state.server_moves(scene, How::default());
            }
            let same = reset.identity(scene) == new.identity(scene);
            assert!(same, "a reset with arrays of before");
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

/// The states found so far.
struct Walk {
    scene: Scene,
    known: HashMap<u128, usize>,
    ways: Vec<Ways>,
    /// From which state and by which move each was found.
    came: Vec<Option<(usize, Move)>>,
}

impl Walk {
    /// The outcome of a move, or its fault.
    fn after(&self, index: usize, state: &State, which: Move) -> Result<After, Fault> {
        catch_unwind(AssertUnwindSafe(|| state.after(&self.scene, which))).map_err(|panic| {
            let what = match panic.downcast::<String>() {
                Ok(text) => *text,
                Err(panic) => panic
                    .downcast::<&str>()
                    .map_or_else(|_| "?".into(), |it| (*it).into()),
            };
            let mut path = vec![which];
            let mut at = index;
            while let Some((before, which)) = self.came[at] {
                path.push(which);
                at = before;
            }
            path.reverse();
            let states = self.known.len();
            Fault::Wrong { states, path, what }
        })
    }

    /// Whether a state that was met again leads where it did the first time.
    fn goes_on_alike(&self, first: usize, again: &State) -> Result<bool, Fault> {
        let ways = &self.ways[first];
        let (mut sure, mut perhaps) = (ways.sure.iter(), ways.perhaps.iter());
        for which in moves(&self.scene.plan) {
            let After::States(states, complete) = self.after(first, again, which)? else {
                continue;
            };
            for next in states {
                let to = self.known.get(&next.identity(&self.scene));
                let same = match which {
                    Move::Server | Move::Driver | Move::Computed => {
                        sure.next() == to.map(|&to| (to, complete)).as_ref()
                    }
                    _ => perhaps.next() == to,
                };
                if !same {
                    return Ok(false);
                }
            }
        }
        Ok(sure.next().is_none() && perhaps.next().is_none())
    }
}

/// Walks through every state. Of those that are met again, one in `check` must go on as the first
/// time.
pub fn walk(plan: Plan, check: usize) -> Result<Found, Fault> {
    let mut walk = Walk {
        scene: Scene::new(plan),
        known: HashMap::new(),
        ways: Vec::new(),
        came: Vec::new(),
    };
    let mut front = VecDeque::new();
    let mut found = Found::default();
    let mut met: Vec<(usize, State)> = Vec::new();
    for wanted in [FIRST, SECOND] {
        let state = State::new(&walk.scene, wanted);
        walk.known.insert(state.identity(&walk.scene), wanted);
        walk.ways.push(Ways::default());
        walk.came.push(None);
        front.push_back((wanted, state));
    }
    while let Some((index, state)) = front.pop_front() {
        for which in moves(&plan) {
            let after = walk.after(index, &state, which)?;
            if let Move::Again(again) = which {
                let count = found.again.entry(again.kind()).or_default();
                match after {
                    After::Nothing => {}
                    After::Refused => count.1 += 1,
                    After::States(..) => count.0 += 1,
                }
            }
            let After::States(states, complete) = after else {
                continue;
            };
            for next in states {
                let new = walk.known.len();
                let to = *walk.known.entry(next.identity(&walk.scene)).or_insert(new);
                found.moves += 1;
                match which {
                    Move::Server | Move::Driver | Move::Computed => {
                        walk.ways[index].sure.push((to, complete));
                    }
                    _ => walk.ways[index].perhaps.push(to),
                }
                if to == new {
                    walk.ways.push(Ways::default());
                    walk.came.push(Some((index, which)));
                    front.push_back((to, next));
                } else if found.moves.is_multiple_of(check) {
                    met.push((to, next));
                }
            }
        }
        if walk.ways[index].sure.is_empty() {
            let (down, up) = (state.down.escape_ascii(), state.up.escape_ascii());
            return Err(Fault::Deadlock(format!(
                "{:?} {:?} \"{down}\" \"{up}\"\n{:?}\n{:?}",
                state.asker, state.worker, state.server, state.driver
            )));
        }
        // Once the ways of those states are known.
        if met.len() > 1000 || front.is_empty() {
            let mut later = Vec::new();
            for (first, again) in met.drain(..) {
                if walk.ways[first].sure.is_empty() {
                    later.push((first, again));
                    continue;
                }
                assert!(
                    walk.goes_on_alike(first, &again)?,
                    "{plan:?}: two states are one"
                );
                found.met_again += 1;
            }
            met = later;
        }
    }
    found.states = walk.known.len();
    found.longest = longest(&walk.ways).ok_or(Fault::Livelock)?;
    Ok(found)
}

/// The longest way to a complete evaluation on which nothing fails. None if some way goes round in
/// circles: then it may never be complete. Each state has a next one, so without a circle every way
/// ends with an evaluation.
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
