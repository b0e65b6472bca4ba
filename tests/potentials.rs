//! The potentials compared with numbers recorded from other programs (`tests/reference`), and
//! checked for consistency: derivatives, images, linked cells, precision.

use std::fs;
use std::path::Path;

use forcewire::potential::*;
use forcewire::{Cell, Evaluation, Potential, PotentialError, Virial};
use serde_json::Value;

/// Parameters of argon, in bohr and hartree.
const SIGMA: f64 = 6.43452;
const EPSILON: f64 = 0.000379384;

// ---- numbers of other programs ----

#[test]
fn gas_is_ipis() {
    check("gas-f90", 1e-12, |_| IdealGas::<f64>::new());
}

#[test]
fn harmonic_is_ipis() {
    check("harm3d-f90", 1e-12, |p| {
        Harmonic::<f64>::new(number(&p["k"]))
    });
    check("harmonic-py", 1e-12, |p| {
        Harmonic::<f64>::new(number(&p["k"])).without_virial()
    });
    check("harmonic-aniso-py", 1e-12, |p| {
        let k = numbers(&p["k"]);
        Harmonic::<f64>::anisotropic([k[0], k[1], k[2]]).without_virial()
    });
}

#[test]
fn morse_harmonic_is_ipis() {
    check("morseharmonic-py", 1e-12, |_| {
        MorseHarmonic::<f64>::default()
    });
    check("morseharmonic-py", 1e-12, |p| {
        let [depth, a, z0, k] = ["De", "a", "z0", "k"].map(|name| number(&p[name]));
        MorseHarmonic::<f64>::new(depth, a, z0, k)
    });
}

#[test]
fn lennard_jones_is_ipis() {
    for name in ["lj-f90-dimer", "lj-f90-cluster13"] {
        check(name, 1e-12, lennard_jones);
        check(name, 1e-12, |p| {
            lennard_jones(p).with_storage(vec![0; storage_for(13)])
        });
    }
}

#[test]
fn shifted_lennard_jones_is_ases() {
    for name in ["lj-ase-dimer", "lj-ase-cluster13"] {
        check(name, 1e-11, |p| {
            lennard_jones(p).with_cutoff(Cutoff::Shifted)
        });
    }
}

#[test]
fn truncated_lennard_jones_is_lammpss() {
    for name in ["lj-lammps-dimer", "lj-lammps-cluster13"] {
        check(name, 1e-6, |p| {
            lennard_jones(p).with_cutoff(Cutoff::Truncated)
        });
    }
}

#[test]
fn silvera_goldman_is_ipis() {
    check("sg-f90-25", 1e-12, |p| {
        SilveraGoldman::<f64>::new(number(&p["rc"]))
    });
}

#[test]
fn every_reference_is_used() {
    let here = include_str!("potentials.rs");
    for entry in fs::read_dir(reference("")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if let Some(name) = name.strip_suffix(".json") {
            assert!(
                here.contains(&format!("\"{name}\"")),
                "{name} is not compared with anything"
            );
        }
    }
}

/// The formula of `pes/morse.f` in Python, at 2 bohr, with the single-precision literals of
/// `driver.f90`: `r0, d, a = 1.8323925733566284, 0.18748511373996735, 1.1562696695327759`, then `b
/// = exp(-a * (2 - r0)); print(d * (exp(-2 * a * (2 - r0)) - 2 * b), 2 * a * d * (b - exp(-2 * a *
/// (2 - r0))))`
#[test]
fn morse_is_ipis() {
    let positions = [[2.0 * 0.36, -2.0 * 0.48, 2.0 * 0.8]];
    let (total, forces) = evaluate(&mut Morse::<f64>::default(), &big(), &positions);
    close("energy", &[total.energy], &[MORSE_ENERGY], 1e-12);
    close(
        "force",
        &forces[0],
        &[0.36, -0.48, 0.8].map(|n| -MORSE_SLOPE * n),
        1e-12,
    );
}
const MORSE_ENERGY: f64 = -0.1816658984769861;
const MORSE_SLOPE: f64 = 0.06292724711719548;

#[test]
fn one_dimensional_oscillator_feels_only_the_first_x() {
    let (total, forces) = evaluate(
        &mut Harmonic1d::<f64>::new(0.25),
        &big(),
        &[[2.0, 1.0, 1.0], [3.0; 3]],
    );
    assert_eq!(total.energy, 0.5);
    assert_eq!(forces, [[-0.5, 0.0, 0.0], [0.0; 3]]);
    assert_eq!(
        total.virial,
        Virial::from_upper([-1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    );
}

// ---- derivatives ----

#[test]
fn forces_and_virial_are_the_derivatives_of_the_energy() {
    for cell in cells() {
        let atoms = lattice(&cell, 3, 0.08);
        let cutoff = 2.0 * SIGMA;
        derivatives(
            &mut argon(cutoff).with_cutoff(Cutoff::Shifted),
            &cell,
            &atoms,
        );
        derivatives(
            &mut argon(cutoff).with_cutoff(Cutoff::Truncated),
            &cell,
            &atoms,
        );
        let mut hydrogen = SilveraGoldman::<f64>::new(cutoff).with_cutoff(Cutoff::Truncated);
        derivatives(&mut hydrogen, &cell, &atoms);
    }
    let atoms = [[0.7, -1.3, 2.2], [1.0, 2.0, 3.0], [-4.0, 0.5, 0.1]];
    derivatives(&mut Harmonic::<f64>::new(0.25), &big(), &atoms);
    derivatives(
        &mut Harmonic::<f64>::anisotropic([0.25, 0.5, 0.125]),
        &big(),
        &atoms,
    );
    derivatives(&mut Morse::<f64>::new(1.8, 0.2, 1.1), &big(), &atoms[..1]);
}

#[test]
fn virial_with_tail_is_the_derivative_when_the_cutoff_follows_the_cell() {
    for cell in cells() {
        let volume = cell.volume();
        let mut argon = argon(2.0 * SIGMA).with_reference_volume(volume);
        let mut hydrogen = SilveraGoldman::<f64>::new(2.0 * SIGMA).with_reference_volume(volume);
        let atoms = lattice(&cell, 3, 0.08);
        for potential in [&mut argon as &mut dyn Potential<Real = f64>, &mut hydrogen] {
            let mut scaled = |scale: f64| {
                let cell = Cell::from_rows(cell.h().map(|row| row.map(|x| x * scale)));
                let atoms: Vec<_> = atoms.iter().map(|r| r.map(|x| x * scale)).collect();
                evaluate(potential, &cell, &atoms).0
            };
            let step = 1e-5;
            let slope = (scaled(1.0 + step).energy - scaled(1.0 - step).energy) / (2.0 * step);
            close("trace", &[scaled(1.0).virial.trace()], &[-slope], 1e-7);
        }
    }
}

#[test]
fn tail_is_the_integral_of_what_is_cut_off() {
    // An ideal crystal that continues far beyond the cutoffs: energies and virials with two cutoffs
    // differ by the shell between them.
    let cell = Cell::orthorhombic([200.0; 3]);
    let atoms = [[0.0; 3]; 0];
    assert_eq!(
        evaluate(&mut argon(20.0), &cell, &atoms).0,
        Evaluation::default()
    );

    let one = [[0.0; 3]];
    let (tail, _) = evaluate(&mut argon(20.0), &cell, &one);
    let (mut energy, mut virial) = (0.0, 0.0);
    let steps = 400_000;
    let width = (4000.0 - 20.0) / f64::from(steps);
    for step in 0..steps {
        let r = 20.0 + width * (f64::from(step) + 0.5);
        let s6 = (SIGMA / r).powi(6);
        let shell = 2.0 * std::f64::consts::PI * r * r * width / 200.0_f64.powi(3);
        energy += shell * 4.0 * EPSILON * s6 * (s6 - 1.0);
        virial += shell * 24.0 * EPSILON * s6 * (2.0 * s6 - 1.0) / 3.0;
    }
    close("energy", &[tail.energy], &[energy], 1e-5);
    close("virial", &[tail.virial.0[0][0]], &[virial], 1e-5);
    assert_eq!(tail.virial, Virial::isotropic(tail.virial.0[2][2]));

    // The correction grows with the density and the number of atoms, in both potentials.
    let (two, _) = evaluate(&mut argon(20.0), &cell, &[[0.0; 3], [100.0; 3]]);
    close("energy", &[two.energy], &[4.0 * tail.energy], 1e-14);
    assert!(
        evaluate(&mut SilveraGoldman::<f64>::new(15.0), &cell, &one)
            .0
            .energy
            < 0.0
    );
}

#[test]
fn shift_takes_the_jump_and_nothing_else() {
    let pair = |r: f64, at| {
        evaluate(
            &mut argon(16.0).with_cutoff(at),
            &big(),
            &[[0.0; 3], [r, 0.0, 0.0]],
        )
    };
    let jump = pair(16.0 - 1e-9, Cutoff::Truncated).0.energy;
    assert!(jump < -1e-6);
    assert!(pair(16.0 - 1e-9, Cutoff::Shifted).0.energy.abs() < 1e-12);
    assert_eq!(pair(16.0, Cutoff::Shifted).0, Evaluation::default());
    let (shifted, truncated) = (pair(8.0, Cutoff::Shifted), pair(8.0, Cutoff::Truncated));
    close(
        "energy",
        &[shifted.0.energy],
        &[truncated.0.energy - jump],
        1e-9,
    );
    assert_eq!(shifted.1, truncated.1);
    assert_eq!(shifted.0.virial, truncated.0.virial);
}

// ---- periodic images ----

#[test]
fn every_image_of_an_atom_is_the_same() {
    for cell in cells() {
        let atoms = lattice(&cell, 3, 0.08);
        let [a, b, c] = cell.vectors();
        let moved: Vec<_> = (0_i32..)
            .zip(&atoms)
            .map(|(n, r)| {
                let [i, j, k] = [n % 7 - 3, n % 5 - 2, n % 3 - 1].map(f64::from);
                [0, 1, 2].map(|x| r[x] + i * a[x] + j * b[x] + k * c[x] - 17.3)
            })
            .collect();
        for storage in [0, storage_for(atoms.len())] {
            let mut argon = argon(1.4 * SIGMA).with_storage(vec![0; storage]);
            same(
                &evaluate(&mut argon, &cell, &atoms),
                &evaluate(&mut argon, &cell, &moved),
                1e-11,
            );
        }
    }
}

#[test]
fn cell_may_be_described_in_any_way() {
    // The same lattice reflected, with left-handed vectors, and with a vector longer than
    // necessary.
    let square = Cell::orthorhombic([30.0, 32.0, 34.0]);
    let atoms = lattice(&square, 4, 0.1);
    for vectors in [
        [[-30.0, 0.0, 0.0], [0.0, 32.0, 0.0], [0.0, 0.0, 34.0]],
        [[0.0, 32.0, 0.0], [30.0, 0.0, 0.0], [0.0, 0.0, 34.0]],
        [[30.0, 0.0, 0.0], [30.0, 32.0, 0.0], [0.0, 0.0, 34.0]],
    ] {
        let cell = Cell::from_vectors(vectors);
        let cutoff = cell
            .widths()
            .unwrap()
            .into_iter()
            .fold(f64::INFINITY, f64::min)
            / 2.0;
        let mut argon = argon(cutoff);
        same(
            &evaluate(&mut argon, &cell, &atoms),
            &evaluate(&mut argon, &square, &atoms),
            1e-11,
        );
    }
}

#[test]
fn cutoff_longer_than_half_the_cell_counts_one_image_of_each_pair() {
    // The image is chosen by rounding, as in i-PI's driver, although (3.2, 0, 0) has another image
    // at 6.8.
    let cell = Cell::orthorhombic([10.0; 3]);
    let atoms = [[0.0; 3], [3.2, 0.0, 0.0]];
    let mut near = argon(4.0).with_cutoff(Cutoff::Truncated);
    let mut far = argon(f64::INFINITY).with_cutoff(Cutoff::Truncated);
    same(
        &evaluate(&mut near, &cell, &atoms),
        &evaluate(&mut far, &cell, &atoms),
        0.0,
    );
}

#[test]
fn infinite_cutoff_has_no_tail() {
    let atoms = lattice(&big(), 2, 0.05);
    let [tail, truncated, shifted] = [Cutoff::Tail, Cutoff::Truncated, Cutoff::Shifted]
        .map(|at| evaluate(&mut argon(f64::INFINITY).with_cutoff(at), &big(), &atoms));
    same(&tail, &truncated, 0.0);
    same(&tail, &shifted, 0.0);
}

#[test]
fn huge_cell_is_like_none() {
    let atoms = [[0.0; 3], [7.0, 0.0, 0.0], [0.0, 7.5, 0.0]];
    let (expected, forces) = evaluate(
        &mut argon(20.0).with_cutoff(Cutoff::Truncated),
        &big(),
        &atoms,
    );
    for edge in [1e10, 1e120] {
        let mut argon = argon(20.0).with_storage([0; storage_for(3)]);
        let (total, found) = evaluate(&mut argon, &Cell::orthorhombic([edge; 3]), &atoms);
        close("energy", &[total.energy], &[expected.energy], 1e-12);
        close("forces", found.as_flattened(), forces.as_flattened(), 1e-12);
    }
}

// ---- linked cells ----

#[test]
fn linked_cells_give_what_all_pairs_give() {
    for cell in cells() {
        for (sites, cutoff) in [(4, 0.9 * SIGMA), (5, 1.2 * SIGMA), (6, 1.5 * SIGMA)] {
            let atoms = lattice(&cell, sites, 0.3);
            let expected = evaluate(&mut soft(cutoff), &cell, &atoms);
            assert!(expected.1.iter().any(|f| f[0] != 0.0));
            let natoms = atoms.len();
            for storage in [
                storage_for(natoms),
                3 * natoms,
                natoms + 20,
                natoms + 4,
                natoms,
                3,
                0,
            ] {
                let mut linked = soft(cutoff).with_storage(vec![7; storage]);
                same(&evaluate(&mut linked, &cell, &atoms), &expected, 1e-12);
                // The old contents of the storage do not matter.
                same(&evaluate(&mut linked, &cell, &atoms), &expected, 1e-12);
            }
            let mut buffer = vec![0; storage_for(natoms)];
            let mut hydrogen = SilveraGoldman::<f64>::new(cutoff);
            let expected = evaluate(&mut hydrogen, &cell, &atoms);
            let mut linked = hydrogen.with_storage(&mut buffer[..]);
            same(&evaluate(&mut linked, &cell, &atoms), &expected, 1e-12);
        }
    }
}

// ---- sums, precision, faults ----

#[test]
fn forces_add_up_to_nothing() {
    for cell in cells() {
        let atoms = lattice(&cell, 4, 0.1);
        for storage in [0, storage_for(atoms.len())] {
            let (_, forces) = evaluate(
                &mut argon(1.5 * SIGMA).with_storage(vec![0; storage]),
                &cell,
                &atoms,
            );
            let largest = forces
                .as_flattened()
                .iter()
                .fold(0.0_f64, |m, f| m.max(f.abs()));
            for x in 0..3 {
                assert!(forces.iter().map(|f| f[x]).sum::<f64>().abs() < 1e-13 * largest);
            }
        }
    }
}

#[test]
fn single_precision_is_close() {
    for cell in cells() {
        let atoms: Vec<_> = lattice(&cell, 4, 0.08)
            .iter()
            .map(|r| r.map(|x| x as f32))
            .collect();
        let exact: Vec<_> = atoms.iter().map(|r| r.map(f64::from)).collect();
        let cutoff = 1.8 * SIGMA;
        single(
            &mut LennardJones::new(SIGMA, EPSILON, cutoff),
            &mut argon(cutoff),
            &cell,
            &atoms,
            &exact,
        );
        let (mut single_precision, mut double) =
            (SilveraGoldman::new(cutoff), SilveraGoldman::new(cutoff));
        single(&mut single_precision, &mut double, &cell, &atoms, &exact);
        single(
            &mut Harmonic::new(0.25),
            &mut Harmonic::new(0.25),
            &cell,
            &atoms,
            &exact,
        );
        single(
            &mut MorseHarmonic::default(),
            &mut MorseHarmonic::default(),
            &cell,
            &atoms,
            &exact,
        );
    }
    let one = [[1.25_f32, -0.5, 1.5]];
    single(
        &mut Morse::default(),
        &mut Morse::default(),
        &big(),
        &one,
        &[[1.25, -0.5, 1.5]],
    );
}

/// Checks the documented precision of `f32`: forces to 1e-5 of the largest.
fn single(
    single: &mut impl Potential<Real = f32>,
    double: &mut impl Potential<Real = f64>,
    cell: &Cell,
    atoms: &[[f32; 3]],
    exact: &[[f64; 3]],
) {
    let mut forces = vec![[9.0; 3]; atoms.len()];
    let total = single.evaluate(cell, atoms, &mut forces).unwrap();
    let (expected, exact_forces) = evaluate(double, cell, exact);
    let forces: Vec<_> = forces
        .as_flattened()
        .iter()
        .copied()
        .map(f64::from)
        .collect();
    close("forces", &forces, exact_forces.as_flattened(), 1e-5);
    close("energy", &[total.energy], &[expected.energy], 1e-5);
    close(
        "virial",
        total.virial.0.as_flattened(),
        expected.virial.0.as_flattened(),
        1e-5,
    );
}

#[test]
fn no_atoms_and_one_atom_are_no_error() {
    let mut potentials: [Box<dyn Potential<Real = f64>>; 6] = [
        Box::new(IdealGas::new()),
        Box::new(Harmonic::new(1.0)),
        Box::new(Harmonic1d::new(1.0)),
        Box::new(MorseHarmonic::default()),
        Box::new(argon(12.0).with_storage([0; 8])),
        Box::new(SilveraGoldman::new(12.0).with_storage([0; 8])),
    ];
    for potential in &mut potentials {
        assert_eq!(evaluate(&mut **potential, &big(), &[]).0.energy, 0.0);
        let (_, forces) = evaluate(&mut **potential, &big(), &[[0.0, 0.0, 2.1]]);
        assert_eq!(forces.len(), 1);
    }
    let (total, forces) = evaluate(&mut Morse::<f64>::default(), &big(), &[[0.0; 3]]);
    assert!(total.energy.is_finite());
    assert_eq!(forces, [[0.0; 3]]);
}

#[test]
fn what_has_no_answer_is_an_error() {
    let atoms = [[0.0; 3], [5.0; 3]];
    let mut argon = argon(12.0);
    let mut forces = [[0.0; 3]; 2];
    let mut ask =
        |cell, atoms: &[_], natoms: usize| argon.evaluate(&cell, atoms, &mut forces[..natoms]);

    assert_eq!(ask(big(), &atoms, 1), Err(PotentialError::LengthMismatch));
    assert_eq!(
        ask(big(), &[[0.0; 3]; 2], 2),
        Err(PotentialError::ResultNotFinite)
    );
    assert_eq!(
        ask(big(), &[[0.0; 3], [f64::NAN; 3]], 2),
        Err(PotentialError::PositionNotFinite)
    );
    let flat = Cell::from_vectors([[1.0, 2.0, 0.0], [3.0, 4.0, 0.0], [5.0, 6.0, 0.0]]);
    assert_eq!(ask(flat, &atoms, 2), Err(PotentialError::SingularCell));
    assert!(ask(big(), &atoms, 2).is_ok());

    let refused = Morse::<f64>::default().evaluate(&big(), &atoms, &mut [[0.0; 3]; 2]);
    assert_eq!(
        refused,
        Err(PotentialError::WrongAtomCount {
            expected: 1,
            actual: 2
        })
    );
    let refused =
        Harmonic::<f64>::new(1.0).evaluate(&big(), &[[f64::INFINITY; 3]], &mut [[0.0; 3]]);
    assert_eq!(refused, Err(PotentialError::ResultNotFinite));
}

// ---- helpers ----

fn argon(cutoff: f64) -> LennardJones<f64> {
    LennardJones::new(SIGMA, EPSILON, cutoff)
}

/// Atoms so small that random ones don't overlap.
fn soft(cutoff: f64) -> LennardJones<f64> {
    LennardJones::new(0.4 * SIGMA, EPSILON, cutoff)
}

fn lennard_jones(p: &Value) -> LennardJones<f64> {
    LennardJones::new(number(&p["sigma"]), number(&p["epsilon"]), number(&p["rc"]))
}

fn big() -> Cell {
    Cell::orthorhombic([60.0; 3])
}

/// Orthorhombic, with a negative edge, upper triangular, left-handed, very skewed, and not
/// triangular at all.
fn cells() -> [Cell; 6] {
    let l = 5.0 * SIGMA;
    [
        Cell::orthorhombic([l, 1.1 * l, 0.97 * l]),
        Cell::orthorhombic([l, -1.1 * l, 1.2 * l]),
        Cell::from_vectors([
            [l, 0.0, 0.0],
            [0.3 * l, l, 0.0],
            [-0.2 * l, 0.4 * l, 1.1 * l],
        ]),
        Cell::from_vectors([[0.1 * l, l, 0.0], [l, 0.2 * l, 0.0], [0.1 * l, 0.0, l]]),
        Cell::from_vectors([
            [l, 0.0, 0.0],
            [2.7 * l, 1.2 * l, 0.0],
            [-1.6 * l, 1.9 * l, 1.3 * l],
        ]),
        Cell::from_vectors([
            [0.8 * l, -0.4 * l, 0.5 * l],
            [0.5 * l, 0.9 * l, 0.1 * l],
            [-0.5 * l, 0.2 * l, l],
        ]),
    ]
}

/// `sites`³ atoms on a grid of the cell, each displaced by up to `rattle` of the spacing.
fn lattice(cell: &Cell, sites: u32, rattle: f64) -> Vec<[f64; 3]> {
    let [a, b, c] = cell.vectors();
    let mut random = 12_345_u64;
    let mut next = || {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (random >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    };
    (0..sites.pow(3))
        .map(|n| {
            let [i, j, k] = [n % sites, n / sites % sites, n / sites / sites]
                .map(|n| (f64::from(n) + rattle * next()) / f64::from(sites));
            [0, 1, 2].map(|x| i * a[x] + j * b[x] + k * c[x])
        })
        .collect()
}

fn evaluate<P>(
    potential: &mut P,
    cell: &Cell,
    positions: &[[f64; 3]],
) -> (Evaluation, Vec<[f64; 3]>)
where
    P: Potential<Real = f64> + ?Sized,
{
    // Not 0, to check that all are overwritten.
    let mut forces = vec![[9.0; 3]; positions.len()];
    let total = potential.evaluate(cell, positions, &mut forces).unwrap();
    (total, forces)
}

/// Forces are −dU/dx and the virial −dU/dε, by central differences.
fn derivatives(potential: &mut impl Potential<Real = f64>, cell: &Cell, atoms: &[[f64; 3]]) {
    let (total, forces) = evaluate(potential, cell, atoms);
    let step = 1e-4;

    let mut slopes = vec![[0.0; 3]; atoms.len()];
    for atom in (0..atoms.len()).step_by(5) {
        for x in 0..3 {
            let mut moved = atoms.to_vec();
            let mut energy = |by: f64| {
                moved[atom][x] = atoms[atom][x] + by;
                evaluate(potential, cell, &moved).0.energy
            };
            slopes[atom][x] = (energy(step) - energy(-step)) / (2.0 * step);
        }
    }
    let found: Vec<_> = forces.iter().step_by(5).flatten().copied().collect();
    let expected: Vec<_> = slopes
        .iter()
        .step_by(5)
        .flatten()
        .map(|slope| -slope)
        .collect();
    close("forces", &found, &expected, 1e-6);

    let mut expected = [[0.0; 3]; 3];
    let step = 1e-6;
    for i in 0..3 {
        for j in 0..3 {
            let mut energy = |by: f64| {
                // The strain has no rotation.
                let strained = |r: [f64; 3]| {
                    let mut moved = r;
                    moved[i] += 0.5 * by * r[j];
                    moved[j] += 0.5 * by * r[i];
                    moved
                };
                let atoms: Vec<_> = atoms.iter().copied().map(strained).collect();
                evaluate(
                    potential,
                    &Cell::from_vectors(cell.vectors().map(strained)),
                    &atoms,
                )
                .0
                .energy
            };
            expected[i][j] = -(energy(step) - energy(-step)) / (2.0 * step);
        }
    }
    close(
        "virial",
        total.virial.0.as_flattened(),
        expected.as_flattened(),
        1e-6,
    );
}

fn same(
    found: &(Evaluation, Vec<[f64; 3]>),
    expected: &(Evaluation, Vec<[f64; 3]>),
    tolerance: f64,
) {
    close("energy", &[found.0.energy], &[expected.0.energy], tolerance);
    close(
        "forces",
        found.1.as_flattened(),
        expected.1.as_flattened(),
        tolerance,
    );
    close(
        "virial",
        found.0.virial.0.as_flattened(),
        expected.0.virial.0.as_flattened(),
        tolerance,
    );
}

/// Compares relative to the largest expected element, or absolutely if all are 0.
fn close(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected
        .iter()
        .fold(0.0_f64, |largest, x| largest.max(x.abs()));
    let unit = if largest == 0.0 { 1.0 } else { largest };
    for (n, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs() / unit;
        assert!(
            error <= tolerance,
            "{what}[{n}] is {found:e}, expected {expected:e}: off by {error:e}"
        );
    }
}

/// Compares a reference with a potential made from its parameters. All frames are compared
/// together, because at the bottom of a well forces are differences of large numbers.
fn check<P: Potential<Real = f64>>(name: &str, tolerance: f64, make: impl Fn(&Value) -> P) {
    let text = fs::read_to_string(reference(&format!("{name}.json"))).unwrap();
    let reference: Value = serde_json::from_str(&text).unwrap();
    let mut potential = make(&reference["parameters"]);
    let [mut found, mut expected] = [const { [const { Vec::new() }; 3] }; 2];
    for frame in reference["frames"].as_array().unwrap() {
        let cell = Cell::from_rows(matrix(&frame["cell"]));
        let (total, forces) = evaluate(&mut potential, &cell, &vectors(&frame["positions"]));
        found[0].push(total.energy);
        found[1].extend(forces.into_flattened());
        found[2].extend(total.virial.0.as_flattened());

        let virial = Virial(matrix(&frame["virial"]));
        let [_, [yx, ..], [zx, zy, _]] = virial.0;
        let triangular = [yx, zx, zy] == [0.0; 3];
        let virial = if triangular {
            virial.mirrored()
        } else {
            virial
        };
        expected[0].push(number(&frame["energy"]));
        expected[1].extend(numbers(&frame["forces"]));
        expected[2].extend(virial.0.as_flattened());
    }
    for (what, (found, expected)) in ["energy", "forces", "virial"]
        .iter()
        .zip(found.iter().zip(&expected))
    {
        assert!(!expected.is_empty());
        close(&format!("{name}: {what}"), found, expected, tolerance);
    }
}

fn reference(file: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/reference")
        .join(file)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(number).collect()
}

fn vectors(value: &Value) -> Vec<[f64; 3]> {
    let numbers = numbers(value);
    let (vectors, rest) = numbers.as_chunks();
    assert!(rest.is_empty());
    vectors.to_vec()
}

fn matrix(value: &Value) -> [[f64; 3]; 3] {
    vectors(value).try_into().unwrap()
}
