//! Rotations of vectors and virials between two frames.

use super::matrix::{dot, transposed};
use super::virial::Virial;

/// A rotation of space, made by [`Cell::to_upper_triangular`](crate::Cell::to_upper_triangular).
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Rotation(
    /// The new axes, in the old frame.
    [[f64; 3]; 3],
);

impl Rotation {
    /// The rotation into the frame with these axes, which must be orthonormal.
    pub(super) const fn from_axes(axes: [[f64; 3]; 3]) -> Self {
        Self(axes)
    }

    /// Rotates a vector of the old frame into the new one.
    #[must_use]
    pub fn apply(&self, vector: [f64; 3]) -> [f64; 3] {
        self.0.map(|axis| dot(axis, vector))
    }

    /// Rotates a vector of the new frame back into the old one.
    #[must_use]
    pub fn undo(&self, vector: [f64; 3]) -> [f64; 3] {
        transposed(self.0).map(|axis| dot(axis, vector))
    }

    /// Rotates a virial of the new frame back into the old one.
    #[must_use]
    pub fn undo_virial(&self, virial: &Virial) -> Virial {
        // Rᵀ W R: rotate the rows, then the columns.
        let rows = virial.0.map(|row| self.undo(row));
        Virial(transposed(transposed(rows).map(|column| self.undo(column))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A third of a turn about the diagonal: the new x is the old y, and so on.
    const TURN: Rotation = Rotation([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]);

    #[test]
    fn a_vector_is_rotated_there_and_back() {
        assert_eq!(TURN.apply([1.0, 2.0, 3.0]), [2.0, 3.0, 1.0]);
        assert_eq!(TURN.undo([2.0, 3.0, 1.0]), [1.0, 2.0, 3.0]);
    }

    #[test]
    fn a_virial_is_rotated_back_in_rows_and_columns() {
        let turned = Virial([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]);
        let back = Virial([[9.0, 7.0, 8.0], [3.0, 1.0, 2.0], [6.0, 4.0, 5.0]]);
        assert_eq!(TURN.undo_virial(&turned), back);
    }
}
