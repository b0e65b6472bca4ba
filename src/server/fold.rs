//! Folds atoms into the cell when they are sent.

use crate::geometry::Cell;
use crate::protocol::layout::{ATOM, REAL};

/// Moves atoms, given as bytes of the wire, into a cell, given with its inverse.
pub(super) type Fold = fn(&Cell, &[[f64; 3]; 3], &mut [u8]);

/// Moves atoms by whole vectors: c first, then b, then a. h is zero below its diagonal, so a later
/// step does not undo an earlier one, and one coordinate at a time is enough.
#[inline(never)]
pub(super) fn fold(cell: &Cell, inverse: &[[f64; 3]; 3], atoms: &mut [u8]) {
    for atom in atoms.as_chunks_mut::<ATOM>().0 {
        let (reals, _) = atom.as_chunks_mut::<REAL>();
        for (k, row) in inverse.iter().enumerate().rev() {
            let mut boxes = 0.0;
            for (x, real) in row.iter().zip(reals.iter()).skip(k) {
                boxes += x * f64::from_le_bytes(*real);
            }
            boxes = libm::floor(boxes);
            for (vectors, real) in cell.h().iter().zip(reals.iter_mut()).take(k + 1) {
                let moved = f64::from_le_bytes(*real) - vectors.get(k).unwrap_or(&0.0) * boxes;
                // An atom so far away that its place in the cell is not finite stays where it is.
                if moved.is_finite() {
                    *real = moved.to_le_bytes();
                }
            }
        }
    }
}
