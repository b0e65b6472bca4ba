//! A caller that drops an exchange and recreates it in another way.

use forcewire::{Cell, Header, ProtocolError};

use crate::numbers::{FIRST, NOT_FINITE, OTHER_CELL, OTHER_POSITION, SECOND, Untouched};
use crate::state::{Array, Asker, How, Outcome, ReplyChange, Scene, State, Worker};

/// The difference from the earlier exchange. Each is tried in every state in which it has a
/// meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// The same arrays at another address.
    ServerMoved,
    DriverMoved,
    /// An array without anything that the message has written, at the same address or another one.
    Other(Array),
    OtherMoved(Array),
    OtherAllOfServer,
    OtherAllOfDriver,
    /// The same array with one changed number, among those that the message has written.
    FirstChanged(Array),
    LastChanged(Array),
    /// An array that is too short by one.
    Short(Array),
    /// Arrays of single precision, and a sink or a source.
    ServerSingle,
    DriverSingle,
    Window,
    /// Another request, into the arrays that may hold the answer to the first one.
    OtherRequest,
    /// The same request with one changed number.
    ChangedRequest(usize),
    /// The same request with a NaN in it.
    NanRequest,
    /// Another kind of exchange.
    Asker(Asker),
    Receives,
    Awaits,
    /// A reply with other numbers, with NaN, or of another length.
    Reply(ReplyChange),
}

use Array::{Answers, Cells, Extras, Forces, Positions};

pub const AGAIN: [Again; 55] = [
    Again::ServerMoved,
    Again::Other(Answers),
    Again::Other(Forces),
    Again::Other(Extras),
    Again::OtherMoved(Answers),
    Again::OtherMoved(Forces),
    Again::OtherMoved(Extras),
    Again::OtherAllOfServer,
    Again::FirstChanged(Answers),
    Again::FirstChanged(Forces),
    Again::FirstChanged(Extras),
    Again::LastChanged(Answers),
    Again::LastChanged(Forces),
    Again::LastChanged(Extras),
    Again::Short(Answers),
    Again::Short(Forces),
    Again::Short(Extras),
    Again::ServerSingle,
    Again::OtherRequest,
    Again::ChangedRequest(OTHER_POSITION),
    Again::ChangedRequest(OTHER_CELL),
    Again::NanRequest,
    Again::Asker(Asker::Evaluates),
    Again::Asker(Asker::Asks),
    Again::Asker(Asker::Initializes),
    Again::Asker(Asker::Sends),
    Again::Asker(Asker::Takes),
    Again::Asker(Asker::Discards),
    Again::DriverMoved,
    Again::Other(Cells),
    Again::Other(Positions),
    Again::OtherMoved(Cells),
    Again::OtherMoved(Positions),
    Again::OtherAllOfDriver,
    Again::FirstChanged(Cells),
    Again::FirstChanged(Positions),
    Again::LastChanged(Cells),
    Again::LastChanged(Positions),
    Again::Short(Cells),
    Again::Short(Positions),
    Again::DriverSingle,
    Again::Window,
    Again::Receives,
    Again::Awaits,
    Again::Reply(ReplyChange::All),
    Again::Reply(ReplyChange::Energy),
    Again::Reply(ReplyChange::FirstForce),
    Again::Reply(ReplyChange::LastForce),
    Again::Reply(ReplyChange::Virial),
    Again::Reply(ReplyChange::Extras),
    Again::Reply(ReplyChange::NanEnergy),
    Again::Reply(ReplyChange::NanForce),
    Again::Reply(ReplyChange::NanVirial),
    Again::Reply(ReplyChange::OneForceTooFew),
    Again::Reply(ReplyChange::OneEvaluationTooFew),
];

/// The outcome of such a move.
pub enum Came {
    /// The move has no meaning in this state.
    Nothing,
    /// The exchange was refused, and the machine is unchanged.
    Refused,
    /// The exchange was accepted, with this possible outcome; and whether that completes an
    /// evaluation.
    Accepted(Box<State>, bool),
}

impl Again {
    fn is_servers(self) -> bool {
        match self {
            Self::Other(array)
            | Self::OtherMoved(array)
            | Self::FirstChanged(array)
            | Self::LastChanged(array)
            | Self::Short(array) => matches!(array, Answers | Forces | Extras),
            Self::ServerMoved
            | Self::OtherAllOfServer
            | Self::ServerSingle
            | Self::OtherRequest
            | Self::ChangedRequest(_)
            | Self::NanRequest
            | Self::Asker(_) => true,
            _ => false,
        }
    }

    /// Whether this change alters the contents of an array.
    fn alters(self) -> bool {
        matches!(
            self,
            Self::Other(_)
                | Self::OtherMoved(_)
                | Self::OtherAllOfServer
                | Self::OtherAllOfDriver
                | Self::FirstChanged(_)
                | Self::LastChanged(_)
        )
    }

    /// The kind of this move, for a table.
    pub fn kind(self) -> &'static str {
        match self {
            Self::ServerMoved | Self::DriverMoved => "the same array moved",
            Self::Other(_)
            | Self::OtherMoved(_)
            | Self::OtherAllOfServer
            | Self::OtherAllOfDriver => "another array",
            Self::FirstChanged(_) | Self::LastChanged(_) => "the same array, changed",
            Self::Short(_) => "a shorter array",
            Self::ServerSingle | Self::DriverSingle => "an array of another type",
            Self::Window => "a sink or a source",
            Self::OtherRequest => "another request",
            Self::ChangedRequest(_) => "the same request with other numbers",
            Self::NanRequest => "the same request with NaN",
            Self::Asker(_) | Self::Receives | Self::Awaits => "another kind of exchange",
            Self::Reply(change) if change.is_an_error() => "a reply with NaN or of another length",
            Self::Reply(_) => "another reply",
        }
    }
}

impl State {
    /// The outcome of a caller's move. A refused move has changed nothing.
    pub fn made_again(&self, scene: &Scene, again: Again) -> Came {
        let came = if again.is_servers() {
            self.server_again(scene, again)
        } else {
            self.driver_again(scene, again)
        };
        let Some((mut next, outcome)) = came else {
            return Came::Nothing;
        };
        match outcome {
            Outcome::Blocked | Outcome::Moved => {
                if again.alters() {
                    let altered = &mut next.altered;
                    *(if again.is_servers() {
                        &mut altered.0
                    } else {
                        &mut altered.1
                    }) = true;
                    next.forget_identity();
                }
                Came::Accepted(Box::new(next), false)
            }
            Outcome::Complete => Came::Accepted(Box::new(next), true),
            Outcome::Refused(error) => {
                self.check_refusal(again, error);
                // The caller has its own arrays again, and continues as before.
                (next.asker, next.worker, next.wanted) = (self.asker, self.worker, self.wanted);
                next.taken.clone_from(&self.taken);
                next.received.clone_from(&self.received);
                next.forget_identity();
                let same = if again.is_servers() {
                    next.server_side(scene) == self.server_side(scene)
                } else {
                    next.driver_side(scene) == self.driver_side(scene)
                };
                assert!(same, "{error:?}, and something has changed");
                assert_eq!((&next.down, &next.up), (&self.down, &self.up));
                Came::Refused
            }
        }
    }

    /// Whether a message has written to this array.
    fn is_touched(&self, scene: &Scene, array: Array) -> bool {
        let (received, taken) = &scene.usual;
        match array {
            Answers => self.taken.answers != taken.answers,
            Forces => self.taken.forces != taken.forces,
            Extras => self.taken.extras != taken.extras,
            Cells => self.received.cells != received.cells,
            Positions => self.received.positions != received.positions,
        }
    }

    /// Whether a move has a meaning here.
    fn means_something(&self, scene: &Scene, again: Again) -> bool {
        match again {
            Again::Other(array)
            | Again::OtherMoved(array)
            | Again::FirstChanged(array)
            | Again::LastChanged(array) => {
                !self.is_altered(scene, again.is_servers()) && self.is_touched(scene, array)
            }
            Again::OtherAllOfServer => !self.is_altered(scene, true),
            Again::OtherAllOfDriver => !self.is_altered(scene, false),
            Again::Reply(_) => matches!(self.worker, Worker::Replies(_)),
            _ => true,
        }
    }

    fn server_again(&self, scene: &Scene, again: Again) -> Option<(Self, Outcome)> {
        if matches!(self.asker, Asker::Away | Asker::Exits) {
            return None;
        }
        if !self.means_something(scene, again) {
            return None;
        }
        let has_arrays = matches!(self.asker, Asker::Evaluates | Asker::Takes);
        let has_request = matches!(self.asker, Asker::Evaluates | Asker::Sends);
        let (other, usual) = (&scene.other.1, &scene.usual.1);
        let mut next = self.copy();
        let mut how = How::default();
        // True for a move that was made only to see its outcome.
        let mut undo = false;
        let mut touched = false;
        match again {
            Again::ServerMoved => {
                how.desk = 1;
                let outcome = next.server_moves(scene, how);
                let mut usual = self.copy();
                let _ = usual.server_moves(scene, How::default());
                let same = next.identity(scene) == usual.identity(scene);
                assert!(same, "an array that has moved makes a difference");
                return Some((next, outcome));
            }
            Again::Other(array) | Again::OtherMoved(array) if has_arrays => {
                how.desk = usize::from(matches!(again, Again::OtherMoved(_)));
                touched = match array {
                    Answers => replace(&mut next.taken.answers, &other.answers, &usual.answers),
                    Forces => replace(&mut next.taken.forces, &other.forces, &usual.forces),
                    _ => replace(&mut next.taken.extras, &other.extras, &usual.extras),
                };
            }
            Again::OtherAllOfServer if has_arrays => {
                how.desk = 1;
                let taken = &mut next.taken;
                touched = replace(&mut taken.answers, &other.answers, &usual.answers);
                touched |= replace(&mut taken.forces, &other.forces, &usual.forces);
                touched |= replace(&mut taken.extras, &other.extras, &usual.extras);
            }
            Again::FirstChanged(array) | Again::LastChanged(array) if has_arrays => {
                let last = matches!(again, Again::LastChanged(_));
                let taken = &mut next.taken;
                touched = match array {
                    Answers => {
                        let numbers = taken.answers.iter_mut().flat_map(|it| {
                            [&mut it.evaluation.energy]
                                .into_iter()
                                .chain(it.evaluation.virial.0.as_flattened_mut())
                        });
                        change(numbers, last)
                    }
                    Forces => change(taken.forces.as_flattened_mut().iter_mut(), last),
                    _ => {
                        let mut bytes = taken.extras.iter_mut().filter(|it| **it != b'#');
                        let byte = if last {
                            bytes.next_back()
                        } else {
                            bytes.next()
                        };
                        byte.map(|it| *it ^= 1).is_some()
                    }
                };
            }
            Again::Short(array) if has_arrays => {
                // Extras without room are dropped, and a single answer needs no array. Both are
                // right, but not what the walk tests.
                how.looks = array != Forces;
                how.short = Some(array);
                (undo, touched) = (true, true);
            }
            Again::ServerSingle if has_arrays || has_request => {
                how.single = true;
                (undo, touched) = (true, true);
            }
            Again::OtherRequest if has_request => {
                next.wanted = if self.wanted == FIRST { SECOND } else { FIRST };
                touched = true;
            }
            Again::ChangedRequest(which) if has_request && self.wanted == FIRST => {
                next.wanted = which;
                let outcome = next.server_moves(scene, how);
                let both = next.asker != Asker::Away && next.worker != Worker::Away;
                if both && next.begun.is_some() && !matches!(outcome, Outcome::Refused(_)) {
                    // The begun message belongs to this request, or no part of it is used as an
                    // answer.
                    next.copy().runs_out(scene);
                }
                if next.begun == Some(which) {
                    // The walk does not continue with these numbers.
                    return Some((self.copy(), Outcome::Blocked));
                }
                next.wanted = self.wanted;
                next.forget_identity();
                return Some((next, outcome));
            }
            Again::NanRequest if has_request && self.wanted == FIRST => {
                next.wanted = NOT_FINITE;
                (undo, touched) = (true, true);
            }
            Again::Asker(asker) if asker != self.asker => {
                next.asker = asker;
                if asker == Asker::Discards {
                    // For an evaluation other than the owed one.
                    let not = self.begun.unwrap_or(self.wanted);
                    let other = if not == FIRST { SECOND } else { FIRST };
                    // The rest of INIT belongs to the evaluation that began it.
                    let mut evaluates = self.copy();
                    (evaluates.asker, evaluates.wanted) = (Asker::Evaluates, other);
                    let looks = How {
                        looks: true,
                        ..How::default()
                    };
                    match evaluates.server_moves(scene, looks) {
                        Outcome::Refused(ProtocolError::Unfinished(Header::Init)) => {}
                        _ => next.wanted = other,
                    }
                    next.taken.clone_from(usual);
                }
                touched = true;
            }
            _ => {}
        }
        if !touched {
            return None;
        }
        let outcome = next.server_moves(scene, how);
        assert_ne!(next.begun, Some(NOT_FINITE), "NaN has left");
        if matches!(outcome, Outcome::Blocked | Outcome::Moved) && !next.is_midway() {
            // The accepted arrays hold no part of an answer. Nothing is owed to another request.
            if has_arrays && next.asker == self.asker {
                next.taken.clone_from(usual);
            }
            if again == Again::OtherRequest && next.begun == self.begun {
                next.begun = None;
            }
        }
        if undo && !matches!(outcome, Outcome::Complete) {
            next.wanted = self.wanted;
            next.forget_identity();
        }
        Some((next, outcome))
    }

    fn driver_again(&self, scene: &Scene, again: Again) -> Option<(Self, Outcome)> {
        if self.worker == Worker::Away {
            return None;
        }
        if !self.means_something(scene, again) {
            return None;
        }
        let receives = self.worker == Worker::Receives;
        let replies = matches!(self.worker, Worker::Replies(_));
        let (other, usual) = (&scene.other.0, &scene.usual.0);
        let mut next = self.copy();
        let mut how = How::default();
        let mut touched = false;
        match again {
            Again::DriverMoved => {
                how.desk = 1;
                let outcome = next.driver_moves(scene, how);
                let mut usual = self.copy();
                let _ = usual.driver_moves(scene, How::default());
                let same = next.identity(scene) == usual.identity(scene);
                assert!(same, "an array that has moved makes a difference");
                return Some((next, outcome));
            }
            Again::Other(array) | Again::OtherMoved(array) if receives => {
                how.desk = usize::from(matches!(again, Again::OtherMoved(_)));
                touched = match array {
                    Cells => replace(&mut next.received.cells, &other.cells, &usual.cells),
                    _ => replace(
                        &mut next.received.positions,
                        &other.positions,
                        &usual.positions,
                    ),
                };
            }
            Again::OtherAllOfDriver if receives => {
                how.desk = 1;
                let received = &mut next.received;
                touched = replace(&mut received.cells, &other.cells, &usual.cells);
                touched |= replace(&mut received.positions, &other.positions, &usual.positions);
            }
            Again::FirstChanged(array) | Again::LastChanged(array) if receives => {
                let last = matches!(again, Again::LastChanged(_));
                let received = &mut next.received;
                touched = match array {
                    Cells => {
                        let mut rows: Vec<_> = received.cells.iter().map(|it| *it.h()).collect();
                        let numbers = rows.as_flattened_mut().as_flattened_mut();
                        let touched = change(numbers.iter_mut(), last);
                        received.cells = rows.into_iter().map(Cell::from_rows).collect();
                        touched
                    }
                    _ => change(received.positions.as_flattened_mut().iter_mut(), last),
                };
            }
            Again::Short(array) if receives => {
                how.short = Some(array);
                touched = true;
            }
            Again::DriverSingle if receives || replies => {
                how.single = true;
                touched = true;
            }
            Again::Window if receives || replies => {
                how.windows = true;
                touched = true;
            }
            Again::Receives if !receives => {
                next.worker = Worker::Receives;
                touched = true;
            }
            Again::Awaits if !matches!(self.worker, Worker::Computes(_)) => {
                // A caller that has not received the event may see that positions are there, but
                // not the cell of a single structure.
                let which = match self.worker {
                    Worker::Replies(which) => Some(which),
                    _ => [FIRST, SECOND].into_iter().find(|&which| {
                        let positions = &scene.book.questions[which].positions;
                        self.received.positions.starts_with(positions)
                    }),
                };
                next.worker = Worker::Computes(which.unwrap_or(FIRST));
                let outcome = next.driver_moves(scene, how);
                let refused = matches!(outcome, Outcome::Refused(_));
                if let Worker::Computes(_) = next.worker {
                    assert!(refused || which.is_some(), "there is nothing to compute");
                    next.received.clone_from(usual);
                }
                return Some((next, outcome));
            }
            Again::Reply(change) if replies => {
                how.reply = Some(change);
                touched = true;
            }
            _ => {}
        }
        if !touched {
            return None;
        }
        let outcome = next.driver_moves(scene, how);
        if let (Again::Reply(_), Outcome::Moved) = (again, &outcome) {
            // The exchange has ended because the server has ended the conversation.
            return None;
        }
        if let (Again::Reply(change), Outcome::Blocked) = (again, &outcome) {
            assert!(!change.is_an_error(), "{change:?} was accepted");
        }
        Some((next, outcome))
    }

    /// Continues until an evaluation is complete.
    fn runs_out(&mut self, scene: &Scene) {
        for _ in 0..20_000 {
            let outcomes = [
                self.server_moves(scene, How::default()),
                self.driver_moves(scene, How::default()),
                self.computed(),
            ];
            for outcome in outcomes {
                match outcome {
                    Outcome::Complete => return,
                    Outcome::Refused(error) => panic!("{error:?}"),
                    _ => {}
                }
            }
        }
        panic!("no end");
    }

    /// Checks that such an exchange may be refused for this reason.
    fn check_refusal(&self, again: Again, error: ProtocolError) {
        use ProtocolError::{
            AnswerDue, InvalidStatus, NotFinite, NothingToReplyTo, ReplyDue, TooManyAtoms,
            TooManyStructures, Unfinished, WrongLength,
        };

        let unfinished = matches!(error, Unfinished(_));
        let request = unfinished || error == AnswerDue;
        let of_a_turn = request || matches!(error, InvalidStatus { .. });
        let expected = match again {
            Again::ServerMoved | Again::DriverMoved => false,
            Again::Other(_)
            | Again::OtherMoved(_)
            | Again::OtherAllOfServer
            | Again::OtherAllOfDriver
            | Again::FirstChanged(_)
            | Again::LastChanged(_) => unfinished,
            Again::Short(Cells | Positions) => {
                unfinished || matches!(error, TooManyAtoms { .. } | TooManyStructures { .. })
            }
            Again::Short(_) => unfinished || matches!(error, WrongLength { .. }),
            Again::ServerSingle => request,
            Again::DriverSingle | Again::Window => unfinished || error == NothingToReplyTo,
            Again::OtherRequest | Again::ChangedRequest(_) => request,
            Again::NanRequest => request || matches!(error, NotFinite(_)),
            Again::Asker(Asker::Discards) => unfinished,
            Again::Asker(_) => of_a_turn,
            Again::Receives => error == ReplyDue,
            Again::Awaits => error == NothingToReplyTo,
            Again::Reply(change) => {
                let own = match error {
                    NotFinite(_) | WrongLength { .. } => change.is_an_error(),
                    _ => false,
                };
                own || error == Unfinished(Header::ForceReady) || error == NothingToReplyTo
            }
        };
        assert!(expected, "{error:?}");
        // Between two messages, if nothing is owed, any exchange may follow. But INIT sent by
        // `evaluate` does not count as that of `initialize`, nor as INIT of another request.
        let init = error == Unfinished(Header::Init);
        if again.is_servers() && request && !init {
            let begun = self.begun.is_some() || self.is_midway();
            assert!(begun, "{error:?} when nothing has begun");
        }
    }
}

/// Replaces the contents of an array. Returns whether a message had written to it.
fn replace<T: PartialEq + Clone>(array: &mut Vec<T>, other: &[T], untouched: &[T]) -> bool {
    let touched = array.as_slice() != untouched;
    if touched {
        *array = other.to_vec();
    }
    touched
}

/// Changes the lowest bit of the first or last number that a message has written. Returns whether
/// there is one.
fn change<'a>(numbers: impl DoubleEndedIterator<Item = &'a mut f64>, last: bool) -> bool {
    let untouched = Untouched::Usual.number();
    let mut touched = numbers.filter(|it| **it != untouched && **it != 0.0);
    let number = if last {
        touched.next_back()
    } else {
        touched.next()
    };
    number
        .map(|it| *it = f64::from_bits(it.to_bits() ^ 1))
        .is_some()
}
