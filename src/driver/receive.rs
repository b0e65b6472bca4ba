//! The exchange that takes positions.

use core::fmt;

use super::windows::Destination;
use super::{Driver, Event, Phase, State};
use crate::exchange::fingerprint::Fingerprint;
use crate::exchange::{Awaited, Exchange, Sealed, Step, Wait, copy};
use crate::geometry::Cell;
use crate::protocol::layout::{self, Field, MATRIX, Place, REAL};
use crate::protocol::scalar::as_memory;
use crate::protocol::{Header, ProtocolError, Quantity, detect};

/// Ends with an [`Event`]; made by [`Driver::receive`].
#[must_use = "an exchange does nothing by itself: run it over a transport"]
pub struct Receive<'a, P: Destination> {
    driver: &'a mut Driver,
    cells: &'a mut [Cell],
    positions: P,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    /// Nothing has been asked of it.
    Made,
    /// It is the exchange that moves the bytes.
    Entered,
    /// It has ended with INIT, or with positions.
    Init,
    Positions,
}

impl<'a, P: Destination> Receive<'a, P> {
    pub(super) const fn new(driver: &'a mut Driver, cells: &'a mut [Cell], positions: P) -> Self {
        Self {
            driver,
            cells,
            positions,
            stage: Stage::Made,
        }
    }

    /// Continues what the exchange before it has begun, if the arrays are the same.
    #[inline(never)]
    fn enter(&mut self) -> Result<(), ProtocolError> {
        if self.holds_something() {
            let seal = self.driver.seal;
            if seal.is_none() || seal != self.fingerprint() {
                return Err(ProtocolError::Unfinished(Header::PosData));
            }
            self.driver.seal = None;
        }
        match self.driver.state {
            State::Replied => self.driver.expect_message(),
            // Perhaps with numbers of another type, which are not read into the same memory.
            State::Receiving { place, .. }
                if place == Place::start(Field::Positions) && self.driver.progress.at == 0 =>
            {
                self.expect_positions(0)?;
            }
            _ => {}
        }
        self.stage = Stage::Entered;
        Ok(())
    }

    /// Whether part of POSDATA is in the caller's arrays.
    fn holds_something(&self) -> bool {
        match self.driver.state {
            State::Received => true,
            State::Receiving { place, .. } => match place.field {
                Field::Cell => place.index > 0,
                Field::Positions => {
                    let (at, structures) = (self.driver.progress.at, self.driver.structures);
                    at > 0 || place.index > 0 || structures > 1
                }
                _ => false,
            },
            _ => false,
        }
    }

    /// Bytes of the positions' memory that are filled.
    fn filled(&self) -> usize {
        match self.driver.state {
            State::Received => self.driver.total().saturating_mul(3 * P::REAL),
            State::Receiving { place, .. } if place.field == Field::Positions => {
                if P::IS_WIRE {
                    self.driver.progress.at
                } else {
                    place.index.saturating_mul(P::REAL)
                }
            }
            _ => 0,
        }
    }

    /// Of what is in the caller's arrays.
    fn fingerprint(&self) -> Option<Fingerprint> {
        let cells = match (self.driver.state, self.driver.structures) {
            (_, 1) => 0,
            (State::Receiving { place, .. }, _) if place.field == Field::Cell => place.index,
            (_, structures) => structures,
        };
        let mut fingerprint = Fingerprint::new();
        for cell in self.cells.get(..cells)? {
            fingerprint.bytes(as_memory(cell.h().as_flattened()));
        }
        let known = self.positions.add_to(&mut fingerprint, self.filled());
        known.then_some(fingerprint)
    }

    /// Whether the caller's arrays have room for what was announced.
    fn room(&mut self) -> Result<(), ProtocolError> {
        let (announced, structures) = (self.driver.total(), self.driver.structures);
        let field = match self.driver.state {
            State::Receiving { place, .. } => place.field,
            // A sink begins with no atoms as well.
            State::Received if announced == 0 => Field::Positions,
            _ => return Ok(()),
        };
        match field {
            Field::Cell if structures > 1 && self.cells.len() < structures => {
                Err(ProtocolError::TooManyStructures {
                    announced: structures,
                    capacity: self.cells.len(),
                })
            }
            Field::Positions | Field::Cell if structures > 1 || field == Field::Positions => self
                .positions
                .room(announced)
                .map_err(|capacity| ProtocolError::TooManyAtoms {
                    announced,
                    capacity,
                }),
            _ => Ok(()),
        }
    }

    /// A field of POSDATA has come into the scratch.
    fn complete(&mut self, message: Header, place: Place) -> Result<(), ProtocolError> {
        let driver = &mut *self.driver;
        let mut bytes = driver.progress.field();
        match place.field {
            Field::Cell if driver.structures == 1 => {
                let (sent, batch) = (bytes, detect::is_batch(bytes));
                layout::take_cell(&mut bytes, &mut driver.cell);
                let announced = layout::take_i32(&mut bytes);
                if batch {
                    return Err(ProtocolError::UnannouncedBatch);
                }
                driver.check_cell(sent, &driver.cell)?;
                driver.atoms(announced)?;
                self.expect_positions(0)
            }
            Field::Atoms => {
                let announced = layout::take_i32(&mut bytes);
                driver.atoms(announced)?;
                driver.expect(message, place.next(message, driver.structures));
                Ok(())
            }
            Field::Cell => {
                // A missing slot has been refused: see `room`.
                if let Some(cell) = self.cells.get_mut(place.index) {
                    if place.index == 0 {
                        layout::take_cell(&mut { bytes }, &mut driver.cell);
                    }
                    layout::take_cell(&mut { bytes }, cell);
                    driver.check_cell(bytes.get(..MATRIX).unwrap_or_default(), cell)?;
                }
                match place.next(message, driver.structures) {
                    next if next.field == Field::Cell => {
                        driver.expect(message, next);
                        Ok(())
                    }
                    _ => self.expect_positions(0),
                }
            }
            Field::Positions if P::IS_WIRE => {
                let total = driver.total();
                driver.check_positions(self.positions.wire(total))?;
                self.received()
            }
            Field::Positions => {
                if place.index == 0 {
                    driver.check_positions(bytes)?;
                }
                let (end, not_finite) = (driver.progress.end, driver.not_finite);
                let wire = driver.progress.scratch.0.get_mut(..end).unwrap_or_default();
                let finite = self.positions.put(place.index, wire, not_finite);
                if !finite {
                    return Err(ProtocolError::NotFinite(Quantity::Positions));
                }
                self.expect_positions(place.index.saturating_add(end / REAL))
            }
            _ => {
                driver.complete();
                Ok(())
            }
        }
    }

    /// Continues with positions from this number on, or ends when there are no more.
    fn expect_positions(&mut self, first: usize) -> Result<(), ProtocolError> {
        let driver = &mut *self.driver;
        let numbers = driver.total().saturating_mul(3);
        if numbers == 0 {
            // There is always room for none, and a sink has to know.
            let _ = self.positions.room(0);
            self.finish();
            return Ok(());
        }
        if first >= numbers {
            return self.received();
        }
        driver.expect(Header::PosData, Place::start(Field::Positions).at(first));
        if P::IS_WIRE {
            driver.progress.expect_array(numbers.saturating_mul(REAL));
        }
        Ok(())
    }

    /// All positions are here.
    fn received(&mut self) -> Result<(), ProtocolError> {
        let driver = &mut *self.driver;
        if !driver.not_finite && !self.positions.all_finite(driver.total()) {
            return Err(ProtocolError::NotFinite(Quantity::Positions));
        }
        self.finish();
        Ok(())
    }

    /// The structure is complete.
    fn finish(&mut self) {
        self.driver.expect_message();
        self.driver.phase = Phase::HaveData;
        self.driver.state = State::Received;
    }

    /// What the exchange has ended with.
    fn event(&self) -> Step<'static, Event> {
        Step::Done(match self.stage {
            Stage::Init => Event::Init {
                replica: self.driver.replica().unwrap_or(0),
            },
            _ => Event::Positions {
                natoms: self.driver.natoms(),
                structures: self.driver.structures,
                cell: self.driver.cell,
            },
        })
    }
}

impl<P: Destination> Sealed for Receive<'_, P> {}

impl<P: Destination> Exchange for Receive<'_, P> {
    type Output = Event;

    fn step(&mut self) -> Result<Step<'_, Event>, ProtocolError> {
        match self.stage {
            Stage::Made if P::RESUMES => self.enter()?,
            Stage::Made => self.stage = Stage::Entered,
            Stage::Entered => {}
            Stage::Init | Stage::Positions => return Ok(self.event()),
        }
        self.room()?;
        if self.driver.init_unreported {
            self.driver.init_unreported = false;
            self.stage = Stage::Init;
            return Ok(self.event());
        }
        match self.driver.state {
            State::Failed => Err(self.driver.error),
            State::Exited => Ok(Step::Done(Event::Exit)),
            State::Closed | State::Draining(_) => Ok(Step::Done(Event::Closed)),
            State::Received => {
                self.driver.expect_message();
                if self.driver.structures == 1
                    && let Some(first) = self.cells.first_mut()
                {
                    copy(first, &self.driver.cell);
                }
                self.stage = Stage::Positions;
                Ok(self.event())
            }
            _ if self.driver.phase == Phase::HaveData => Err(ProtocolError::ReplyDue),
            State::Receiving { place, .. } if P::IS_WIRE && place.field == Field::Positions => {
                let total = self.driver.total();
                let rest = self
                    .positions
                    .wire(total)
                    .get_mut(self.driver.progress.at..);
                Ok(Step::Read(rest.unwrap_or_default()))
            }
            _ => Ok(self.driver.step()),
        }
    }

    fn advance(&mut self, n: usize) {
        let driver = &mut *self.driver;
        let moving = matches!(
            driver.state,
            State::Idle | State::Receiving { .. } | State::Answering
        );
        if self.stage != Stage::Entered || driver.phase == Phase::HaveData || !moving {
            return;
        }
        if !driver.moved(n) {
            return;
        }
        let result = match driver.state {
            State::Receiving { message, place } => self.complete(message, place),
            State::Answering => {
                driver.expect_message();
                Ok(())
            }
            _ => {
                driver.complete();
                Ok(())
            }
        };
        if let Err(error) = result {
            self.driver.fail(error);
        }
    }

    fn end(&mut self) {
        self.driver.ended();
    }

    fn midway(&self) -> bool {
        self.driver.midway()
    }

    #[inline(always)]
    fn waits_for(&self) -> Wait {
        let driver = &*self.driver;
        let ended = matches!(self.stage, Stage::Init | Stage::Positions)
            || driver.init_unreported
            || driver.phase == Phase::HaveData;
        let wait = driver.waits_for(Awaited::Command);
        if ended { wait.nothing() } else { wait }
    }
}

impl<P: Destination> Drop for Receive<'_, P> {
    fn drop(&mut self) {
        if P::RESUMES && self.stage == Stage::Entered && self.holds_something() {
            self.driver.seal = self.fingerprint();
        }
    }
}

impl<P: Destination> fmt::Debug for Receive<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receive")
            .field("driver", &self.driver)
            .finish_non_exhaustive()
    }
}
