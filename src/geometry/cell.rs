//! The periodic cell: its vectors, volume, inverse and widths.

use super::matrix::{cross, dot, is_finite, scaled, transposed};

/// The periodic cell, in bohr.
///
/// The lattice vectors a, b, c are the *columns* of h: a point with fractional coordinates s is at
/// r = h s. The wire carries h row by row, `ax bx cx ay by cy az bz cz`. i-PI's cells are upper
/// triangular (`ax bx cx 0 by cy 0 0 cz`); this type holds any cell. The names of
/// [`from_rows`](Self::from_rows) and [`from_vectors`](Self::from_vectors) say which order they
/// take.
///
/// The numbers are `f64` even where atoms are stored as `f32`.
///
/// ```
/// use forcewire::Cell;
///
/// let cell = Cell::from_vectors([[10.0, 0.0, 0.0], [1.0, 9.0, 0.0], [2.0, 3.0, 8.0]]);
/// assert_eq!(cell, Cell::from_rows([[10.0, 1.0, 2.0], [0.0, 9.0, 3.0], [0.0, 0.0, 8.0]]));
/// assert_eq!(cell.volume(), 720.0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Cell {
    /// `h[i][j]` is component i of vector j.
    h: [[f64; 3]; 3],
}

impl Cell {
    /// A cell from the rows of h, the order of the wire, in bohr.
    ///
    /// `rows[i][j]` is component i of vector j.
    #[must_use]
    pub const fn from_rows(rows: [[f64; 3]; 3]) -> Self {
        Self { h: rows }
    }

    /// A cell from its three vectors a, b, c, in bohr.
    #[must_use]
    pub const fn from_vectors(vectors: [[f64; 3]; 3]) -> Self {
        Self {
            h: transposed(vectors),
        }
    }

    /// A box with these edges along x, y and z, in bohr.
    #[must_use]
    pub const fn orthorhombic([x, y, z]: [f64; 3]) -> Self {
        Self {
            h: [[x, 0.0, 0.0], [0.0, y, 0.0], [0.0, 0.0, z]],
        }
    }

    /// The rows of h, the order of the wire, in bohr.
    ///
    /// `h[i][j]` is component i of vector j.
    #[must_use]
    pub const fn h(&self) -> &[[f64; 3]; 3] {
        &self.h
    }

    /// The rows of h, to be filled from the wire.
    pub(crate) const fn h_mut(&mut self) -> &mut [[f64; 3]; 3] {
        &mut self.h
    }

    /// The three vectors a, b, c, in bohr.
    #[must_use]
    pub const fn vectors(&self) -> [[f64; 3]; 3] {
        transposed(self.h)
    }

    /// The determinant of h, in bohr³: the volume, negative if the vectors are left-handed.
    #[must_use]
    pub fn determinant(&self) -> f64 {
        let [a, b, c] = self.vectors();
        dot(a, cross(b, c))
    }

    /// The volume, in bohr³, positive also for left-handed vectors.
    #[must_use]
    pub fn volume(&self) -> f64 {
        self.determinant().abs()
    }

    /// The rows of h⁻¹, in 1/bohr: s = h⁻¹ r, and row k is the reciprocal vector of lattice vector
    /// k.
    ///
    /// None if the vectors lie in one plane, to within rounding, or are not finite. The test
    /// compares directions only, so a very large, very small or very flat box has an inverse.
    ///
    /// Use this function instead of the inverse on the wire: some peers send its transpose, zeros
    /// or the identity.
    #[must_use]
    pub fn inverse(&self) -> Option<[[f64; 3]; 3]> {
        // Each vector is scaled separately. Otherwise the determinant of a box of 1e110 bohr
        // overflows, and a box of 1 x 1 x 1e-20 looks singular.
        let [(a, la), (b, lb), (c, lc)] = self.vectors().map(scaled);
        let (bc, ca, ab) = (cross(b, c), cross(c, a), cross(a, b));
        let determinant = dot(a, bc);
        let inverse = [
            bc.map(|x| x / determinant / la),
            ca.map(|x| x / determinant / lb),
            ab.map(|x| x / determinant / lc),
        ];
        // `>` and not `!(<=)`: a NaN means singular.
        (determinant.abs() > SINGULAR && is_finite(&inverse)).then_some(inverse)
    }

    /// The distances between opposite faces along a, b and c, in bohr; `None` if
    /// [`inverse`](Self::inverse) is.
    ///
    /// The nearest image of a neighbour is unique up to half the smallest of the three.
    #[must_use]
    pub fn widths(&self) -> Option<[f64; 3]> {
        self.inverse().map(|inverse| widths(&inverse))
    }

    /// Whether all nine numbers are finite.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        is_finite(&self.h)
    }
}

/// The distances between opposite faces of the cell with this inverse.
pub(crate) fn widths(inverse: &[[f64; 3]; 3]) -> [f64; 3] {
    inverse.map(|row| 1.0 / libm::sqrt(dot(row, row)))
}

/// The determinant of vectors of about unit length up to which it is only rounding.
pub(super) const SINGULAR: f64 = 4.0 * f64::EPSILON;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inverse_undoes_h() {
        let skewed = Cell::from_vectors([[7.0, -2.0, 0.5], [-1.0, -9.0, 3.0], [25.0, 30.0, 8.0]]);
        let inverse = skewed.inverse().unwrap();
        for (k, vector) in skewed.vectors().into_iter().enumerate() {
            for (l, row) in inverse.into_iter().enumerate() {
                let expected = if k == l { 1.0 } else { 0.0 };
                assert!((dot(row, vector) - expected).abs() < 1e-14);
            }
        }
    }

    #[test]
    fn golden_cell_of_ipi() {
        // h and inv(h) as i-PI 3.3.1 sends them.
        let inverse =
            Cell::from_rows([[10.0, 1.0, 2.0], [0.0, 9.0, 3.0], [0.0, 0.0, 8.0]]).inverse();
        let sent = [
            [0.1, -0.011111111111111112, -0.020833333333333332],
            [0.0, 0.1111111111111111, -0.041666666666666664],
            [0.0, 0.0, 0.125],
        ];
        for (ours, theirs) in inverse
            .unwrap()
            .as_flattened()
            .iter()
            .zip(sent.as_flattened())
        {
            assert!((ours - theirs).abs() < 1e-16);
        }
    }

    #[test]
    fn volume_has_no_sign_and_the_determinant_has() {
        let left_handed = Cell::from_vectors([[0.0, 3.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 5.0]]);
        assert_eq!(left_handed.determinant(), -30.0);
        assert_eq!(left_handed.volume(), 30.0);
        assert_eq!(left_handed.widths(), Some([3.0, 2.0, 5.0]));
    }

    #[test]
    fn only_a_flat_cell_is_singular() {
        let plane = [[1.0, 2.0, 3.0], [0.1, 0.7, -0.3], [1.1, 2.7, 2.7]];
        assert_eq!(Cell::from_vectors(plane).inverse(), None);
        // The determinant is not zero here, but it is only a rounding error.
        let plane = [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6], [0.7, 0.8, 0.9]];
        assert_eq!(Cell::from_vectors(plane).inverse(), None);
        assert_eq!(Cell::orthorhombic([1.0, 0.0, 1.0]).inverse(), None);
        assert_eq!(Cell::orthorhombic([1.0, f64::NAN, 1.0]).inverse(), None);
        assert_eq!(
            Cell::orthorhombic([1.0, f64::INFINITY, 1.0]).inverse(),
            None
        );
        for edge in [1e-40, 1e40, 1e120] {
            let inverse = Cell::orthorhombic([edge, 3.0, 1.0]).inverse().unwrap();
            assert_eq!(
                inverse,
                [
                    [1.0 / edge, 0.0, 0.0],
                    [0.0, 1.0 / 3.0, 0.0],
                    [0.0, 0.0, 1.0]
                ]
            );
        }
    }
}
