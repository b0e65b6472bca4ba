//! A driver's `reply`, stopped at every byte of GETFORCE and of FORCEREADY.

use forcewire::{Driver, Evaluation, Event, Header, Initialize, ProtocolError, Quantity, Virial};

use crate::number::{Number, converted, for_both_types, numbers};
use forcewire_support::*;

/// The number of structures in a reply, and of atoms in each. With few atoms the reply is in the
/// machine when its first byte is sent; with many, some are in the caller's array.
const SIZES: [(usize, usize); 5] = [(1, 0), (1, 3), (1, 34), (2, 3), (2, 17)];

/// The contents of a reply.
#[derive(Clone, Debug, PartialEq)]
struct Values<T> {
    evaluations: Vec<Evaluation>,
    forces: Vec<[T; 3]>,
    extras: Vec<Vec<u8>>,
}

impl<T: Number> Values<T> {
    fn new(structures: usize, natoms: usize) -> Self {
        let evaluation = |i: usize| Evaluation {
            energy: -0.7 - i as f64,
            virial: Virial([[1.3 + i as f64, 0.1, 0.2], [0.1, 1.7, 0.3], [0.2, 0.3, 1.9]]),
        };
        Self {
            evaluations: (0..structures).map(evaluation).collect(),
            forces: numbers(1000, structures * natoms),
            extras: (0..structures)
                .map(|i| format!("{{\"structure\": {i}}}").into_bytes())
                .collect(),
        }
    }

    fn message(&self) -> Vec<u8> {
        let natoms = self.forces.len() / self.evaluations.len();
        let answer = |i: usize| Answer {
            evaluation: self.evaluations[i],
            forces: converted(&self.forces[natoms * i..natoms * (i + 1)]),
            extras: self.extras[i].clone(),
        };
        let answers: Vec<_> = (0..self.evaluations.len()).map(answer).collect();
        forceready_batch(&answers)
    }

    /// The same contents with one change.
    fn but(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut changed = self.clone();
        change(&mut changed);
        changed
    }
}

/// The server's messages before a reply is sent.
#[derive(Clone, Copy, PartialEq)]
enum Asks {
    /// First STATUS, then GETFORCE.
    Classic,
    Consolidated,
}

/// A driver whose reply was dropped, and the bytes that have moved.
struct Stopped<T> {
    driver: Driver,
    size: (usize, usize),
    values: Values<T>,
    /// The server's messages that are still to be sent.
    inbox: Vec<u8>,
    sent: Vec<u8>,
    /// The answer to STATUS.
    before: &'static [u8],
}

impl<T: Number> Stopped<T> {
    fn new(size: (usize, usize), asks: Asks, moved: usize, forget: bool) -> Self {
        let (structures, natoms) = size;
        let positions = cube(numbers::<f64>(0, natoms));
        let (initialize, posdata) = match structures {
            1 => (Initialize::Never, posdata(&positions)),
            _ => {
                let init = init(0, format!("batch_size:{structures}"));
                let batch = posdata_batch(&vec![positions; structures]);
                (Initialize::Once, [init, batch].concat())
            }
        };
        let mut driver = Driver::new().initialize(initialize);
        let mut inbox = posdata.as_slice();
        while !inbox.is_empty() {
            let mut cells = vec![UNTOUCHED_CELL; structures];
            let mut positions = vec![[0.0; 3]; structures * natoms];
            let receive = driver.receive_batch(&mut cells, &mut positions);
            assert!(pour(receive, &mut inbox).0.is_ok());
        }
        let (question, before) = match asks {
            Asks::Classic => ([STATUS, GETFORCE].concat(), HAVEDATA),
            Asks::Consolidated => (GETFORCE.to_vec(), &b""[..]),
        };
        let mut inbox = question.as_slice();
        let values = Values::new(structures, natoms);
        let extras: Vec<_> = values.extras.iter().map(Vec::as_slice).collect();
        let mut reply = driver.reply_batch(&values.evaluations, &values.forces, &extras);
        let sent = pour_at_most(&mut reply, &mut inbox, moved);
        if forget {
            std::mem::forget(reply);
        } else {
            drop(reply);
        }
        Self {
            driver,
            size,
            values,
            inbox: inbox.to_vec(),
            sent,
            before,
        }
    }

    /// The number of bytes of FORCEREADY that were sent.
    fn left(&self) -> usize {
        self.sent.len().saturating_sub(self.before.len())
    }

    /// Whether everything was sent, although the exchange has not ended.
    fn complete(&self) -> bool {
        self.left() == self.values.message().len()
    }

    fn replies<U: Number>(&mut self, values: &Values<U>) -> Result<(), ProtocolError> {
        let extras: Vec<_> = values.extras.iter().map(Vec::as_slice).collect();
        let reply = self
            .driver
            .reply_batch(&values.evaluations, &values.forces, &extras);
        let mut inbox = self.inbox.as_slice();
        let (result, sent) = pour(reply, &mut inbox);
        self.sent.extend(sent);
        self.inbox = inbox.to_vec();
        result
    }

    #[track_caller]
    fn completes_with<U: Number>(&mut self, values: &Values<U>) {
        let left = self.left();
        assert_eq!(self.replies(values), Ok(()), "after {left} bytes");
        let all = [self.before, &values.message()].concat();
        assert!(self.sent == all, "after {left} bytes");
        let receive = self.driver.receive::<f64>(&mut []);
        let (event, sent) = pour(receive, &mut &[STATUS, EXIT].concat()[..]);
        assert_eq!((event, sent.as_slice()), (Ok(Event::Exit), READY));
    }

    /// The exchange that began the reply, recreated, completes it.
    #[track_caller]
    fn completes(&mut self) {
        let values = self.values.clone();
        self.completes_with(&values);
    }

    /// The error of a reply that can't continue from here; `None` if it can.
    fn unfinished(&self) -> Option<ProtocolError> {
        match self.left() {
            0 => None,
            _ if self.complete() => Some(ProtocolError::NothingToReplyTo),
            _ => Some(ProtocolError::Unfinished(Header::ForceReady)),
        }
    }

    /// A reply recreated with these values completes if nothing was sent; otherwise it changes
    /// nothing.
    #[track_caller]
    fn meets<U: Number>(&mut self, values: &Values<U>) {
        let Some(error) = self.unfinished() else {
            return self.completes_with(values);
        };
        let before = (self.sent.len(), self.inbox.len());
        for _ in 0..2 {
            assert_eq!(self.replies(values), Err(error), "after {} bytes", before.0);
            assert_eq!((self.sent.len(), self.inbox.len()), before);
        }
        self.completes();
    }
}

/// Stops at each byte of each message.
fn at_each_byte<T: Number>(check: impl Fn(Stopped<T>)) {
    for size in SIZES {
        for asks in [Asks::Classic, Asks::Consolidated] {
            if size.1 > 3 && asks == Asks::Classic {
                continue;
            }
            for moved in 0.. {
                let stopped = Stopped::<T>::new(size, asks, moved, false);
                let last = stopped.complete();
                check(stopped);
                if last {
                    break;
                }
            }
        }
    }
}

#[test]
fn a_reply_goes_on_with_the_same_numbers_wherever_they_are() {
    fn check<T: Number>() {
        at_each_byte::<T>(|mut stopped| {
            let moved = stopped.values.clone();
            stopped.values.forces.fill([T::ZERO; 3]);
            stopped.completes_with(&moved);
        });
    }
    for_both_types!(check);
}

#[test]
fn a_reply_does_not_go_on_with_a_changed_number() {
    fn check<T: Number>() {
        at_each_byte::<T>(|mut stopped| {
            let (size, left) = (stopped.size, stopped.left());
            let values = stopped.values.clone();
            let last = size.0 - 1;
            let number = left % (3 * values.forces.len()).max(1);
            let changed = match left % 4 {
                0 => values.but(|new| new.evaluations[last].energy = 7.0),
                1 => values.but(|new| new.evaluations[0].virial.0[1][2] = 7.0),
                2 => values.but(|new| new.extras[last][3] ^= 1),
                _ if values.forces.is_empty() => values.but(|new| new.extras[0].clear()),
                _ => values.but(|new| new.forces.as_flattened_mut()[number] = T::ONE),
            };
            stopped.meets(&changed);
        });
    }
    for_both_types!(check);
}

#[test]
fn a_reply_does_not_go_on_with_an_array_that_was_cleared() {
    fn check<T: Number>() {
        at_each_byte::<T>(|mut stopped| {
            if stopped.values.forces.is_empty() {
                return;
            }
            let cleared = stopped.values.but(|new| new.forces.fill([T::ZERO; 3]));
            stopped.meets(&cleared);
        });
    }
    for_both_types!(check);
}

/// The array was freed, and another one allocated, often at the same address.
#[test]
fn a_reply_does_not_go_on_with_a_new_array_at_the_same_address() {
    fn check<T: Number>() {
        let mut at_the_same = 0;
        for moved in 13..13 + 40 {
            let mut stopped = Stopped::<T>::new((1, 34), Asks::Consolidated, moved, false);
            let address = stopped.values.forces.as_ptr();
            drop(std::mem::take(&mut stopped.values.forces));
            stopped.values.forces = vec![[T::ZERO; 3]; 34];
            at_the_same += usize::from(stopped.values.forces.as_ptr() == address);
            let (zeros, before) = (stopped.values.clone(), stopped.sent.len());
            let error = ProtocolError::Unfinished(Header::ForceReady);
            assert_eq!(stopped.replies(&zeros), Err(error));
            assert_eq!(stopped.sent.len(), before);
            // A reply with the right numbers still continues.
            stopped.values = Values::new(1, 34);
            stopped.completes();
        }
        println!("{at_the_same} of 40 arrays were at the same address");
    }
    for_both_types!(check);
}

#[test]
fn a_reply_does_not_go_on_with_arrays_of_other_lengths() {
    fn check<T: Number>() {
        at_each_byte::<T>(|mut stopped| {
            let (structures, total) = (stopped.size.0, stopped.values.forces.len());
            let wrong = |quantity, given, expected| ProtocolError::WrongLength {
                quantity,
                given,
                expected,
            };
            let longer = stopped.values.but(|new| new.forces.push([T::ONE; 3]));
            let mut others = vec![(longer, wrong(Quantity::Forces, total + 1, total))];
            if total > 0 {
                let shorter = stopped.values.but(|new| new.forces.truncate(total - 1));
                others.push((shorter, wrong(Quantity::Forces, total - 1, total)));
            }
            let one_more = stopped
                .values
                .but(|new| new.evaluations.push(new.evaluations[0]));
            let error = wrong(Quantity::Evaluations, structures + 1, structures);
            others.push((one_more, error));
            for (values, error) in others {
                let error = stopped.unfinished().unwrap_or(error);
                let before = stopped.sent.len();
                assert_eq!(stopped.replies(&values), Err(error), "{before}");
                assert_eq!(stopped.sent.len(), before);
            }
            stopped.completes();
        });
    }
    for_both_types!(check);
}

#[test]
fn a_reply_does_not_go_on_with_numbers_of_another_type() {
    fn check<T: Number>() {
        at_each_byte::<T>(|mut stopped| {
            let other = Values::<T::Other> {
                evaluations: stopped.values.evaluations.clone(),
                forces: converted(&stopped.values.forces),
                extras: stopped.values.extras.clone(),
            };
            stopped.meets(&other);
        });
    }
    for_both_types!(check);
}

/// Numbers that were not sent can be corrected, and the corrected ones are checked again.
#[test]
fn nan_in_a_reply_that_is_made_anew_never_leaves() {
    fn check<T: Number>() {
        at_each_byte::<T>(|mut stopped| {
            let values = stopped.values.clone();
            let (nan, last) = (T::from_f64(f64::NAN), stopped.size.0 - 1);
            let mut wrong = vec![
                (
                    values.but(|new| new.evaluations[last].energy = f64::NAN),
                    Quantity::Energy,
                ),
                (
                    values.but(|new| new.evaluations[last].virial.0[2][0] = f64::INFINITY),
                    Quantity::Virial,
                ),
            ];
            if let Some(last) = values.forces.len().checked_sub(1) {
                let changed = values.but(|new| new.forces[last][2] = nan);
                wrong.push((changed, Quantity::Forces));
            }
            for (values, quantity) in wrong {
                let error = stopped.unfinished();
                let error = error.unwrap_or(ProtocolError::NotFinite(quantity));
                let before = stopped.sent.len();
                assert_eq!(stopped.replies(&values), Err(error), "{before}");
                assert_eq!(stopped.sent.len(), before);
            }
            stopped.completes();
        });
    }
    for_both_types!(check);
}

#[test]
fn nothing_is_received_in_the_middle_of_a_reply() {
    fn check<T: Number>() {
        at_each_byte::<T>(|mut stopped| {
            if stopped.complete() {
                return;
            }
            let (mut cells, mut positions) = ([UNTOUCHED_CELL; 2], [[UNTOUCHED; 3]; 40]);
            let receive = stopped.driver.receive_batch(&mut cells, &mut positions);
            let (result, sent) = pour(receive, &mut stopped.inbox.as_slice());
            assert_eq!((result, sent), (Err(ProtocolError::ReplyDue), vec![]));
            assert_eq!(positions, [[UNTOUCHED; 3]; 40]);
            stopped.completes();
        });
    }
    for_both_types!(check);
}

/// The exchange ends at GETFORCE and sends nothing of the reply.
#[test]
fn await_getforce_may_stand_between_two_halves_of_a_reply() {
    fn check<T: Number>() {
        at_each_byte::<T>(|mut stopped| {
            let left = stopped.left();
            let mut inbox = stopped.inbox.as_slice();
            let (result, sent) = pour(stopped.driver.await_getforce(), &mut inbox);
            stopped.inbox = inbox.to_vec();
            stopped.sent.extend(sent);
            if stopped.complete() {
                assert_eq!(result, Err(ProtocolError::NothingToReplyTo));
            } else {
                assert_eq!(result, Ok(None));
            }
            assert_eq!(stopped.left(), left);
            stopped.completes();
        });
    }
    for_both_types!(check);
}

/// The numbers of a forgotten reply are unknown.
#[test]
fn a_forgotten_reply_does_not_go_on() {
    fn check<T: Number>() {
        for size in SIZES {
            for moved in 0.. {
                let mut stopped = Stopped::<T>::new(size, Asks::Classic, moved, true);
                let last = stopped.complete();
                match stopped.unfinished() {
                    None => stopped.completes(),
                    Some(error) => {
                        let values = stopped.values.clone();
                        assert_eq!(stopped.replies(&values), Err(error));
                    }
                }
                if last {
                    break;
                }
            }
        }
    }
    for_both_types!(check);
}

#[test]
fn a_reset_forgets_a_reply_that_had_begun() {
    fn check<T: Number>() {
        at_each_byte::<T>(|mut stopped| {
            stopped.driver.reset();
            let values = stopped.values.clone();
            let error = ProtocolError::NothingToReplyTo;
            assert_eq!(stopped.replies(&values), Err(error));
            if stopped.size.0 > 1 {
                let init = init(0, " ");
                let receive = stopped.driver.receive::<f64>(&mut []);
                assert!(pour(receive, &mut init.as_slice()).0.is_ok());
            }
            let mut positions = [[UNTOUCHED; 3]; 3];
            let receive = stopped.driver.receive(&mut positions);
            let (event, _) = pour(receive, &mut posdata(&water()).as_slice());
            assert_eq!(event, Ok(water().event()));
            let answer = answer(3, 1.0, b"{}");
            let reply = stopped
                .driver
                .reply(&answer.evaluation, &answer.forces, &answer.extras);
            let (result, sent) = pour(reply, &mut &*GETFORCE);
            assert_eq!((result, sent), (Ok(()), forceready(&answer)));
        });
    }
    for_both_types!(check);
}

/// The event of the positions was lost with the exchange; receiving again with the same array
/// returns it.
#[test]
fn positions_that_were_not_reported_are_not_replied_to() {
    let (mut driver, mut positions) = (Driver::new(), [[UNTOUCHED; 3]; 3]);
    let message = posdata(&water());
    pour_at_most(
        driver.receive(&mut positions),
        &mut message.as_slice(),
        message.len(),
    );
    let answer = answer(3, 1.0, b"{}");
    let nothing = ProtocolError::NothingToReplyTo;
    let reply = driver.reply(&answer.evaluation, &answer.forces, &answer.extras);
    assert_eq!(pour(reply, &mut &*GETFORCE), (Err(nothing), vec![]));
    let (result, sent) = pour(driver.await_getforce(), &mut &*EXIT);
    assert_eq!((result, sent), (Err(nothing), vec![]));

    let (event, _) = pour(driver.receive(&mut positions), &mut &b""[..]);
    assert_eq!(event, Ok(water().event()));
    let reply = driver.reply(&answer.evaluation, &answer.forces, &answer.extras);
    let (result, sent) = pour(reply, &mut &*GETFORCE);
    assert_eq!((result, sent), (Ok(()), forceready(&answer)));
}
