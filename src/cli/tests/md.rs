//! `forcewire md` with `forcewire driver`.
#![cfg(unix)]

mod common;

use std::fs;
use std::process::Command;

use common::*;

const LJ: &str = "-m lj -o 6.43452,0.000379384,16 --cutoff shifted --reconnect";

/// Four argon atoms in a cell; further columns with `properties` follow the positions.
fn argon(properties: &str, columns: [&str; 4]) -> String {
    let [a, b, c, d] = columns;
    format!(
        "4\nLattice=\"11 0 0 1 12 0 0 2 13\" Properties=species:S:1:pos:R:3{properties} pbc=\"T T T\" name=\"a b\"\n\
         Ar 0 0 0 {a}\nAr 3.6 0.1 0 {b}\nAr 0 3.7 0.3 {c}\nAr 3.5 3.6 3.4 {d}\n"
    )
}

fn place() -> Place {
    let place = Place::new();
    place.write("argon.xyz", &argon("", [""; 4]));
    place
}

fn run(place: &Place, arguments: &str) -> Ended {
    let ended = place.start("md", arguments).end();
    assert_eq!(ended.status, Some(0), "{arguments}: {}", ended.err);
    ended
}

/// The numbers of a table's rows.
fn rows(table: &str) -> Vec<Vec<f64>> {
    let rows = table.lines().filter(|line| !line.starts_with('#'));
    rows.map(|row| {
        row.split_whitespace()
            .map(|number| number.parse().unwrap())
            .collect()
    })
    .collect()
}

#[test]
fn help_fits_a_screen_and_has_an_example() {
    let ended = Process::start(&mut forcewire("md --help")).end();
    let lines = ended.out.lines().count();
    assert!((24..=50).contains(&lines), "{lines} lines");
    assert!(ended.out.contains("Example: forcewire md"));
}

#[test]
fn nonsense_is_status_2() {
    for (arguments, says) in [
        ("argon.xyz", "--steps <N>"),
        ("argon.xyz --steps 0", "'0'"),
        (
            "argon.xyz --steps 1 --timestep -1",
            "it must be more than 0",
        ),
        (
            "argon.xyz --steps 1 --timestep=-1",
            "it must be more than 0",
        ),
        (
            "argon.xyz --steps 1 --temperature=-1",
            "it must not be negative",
        ),
        ("argon.xyz --steps 1 --langevin 100", "--temperature <K>"),
        ("argon.xyz --steps 1 --restart", "--output <PREFIX>"),
        (
            "argon.xyz --steps 1 --mode classic --batch 2",
            "--batch is for --mode consolidated",
        ),
    ] {
        let ended = place().start("md", arguments).end();
        assert_eq!(ended.status, Some(2), "{arguments}: {}", ended.err);
        assert!(ended.err.contains(says), "{arguments}: {}", ended.err);
    }
}

#[test]
fn energy_is_conserved_and_plotted() {
    let place = place();
    let _driver = place.driver(LJ);
    let ended = run(
        &place,
        "argon.xyz --steps 100 --timestep 2 --temperature 40 --output run",
    );
    assert!(
        ended.err.contains("100 steps in ") && ended.err.contains("drift of the conserved energy")
    );
    let line = ended
        .err
        .lines()
        .find(|line| line.contains("potential "))
        .unwrap();
    assert!(
        line.chars()
            .filter(|block| ('▁'..='█').contains(block))
            .count()
            == 11,
        "{line}"
    );
    let svg = place.read("run.svg");
    assert!(
        svg.starts_with("<svg")
            && svg.contains("conserved")
            && svg.matches("<polyline").count() >= 3
    );
    let rows = rows(&place.read("run.out"));
    assert_eq!(
        rows.iter().map(|row| row[0]).collect::<Vec<_>>(),
        (0..=10).map(|i| f64::from(10 * i)).collect::<Vec<_>>()
    );
    let exchanged = rows
        .iter()
        .map(|row| (row[3] - rows[0][3]).abs())
        .fold(0.0, f64::max);
    for row in &rows {
        assert!((row[2] - rows[0][2]).abs() < 1e-2 * exchanged, "{rows:?}");
    }
    assert!((rows[0][5] - 40.0).abs() < 40.0 && rows[0][5] > 0.0);
}

#[test]
fn a_table_without_output_is_printed() {
    let place = place();
    let _driver = place.driver(LJ);
    let ended = run(&place, "argon.xyz --steps 5 --stride 2");
    assert_eq!(
        rows(&ended.out)
            .iter()
            .map(|row| row[0])
            .collect::<Vec<_>>(),
        [0.0, 2.0, 4.0, 5.0]
    );
}

/// One run, and the same run in parts, ended by --steps, by SIGINT and by SIGKILL.
#[test]
fn a_restart_is_the_same_bit_for_bit() {
    for ensemble in [
        "--temperature 40",
        "--temperature 40 --langevin 50 --seed 7",
    ] {
        let place = place();
        let _driver = place.driver(LJ);
        let arguments = format!("argon.xyz --timestep 2 --stride 4 {ensemble}");
        run(&place, &format!("{arguments} --steps 43 --output whole"));
        let whole = (place.read("whole.out"), place.read("whole.xyz"));
        for steps in [3, 18, 20, 43] {
            run(
                &place,
                &format!("{arguments} --steps {steps} --output parts --restart"),
            );
            assert_eq!(
                rows(&place.read("parts.out")).last().unwrap()[0],
                f64::from(steps)
            );
        }
        assert_eq!(
            (place.read("parts.out"), place.read("parts.xyz")),
            whole,
            "{ensemble}"
        );
        let ended = run(
            &place,
            &format!("{arguments} --steps 43 --output parts --restart"),
        );
        assert!(ended.err.contains("all 43 steps are done"), "{}", ended.err);

        for signal in ["-INT", "-KILL"] {
            let long = format!("{arguments} --steps 1000000 --output cut --restart");
            let process = place.start("md", &long);
            let before = fs::read_to_string(place.path("cut.out")).unwrap_or_default();
            place.wait_for_lines("cut.out", before.lines().count() + 7);
            kill(&process, signal);
            let ended = process.end();
            if signal == "-INT" {
                assert_eq!(ended.status, Some(1));
                assert!(
                    ended
                        .err
                        .contains("of 1000000 steps are done; --restart goes on from step "),
                    "{}",
                    ended.err
                );
            }
        }
        // The part that was done equals a separate run of that length.
        let steps = rows(&place.read("cut.out")).last().unwrap()[0] + 1.0;
        run(
            &place,
            &format!("{arguments} --steps {steps} --output cut --restart"),
        );
        run(
            &place,
            &format!("{arguments} --steps {steps} --output again"),
        );
        assert_eq!(place.read("cut.out"), place.read("again.out"), "{ensemble}");
        assert_eq!(place.read("cut.xyz"), place.read("again.xyz"), "{ensemble}");
        assert_eq!(
            place.read("cut.restart"),
            place.read("again.restart"),
            "{ensemble}"
        );
    }
}

/// The checkpoint of step 0 is written before its row, and the step is counted once.
#[test]
fn a_run_that_is_killed_at_its_first_step_goes_on_bit_for_bit() {
    let place = place();
    {
        let _driver = place.driver("-m gas -o 0.3");
        let killed = place.start("md", "argon.xyz --steps 4 --output cut --restart");
        place.wait_for_lines("cut.out", 3);
        kill(&killed, "-KILL");
        killed.end();
    }
    assert!(place.read("cut.restart").contains("\"step\":0"));
    let _driver = place.driver("-m gas --reconnect");
    run(&place, "argon.xyz --steps 4 --output cut --restart");
    run(&place, "argon.xyz --steps 4 --output whole");
    for end in ["out", "xyz", "restart"] {
        let [cut, whole] = ["cut", "whole"].map(|name| place.read(&format!("{name}.{end}")));
        assert_eq!(cut, whole, "{end}");
    }
}

/// A batch system may start a job twice.
#[test]
fn two_runs_do_not_write_the_same_files() {
    let place = place();
    let _driver = place.driver("-m gas --reconnect");
    let run = "argon.xyz --steps 1000000 --output run --restart";
    let first = place.start("md", run);
    place.wait_for_lines("run.out", 5);
    let second = place.command("md", run);
    let mut elsewhere = Command::new(second.get_program());
    let arguments = second.get_args().map(|argument| match argument.to_str() {
        Some("ipi") => "other",
        other => other.unwrap(),
    });
    elsewhere.args(arguments).current_dir(place.0.path());
    let ended = Process::start(&mut elsewhere).end();
    assert_eq!(ended.status, Some(1), "{}", ended.err);
    assert!(
        ended
            .err
            .contains("run.out: another forcewire is writing it"),
        "{}",
        ended.err
    );
    kill(&first, "-INT");
    assert!(first.end().err.contains("--restart goes on from step"));
    let rows = rows(&place.read("run.out"));
    assert!(rows.windows(2).all(|pair| pair[0][0] < pair[1][0]));
}

#[test]
fn a_restart_needs_the_same_flags_and_atoms_and_nothing_is_overwritten() {
    let place = place();
    let _driver = place.driver(LJ);
    let atoms = argon("", [""; 4]);
    place.write("other.xyz", &atoms.replace("13\"", "14\""));
    place.write("moved.xyz", &atoms.replace("Ar 3.6 ", "Ar 3.7 "));
    place.write("heavy.xyz", &argon(":masses:R:1", ["30", "40", "40", "40"]));
    place.write("fast.xyz", &argon(":vel:R:3", ["0 0 1"; 4]));
    run(&place, "argon.xyz --steps 3 --temperature 40 --output run");
    let before = (
        place.read("run.out"),
        place.read("run.xyz"),
        place.read("run.restart"),
    );
    for (arguments, status, says) in [
        (
            "argon.xyz --temperature 40",
            1,
            "is there already: go on with --restart",
        ),
        (
            "argon.xyz --temperature 50 --restart",
            2,
            "--temperature is 50, and was 40",
        ),
        (
            "argon.xyz --temperature 40 --timestep 2 --restart",
            2,
            "--timestep is 2, and was 1",
        ),
        (
            "argon.xyz --temperature 40 --langevin 9 --restart",
            2,
            "--langevin is 9, and was off",
        ),
        (
            "other.xyz --temperature 40 --restart",
            1,
            "of another cell, than other.xyz",
        ),
        (
            "moved.xyz --temperature 40 --restart",
            1,
            "run.restart began with other positions, masses or velocities than those of moved.xyz",
        ),
        (
            "heavy.xyz --temperature 40 --restart",
            1,
            "those of heavy.xyz",
        ),
        (
            "fast.xyz --temperature 40 --restart",
            1,
            "those of fast.xyz",
        ),
    ] {
        let ended = place
            .start("md", &format!("{arguments} --steps 9 --output run"))
            .end();
        assert_eq!(ended.status, Some(status), "{arguments}: {}", ended.err);
        assert!(ended.err.contains(says), "{arguments}: {}", ended.err);
        assert_eq!(
            (
                place.read("run.out"),
                place.read("run.xyz"),
                place.read("run.restart")
            ),
            before
        );
    }
    let again = "argon.xyz --temperature 40 --output run --restart --steps";
    let ended = place.start("md", &format!("{again} 2")).end();
    assert_eq!(ended.status, Some(2), "{}", ended.err);
    assert!(
        ended.err.contains("--steps is 2, of all parts"),
        "{}",
        ended.err
    );
    // Change one digit.
    place.write(
        "run.restart",
        &before.2.replacen("\"step\":3", "\"step\":2", 1),
    );
    let ended = place.start("md", &format!("{again} 9")).end();
    assert_eq!(ended.status, Some(1));
    assert!(ended.err.contains("its checksum is wrong"), "{}", ended.err);
    fs::remove_file(place.path("run.restart")).unwrap();
    let ended = place.start("md", &format!("{again} 9")).end();
    assert_eq!(ended.status, Some(1));
    assert!(
        ended
            .err
            .contains("and not run.restart, which --restart needs"),
        "{}",
        ended.err
    );
    assert_eq!(place.read("run.xyz"), before.1);
}

/// The positions of the last frame.
fn last(trajectory: &str) -> Vec<f64> {
    let lines: Vec<_> = trajectory.lines().collect();
    let atoms = lines
        .iter()
        .rev()
        .take(4)
        .flat_map(|line| line.split_whitespace().skip(1).take(3));
    atoms.map(|number| number.parse().unwrap()).collect()
}

#[test]
fn a_trajectory_goes_on_from_its_own_momenta_and_from_velocities() {
    let place = place();
    let _driver = place.driver(LJ);
    run(
        &place,
        "argon.xyz --steps 20 --timestep 2 --temperature 60 --output whole",
    );
    run(
        &place,
        "argon.xyz --steps 10 --timestep 2 --temperature 60 --output half",
    );
    let half = place.read("half.xyz");
    let frame: Vec<_> = half.lines().skip(6).collect();
    place.write("frame.xyz", &(frame.join("\n") + "\n"));
    run(&place, "frame.xyz --steps 10 --timestep 2 --output rest");
    let (whole, rest) = (
        last(&place.read("whole.xyz")),
        last(&place.read("rest.xyz")),
    );
    assert!(
        whole.iter().zip(&rest).all(|(a, b)| (a - b).abs() < 1e-10),
        "{whole:?} {rest:?}"
    );

    // 0.01 Å/fs for 10 fs, with negligible forces between the atoms.
    place.write(
        "flies.xyz",
        "1\nProperties=species:S:1:pos:R:3:vel:R:3\nAr 1 2 3 0.01 0 -0.02\n",
    );
    let ended = run(&place, "flies.xyz --steps 10 --output flown");
    assert!(
        ended
            .err
            .contains("the file's velocities are taken for Å/fs")
    );
    let end = place.read("flown.xyz");
    let end: Vec<f64> = end
        .lines()
        .last()
        .unwrap()
        .split_whitespace()
        .skip(1)
        .take(3)
        .map(|number| number.parse().unwrap())
        .collect();
    assert!(
        [1.1, 2.0, 2.8]
            .iter()
            .zip(&end)
            .all(|(a, b)| (a - b).abs() < 1e-12),
        "{end:?}"
    );
}

#[test]
fn a_run_without_drivers_says_how_far_it_came() {
    let place = place();
    let ended = place
        .start("md", "argon.xyz --steps 10 --wait 0 --output run")
        .end();
    assert_eq!(ended.status, Some(1));
    assert!(
        ended.err.contains("0 of 10 steps are done"),
        "{}",
        ended.err
    );
    // The first run left no file that would be in the way.
    let _driver = place.driver(LJ);
    run(&place, "argon.xyz --steps 10 --output run");
}

/// `ase.io.read` returns momenta, masses, forces and energies.
#[test]
#[ignore = "needs FORCEWIRE_PEERS"]
fn ase_reads_trajectories() {
    let place = Place::new();
    let numbers = argon("", [""; 4])
        .replace("species:S:1", "Z:I:1")
        .replace("Ar", "18");
    place.write("argon.xyz", &numbers);
    let _driver = place.driver(LJ);
    run(
        &place,
        "argon.xyz --steps 20 --timestep 2 --temperature 60 --stride 5 --output run",
    );
    let script = "
import ase.io, numpy as np
from ase.calculators.lj import LennardJones
from ase.md.verlet import VelocityVerlet
from ase.units import Bohr, Hartree, fs
frames = ase.io.read('run.xyz', ':')
table = np.loadtxt('run.out')
assert len(frames) == len(table) == 5
near = lambda a, b: np.allclose(a, b, rtol=1e-6, atol=1e-6 * np.abs(b).max())
for atoms, row in zip(frames, table):
    assert atoms.get_chemical_symbols() == ['Ar'] * 4 and atoms.pbc.all() and atoms.info['name'] == 'a b'
    assert near(atoms.get_potential_energy(), row[3] * Hartree)
    assert near(atoms.get_kinetic_energy(), row[4] * Hartree)
    own = atoms.copy()
    own.calc = LennardJones(sigma=6.43452 * Bohr, epsilon=0.000379384 * Hartree, rc=16 * Bohr)
    assert near(atoms.get_forces(), own.get_forces())
    assert near(atoms.get_stress(), own.get_stress())
# ASE's own dynamics from the first frame on.
atoms = frames[0].copy()
atoms.calc = LennardJones(sigma=6.43452 * Bohr, epsilon=0.000379384 * Hartree, rc=16 * Bohr)
VelocityVerlet(atoms, 2 * fs).run(20)
assert np.abs(atoms.positions - frames[-1].positions).max() < 1e-6
assert near(atoms.get_momenta(), frames[-1].get_momenta())
";
    ase(script, place.0.path());
}
