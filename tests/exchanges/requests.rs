//! A server's exchanges, stopped at every byte of a conversation.
//!
//! The driver's answer depends on every number that it received, so a right answer comes from a
//! single request.

use forcewire::{
    Awaited, Cell, Exchange, Header, Mode, ProtocolError, Quantity, Request, Server, Status,
};

use crate::number::{Number, blank, converted, for_both_types, numbers};
use crate::peer::{Peer, computes};
use forcewire_support::Answer;

/// A conversation: the server's mode, whether the driver asks for INIT, the number of structures
/// and atoms, the length of INIT's text.
#[derive(Clone, Copy, Debug)]
struct Case {
    mode: Mode,
    initialize: bool,
    structures: usize,
    natoms: usize,
    text: usize,
}

const fn case(mode: Mode, initialize: bool, natoms: usize) -> Case {
    Case {
        mode,
        initialize,
        structures: 1,
        natoms,
        text: 5,
    }
}

/// Few atoms are sent in one piece, more than 25 from their array, and more than 32 in two pieces.
const CASES: [Case; 8] = [
    case(Mode::Classic, false, 3),
    case(Mode::Classic, true, 26),
    case(Mode::Consolidated, false, 34),
    case(Mode::Strict, false, 26),
    case(Mode::Strict, true, 3),
    // A text that does not fit into one piece.
    Case {
        text: 770,
        ..case(Mode::Consolidated, true, 3)
    },
    Case {
        structures: 2,
        ..case(Mode::Batched(2), true, 13)
    },
    // One structure, and a copy of it.
    case(Mode::Batched(2), true, 3),
];

/// The arrays of a request.
#[derive(Clone, Debug, PartialEq)]
struct Asked<T> {
    replica: i32,
    text: Vec<u8>,
    cells: Vec<Cell>,
    positions: Vec<[T; 3]>,
}

impl<T: Number> Asked<T> {
    /// Request number `which`: it shares no number with another.
    fn new(case: Case, which: usize) -> Self {
        let cell = |i: usize| {
            let x = (100 * which + 10 * i) as f64;
            Cell::from_rows([
                [20.0 + x, 1.0, 2.0],
                [0.0, 21.0 + x, 3.0],
                [0.0, 0.0, 22.0 + x],
            ])
        };
        Self {
            replica: 7,
            text: vec![b'k'; case.text],
            cells: (0..case.structures).map(cell).collect(),
            positions: numbers(1000 * which, case.structures * case.natoms),
        }
    }

    fn request(&self) -> Request<'_, T> {
        Request::batch(&self.cells, &self.positions)
            .replica(self.replica)
            .init(&self.text)
    }

    /// The driver's answers.
    fn truth(&self, case: Case) -> Vec<Answer> {
        let replica = if case.initialize { 7 } else { 0 };
        let natoms = self.positions.len() / self.cells.len();
        let positions = converted::<T, f64>(&self.positions);
        let each = self.cells.iter().zip(positions.chunks(natoms));
        each.map(|(cell, positions)| {
            let h = cell.h().as_flattened().try_into().expect("nine numbers");
            computes(replica, &h, positions)
        })
        .collect()
    }
}

/// The arrays of an answer.
#[derive(Clone, Debug, PartialEq)]
struct Arrays<T> {
    answers: Vec<forcewire::Answer>,
    forces: Vec<[T; 3]>,
    extras: Vec<u8>,
}

impl<T: Number> Arrays<T> {
    fn new(case: Case) -> Self {
        Self {
            answers: vec![forcewire::Answer::default(); if case.structures > 1 { 2 } else { 0 }],
            forces: blank(case.structures * case.natoms),
            extras: vec![b'#'; 100],
        }
    }

    /// Whether this is the answer to the request.
    #[track_caller]
    fn is_answer_to(&self, first: forcewire::Answer, truth: &[Answer], at: (Case, usize)) {
        let got = match self.answers.as_slice() {
            [] => std::slice::from_ref(&first),
            answers => answers,
        };
        let (mut forces, mut room) = (vec![], self.extras.len());
        assert_eq!(got.len(), truth.len(), "{at:?}");
        for (got, truth) in got.iter().zip(truth) {
            assert_eq!(got.evaluation, truth.evaluation, "{at:?}");
            let kept = truth.extras.len().min(room);
            room -= kept;
            assert_eq!(got.extras(&self.extras), &truth.extras[..kept], "{at:?}");
            forces.extend(&truth.forces);
        }
        assert_eq!(self.forces, converted::<f64, T>(&forces), "{at:?}");
    }
}

/// A server whose exchange was dropped, and its driver.
struct Stopped<T> {
    case: Case,
    moved: usize,
    server: Server,
    peer: Peer,
    asked: Asked<T>,
    arrays: Arrays<T>,
    /// The message being sent, if its rest is still in the caller's arrays.
    needed: Option<Header>,
}

/// The kind of exchange that stopped.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Begun {
    Evaluate,
    /// To a driver that is ready.
    Send,
    /// To a driver that needs INIT.
    Initialize,
}

const ALL: usize = usize::MAX;

impl<T: Number> Stopped<T> {
    /// Returns None if the exchange needs fewer bytes than these.
    fn new(case: Case, begun: Begun, moved: usize, forget: bool) -> Option<Self> {
        let mut stopped = Self::begin(case, begun, moved, forget)?;
        if stopped.server.status().waits_for().awaited != Awaited::Taken {
            return Some(stopped);
        }
        // The check uses another server, because it advances the server.
        let mut probe = Self::begin(case, begun, moved, false)?;
        stopped.needed = match probe.peer.serves(&mut probe.server.status(), ALL) {
            Some(Err(ProtocolError::Unfinished(header))) => Some(header),
            Some(Ok(_)) => None,
            other => panic!("{other:?}"),
        };
        Some(stopped)
    }

    fn begin(case: Case, begun: Begun, moved: usize, forget: bool) -> Option<Self> {
        let mut server = Server::new().mode(case.mode);
        let mut peer = Peer::new(case.initialize);
        let asked = Asked::new(case, 1);
        let mut arrays = Arrays::new(case);
        if begun != Begun::Evaluate {
            let status = peer.serves(&mut server.status(), ALL);
            if case.initialize && begun == Begun::Send {
                assert_eq!(status, Some(Ok(Status::UP | Status::NEEDS_INIT)));
                let sent = peer.serves(&mut server.initialize(asked.replica, &asked.text), ALL);
                assert_eq!(sent, Some(Ok(())));
                let status = peer.serves(&mut server.status(), ALL);
                assert_eq!(status, Some(Ok(Status::UP | Status::READY)));
            }
        }
        macro_rules! stop {
            ($exchange:expr) => {{
                let mut exchange = $exchange;
                let ended = peer.serves(&mut exchange, moved).is_some();
                if forget {
                    std::mem::forget(exchange);
                }
                ended
            }};
        }
        let request = asked.request();
        let ended = match begun {
            Begun::Evaluate => stop!(server.evaluate_batch(
                request,
                &mut arrays.answers,
                &mut arrays.forces,
                &mut arrays.extras
            )),
            Begun::Send => stop!(server.send_positions(request)),
            Begun::Initialize => stop!(server.initialize(asked.replica, &asked.text)),
        };
        if ended {
            return None;
        }
        Some(Self {
            case,
            moved,
            server,
            peer,
            asked,
            arrays,
            needed: None,
        })
    }

    fn at(&self) -> (Case, usize) {
        (self.case, self.moved)
    }

    fn other(&self) -> Asked<T> {
        Asked::new(self.case, 2)
    }

    /// Whether forces, or the fields after them, have begun to arrive in the caller's arrays.
    fn answer_has_begun(&self) -> bool {
        let carried = match self.case.mode {
            Mode::Batched(size) => size,
            _ => 1,
        };
        if self.case.structures > 1 {
            self.peer.read() >= 12
        } else {
            self.peer.read() > 12 + 8 * carried + 4
        }
    }

    fn evaluates(
        &mut self,
        asked: &Asked<T>,
        arrays: &mut Arrays<T>,
    ) -> Result<forcewire::Answer, ProtocolError> {
        let mut evaluate = self.server.evaluate_batch(
            asked.request(),
            &mut arrays.answers,
            &mut arrays.forces,
            &mut arrays.extras,
        );
        self.peer.serves(&mut evaluate, ALL).expect("an end")
    }

    fn takes(&mut self, arrays: &mut Arrays<T>) -> Result<forcewire::Answer, ProtocolError> {
        let mut take = self.server.get_forces_batch(
            &mut arrays.answers,
            &mut arrays.forces,
            &mut arrays.extras,
        );
        self.peer.serves(&mut take, ALL).expect("an end")
    }

    fn discards(&mut self) -> Result<(), ProtocolError> {
        self.peer
            .serves(&mut self.server.discard(), ALL)
            .expect("an end")
    }

    fn sends(&mut self, asked: &Asked<T>) -> Result<(), ProtocolError> {
        let mut send = self.server.send_positions(asked.request());
        self.peer.serves(&mut send, ALL).expect("an end")
    }

    /// Evaluates this request in separate arrays.
    #[track_caller]
    fn computes(&mut self, asked: &Asked<T>) {
        let (mut arrays, at) = (Arrays::new(self.case), self.at());
        let answer = self
            .evaluates(asked, &mut arrays)
            .unwrap_or_else(|error| panic!("{at:?}: {error}"));
        arrays.is_answer_to(answer, &asked.truth(self.case), at);
    }

    /// The begun exchange completes, and the next one is for another request.
    #[track_caller]
    fn completes(&mut self) {
        let (asked, mut arrays, at) = (self.asked.clone(), self.arrays.clone(), self.at());
        let answer = self
            .evaluates(&asked, &mut arrays)
            .unwrap_or_else(|error| panic!("{at:?}: {error}"));
        arrays.is_answer_to(answer, &asked.truth(self.case), at);
        assert!(self.peer.posdata <= 2, "{at:?}");
        self.computes(&self.other());
    }

    /// No byte moves, and each attempt returns this error.
    #[track_caller]
    fn refuses<R: PartialEq + std::fmt::Debug>(
        &mut self,
        error: ProtocolError,
        call: impl Fn(&mut Self) -> Result<R, ProtocolError>,
    ) {
        let (before, status) = (self.server.traffic(), self.server.last_status());
        for _ in 0..2 {
            let at = self.at();
            assert_eq!(call(self), Err(error), "{at:?}");
            assert_eq!(self.server.traffic(), before, "{at:?}");
            assert_eq!(self.server.last_status(), status, "{at:?}");
        }
    }

    /// The error for another request; None if another request is allowed.
    fn request_is_fixed(&self) -> Option<ProtocolError> {
        if let Some(header) = self.needed.filter(|_| self.peer.has_positions()) {
            return Some(ProtocolError::Unfinished(header));
        }
        let owed = self.peer.has_positions() && !self.peer.is_answered();
        owed.then_some(ProtocolError::AnswerDue)
    }

    fn out_of_turn(&self, command: Header) -> ProtocolError {
        ProtocolError::InvalidStatus {
            command,
            status: self.server.last_status(),
        }
    }
}

/// Stops at each byte of each conversation.
fn at_each_byte<T: Number>(begun: Begun, check: impl Fn(Stopped<T>)) {
    for case in CASES {
        if begun == Begun::Initialize && !case.initialize {
            continue;
        }
        let stops = (0..).map_while(|moved| Stopped::<T>::new(case, begun, moved, false));
        let count = stops.map(&check).count();
        assert!(count > 30, "{case:?}");
    }
}

#[test]
fn an_evaluation_goes_on_with_the_same_numbers_wherever_they_are() {
    fn check<T: Number>() {
        at_each_byte::<T>(Begun::Evaluate, |mut stopped| {
            let (asked, mut arrays) = (stopped.asked.clone(), stopped.arrays.clone());
            stopped.asked.positions.fill([T::ZERO; 3]);
            stopped.arrays.forces.fill([T::ZERO; 3]);
            let answer = stopped.evaluates(&asked, &mut arrays).unwrap();
            arrays.is_answer_to(answer, &asked.truth(stopped.case), stopped.at());
            assert_eq!(stopped.peer.posdata, 1);
        });
    }
    for_both_types!(check);
}

/// Another request, in its own arrays, never gets the forces of the previous one.
#[test]
fn an_evaluation_does_not_go_on_with_another_request() {
    fn check<T: Number>() {
        at_each_byte::<T>(Begun::Evaluate, |mut stopped| {
            let other = stopped.other();
            let Some(error) = stopped.request_is_fixed() else {
                return stopped.computes(&other);
            };
            let case = stopped.case;
            stopped.refuses(error, |stopped| {
                stopped.evaluates(&other, &mut Arrays::new(case))
            });
            stopped.completes();
        });
    }
    for_both_types!(check);
}

#[test]
fn an_evaluation_does_not_go_on_after_one_number_was_changed() {
    fn check<T: Number>() {
        at_each_byte::<T>(Begun::Evaluate, |mut stopped| {
            let mut changed = stopped.asked.clone();
            let number = stopped.moved % (3 * changed.positions.len());
            if stopped.moved.is_multiple_of(2) {
                changed.positions.as_flattened_mut()[number] = T::ONE;
            } else {
                let last = changed.cells.len() - 1;
                changed.cells[last] = Cell::orthorhombic([50.0; 3]);
            }
            let Some(error) = stopped.request_is_fixed() else {
                return stopped.computes(&changed);
            };
            let mut arrays = stopped.arrays.clone();
            stopped.refuses(error, |stopped| {
                let mut arrays = stopped.arrays.clone();
                stopped.evaluates(&changed, &mut arrays)
            });
            // The answer belongs to the other request and can still be received.
            if stopped.needed.is_none() {
                let answer = stopped.takes(&mut arrays).unwrap();
                let truth = stopped.asked.truth(stopped.case);
                arrays.is_answer_to(answer, &truth, stopped.at());
                return stopped.computes(&changed);
            }
            stopped.completes();
        });
    }
    for_both_types!(check);
}

#[test]
fn an_evaluation_does_not_go_on_with_other_lengths() {
    fn check<T: Number>() {
        at_each_byte::<T>(Begun::Evaluate, |mut stopped| {
            let Some(error) = stopped.request_is_fixed() else {
                return;
            };
            let mut shorter = stopped.asked.clone();
            let len = shorter.positions.len() - shorter.cells.len();
            shorter.positions.truncate(len);
            let mut longer = stopped.asked.clone();
            longer
                .positions
                .extend(numbers::<T>(5000, longer.cells.len()));
            for other in [shorter, longer] {
                stopped.refuses(error, |stopped| {
                    let mut arrays = stopped.arrays.clone();
                    arrays.forces = blank(other.positions.len());
                    stopped.evaluates(&other, &mut arrays)
                });
            }
            stopped.completes();
        });
    }
    for_both_types!(check);
}

#[test]
fn an_evaluation_does_not_go_on_with_numbers_of_another_type() {
    fn check<T: Number>() {
        at_each_byte::<T>(Begun::Evaluate, |mut stopped| {
            let Some(error) = stopped.request_is_fixed() else {
                return;
            };
            let positions = converted::<T, T::Other>(&stopped.asked.positions);
            stopped.refuses(error, |stopped| {
                let request = Request::batch(&stopped.asked.cells, &positions);
                let mut arrays = Arrays::<T::Other>::new(stopped.case);
                let mut evaluate = stopped.server.evaluate_batch(
                    request,
                    &mut arrays.answers,
                    &mut arrays.forces,
                    &mut arrays.extras,
                );
                stopped.peer.serves(&mut evaluate, ALL).unwrap()
            });
            stopped.completes();
        });
    }
    for_both_types!(check);
}

/// Numbers that were not sent can be corrected, and the corrected ones are checked again.
#[test]
fn nan_in_a_request_that_is_made_anew_never_leaves() {
    fn check<T: Number>() {
        at_each_byte::<T>(Begun::Evaluate, |mut stopped| {
            if stopped.moved > 0 && stopped.needed.is_none() && stopped.peer.is_in_init() {
                // INIT continues, and positions are checked after it.
                return stopped.completes();
            }
            let mut wrong = stopped.asked.clone();
            let last = wrong.positions.len() - 1;
            wrong.positions[last][2] = T::from_f64(f64::NAN);
            let error = stopped.request_is_fixed();
            let error = error.unwrap_or(ProtocolError::NotFinite(Quantity::Positions));
            let mut arrays = stopped.arrays.clone();
            assert_eq!(stopped.evaluates(&wrong, &mut arrays), Err(error));
            assert_eq!(stopped.evaluates(&wrong, &mut arrays), Err(error));
            stopped.completes();
        });
    }
    for_both_types!(check);
}

/// The driver closes the connection inside an answer that is no longer wanted.
#[test]
fn a_discard_never_ends_well_inside_of_an_answer() {
    for case in CASES {
        let sent = |n| Stopped::<f64>::begin(case, Begun::Send, n, false);
        let len = (0..).map_while(sent).count() - 1;
        for moved in 0.. {
            let mut stopped = sent(len).unwrap();
            let mut discard = stopped.server.discard();
            if stopped.peer.serves(&mut discard, moved).is_some() {
                break;
            }
            if stopped.peer.is_answered() {
                assert_eq!(stopped.peer.serves(&mut discard, ALL), Some(Ok(())));
                continue;
            }
            discard.end();
            let result = stopped.peer.serves(&mut discard, ALL);
            drop(discard);
            let read = stopped.peer.read();
            match result {
                Some(Err(ProtocolError::EndOfStream { within, after })) if read >= 12 => {
                    assert_eq!((within, after), (Some(Header::ForceReady), read));
                }
                Some(Err(ProtocolError::EndOfStream { within: None, .. })) if read < 12 => {}
                Some(Err(ProtocolError::Unanswered(_))) if read == 0 => {}
                other => panic!("{:?}, {read}: {other:?}", stopped.at()),
            }
        }
    }
}

/// Part of the answer is in the earlier exchange's arrays.
#[test]
fn an_answer_does_not_go_on_in_other_arrays() {
    fn check<T: Number>() {
        at_each_byte::<T>(Begun::Evaluate, |mut stopped| {
            if !stopped.peer.has_positions() || stopped.needed.is_some() {
                return;
            }
            let (asked, case) = (stopped.asked.clone(), stopped.case);
            if stopped.answer_has_begun() {
                let error = ProtocolError::Unfinished(Header::ForceReady);
                let zeros = |stopped: &Stopped<T>| {
                    let mut arrays = stopped.arrays.clone();
                    arrays.forces.fill([T::ZERO; 3]);
                    arrays
                };
                stopped.refuses(error, |stopped| {
                    let mut zeros = zeros(stopped);
                    stopped.takes(&mut zeros)
                });
                stopped.refuses(error, |stopped| {
                    let mut single = Arrays::<T::Other>::new(stopped.case);
                    let mut take = stopped.server.get_forces_batch(
                        &mut single.answers,
                        &mut single.forces,
                        &mut single.extras,
                    );
                    stopped.peer.serves(&mut take, ALL).unwrap()
                });
                if !stopped.peer.is_answered() {
                    stopped.refuses(error, |stopped| {
                        let mut zeros = zeros(stopped);
                        stopped.evaluates(&asked, &mut zeros)
                    });
                }
                return stopped.completes();
            }
            let mut arrays = Arrays::new(case);
            arrays.forces.fill([T::ZERO; 3]);
            let answer = stopped.evaluates(&asked, &mut arrays).unwrap();
            arrays.is_answer_to(answer, &asked.truth(stopped.case), stopped.at());
        });
    }
    for_both_types!(check);
}

/// The whole answer has arrived, and no exchange has returned it.
#[test]
fn an_answer_that_was_not_returned_is_asked_for_again_if_its_arrays_are_gone() {
    fn check<T: Number>() {
        for case in CASES {
            let stops = (0..).map_while(|n| Stopped::<T>::begin(case, Begun::Evaluate, n, false));
            let mut stopped = stops.last().unwrap();
            assert!(stopped.peer.is_answered());
            let asked = stopped.asked.clone();
            stopped.computes(&asked);
            assert_eq!(stopped.peer.posdata, 2);
        }
    }
    for_both_types!(check);
}

#[test]
fn get_forces_takes_what_evaluate_has_begun() {
    fn check<T: Number>() {
        at_each_byte::<T>(Begun::Evaluate, |mut stopped| {
            let error = match stopped.needed {
                Some(header) => ProtocolError::Unfinished(header),
                None => stopped.out_of_turn(Header::GetForce),
            };
            if stopped.needed.is_some() || !stopped.peer.has_positions() {
                stopped.refuses(error, |stopped| {
                    let mut arrays = stopped.arrays.clone();
                    stopped.takes(&mut arrays)
                });
                return stopped.completes();
            }
            let mut arrays = stopped.arrays.clone();
            let answer = stopped.takes(&mut arrays).unwrap();
            arrays.is_answer_to(answer, &stopped.asked.truth(stopped.case), stopped.at());
            stopped.computes(&stopped.other());
        });
    }
    for_both_types!(check);
}

/// Whatever was begun, `discard` makes room for another request, unless the rest of the request is
/// in an array.
#[test]
fn discard_drops_what_evaluate_has_begun() {
    fn check<T: Number>() {
        at_each_byte::<T>(Begun::Evaluate, |mut stopped| {
            // The rest of the positions is in the caller's array. INIT continues as if there had
            // been no call.
            if stopped.needed == Some(Header::PosData) {
                let unfinished = ProtocolError::Unfinished(Header::PosData);
                stopped.refuses(unfinished, Stopped::discards);
                return stopped.completes();
            }
            assert_eq!(stopped.discards(), Ok(()), "{:?}", stopped.at());
            assert_eq!(stopped.discards(), Ok(()), "{:?}", stopped.at());
            stopped.computes(&stopped.other());
        });
    }
    for_both_types!(check);
}

/// A driver that was sent EXIT owes nothing, whether or not it has closed the connection.
#[test]
fn discard_does_nothing_after_exit() {
    for case in CASES {
        for moved in [0, 11, 12, ALL] {
            let mut stopped = Stopped::<f64>::begin(case, Begun::Evaluate, 0, false).unwrap();
            let ended = {
                let mut exit = stopped.server.exit();
                stopped.peer.serves(&mut exit, moved)
            };
            assert_eq!(ended.is_some(), moved == ALL);
            let before = stopped.server.traffic();
            assert_eq!(
                stopped.discards(),
                Ok(()),
                "{case:?}, {moved} bytes of EXIT"
            );
            assert_eq!(stopped.server.traffic(), before);
        }
    }
}

/// A discard may also stop at any byte.
#[test]
fn discard_goes_on_where_it_stopped() {
    fn check<T: Number>() {
        for case in CASES {
            let sent = |n| Stopped::<T>::begin(case, Begun::Send, n, false);
            let len = (0..).map_while(sent).count() - 1;
            for moved in 0.. {
                let mut stopped = sent(len).unwrap();
                let discarded = {
                    let mut discard = stopped.server.discard();
                    stopped.peer.serves(&mut discard, moved).is_some()
                };
                if discarded {
                    break;
                }
                let mut arrays = Arrays::new(case);
                if !stopped.peer.is_answered() {
                    let case = stopped.case;
                    let asked = stopped.asked.clone();
                    if moved > 0 {
                        let error = ProtocolError::Unfinished(Header::ForceReady);
                        stopped.refuses(error, |stopped| {
                            stopped.evaluates(&asked, &mut Arrays::new(case))
                        });
                        stopped.refuses(error, |stopped| stopped.takes(&mut Arrays::new(case)));
                    }
                    assert_eq!(stopped.discards(), Ok(()));
                }
                let other = stopped.other();
                let answer = stopped.evaluates(&other, &mut arrays).unwrap();
                arrays.is_answer_to(answer, &other.truth(stopped.case), stopped.at());
            }
        }
    }
    for_both_types!(check);
}

#[test]
fn a_question_does_not_come_between_two_halves_of_a_message() {
    fn check<T: Number>() {
        at_each_byte::<T>(Begun::Evaluate, |mut stopped| {
            let asks = |stopped: &mut Stopped<T>| {
                let mut status = stopped.server.status();
                stopped.peer.serves(&mut status, ALL).unwrap()
            };
            if let Some(header) = stopped.needed {
                stopped.refuses(ProtocolError::Unfinished(header), asks);
            } else {
                assert!(asks(&mut stopped).is_ok());
            }
            stopped.completes();
        });
    }
    for_both_types!(check);
}

#[test]
fn exit_does_not_come_between_two_halves_of_a_message() {
    fn check<T: Number>() {
        at_each_byte::<T>(Begun::Evaluate, |mut stopped| {
            let exits = |stopped: &mut Stopped<T>| {
                let mut exit = stopped.server.exit();
                stopped.peer.serves(&mut exit, ALL).unwrap()
            };
            if let Some(header) = stopped.needed {
                stopped.refuses(ProtocolError::Unfinished(header), exits);
                return stopped.completes();
            }
            assert_eq!(exits(&mut stopped), Ok(()));
            assert!(stopped.peer.exited);
        });
    }
    for_both_types!(check);
}

/// The request of a forgotten exchange is unknown.
#[test]
fn an_evaluation_that_was_forgotten_does_not_go_on() {
    fn check<T: Number>() {
        for case in CASES {
            for moved in 0.. {
                let Some(mut stopped) = Stopped::<T>::new(case, Begun::Evaluate, moved, true)
                else {
                    break;
                };
                let asked = stopped.asked.clone();
                let error = match stopped.request_is_fixed() {
                    _ if stopped.peer.is_in_init() => Some(ProtocolError::Unfinished(Header::Init)),
                    error => error,
                };
                let Some(error) = error else {
                    stopped.computes(&asked);
                    continue;
                };
                stopped.refuses(error, |stopped| {
                    let mut arrays = stopped.arrays.clone();
                    stopped.evaluates(&asked, &mut arrays)
                });
                if stopped.needed.is_none() {
                    assert_eq!(stopped.discards(), Ok(()));
                }
                if stopped.needed.is_none() && !stopped.peer.is_in_init() {
                    stopped.computes(&asked);
                }
            }
        }
    }
    for_both_types!(check);
}

#[test]
fn a_reset_forgets_an_evaluation_that_had_begun() {
    fn check<T: Number>() {
        at_each_byte::<T>(Begun::Evaluate, |mut stopped| {
            stopped.server.reset();
            stopped.peer = Peer::new(stopped.case.initialize);
            stopped.computes(&stopped.other());
            assert_eq!(stopped.peer.posdata, 1);
        });
    }
    for_both_types!(check);
}

/// The array of the request was freed, and another request's array is often at the same address.
#[test]
fn positions_that_were_half_sent_do_not_go_on_from_a_new_array_at_the_same_address() {
    fn check<T: Number>() {
        let case = CASES[2];
        let (mut at_the_same, mut count) = (0, 0);
        for moved in 0.. {
            let Some(mut stopped) = Stopped::<T>::begin(case, Begun::Send, moved, false) else {
                break;
            };
            if moved == 0 {
                continue;
            }
            let address = stopped.asked.positions.as_ptr();
            drop(std::mem::take(&mut stopped.asked.positions));
            let mut others = stopped.asked.clone();
            others.positions = vec![[T::ONE; 3]; 34];
            at_the_same += usize::from(others.positions.as_ptr() == address);
            count += 1;
            let error = ProtocolError::Unfinished(Header::PosData);
            stopped.refuses(error, |stopped| stopped.sends(&others));
            stopped.asked = Asked::new(case, 1);
            stopped.completes();
        }
        println!("{at_the_same} of {count} arrays were at the same address");
    }
    for_both_types!(check);
}

#[test]
fn send_positions_goes_on_with_the_same_positions_only() {
    fn check<T: Number>() {
        at_each_byte::<T>(Begun::Send, |mut stopped| {
            let (asked, other) = (stopped.asked.clone(), stopped.other());
            let sent = if stopped.moved == 0 {
                other
            } else {
                let error = ProtocolError::Unfinished(Header::PosData);
                stopped.refuses(error, |stopped| stopped.sends(&other));
                asked
            };
            assert_eq!(stopped.sends(&sent), Ok(()));
            let error = stopped.out_of_turn(Header::PosData);
            stopped.refuses(error, |stopped| stopped.sends(&sent));
            // The exchange has ended: evaluate does not know to which request the due answer
            // belongs.
            let case = stopped.case;
            stopped.refuses(ProtocolError::AnswerDue, |stopped| {
                stopped.evaluates(&sent, &mut Arrays::new(case))
            });
            let mut arrays = Arrays::new(stopped.case);
            let answer = stopped.takes(&mut arrays).unwrap();
            arrays.is_answer_to(answer, &sent.truth(case), stopped.at());
        });
    }
    for_both_types!(check);
}

#[test]
fn initialize_goes_on_with_the_same_replica_and_text_only() {
    fn check<T: Number>() {
        at_each_byte::<T>(Begun::Initialize, |mut stopped| {
            let asked = stopped.asked.clone();
            let initializes = |stopped: &mut Stopped<T>, replica, text: &[u8]| {
                let mut initialize = stopped.server.initialize(replica, text);
                stopped.peer.serves(&mut initialize, ALL).unwrap()
            };
            if stopped.moved > 0 {
                let error = ProtocolError::Unfinished(Header::Init);
                let (mut changed, mut longer) = (asked.text.clone(), asked.text.clone());
                changed[2] = b'x';
                longer.push(b'k');
                let text = &asked.text;
                for (replica, text) in [(3, text), (7, &changed), (7, &longer)] {
                    stopped.refuses(error, |stopped| initializes(stopped, replica, text));
                }
            }
            assert_eq!(initializes(&mut stopped, 7, &asked.text), Ok(()));
            stopped.computes(&stopped.other());
        });
    }
    for_both_types!(check);
}
