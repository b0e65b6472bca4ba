//! Walks through every combined state of a server and its driver.
//!
//! The walk uses the real machines, a queue of a few bytes in each direction, and between any two
//! bytes anything that can happen to a connection: either side closes it and its last bytes arrive
//! or not, all bytes in transit are lost, EXIT. The remaining side notices the end, or reads the
//! bytes that were still on their way. Then both connect again, for the same evaluation or another
//! one.
//!
//! No exchange is ever kept: each moves one piece, is dropped, and is recreated. In every state its
//! caller also recreates it in other ways ([`Again`]):
//!
//! - with another array, at the same address or another one, with a shorter one, one of another
//!   type, a sink or a source; with the same array after a number has changed; with the same
//!   contents at another address
//! - with another request, or the same request with one number changed or NaN
//! - with another reply, or the same one with one number changed or NaN, or of another length
//! - as another kind of exchange: `status`, `initialize`, `send_positions`, `get_forces`,
//!   `evaluate`, `discard`, `exit`; `receive` instead of a reply, `await_getforce` instead of
//!   either
//! - after a reset of both sides
//!
//! Such a move may be refused with an error that is expected there; then both machines and both
//! queues are unchanged. Otherwise it leads to a state that is walked through like any other. No
//! number occurs twice in all evaluations, so an answer or positions with a single foreign number
//! are detected when they arrive.
//!
//! The walk is breadth-first and ends when no new states are found. Then it has found all states,
//! and checks that each has a way out.
//!
//! The walk does not run exchanges with a sink, a source (`tests/fuzz` and `tests/cancellation.rs`
//! do) or arrays of single precision to their end. It does not drain a driver (`tests/drain.rs`),
//! change the configuration, fold, change the number of atoms, or make a call while an exchange is
//! alive.

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
    /// The number of atoms in each structure.
    pub natoms: usize,
    /// Whether the server may send EXIT at any time, instead of only closing the connection.
    pub exits: bool,
    /// Whether callers recreate exchanges in other ways.
    pub again: bool,
    /// How many bytes can be in transit to the driver, and to the server.
    pub room: (usize, usize),
    /// The most bytes that move at once.
    pub piece: usize,
}

impl Plan {
    /// Whether several structures travel together.
    pub fn batches(&self) -> bool {
        matches!(self.mode, Mode::Batched(_)) && self.initialize != Initialize::Never
    }
}

/// The findings of a walk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub states: usize,
    pub moves: usize,
    /// How many ways led to a known state, all of which continued as the first had.
    pub met_again: usize,
    /// The most moves until an evaluation is complete once nothing fails any more.
    pub longest: usize,
    /// Exchanges that were recreated, by kind: accepted, and refused.
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

    /// The total number of exchanges that were recreated.
    pub fn made_again(&self) -> usize {
        self.again.values().map(|it| it.0 + it.1).sum()
    }

    /// A table of the kinds of exchanges that were recreated.
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
    /// Neither side can move.
    Deadlock(String),
    /// Moves that never lead to an evaluation.
    Livelock,
    /// An error in this move, after this many states: the way to it, and the error.
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
                // The moves that every program makes are only counted.
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

/// A move. The first three happen sooner or later; the others may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    Server,
    Driver,
    Computed,
    Exit,
    ServerLeaves,
    DriverLeaves,
    /// The connection is lost with all bytes in transit.
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
    /// The move is impossible.
    Nothing,
    /// The move was refused and has changed nothing.
    Refused,
    /// The states to which it may lead, and whether that completes an evaluation.
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
                // The old request no longer matters.
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
        // Both sides have closed the connection. A machine that was reset is like a new one, and
        // its next request is a new one.
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

    /// Checks that machines that were reset start again, with the arrays that contain half a
    /// message.
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

/// The ways out of a state: those that are certain to be taken, and those that may be.
#[derive(Default)]
struct Ways {
    /// The target, and whether the way completes an evaluation.
    sure: Vec<(usize, bool)>,
    perhaps: Vec<usize>,
}

/// The states found so far.
struct Walk {
    scene: Scene,
    known: HashMap<u128, usize>,
    ways: Vec<Ways>,
    /// The state and the move from which each state was found.
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

    /// Whether a state that was reached again continues as it did the first time.
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

/// Walks through every state. Of the states that are reached again, one in `check` must continue as
/// it did the first time.
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
        // Check them once the ways of those states are known.
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

/// The longest way without a fault to a complete evaluation. None if some way is a cycle: then it
/// may never complete. Each state has a next one, so without a cycle every way ends with an
/// evaluation.
fn longest(ways: &[Ways]) -> Option<usize> {
    /// The most moves from here, if known; unknown; or being computed.
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
