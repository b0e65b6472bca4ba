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

    /// h, to be read in.
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

    /// [`inverse`](Self::inverse) for an h with nothing below its diagonal, which is what a server sends: in place, and by
    /// far less code and stack. Whether all of its numbers are finite; it is good for something if the cell
    /// [is thick](Self::is_thick) too. Two functions, because each takes most of the stack that there is.
    #[inline(never)]
    pub(crate) fn invert_upper(&self, inverse: &mut [[f64; 3]; 3]) -> bool {
        *inverse = [[0.0; 3]; 3];
        invert_diagonal::<0>(&self.h, inverse);
        invert_diagonal::<1>(&self.h, inverse);
        invert_diagonal::<2>(&self.h, inverse);
        // In the order of i-PI 3.3.1 (`ipi/utils/mathtools.py`, `invert_ut3x3`), so that all bits are the same, but for
        // the sign of zeros, of which these have none.
        subtract_product::<0, 1>(&self.h, inverse);
        subtract_product::<1, 2>(&self.h, inverse);
        subtract_corner(&self.h, inverse);
        subtract_product::<0, 2>(&self.h, inverse);
        self.is_finite() && is_finite(inverse)
    }

    /// Whether the vectors of an h with nothing below its diagonal span a space, to within rounding.
    #[inline(never)]
    pub(crate) fn is_thick(&self) -> bool {
        let [[_, bx, cx], [_, by, cy], [_, _, cz]] = self.h;
        let (b, c) = (bx.abs().max(by.abs()), cx.abs().max(cy.abs()).max(cz.abs()));
        let determinant = by / b * (cz / c);
        determinant.abs() > SINGULAR
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

    /// Whether h has nothing below its diagonal: a along x, b in the plane of x and y. i-PI's cells are so, and
    /// LAMMPS reads no others.
    #[must_use]
    pub fn is_upper_triangular(&self) -> bool {
        let [_, [yx, _, _], [zx, zy, _]] = self.h;
        [yx, zx, zy].iter().all(|&below| below == 0.0)
    }

    /// The same cell with h upper triangular, and the rotation that makes it so: a along x, b with its y positive,
    /// c with its z positive if the vectors are right-handed. None if they are singular, as for
    /// [`inverse`](Self::inverse).
    ///
    /// Atoms must be rotated too, and what comes back be rotated back:
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
        // The reciprocal vector of c is normal to a and b; its sign is that of the handedness.
        let z = unit(reciprocal).map(|z| z * self.determinant().signum());
        let y = cross(z, x);
        let rotation = Rotation([x, y, z]);
        let ([ax, _, _], [bx, by, _], c) =
            (rotation.apply(a), rotation.apply(b), rotation.apply(c));
        let upper = Self::from_vectors([[ax, 0.0, 0.0], [bx, by, 0.0], c]);
        Some((upper, rotation))
    }
}

/// A rotation of space; made by [`Cell::to_upper_triangular`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Rotation(
    /// The new axes, in the old frame.
    [[f64; 3]; 3],
);

impl Rotation {
    /// A vector of the old frame in the new one.
    #[must_use]
    pub fn apply(&self, vector: [f64; 3]) -> [f64; 3] {
        self.0.map(|axis| dot(axis, vector))
    }

    /// A vector of the new frame in the old one.
    #[must_use]
    pub fn undo(&self, vector: [f64; 3]) -> [f64; 3] {
        transposed(self.0).map(|axis| dot(axis, vector))
    }

    /// A virial of the new frame in the old one.
    #[must_use]
    pub fn undo_virial(&self, virial: &Virial) -> Virial {
        // R' W R: rows, then columns.
        let rows = virial.0.map(|row| self.undo(row));
        Virial(transposed(transposed(rows).map(|column| self.undo(column))))
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

    /// The full symmetric matrix of what a driver sent: one triangle mirrored if the other is 0 (LAMMPS sends the
    /// upper one), else the mean of both.
    #[must_use]
    pub fn symmetric(mut self) -> Self {
        self.symmetrize();
        self
    }

    /// [`symmetric`](Self::symmetric), in place: copies would lie on the stack below floating point in software.
    #[inline(never)]
    pub(crate) fn symmetrize(&mut self) {
        let [[_, xy, xz], [yx, _, yz], [zx, zy, _]] = &mut self.0;
        // Of bits, because a device without floating point should not need it for this.
        let are_zero = |these: [&f64; 3]| these.iter().all(|x| x.to_bits() << 1 == 0);
        let only_upper = are_zero([yx, zx, zy]);
        let only_lower = are_zero([xy, xz, yz]);
        let mirror = !only_upper && only_lower;
        let mean = !only_upper && !only_lower;
        make_same(xy, yx, mirror, mean);
        make_same(xz, zx, mirror, mean);
        make_same(yz, zy, mirror, mean);
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

// What follows are functions of their own so that, where floating point is software, each has only its own numbers on the
// stack.

/// Both become their mean, or the second, or else the first.
#[inline(never)]
fn make_same(first: &mut f64, second: &mut f64, is_second: bool, is_mean: bool) {
    if is_mean {
        *first = 0.5 * *first + 0.5 * *second;
    } else if is_second {
        *first = *second;
    }
    *second = *first;
}

#[inline(never)]
fn invert_diagonal<const I: usize>(h: &[[f64; 3]; 3], inverse: &mut [[f64; 3]; 3]) {
    inverse[I][I] = 1.0 / h[I][I];
}

#[inline(never)]
fn subtract_product<const I: usize, const J: usize>(
    h: &[[f64; 3]; 3],
    inverse: &mut [[f64; 3]; 3],
) {
    inverse[I][J] -= inverse[I][I] * h[I][J] * inverse[J][J];
}

#[inline(never)]
fn subtract_corner(h: &[[f64; 3]; 3], inverse: &mut [[f64; 3]; 3]) {
    inverse[0][2] -= inverse[1][2] * h[0][1] * inverse[0][0];
}

fn cross([ax, ay, az]: [f64; 3], [bx, by, bz]: [f64; 3]) -> [f64; 3] {
    [ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx]
}

fn unit(vector: [f64; 3]) -> [f64; 3] {
    let (vector, _) = scaled(vector);
    let length = libm::sqrt(dot(vector, vector));
    vector.map(|x| x / length)
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

#[inline(never)]
fn is_finite(matrix: &[[f64; 3]; 3]) -> bool {
    matrix.as_flattened().iter().all(|x| x.is_finite())
}

/// The determinant of vectors of about unit length below which it is all rounding.
const SINGULAR: f64 = 4.0 * f64::EPSILON;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_sends_is_the_inverse() {
        let mut inverse = [[0.0; 3]; 3];
        let cell = Cell::from_rows([[4.0, 1.0, -3.0], [0.0, 2.0, 0.5], [0.0, 0.0, 8.0]]);
        assert!(cell.invert_upper(&mut inverse) && cell.is_thick());
        // By hand; powers of two, so exact.
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
            // Singular, or as good as.
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

    /// What is only as thick as rounding is no cell, and with twice as much it is one.
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
            // A virial of one pair turns with it.
            let (r, f) = ([0.1, -0.7, 2.3], [0.2, -1.4, 4.6]);
            let (mut virial, mut turned) = (Virial::ZERO, Virial::ZERO);
            virial.add_product(r, f);
            turned.add_product(rotation.apply(r), rotation.apply(f));
            let back = rotation.undo_virial(&turned);
            for (back, it) in back.0.as_flattened().iter().zip(virial.0.as_flattened()) {
                assert!((back - it).abs() < 1e-14, "{vectors:?}");
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
        let none = Rotation([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]);
        assert_eq!((same, rotation), (cell, none));
    }

    #[test]
    fn half_a_virial_is_made_whole() {
        let whole = Virial([[1.0, 2.0, 3.0], [2.0, 4.0, 5.0], [3.0, 5.0, 6.0]]);
        let upper = Virial([[1.0, 2.0, 3.0], [0.0, 4.0, 5.0], [0.0, 0.0, 6.0]]);
        let lower = Virial([[1.0, 0.0, 0.0], [2.0, 4.0, 0.0], [3.0, 5.0, 6.0]]);
        let skewed = Virial([[1.0, 2.5, 3.0], [1.5, 4.0, 5.25], [3.0, 4.75, 6.0]]);
        for virial in [whole, upper, lower, skewed] {
            assert_eq!(virial.symmetric(), whole);
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
