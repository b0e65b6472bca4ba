//! The exchange that sends forces.

use core::fmt;

use super::windows::Origin;
use super::{Driver, Initialize, Phase, State};
use crate::exchange::fingerprint::Fingerprint;
use crate::exchange::{Awaited, Exchange, Refused, Sealed, Step, Wait, check_length};
use crate::potential::Evaluation;
use crate::protocol::gather::Gather;
use crate::protocol::layout::{self, Field, MATRIX, Place, length};
use crate::protocol::scalar::as_memory;
use crate::protocol::{Header, ProtocolError, Quantity};

/// Ends when FORCEREADY was sent. Made by [`Driver::reply`].
#[must_use = "an exchange does nothing by itself: run it over a transport"]
pub struct Reply<'a, F: Origin> {
    driver: &'a mut Driver,
    evaluations: &'a [Evaluation],
    forces: F,
    extras: ExtrasOf<'a>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    /// The exchange has not been stepped yet.
    Made,
    /// The exchange is moving bytes.
    Entered,
    Ended,
}

/// The extras of a reply: of its only structure, or of each structure.
#[derive(Clone, Copy, Debug)]
pub(super) enum ExtrasOf<'a> {
    All(&'a [u8]),
    Each(&'a [&'a [u8]]),
}

impl<'a> ExtrasOf<'a> {
    fn get(self, index: usize) -> &'a [u8] {
        match self {
            Self::All(bytes) => bytes,
            Self::Each(extras) => extras.get(index).copied().unwrap_or_default(),
        }
    }
}

impl<'a, F: Origin> Reply<'a, F> {
    pub(super) const fn new(
        driver: &'a mut Driver,
        evaluations: &'a [Evaluation],
        forces: F,
        extras: ExtrasOf<'a>,
    ) -> Self {
        Self {
            driver,
            evaluations,
            forces,
            extras,
            stage: Stage::Made,
        }
    }

    /// Continues what an earlier exchange has begun, if the numbers are the same; otherwise checks
    /// them.
    fn enter(&mut self) -> Result<(), Refused> {
        if F::RESUMES && self.has_begun() {
            if self.driver.seal.is_none() || self.driver.seal != self.fingerprint() {
                return self.driver.refuse(match self.driver.state {
                    State::Replied => ProtocolError::NothingToReplyTo,
                    _ => ProtocolError::Unfinished(Header::ForceReady),
                });
            }
            self.driver.seal = None;
            return Ok(());
        }
        if !self.driver.owes_reply() {
            return self.driver.refuse(ProtocolError::NothingToReplyTo);
        }
        self.check()?;
        match self.driver.state {
            // An exchange that was dropped collected these bytes and sent none of them.
            State::Gathered(_) | State::Direct(_) => self.driver.state = State::Asked,
            _ => {}
        }
        Ok(())
    }

    /// Whether bytes of this reply, or of an earlier one to the same structure, were sent.
    fn has_begun(&self) -> bool {
        match self.driver.state {
            State::Gathered(_) | State::Direct(_) => self.driver.progress.message > 0,
            State::Replied => true,
            _ => false,
        }
    }

    /// The fingerprint of everything in the reply.
    fn fingerprint(&self) -> Option<Fingerprint> {
        let mut fingerprint = Fingerprint::new();
        for (index, evaluation) in self.evaluations.iter().enumerate() {
            fingerprint.bytes(as_memory(&[evaluation.energy]));
            fingerprint.bytes(as_memory(evaluation.virial.0.as_flattened()));
            fingerprint.bytes(self.extras.get(index));
        }
        self.forces.add_to(&mut fingerprint).then_some(fingerprint)
    }

    /// Checks that the reply fits the structures received last.
    fn check(&mut self) -> Result<(), Refused> {
        let (structures, evaluations) = (self.driver.structures, self.evaluations.len());
        let (forces, atoms) = (self.forces.natoms(), self.driver.total());
        let reason = &mut self.driver.error;
        check_length(reason, Quantity::Evaluations, evaluations, structures)?;
        check_length(reason, Quantity::Forces, forces, atoms)?;
        if let ExtrasOf::Each(extras) = self.extras
            && !extras.is_empty()
        {
            check_length(reason, Quantity::Extras, extras.len(), structures)?;
        }
        let not_finite = self.driver.not_finite;
        let error = 'wrong: {
            for (index, evaluation) in self.evaluations.iter().enumerate() {
                let len = self.extras.get(index).len();
                if i32::try_from(len).is_err() {
                    break 'wrong ProtocolError::TextTooLong(len);
                }
                if !not_finite && !evaluation.energy.is_finite() {
                    break 'wrong ProtocolError::NotFinite(Quantity::Energy);
                }
                if !not_finite && !evaluation.virial.is_finite() {
                    break 'wrong ProtocolError::NotFinite(Quantity::Virial);
                }
            }
            if not_finite || self.forces.all_finite() {
                return Ok(());
            }
            ProtocolError::NotFinite(Quantity::Forces)
        };
        self.driver.refuse(error)
    }

    /// Takes over from an earlier exchange, if this one has not been checked yet.
    #[inline(never)] // so that it has the stack to itself
    fn begin(&mut self) -> Result<(), Refused> {
        match (self.stage, self.driver.state) {
            (Stage::Ended, _) => return Ok(()),
            (_, State::Failed | State::Draining(_) | State::Drained) => return Err(Refused),
            (_, State::Exited | State::Closed) => {
                self.stage = Stage::Ended;
                return Ok(());
            }
            (Stage::Made, _) => {
                self.enter()?;
                self.stage = Stage::Entered;
            }
            (Stage::Entered, _) => {}
        }
        Ok(())
    }

    /// Collects small pieces in the scratch, starting at `place`, until it is full or an array
    /// comes that is sent without a copy.
    fn gather(&mut self, place: Place) {
        self.driver.state = State::Gathered(place);
        self.driver.progress.expect(0);
        while match self.driver.state {
            State::Gathered(place) if place.field == Field::Forces => self.put_forces(place),
            State::Gathered(place) => self.put(place),
            _ => false,
        } {}
        if let State::Gathered(place) = self.driver.state
            && self.driver.progress.end == 0
        {
            if place.field == Field::End {
                return self.sent();
            }
            self.driver.state = State::Direct(place);
            let len = self.direct(place).len();
            self.driver.progress.expect_array(len);
        }
    }

    /// Adds a field; returns false if there is no room for it, or nothing more to add.
    #[inline(never)] // here and below, so that only one of them is on the stack
    fn put(&mut self, place: Place) -> bool {
        let driver = &mut *self.driver;
        let mut message = Gather::after(&mut driver.progress.scratch, driver.progress.end);
        let evaluation = self.evaluations.get(place.index);
        let fits = match (place.field, evaluation) {
            (Field::Header, _) => message.push(Header::ForceReady.bytes()),
            (Field::Energy, Some(evaluation)) => message.push(&evaluation.energy.to_le_bytes()),
            (Field::Atoms, _) => message.push(&length(driver.natoms.unwrap_or(0))),
            (Field::Virial, Some(evaluation)) => {
                let room = message.reserve(MATRIX);
                room.map(|room| layout::put_virial(&evaluation.virial, room))
                    .is_some()
            }
            (Field::ExtrasLength, _) => message.push(&length(self.extras.get(place.index).len())),
            (Field::Extras, _) => message.push(self.extras.get(place.index)),
            _ => false,
        };
        if fits {
            driver.progress.end = message.len();
            driver.state = State::Gathered(place.next(Header::ForceReady, driver.structures));
        }
        fits
    }

    /// Adds as many forces from this place on as there is room for; returns false if there is none.
    #[inline(never)]
    fn put_forces(&mut self, place: Place) -> bool {
        let numbers = self.driver.total().saturating_mul(3);
        let driver = &mut *self.driver;
        let mut message = Gather::after(&mut driver.progress.scratch, driver.progress.end);
        let mut next = place.next(Header::ForceReady, driver.structures);
        let most = numbers.saturating_sub(place.index);
        let fits = match self.forces.wire() {
            _ if most == 0 => true,
            Some(bytes) => message.push(bytes),
            None => {
                let not_finite = driver.not_finite;
                let pushed = self
                    .forces
                    .push(place.index, most, not_finite, &mut message);
                let Some(count) = pushed else {
                    driver.fail(ProtocolError::NotFinite(Quantity::Forces));
                    return false;
                };
                next = place.at(place.index + count);
                count > 0
            }
        };
        if fits {
            driver.progress.end = message.len();
            driver.state = State::Gathered(next);
        }
        fits
    }

    /// The memory of a field that is sent without a copy.
    fn direct(&self, place: Place) -> &[u8] {
        match place.field {
            Field::Forces => self.forces.wire().unwrap_or_default(),
            Field::Extras => self.extras.get(place.index),
            _ => &[],
        }
    }

    /// Ends the message: the whole reply was sent.
    fn sent(&mut self) {
        self.driver.phase = match self.driver.initialize {
            Initialize::EveryStep => Phase::Uninit,
            Initialize::Never | Initialize::Once => Phase::Ready,
        };
        self.driver.expect_message();
        self.driver.state = State::Replied;
    }
}

impl<F: Origin> Sealed for Reply<'_, F> {}

impl<F: Origin> Exchange for Reply<'_, F> {
    type Output = ();

    fn enter(&mut self) -> Result<(), ProtocolError> {
        if F::RESUMES && self.begin().is_err() {
            return Err(self.driver.error);
        }
        Ok(())
    }

    fn step(&mut self) -> Result<Step<'_, ()>, ProtocolError> {
        if self.begin().is_err() {
            return Err(self.driver.error);
        }
        if matches!(self.driver.state, State::Asked) {
            self.gather(Place::HEADER);
        }
        Ok(match self.driver.state {
            _ if self.stage == Stage::Ended => Step::Done(()),
            State::Failed => return Err(self.driver.error),
            State::Replied => {
                self.driver.expect_message();
                self.stage = Stage::Ended;
                Step::Done(())
            }
            State::Direct(place) => {
                let rest = self.direct(place).get(self.driver.progress.at..);
                Step::Write(rest.unwrap_or_default())
            }
            _ => self.driver.step(),
        })
    }

    fn advance(&mut self, n: usize) {
        let driver = &mut *self.driver;
        if self.stage != Stage::Entered || driver.phase != Phase::HaveData || !driver.moved(n) {
            return;
        }
        match driver.state {
            State::Gathered(place) => self.gather(place),
            State::Direct(place) => {
                let next = place.next(Header::ForceReady, driver.structures);
                self.gather(next);
            }
            _ => driver.complete(&mut []),
        }
    }

    fn end(&mut self) {
        self.driver.ended();
    }

    fn midway(&self) -> bool {
        self.driver.midway()
    }

    fn lent(&self) -> &[u8] {
        self.forces.wire().unwrap_or_default()
    }

    fn expects(&self) -> Option<(usize, usize)> {
        let waits = self.driver.is_between() && self.driver.phase == Phase::HaveData;
        waits.then_some((0, 0))
    }

    #[inline(always)]
    fn waits_for(&self) -> Wait {
        let wait = self.driver.waits_for(Awaited::GetForce);
        let ended = self.stage == Stage::Ended || self.driver.phase != Phase::HaveData;
        if ended { wait.nothing() } else { wait }
    }
}

impl<F: Origin> Drop for Reply<'_, F> {
    fn drop(&mut self) {
        if F::RESUMES && self.stage == Stage::Entered && self.has_begun() {
            self.driver.seal = self.fingerprint();
        }
    }
}

impl<F: Origin> fmt::Debug for Reply<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("driver", &self.driver)
            .finish_non_exhaustive()
    }
}
