//! The Silvera-Goldman potential for para-hydrogen, J. Chem. Phys. 69, 4209 (1978).

use core::f64::consts::TAU;

use super::pairs::{PairForm, Pairs};
use super::{Cutoff, Evaluation, Potential, PotentialError, Real};
use crate::geometry::Cell;

/// The Silvera-Goldman potential between para-hydrogen molecules, each one site, periodic in any
/// cell. `-m sg` of i-PI's Fortran driver.
///
/// u(r) = e^(α − βr − δr²) − (C6/r⁶ + C8/r⁸ − C9/r⁹ + C10/r¹⁰) f(r) for r < cutoff, in hartree and
/// bohr, with f(r) = e^(−(8.32/r − 1)²) up to 8.32 bohr and 1 from there on. The parameters come
/// from that driver's `SG.f90`. The tail correction includes only the undamped dispersion terms, so
/// choose a cutoff well beyond 8.32 bohr.
///
/// That driver's `-o` takes exactly one number, `cutoff`. Images, storage and the cutoff in a
/// changing cell are handled as in [`LennardJones`](super::LennardJones).
///
/// ```
/// use forcewire::potential::{Potential, SilveraGoldman};
/// use forcewire::Cell;
///
/// let mut hydrogen = SilveraGoldman::new(15.0);
/// let mut forces = [[0.0; 3]; 2];
/// let cell = Cell::orthorhombic([33.0; 3]);
/// let dimer = hydrogen.evaluate(&cell, &[[0.0; 3], [6.5, 0.0, 0.0]], &mut forces)?;
/// assert!((-2e-4..-1e-4).contains(&dimer.energy), "close to the bottom of the well");
/// # Ok::<(), forcewire::potential::PotentialError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SilveraGoldman<T, S = [u32; 0]> {
    pairs: Pairs<Form<T>, S>,
}

impl<T: Real> SilveraGoldman<T> {
    /// Molecules that interact up to `cutoff` bohr.
    #[must_use]
    pub fn new(cutoff: f64) -> Self {
        let number = T::from_f64;
        let form = Form {
            alpha: number(1.713),
            beta: number(1.5671),
            delta: number(0.00993),
            damped_up_to: number(DAMPED_UP_TO),
            c6: number(C6),
            c8: number(C8),
            c9: number(C9),
            c10: number(C10),
            six_c6: number(6.0 * C6),
            eight_c8: number(8.0 * C8),
            nine_c9: number(9.0 * C9),
            ten_c10: number(10.0 * C10),
        };
        Self {
            pairs: Pairs::new(form, cutoff),
        }
    }
}

impl<T, S> SilveraGoldman<T, S> {
    /// Sets the treatment of the cutoff. The default is [`Cutoff::Tail`].
    #[must_use]
    pub fn with_cutoff(mut self, at_cutoff: Cutoff) -> Self {
        self.pairs.at_cutoff = at_cutoff;
        self
    }

    /// Scales the cutoff with the cell, like
    /// [`LennardJones::with_reference_volume`](super::LennardJones::with_reference_volume).
    #[must_use]
    pub fn with_reference_volume(mut self, volume: f64) -> Self {
        self.pairs.reference_volume = Some(volume);
        self
    }

    /// Sorts atoms into boxes in `storage`, like
    /// [`LennardJones::with_storage`](super::LennardJones::with_storage).
    #[must_use]
    pub fn with_storage<R: AsMut<[u32]>>(self, storage: R) -> SilveraGoldman<T, R> {
        SilveraGoldman {
            pairs: self.pairs.with_storage(storage),
        }
    }
}

impl<T: Real, S: AsMut<[u32]>> Potential for SilveraGoldman<T, S> {
    type Real = T;

    fn evaluate(
        &mut self,
        cell: &Cell,
        positions: &[[T; 3]],
        forces: &mut [[T; 3]],
    ) -> Result<Evaluation, PotentialError> {
        self.pairs.evaluate(cell, positions, forces)
    }
}

/// The parameters in the precision of the atoms, converted once.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
struct Form<T> {
    alpha: T,
    beta: T,
    delta: T,
    damped_up_to: T,
    c6: T,
    c8: T,
    c9: T,
    c10: T,
    six_c6: T,
    eight_c8: T,
    nine_c9: T,
    ten_c10: T,
}

impl<T: Real> PairForm for Form<T> {
    type Real = T;

    fn at(&self, distance_squared: T) -> (T, T) {
        let r = distance_squared.sqrt();
        let i = T::ONE / r;
        let i2 = i * i;
        let i6 = i2 * i2 * i2;
        let (i8, i9, i10) = (i6 * i2, i6 * i2 * i, i6 * i2 * i2);

        let repulsion = (self.alpha - r * (self.beta + self.delta * r)).exp();
        let repulsion_force = (self.beta + (self.delta + self.delta) * r) * repulsion;
        let dispersion = -(self.c6 * i6 + self.c8 * i8 - self.c9 * i9 + self.c10 * i10);
        let dispersion_force =
            -(self.six_c6 * i6 + self.eight_c8 * i8 - self.nine_c9 * i9 + self.ten_c10 * i10) * i;
        if r > self.damped_up_to {
            return (
                repulsion + dispersion,
                (repulsion_force + dispersion_force) * i,
            );
        }

        let x = self.damped_up_to * i - T::ONE;
        let damping = (-(x * x)).exp();
        let damping_slope = (x + x) * self.damped_up_to * damping * i2;
        let force = repulsion_force + dispersion_force * damping - dispersion * damping_slope;
        (repulsion + dispersion * damping, force * i)
    }

    fn tail(&self, cutoff: f64) -> [f64; 2] {
        // The same as `SG_longrange` of i-PI's `SG.f90`; Martyna and Hughes, J. Chem. Phys. 110,
        // 3275 (1999).
        let i = 1.0 / cutoff;
        let i3 = i * i * i;
        let (i5, i6, i7) = (i3 * i * i, i3 * i3, i3 * i3 * i);
        let energy = TAU * (-C6 / 3.0 * i3 - C8 / 5.0 * i5 + C9 / 6.0 * i6 - C10 / 7.0 * i7);
        [
            energy,
            TAU * (-C6 * i3 - C8 * i5 + C9 * i6 - C10 * i7) / 3.0 + energy,
        ]
    }
}

const DAMPED_UP_TO: f64 = 8.32;
const C6: f64 = 12.14;
const C8: f64 = 215.2;
const C9: f64 = 143.1;
const C10: f64 = 4813.9;
