//! Reads FORCEREADY into the caller's arrays.

use super::exchange::{Course, Goal};
use super::{Answer, Mode, Phase, Server, State};
use crate::exchange::copy;
use crate::geometry::Virial;
use crate::protocol::layout::{self, ATOM, Field, MATRIX, Place, REAL};
use crate::protocol::scalar::from_wire;
use crate::protocol::{Header, ProtocolError, Quantity, Scalar};

impl Server {
    /// Continues with this field of FORCEREADY.
    #[inline(never)]
    pub(super) fn expect(&mut self, place: Place) {
        self.state = State::Receiving(place);
        self.progress.expect(place.fixed(self.carried));
    }

    /// Continues with forces of copies, or after them. Copies pad a batch and are dropped.
    #[inline(never)]
    pub(super) fn copies(&mut self, bytes: usize) {
        if bytes == 0 {
            self.expect(Place::start(Field::Virial));
        } else {
            self.state = State::Copies(bytes);
            self.progress.expect(bytes);
        }
    }

    /// Continues with extras of this structure that don't fit, or after them.
    pub(super) fn drop_extras(&mut self, index: usize, bytes: usize) {
        self.surplus = bytes;
        if bytes > 0 {
            self.state = State::Surplus(index);
            self.progress.expect(bytes);
            return;
        }
        let place = Place {
            field: Field::Extras,
            index,
        };
        match place.next(Header::ForceReady, self.carried) {
            Place::END => {
                self.between(match self.mode {
                    Mode::Strict => Phase::Unknown,
                    _ => Phase::Asked,
                });
                self.unreported = Some(match self.structures {
                    0 => Goal::Discard,
                    _ => Goal::Forces,
                });
            }
            next => self.expect(next),
        }
    }
}

impl<T: Scalar> Course<'_, T> {
    /// Handles a complete field of an answer.
    pub(super) fn complete(&mut self) {
        let server = &mut *self.server;
        let mut bytes = server.progress.field();
        match server.state {
            State::Header => server.header(),
            State::Copies(left) => {
                let left = left.saturating_sub(bytes.len());
                server.copies(left);
            }
            State::Surplus(index) => {
                let left = server.surplus.saturating_sub(bytes.len());
                server.drop_extras(index, left);
            }
            State::Receiving(place) => match place.field {
                Field::Energy => {
                    let energy = layout::take_f64(&mut bytes);
                    let announced = layout::take_i32(&mut bytes);
                    let dropped = place.index >= server.structures;
                    if !dropped && !server.accepts(Quantity::Energy, energy.is_finite()) {
                        return;
                    }
                    if let Some(answer) = self.answer(place.index) {
                        answer.evaluation.energy = energy;
                    }
                    self.expect_forces(place, announced);
                }
                Field::Forces if T::IS_WIRE => {
                    let taken = self.server.progress.end / REAL;
                    self.forces_from(taken);
                }
                Field::Forces => {
                    let (forces, taken) = (self.forces.as_flattened_mut(), bytes.len() / REAL);
                    from_wire(bytes, forces.get_mut(place.index..).unwrap_or_default());
                    self.forces_from(place.index + taken);
                }
                Field::Virial => {
                    let mut after = bytes.get(MATRIX..).unwrap_or_default();
                    let announced = layout::take_i32(&mut after);
                    let dropped = place.index >= server.structures;
                    let answer = self.answer(place.index);
                    let finite = answer.is_none_or(|answer| answer.evaluation.virial.is_finite());
                    if !dropped && !self.server.accepts(Quantity::Virial, finite) {
                        return;
                    }
                    let next = place.next(Header::ForceReady, self.server.carried);
                    if next.field == Field::Virial {
                        self.server.expect(next);
                    } else {
                        self.expect_extras(0, announced);
                    }
                }
                Field::ExtrasLength => {
                    let announced = layout::take_i32(&mut bytes);
                    self.expect_extras(place.index, announced);
                }
                _ => {
                    server.kept += server.progress.end;
                    let surplus = server.surplus;
                    server.drop_extras(place.index, surplus);
                }
            },
            _ => {}
        }
    }

    /// Moves a received virial from the scratch to its place, if it has one. It is made symmetric
    /// there.
    pub(super) fn take_virial(&mut self) -> Option<&mut Virial> {
        let State::Receiving(Place {
            field: Field::Virial,
            index,
        }) = self.server.state
        else {
            return None;
        };
        let server = &mut *self.server;
        let answer = place(&mut server.answer, self.answers, index)?;
        layout::take_matrix(
            &mut server.progress.scratch.0.as_slice(),
            &mut answer.evaluation.virial.0,
        );
        Some(&mut answer.evaluation.virial)
    }

    /// The answer for this structure, unless the structure is a copy.
    fn answer(&mut self, index: usize) -> Option<&mut Answer> {
        place(&mut self.server.answer, self.answers, index)
    }

    /// Continues with the next energy, or with the forces on the atoms announced last.
    fn expect_forces(&mut self, energy: Place, announced: i32) {
        let server = &mut *self.server;
        let expected = server.natoms();
        let next = energy.next(Header::ForceReady, server.carried);
        if next.field == Field::Energy {
            server.expect(next);
        } else if usize::try_from(announced) == Ok(expected) {
            server.kept = 0;
            self.forces_from(0);
        } else {
            server.fail(ProtocolError::WrongAtoms {
                announced,
                expected,
            });
        }
    }

    /// Continues with forces from this number on, or after the last.
    pub(super) fn forces_from(&mut self, first: usize) {
        let server = &mut *self.server;
        let numbers = server.total().saturating_mul(3);
        if first < numbers {
            server.state = State::Receiving(Place::start(Field::Forces).at(first));
            let len = (numbers - first).saturating_mul(REAL);
            if T::IS_WIRE {
                server.progress.expect_array(len);
            } else {
                server.progress.expect(len);
            }
            return;
        }
        let finite =
            server.not_finite || T::all_finite(server.progress.unseen(self.forces.as_flattened()));
        if server.accepts(Quantity::Forces, finite) {
            let copies = server.carried.saturating_sub(server.structures);
            server.copies(copies.saturating_mul(server.natoms()).saturating_mul(ATOM));
        }
    }

    /// Continues with the extras of this structure.
    fn expect_extras(&mut self, index: usize, announced: i32) {
        let Ok(len) = usize::try_from(announced) else {
            return self.server.fail(ProtocolError::NegativeLength(announced));
        };
        let at = self.server.kept;
        let room = self.extras.len();
        #[cfg(feature = "std")]
        let room = room.max(self.growing);
        let room = room.saturating_sub(at);
        let kept = if index < self.server.structures {
            len.min(room)
        } else {
            0
        };
        if let Some(answer) = self.answer(index) {
            answer.extras_at = at;
            answer.extras_kept = kept;
            answer.extras_sent = len;
        }
        let server = &mut *self.server;
        if let (0, Some(first)) = (index, self.answers.first_mut()) {
            copy(first, &server.answer);
        }
        server.surplus = len - kept;
        if kept > 0 {
            server.state = State::Receiving(Place {
                field: Field::Extras,
                index,
            });
            server.progress.expect_array(kept);
        } else {
            server.drop_extras(index, len);
        }
    }
}

/// The place of the answer for this structure. The first one is in the machine, and is copied to
/// the caller when it is complete.
fn place<'s>(
    first: &'s mut Answer,
    answers: &'s mut [Answer],
    index: usize,
) -> Option<&'s mut Answer> {
    match index {
        0 => Some(first),
        _ => answers.get_mut(index),
    }
}
