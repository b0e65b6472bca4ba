//! The exchange that receives positions.

use core::fmt;

use super::windows::Destination;
use super::{Driver, Event, Phase, State};
use crate::exchange::fingerprint::Fingerprint;
use crate::exchange::{Awaited, Exchange, Refused, Sealed, Step, Wait, copy};
use crate::geometry::Cell;
use crate::protocol::detect::{Format, JUDGED};
use crate::protocol::gather::SCRATCH;
use crate::protocol::header::HEADER;
use crate::protocol::layout::{ATOM, CELL, Field, INTEGER, Place, REAL};
use crate::protocol::scalar::as_memory;
use crate::protocol::{Header, ProtocolError, Quantity};

/// Ends with an [`Event`]. Made by [`Driver::receive`].
#[must_use = "an exchange does nothing by itself: run it over a transport"]
pub struct Receive<'a, P: Destination> {
    driver: &'a mut Driver,
    cells: &'a mut [Cell],
    positions: P,
    stage: Stage,
}

const POSITIONS: Place = Place::start(Field::Positions);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    /// The exchange has not been stepped yet.
    Made,
    /// The exchange is moving bytes.
    Entered,
    /// The exchange has ended with this event.
    Init,
    Positions,
    Exit,
    Closed,
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

    /// Takes over from an earlier exchange, if this one has not been stepped yet.
    #[inline(never)]
    fn take_over(&mut self) -> Result<(), Refused> {
        if self.stage != Stage::Made {
            return Ok(());
        }
        if P::RESUMES {
            self.resume()?;
        }
        let driver = &mut *self.driver;
        if driver.owes_reply() && !driver.is_over() && !driver.init_unreported {
            return driver.refuse(ProtocolError::ReplyDue);
        }
        self.stage = Stage::Entered;
        Ok(())
    }

    /// Continues what an earlier exchange has begun, if the arrays hold the same numbers.
    fn resume(&mut self) -> Result<(), Refused> {
        if self.holds_something() {
            let seal = self.driver.seal;
            if seal.is_none() || seal != self.fingerprint() {
                return self
                    .driver
                    .refuse(ProtocolError::Unfinished(Header::PosData));
            }
            self.driver.seal = None;
        }
        // The new array may have another type of numbers, which needs another place in memory.
        if self.driver.progress.at == 0 && self.driver.incoming() == Some(POSITIONS) {
            self.expect_numbers(0, self.driver.total().saturating_mul(3));
        }
        if matches!(self.driver.state, State::Replied) {
            self.driver.expect_message();
        }
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

    /// How many bytes of the positions' memory are filled.
    fn filled(&self) -> usize {
        match self.driver.state {
            // All positions were in an array.
            State::Received => (self.driver.natoms())
                .wrapping_mul(self.driver.structures)
                .wrapping_mul(3 * P::REAL),
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

    /// The fingerprint of what is in the caller's arrays.
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

    /// Checks that the caller's arrays have room for what was announced.
    fn room(&mut self) -> Result<(), Refused> {
        let (announced, structures) = (self.driver.total(), self.driver.structures);
        let field = match (self.driver.incoming(), self.driver.state) {
            (Some(place), _) => place.field,
            // A sink is also told about zero atoms.
            (None, State::Received) if announced == 0 => Field::Positions,
            _ => return Ok(()),
        };
        let error = match field {
            Field::Cell if structures > 1 && self.cells.len() < structures => {
                ProtocolError::TooManyStructures {
                    announced: structures,
                    capacity: self.cells.len(),
                }
            }
            Field::Positions | Field::Cell if structures > 1 || field == Field::Positions => {
                match self.positions.room(announced) {
                    Ok(()) => return Ok(()),
                    Err(capacity) => ProtocolError::TooManyAtoms {
                        announced,
                        capacity,
                    },
                }
            }
            _ => return Ok(()),
        };
        self.driver.refuse(error)
    }

    /// Continues until a byte has to move.
    #[inline(never)]
    fn go_on(&mut self) -> Result<(), Refused> {
        if self.stage != Stage::Entered {
            return Ok(());
        }
        self.room()?;
        let driver = &mut *self.driver;
        if driver.init_unreported {
            driver.init_unreported = false;
            self.stage = Stage::Init;
            return Ok(());
        }
        match driver.state {
            State::Failed | State::Draining(_) | State::Drained => return Err(Refused),
            State::Exited => self.stage = Stage::Exit,
            State::Closed => self.stage = Stage::Closed,
            State::Received => {
                driver.expect_message();
                match self.cells.first_mut() {
                    Some(first) if driver.structures == 1 => copy(first, &driver.cell),
                    Some(first) => copy(&mut driver.cell, first),
                    None => {}
                }
                self.stage = Stage::Positions;
            }
            _ => {}
        }
        Ok(())
    }

    /// The result of the exchange.
    fn event(&self) -> Step<'static, Event> {
        let driver = &*self.driver;
        // Each event is built in place: one that is built first and then returned would be on the
        // stack twice.
        match self.stage {
            Stage::Init => Step::Done(Event::Init {
                replica: driver.replica().unwrap_or(0),
            }),
            Stage::Exit => Step::Done(Event::Exit),
            Stage::Closed => Step::Done(Event::Closed),
            _ => Step::Done(Event::Positions {
                natoms: driver.natoms(),
                structures: driver.structures,
                cell: driver.cell,
            }),
        }
    }

    /// Handles positions from this number on, or all of them, that have arrived.
    #[inline(never)] // so that it is not on the stack below the others
    fn take_positions(&mut self, first: usize) {
        const { assert!(JUDGED * REAL <= SCRATCH) };
        let driver = &mut *self.driver;
        if P::IS_WIRE {
            let format = Format::of(self.positions.wire(driver.total()), Quantity::Positions);
            return self.received(format);
        }
        let (end, not_finite) = (driver.progress.end, driver.not_finite);
        if first == 0 {
            let format = Format::of(driver.progress.field(), Quantity::Positions);
            if !driver.accepts(format, Quantity::Positions, true) {
                return;
            }
        }
        let wire = driver.progress.scratch.0.get_mut(..end).unwrap_or_default();
        if self.positions.put(first, wire, not_finite) {
            self.expect_positions(first.saturating_add(end / REAL));
        } else {
            driver.fail(ProtocolError::NotFinite(Quantity::Positions));
        }
    }

    /// Continues with positions from this number on, or ends if there are none.
    fn expect_positions(&mut self, first: usize) {
        let numbers = self.driver.total().saturating_mul(3);
        if first < numbers {
            self.expect_numbers(first, numbers);
        } else {
            self.received(Format::Reals);
        }
    }

    /// Continues with positions from number `first` of `numbers` on.
    fn expect_numbers(&mut self, first: usize, numbers: usize) {
        let driver = &mut *self.driver;
        driver.expect(Header::PosData, POSITIONS.at(first));
        let len = (numbers - first).saturating_mul(REAL);
        if P::IS_WIRE {
            driver.progress.expect_array(len);
        } else {
            driver.progress.expect(len);
        }
    }

    /// Ends the message: all positions have arrived.
    fn received(&mut self, format: Format) {
        let driver = &mut *self.driver;
        let finite =
            driver.not_finite || self.positions.all_finite(driver.total(), &driver.progress);
        if driver.accepts(format, Quantity::Positions, finite) {
            driver.expect_message();
            driver.phase = Phase::HaveData;
            driver.state = State::Received;
            driver.taken = driver.taken.wrapping_add(1);
        }
    }
}

impl<P: Destination> Sealed for Receive<'_, P> {}

impl<P: Destination> Exchange for Receive<'_, P> {
    type Output = Event;

    fn enter(&mut self) -> Result<(), ProtocolError> {
        if P::RESUMES && self.take_over().is_err() {
            return Err(self.driver.error);
        }
        Ok(())
    }

    fn step(&mut self) -> Result<Step<'_, Event>, ProtocolError> {
        // Called one after the other, so that only one of the two calls is on the stack.
        if self.take_over().is_err() || self.go_on().is_err() {
            return Err(self.driver.error);
        }
        if self.stage != Stage::Entered {
            return Ok(self.event());
        }
        let driver = &mut *self.driver;
        Ok(match driver.incoming() {
            Some(place) if P::IS_WIRE && place.field == Field::Positions => {
                let rest = self.positions.wire(driver.total());
                Step::Read(rest.get_mut(driver.progress.at..).unwrap_or_default())
            }
            _ => driver.step(),
        })
    }

    fn advance(&mut self, n: usize) {
        let driver = &mut *self.driver;
        if self.stage != Stage::Entered || driver.phase == Phase::HaveData {
            return;
        }
        if !driver.moved(n) {
            #[cfg(feature = "std")]
            if P::IS_WIRE && driver.incoming() == Some(POSITIONS) {
                self.positions.look(&mut driver.progress);
            }
            return;
        }
        match driver.incoming() {
            Some(place) if place.field == Field::Positions => self.take_positions(place.index),
            _ => {
                driver.complete(self.cells);
                if driver.incoming() == Some(POSITIONS) {
                    self.expect_positions(0);
                }
            }
        }
    }

    fn end(&mut self) {
        self.driver.ended();
    }

    fn midway(&self) -> bool {
        self.driver.midway()
    }

    /// Expects positions of as many atoms as last time.
    fn expects(&self) -> Option<(usize, usize)> {
        let driver = &*self.driver;
        if !driver.is_between() || driver.phase == Phase::HaveData {
            return None;
        }
        let single = P::IS_WIRE && driver.init.batch_size().unwrap_or(1) == 1;
        let natoms = if single { driver.natoms() } else { 0 };
        Some((HEADER + CELL + INTEGER, natoms.saturating_mul(ATOM)))
    }

    fn array(&mut self) -> &mut [u8] {
        self.positions.memory()
    }

    #[inline(always)]
    fn waits_for(&self) -> Wait {
        let driver = &*self.driver;
        let ended = !matches!(self.stage, Stage::Made | Stage::Entered)
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
