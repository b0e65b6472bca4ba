//! The evaluations, and derivatives of the energy by differences.

use crate::check::wire::{Answer, Structure};

/// How far atoms and cell are moved.
#[derive(Clone, Copy, Debug)]
pub struct Steps {
    /// In bohr.
    pub length: f64,
    pub strain: f64,
}

/// Answers in the order in which they came: the structure as it is, then a pair for each coordinate
/// that is moved, then a pair for each element of the strain.
#[derive(Clone, Debug)]
pub struct Series {
    pub structure: Structure,
    pub steps: Steps,
    /// Which atoms are moved.
    pub moved: Vec<usize>,
    pub answers: Vec<Answer>,
}

/// Most atoms that are moved.
const MOVED: usize = 4;

/// Elements of a strain.
pub const STRAINS: usize = 9;

impl Series {
    /// Has the structure and its variants evaluated.
    pub fn measure<E>(
        structure: &Structure,
        steps: Steps,
        mut evaluate: impl FnMut(&Structure) -> Result<Answer, E>,
    ) -> Result<Self, E> {
        let natoms = structure.positions.len();
        let count = natoms.min(MOVED);
        let moved: Vec<_> = (0..count).map(|index| index * natoms / count).collect();
        let mut answers = vec![evaluate(structure)?];
        for &atom in &moved {
            for axis in 0..3 {
                for step in [steps.length, -steps.length] {
                    let mut other = structure.clone();
                    other.positions[atom][axis] += step;
                    answers.push(evaluate(&other)?);
                }
            }
        }
        for element in 0..STRAINS {
            for step in [steps.strain, -steps.strain] {
                answers.push(evaluate(&strained(structure, element, step))?);
            }
        }
        Ok(Self {
            structure: structure.clone(),
            steps,
            moved,
            answers,
        })
    }

    pub fn first(&self) -> &Answer {
        &self.answers[0]
    }

    pub const fn natoms(&self) -> usize {
        self.structure.positions.len()
    }

    pub fn volume(&self) -> f64 {
        let [a, b, c] = self.structure.h;
        let cross = [
            b[1] * c[2] - b[2] * c[1],
            b[2] * c[0] - b[0] * c[2],
            b[0] * c[1] - b[1] * c[0],
        ];
        (a[0] * cross[0] + a[1] * cross[1] + a[2] * cross[2]).abs()
    }

    /// The force on each moved coordinate, from energies alone.
    pub fn differences(&self) -> Vec<f64> {
        let pairs = self.pairs(0..3 * self.moved.len());
        let slope =
            |[plus, minus]: [&Answer; 2]| (minus.energy - plus.energy) / (2.0 * self.steps.length);
        pairs.map(slope).collect()
    }

    /// The virial, from energies alone.
    pub fn strains(&self) -> Vec<f64> {
        let first = 3 * self.moved.len();
        let pairs = self.pairs(first..first + STRAINS);
        let slope =
            |[plus, minus]: [&Answer; 2]| (minus.energy - plus.energy) / (2.0 * self.steps.strain);
        pairs.map(slope).collect()
    }

    /// Of these forces, those on the moved coordinates.
    pub fn of_moved(&self, forces: &[f64]) -> Vec<f64> {
        let coordinates = self.coordinates();
        coordinates.map(|at| forces[at]).collect()
    }

    /// For each moved coordinate, the second difference of the energy, and the same from forces.
    /// They agree to the fourth order of the step.
    pub fn curvatures(&self) -> Vec<[f64; 2]> {
        let middle = self.first().energy;
        let pairs = self.pairs(0..3 * self.moved.len());
        let both = |([plus, minus], at): ([&Answer; 2], usize)| {
            let energies = (plus.energy - middle) + (minus.energy - middle);
            let forces = -0.5 * self.steps.length * (plus.forces[at] - minus.forces[at]);
            [energies, forces]
        };
        pairs.zip(self.coordinates()).map(both).collect()
    }

    /// The forces that would have been right if they came one answer late: those of the next
    /// answer.
    pub fn with_forces_earlier(&self) -> Self {
        let mut series = self.clone();
        for (at, answer) in series.answers.iter_mut().enumerate() {
            let next = self.answers.get(at + 1);
            answer.forces = next.unwrap_or(&self.answers[at]).forces.clone();
        }
        series
    }

    /// The answers that would have been right if they came one late.
    pub fn earlier(&self) -> Self {
        let mut series = self.clone();
        series.answers.rotate_left(1);
        if let [.., before, last] = &mut series.answers[..] {
            *last = before.clone();
        }
        series
    }

    /// Whether no answer differs from another, or nothing pulls at anything.
    pub fn is_constant(&self) -> bool {
        let first = self.first();
        let zero = |numbers: &[f64]| numbers.iter().all(|x| *x == 0.0);
        let energies = self.answers.iter().all(|it| it.energy == first.energy);
        energies && zero(&first.forces) && zero(&first.virial)
    }

    /// Whether all forces are float32 numbers, which forces of double precision are once in 2^29.
    pub fn is_single(&self) -> bool {
        let forces = self.answers.iter().flat_map(|it| &it.forces);
        let mut forces = forces.filter(|x| **x != 0.0).peekable();
        let whole = |x: &f64| f64::from(*x as f32) == *x;
        // Round numbers prove nothing.
        let round = |x: &f64| (x * 1024.0).fract() == 0.0;
        forces.peek().is_some() && forces.clone().all(whole) && !forces.all(round)
    }

    fn coordinates(&self) -> impl Iterator<Item = usize> {
        let moved = self.moved.iter();
        moved.flat_map(|atom| (0..3).map(move |axis| 3 * atom + axis))
    }

    fn pairs(&self, which: std::ops::Range<usize>) -> impl Iterator<Item = [&Answer; 2]> {
        which.map(|index| [&self.answers[1 + 2 * index], &self.answers[2 + 2 * index]])
    }
}

/// Cell and atoms under a strain with one element.
fn strained(structure: &Structure, element: usize, strain: f64) -> Structure {
    let (row, column) = (element / 3, element % 3);
    let mut other = structure.clone();
    for vector in 0..3 {
        other.h[row][vector] += strain * structure.h[column][vector];
    }
    for (r, old) in other.positions.iter_mut().zip(&structure.positions) {
        r[row] += strain * old[column];
    }
    other
}

/// The largest of them without their signs.
pub fn largest(numbers: &[f64]) -> f64 {
    numbers
        .iter()
        .fold(0.0, |largest, x| f64::max(largest, x.abs()))
}

/// How far apart they are.
pub fn distance(a: &[f64], b: &[f64]) -> f64 {
    let apart = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    apart.fold(0.0, f64::max)
}

/// The factor by which `a` is nearest to `b`, and how far they are apart then.
pub fn scale(a: &[f64], b: &[f64]) -> (f64, f64) {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let factor = dot(a, b) / dot(b, b);
    let scaled: Vec<_> = b.iter().map(|x| factor * x).collect();
    (factor, distance(a, &scaled))
}
