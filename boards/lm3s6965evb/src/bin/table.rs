//! A custom potential on the LM3S6965: Lennard-Jones in f32 from a table of 16 KiB, for 128 atoms.

#![no_std]
#![no_main]

use forcewire::potential::Real;
use forcewire::{Cell, Evaluation, Potential, PotentialError, Virial};
use forcewire_boards::{Memory, Options};
use forcewire_cortex_m::{entry, run_with};

/// Energy, and force divided by distance, at equal steps of the squared distance up to the cutoff.
type Pairs = [[f32; 2]; 2048];

#[entry]
fn main() -> ! {
    static mut MEMORY: Memory<f32, 128, 1, 4096> = Memory::new();
    static mut PAIRS: Pairs = [[0.0; 2]; 2048];
    // Safety: this is that machine, and this is the only call.
    let machine = unsafe { lm3s6965evb::machine() };
    run_with(machine, MEMORY, |options, _| Table::new(options, PAIRS))
}

/// The Lennard-Jones potential, shifted to 0 at the cutoff, in rectangular cells.
struct Table<'m> {
    pairs: &'m mut Pairs,
    cutoff_squared: f32,
}

impl<'m> Table<'m> {
    fn new(options: &Options<'_>, pairs: &'m mut Pairs) -> Self {
        let [sigma, epsilon, cutoff] = options.lj;
        let cutoff_squared = cutoff * cutoff;
        let at = |squared: f64| {
            let s2 = sigma * sigma / squared;
            let s6 = s2 * s2 * s2;
            let energy = 4.0 * epsilon * s6 * (s6 - 1.0);
            [energy, 24.0 * epsilon * s6 * (2.0 * s6 - 1.0) / squared]
        };
        let [shift, _] = at(cutoff_squared);
        let step = cutoff_squared / (pairs.len() - 1) as f64;
        for (row, index) in pairs.iter_mut().zip(0_u32..) {
            // No two atoms are closer than half a sigma.
            let squared = (f64::from(index) * step).max(0.25 * sigma * sigma);
            let [energy, force] = at(squared);
            *row = [(energy - shift) as f32, force as f32];
        }
        Self {
            pairs,
            cutoff_squared: cutoff_squared as f32,
        }
    }

    /// Energy, and force divided by distance, of a pair within the cutoff.
    fn look_up(&self, squared: f32) -> Option<[f32; 2]> {
        let position = squared / self.cutoff_squared * (self.pairs.len() - 1) as f32;
        let index = position as usize;
        let [low, high] = [self.pairs.get(index)?, self.pairs.get(index + 1)?];
        let part = position - index as f32;
        Some([0, 1].map(|which| low[which] + part * (high[which] - low[which])))
    }
}

impl Potential for Table<'_> {
    type Real = f32;

    fn evaluate(
        &mut self,
        cell: &Cell,
        positions: &[[f32; 3]],
        forces: &mut [[f32; 3]],
    ) -> Result<Evaluation, PotentialError> {
        let [[x, a, b], [c, y, d], [e, f, z]] = *cell.h();
        if [a, b, c, d, e, f] != [0.0; 6] {
            return Err(PotentialError::Failed("the table is for rectangular cells"));
        }
        let edges = [x as f32, y as f32, z as f32];
        forces.fill([0.0; 3]);
        let (mut energy, mut virial) = (0.0, Virial::ZERO);
        for (i, here) in positions.iter().enumerate() {
            for (there, j) in positions.iter().zip(0..i) {
                let mut r: [f32; 3] = core::array::from_fn(|k| here[k] - there[k]);
                for (component, edge) in r.iter_mut().zip(edges) {
                    *component -= edge * Real::round(*component / edge);
                }
                let squared = r.iter().map(|component| component * component).sum();
                let Some([pair, by_distance]) = self.look_up(squared) else {
                    continue;
                };
                let force = r.map(|component| by_distance * component);
                for k in 0..3 {
                    forces[i][k] += force[k];
                    forces[j][k] -= force[k];
                }
                energy += f64::from(pair);
                virial.add_product(r.map(f64::from), force.map(f64::from));
            }
        }
        Ok(Evaluation { energy, virial })
    }
}
