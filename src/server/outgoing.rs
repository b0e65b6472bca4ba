//! What a server sends: messages gathered in the scratch, or positions straight from their array.

use super::exchange::Course;
use super::{Server, State};
use crate::exchange::progress::Gather;
use crate::geometry::Cell;
use crate::protocol::layout::{self, CELL, Field, Place};
use crate::protocol::{Header, Scalar};

/// What is gathered next: a cell, positions in this cell, anything else, or nothing.
enum Next<'a> {
    Cell(&'a Cell),
    Positions(&'a Cell),
    Words,
    Nothing,
}

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
    /// Puts what is small into the scratch until it is full or an array comes that leaves from where
    /// it is.
    #[inline(always)]
    pub(super) fn fill(&mut self) {
        if self.server.progress.at < self.server.progress.end {
            return;
        }
        loop {
            let from = self.server.progress.end;
            let fits = match self.next() {
                Next::Nothing => return,
                Next::Words => self.put_words(),
                Next::Cell(cell) => {
                    cell.invert_upper(&mut self.server.inverse);
                    self.put_cell(cell)
                }
                Next::Positions(cell) => {
                    let fits = self.put_positions();
                    if let Some(fold) = self.server.fold {
                        cell.invert_upper(&mut self.server.inverse);
                        let server = &mut *self.server;
                        let end = server.progress.end;
                        let atoms = server.progress.scratch.0.get_mut(from..end);
                        fold(cell, &server.inverse, atoms.unwrap_or_default());
                    }
                    fits
                }
            };
            if !fits {
                break;
            }
        }
        self.send_directly();
    }

    /// What is gathered next.
    #[inline(never)]
    fn next(&self) -> Next<'a> {
        match self.server.state {
            State::Gathered { place, .. } => match place.field {
                Field::Cell => Next::Cell(self.request.cell(place.index)),
                Field::Positions if place.index < self.numbers() => {
                    let structure = self.request.structure(place.index);
                    Next::Positions(self.request.cell(structure))
                }
                _ => Next::Words,
            },
            _ => Next::Nothing,
        }
    }

    /// Numbers of the positions of a whole message, copies included.
    pub(super) fn numbers(&self) -> usize {
        let each = self.request.natoms().saturating_mul(3);
        self.server.carried.saturating_mul(each)
    }

    /// If nothing could be gathered, positions leave from where they are.
    #[inline(never)]
    fn send_directly(&mut self) {
        if let (State::Gathered { place, .. }, 0) = (self.server.state, self.server.progress.end)
            && place.field == Field::Positions
        {
            let bytes = T::as_wire(self.request.numbers(place.index)).unwrap_or_default();
            self.server.state = State::Direct(place.index);
            self.server.progress.expect_array(bytes.len());
        }
    }

    /// Adds a cell, which is inverted, or returns that there is no room.
    #[inline(never)]
    fn put_cell(&mut self, cell: &Cell) -> bool {
        let server = &mut *self.server;
        let State::Gathered { message, place } = server.state else {
            return false;
        };
        let mut gather = Gather::after(&mut server.progress.scratch, server.progress.end);
        let Some(room) = gather.reserve(CELL) else {
            return false;
        };
        layout::put_cell(cell, &server.inverse, room);
        server.progress.end += CELL;
        let place = place.next(message, server.carried);
        server.state = State::Gathered { message, place };
        true
    }

    /// Adds positions as far as there is room; false if more of them are to come.
    #[inline(never)]
    fn put_positions(&mut self) -> bool {
        let State::Gathered { message, place } = self.server.state else {
            return false;
        };
        let as_they_are = self.server.fold.is_none() && T::IS_WIRE;
        let rest = if as_they_are {
            self.request.numbers(place.index)
        } else {
            self.request.numbers_of_structure(place.index)
        };
        let server = &mut *self.server;
        let mut gather = Gather::after(&mut server.progress.scratch, server.progress.end);
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
        server.progress.end = gather.len();
        let place = place.at(place.index + fit);
        server.state = State::Gathered { message, place };
        fit == rest.len()
    }

    /// Adds whatever else messages are made of, or returns that there is no room or nothing more.
    #[inline(never)]
    fn put_words(&mut self) -> bool {
        let State::Gathered { message, place } = self.server.state else {
            return false;
        };
        let (server, request) = (&mut *self.server, &self.request);
        let natoms = i32::try_from(request.natoms()).unwrap_or(i32::MAX);
        let announcement = request.announcement(server.mode.batch_size());
        let mut next = place.next(message, server.carried);
        let mut gather = Gather::after(&mut server.progress.scratch, server.progress.end);
        let mut names = message;
        let fits = match place.field {
            Field::Header => gather.push(message.bytes()),
            Field::Replica => gather.push(&request.replica.to_le_bytes()),
            Field::TextLength => {
                let len = i32::try_from(announcement.len()).unwrap_or(i32::MAX);
                gather.push(&len.to_le_bytes())
            }
            Field::Text => match announcement.text().get(place.index..).unwrap_or_default() {
                [] => announcement.put_batch_size(&mut gather),
                rest => {
                    let fit = gather.push_text(rest);
                    next = place.at(place.index + fit);
                    fit > 0
                }
            },
            Field::Atoms => gather.push(&natoms.to_le_bytes()),
            Field::Positions => true,
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
