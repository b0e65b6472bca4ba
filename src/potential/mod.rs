//! Potentials with known answers, to drive a simulation or to check a complete setup.
//!
//! Each potential is generic over `f64` and `f32` and agrees to rounding with the one of the same
//! name in i-PI's own drivers (3.3.1, `drivers/f90/driver.f90` and `ipi/pes`). Where those drivers
//! are ambiguous, the type's documentation decides. `tests/potentials.rs` compares them with
//! numbers recorded from those drivers, ASE and LAMMPS.
//!
//! | i-PI's `-m` | `-o` in that driver | default | here |
//! |---|---|---|---|
//! | `gas` | none or a delay in s | 0 | [`IdealGas`] |
//! | `harm` | k | | [`Harmonic1d`] |
//! | `harm3d` | k | | [`Harmonic`] |
//! | `harmonic` (Python) | k or kx,ky,kz | | [`Harmonic::without_virial`] |
//! | `morse` | none, see there | O–H stretch | [`Morse`] |
//! | `MorseHarmonic` (Python) | De,a,z0,k in eV and Å | hydrogen on a metal | [`MorseHarmonic`] |
//! | `lj` | sigma,epsilon,cutoff | | [`LennardJones`] |
//! | `sg` | cutoff | | [`SilveraGoldman`] |
//!
//! All numbers are in atomic units, apart from the exception in the table. The Fortran driver stops
//! before it connects if it gets another count of numbers.
//!
//! # Rounding
//!
//! An evaluation in `f64` gives the same bits on every target, see [`Real`]. In `f32` the terms of
//! one atom are summed in `f32` and the atoms in `f64`. Energy, virial and forces are then accurate
//! to 1e-5 of the largest element (tested for 64 atoms), as long as the atoms stay within a few
//! cells of the origin.

mod error;
mod harmonic;
mod ideal_gas;
mod lennard_jones;
mod linked_cells;
mod minimum_image;
mod morse;
mod pairs;
mod real;
mod silvera_goldman;

pub use error::PotentialError;
pub use harmonic::{Harmonic, Harmonic1d};
pub use ideal_gas::IdealGas;
pub use lennard_jones::LennardJones;
pub use linked_cells::storage_for;
pub use morse::{Morse, MorseHarmonic};
pub use pairs::Cutoff;
pub use real::Real;
pub use silvera_goldman::SilveraGoldman;

use crate::geometry::{Cell, Virial};

/// A potential's results besides the forces.
///
/// ```
/// use forcewire::{Evaluation, Virial};
///
/// let evaluation = Evaluation { energy: -0.5, virial: Virial::ZERO };
/// assert_eq!(Evaluation::default().energy, 0.0);
/// # let _ = evaluation;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Evaluation {
    /// The potential energy, in hartree.
    pub energy: f64,
    /// The virial, in hartree.
    pub virial: Virial,
}

impl Evaluation {
    /// Returns the evaluation if all of its numbers are finite.
    fn finite(self) -> Result<Self, PotentialError> {
        if self.energy.is_finite() && self.virial.is_finite() {
            Ok(self)
        } else {
            Err(PotentialError::ResultNotFinite)
        }
    }
}

/// A potential: energy, forces and virial as a function of cell and positions.
///
/// ```
/// use forcewire::{Cell, Evaluation, Potential, PotentialError, Virial};
///
/// /// Gravity along −z, in hartree/bohr.
/// struct Weight(f64);
///
/// impl Potential for Weight {
///     type Real = f64;
///
///     fn evaluate(
///         &mut self,
///         _: &Cell,
///         positions: &[[f64; 3]],
///         forces: &mut [[f64; 3]],
///     ) -> Result<Evaluation, PotentialError> {
///         if positions.len() != forces.len() {
///             return Err(PotentialError::LengthMismatch);
///         }
///         forces.fill([0.0, 0.0, -self.0]);
///         let energy = positions.iter().map(|[_, _, z]| self.0 * z).sum();
///         Ok(Evaluation { energy, virial: Virial::ZERO })
///     }
/// }
/// ```
pub trait Potential {
    /// The type of positions and forces.
    type Real: Real;

    /// Evaluates the potential for one structure.
    ///
    /// `positions` are in bohr and need not lie in the cell; `forces`, in hartree/bohr, are
    /// overwritten. Both have one `[x, y, z]` per atom, in the same order. Zero atoms are not an
    /// error.
    ///
    /// # Errors
    ///
    /// [`PotentialError`] if there are no forces; use [`PotentialError::Failed`] for your own
    /// reasons. `forces` are then ignored. [`serve`](crate::serve()) ends with the error and logs
    /// it.
    fn evaluate(
        &mut self,
        cell: &Cell,
        positions: &[[Self::Real; 3]],
        forces: &mut [[Self::Real; 3]],
    ) -> Result<Evaluation, PotentialError>;
}

impl<P: Potential + ?Sized> Potential for &mut P {
    type Real = P::Real;

    fn evaluate(
        &mut self,
        cell: &Cell,
        positions: &[[Self::Real; 3]],
        forces: &mut [[Self::Real; 3]],
    ) -> Result<Evaluation, PotentialError> {
        (**self).evaluate(cell, positions, forces)
    }
}

fn same_length<T>(positions: &[T], forces: &[T]) -> Result<(), PotentialError> {
    if positions.len() == forces.len() {
        Ok(())
    } else {
        Err(PotentialError::LengthMismatch)
    }
}
