//! Checks a request, and the caller's room for its answers, before anything is sent.

use super::exchange::{Course, Goal};
use super::request::check_cell;
use super::{Phase, State};
use crate::exchange::{Refused, check_length};
use crate::protocol::layout::Field;
use crate::protocol::{ProtocolError, Quantity, Scalar};

impl<T: Scalar> Course<'_, T> {
    /// Whether positions will be sent: now, or once the driver reports that it is ready. A message
    /// is begun again if none of its bytes have moved.
    #[inline(never)]
    pub(super) fn will_send(&self) -> bool {
        let server = &*self.server;
        let begun = server.owes_forces() && !(server.is_sending() && server.progress.message == 0);
        let sends = match self.goal {
            Goal::Evaluate => true,
            Goal::Send => server.phase == Phase::Ready,
            _ => false,
        };
        sends && !begun && !server.has_failed()
    }

    /// Checks that the structures can be sent, apart from their cells, and that the arrays for the
    /// answers have the right lengths. How many structures the driver takes is known only once it
    /// is ready.
    #[inline(never)] // here and below, so that only one of them is on the stack
    pub(super) fn check_request(&mut self) -> Result<(), Refused> {
        let (server, request) = (&mut *self.server, &self.request);
        let structures = request.cells.len();
        // The pool checked the numbers when it accepted the job.
        request.check_atoms(&mut server.error, server.not_finite || self.owned)?;
        let natoms = request.natoms();
        match server.natoms {
            Some(expected) if expected != natoms && !server.changing_atoms => {
                return server.refuse(ProtocolError::AtomsChanged {
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

    /// Checks that there is room for the answers to this many structures.
    pub(super) fn check_room(&mut self, natoms: usize, structures: usize) -> Result<(), Refused> {
        let expected = match self.server.state {
            // The bytes that were announced and fitted into the buffer.
            State::Receiving(place) if place.field == Field::Extras => {
                self.server.kept + self.server.progress.end
            }
            _ => self.server.filled(),
        };
        let reason = &mut self.server.error;
        let forces = natoms.saturating_mul(structures);
        check_length(reason, Quantity::Forces, self.forces.len(), forces)?;
        // A single answer is returned anyway.
        if structures > 1 || !self.answers.is_empty() {
            check_length(
                reason,
                Quantity::Evaluations,
                self.answers.len(),
                structures,
            )?;
        }
        let extras = self.extras.len().min(expected);
        check_length(reason, Quantity::Extras, extras, expected)
    }

    /// Checks the cells to be sent.
    #[inline(always)]
    pub(super) fn check_cells(&mut self) -> Result<(), Refused> {
        if self.owned {
            return Ok(());
        }
        for cell in self.request.cells {
            let inverted = cell.invert_upper(&mut self.server.inverse) && cell.is_thick();
            check_cell(&mut self.server.error, cell, inverted)?;
        }
        Ok(())
    }
}
