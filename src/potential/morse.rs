//! A Morse well around the origin, and its quartic expansion above a surface.

use super::{Evaluation, Potential, PotentialError, Real, same_length};
use crate::geometry::{Cell, dot};

/// One atom in a Morse well around the origin, U = D (e^(−2a(r−r0)) − 2 e^(−a(r−r0))) with r its
/// distance. `-m morse` of i-PI's Fortran driver.
///
/// The energy is 0 far away and −D at r0. Not periodic. At the origin the force has no direction
/// and is set to 0 (NaN in that driver). The virial is r⊗f; that driver leaves it unset.
///
/// That driver's `-o` is empty, for the defaults, or two numbers. Its message asks for `r0,D,a`,
/// but it refuses three numbers and with two leaves `a` unset, so only the defaults can be used.
///
/// ```
/// use forcewire::potential::{Morse, Potential};
/// use forcewire::Cell;
///
/// let mut forces = [[0.0; 3]];
/// let cell = Cell::orthorhombic([50.0; 3]);
/// let bond = Morse::new(2.0, 0.125, 1.5).evaluate(&cell, &[[0.0, 2.0, 0.0]], &mut forces)?;
/// assert_eq!((bond.energy, forces), (-0.125, [[0.0; 3]]));
/// # Ok::<(), forcewire::potential::PotentialError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Morse<T> {
    r0: T,
    depth: T,
    a: T,
}

impl<T: Real> Morse<T> {
    /// A well at `r0` bohr with a depth of `depth` hartree and a width of 1/`a` bohr.
    #[must_use]
    pub fn new(r0: f64, depth: f64, a: f64) -> Self {
        Self {
            r0: T::from_f64(r0),
            depth: T::from_f64(depth),
            a: T::from_f64(a),
        }
    }
}

/// The O–H stretch: r0 = 1.8323926 bohr, D = 0.18748511 hartree, a = 1.1562697 / bohr.
impl<T: Real> Default for Morse<T> {
    fn default() -> Self {
        // The numbers are in single precision, like the literals in `driver.f90`; this matters from
        // the eighth digit on.
        Self::new(
            1.832_392_6_f32.into(),
            0.187_485_11_f32.into(),
            1.156_269_7_f32.into(),
        )
    }
}

impl<T: Real> Potential for Morse<T> {
    type Real = T;

    /// # Errors
    ///
    /// [`PotentialError::WrongAtomCount`] unless there is exactly one atom.
    fn evaluate(
        &mut self,
        _: &Cell,
        positions: &[[T; 3]],
        forces: &mut [[T; 3]],
    ) -> Result<Evaluation, PotentialError> {
        same_length(positions, forces)?;
        let (&[r], [force]) = (positions, forces) else {
            return Err(PotentialError::WrongAtomCount {
                expected: 1,
                actual: positions.len(),
            });
        };
        let two = T::ONE + T::ONE;
        let distance = dot(r, r).sqrt();
        let bond = (-self.a * (distance - self.r0)).exp();
        let mut sum = Evaluation {
            energy: (self.depth * (bond * bond - two * bond)).to_f64(),
            ..Evaluation::default()
        };
        let slope = two * self.a * self.depth * (bond - bond * bond);
        *force = if distance > T::ZERO {
            r.map(|x| -slope * x / distance)
        } else {
            [T::ZERO; 3]
        };
        sum.virial
            .add_product(r.map(T::to_f64), force.map(T::to_f64));
        sum.finite()
    }
}

/// Each atom above a surface: a Morse well in z to fourth order, and a spring to the axis in x and
/// y. `-m MorseHarmonic` of i-PI's Python driver.
///
/// U = Σ D (ζ² − ζ³ + 7/12 ζ⁴) + ½ k (x² + y²), with ζ = a (z − z0). Not periodic. The virial is 0,
/// as in that driver: the surface does not shrink with the cell.
///
/// That driver's `-o` is empty, for the defaults, or `De,a,z0,k` in **eV, 1/Å, Å and eV/Å²** (fewer
/// than four numbers mean the defaults). [`new`](Self::new) takes atomic units.
///
/// ```
/// use forcewire::potential::{MorseHarmonic, Potential};
/// use forcewire::Cell;
///
/// let mut forces = [[0.0; 3]];
/// let cell = Cell::orthorhombic([50.0; 3]);
/// let hydrogen = MorseHarmonic::default().evaluate(&cell, &[[0.0, 0.0, 2.1]], &mut forces)?;
/// assert_eq!((hydrogen.energy, forces), (0.0, [[0.0; 3]]));
/// # Ok::<(), forcewire::potential::PotentialError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct MorseHarmonic<T> {
    depth: T,
    a: T,
    z0: T,
    k: T,
}

impl<T: Real> MorseHarmonic<T> {
    /// A well of `depth` hartree and width 1/`a` bohr at height `z0` bohr, with springs of `k`
    /// hartree/bohr² along the surface.
    #[must_use]
    pub fn new(depth: f64, a: f64, z0: f64, k: f64) -> Self {
        Self {
            depth: T::from_f64(depth),
            a: T::from_f64(a),
            z0: T::from_f64(z0),
            k: T::from_f64(k),
        }
    }
}

/// Hydrogen on a metal: 0.00735 hartree, 1.61 / bohr, 2.1 bohr, 0.343 hartree/bohr².
impl<T: Real> Default for MorseHarmonic<T> {
    fn default() -> Self {
        Self::new(0.00735, 1.61, 2.1, 0.343)
    }
}

impl<T: Real> Potential for MorseHarmonic<T> {
    type Real = T;

    fn evaluate(
        &mut self,
        _: &Cell,
        positions: &[[T; 3]],
        forces: &mut [[T; 3]],
    ) -> Result<Evaluation, PotentialError> {
        same_length(positions, forces)?;
        let Self { depth, a, z0, k } = *self;
        let [half, two, three, quartic, cubic] =
            [0.5, 2.0, 3.0, 7.0 / 12.0, 7.0 / 3.0].map(T::from_f64);
        let mut sum = Evaluation::default();
        for (&[x, y, z], force) in positions.iter().zip(forces) {
            let height = a * (z - z0);
            let square = height * height;
            let well = depth * (square - square * height + quartic * square * square);
            sum.energy += (well + half * k * (x * x + y * y)).to_f64();
            let slope = two * height - three * square + cubic * square * height;
            *force = [-k * x, -k * y, -depth * a * slope];
        }
        sum.finite()
    }
}
