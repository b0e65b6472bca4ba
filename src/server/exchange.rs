//! The course of an exchange: its purpose, and what it does at each of its steps.

use core::convert::Infallible;
use core::fmt;

use super::turn::Turn;
use super::{Answer, Phase, Request, Server, State};
use crate::exchange::{Exchange, Refused, Sealed, Step, Wait, check_length};
use crate::protocol::header::HEADER;
use crate::protocol::layout::{ATOM, Field, INTEGER, Place, REAL};
use crate::protocol::{Header, ProtocolError, Quantity, Scalar};

/// The most structures that INIT can announce.
const MOST_STRUCTURES: usize = i32::MAX as usize;

/// The purpose of an exchange.
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

/// An exchange with a driver. Made by the methods of [`Server`].
#[must_use = "an exchange does nothing by itself: run it over a transport"]
pub struct ServerExchange<'a, T: Scalar, O> {
    pub(super) course: Course<'a, T>,
    output: fn(&Server) -> O,
}

/// An exchange without the type of its result.
pub(super) struct Course<'a, T: Scalar> {
    pub(super) server: &'a mut Server,
    pub(super) goal: Goal,
    pub(super) request: Request<'a, T>,
    pub(super) answers: &'a mut [Answer],
    pub(super) forces: &'a mut [[T; 3]],
    pub(super) extras: &'a mut [u8],
    pub(super) stage: Stage,
    /// Whether the caller that recreates this exchange owns its arrays and has not changed them.
    pub(super) owned: bool,
    /// How many bytes of extras the caller makes room for once they have been announced.
    #[cfg(feature = "std")]
    pub(super) growing: usize,
    /// Whether arrays and turn have been checked, which is enough for the rest of the message.
    #[cfg(feature = "std")]
    cleared: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The exchange has not been stepped yet.
    Made,
    /// The exchange is moving bytes.
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
                #[cfg(feature = "std")]
                growing: 0,
                #[cfg(feature = "std")]
                cleared: false,
            },
            output,
        }
    }

    /// Sets the request and the arrays of the exchange.
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

    /// For a caller that owns the arrays, changes them only between two exchanges, and recreates
    /// the same exchange for each piece that moves: no fingerprint is computed. The request has
    /// been [checked](Request::check).
    ///
    /// Up to `extras` bytes of extras are kept. If the buffer is too short for the announced
    /// extras, the exchange is refused with the required length, and continues with a buffer of
    /// that length.
    #[cfg(feature = "std")]
    pub(crate) const fn owned(mut self, extras: usize) -> Self {
        self.course.owned = true;
        self.course.growing = extras;
        self
    }

    /// The result of the exchange.
    fn outcome(&self) -> Step<'static, O> {
        Step::Done((self.output)(self.course.server))
    }

    /// The next slice, or the result of the exchange.
    #[inline(never)]
    fn look(&mut self) -> Step<'_, O> {
        if self.course.stage == Stage::Ended {
            return self.outcome();
        }
        match self.course.look() {
            Step::Read(bytes) => Step::Read(bytes),
            Step::Write(bytes) => Step::Write(bytes),
            Step::Done(never) => match never {},
        }
    }
}

impl<T: Scalar> Course<'_, T> {
    /// Continues until a byte has to move.
    #[inline(never)]
    fn prepare(&mut self) -> Result<(), Refused> {
        #[cfg(feature = "std")]
        if self.is_cleared() {
            return Ok(());
        }
        self.enter()?;
        self.begin()?;
        #[cfg(feature = "std")]
        {
            self.cleared = true;
        }
        // Only now are the arrays known to be those of the current message.
        if self.stage != Stage::Ended {
            self.fill();
        }
        Ok(())
    }

    /// Whether the exchange has ended, or moves a field of a message that it has been cleared for.
    /// For extras there may be no room yet.
    #[cfg(feature = "std")]
    const fn is_cleared(&self) -> bool {
        self.cleared
            && match self.server.state {
                _ if matches!(self.stage, Stage::Ended) => true,
                State::Gathered { .. } | State::Direct(_) => {
                    self.server.progress.at < self.server.progress.end
                }
                State::Receiving(place) => !matches!(place.field, Field::Extras),
                State::Header => true,
                _ => false,
            }
    }

    /// Handles moved bytes.
    // The virial is computed here, where almost nothing is on the stack: software floating point
    // takes most of what a call may use.
    #[inline(never)]
    fn advance(&mut self, n: usize) {
        if self.stage != Stage::Entered {
            return;
        }
        if !self.moved(n) {
            #[cfg(feature = "std")]
            if T::IS_WIRE && self.server.incoming() == Some(Field::Forces) {
                self.server.progress.look(self.forces.as_flattened());
            }
            return;
        }
        if let Some(virial) = self.take_virial() {
            virial.symmetrize();
        }
        self.go_on();
    }

    /// The next slice.
    #[inline(never)]
    fn look(&mut self) -> Step<'_, Infallible> {
        let at = self.server.progress.at;
        match self.server.state {
            State::Direct(first) => {
                let bytes = T::as_wire(self.request.numbers(first)).unwrap_or_default();
                Step::Write(bytes.get(at..).unwrap_or_default())
            }
            State::Gathered { .. } => Step::Write(self.server.progress.rest()),
            State::Receiving(place) if place.field == Field::Forces && T::IS_WIRE => {
                let bytes = T::as_wire_mut(self.forces.as_flattened_mut()).unwrap_or_default();
                Step::Read(bytes.get_mut(at..).unwrap_or_default())
            }
            State::Receiving(place) if place.field == Field::Extras => {
                let (kept, end) = (self.server.kept, self.server.progress.end);
                let room = self.extras.get_mut(kept..).unwrap_or_default();
                let room = room.get_mut(..end).unwrap_or_default();
                Step::Read(room.get_mut(at..).unwrap_or_default())
            }
            _ => Step::Read(self.server.progress.rest_mut()),
        }
    }

    /// Checks the request before anything changes, then takes over from an earlier exchange.
    // The stack is almost empty here; software floating point takes most of the stack that a call
    // may use.
    #[inline(never)]
    fn enter(&mut self) -> Result<(), Refused> {
        if self.stage == Stage::Made {
            if self.will_send() {
                self.check_request()?;
                self.check_cells()?;
            }
            self.take_over()?;
        }
        Ok(())
    }

    /// Checks in advance what the next step would refuse.
    fn look_ahead(&mut self) -> Result<(), Refused> {
        if self.server.is_idle() && self.stage != Stage::Ended {
            self.next().map(|_| ())
        } else {
            self.check_state()
        }
    }

    /// Begins the next message, if none is moving. Fails if the exchange can't continue.
    #[inline(never)]
    fn begin(&mut self) -> Result<(), Refused> {
        if self.server.is_idle() && self.stage != Stage::Ended {
            self.begin_next()?;
        }
        self.check_state()
    }

    /// The next step between two messages. Fails if the arrays have no room for its results.
    fn next(&mut self) -> Result<Turn, Refused> {
        let turn = match self.server.unreported {
            Some(goal) if goal == self.goal => Turn::Ends,
            Some(Goal::Forces) if self.goal == Goal::Evaluate => Turn::Ends,
            _ => self.turn(),
        };
        match turn {
            Turn::Ends => {}
            Turn::Waits => self.out_of_turn()?,
            Turn::Sends(Header::PosData) => {
                let structures = self.request.cells.len();
                let most = structures.min(self.server.carried);
                let error = &mut self.server.error;
                check_length(error, Quantity::Structures, structures, most)?;
            }
            _ if matches!(self.goal, Goal::Forces | Goal::Evaluate)
                && self.server.owes_forces() =>
            {
                self.check_room(self.server.natoms(), self.server.structures)?;
            }
            _ => {}
        }
        Ok(turn)
    }

    /// Begins the next message, or finds that no work remains.
    fn begin_next(&mut self) -> Result<(), Refused> {
        let turn = self.next()?;
        match turn {
            Turn::Ends => {
                if self.goal == Goal::Send {
                    // From here on, the next call may have other positions.
                    self.server.request = None;
                }
                self.stage = Stage::Ended;
            }
            Turn::Reads => {
                self.server.state = State::Header;
                self.server.progress.expect(HEADER);
            }
            Turn::Sends(first) => {
                if first == Header::Init {
                    let batch_size = self.server.mode.batch_size();
                    let most = batch_size.min(MOST_STRUCTURES);
                    let error = &mut self.server.error;
                    check_length(error, Quantity::Structures, batch_size, most)?;
                    let len = self.request.announcement(batch_size).len();
                    if i32::try_from(len).is_err() {
                        return self.server.refuse(ProtocolError::TextTooLong(len));
                    }
                }
                self.server.first = first;
                self.server.gather(first, Place::HEADER);
            }
            // `next` has refused this.
            Turn::Waits => {}
        }
        // Discard drops an answer, but not the results of other exchanges.
        if self.goal != Goal::Discard || self.server.unreported == Some(Goal::Forces) {
            self.server.unreported = None;
        }
        Ok(())
    }

    /// Counts moved bytes, and returns whether the slice is complete.
    fn moved(&mut self, n: usize) -> bool {
        let begins = self.server.is_sending() && self.server.progress.message == 0 && n > 0;
        if begins && matches!(self.server.first, Header::Init | Header::PosData) {
            self.server.request = None;
            self.server.init = None;
            if self.server.first == Header::PosData {
                self.server.natoms = Some(self.request.natoms());
                self.server.structures = self.request.cells.len();
            } else if self.goal == Goal::Evaluate {
                self.server.init = Some(self.of_init());
            }
        }
        self.server.moved(n)
    }

    /// Continues after a complete slice.
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
            State::Idle | State::Closed | State::Failed => {}
            _ => self.complete(),
        }
    }
}

impl<T: Scalar, O> Sealed for ServerExchange<'_, T, O> {}

impl<T: Scalar, O> Exchange for ServerExchange<'_, T, O> {
    type Output = O;

    fn enter(&mut self) -> Result<(), ProtocolError> {
        let course = &mut self.course;
        course
            .enter()
            .and_then(|()| course.look_ahead())
            .map_err(|Refused| course.server.error)
    }

    fn step(&mut self) -> Result<Step<'_, O>, ProtocolError> {
        match self.course.prepare() {
            Ok(()) => Ok(self.look()),
            Err(Refused) => Err(self.course.server.error),
        }
    }

    fn advance(&mut self, n: usize) {
        self.course.advance(n);
    }

    fn end(&mut self) {
        self.course.server.ended();
    }

    fn midway(&self) -> bool {
        self.course.server.progress.message > 0
    }

    fn lent(&self) -> &[u8] {
        T::as_wire(self.course.request.positions.as_flattened()).unwrap_or_default()
    }

    /// Expects the forces of one structure, in the answer to GETFORCE.
    fn expects(&self) -> Option<(usize, usize)> {
        let (course, server) = (&self.course, &*self.course.server);
        let waits = matches!(server.state, State::Header) && server.progress.at == 0;
        if !waits || !server.greeted {
            return None;
        }
        let single = T::IS_WIRE && server.carried == 1 && server.structures == 1;
        match server.phase {
            Phase::Awaiting if single => {
                Some((HEADER + REAL + INTEGER, course.forces.len() * ATOM))
            }
            Phase::Awaiting | Phase::Computing => Some((0, 0)),
            _ => None,
        }
    }

    fn array(&mut self) -> &mut [u8] {
        T::as_wire_mut(self.course.forces.as_flattened_mut()).unwrap_or_default()
    }

    #[inline(always)]
    fn waits_for(&self) -> Wait {
        let wait = self
            .course
            .server
            .waits_for(self.course.stage == Stage::Made);
        if self.course.stage == Stage::Ended {
            wait.nothing()
        } else {
            wait
        }
    }
}
