//! Springs from every atom, or from the first, to the origin.

use super::{Evaluation, Potential, PotentialError, Real, same_length};
use crate::geometry::{Cell, Virial};

/// A spring from each atom to the origin, the same for all: U = Σ ½ (kx x² + ky y² + kz z²).
///
/// Not periodic: positions are used as they are, so keep them unwrapped. The virial is Σ r⊗f, made
/// symmetric if the springs are not isotropic.
///
/// | i-PI's driver | here |
/// |---|---|
/// | Fortran, `-m harm3d -o k` (exactly one number) | `new(k)` |
/// | Python, `-m harmonic -o k` (one or more; two mean the first) | `new(k).without_virial()` |
/// | Python, `-m harmonic -o kx,ky,kz` | `anisotropic([kx, ky, kz]).without_virial()` |
///
/// ```
/// use forcewire::potential::{Harmonic, Potential};
/// use forcewire::Cell;
///
/// let mut forces = [[0.0; 3]];
/// let cell = Cell::orthorhombic([50.0; 3]);
/// let trap = Harmonic::new(0.25).evaluate(&cell, &[[1.0, 2.0, 4.0]], &mut forces)?;
/// assert_eq!((trap.energy, forces), (2.625, [[-0.25, -0.5, -1.0]]));
/// # Ok::<(), forcewire::potential::PotentialError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Harmonic<T> {
    k: [T; 3],
    virial: bool,
}

impl<T: Real> Harmonic<T> {
    /// Springs of `k` hartree/bohr² in all directions.
    #[must_use]
    pub fn new(k: f64) -> Self {
        Self::anisotropic([k; 3])
    }

    /// Springs of kx, ky, kz hartree/bohr² along the axes.
    #[must_use]
    pub fn anisotropic(k: [f64; 3]) -> Self {
        Self {
            k: k.map(T::from_f64),
            virial: true,
        }
    }

    /// Sets the virial to 0, as i-PI's Python driver does: the trap does not shrink with the cell.
    #[must_use]
    pub fn without_virial(self) -> Self {
        Self {
            virial: false,
            ..self
        }
    }
}

impl<T: Real> Potential for Harmonic<T> {
    type Real = T;

    fn evaluate(
        &mut self,
        _: &Cell,
        positions: &[[T; 3]],
        forces: &mut [[T; 3]],
    ) -> Result<Evaluation, PotentialError> {
        same_length(positions, forces)?;
        let half = T::from_f64(0.5);
        let [kx, ky, kz] = self.k;
        let mut sum = Evaluation::default();
        for (&[x, y, z], force) in positions.iter().zip(forces) {
            sum.energy += (half * kx * x * x + half * ky * y * y + half * kz * z * z).to_f64();
            *force = [-kx * x, -ky * y, -kz * z];
            if self.virial {
                sum.virial
                    .add_product([x, y, z].map(T::to_f64), force.map(T::to_f64));
            }
        }
        sum.finite()
    }
}

/// A spring along x from the first atom to the origin, U = ½ k x². `-m harm -o k` of i-PI's Fortran
/// driver.
///
/// No other coordinate feels a force. As in that driver, only xx of the virial is nonzero, although
/// a shear would change x. That driver's `-o` takes exactly one number.
///
/// ```
/// use forcewire::potential::{Harmonic1d, Potential};
/// use forcewire::Cell;
///
/// let mut forces = [[1.0; 3]; 2];
/// let positions = [[2.0, 5.0, 5.0], [3.0, 3.0, 3.0]];
/// let cell = Cell::orthorhombic([50.0; 3]);
/// let oscillator = Harmonic1d::new(0.5).evaluate(&cell, &positions, &mut forces)?;
/// assert_eq!((oscillator.energy, forces), (1.0, [[-1.0, 0.0, 0.0], [0.0; 3]]));
/// # Ok::<(), forcewire::potential::PotentialError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Harmonic1d<T> {
    k: T,
}

impl<T: Real> Harmonic1d<T> {
    /// A spring of `k` hartree/bohr².
    #[must_use]
    pub fn new(k: f64) -> Self {
        Self { k: T::from_f64(k) }
    }
}

impl<T: Real> Potential for Harmonic1d<T> {
    type Real = T;

    fn evaluate(
        &mut self,
        _: &Cell,
        positions: &[[T; 3]],
        forces: &mut [[T; 3]],
    ) -> Result<Evaluation, PotentialError> {
        same_length(positions, forces)?;
        forces.fill([T::ZERO; 3]);
        let mut sum = Evaluation::default();
        if let (Some(&[x, ..]), Some(first)) = (positions.first(), forces.first_mut()) {
            let force = -self.k * x;
            *first = [force, T::ZERO, T::ZERO];
            sum.energy = (T::from_f64(0.5) * self.k * x * x).to_f64();
            sum.virial = Virial::from_upper([x.to_f64() * force.to_f64(), 0.0, 0.0, 0.0, 0.0, 0.0]);
        }
        sum.finite()
    }
}
