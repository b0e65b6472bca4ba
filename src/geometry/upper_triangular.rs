//! Cells with an upper triangular h, the only ones that i-PI sends and that LAMMPS reads.

use super::cell::{Cell, SINGULAR};
use super::matrix::{cross, is_finite, unit};
use super::rotation::Rotation;

impl Cell {
    /// Whether h has only zeros below its diagonal: a along x, b in the plane of x and y.
    ///
    /// i-PI's cells are upper triangular, and LAMMPS ignores the numbers below the diagonal.
    #[must_use]
    pub fn is_upper_triangular(&self) -> bool {
        let [_, [yx, _, _], [zx, zy, _]] = *self.h();
        // Compare bits, so that a device without floating point needs no soft float for it.
        [yx, zx, zy].iter().all(|below| below.to_bits() << 1 == 0)
    }

    /// The same cell with h upper triangular, and the rotation that makes it so.
    ///
    /// In the new frame a lies along x, the y of b is positive, and the z of c is positive if the
    /// vectors are right-handed. None if the vectors are singular, as for
    /// [`inverse`](Self::inverse).
    ///
    /// Rotate the atoms as well, and rotate forces and virial back:
    ///
    /// ```
    /// use forcewire::Cell;
    ///
    /// let cell = Cell::from_vectors([[0.0, 0.0, 5.0], [4.0, 0.0, 0.0], [0.0, 3.0, 0.0]]);
    /// let (upper, rotation) = cell.to_upper_triangular().unwrap();
    /// assert_eq!(upper, Cell::orthorhombic([5.0, 4.0, 3.0]));
    /// assert_eq!(rotation.apply([1.0, 0.5, 0.25]), [0.25, 1.0, 0.5]);
    /// assert_eq!(rotation.undo([0.25, 1.0, 0.5]), [1.0, 0.5, 0.25]);
    /// ```
    #[must_use]
    pub fn to_upper_triangular(&self) -> Option<(Self, Rotation)> {
        let [_, _, reciprocal] = self.inverse()?;
        let [a, b, c] = self.vectors();
        let x = unit(a);
        // The reciprocal vector of c is normal to a and b; its sign follows the handedness.
        let z = unit(reciprocal).map(|z| z * self.determinant().signum());
        let y = cross(z, x);
        let rotation = Rotation::from_axes([x, y, z]);
        let ([ax, _, _], [bx, by, _], c) =
            (rotation.apply(a), rotation.apply(b), rotation.apply(c));
        let upper = Self::from_vectors([[ax, 0.0, 0.0], [bx, by, 0.0], c]);
        Some((upper, rotation))
    }

    /// Writes the inverse of an upper triangular h, in place. Returns whether all numbers of both
    /// are finite.
    ///
    /// This takes far less code and stack than [`inverse`](Self::inverse). The inverse is usable
    /// only if the cell also [is thick](Self::is_thick).
    // `invert_upper` and `is_thick` are two functions, so that only one of them is on the stack
    // below soft float.
    #[inline(never)]
    pub(crate) fn invert_upper(&self, inverse: &mut [[f64; 3]; 3]) -> bool {
        let h = self.h();
        *inverse = [[0.0; 3]; 3];
        inverse[0][0] = 1.0 / h[0][0];
        inverse[1][1] = 1.0 / h[1][1];
        inverse[2][2] = 1.0 / h[2][2];
        // The order of operations follows i-PI 3.3.1 (`ipi/utils/mathtools.py`, `invert_ut3x3`), so
        // that all bits are the same, except the sign of zeros: here they are positive.
        inverse[0][1] -= inverse[0][0] * h[0][1] * inverse[1][1];
        inverse[1][2] -= inverse[1][1] * h[1][2] * inverse[2][2];
        inverse[0][2] -= inverse[1][2] * h[0][1] * inverse[0][0];
        inverse[0][2] -= inverse[0][0] * h[0][2] * inverse[2][2];
        self.is_finite() && is_finite(inverse)
    }

    /// Whether the vectors of an upper triangular h span a volume, to within rounding.
    #[inline(never)]
    pub(crate) fn is_thick(&self) -> bool {
        let [[_, bx, cx], [_, by, cy], [_, _, cz]] = *self.h();
        let (b, c) = (largest(&[bx, by]), largest(&[cx, cy, cz]));
        let determinant = by / b * (cz / c);
        let bits = determinant.to_bits() & !SIGN;
        SINGULAR.to_bits() < bits && bits < f64::INFINITY.to_bits()
    }
}

/// The largest absolute value; NaN if there is one. Compares bits, which have the same order as
/// positive numbers.
fn largest(numbers: &[f64]) -> f64 {
    let bits = numbers.iter().map(|x| x.to_bits() & !SIGN);
    f64::from_bits(bits.max().unwrap_or(0))
}

const SIGN: u64 = 1 << 63;

#[cfg(test)]
mod tests {
    use super::super::virial::Virial;
    use super::*;

    #[test]
    fn what_a_server_sends_is_the_inverse() {
        let mut inverse = [[0.0; 3]; 3];
        let cell = Cell::from_rows([[4.0, 1.0, -3.0], [0.0, 2.0, 0.5], [0.0, 0.0, 8.0]]);
        assert!(cell.invert_upper(&mut inverse) && cell.is_thick());
        // Computed by hand, and exact because all numbers are multiples of powers of two.
        let expected = [
            [0.25, -0.125, 0.101_562_5],
            [0.0, 0.5, -0.031_25],
            [0.0, 0.0, 0.125],
        ];
        assert_eq!(inverse, expected);

        for [ax, bx, cx, by, cy, cz] in [
            [7.0, -2.0, 0.5, -9.0, 3.0, 8.0],
            [1e110, 0.0, 1e109, 1e110, -1e110, 1e110],
            [1.0, 0.3, -0.7, 1.0, 0.1, 1e-20],
            [1e-130, 1e-130, 0.0, 1e-130, 0.0, 1e-130],
            // Singular or nearly singular cells.
            [0.0, 1.0, 1.0, 1.0, 1.0, 1.0],
            [1.0, 1.0, 1.0, 0.0, 1.0, 1.0],
            [1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
            [1.0, 1.0, 0.0, 1e-16, 0.0, 1.0],
            [1e-310, 0.0, 0.0, 1.0, 0.0, 1.0],
            [1.0, 0.0, f64::NAN, 1.0, 0.0, 1.0],
            [f64::INFINITY, 0.0, 0.0, 1.0, 0.0, 1.0],
        ] {
            let cell = Cell::from_rows([[ax, bx, cx], [0.0, by, cy], [0.0, 0.0, cz]]);
            let general = cell.inverse();
            assert_eq!(
                cell.invert_upper(&mut inverse) && cell.is_thick(),
                general.is_some(),
                "{cell:?}"
            );
            for (row, expected) in inverse.iter().zip(general.iter().flatten()) {
                for (x, expected) in row.iter().zip(expected) {
                    assert!((x - expected).abs() <= 1e-15 * expected.abs(), "{cell:?}");
                }
            }
        }
    }

    /// A cell is singular at the thickness of rounding, but not at twice that.
    #[test]
    fn where_singular_begins() {
        let mut inverse = [[0.0; 3]; 3];
        for (height, expected) in [(SINGULAR, false), (2.0 * SINGULAR, true)] {
            let cell = Cell::from_rows([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, height]]);
            assert_eq!(cell.inverse().is_some(), expected, "{height}");
            assert!(cell.invert_upper(&mut inverse));
            assert_eq!(cell.is_thick(), expected, "{height}");
        }
    }

    #[test]
    fn a_rotated_cell_keeps_its_shape_and_its_handedness() {
        for vectors in [
            [[7.0, -2.0, 0.5], [-1.0, -9.0, 3.0], [25.0, 30.0, 8.0]],
            [[0.0, 3.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 5.0]],
            [[-10.0, 0.0, 0.0], [1.0, -9.0, 0.0], [2.0, 3.0, 8.0]],
        ] {
            let cell = Cell::from_vectors(vectors);
            let (upper, rotation) = cell.to_upper_triangular().unwrap();
            assert!(upper.is_upper_triangular());
            assert!(upper.h()[0][0] > 0.0 && upper.h()[1][1] > 0.0);
            let error = upper.determinant() - cell.determinant();
            assert!(error.abs() < 1e-12 * cell.volume(), "{vectors:?}");
            for (new, old) in upper.vectors().into_iter().zip(vectors) {
                for (back, old) in rotation.undo(new).into_iter().zip(old) {
                    assert!((back - old).abs() < 1e-13, "{vectors:?}");
                }
            }
            // The virial of one pair rotates with it.
            let (r, f) = ([0.1, -0.7, 2.3], [0.2, -1.4, 4.6]);
            let (mut virial, mut turned) = (Virial::ZERO, Virial::ZERO);
            virial.add_product(r, f);
            turned.add_product(rotation.apply(r), rotation.apply(f));
            let back = rotation.undo_virial(&turned);
            for (back, old) in back.0.as_flattened().iter().zip(virial.0.as_flattened()) {
                assert!((back - old).abs() < 1e-14, "{vectors:?}");
            }
        }
        assert_eq!(
            Cell::orthorhombic([1.0, 0.0, 1.0]).to_upper_triangular(),
            None
        );
    }

    #[test]
    fn an_upper_triangular_cell_is_left_as_it_is() {
        let cell = Cell::from_rows([[10.0, 1.0, 2.0], [0.0, 9.0, 3.0], [-0.0, 0.0, 8.0]]);
        let (same, rotation) = cell.to_upper_triangular().unwrap();
        let none = Rotation::from_axes([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]);
        assert_eq!((same, rotation), (cell, none));
    }
}
