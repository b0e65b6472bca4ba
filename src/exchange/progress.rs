//! Gathering the pieces of a message, so that what is small leaves in one write.

use crate::protocol::Scalar;
use crate::protocol::layout::{ATOM, REAL};
use crate::protocol::scalar::to_wire;

/// Bytes that the machine can hold on their way: 32 atoms, and a whole reply of up to 27.
pub(crate) const SCRATCH: usize = 768;

/// Pieces of a message, one behind the other.
pub(crate) struct Gather<'a> {
    bytes: &'a mut [u8; SCRATCH],
    len: usize,
}

impl<'a> Gather<'a> {
    pub(crate) const fn new(bytes: &'a mut [u8; SCRATCH]) -> Self {
        Self { bytes, len: 0 }
    }

    /// Goes on behind the bytes that are gathered.
    pub(crate) const fn behind(bytes: &'a mut [u8; SCRATCH], len: usize) -> Self {
        Self { bytes, len }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Bytes that still have a place.
    pub(crate) const fn left(&self) -> usize {
        SCRATCH.saturating_sub(self.len)
    }

    fn room(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.len..).unwrap_or_default()
    }

    /// Adds a piece of this length, to be written in place; None if there is no room.
    #[must_use]
    pub(crate) fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        let at = self.len;
        let piece = self.bytes.get_mut(at..)?.get_mut(..len)?;
        self.len += len;
        Some(piece)
    }

    /// Adds all of a piece, or nothing of it and says so.
    #[must_use]
    pub(crate) fn push(&mut self, piece: &[u8]) -> bool {
        let Some(room) = self.room().get_mut(..piece.len()) else {
            return false;
        };
        room.copy_from_slice(piece);
        self.len += piece.len();
        true
    }

    /// Adds as much of a text as there is room for, and says how much that was.
    #[must_use]
    pub(crate) fn push_text(&mut self, text: &[u8]) -> usize {
        let fit = self.room().len().min(text.len());
        let _ = self.push(text.get(..fit).unwrap_or_default());
        fit
    }

    /// Adds as many atoms' numbers as there is room for, and says how many numbers those were.
    #[must_use]
    pub(crate) fn push_atoms<T: Scalar>(&mut self, values: &[T]) -> usize {
        let room = self.room();
        let fit = (room.len() / ATOM * 3).min(values.len());
        to_wire(values.get(..fit).unwrap_or_default(), room);
        self.len += fit * REAL;
        fit
    }
}
