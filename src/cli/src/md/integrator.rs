//! Newton's and Langevin's equations in atomic units, integrated with velocity Verlet.

use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Atoms {
    pub masses: Vec<f64>,
    pub positions: Vec<[f64; 3]>,
    pub velocities: Vec<[f64; 3]>,
    pub forces: Vec<[f64; 3]>,
}

impl Atoms {
    /// Updates the velocities from the forces for this long.
    pub fn kick(&mut self, time: f64) {
        let accelerated = self.velocities.iter_mut().zip(&self.forces);
        for ((velocity, force), mass) in accelerated.zip(&self.masses) {
            add(velocity, time / mass, *force);
        }
    }

    /// Moves the atoms for this long.
    pub fn drift(&mut self, time: f64) {
        for (position, velocity) in self.positions.iter_mut().zip(&self.velocities) {
            add(position, time, *velocity);
        }
    }

    pub fn kinetic(&self) -> f64 {
        let squares = self.velocities.iter().map(|v| v.map(|x| x * x));
        let atoms = squares.zip(&self.masses);
        atoms
            .map(|([x, y, z], mass)| 0.5 * mass * (x + y + z))
            .sum()
    }
}

/// Langevin's thermostat: friction with a time constant, and noise that balances it at kT.
///
/// The thermostat makes two half steps around velocity Verlet, as in i-PI (OBABO; Bussi and
/// Parrinello, Phys. Rev. E 75, 056707 (2007)).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Langevin {
    pub tau: f64,
    pub thermal: f64,
    pub seed: u64,
}

impl Langevin {
    /// Applies half a step, and returns the energy added to the atoms. The noise depends only on
    /// the seed and the number of the half step, so a restarted run has the same noise.
    pub fn apply(&self, atoms: &mut Atoms, dt: f64, half_step: u64) -> f64 {
        let before = atoms.kinetic();
        let kept = (-0.5 * dt / self.tau).exp();
        let noise = ((1.0 - kept * kept) * self.thermal).sqrt();
        // Neighbouring seeds give unrelated streams.
        let stream = self
            .seed
            .wrapping_add(1)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut random = Xoshiro256PlusPlus::seed_from_u64(stream.wrapping_add(half_step));
        for (velocity, mass) in atoms.velocities.iter_mut().zip(&atoms.masses) {
            for v in velocity {
                let normal: f64 = StandardNormal.sample(&mut random);
                *v = kept * *v + noise / mass.sqrt() * normal;
            }
        }
        atoms.kinetic() - before
    }
}

/// Maxwell-Boltzmann velocities at k T, the same for the same seed. The total momentum is zero,
/// unless there is only one atom.
pub fn maxwell_boltzmann(masses: &[f64], thermal: f64, seed: u64) -> Vec<[f64; 3]> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut normal = || -> f64 { StandardNormal.sample(&mut random) };
    let mut velocities: Vec<_> = masses
        .iter()
        .map(|mass| [(); 3].map(|()| (thermal / mass).sqrt() * normal()))
        .collect();
    if masses.len() > 1 {
        let mut mean = [0.0; 3];
        let total: f64 = masses.iter().sum();
        for (velocity, mass) in velocities.iter().zip(masses) {
            add(&mut mean, mass / total, *velocity);
        }
        for velocity in &mut velocities {
            add(velocity, -1.0, mean);
        }
    }
    velocities
}

fn add(vector: &mut [f64; 3], factor: f64, other: [f64; 3]) {
    for (x, y) in vector.iter_mut().zip(other) {
        *x += factor * y;
    }
}

/// The drift of an energy that should stay constant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    first: f64,
    count: f64,
    /// Sums over the differences from the first value: plain, and weighted with the step.
    sum: f64,
    moment: f64,
    largest: f64,
}

impl Drift {
    pub fn add(&mut self, energy: f64) {
        if self.count == 0.0 {
            self.first = energy;
        }
        let difference = energy - self.first;
        self.sum += difference;
        self.moment += self.count * difference;
        self.largest = self.largest.max(difference.abs());
        self.count += 1.0;
    }

    /// The slope per step of the least-squares line.
    pub fn slope(&self) -> f64 {
        let n = self.count;
        (self.moment - 0.5 * (n - 1.0) * self.sum) / (n * (n * n - 1.0) / 12.0)
    }

    /// The largest difference from the first value.
    pub fn largest(&self) -> f64 {
        self.largest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For an oscillator that starts at rest at x, Verlet's positions are exactly x cos(n θ), with
    /// cos θ = 1 - (ω dt)² / 2.
    #[test]
    fn an_oscillator_goes_as_its_difference_equation_does() {
        let (k, mass, x, dt) = (0.1, 2000.0, 1.5, 20.0);
        let mut atoms = Atoms {
            masses: vec![mass],
            positions: vec![[x, 0.0, -x]],
            velocities: vec![[0.0; 3]],
            forces: vec![[-k * x, 0.0, k * x]],
        };
        let theta = (1.0 - 0.5 * k / mass * dt * dt).acos();
        for step in 1..1000 {
            atoms.kick(0.5 * dt);
            atoms.drift(dt);
            atoms.forces = vec![atoms.positions[0].map(|x| -k * x)];
            atoms.kick(0.5 * dt);
            let expected = x * (f64::from(step) * theta).cos();
            let [ours, still, opposite] = atoms.positions[0];
            assert!((ours - expected).abs() < 1e-11, "step {step}");
            assert_eq!((still, opposite), (0.0, -ours));
        }
    }

    #[test]
    fn velocities_have_their_temperature_and_their_seed() {
        let masses: Vec<_> = (0..20_000).map(|i| 1000.0 * f64::from(1 + i % 7)).collect();
        let thermal = 1e-3;
        let at = |thermal, seed| Atoms {
            velocities: maxwell_boltzmann(&masses, thermal, seed),
            masses: masses.clone(),
            ..Atoms::default()
        };
        let atoms = at(thermal, 5);
        // The variance of the kinetic energy is 3/2 N (k T)²; the bound is four standard
        // deviations.
        let ratio = atoms.kinetic() / (1.5 * 20_000.0 * thermal);
        assert!(
            (ratio - 1.0).abs() < 4.0 * (2.0 / 60_000.0_f64).sqrt(),
            "{ratio}"
        );
        for axis in 0..3 {
            let momenta = atoms
                .velocities
                .iter()
                .zip(&masses)
                .map(|(v, mass)| mass * v[axis]);
            let total: f64 = momenta.sum();
            assert!(total.abs() < 1e-8, "{total}");
        }
        assert_eq!(atoms.velocities, at(thermal, 5).velocities);
        assert_ne!(atoms.velocities, at(thermal, 6).velocities);
        assert_eq!(at(0.0, 5).kinetic(), 0.0);
        // A recorded value: a seed must give the same velocities with later versions of the crates.
        assert_eq!(maxwell_boltzmann(&[1.0], 1.0, 1), [RECORDED]);
    }
    const RECORDED: [f64; 3] = [0.8439986136221761, 0.7155607127305931, -1.9158714436187585];

    /// Atoms at rest in a bath: their energy approaches 3/2 N kT as 1 - exp(-2 t / tau).
    #[test]
    fn a_thermostat_heats_as_fast_as_its_time_constant_says() {
        let natoms = 20_000;
        let mut atoms = Atoms {
            masses: vec![1000.0; natoms],
            velocities: vec![[0.0; 3]; natoms],
            ..Atoms::default()
        };
        let langevin = Langevin {
            tau: 50.0,
            thermal: 1e-3,
            seed: 3,
        };
        let mut gained = 0.0;
        for half_step in 0..50 {
            gained += langevin.apply(&mut atoms, 1.0, half_step);
        }
        let full = 1.5 * natoms as f64 * langevin.thermal;
        let expected = 1.0 - (-1.0_f64).exp();
        let ratio = atoms.kinetic() / full;
        assert!(
            (ratio - expected).abs() < 4.0 * (2.0 / 60_000.0_f64).sqrt(),
            "{ratio} {expected}"
        );
        assert!(
            (gained - atoms.kinetic()).abs() < 1e-9 * full,
            "all of it is counted"
        );
    }

    #[test]
    fn a_drift_is_the_slope_of_the_best_line() {
        let mut drift = Drift::default();
        for energy in [-5.0, -4.0, -5.0, -2.0] {
            drift.add(energy);
        }
        // y = 0, 1, 0, 3 at x = 0, 1, 2, 3: Sxy = 4, Sxx = 5.
        assert!((drift.slope() - 0.8).abs() < 1e-15);
        assert_eq!(drift.largest(), 3.0);
    }
}
