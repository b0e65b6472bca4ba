//! No interaction at all.

use core::marker::PhantomData;

use super::{Evaluation, Potential, PotentialError, Real, same_length};
use crate::geometry::{Cell, Virial};

/// The ideal gas: energy and forces are 0. `-m gas` of i-PI's drivers.
///
/// Each element of the virial is 1e-200 hartree, as in i-PI's Fortran driver, because i-PI reads a
/// virial of exactly 0 as not computed (`ipi/engine/motion/dynamics.py` warns about it in NPT).
///
/// That driver's `-o` is empty, or a single number: a delay in seconds for each evaluation.
///
/// ```
/// use forcewire::potential::{IdealGas, Potential};
/// use forcewire::Cell;
///
/// let mut forces = [[1.0; 3]];
/// let cell = Cell::orthorhombic([9.0; 3]);
/// let gas = IdealGas::new().evaluate(&cell, &[[1.0, 2.0, 3.0]], &mut forces)?;
/// assert_eq!((gas.energy, forces), (0.0, [[0.0; 3]]));
/// # Ok::<(), forcewire::potential::PotentialError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct IdealGas<T> {
    real: PhantomData<T>,
}

impl<T: Real> IdealGas<T> {
    /// The ideal gas.
    #[must_use]
    pub const fn new() -> Self {
        Self { real: PhantomData }
    }
}

impl<T: Real> Potential for IdealGas<T> {
    type Real = T;

    fn evaluate(
        &mut self,
        _: &Cell,
        positions: &[[T; 3]],
        forces: &mut [[T; 3]],
    ) -> Result<Evaluation, PotentialError> {
        same_length(positions, forces)?;
        forces.fill([T::ZERO; 3]);
        Ok(Evaluation {
            energy: 0.0,
            virial: Virial([[1e-200; 3]; 3]),
        })
    }
}
