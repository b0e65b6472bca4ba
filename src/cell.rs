//! The two matrices of the protocol: the periodic cell and the virial.
//!
//! Both are `f64` whatever the atoms are stored as: they are nine numbers and come from, or go to, the wire.

use core::ops::AddAssign;

/// The periodic cell, in bohr.
///
/// The lattice vectors a, b, c are the *columns* of h, so that a point with fractional coordinates s is at
/// r = h s. On the wire h is row-major, `ax bx cx ay by cy az bz cz`; i-PI's are upper triangular
/// (`ax bx cx 0 by cy 0 0 cz`), but nothing here relies on that. Say which of the two you mean with
/// [`from_rows`](Self::from_rows) or [`from_vectors`](Self::from_vectors).
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
    /// A cell from h by rows, the order of the wire: `rows[i][j]` is component i of vector j, in bohr.
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

    /// h by rows, the order of the wire: `h[i][j]` is component i of vector j, in bohr.
    #[must_use]
    pub const fn h(&self) -> &[[f64; 3]; 3] {
        &self.h
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

    /// The volume, in bohr³, never negative: left-handed vectors span the same space.
    #[must_use]
    pub fn volume(&self) -> f64 {
        self.determinant().abs()
    }

    /// h⁻¹ by rows, in 1/bohr: s = h⁻¹ r, and row k is the reciprocal vector of lattice vector k.
    ///
    /// None if the vectors lie in one plane, to within rounding, or are not finite. What counts is their
    /// directions, so boxes that are very large, very small or very flat have an inverse.
    ///
    /// Use this instead of the inverse on the wire, of which peers send the transpose, zeros or the identity.
    #[must_use]
    pub fn inverse(&self) -> Option<[[f64; 3]; 3]> {
        // Scaled one by one, or the determinant of a box of 1e110 bohr would overflow and one of
        // 1 x 1 x 1e-20 look singular.
        let [(a, la), (b, lb), (c, lc)] = self.vectors().map(scaled);
        let (bc, ca, ab) = (cross(b, c), cross(c, a), cross(a, b));
        let determinant = dot(a, bc);
        let inverse = [
            bc.map(|x| x / determinant / la),
            ca.map(|x| x / determinant / lb),
            ab.map(|x| x / determinant / lc),
        ];
        // Not `<=`: a NaN is singular too.
        (determinant.abs() > SINGULAR && is_finite(&inverse)).then_some(inverse)
    }

    /// The distances between opposite faces of the cell along a, b and c, in bohr, or None as for
    /// [`inverse`](Self::inverse).
    ///
    /// The nearest image of a neighbour is unique up to half the smallest of them.
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

/// The virial W = −dU/dε of a strain ε of cell and atoms, Σ r⊗f, in hartree.
///
/// It is not divided by the volume, and positive where atoms repel: the pressure is its trace / 3 / volume,
/// plus the kinetic part. The matrix is the full symmetric one; i-PI reads only the upper triangle and ASE
/// averages, so both are served.
///
/// ```
/// use forcewire::Virial;
///
/// let mut virial = Virial::ZERO;
/// let (separation, force) = ([3.0, 0.0, -4.0], [0.5, 0.25, 0.0]);
/// virial.add_product(separation, force);
/// assert_eq!(virial.0, [[1.5, 0.375, -1.0], [0.375, 0.0, -0.5], [-1.0, -0.5, 0.0]]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Virial(
    /// Row-major, the order of the wire.
    pub [[f64; 3]; 3],
);

impl Virial {
    /// No virial.
    pub const ZERO: Self = Self([[0.0; 3]; 3]);

    /// The symmetric matrix with this upper triangle: xx, xy, xz, yy, yz, zz.
    #[must_use]
    pub const fn from_upper([xx, xy, xz, yy, yz, zz]: [f64; 6]) -> Self {
        Self([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    }

    /// The same pressure in all directions: `hartree` on the diagonal, 0 elsewhere.
    #[must_use]
    pub const fn isotropic(hartree: f64) -> Self {
        Self::from_upper([hartree, 0.0, 0.0, hartree, 0.0, hartree])
    }

    /// Adds the symmetric part of r⊗f: r in bohr and f in hartree/bohr, of an atom from the origin or of a
    /// pair (`r = ri − rj`, f on i).
    ///
    /// The antisymmetric part is the torque, which is 0 in sum unless a field acts from outside, and no
    /// strain of the cell feels it. Symmetric by construction: the order of the arguments can't matter.
    pub fn add_product(&mut self, r: [f64; 3], f: [f64; 3]) {
        let ([rx, ry, rz], [fx, fy, fz]) = (r, f);
        *self += Self::from_upper([
            rx * fx,
            0.5 * (rx * fy + ry * fx),
            0.5 * (rx * fz + rz * fx),
            ry * fy,
            0.5 * (ry * fz + rz * fy),
            rz * fz,
        ]);
    }

    /// The matrix with its upper triangle copied below the diagonal, which LAMMPS and i-PI's Fortran driver
    /// leave 0 on the wire.
    #[must_use]
    pub const fn mirrored(self) -> Self {
        let [[xx, xy, xz], [_, yy, yz], [_, _, zz]] = self.0;
        Self::from_upper([xx, xy, xz, yy, yz, zz])
    }

    /// The sum of the diagonal, in hartree.
    #[must_use]
    pub const fn trace(&self) -> f64 {
        let [[xx, _, _], [_, yy, _], [_, _, zz]] = self.0;
        xx + yy + zz
    }

    /// Whether all nine numbers are finite.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        is_finite(&self.0)
    }
}

impl AddAssign for Virial {
    fn add_assign(&mut self, other: Self) {
        for (value, more) in self
            .0
            .as_flattened_mut()
            .iter_mut()
            .zip(other.0.as_flattened())
        {
            *value += more;
        }
    }
}

/// The distances between opposite faces of the cell with this inverse.
pub(crate) fn widths(inverse: &[[f64; 3]; 3]) -> [f64; 3] {
    inverse.map(|row| 1.0 / libm::sqrt(dot(row, row)))
}

pub(crate) fn dot([ax, ay, az]: [f64; 3], [bx, by, bz]: [f64; 3]) -> f64 {
    ax * bx + ay * by + az * bz
}

fn cross([ax, ay, az]: [f64; 3], [bx, by, bz]: [f64; 3]) -> [f64; 3] {
    [ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx]
}

const fn transposed(m: [[f64; 3]; 3]) -> [[f64; 3]; 3] {
    let [[xx, xy, xz], [yx, yy, yz], [zx, zy, zz]] = m;
    [[xx, yx, zx], [xy, yy, zy], [xz, yz, zz]]
}

/// A vector divided by its largest component, and that component; not finite for a zero vector.
fn scaled(vector: [f64; 3]) -> ([f64; 3], f64) {
    let largest = vector
        .iter()
        .fold(0.0, |largest: f64, x| largest.max(x.abs()));
    (vector.map(|x| x / largest), largest)
}

fn is_finite(matrix: &[[f64; 3]; 3]) -> bool {
    matrix.as_flattened().iter().all(|x| x.is_finite())
}

/// The determinant of vectors of about unit length below which it is all rounding.
const SINGULAR: f64 = 4.0 * f64::EPSILON;

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
        // Here the determinant is not 0, but rounding.
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

    #[test]
    fn product_is_symmetric_whatever_the_order() {
        let (r, f) = ([0.1, -0.7, 2.3], [1.9, 0.3, -0.6]);
        let (mut rf, mut fr) = (Virial::ZERO, Virial::ZERO);
        rf.add_product(r, f);
        fr.add_product(f, r);
        assert_eq!(rf, fr);
        assert_eq!(rf, rf.mirrored());
        assert_eq!(rf.trace(), dot(r, f));
    }
}
