//! The virial of a structure.

use core::ops::AddAssign;

use super::matrix::is_finite;

/// The virial W = −dU/dε of a strain ε of cell and atoms, Σ r⊗f, in hartree.
///
/// The virial is not divided by the volume, and it is positive if atoms repel each other: the
/// pressure is its trace / 3 / volume, plus the kinetic part. Send the full symmetric matrix: i-PI
/// reads the upper triangle only and ASE averages the off-diagonals, so both get the same numbers.
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
    /// The rows, the order of the wire.
    pub [[f64; 3]; 3],
);

impl Virial {
    /// The virial with nine zeros.
    pub const ZERO: Self = Self([[0.0; 3]; 3]);

    /// The symmetric matrix with this upper triangle: xx, xy, xz, yy, yz, zz.
    #[must_use]
    pub const fn from_upper([xx, xy, xz, yy, yz, zz]: [f64; 6]) -> Self {
        Self([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    }

    /// An isotropic virial: `hartree` on the diagonal, zero elsewhere.
    #[must_use]
    pub const fn isotropic(hartree: f64) -> Self {
        Self::from_upper([hartree, 0.0, 0.0, hartree, 0.0, hartree])
    }

    /// Adds the symmetric part of r⊗f: r in bohr and f in hartree/bohr, of an atom from the origin
    /// or of a pair (`r = ri − rj`, f on i).
    ///
    /// The antisymmetric part is the torque. It does no work under a strain of the cell, and its
    /// sum is zero without an external field. The result is symmetric by construction and does not
    /// depend on the order of the arguments, to the last bit.
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

    /// The matrix with its upper triangle copied below the diagonal.
    ///
    /// LAMMPS and i-PI's Fortran driver send zeros below the diagonal.
    #[must_use]
    pub const fn mirrored(self) -> Self {
        let [[xx, xy, xz], [_, yy, yz], [_, _, zz]] = self.0;
        Self::from_upper([xx, xy, xz, yy, yz, zz])
    }

    /// The full symmetric matrix of a virial from a driver.
    ///
    /// If one triangle is zero the other one is mirrored (LAMMPS sends the upper one); otherwise
    /// both are replaced by their mean.
    #[must_use]
    pub fn symmetric(mut self) -> Self {
        self.symmetrize();
        self
    }

    /// [`symmetric`](Self::symmetric) in place.
    // In place: copies of the matrix would lie on the stack below soft float.
    pub(crate) fn symmetrize(&mut self) {
        let [[_, xy, xz], [yx, _, yz], [zx, zy, _]] = &mut self.0;
        // Compares bits, so that a device without floating point needs no soft float for it.
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

/// Sets both numbers to their mean, or to the second, or else to the first.
// Not inlined: where floating point is soft, each call then has only its own two numbers on the
// stack.
#[inline(never)]
fn make_same(first: &mut f64, second: &mut f64, is_second: bool, is_mean: bool) {
    if is_mean {
        *first = 0.5 * *first + 0.5 * *second;
    } else if is_second {
        *first = *second;
    }
    *second = *first;
}

#[cfg(test)]
mod tests {
    use super::super::matrix::dot;
    use super::*;

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
