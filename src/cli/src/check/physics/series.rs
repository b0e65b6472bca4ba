//! The evaluations, and derivatives of the energy from finite differences.

use crate::check::wire::{Answer, Structure};

/// How far atoms and cell are displaced.
#[derive(Clone, Copy, Debug)]
pub struct Steps {
    /// In bohr.
    pub length: f64,
    pub strain: f64,
}

/// Answers in order: the unchanged structure, then a pair for each displaced coordinate, then a
/// pair for each strain element.
#[derive(Clone, Debug)]
pub struct Series {
    pub structure: Structure,
    pub steps: Steps,
    /// The displaced atoms.
    pub moved: Vec<usize>,
    pub answers: Vec<Answer>,
}

/// The most atoms to displace.
const MOVED: usize = 4;

/// The number of strain elements.
pub const STRAINS: usize = 9;

impl Series {
    /// Evaluates the structure and its variants.
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

    /// The force on each displaced coordinate, from energies alone.
    pub fn differences(&self) -> Vec<f64> {
        let pairs = self.pairs(0..3 * self.moved.len());
        let slope =
            |[plus, minus]: [&Answer; 2]| (minus.energy - plus.energy) / (2.0 * self.steps.length);
        pairs.map(slope).collect()
    }

    /// The virial, from energies alone.
    pub fn strains(&self) -> Vec<f64> {
        let slope =
            |[plus, minus]: [&Answer; 2]| (minus.energy - plus.energy) / (2.0 * self.steps.strain);
        self.pairs_of_strains().map(slope).collect()
    }

    /// The mean force on each displaced coordinate between both ends, by Simpson's rule. It equals
    /// the difference of the energies to fourth order in the step. The force at the middle differs
    /// from it, near an equilibrium by more than both values.
    pub fn forces(&self) -> Vec<f64> {
        self.forces_by(|forces, at| forces[at])
    }

    /// The same mean, with `find` choosing the force on a coordinate from the sent numbers.
    pub fn forces_by(&self, find: impl Fn(&[f64], usize) -> f64) -> Vec<f64> {
        let of = |answer: &Answer, at| find(&answer.forces, at);
        let pairs = self.pairs(0..3 * self.moved.len());
        let mean = |([plus, minus], at): ([&Answer; 2], usize)| {
            (of(plus, at) + 4.0 * of(self.first(), at) + of(minus, at)) / 6.0
        };
        pairs.zip(self.coordinates()).map(mean).collect()
    }

    /// The mean virial between both ends of each strain. The virial of a strained cell is the slope
    /// under a further strain of that cell.
    pub fn virial(&self) -> Vec<f64> {
        let strains = self.pairs_of_strains().zip(0..);
        let mean = |([plus, minus], at): ([&Answer; 2], usize)| {
            let [plus, minus] = self.by_strain(plus.virial[at], minus.virial[at], at);
            (plus + 4.0 * self.first().virial[at] + minus) / 6.0
        };
        strains.map(mean).collect()
    }

    /// -dU/d(strain) at both ends. The strain of a diagonal element refers to the original cell,
    /// but the virial to the strained cell, so they differ by a factor.
    fn by_strain(&self, plus: f64, minus: f64, at: usize) -> [f64; 2] {
        match at % 4 {
            0 => [
                plus / (1.0 + self.steps.strain),
                minus / (1.0 - self.steps.strain),
            ],
            _ => [plus, minus],
        }
    }

    /// The largest change of a force on a displaced coordinate in one step.
    pub fn change_of_forces(&self) -> f64 {
        let pairs = self.pairs(0..3 * self.moved.len());
        let changes = pairs.map(|[plus, minus]| 0.5 * distance(&plus.forces, &minus.forces));
        changes.fold(0.0, f64::max)
    }

    /// The largest change of the virial in one step.
    pub fn change_of_virial(&self) -> f64 {
        let pairs = self.pairs_of_strains();
        let changes = pairs.map(|[plus, minus]| 0.5 * distance(&plus.virial, &minus.virial));
        changes.fold(0.0, f64::max)
    }

    /// For each displaced coordinate, the second difference of the energy, and the same quantity
    /// from forces. They agree to fourth order in the step.
    pub fn curvatures(&self) -> Vec<[f64; 2]> {
        let pairs = self.pairs(0..3 * self.moved.len());
        let both = |([plus, minus], at): ([&Answer; 2], usize)| {
            let forces = -0.5 * self.steps.length * (plus.forces[at] - minus.forces[at]);
            [self.second_difference(plus, minus), forces]
        };
        pairs.zip(self.coordinates()).map(both).collect()
    }

    /// For each strain, the second difference of the energy, and the same quantity from virials.
    pub fn curvatures_of_strains(&self) -> Vec<[f64; 2]> {
        let both = |([plus, minus], at): ([&Answer; 2], usize)| {
            let [above, below] = self.by_strain(plus.virial[at], minus.virial[at], at);
            let virials = -0.5 * self.steps.strain * (above - below);
            [self.second_difference(plus, minus), virials]
        };
        self.pairs_of_strains().zip(0..).map(both).collect()
    }

    fn second_difference(&self, plus: &Answer, minus: &Answer) -> f64 {
        let middle = self.first().energy;
        (plus.energy - middle) + (minus.energy - middle)
    }

    /// The series if forces had not been one answer late: each answer gets the forces of the next.
    pub fn with_forces_earlier(&self) -> Self {
        let mut series = self.clone();
        for (at, answer) in series.answers.iter_mut().enumerate() {
            let next = self.answers.get(at + 1);
            answer.forces = next.unwrap_or(&self.answers[at]).forces.clone();
        }
        series
    }

    /// The series if energies had not been one answer late.
    pub fn with_energies_earlier(&self) -> Self {
        let mut series = self.clone();
        for (answer, next) in series.answers.iter_mut().zip(self.answers.iter().skip(1)) {
            answer.energy = next.energy;
        }
        series
    }

    /// The series if virials had not been one answer late.
    pub fn with_virials_earlier(&self) -> Self {
        let mut series = self.clone();
        for (at, answer) in series.answers.iter_mut().enumerate() {
            let next = self.answers.get(at + 1);
            answer.virial = next.unwrap_or(&self.answers[at]).virial.clone();
        }
        series
    }

    /// The series if whole answers had not been one answer late.
    pub fn earlier(&self) -> Self {
        let mut series = self.clone();
        series.answers.rotate_left(1);
        if let [.., before, last] = &mut series.answers[..] {
            *last = before.clone();
        }
        series
    }

    /// Whether all energies are equal and the first answer's forces and virial are zero.
    pub fn is_constant(&self) -> bool {
        let first = self.first();
        let zero = |numbers: &[f64]| numbers.iter().all(|x| *x == 0.0);
        let energies = self
            .answers
            .iter()
            .all(|answer| answer.energy == first.energy);
        energies && zero(&first.forces) && zero(&first.virial)
    }

    /// Whether all forces are float32 numbers. A double is one with a probability of 2^-29.
    pub fn is_single(&self) -> bool {
        let forces = self.answers.iter().flat_map(|answer| &answer.forces);
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

    fn pairs_of_strains(&self) -> impl Iterator<Item = [&Answer; 2]> {
        let first = 3 * self.moved.len();
        self.pairs(first..first + STRAINS)
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

/// The largest absolute value.
pub fn largest(numbers: &[f64]) -> f64 {
    numbers
        .iter()
        .fold(0.0, |largest, x| f64::max(largest, x.abs()))
}

/// The largest difference.
pub fn distance(a: &[f64], b: &[f64]) -> f64 {
    let apart = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    apart.fold(0.0, f64::max)
}

/// Whether the energy has second differences that the other quantity does not follow: it lags
/// behind the energy.
pub fn lag(curvatures: &[[f64; 2]], energy: f64) -> bool {
    let (curvature, apart) = sizes(curvatures);
    // The energy must have enough digits for a second difference.
    curvature > 1e-10 * energy.abs() && apart >= 0.2 * curvature
}

/// The largest second difference of the energy, and the largest deviation of the other quantity.
pub fn sizes(curvatures: &[[f64; 2]]) -> (f64, f64) {
    let energies: Vec<_> = curvatures.iter().map(|pair| pair[0]).collect();
    let apart: Vec<_> = curvatures.iter().map(|pair| pair[0] - pair[1]).collect();
    (largest(&energies), largest(&apart))
}

/// The factor that brings `a` closest to `b`, and the distance that remains.
pub fn scale(a: &[f64], b: &[f64]) -> (f64, f64) {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let factor = dot(a, b) / dot(b, b);
    let scaled: Vec<_> = b.iter().map(|x| factor * x).collect();
    (factor, distance(a, &scaled))
}
