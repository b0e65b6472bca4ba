//! Molecular dynamics, compared with closed forms and with a different integrator.

use forcewire::potential::{LennardJones, storage_for};
use forcewire::{Cell, Potential};

use crate::process::Transport::{Tcp, Unix};
use crate::process::{Place, Reply, within};

/// CODATA 2022.
const FEMTOSECOND: f64 = 41.341373335182;
const DALTON: f64 = 1822.888486283;
const KELVIN: f64 = 3.1668115634564e-6;
const BOHR: f64 = 0.529177210544;

/// The rows of a table, without lines that begin with #.
fn rows(table: &str) -> Vec<[f64; 6]> {
    // The last row may be incomplete.
    let whole = table.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let rows = whole.lines().filter(|line| !line.starts_with('#'));
    rows.map(|row| {
        let numbers: Vec<f64> = row
            .split_whitespace()
            .map(|number| number.parse().unwrap())
            .collect();
        numbers.try_into().unwrap()
    })
    .collect()
}

/// The positions of a trajectory's frames.
fn trajectory(text: &str) -> Vec<Vec<[f64; 3]>> {
    let mut lines = text.lines();
    let mut frames = Vec::new();
    while let Some(natoms) = lines.next() {
        let natoms = natoms.parse().unwrap();
        let atoms = lines.by_ref().skip(1).take(natoms).map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            [1, 2, 3].map(|column| fields[column].parse().unwrap())
        });
        frames.push(atoms.collect());
    }
    frames
}

/// Drift and largest deviation of the conserved energy per atom, from the server's last line.
fn conservation(log: &str) -> [f64; 2] {
    let line = log
        .lines()
        .find(|line| line.contains("evaluations/s"))
        .unwrap();
    ["drift of the conserved energy ", "largest deviation "].map(|before| {
        let (_, behind) = line.split_once(before).unwrap();
        behind.split_whitespace().next().unwrap().parse().unwrap()
    })
}

/// For an oscillator that starts at rest, Verlet's positions are exactly x cos(n θ), with cos θ = 1
/// - (ω dt)² / 2. Where it moves fastest, its energy is below the initial one by E (ω dt)² / 4.
#[test]
fn an_oscillator_is_its_closed_form() {
    let (k, dt, x) = (0.02, 10.0, 1.25);
    let place = Place::new();
    let file = place.file(
        "pair.xyz",
        &format!("2\nLattice=\"9 0 0 0 9 0 0 0 9\"\nD {x} 0 0\nD 0 -{x} 0\n"),
    );
    let timestep = (dt / FEMTOSECOND).to_string();
    let arguments = [
        "md", &file, "--units", "bohr", "--output", "run", "--stride", "7",
    ];
    let steps = ["--steps", "500", "--timestep", &timestep];
    let server = place.server(Unix, &[&arguments[..], &steps].concat());
    let driver = server.driver(&["-m", "harm3d", "-o", "0.02"]);
    let ended = server.succeeds();
    driver.was_dismissed();
    assert_eq!(ended.out, "");

    let omega_dt = (k / (2.014101777844 * DALTON)).sqrt() * dt;
    let theta = (1.0 - 0.5 * omega_dt * omega_dt).acos();
    let (rows, frames) = (
        rows(&place.read("run.out")),
        trajectory(&place.read("run.xyz")),
    );
    let steps: Vec<_> = (0..500).step_by(7).chain([500]).collect();
    assert_eq!((rows.len(), frames.len()), (steps.len(), steps.len()));
    for ((row, frame), step) in rows.iter().zip(frames).zip(steps) {
        let [number, time, conserved, potential, kinetic, temperature] = *row;
        let at = x * (f64::from(step) * theta).cos();
        let angstrom = at * BOHR;
        assert_eq!(number, f64::from(step));
        assert!((time - number * dt / FEMTOSECOND).abs() < 1e-4);
        let expected = [angstrom, 0.0, 0.0, 0.0, -angstrom, 0.0];
        close(frame.as_flattened(), &expected, 1e-11);
        assert!((potential - k * at * at).abs() < 1e-12);
        assert_eq!(conserved, potential + kinetic);
        // Three of the six degrees of freedom remain.
        assert!((temperature - 2.0 * kinetic / 3.0 / KELVIN).abs() < 1e-5);
    }
    let most = 0.5 * k * x * x * omega_dt * omega_dt / 4.0;
    let [drift, largest] = conservation(&ended.log);
    assert!(
        largest > 0.98 * most && largest < 1.01 * most,
        "{largest} {most}"
    );
    assert!(drift.abs() < most, "{drift}");
}

/// An argon atom and its twelve neighbours, 5 % too far apart, in Å.
fn cluster() -> Vec<[f64; 3]> {
    let distance = 1.05 * 1.122462 * 6.43452 * BOHR;
    let edge = distance / 2.0_f64.sqrt();
    let mut atoms = vec![[0.0; 3]];
    for (i, j) in [(1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0)] {
        for axis in 0..3 {
            let mut atom = [i * edge, j * edge, 0.0];
            atom.rotate_right(axis);
            atoms.push(atom);
        }
    }
    // Break the symmetry.
    for (index, atom) in atoms.iter_mut().enumerate() {
        atom[index % 3] += 0.05 * (index as f64).sin();
    }
    atoms
}

fn xyz(lattice: &str, atoms: &[[f64; 3]]) -> String {
    let mut text = format!("{}\n{lattice}\n", atoms.len());
    for [x, y, z] in atoms {
        text += &format!("Ar {x} {y} {z}\n");
    }
    text
}

/// The potential is smooth for a cluster: the cutoff is beyond it.
const ARGON: &[&str] = &["-m", "lj", "-o", "6.43452,0.000379384,60"];

/// Positions from Störmer's method, which has no velocities.
fn stoermer(steps: usize, timestep: f64) -> Vec<[f64; 3]> {
    let cell = Cell::orthorhombic([1000.0; 3]);
    let dt = timestep * FEMTOSECOND;
    let factor = dt * dt / (39.948 * DALTON);
    let mut potential = LennardJones::new(6.43452, 0.000379384, 60.0);
    let mut now: Vec<_> = cluster().iter().map(|r| r.map(|x| x / BOHR)).collect();
    let mut before = now.clone();
    let mut forces = vec![[0.0; 3]; now.len()];
    for step in 0..steps {
        potential.evaluate(&cell, &now, &mut forces).unwrap();
        // From rest, the first step is half a step.
        let factor = if step == 0 { 0.5 * factor } else { factor };
        let atoms = now.iter_mut().zip(&mut before).zip(&forces);
        for ((now, before), force) in atoms {
            for axis in 0..3 {
                let next = 2.0 * now[axis] - before[axis] + factor * force[axis];
                (before[axis], now[axis]) = (now[axis], next);
            }
        }
    }
    now.iter().map(|r| r.map(|x| x * BOHR)).collect()
}

/// Half the time step gives a quarter of the energy error, which is therefore Verlet's alone.
#[test]
fn argon_goes_where_another_integrator_takes_it_and_keeps_its_energy() {
    let place = Place::new();
    let file = place.file("argon.xyz", &xyz("a cluster", &cluster()));
    let largest = [(200, 8.0), (400, 4.0)].map(|(steps, timestep): (usize, f64)| {
        let prefix = format!("by{timestep}");
        let (steps_, timestep_) = (steps.to_string(), timestep.to_string());
        let server = place.server(
            Tcp,
            &[
                "md",
                &file,
                "--steps",
                &steps_,
                "--timestep",
                &timestep_,
                "--stride",
                "100",
                "--output",
                &prefix,
            ],
        );
        let driver = server.driver(ARGON);
        let ended = server.succeeds();
        driver.was_dismissed();
        assert!(
            ended
                .log
                .contains("the cell that is sent is 1000 bohr long there"),
            "{}",
            ended.log
        );
        let frames = trajectory(&place.read(&format!("{prefix}.xyz")));
        let last = frames.last().unwrap();
        close(
            last.as_flattened(),
            stoermer(steps, timestep).as_flattened(),
            1e-9,
        );
        let moved = last
            .iter()
            .zip(cluster())
            .map(|(r, start)| (r[0] - start[0]).abs());
        assert!(moved.fold(0.0, f64::max) > 0.1, "it has hardly moved");
        let [drift, largest] = conservation(&ended.log);
        assert!(drift.abs() < largest, "{drift} {largest}");
        largest
    });
    let ratio = largest[0] / largest[1];
    assert!((3.6..4.4).contains(&ratio), "{largest:?}");
}

#[test]
fn a_cell_that_is_turned_has_the_same_dynamics() {
    let place = Place::new();
    let turn = |[x, y, z]: [f64; 3]| [0.6 * x - 0.8 * z, y, 0.8 * x + 0.6 * z];
    let cell = [[30.0, 0.0, 0.0], [3.0, 28.0, 0.0], [-2.0, 1.0, 29.0]];
    let lattice = |cell: [[f64; 3]; 3]| {
        let numbers: Vec<_> = cell.as_flattened().iter().map(f64::to_string).collect();
        format!("Lattice=\"{}\"", numbers.join(" "))
    };
    let turned: Vec<_> = cluster().into_iter().map(turn).collect();
    let runs = [
        ("straight", xyz(&lattice(cell), &cluster())),
        ("turned", xyz(&lattice(cell.map(turn)), &turned)),
    ]
    .map(|(name, text)| {
        let file = place.file(&format!("{name}.start.xyz"), &text);
        let server = place.server(
            Unix,
            &[
                "md",
                &file,
                "--steps",
                "50",
                "--timestep",
                "5",
                "--output",
                name,
            ],
        );
        let driver = server.driver(&["-m", "lj", "-o", "6.43452,0.000379384,20"]);
        server.succeeds();
        driver.was_dismissed();
        trajectory(&place.read(&format!("{name}.xyz")))
    });
    let [straight, turned] = runs;
    assert_eq!(straight.len(), 6);
    for (straight, turned) in straight.iter().zip(turned) {
        let straight: Vec<_> = straight.iter().map(|r| turn(*r)).collect();
        close(turned.as_flattened(), straight.as_flattened(), 1e-9);
    }
}

#[test]
fn a_killed_driver_leaves_no_trace_in_the_trajectory() {
    let place = Place::new();
    let file = place.file("argon.xyz", &xyz("", &cluster()));
    let arguments = |prefix| {
        let run = [
            "md",
            &file,
            "--steps",
            "4000",
            "--timestep",
            "4",
            "--temperature",
            "30",
        ];
        [&run[..], &["--seed", "7", "--output", prefix]].concat()
    };
    let quiet = place.server(Unix, &arguments("quiet"));
    let driver = quiet.driver(ARGON);
    quiet.succeeds();
    driver.was_dismissed();

    let server = place.server(Unix, &arguments("rough"));
    // A driver that computes as `forcewire driver` does, until it receives this structure and
    // leaves.
    let cell = Cell::orthorhombic([1000.0; 3]);
    let mut potential = LennardJones::new(6.43452, 0.000379384, 60.0)
        .with_reference_volume(cell.volume())
        .with_storage(vec![0; storage_for(13)]);
    let mut left = 42;
    let deserter = server.thread(move |positions| {
        left -= 1;
        let mut forces = vec![[0.0; 3]; positions.len()];
        let evaluation = potential.evaluate(&cell, positions, &mut forces).unwrap();
        let extras = Vec::new();
        (left > 0).then_some(Reply {
            evaluation,
            forces,
            extras,
        })
    });
    deserter.join().unwrap();
    server.says("; its 1 evaluation goes to another");
    server.says("there is no driver; waiting up to 60s for another");
    let killed = server.driver(ARGON);
    within("a few rows", || {
        (rows(&place.read("rough.out")).len() > 20).then_some(())
    });
    // The other driver must be there before the run ends.
    killed.stop();
    let next = server.driver(ARGON);
    server.says("driver 3 (");
    killed.kill();
    let ended = server.succeeds();
    next.was_dismissed();
    assert_eq!(ended.log.matches(" left: ").count(), 2, "{}", ended.log);
    for file in ["out", "xyz"] {
        let [quiet, rough] = ["quiet", "rough"].map(|name| place.read(&format!("{name}.{file}")));
        assert!(quiet == rough, "{file} differs");
    }
}

#[test]
fn a_seed_is_recorded_and_makes_the_velocities() {
    let place = Place::new();
    let file = place.file("argon.xyz", &xyz("", &cluster()));
    let table = |seed| {
        let server = place.server(
            Unix,
            &[
                "md",
                &file,
                "--steps",
                "25",
                "--temperature",
                "80",
                "--seed",
                seed,
            ],
        );
        let driver = server.driver(&["-m", "gas"]);
        let ended = server.succeeds();
        driver.was_dismissed();
        ended.out
    };
    let first = table("5");
    assert!(
        first.starts_with("# NVE, 80 K at first, 1 fs a step, seed 5, 13 atoms\n"),
        "{first}"
    );
    let numbers: Vec<_> = rows(&first).iter().map(|row| row[0]).collect();
    assert_eq!(numbers, [0.0, 10.0, 20.0, 25.0]);
    assert_eq!(table("5"), first);
    assert_ne!(rows(&table("6"))[0][4], rows(&first)[0][4]);
}

#[test]
fn an_interrupted_run_tells_its_drivers_to_exit() {
    let place = Place::new();
    let file = place.file("argon.xyz", &xyz("", &cluster()));
    let server = place.server(
        Unix,
        &["md", &file, "--steps", "1000000000", "--output", "run"],
    );
    let driver = server.driver(ARGON);
    within("a few rows", || {
        (rows(&place.read("run.out")).len() > 3).then_some(())
    });
    server.interrupt();
    let ended = server.ends();
    driver.was_dismissed();
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.log.contains("\nforcewire: interrupted\nforcewire: ")
            && ended
                .log
                .contains(" steps are done; --restart goes on from step "),
        "{}",
        ended.log
    );
    assert!(
        ended.log.contains("drift of the conserved energy"),
        "{}",
        ended.log
    );
}

fn close(ours: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(ours.len(), expected.len());
    for (ours, expected) in ours.iter().zip(expected) {
        assert!((ours - expected).abs() <= tolerance, "{ours} {expected}");
    }
}
