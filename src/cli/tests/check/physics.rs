//! `check driver --physics` finds and names each planted fault, and accepts every correct driver.

use std::process::Command;

use serde_json::Value;

use crate::{FORCEWIRE, check, planted};

/// The finding for a driver: verdict, name of the fault, sentence.
fn physics(command: &str, flags: &[&str]) -> [String; 3] {
    let mut check = check();
    check.args([
        "driver",
        "--json",
        "--only",
        "physics",
        "--command",
        command,
    ]);
    let output = check.args(flags).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let row: Value = serde_json::from_str(text.trim()).unwrap_or_else(|_| {
        panic!("{command}: {}", String::from_utf8_lossy(&output.stderr));
    });
    ["verdict", "how", "because"].map(|key| row[key].as_str().unwrap().to_owned())
}

#[test]
fn each_wrong_driver_is_found_and_told_what_to_do() {
    for (fault, name, advice) in [
        ("forces in eV/angstrom", "unit", "51.42"),
        ("forces in rydberg/bohr", "unit", "rydberg/bohr"),
        ("electronvolts", "unit", "1.8897"),
        ("angstrom", "unit", "positions come in bohr"),
        ("energy in electronvolts", "unit", "27.2114"),
        ("energy in eV, forces in rydberg", "unit", "13.6057"),
        ("energy per atom", "energy per atom", "all 4 atoms"),
        ("gradient", "gradient", "send -dU/dr"),
        ("gradient of a field", "gradient", "send -dU/dr"),
        (
            "gradient in each second step",
            "gradient",
            "have the other sign than",
        ),
        (
            "gradient in each seventh step",
            "gradient",
            "have the other sign than",
        ),
        (
            "a factor in step 20",
            "gradient",
            "forces of 1 of 43 neighbouring structures are 1.100 times",
        ),
        (
            "gradient in step 40",
            "gradient",
            "forces of 1 of 43 neighbouring structures",
        ),
        (
            "a term without forces",
            "gradient",
            "a part of the energy has no forces",
        ),
        ("no forces", "no forces", "send -dU/dr"),
        ("all x first", "order", "x, y and z of an atom together"),
        ("y and z exchanged", "order", "as x, z, y: send x, y, z"),
        ("other atoms", "permuted atoms", "sorting"),
        (
            "earlier virial",
            "earlier virial",
            "send the virial of this step",
        ),
        (
            "virial of a molecule",
            "virial of a molecule",
            "through its faces",
        ),
        (
            "earlier forces",
            "earlier step",
            "send the forces of this step",
        ),
        ("first forces", "earlier step", "compute them in each step"),
        (
            "earlier energy",
            "earlier step",
            "send the energy of this step",
        ),
        ("earlier answer", "earlier step", "compute after POSDATA"),
        ("float32", "single precision", "--single"),
        ("noise", "noise", "converge"),
        (
            "transposed cell",
            "transposed cell",
            "columns are the vectors",
        ),
        (
            "first cell",
            "earlier cell",
            "read the cell of each POSDATA",
        ),
        ("earlier cell", "earlier cell", "the cell that came with"),
        ("sign of the virial", "virial's sign", "-dU/d(strain)"),
        ("virial in electronvolts", "virial's unit", "27.2114"),
        ("stress", "stress", "multiply by the volume"),
        ("stress in GPa", "stress", "GPa, with the sign of a stress"),
        ("no virial", "no virial", "-dU/d(strain)"),
        ("not symmetric", "virial not symmetric", "one half only"),
        ("upper half", "half a virial", "whole symmetric matrix"),
        ("diagonal", "half a virial", "triclinic"),
    ] {
        let [verdict, how, because] = physics(&planted::command(fault), &[]);
        assert_eq!(
            (&*verdict, &*how),
            ("silently wrong", name),
            "{fault}: {because}"
        );
        assert!(because.contains(advice), "{fault}: {because}");
    }
}

/// Then nothing can be judged, and the situation does not count as handled.
#[test]
fn a_driver_that_ends_has_given_up() {
    let [verdict, _, because] = physics(&planted::command("does not converge"), &[]);
    assert_eq!(verdict, "gave up", "{because}");
    assert!(because.contains("SCF not converged"), "{because}");
    assert!(because.contains("--structure"), "{because}");
}

#[test]
fn a_driver_that_is_right_is_called_so() {
    let [verdict, _, because] = physics(&planted::command("none"), &[]);
    assert_eq!(verdict, "handled", "{because}");
    let [verdict, _, because] = physics(&planted::command("a field"), &[]);
    assert_eq!(verdict, "handled", "{because}");
    let [verdict, _, because] = physics(&planted::command("none"), &["--atoms", "30"]);
    assert_eq!(verdict, "handled", "{because}");
    let [verdict, _, because] = physics(&planted::command("float32"), &["--single"]);
    assert_eq!(verdict, "handled", "{because}");
    let [verdict, _, because] = physics(&planted::command("ours in f32"), &["--single"]);
    assert_eq!(verdict, "handled", "{because}");
    let [_, how, _] = physics(&planted::command("ours in f32"), &[]);
    assert_eq!(how, "single precision");
    // Larger steps still show faults beyond single precision.
    let [verdict, how, _] = physics(&planted::command("energy per atom"), &["--single"]);
    assert_eq!((&*verdict, &*how), ("silently wrong", "energy per atom"));
}

#[test]
fn our_own_models_are_right() {
    for model in [
        "gas",
        "harm -o 0.1",
        "harm3d -o 0.1",
        "lj -o 6.43452,0.000379384,16.0863",
        "lj -o 6.43452,0.000379384,7.1",
        "lj -o 6.43452,0.000379384,16.0863 --cutoff truncated",
        "lj -o 6.43452,0.000379384,16.0863 --cutoff shifted",
        "sg -o 15",
    ] {
        let command = format!("exec '{FORCEWIRE}' driver -a {{host}} -p {{port}} -m {model}");
        let [verdict, _, because] = physics(&command, &[]);
        assert_eq!(verdict, "handled", "{model}: {because}");
    }
}

/// Near an equilibrium the force and the difference of energies are small, but the change in a step
/// is not.
#[test]
fn structures_near_an_equilibrium_are_judged_right() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("structure");
    let flags = ["--structure", file.to_str().unwrap()];
    let cell = "20 0 0\n0 20 0\n0 0 20\n";
    for (model, atoms) in [
        ("morse", "1.833 0 0\n"),
        ("morse", "1.8325 0 0\n"),
        ("morse", "1.8323934 0 0\n"),
        ("lj -o 4,0.01,14 --cutoff shifted", "0 0 0\n0 0 4.49\n"),
        ("lj -o 4,0.01,14 --cutoff shifted", "0 0 0\n1 2 3.88\n"),
        ("lj -o 4,0.01,14 --cutoff shifted", "0 0 0\n0 0 4.475\n"),
    ] {
        std::fs::write(&file, format!("{cell}{atoms}")).unwrap();
        let command = format!("exec '{FORCEWIRE}' driver -a {{host}} -p {{port}} -m {model}");
        let [verdict, _, because] = physics(&command, &flags);
        assert_eq!(verdict, "handled", "{model}, {atoms}: {because}");
    }
    // A wrong unit is still found there.
    std::fs::write(&file, format!("{cell}0 0 0\n0 0 4.6366\n")).unwrap();
    let [verdict, _, because] = physics(&planted::command("none"), &flags);
    assert_eq!(verdict, "handled", "{because}");
    for (fault, name, advice) in [
        ("forces in rydberg/bohr", "unit", "rydberg/bohr"),
        ("gradient", "gradient", "send -dU/dr"),
    ] {
        let [verdict, how, because] = physics(&planted::command(fault), &flags);
        assert_eq!((&*verdict, &*how), ("silently wrong", name), "{because}");
        assert!(because.contains(advice), "{because}");
    }
}

/// Python of a peer's environment, with a script of this directory.
fn peer(environment: &str, arguments: &str) -> String {
    let peers = std::env::var("FORCEWIRE_PEERS").expect("FORCEWIRE_PEERS names a directory");
    format!("cd {{directory}} && exec '{peers}/{environment}/bin/{arguments}")
}

#[test]
#[ignore = "needs FORCEWIRE_PEERS"]
fn drivers_of_ipi_and_ase_are_right() {
    for model in ["harmonic -o 0.01", "MorseHarmonic"] {
        let command = peer(
            "ipi",
            &format!("i-pi-py_driver' -a {{host}} -p {{port}} -m {model}"),
        );
        let [verdict, _, because] = physics(&command, &[]);
        assert_eq!(verdict, "handled", "{model}: {because}");
    }
    const SCRIPT: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/check/records/ase_driver.py"
    );
    for calculator in ["emt", "lj"] {
        let command = peer("ase", &format!("python' {SCRIPT} {calculator} {{port}}"));
        let [verdict, _, because] = physics(&command, &[]);
        assert_eq!(verdict, "handled", "{calculator}: {because}");
    }
}

#[test]
fn it_is_played_on_demand_only() {
    let mut check: Command = check();
    let command = planted::command("none");
    let output = check
        .args(["driver", "--json", "--command", &command])
        .args(["--only", "control", "--physics"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("\"physics\"") && text.lines().count() == 2,
        "{text}"
    );
}
