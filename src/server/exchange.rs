//! What an exchange is for, whether it may continue what was begun, and what comes next in it.

use core::convert::Infallible;
use core::fmt;

use super::request::{check_cell, check_length};
use super::{Answer, Mode, Phase, Request, Server, State};
use crate::exchange::fingerprint::Fingerprint;
use crate::exchange::{Awaited, Exchange, Sealed, Step, Wait};
use crate::geometry::Cell;
use crate::protocol::header::HEADER;
use crate::protocol::layout::{ATOM, Field, Place, REAL};
use crate::protocol::scalar::as_memory;
use crate::protocol::{Header, ProtocolError, Quantity, Scalar};

/// What an exchange is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    Status,
    Initialize,
    Send,
    Forces,
    Evaluate,
    Discard,
    Exit,
}

/// An exchange with a driver; made by the methods of [`Server`].
#[must_use = "an exchange does nothing by itself: run it over a transport"]
pub struct ServerExchange<'a, T: Scalar, O> {
    pub(super) course: Course<'a, T>,
    output: fn(&Server) -> O,
}

/// An exchange, whatever it ends with.
pub(super) struct Course<'a, T: Scalar> {
    pub(super) server: &'a mut Server,
    pub(super) goal: Goal,
    pub(super) request: Request<'a, T>,
    pub(super) answers: &'a mut [Answer],
    pub(super) forces: &'a mut [[T; 3]],
    pub(super) extras: &'a mut [u8],
    stage: Stage,
    /// Whoever makes this exchange anew owns its arrays and has not changed them.
    owned: bool,
    /// Why the step under way can't be made.
    refused: Option<ProtocolError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing has been asked of it.
    Made,
    /// It is the exchange that moves the bytes.
    Entered,
    Ended,
}

impl<T: Scalar, O> fmt::Debug for ServerExchange<'_, T, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerExchange")
            .field("goal", &self.course.goal)
            .field("server", &self.course.server)
            .finish_non_exhaustive()
    }
}

impl<'a, T: Scalar, O> ServerExchange<'a, T, O> {
    pub(super) const fn new(server: &'a mut Server, goal: Goal, output: fn(&Server) -> O) -> Self {
        Self {
            course: Course {
                server,
                goal,
                request: Request::NOTHING,
                answers: &mut [],
                forces: &mut [],
                extras: &mut [],
                stage: Stage::Made,
                owned: false,
                refused: None,
            },
            output,
        }
    }

    /// The same with these arrays.
    pub(super) const fn with(
        mut self,
        request: Request<'a, T>,
        answers: &'a mut [Answer],
        forces: &'a mut [[T; 3]],
        extras: &'a mut [u8],
    ) -> Self {
        self.course.request = request;
        self.course.answers = answers;
        self.course.forces = forces;
        self.course.extras = extras;
        self
    }

    /// For a caller that owns the arrays, changes them only between two exchanges, and makes the same
    /// exchange anew for each piece that moves: no fingerprint is taken of them.
    #[cfg(feature = "std")]
    pub(crate) const fn owned(mut self) -> Self {
        self.course.owned = true;
        self
    }

    /// What the exchange ends with.
    #[inline(never)] // it may be large
    fn outcome(&self) -> Step<'static, O> {
        Step::Done((self.output)(self.course.server))
    }

    /// The slice that moves next, or what the exchange ends with.
    #[inline(never)]
    fn look(&mut self) -> Result<Step<'_, O>, ProtocolError> {
        if self.course.stage == Stage::Ended {
            return Ok(self.outcome());
        }
        Ok(match self.course.look()? {
            Step::Read(bytes) => Step::Read(bytes),
            Step::Write(bytes) => Step::Write(bytes),
            Step::Done(never) => match never {},
        })
    }
}

impl<T: Scalar> Course<'_, T> {
    /// Whether the exchange that this one follows may be continued by it. Changes nothing if not.
    fn check_identity(&self) -> Result<(), ProtocolError> {
        use Goal::{Discard, Evaluate, Exit, Forces, Initialize, Send, Status};

        let server = &*self.server;
        let unreported = |goal| server.state == State::Idle && server.unreported == Some(goal);
        match (self.goal, server.state) {
            _ if server.has_failed() => return Ok(()),
            (Exit, State::Gathered { .. }) if server.first == Header::Exit => return Ok(()),
            (Exit | Status | Forces | Discard, _) if self.needs_request() => {
                return Err(ProtocolError::Unfinished(server.first));
            }
            (Initialize, _) if self.is_leaving(Header::Init) || unreported(Initialize) => {
                self.is_same_request(ProtocolError::Unfinished(Header::Init))?;
            }
            (Send, _) if self.is_leaving(Header::PosData) || unreported(Send) => {
                self.is_same_request(ProtocolError::Unfinished(Header::PosData))?;
            }
            (Evaluate, _) if self.needs_request() => {
                self.is_same_request(ProtocolError::Unfinished(server.first))?;
            }
            (Evaluate, _) if server.owes_forces() => {
                self.is_same_request(ProtocolError::AnswerDue)?;
            }
            _ => {}
        }
        match self.goal {
            Forces | Evaluate if server.owes_forces() && server.structures == 0 => {
                Err(ProtocolError::AnswerDue)
            }
            Forces | Evaluate if self.answer_has_begun() => {
                self.check_room(server.natoms(), server.structures)?;
                self.is_same_answer()
            }
            _ => Ok(()),
        }
    }

    /// Whether a write that began with this message is leaving, and has left in part.
    fn is_leaving(&self, first: Header) -> bool {
        let server = &*self.server;
        server.is_sending() && server.progress.message > 0 && server.first == first
    }

    /// Whether the rest of what is leaving is in the caller's arrays.
    fn needs_request(&self) -> bool {
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
    fn answer_has_begun(&self) -> bool {
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

    fn is_same_request(&self, otherwise: ProtocolError) -> Result<(), ProtocolError> {
        if self.server.request.is_some() && self.server.request == Some(self.of_request()) {
            Ok(())
        } else {
            Err(otherwise)
        }
    }

    fn is_same_answer(&self) -> Result<(), ProtocolError> {
        if self.server.received.is_some() && self.server.received == Some(self.of_answer()) {
            Ok(())
        } else {
            Err(ProtocolError::Unfinished(Header::ForceReady))
        }
    }

    /// The fingerprint of what was begun with this request: of INIT, or of the positions.
    #[inline(never)]
    fn of_request(&self) -> Fingerprint {
        let mut fingerprint = Fingerprint::new();
        if self.owned {
            return fingerprint;
        }
        if self.server.first == Header::Init {
            fingerprint.word(self.request.replica as u32);
            fingerprint.bytes(self.request.text);
            return fingerprint;
        }
        fingerprint.word(size_of::<T>() as u32);
        for cell in self.request.cells {
            fingerprint.bytes(as_memory(cell.h().as_flattened()));
        }
        fingerprint.bytes(as_memory(self.request.positions.as_flattened()));
        fingerprint
    }

    /// The fingerprint of the arrays that an answer goes into.
    #[inline(never)]
    fn of_answer(&self) -> Fingerprint {
        let mut fingerprint = Fingerprint::new();
        if self.owned {
            return fingerprint;
        }
        fingerprint.word(size_of::<T>() as u32);
        for answer in &*self.answers {
            fingerprint.bytes(as_memory(&[answer.energy]));
            fingerprint.bytes(as_memory(answer.virial.0.as_flattened()));
            for number in [answer.extras_at, answer.extras_kept, answer.extras_sent] {
                fingerprint.word(number as u32);
            }
        }
        fingerprint.bytes(as_memory(self.forces.as_flattened()));
        fingerprint.bytes(self.extras.get(..self.server.filled()).unwrap_or_default());
        fingerprint
    }

    /// Leaves what the next exchange needs to prove that it is the same.
    fn leave(&mut self) {
        use Goal::{Evaluate, Initialize, Send};

        if self.stage != Stage::Entered || self.server.has_failed() {
            return;
        }
        let server = &*self.server;
        let sends = self.needs_request()
            || match self.goal {
                Initialize => {
                    self.is_leaving(Header::Init) || server.unreported == Some(Initialize)
                }
                Send => self.is_leaving(Header::PosData) || server.unreported == Some(Send),
                Evaluate => server.owes_forces() || server.unreported == Some(Goal::Forces),
                _ => false,
            };
        // What was proved once is proved: only the exchange that began a request has no proof yet.
        if sends && server.request.is_none() {
            self.server.request = Some(self.of_request());
        }
        if matches!(self.goal, Goal::Forces | Evaluate) && self.answer_has_begun() {
            self.server.received = Some(self.of_answer());
        }
    }

    /// Takes over from the exchange before.
    fn take_over(&mut self) -> Result<(), ProtocolError> {
        // A message of which no byte has moved is abandoned.
        if self.server.progress.message == 0
            && (self.server.is_sending() || self.server.is_receiving())
        {
            self.server.state = State::Idle;
        }
        // A complete answer that cannot be told to be this request's is forgotten: nothing is owed.
        if self.goal == Goal::Evaluate
            && self.server.state == State::Idle
            && self.server.unreported == Some(Goal::Forces)
            && self
                .is_same_request(ProtocolError::AnswerDue)
                .and_then(|()| self.is_same_answer())
                .is_err()
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
            // Perhaps with numbers of another type, which are not read into the same memory.
            _ if self.server.state == State::Receiving(Place::start(Field::Forces))
                && self.server.progress.at == 0 =>
            {
                self.forces_from(0);
            }
            _ => {}
        }
        self.stage = Stage::Entered;
        Ok(())
    }

    /// Whether the exchange can continue from here, or has nothing left to do.
    fn check_state(&mut self) -> Result<(), ProtocolError> {
        let (leaving, asking) = (self.goal == Goal::Exit, self.goal == Goal::Status);
        match self.server.state {
            _ if self.stage == Stage::Ended => {}
            State::Failed(error) => return Err(error),
            State::Leaving if leaving => {}
            State::Closed if leaving => self.stage = Stage::Ended,
            State::Leaving | State::Closed if asking => self.stage = Stage::Ended,
            // Between two messages `begin_next` has seen that; one that was sent EXIT owes nothing either.
            _ if self.goal == Goal::Discard && !self.server.owes_forces() => {
                self.stage = Stage::Ended;
            }
            State::Closed if self.server.phase != Phase::Leaving => {
                return Err(ProtocolError::Unanswered(self.server.asked()));
            }
            // Forces are coming: there is nothing to ask.
            _ if asking && self.server.phase == Phase::Awaiting && self.server.is_receiving() => {
                self.stage = Stage::Ended;
            }
            _ => self.check_turn()?,
        }
        Ok(())
    }

    /// The slice that moves next.
    #[inline(never)]
    fn look(&mut self) -> Result<Step<'_, Infallible>, ProtocolError> {
        if let Some(error) = self.refused.take() {
            return Err(error);
        }
        let at = self.server.progress.at;
        match self.server.state {
            State::Direct(first) => {
                let bytes = T::as_wire(self.request.numbers(first)).unwrap_or_default();
                Ok(Step::Write(bytes.get(at..).unwrap_or_default()))
            }
            State::Gathered { .. } => Ok(Step::Write(self.server.progress.rest())),
            State::Receiving(place) if place.field == Field::Forces && T::IS_WIRE => {
                let bytes = T::as_wire_mut(self.forces.as_flattened_mut()).unwrap_or_default();
                Ok(Step::Read(bytes.get_mut(at..).unwrap_or_default()))
            }
            State::Receiving(place) if place.field == Field::Extras => {
                let (kept, end) = (self.server.kept, self.server.progress.end);
                let room = self.extras.get_mut(kept..).unwrap_or_default();
                let room = room.get_mut(..end).unwrap_or_default();
                Ok(Step::Read(room.get_mut(at..).unwrap_or_default()))
            }
            _ => Ok(Step::Read(self.server.progress.rest_mut())),
        }
    }

    /// Remembers why the step can't be made; whether it can.
    fn allows(&mut self, result: Result<(), ProtocolError>) -> bool {
        self.refused = result.err();
        self.refused.is_none()
    }

    /// Takes over, and checks what is to be sent.
    #[inline(never)] // here and below, so that only one of them is on the stack
    fn enter(&mut self) -> bool {
        if self.stage == Stage::Made {
            let result = self.take_over();
            if !self.allows(result) {
                return false;
            }
        }
        let result = if self.sends_next() {
            self.check_request()
        } else {
            Ok(())
        };
        self.allows(result)
    }

    /// Checks the cells that are to be sent.
    #[inline(always)]
    fn check_cells(&mut self) -> bool {
        if self.sends_next() {
            for cell in self.request.cells {
                let inverted = cell.invert_upper(&mut self.server.inverse) && cell.is_thick();
                if !self.check_cell(cell, inverted) {
                    return false;
                }
            }
        }
        true
    }

    #[inline(never)]
    fn check_cell(&mut self, cell: &Cell, inverted: bool) -> bool {
        self.allows(check_cell(cell, inverted))
    }

    /// Begins the next message if none is under way; whether the exchange may continue.
    #[inline(never)]
    fn begin(&mut self) -> bool {
        let begun = if self.server.state == State::Idle && self.stage != Stage::Ended {
            self.begin_next()
        } else {
            Ok(())
        };
        let result = begun.and_then(|()| self.check_state());
        self.allows(result)
    }

    /// Between messages: begins the next one, or finds that there is nothing left to do.
    fn begin_next(&mut self) -> Result<(), ProtocolError> {
        use Goal::{Discard, Evaluate, Exit, Forces, Initialize, Send, Status};

        let (goal, phase) = (self.goal, self.server.phase);
        let strict = self.server.mode == Mode::Strict;
        let ended = match (self.server.unreported, goal, phase) {
            (Some(Forces), Evaluate, _) => true,
            (Some(unreported), ..) if unreported == goal => true,
            (_, Status, Phase::Awaiting | Phase::HasData | Phase::Leaving) => true,
            (_, Status, Phase::Ready | Phase::NeedsInit) => strict,
            (_, Discard, Phase::Computing | Phase::HasData | Phase::Awaiting) => false,
            (_, Discard, _) => true,
            _ => false,
        };
        if ended {
            if goal == Send {
                // Whether the next call has the same positions is not known any more.
                self.server.request = None;
            }
            self.server.unreported = None;
            self.stage = Stage::Ended;
            return Ok(());
        }
        if matches!(goal, Forces | Evaluate) && self.server.owes_forces() {
            self.check_room(self.server.natoms(), self.server.structures)?;
        }
        let first = match (goal, phase) {
            (Exit, _) => Header::Exit,
            (Status | Evaluate, Phase::Asked | Phase::Initializing)
            | (Status | Forces | Discard | Evaluate, Phase::Computing)
            | (Forces | Discard | Evaluate, Phase::Awaiting) => {
                self.server.unreported = None;
                self.server.state = State::Header;
                self.server.progress.expect(HEADER);
                return Ok(());
            }
            (Status, _) | (Evaluate, Phase::Unknown) => Header::Status,
            (Initialize | Evaluate, Phase::NeedsInit) => {
                let batch_size = self.server.mode.batch_size();
                let len = self.request.announcement(batch_size).len();
                if i32::try_from(len).is_err() {
                    return Err(ProtocolError::TextTooLong(len));
                }
                Header::Init
            }
            (Send | Evaluate, Phase::Ready) => Header::PosData,
            (Forces | Discard | Evaluate, Phase::HasData) => Header::GetForce,
            (Initialize | Send | Forces | Evaluate, _) => return Err(self.out_of_turn()),
            (Discard, _) => return Ok(()),
        };
        self.server.unreported = None;
        self.server.first = first;
        self.server.gather(first, Place::HEADER);
        Ok(())
    }

    fn out_of_turn(&self) -> ProtocolError {
        ProtocolError::InvalidStatus {
            command: match self.goal {
                Goal::Status => Header::Status,
                Goal::Initialize => Header::Init,
                Goal::Send | Goal::Evaluate => Header::PosData,
                Goal::Forces | Goal::Discard => Header::GetForce,
                Goal::Exit => Header::Exit,
            },
            status: self.server.last_status(),
        }
    }

    /// Whether it is this exchange's turn: what is leaving or coming is part of what it is for.
    fn check_turn(&self) -> Result<(), ProtocolError> {
        use Goal::{Discard, Evaluate, Exit, Forces, Initialize, Send, Status};

        let server = &*self.server;
        let belongs = if server.is_sending() {
            match (server.first, self.goal) {
                // The rest of it needs no arguments, or this exchange has them.
                (_, Status) | (Header::Exit, Exit) => true,
                (Header::Exit, _) => false,
                (_, Exit | Evaluate) | (Header::Init, Initialize) | (Header::PosData, Send) => true,
                (Header::PosData | Header::GetForce, Forces | Discard) => true,
                _ => false,
            }
        } else if server.is_receiving() {
            match (self.goal, server.phase) {
                (Status | Evaluate, Phase::Asked | Phase::Initializing)
                | (Status | Discard, Phase::Computing)
                | (Discard, Phase::Awaiting) => true,
                (Forces | Evaluate, Phase::Computing | Phase::Awaiting) => {
                    return self.check_room(server.natoms(), server.structures);
                }
                _ => false,
            }
        } else {
            false
        };
        if belongs {
            Ok(())
        } else {
            Err(self.out_of_turn())
        }
    }

    /// Whether positions are what leaves next.
    fn sends_next(&self) -> bool {
        let between = self.server.state == State::Idle && self.stage != Stage::Ended;
        let sends = matches!(self.goal, Goal::Send | Goal::Evaluate);
        between && sends && self.server.phase == Phase::Ready
    }

    /// Whether the structures can be sent, except for their cells, and the arrays for the answers have
    /// the right lengths.
    fn check_request(&self) -> Result<(), ProtocolError> {
        let (server, request) = (&*self.server, &self.request);
        let structures = request.cells.len();
        let most = structures.min(server.carried);
        check_length(Quantity::Structures, structures, most)?;
        request.check_atoms(server.not_finite)?;
        let natoms = request.natoms();
        match server.natoms {
            Some(expected) if expected != natoms && !server.changing_atoms => {
                return Err(ProtocolError::AtomsChanged {
                    announced: natoms,
                    expected,
                });
            }
            _ => {}
        }
        if self.goal == Goal::Evaluate {
            self.check_room(natoms, structures)?;
        }
        Ok(())
    }

    /// Whether the answers to this many structures have a place.
    fn check_room(&self, natoms: usize, structures: usize) -> Result<(), ProtocolError> {
        let forces = natoms.saturating_mul(structures);
        check_length(Quantity::Forces, self.forces.len(), forces)?;
        // A single answer is returned in any case.
        if structures > 1 || !self.answers.is_empty() {
            check_length(Quantity::Evaluations, self.answers.len(), structures)?;
        }
        let expected = match self.server.state {
            // Bytes that were announced and fitted into the buffer.
            State::Receiving(place) if place.field == Field::Extras => {
                self.server.kept + self.server.progress.end
            }
            _ => self.server.filled(),
        };
        check_length(Quantity::Extras, self.extras.len().min(expected), expected)
    }

    /// Counts bytes that have moved, and returns whether the slice is complete.
    #[inline(never)]
    fn moved(&mut self, n: usize) -> bool {
        let server = &mut *self.server;
        if server.is_sending() && server.progress.message == 0 && n > 0 {
            if matches!(server.first, Header::Init | Header::PosData) {
                server.request = None;
            }
            if server.first == Header::PosData {
                server.natoms = Some(self.request.natoms());
                server.structures = self.request.cells.len();
            }
        }
        server.moved(n)
    }

    /// All of a slice has moved.
    #[inline(never)]
    fn go_on(&mut self) {
        match self.server.state {
            State::Gathered { message, place } => self.server.gather(message, place),
            State::Direct(first) => {
                let sent = first.saturating_add(self.server.progress.end / REAL);
                let place = if sent < self.numbers() {
                    Place::start(Field::Positions).at(sent)
                } else {
                    Place::END
                };
                self.server.gather(Header::PosData, place);
            }
            State::Leaving => self.server.progress.at = 0,
            State::Idle | State::Closed | State::Failed(_) => {}
            _ => self.complete(),
        }
    }
}

impl Server {
    const fn has_failed(&self) -> bool {
        matches!(
            self.state,
            State::Leaving | State::Closed | State::Failed(_)
        )
    }

    /// Bytes of extras that are in the caller's buffer.
    const fn filled(&self) -> usize {
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

    /// Drops what is still to come of an answer, whatever arrays it was for.
    fn drop_answer(&mut self) {
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

impl<T: Scalar, O> Sealed for ServerExchange<'_, T, O> {}

impl<T: Scalar, O> Exchange for ServerExchange<'_, T, O> {
    type Output = O;

    fn step(&mut self) -> Result<Step<'_, O>, ProtocolError> {
        // Whatever computes is called from here with next to nothing on the stack: where floating point
        // is software, it takes most of what a call may.
        if self.course.enter() && self.course.check_cells() && self.course.begin() {
            self.course.fill();
        }
        self.look()
    }

    fn advance(&mut self, n: usize) {
        if self.course.stage != Stage::Entered || !self.course.moved(n) {
            return;
        }
        // From here, as in `step`.
        if let Some(virial) = self.course.take_virial() {
            virial.symmetrize();
        }
        self.course.go_on();
    }

    fn end(&mut self) {
        self.course.server.ended();
    }

    fn midway(&self) -> bool {
        self.course.server.progress.message > 0
    }

    #[inline(always)]
    fn waits_for(&self) -> Wait {
        let wait = self.course.server.waits_for();
        // A message that the exchange before has only looked at.
        let looked =
            self.course.stage == Stage::Made && wait.awaited == Awaited::Taken && wait.moved == 0;
        if self.course.stage == Stage::Ended || looked {
            wait.nothing()
        } else {
            wait
        }
    }
}
