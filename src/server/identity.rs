//! Decides whether an exchange may continue what another has begun.

use super::exchange::{Course, Goal, Stage};
use super::{Phase, Server, State};
use crate::exchange::Refused;
use crate::exchange::fingerprint::Fingerprint;
use crate::protocol::layout::{ATOM, Field, Place, REAL};
use crate::protocol::scalar::as_memory;
use crate::protocol::{Header, ProtocolError, Scalar};

impl<T: Scalar> Course<'_, T> {
    /// Whether every earlier exchange has ended and reported its result.
    #[cfg(feature = "std")]
    const fn follows_none(&self) -> bool {
        let server = &*self.server;
        matches!(server.state, State::Idle)
            && matches!(server.unreported, None | Some(Goal::Status))
            && matches!(server.phase, Phase::Unknown | Phase::Asked | Phase::Ready)
            && server.init.is_none()
            && server.received.is_none()
    }

    /// Checks whether this exchange may continue the earlier one. Changes nothing otherwise.
    pub(super) fn check_identity(&mut self) -> Result<(), Refused> {
        use Goal::{Evaluate, Forces, Initialize, Send};

        if self.server.has_failed() {
            return Ok(());
        }
        // Only another discard continues one that has begun.
        let takes = matches!(self.goal, Forces | Evaluate);
        if takes && self.server.owes_forces() && self.server.structures == 0 {
            let error = ProtocolError::Unfinished(Header::ForceReady);
            return self.server.refuse(error);
        }
        let has_request = matches!(self.goal, Initialize | Send | Evaluate);
        if self.is_bound() && !(has_request && self.is_same_request()) {
            let owed = self.server.owes_forces() && !self.needs_request();
            let error = if self.goal == Evaluate && owed {
                ProtocolError::AnswerDue
            } else {
                ProtocolError::Unfinished(self.server.first)
            };
            return self.server.refuse(error);
        }
        // INIT names the replica of the positions that follow it.
        let announced = (self.server.init).filter(|_| matches!(self.goal, Evaluate | Send));
        if announced.is_some_and(|init| init != self.of_init()) {
            return self.server.refuse(ProtocolError::Unfinished(Header::Init));
        }
        if !takes || !self.answer_has_begun() {
            return Ok(());
        }
        self.check_room(self.server.natoms(), self.server.structures)?;
        if self.is_same_answer() {
            return Ok(());
        }
        let error = ProtocolError::Unfinished(Header::ForceReady);
        self.server.refuse(error)
    }

    /// Whether the message under way can be continued only with its original request.
    pub(super) fn is_bound(&self) -> bool {
        let server = &*self.server;
        let leaving = server.is_sending() && server.progress.message > 0;
        let first = |message| leaving && server.first == message;
        match self.goal {
            Goal::Initialize => first(Header::Init) || server.unreported == Some(self.goal),
            Goal::Send => first(Header::PosData) || server.unreported == Some(self.goal),
            Goal::Evaluate => self.needs_request() || first(Header::Init) || server.owes_forces(),
            Goal::Discard => self.needs_request() && server.owes_forces(),
            _ => self.needs_request(),
        }
    }

    /// Whether the rest of the outgoing message is in the caller's arrays.
    #[inline(never)]
    pub(super) fn needs_request(&self) -> bool {
        let server = &*self.server;
        server.progress.message > 0
            && match server.state {
                State::Direct(_) => true,
                State::Gathered { message, place } => {
                    matches!(message, Header::Init | Header::PosData) && place.field != Field::End
                }
                _ => false,
            }
    }

    /// Whether part of an answer is in the caller's arrays.
    pub(super) fn answer_has_begun(&self) -> bool {
        let server = &*self.server;
        match server.state {
            State::Idle => server.unreported == Some(Goal::Forces),
            State::Copies(_) | State::Surplus(_) => true,
            State::Receiving(place) => {
                server.structures > 1
                    || match place.field {
                        Field::Energy => false,
                        Field::Forces => place.index > 0 || server.progress.at > 0,
                        _ => true,
                    }
            }
            _ => false,
        }
    }

    pub(super) fn is_same_request(&self) -> bool {
        self.server.request.is_some() && self.server.request == Some(self.of_request())
    }

    pub(super) fn is_same_answer(&self) -> bool {
        self.server.received.is_some() && self.server.received == Some(self.of_answer())
    }

    /// The fingerprint of this request's INIT.
    #[inline(never)]
    pub(super) fn of_init(&self) -> Fingerprint {
        let mut fingerprint = Fingerprint::new();
        fingerprint.word(self.request.replica as u32);
        fingerprint.bytes(self.request.text);
        fingerprint
    }

    /// The fingerprint of what was begun with this request: INIT only, or everything.
    #[inline(never)]
    pub(super) fn of_request(&self) -> Fingerprint {
        if self.owned {
            return Fingerprint::new();
        }
        let mut fingerprint = self.of_init();
        if self.server.first == Header::Init {
            return fingerprint;
        }
        fingerprint.word(size_of::<T>() as u32);
        for cell in self.request.cells {
            fingerprint.bytes(as_memory(cell.h().as_flattened()));
        }
        fingerprint.bytes(as_memory(self.request.positions.as_flattened()));
        fingerprint
    }

    /// The fingerprint of the arrays for an answer.
    #[inline(never)]
    pub(super) fn of_answer(&self) -> Fingerprint {
        let mut fingerprint = Fingerprint::new();
        if self.owned {
            return fingerprint;
        }
        fingerprint.word(size_of::<T>() as u32);
        for answer in &*self.answers {
            fingerprint.bytes(as_memory(&[answer.evaluation.energy]));
            fingerprint.bytes(as_memory(answer.evaluation.virial.0.as_flattened()));
            for number in [answer.extras_at, answer.extras_kept, answer.extras_sent] {
                fingerprint.word(number as u32);
            }
        }
        fingerprint.bytes(as_memory(self.forces.as_flattened()));
        fingerprint.bytes(self.extras.get(..self.server.filled()).unwrap_or_default());
        // The number of bytes to keep is decided when the first of them arrives.
        if self.server.has_extras() {
            fingerprint.word(self.extras.len() as u32);
        }
        fingerprint
    }

    /// Stores what the next exchange needs to prove that it is the same.
    pub(super) fn leave(&mut self) {
        if self.stage != Stage::Entered || self.server.has_failed() {
            return;
        }
        let answered = self.server.unreported == Some(Goal::Forces);
        let sends = self.is_bound() || self.goal == Goal::Evaluate && answered;
        // An existing fingerprint is kept: only the exchange that began a request has none yet.
        if sends && self.server.request.is_none() {
            self.server.request = Some(self.of_request());
        }
        if matches!(self.goal, Goal::Forces | Goal::Evaluate) && self.answer_has_begun() {
            self.server.received = Some(self.of_answer());
        }
    }

    /// Takes over from an earlier exchange.
    #[inline(never)]
    pub(super) fn take_over(&mut self) -> Result<(), Refused> {
        #[cfg(feature = "std")]
        if self.follows_none() {
            self.stage = Stage::Entered;
            return Ok(());
        }
        // A message is abandoned if none of its bytes have moved.
        if self.server.progress.message == 0
            && (self.server.is_sending() || self.server.is_receiving())
        {
            self.server.state = State::Idle;
        }
        // Forget a complete answer that may belong to another request: the driver owes nothing.
        if self.goal == Goal::Evaluate
            && self.server.is_idle()
            && self.server.unreported == Some(Goal::Forces)
            && !(self.is_same_request() && self.is_same_answer())
        {
            self.server.unreported = None;
        }
        self.check_identity()?;
        if matches!(self.goal, Goal::Forces | Goal::Evaluate | Goal::Discard) {
            self.server.received = None;
        }
        match self.goal {
            Goal::Exit if self.server.is_receiving() => self.server.between(Phase::Leaving),
            Goal::Discard => self.server.drop_answer(),
            // The new array may have another type of numbers, which needs another place in memory.
            _ => {
                if let State::Receiving(place) = self.server.state
                    && place == Place::start(Field::Forces)
                    && self.server.progress.at == 0
                {
                    self.forces_from(0);
                }
            }
        }
        self.stage = Stage::Entered;
        Ok(())
    }
}

impl Server {
    pub(super) const fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    pub(super) const fn has_failed(&self) -> bool {
        matches!(self.state, State::Leaving | State::Closed | State::Failed)
    }

    /// Whether extras of the answer have begun to arrive, or the whole answer has arrived.
    const fn has_extras(&self) -> bool {
        match self.state {
            State::Receiving(place) => matches!(place.field, Field::Extras | Field::ExtrasLength),
            State::Surplus(_) | State::Idle => true,
            _ => false,
        }
    }

    /// How many bytes of extras are in the caller's buffer.
    pub(super) const fn filled(&self) -> usize {
        match self.state {
            State::Receiving(place) => match place.field {
                Field::Extras => self.kept + self.progress.at,
                Field::ExtrasLength => self.kept,
                _ => 0,
            },
            State::Surplus(_) => self.kept,
            State::Idle if matches!(self.unreported, Some(Goal::Forces)) => self.kept,
            _ => 0,
        }
    }

    /// Drops the rest of an answer, whichever arrays it was meant for.
    #[cold]
    pub(super) fn drop_answer(&mut self) {
        if !self.owes_forces() {
            return;
        }
        let (at, end) = (self.progress.at, self.progress.end);
        if let State::Receiving(place) = self.state {
            match place.field {
                Field::Forces => {
                    let all = self
                        .carried
                        .saturating_mul(self.natoms())
                        .saturating_mul(ATOM);
                    let taken = place.index.saturating_mul(REAL).saturating_add(at);
                    self.copies(all.saturating_sub(taken));
                }
                Field::Extras => {
                    self.drop_extras(place.index, self.surplus.saturating_add(end - at))
                }
                _ => {}
            }
        }
        self.structures = 0;
        self.request = None;
    }
}

impl<T: Scalar> Drop for Course<'_, T> {
    fn drop(&mut self) {
        self.leave();
    }
}
