//! Collects small pieces of a message, so that they are sent in one write.

use super::layout::{ATOM, REAL};
use super::scalar::{Scalar, to_wire};

/// The size of a machine's scratch in bytes: 32 atoms, or a whole reply of up to 27.
pub(crate) const SCRATCH: usize = 768;

/// The scratch is aligned, so that it can hold numbers for a [`Sink`](crate::Sink) or
/// [`Source`](crate::Source).
#[repr(C, align(8))]
pub(crate) struct Scratch(pub(crate) [u8; SCRATCH]);

/// Pieces of a message, collected in the scratch.
pub struct Gather<'a> {
    bytes: &'a mut [u8; SCRATCH],
    len: usize,
}

impl<'a> Gather<'a> {
    /// Continues after the first `len` bytes.
    pub(crate) const fn after(scratch: &'a mut Scratch, len: usize) -> Self {
        Self {
            bytes: &mut scratch.0,
            len,
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn room(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.len..).unwrap_or_default()
    }

    /// Reserves room for a piece of this length, to be written in place; None if there is not
    /// enough.
    #[must_use]
    pub(crate) fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        let at = self.len;
        let piece = self.bytes.get_mut(at..)?.get_mut(..len)?;
        self.len += len;
        Some(piece)
    }

    /// Adds a whole piece; returns false and adds nothing if there is no room.
    #[must_use]
    #[inline(never)]
    pub(crate) fn push(&mut self, piece: &[u8]) -> bool {
        let Some(room) = self.room().get_mut(..piece.len()) else {
            return false;
        };
        room.copy_from_slice(piece);
        self.len += piece.len();
        true
    }

    /// Adds as many bytes of a text as there is room for, and returns the number.
    #[must_use]
    pub(crate) fn push_text(&mut self, text: &[u8]) -> usize {
        let fit = self.room().len().min(text.len());
        let _ = self.push(text.get(..fit).unwrap_or_default());
        fit
    }

    /// Adds whole atoms as long as there is room, and returns how many numbers were added.
    #[must_use]
    pub(crate) fn push_atoms<T: Scalar>(&mut self, values: &[T]) -> usize {
        let room = self.room();
        let fit = (room.len() / ATOM * 3).min(values.len());
        to_wire(values.get(..fit).unwrap_or_default(), room);
        self.len += fit * REAL;
        fit
    }

    /// Counts bytes that were written into the [`room`](Self::room).
    pub(crate) const fn grow(&mut self, len: usize) {
        self.len += len;
    }
}
