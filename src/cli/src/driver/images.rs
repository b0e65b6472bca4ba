//! Sums of a pair potential over all images within its cutoff, for any cell.
//!
//! The library's potentials take one image of each pair, as i-PI's Fortran driver does. The result
//! is the full sum up to half the smallest width of the cell, and silently wrong beyond. This
//! module repeats the cell until it is twice as wide as the cutoff. Each atom then meets its
//! images, including its own, as other atoms.
//!
//! A zero vector marks a direction that is not periodic.

use forcewire::potential::{
    Cutoff, LennardJones, Potential, PotentialError, SilveraGoldman, storage_for,
};
use forcewire::{Cell, Evaluation, Virial};

use super::models::AtCutoff;
use crate::say::say;
use crate::sent::{completed, extent};

/// The form of the pair potential.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    LennardJones { sigma: f64, epsilon: f64 },
    SilveraGoldman,
}

/// A pair potential with its buffers, which grow with the structures.
pub struct Images {
    form: Form,
    cutoff: f64,
    at_cutoff: AtCutoff,
    /// The volume of the first periodic cell, which scales the cutoff with [`AtCutoff::Ipi`].
    reference: Option<f64>,
    storage: Vec<u32>,
    positions: Vec<[f64; 3]>,
    forces: Vec<[f64; 3]>,
    said: [bool; 3],
}

/// The most atoms of a repeated cell.
const MOST_ATOMS: usize = 2_000_000;
const TOO_MANY: PotentialError = PotentialError::Failed(
    "the cutoff reaches more than 2000000 images of atoms: choose a shorter one with -o",
);

impl Images {
    pub fn new(form: Form, cutoff: f64, at_cutoff: AtCutoff) -> Self {
        Self {
            form,
            cutoff,
            at_cutoff,
            reference: None,
            storage: Vec::new(),
            positions: Vec::new(),
            forces: Vec::new(),
            said: [false; 3],
        }
    }

    fn say_once(&mut self, which: usize, text: &str) {
        if !std::mem::replace(&mut self.said[which], true) {
            say(text);
        }
    }
}

impl Potential for Images {
    type Real = f64;

    fn evaluate(
        &mut self,
        cell: &Cell,
        positions: &[[f64; 3]],
        forces: &mut [[f64; 3]],
    ) -> Result<Evaluation, PotentialError> {
        let periodic = cell.vectors().map(|vector| vector != [0.0; 3]);
        let whole = periodic == [true; 3];
        let cell = completed_cell(cell, positions, self.cutoff)?;
        let volume = cell.volume();
        let mut reference = None;
        let at_cutoff = match self.at_cutoff {
            AtCutoff::Truncated => Cutoff::Truncated,
            AtCutoff::Shifted => Cutoff::Shifted,
            AtCutoff::Tail | AtCutoff::Ipi if !whole => {
                self.say_once(
                    0,
                    "the structure is not periodic in all directions: no correction for what is beyond the cutoff",
                );
                Cutoff::Truncated
            }
            AtCutoff::Tail => Cutoff::Tail,
            AtCutoff::Ipi => {
                let first = *self.reference.get_or_insert(volume);
                if volume != first {
                    self.say_once(
                        2,
                        "the volume changes, and the cutoff with it (--cutoff ipi): a driver that starts later \
                         computes other numbers",
                    );
                }
                reference = Some(first);
                Cutoff::Tail
            }
        };
        let cutoff =
            self.cutoff * reference.map_or(1.0, |volume_then| (volume / volume_then).cbrt());
        let repeats = repeats(&cell, periodic, cutoff)?;
        let copies = repeats
            .iter()
            .try_fold(1_usize, |all, repeat| all.checked_mul(*repeat));
        let atoms = copies.and_then(|copies| copies.checked_mul(positions.len()));
        let (Some(copies), Some(atoms)) = (copies, atoms) else {
            return Err(TOO_MANY);
        };
        if copies > 1 && atoms > MOST_ATOMS {
            return Err(TOO_MANY);
        }
        self.storage.resize(storage_for(atoms), 0);
        if copies == 1 {
            let potential = (self.form, self.cutoff, at_cutoff, reference);
            return evaluate(potential, &mut self.storage, &cell, positions, forces);
        }
        let [a, b, c] = repeats;
        self.say_once(
            1,
            &format!(
                "the cell is smaller than twice the cutoff: the sum is over {a} x {b} x {c} images of it, \
                 where i-PI's own driver takes one of each pair"
            ),
        );
        if positions.len() != forces.len() {
            return Err(PotentialError::LengthMismatch);
        }
        let vectors = cell.vectors();
        self.positions.clear();
        for image in (0..a).flat_map(|i| (0..b).flat_map(move |j| (0..c).map(move |k| [i, j, k]))) {
            let offset = [0, 1, 2].map(|axis| {
                (0..3)
                    .map(|vector| image[vector] as f64 * vectors[vector][axis])
                    .sum::<f64>()
            });
            let moved = positions
                .iter()
                .map(|r| [0, 1, 2].map(|axis| r[axis] + offset[axis]));
            self.positions.extend(moved);
        }
        self.forces.resize(atoms, [0.0; 3]);
        let [ra, rb, rc] = repeats.map(|repeat| repeat as f64);
        let [va, vb, vc] = vectors;
        let repeated =
            Cell::from_vectors([va.map(|x| x * ra), vb.map(|x| x * rb), vc.map(|x| x * rc)]);
        let copies = copies as f64;
        let potential = (
            self.form,
            self.cutoff,
            at_cutoff,
            reference.map(|volume| volume * copies),
        );
        let all = evaluate(
            potential,
            &mut self.storage,
            &repeated,
            &self.positions,
            &mut self.forces,
        )?;
        for (force, image) in forces.iter_mut().zip(&self.forces) {
            *force = *image;
        }
        Ok(Evaluation {
            energy: all.energy / copies,
            virial: Virial(all.virial.0.map(|row| row.map(|x| x / copies))),
        })
    }
}

/// The cell with its zero vectors replaced by ones so long that no image is within the cutoff.
fn completed_cell(
    cell: &Cell,
    positions: &[[f64; 3]],
    cutoff: f64,
) -> Result<Cell, PotentialError> {
    let vectors = cell.vectors();
    let given: Vec<_> = vectors
        .into_iter()
        .filter(|vector| *vector != [0.0; 3])
        .collect();
    let extent = extent(positions);
    if !extent.is_finite() {
        return Err(PotentialError::PositionNotFinite);
    }
    // No two atoms are farther apart than that.
    let reach = cutoff.min(extent + 1.0);
    let filled = completed(&given, 2.0 * (extent + reach + 1.0)).ok_or(PotentialError::Failed(
        "the vectors of the cell lie in one plane or in one line: it has no volume, and is not a molecule \
         without a cell either (three vectors of zeros)",
    ))?;
    let (mut given, mut added) = {
        let (given, added) = filled.split_at(given.len());
        (given.iter(), added.iter())
    };
    Ok(Cell::from_vectors(vectors.map(|vector| {
        let next = if vector == [0.0; 3] {
            added.next()
        } else {
            given.next()
        };
        *next.unwrap_or(&vector)
    })))
}

/// How many times to repeat the cell along each vector.
fn repeats(cell: &Cell, periodic: [bool; 3], cutoff: f64) -> Result<[usize; 3], PotentialError> {
    let widths = cell.widths().ok_or(PotentialError::SingularCell)?;
    if cutoff.is_infinite() && periodic != [false; 3] {
        return Err(PotentialError::Failed(
            "an infinite cutoff is for molecules: in a periodic cell the sum has no end",
        ));
    }
    let mut repeats = [1; 3];
    for ((repeat, width), periodic) in repeats.iter_mut().zip(widths).zip(periodic) {
        if periodic {
            // The cast saturates at the largest integer.
            *repeat = (2.0 * cutoff / width).ceil().max(1.0) as usize;
        }
    }
    Ok(repeats)
}

fn evaluate(
    (form, cutoff, at_cutoff, reference): (Form, f64, Cutoff, Option<f64>),
    storage: &mut [u32],
    cell: &Cell,
    positions: &[[f64; 3]],
    forces: &mut [[f64; 3]],
) -> Result<Evaluation, PotentialError> {
    match form {
        Form::LennardJones { sigma, epsilon } => {
            let mut potential = LennardJones::new(sigma, epsilon, cutoff).with_cutoff(at_cutoff);
            if let Some(volume) = reference {
                potential = potential.with_reference_volume(volume);
            }
            potential
                .with_storage(storage)
                .evaluate(cell, positions, forces)
        }
        Form::SilveraGoldman => {
            let mut potential = SilveraGoldman::new(cutoff).with_cutoff(at_cutoff);
            if let Some(volume) = reference {
                potential = potential.with_reference_volume(volume);
            }
            potential
                .with_storage(storage)
                .evaluate(cell, positions, forces)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Energy, forces and virial from the definition: a sum over 21³ images.
    fn by_definition(
        cell: &Cell,
        positions: &[[f64; 3]],
        form: [f64; 3],
    ) -> (f64, Vec<[f64; 3]>, [[f64; 3]; 3]) {
        let [sigma, epsilon, cutoff] = form;
        let u =
            |r2: f64| 4.0 * epsilon * ((sigma * sigma / r2).powi(6) - (sigma * sigma / r2).powi(3));
        let [a, b, c] = cell.vectors();
        let (mut energy, mut virial) = (0.0, [[0.0; 3]; 3]);
        let mut forces = vec![[0.0; 3]; positions.len()];
        for (i, from) in positions.iter().enumerate() {
            for (j, to) in positions.iter().enumerate() {
                for image in (0..21 * 21 * 21)
                    .map(|n| [n / 441, n / 21 % 21, n % 21].map(|n| f64::from(n) - 10.0))
                {
                    if i == j && image == [0.0; 3] {
                        continue;
                    }
                    let d = [0, 1, 2].map(|x| {
                        to[x] - from[x] + image[0] * a[x] + image[1] * b[x] + image[2] * c[x]
                    });
                    let r2: f64 = d.iter().map(|x| x * x).sum();
                    if r2 >= cutoff * cutoff {
                        continue;
                    }
                    energy += 0.5 * (u(r2) - u(cutoff * cutoff));
                    let s6 = (sigma * sigma / r2).powi(3);
                    let f = 24.0 * epsilon * (2.0 * s6 * s6 - s6) / r2;
                    for x in 0..3 {
                        forces[i][x] -= f * d[x];
                        for y in 0..3 {
                            virial[x][y] += 0.5 * f * d[x] * d[y];
                        }
                    }
                }
            }
        }
        (energy, forces, virial)
    }

    #[test]
    fn a_small_cell_is_summed_over_its_images() {
        let form = [6.0, 0.0004, 15.0];
        let positions = [[0.3, 0.1, -0.2], [4.0, 20.0, 1.5], [1.0, 4.0, 5.5]];
        for cell in [
            Cell::orthorhombic([8.0, 9.0, 40.0]),
            Cell::from_vectors([[8.0, 0.0, 0.0], [3.0, 7.5, 0.0], [-2.0, 3.0, 9.0]]),
            Cell::from_vectors([[0.0, 8.0, 0.0], [7.5, 3.0, 0.0], [-2.0, 3.0, 9.0]]),
        ] {
            let mut images = Images::new(
                Form::LennardJones {
                    sigma: form[0],
                    epsilon: form[1],
                },
                form[2],
                AtCutoff::Shifted,
            );
            let mut forces = [[0.0; 3]; 3];
            let ours = images.evaluate(&cell, &positions, &mut forces).unwrap();
            let (energy, expected, virial) = by_definition(&cell, &positions, form);
            assert!(
                (ours.energy - energy).abs() < 1e-12 * energy.abs(),
                "{} {energy}",
                ours.energy
            );
            for (ours, expected) in [
                (&forces[..], &expected[..]),
                (&ours.virial.0[..], &virial[..]),
            ] {
                let largest = expected
                    .as_flattened()
                    .iter()
                    .fold(0.0_f64, |most, x| most.max(x.abs()));
                for (x, y) in ours.as_flattened().iter().zip(expected.as_flattened()) {
                    assert!((x - y).abs() < 1e-12 * largest, "{ours:?} {expected:?}");
                }
            }
        }
    }

    /// A cell and its double have the same energy per atom, with the tail too.
    #[test]
    fn the_energy_is_extensive() {
        let energy = |edges, positions: &[[f64; 3]]| {
            let mut images = Images::new(Form::SilveraGoldman, 15.0, AtCutoff::Tail);
            let mut forces = vec![[0.0; 3]; positions.len()];
            images
                .evaluate(&Cell::orthorhombic(edges), positions, &mut forces)
                .unwrap()
                .energy
        };
        let one = energy([7.0, 8.0, 9.0], &[[0.0; 3]]);
        let two = energy([14.0, 8.0, 9.0], &[[0.0; 3], [7.0, 0.0, 0.0]]);
        assert!((two - 2.0 * one).abs() < 1e-13 * one.abs(), "{one} {two}");
    }

    #[test]
    fn zeros_are_directions_that_are_not_periodic() {
        let form = Form::LennardJones {
            sigma: 6.0,
            epsilon: 0.0004,
        };
        let evaluate = |cell: [[f64; 3]; 3], cutoff, positions: &[[f64; 3]]| {
            let mut forces = vec![[0.0; 3]; positions.len()];
            let mut images = Images::new(form, cutoff, AtCutoff::Tail);
            images
                .evaluate(&Cell::from_vectors(cell), positions, &mut forces)
                .map(|evaluation| evaluation.energy)
        };
        let molecule = [[0.0, 0.0, 0.0], [0.0, 0.0, 7.0]];
        let s6 = (6.0_f64 / 7.0).powi(6);
        let pair = 4.0 * 0.0004 * (s6 * s6 - s6);
        for cutoff in [15.0, f64::INFINITY] {
            let energy = evaluate([[0.0; 3]; 3], cutoff, &molecule).unwrap();
            assert!((energy - pair).abs() < 1e-15, "{energy} {pair}");
        }
        // A chain of atoms, each with a neighbour on either side.
        let chain = [[0.0; 3], [0.0, 7.0, 0.0], [0.0; 3]];
        let energy = evaluate(chain, 10.0, &molecule[..1]).unwrap();
        assert!((energy - pair).abs() < 1e-15, "{energy} {pair}");
        // A slab gives the same as with a long third vector.
        let slab = [[8.0, 0.0, 0.0], [0.0, 8.0, 0.0], [0.0; 3]];
        let long = [[8.0, 0.0, 0.0], [0.0, 8.0, 0.0], [0.0, 0.0, 100.0]];
        let mut truncated = Images::new(form, 12.0, AtCutoff::Truncated);
        let expected = truncated
            .evaluate(&Cell::from_vectors(long), &molecule, &mut [[0.0; 3]; 2])
            .unwrap()
            .energy;
        let energy = evaluate(slab, 12.0, &molecule).unwrap();
        assert!((energy - expected).abs() < 1e-15, "{energy} {expected}");

        let plane = [[8.0, 0.0, 0.0], [0.0, 8.0, 0.0], [8.0, 8.0, 0.0]];
        for (cell, cutoff, says) in [
            (plane, 12.0, "lie in one plane"),
            (long, f64::INFINITY, "an infinite cutoff is for molecules"),
            (long, 1e9, "images of atoms"),
        ] {
            let error = evaluate(cell, cutoff, &molecule).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
