//! Sums over pairs of atoms: the common part of Lennard-Jones and Silvera-Goldman.

use super::linked_cells::LinkedCells;
use super::minimum_image::MinimumImage;
use super::{Evaluation, PotentialError, Real, same_length};
use crate::geometry::{Cell, Virial};

/// The treatment of a pair potential at its cutoff.
///
/// ```
/// use forcewire::potential::{Cutoff, LennardJones};
///
/// let argon = LennardJones::<f64>::new(6.43452, 0.000379384, 16.0863);
/// let as_lammps = argon.with_cutoff(Cutoff::Truncated);
/// let as_ase = argon.with_cutoff(Cutoff::Shifted);
/// # let _ = (as_lammps, as_ase);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Cutoff {
    /// The energy jumps to 0. LAMMPS does this with `lj/cut` and `pair_modify tail no`.
    Truncated,
    /// The pair energy is shifted by its value at the cutoff, so that it goes to 0; forces are the
    /// same as when truncated. ASE's `LennardJones` does this.
    Shifted,
    /// Truncated, with the mean of the missing part added to the energy and to the virial's
    /// diagonal, assuming that atoms beyond the cutoff are spread evenly. This is the default, and
    /// what i-PI's Fortran driver does.
    ///
    /// The correction of the virial includes the pairs that a strain would move across the cutoff.
    /// The virial is therefore −dU/dε of the energy with a cutoff that scales with the cell, not
    /// with a fixed one.
    #[default]
    Tail,
}

/// A pair energy as a function of distance only.
pub(super) trait PairForm {
    type Real: Real;

    /// Energy in hartree and force divided by distance in hartree/bohr² (repulsive is positive) of
    /// a pair at this squared distance.
    fn at(&self, distance_squared: Self::Real) -> (Self::Real, Self::Real);

    /// ½ ∫ u(r) 4πr² dr and −⅙ ∫ u′(r) r 4πr² dr from the cutoff on, in hartree bohr³. Multiplied
    /// by N²/V, they are the energy beyond the cutoff and its part in each diagonal element of the
    /// virial.
    fn tail(&self, cutoff: f64) -> [f64; 2];
}

/// The sum of a form over all pairs within a cutoff.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(super) struct Pairs<F, S> {
    pub(super) form: F,
    pub(super) cutoff: f64,
    pub(super) at_cutoff: Cutoff,
    pub(super) reference_volume: Option<f64>,
    pub(super) storage: S,
}

impl<F> Pairs<F, [u32; 0]> {
    pub(super) const fn new(form: F, cutoff: f64) -> Self {
        Self {
            form,
            cutoff,
            at_cutoff: Cutoff::Tail,
            reference_volume: None,
            storage: [],
        }
    }
}

impl<F, S> Pairs<F, S> {
    pub(super) fn with_storage<R>(self, storage: R) -> Pairs<F, R> {
        let Self {
            form,
            cutoff,
            at_cutoff,
            reference_volume,
            ..
        } = self;
        Pairs {
            form,
            cutoff,
            at_cutoff,
            reference_volume,
            storage,
        }
    }

    /// The cutoff in a cell of this volume.
    fn cutoff_in(&self, volume: f64) -> f64 {
        match self.reference_volume {
            Some(reference) => self.cutoff * libm::cbrt(volume / reference),
            None => self.cutoff,
        }
    }
}

impl<T: Real, F: PairForm<Real = T>, S: AsMut<[u32]>> Pairs<F, S> {
    pub(super) fn evaluate(
        &mut self,
        cell: &Cell,
        positions: &[[T; 3]],
        forces: &mut [[T; 3]],
    ) -> Result<Evaluation, PotentialError> {
        same_length(positions, forces)?;
        if !positions
            .as_flattened()
            .iter()
            .all(|x| x.to_f64().is_finite())
        {
            return Err(PotentialError::PositionNotFinite);
        }
        let inverse = cell.inverse().ok_or(PotentialError::SingularCell)?;
        let volume = cell.volume();
        let cutoff = self.cutoff_in(volume);

        forces.fill([T::ZERO; 3]);
        let mut sum = Sum {
            form: &self.form,
            image: &MinimumImage::new(cell, &inverse, cutoff),
            shift: match self.at_cutoff {
                Cutoff::Shifted => self.form.at(T::from_f64(cutoff * cutoff)).0,
                Cutoff::Truncated | Cutoff::Tail => T::ZERO,
            },
            positions,
            forces,
            total: Evaluation::default(),
        };
        match LinkedCells::new(&inverse, cutoff, positions, self.storage.as_mut()) {
            Some(cells) => cells
                .rows()
                .for_each(|(atom, others)| sum.add_row(atom, others)),
            None => {
                (0..positions.len()).for_each(|atom| sum.add_row(atom, atom + 1..positions.len()))
            }
        }
        let mut total = sum.total;

        if self.at_cutoff == Cutoff::Tail {
            let natoms = positions.len() as f64;
            let [energy, virial] = self
                .form
                .tail(cutoff)
                .map(|tail| tail * (natoms * natoms / volume));
            total.energy += energy;
            total.virial += Virial::isotropic(virial);
        }
        total.finite()
    }
}

/// The sums so far.
struct Sum<'a, F: PairForm> {
    form: &'a F,
    image: &'a MinimumImage<F::Real>,
    shift: F::Real,
    positions: &'a [[F::Real; 3]],
    forces: &'a mut [[F::Real; 3]],
    total: Evaluation,
}

impl<T: Real, F: PairForm<Real = T>> Sum<'_, F> {
    /// Adds the pairs of one atom with others. These are summed in the atoms' precision, and then
    /// added to the total in `f64`.
    fn add_row(&mut self, atom: usize, others: impl Iterator<Item = usize>) {
        let Some(&from) = self.positions.get(atom) else {
            return;
        };
        let mut energy = T::ZERO;
        let mut force = [T::ZERO; 3];
        let [mut xx, mut xy, mut xz, mut yy, mut yz, mut zz] = [T::ZERO; 6];
        for other in others {
            let (Some(&to), Some(reaction)) =
                (self.positions.get(other), self.forces.get_mut(other))
            else {
                continue;
            };
            let Some((r, squared)) = self.image.separation(from, to) else {
                continue;
            };
            let (pair_energy, force_by_distance) = self.form.at(squared);
            energy += pair_energy - self.shift;

            // The force on the other atom, to which r points.
            let ([x, y, z], f) = (r, r.map(|x| force_by_distance * x));
            for ((sum, reaction), f) in force.iter_mut().zip(reaction).zip(f) {
                *sum -= f;
                *reaction += f;
            }
            let [fx, fy, fz] = f;
            xx += x * fx;
            xy += x * fy;
            xz += x * fz;
            yy += y * fy;
            yz += y * fz;
            zz += z * fz;
        }
        if let Some(sum) = self.forces.get_mut(atom) {
            for (sum, f) in sum.iter_mut().zip(force) {
                *sum += f;
            }
        }
        self.total.energy += energy.to_f64();
        self.total.virial += Virial::from_upper([xx, xy, xz, yy, yz, zz].map(T::to_f64));
    }
}
