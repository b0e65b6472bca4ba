//! The Lennard-Jones potential, u(r) = 4ε((σ/r)¹² − (σ/r)⁶).

use core::f64::consts::PI;

use super::pairs::{PairForm, Pairs};
use super::{Cutoff, Evaluation, Potential, PotentialError, Real};
use crate::geometry::Cell;

/// The Lennard-Jones potential between all atoms, periodic in any cell. `-m lj` of i-PI's Fortran
/// driver.
///
/// u(r) = 4ε((σ/r)¹² − (σ/r)⁶) for r < cutoff, with a tail correction unless
/// [`with_cutoff`](Self::with_cutoff) changes that. A pair interacts through one image. That is the
/// nearest one if the cutoff is at most half the smallest of [`Cell::widths`]. A longer cutoff is
/// not refused; the pair then interacts through the image that i-PI's driver chooses. An infinite
/// cutoff is allowed.
///
/// That driver's `-o` takes exactly three numbers, `sigma,epsilon,cutoff`. Its cutoff scales with
/// the cell when the volume changes, see [`with_reference_volume`](Self::with_reference_volume).
///
/// The cost is quadratic in the number of atoms, or linear [with storage](Self::with_storage) in
/// cells of at least four cutoffs along one vector.
///
/// ```
/// use forcewire::potential::{Cutoff, LennardJones, Potential, storage_for};
/// use forcewire::Cell;
///
/// let mut argon = LennardJones::new(6.43452, 0.000379384, 16.0863)
///     .with_cutoff(Cutoff::Truncated)
///     .with_storage([0; storage_for(2)]);
/// let mut forces = [[0.0; 3]; 2];
/// let cell = Cell::orthorhombic([200.0; 3]);
/// let dimer = argon.evaluate(&cell, &[[0.0; 3], [0.0, 0.0, 193.56548]], &mut forces)?;
/// assert!(dimer.energy.abs() < 1e-12, "a sigma apart, through the face of the cell");
/// assert!(forces[0][2] > 0.0, "so the first atom is pushed inwards");
/// # Ok::<(), forcewire::potential::PotentialError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct LennardJones<T, S = [u32; 0]> {
    pairs: Pairs<Form<T>, S>,
}

impl<T: Real> LennardJones<T> {
    /// Atoms of size `sigma` bohr that attract each other by `epsilon` hartree up to `cutoff` bohr.
    #[must_use]
    pub fn new(sigma: f64, epsilon: f64, cutoff: f64) -> Self {
        let form = Form {
            sigma,
            epsilon,
            sigma_squared: T::from_f64(sigma * sigma),
            four_epsilon: T::from_f64(4.0 * epsilon),
            twenty_four_epsilon: T::from_f64(24.0 * epsilon),
        };
        Self {
            pairs: Pairs::new(form, cutoff),
        }
    }
}

impl<T, S> LennardJones<T, S> {
    /// Sets the treatment of the cutoff. The default is [`Cutoff::Tail`].
    #[must_use]
    pub fn with_cutoff(mut self, at_cutoff: Cutoff) -> Self {
        self.pairs.at_cutoff = at_cutoff;
        self
    }

    /// Scales the cutoff with the cube root of the cell's volume. It has its nominal value at this
    /// volume in bohr³.
    ///
    /// i-PI's Fortran driver does this from the first cell that it receives, to 1e-8 (its exponent
    /// is 1/3 in single precision). It matters only if the volume changes, as in NPT: then no pairs
    /// cross the cutoff, and with [`Cutoff::Tail`] the virial is consistent with the energy.
    #[must_use]
    pub fn with_reference_volume(mut self, volume: f64) -> Self {
        self.pairs.reference_volume = Some(volume);
        self
    }

    /// Sorts atoms into boxes in `storage`; [`storage_for`](super::storage_for) gives the required
    /// size.
    ///
    /// The storage may be an array, a `&mut [u32]`, a full `heapless::Vec` or a `Vec`, with any
    /// contents. Too little storage costs time, not correctness.
    #[must_use]
    pub fn with_storage<R: AsMut<[u32]>>(self, storage: R) -> LennardJones<T, R> {
        LennardJones {
            pairs: self.pairs.with_storage(storage),
        }
    }
}

impl<T: Real, S: AsMut<[u32]>> Potential for LennardJones<T, S> {
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

#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
struct Form<T> {
    sigma: f64,
    epsilon: f64,
    sigma_squared: T,
    four_epsilon: T,
    twenty_four_epsilon: T,
}

impl<T: Real> PairForm for Form<T> {
    type Real = T;

    #[inline]
    fn at(&self, distance_squared: T) -> (T, T) {
        let inverse = T::ONE / distance_squared;
        let s2 = self.sigma_squared * inverse;
        let s6 = s2 * s2 * s2;
        (
            self.four_epsilon * (s6 * (s6 - T::ONE)),
            self.twenty_four_epsilon * (s6 * (s6 + s6 - T::ONE)) * inverse,
        )
    }

    fn tail(&self, cutoff: f64) -> [f64; 2] {
        // The same as `LJ_longrange` of i-PI's `LJ.f90`; Martyna and Hughes, J. Chem. Phys. 110,
        // 3275 (1999).
        let s = self.sigma / cutoff;
        let (s3, sigma3) = (s * s * s, self.sigma * self.sigma * self.sigma);
        let (s6, scale) = (s3 * s3, 8.0 * PI / 3.0 * self.epsilon * s3 * sigma3);
        let energy = scale * (s6 / 3.0 - 1.0);
        [energy, scale * (s6 - 1.0) + energy]
    }
}
