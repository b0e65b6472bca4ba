//! The numbers of a planted driver, correct or with a fault.
//!
//! The potential acts on pairs up to the second image and is smooth everywhere.

use forcewire::Cell;
use forcewire::potential::{LennardJones, Potential};

pub type Vector = [f64; 3];
pub type Matrix = [Vector; 3];

/// The results: energy, forces and virial.
#[derive(Clone)]
pub struct Computed {
    pub energy: f64,
    pub forces: Vec<Vector>,
    pub virial: Matrix,
}

fn times(h: &Matrix, s: Vector) -> Vector {
    h.map(|row| row[0] * s[0] + row[1] * s[1] + row[2] * s[2])
}

/// Sums over all pairs, with 27 images each. The cell's vectors are the columns of `h`.
fn pairs(h: &Matrix, positions: &[Vector]) -> Computed {
    const SIZE: f64 = 25.0;
    let mut computed = Computed {
        energy: 0.0,
        forces: vec![[0.0; 3]; positions.len()],
        virial: [[0.0; 3]; 3],
    };
    for j in 0..positions.len() {
        for i in 0..j {
            for image in 0..27 {
                let [a, b, c] = [image % 3, image / 3 % 3, image / 9].map(|n| f64::from(n) - 1.0);
                let shift = times(h, [a, b, c]);
                let d = [0, 1, 2].map(|x| positions[j][x] - positions[i][x] + shift[x]);
                let r = 10.0 + d.iter().map(|x| x * x).sum::<f64>();
                let x = (SIZE / r).powi(3);
                computed.energy += 4e-3 * (x * x - x);
                let f = d.map(|d| -2.0 * 4e-3 * (3.0 * x - 6.0 * x * x) / r * d);
                for x in 0..3 {
                    computed.forces[j][x] += f[x];
                    computed.forces[i][x] -= f[x];
                    for (w, f) in computed.virial[x].iter_mut().zip(f) {
                        *w += d[x] * f;
                    }
                }
            }
        }
    }
    computed
}

fn transposed(m: &Matrix) -> Matrix {
    [0, 1, 2].map(|row| [0, 1, 2].map(|column| m[column][row]))
}

fn scale(m: &mut Matrix, factor: f64) {
    m.as_flattened_mut().iter_mut().for_each(|x| *x *= factor);
}

fn volume(h: &Matrix) -> f64 {
    h[0][0] * (h[1][1] * h[2][2] - h[1][2] * h[2][1])
        - h[0][1] * (h[1][0] * h[2][2] - h[1][2] * h[2][0])
        + h[0][2] * (h[1][0] * h[2][1] - h[1][1] * h[2][0])
}

/// The driver's memory of earlier steps.
#[derive(Default)]
pub struct Memory {
    first_cell: Option<Matrix>,
    cell: Option<Matrix>,
    answer: Option<Computed>,
    pub steps: u32,
    natoms: Option<usize>,
}

/// Computes with this fault.
pub fn compute(fault: &str, memory: &mut Memory, h: &Matrix, positions: &[Vector]) -> Computed {
    const ANGSTROM: f64 = 0.529177;
    let first = *memory.first_cell.get_or_insert(*h);
    let before = memory.cell.replace(*h).unwrap_or(*h);
    let h = match fault {
        "transposed cell" => transposed(h),
        "first cell" => first,
        "earlier cell" => before,
        "angstrom" => h.map(|row| row.map(|x| ANGSTROM * x)),
        _ => *h,
    };
    let positions: Vec<_> = match fault {
        "angstrom" => positions.iter().map(|r| r.map(|x| ANGSTROM * x)).collect(),
        _ => positions.to_vec(),
    };
    let right = match fault {
        "ours in f32" => ours(&h, &positions),
        "a field" | "gradient of a field" => field(&positions),
        _ => pairs(&h, &positions),
    };
    let mut sent = right.clone();
    let mut forces = |factor: f64| {
        let forces = sent.forces.as_flattened_mut();
        forces.iter_mut().for_each(|x| *x *= factor);
    };
    match fault {
        "forces in eV/angstrom" => forces(51.4221),
        "forces in rydberg/bohr" => forces(2.0),
        "gradient" | "gradient of a field" => forces(-1.0),
        "gradient in each second step" if memory.steps % 2 == 1 => forces(-1.0),
        "gradient in each seventh step" if memory.steps % 7 == 3 => forces(-1.0),
        "a factor in step 20" if memory.steps == 20 => forces(1.1),
        "gradient in step 40" if memory.steps == 40 => forces(-1.0),
        "no forces" => forces(0.0),
        "electronvolts" => {
            forces(51.4221);
            sent.energy *= 27.2114;
            scale(&mut sent.virial, 27.2114);
        }
        "energy in electronvolts" => sent.energy *= 27.2114,
        "energy in eV, forces in rydberg" => {
            forces(2.0);
            scale(&mut sent.virial, 2.0);
            sent.energy *= 27.2114;
        }
        "energy per atom" => sent.energy /= positions.len() as f64,
        "sign of the virial" => scale(&mut sent.virial, -1.0),
        "virial in electronvolts" => scale(&mut sent.virial, 27.2114),
        "stress" => scale(&mut sent.virial, 1.0 / volume(&h)),
        "stress in GPa" => scale(&mut sent.virial, -29421.02 / volume(&h)),
        "no virial" => scale(&mut sent.virial, 0.0),
        "not symmetric" => sent.virial[0][1] += 1e-3,
        "upper half" => (sent.virial[1][0], sent.virial[2][0], sent.virial[2][1]) = (0.0, 0.0, 0.0),
        "diagonal" => {
            let [[x, ..], [_, y, _], [.., z]] = sent.virial;
            sent.virial = [[x, 0.0, 0.0], [0.0, y, 0.0], [0.0, 0.0, z]];
        }
        "all x first" => {
            let natoms = positions.len();
            let old = right.forces.as_flattened();
            let flat = sent.forces.as_flattened_mut();
            for (at, x) in old.iter().enumerate() {
                flat[at % 3 * natoms + at / 3] = *x;
            }
        }
        "other atoms" => sent.forces.reverse(),
        "y and z exchanged" => sent.forces.iter_mut().for_each(|f| f.swap(1, 2)),
        "virial of a molecule" => {
            sent.virial = [[0.0; 3]; 3];
            for (r, f) in positions.iter().zip(&right.forces) {
                (0..9).for_each(|at| sent.virial[at / 3][at % 3] += r[at / 3] * f[at % 3]);
            }
        }
        "float32" => {
            let forces = sent.forces.as_flattened_mut();
            forces.iter_mut().for_each(|x| *x = f64::from(*x as f32));
            sent.energy = f64::from(sent.energy as f32);
        }
        "noise" => sent.energy += 1e-5 * f64::from(memory.steps * 7919 % 13),
        "earlier forces" => {
            if let Some(before) = &memory.answer {
                sent.forces.clone_from(&before.forces);
            }
        }
        "first forces" => match &memory.answer {
            Some(first) => sent.forces.clone_from(&first.forces),
            None => memory.answer = Some(right.clone()),
        },
        "earlier energy" => {
            if let Some(before) = &memory.answer {
                sent.energy = before.energy;
            }
        }
        "earlier virial" => {
            if let Some(before) = &memory.answer {
                sent.virial = before.virial;
            }
        }
        "earlier answer" => {
            if let Some(before) = &memory.answer {
                sent = before.clone();
            }
        }
        "rounds" => {
            let noise = 1e-18 * f64::from(memory.steps);
            sent.forces
                .as_flattened_mut()
                .iter_mut()
                .for_each(|x| *x += noise);
        }
        "wrong for another count"
            if memory
                .natoms
                .is_some_and(|natoms| natoms != positions.len()) =>
        {
            sent.energy += 1.0;
        }
        "a term without forces" => {
            sent.energy += 1e-4 * positions[0][0].sin() * positions[1][1].cos()
        }
        _ => {}
    }
    if fault.starts_with("earlier") {
        memory.answer = Some(right);
    }
    memory.steps += 1;
    memory.natoms.get_or_insert(positions.len());
    sent
}

/// Springs to the origin without a virial, like i-PI's own.
fn field(positions: &[Vector]) -> Computed {
    Computed {
        energy: positions.as_flattened().iter().map(|x| 0.005 * x * x).sum(),
        forces: positions.iter().map(|r| r.map(|x| -0.01 * x)).collect(),
        virial: [[0.0; 3]; 3],
    }
}

/// forcewire's Lennard-Jones potential in single precision.
fn ours(h: &Matrix, positions: &[Vector]) -> Computed {
    let mut argon = LennardJones::<f32>::new(6.43452, 0.000379384, 16.0863);
    let rounded: Vec<_> = positions.iter().map(|r| r.map(|x| x as f32)).collect();
    let mut forces = vec![[0.0; 3]; positions.len()];
    let cell = Cell::from_rows(*h);
    let found = argon.evaluate(&cell, &rounded, &mut forces).unwrap();
    Computed {
        energy: found.energy,
        forces: forces.iter().map(|f| f.map(f64::from)).collect(),
        virial: found.virial.0,
    }
}
