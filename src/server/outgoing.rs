//! Sends messages collected in the scratch, or positions directly from their array.

use super::exchange::Course;
use super::{Server, State};
use crate::geometry::Cell;
use crate::protocol::gather::Gather;
use crate::protocol::layout::{self, CELL, Field, Place, length};
use crate::protocol::{Header, Scalar};

impl Server {
    /// Continues with this place of a message, or with the message after it, or ends the write.
    #[inline(always)]
    pub(super) fn gather(&mut self, message: Header, place: Place) {
        if place.field == Field::End && self.mode.follower(message).is_none() {
            self.sent();
        } else {
            self.state = State::Gathered { message, place };
            self.progress.expect(0);
        }
    }
}

impl<'a, T: Scalar> Course<'a, T> {
    /// Collects small pieces in the scratch until it is full or an array comes that is sent without
    /// a copy.
    #[inline(always)]
    pub(super) fn fill(&mut self) {
        if self.server.progress.at < self.server.progress.end {
            return;
        }
        loop {
            let (from, cell) = (self.server.progress.end, self.cell());
            if let Some(cell) = cell {
                cell.invert_upper(&mut self.server.inverse);
            }
            let folds = self.is_at(Field::Positions);
            if !self.put() {
                break;
            }
            if let (Some(fold), Some(cell), true) = (self.server.fold, cell, folds) {
                let server = &mut *self.server;
                let atoms = server.progress.scratch.0.get_mut(from..);
                let atoms = atoms
                    .unwrap_or_default()
                    .get_mut(..server.progress.end - from);
                fold(cell, &server.inverse, atoms.unwrap_or_default());
            }
        }
        if self.server.progress.end == 0 && self.is_at(Field::Positions) {
            self.send_directly();
        }
    }

    /// Whether this field is collected next.
    fn is_at(&self, field: Field) -> bool {
        matches!(self.server.state, State::Gathered { place, .. } if place.field == field)
    }

    /// The cell whose inverse is needed next, because it is sent or positions are folded into it.
    fn cell(&self) -> Option<&'a Cell> {
        match self.server.state {
            State::Gathered { place, .. } => match place.field {
                Field::Cell => Some(self.request.cell(place.index)),
                Field::Positions if self.server.fold.is_some() => {
                    Some(self.request.cell(self.request.structure(place.index)))
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// How many numbers the positions of a whole message have, including copies.
    #[inline(never)]
    pub(super) fn numbers(&self) -> usize {
        let each = self.request.natoms().saturating_mul(3);
        self.server.carried.saturating_mul(each)
    }

    /// Sends positions directly from their array.
    #[inline(never)]
    fn send_directly(&mut self) {
        if let State::Gathered { place, .. } = self.server.state {
            let bytes = T::as_wire(self.request.numbers(place.index)).unwrap_or_default();
            self.server.state = State::Direct(place.index);
            self.server.progress.expect_array(bytes.len());
        }
    }

    /// Adds the next field, or as much of it as there is room for, and the fields after it up to
    /// one that needs a computation. Returns false if nothing was added, or if the write is
    /// complete.
    #[inline(never)]
    fn put(&mut self) -> bool {
        let mut any = false;
        while self.put_field() {
            any = true;
            if self.server.fold.is_some() || self.is_at(Field::Cell) {
                break;
            }
        }
        any
    }

    #[inline(always)]
    fn put_field(&mut self) -> bool {
        let State::Gathered { message, place } = self.server.state else {
            return false;
        };
        let numbers = match place.field {
            Field::Positions => self.numbers(),
            _ => 0,
        };
        let request = &self.request;
        let server = &mut *self.server;
        let as_they_are = server.fold.is_none() && T::IS_WIRE;
        let announcement = request.announcement(server.mode.batch_size());
        let (mut names, mut next) = (message, place.next(message, server.carried));
        let mut gather = Gather::after(&mut server.progress.scratch, server.progress.end);
        let fits = match place.field {
            Field::Header => gather.push(message.bytes()),
            Field::Replica => gather.push(&request.replica.to_le_bytes()),
            Field::TextLength => gather.push(&length(announcement.len())),
            Field::Text => match announcement.text().get(place.index..).unwrap_or_default() {
                [] => announcement.put_batch_size(&mut gather),
                rest => {
                    let fit = gather.push_text(rest);
                    next = place.at(place.index + fit);
                    fit > 0
                }
            },
            Field::Atoms => gather.push(&length(request.natoms())),
            Field::Cell => match gather.reserve(CELL) {
                Some(room) => {
                    layout::put_cell(request.cell(place.index), &server.inverse, room);
                    true
                }
                None => false,
            },
            Field::Positions if place.index >= numbers => true,
            Field::Positions => {
                let rest = if as_they_are {
                    request.numbers(place.index)
                } else {
                    request.numbers_of_structure(place.index)
                };
                let fit = match T::as_wire(rest) {
                    Some(bytes) if as_they_are => {
                        if gather.push(bytes) {
                            rest.len()
                        } else {
                            0
                        }
                    }
                    _ => gather.push_atoms(rest),
                };
                next = place.at(place.index + fit);
                fit > 0
            }
            _ => match server.mode.follower(message) {
                Some(follower) => {
                    (names, next) = (follower, Place::HEADER);
                    true
                }
                None => false,
            },
        };
        if fits {
            server.progress.end = gather.len();
            server.state = State::Gathered {
                message: names,
                place: next,
            };
        }
        fits
    }
}
