//! The manual's tables of clumsy and hostile peers, generated from the `--json` output of real runs
//! (`peers.rs`).

use crate::{check, page};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn the_manual_has_what_the_kit_found() {
    let files = [
        "forcewire-driver",
        "ipi-driver",
        "ase-driver",
        "lammps-driver",
        "forcewire-server",
        "ipi-server",
        "ase-server",
    ];
    let files = files.map(|name| format!("{ROOT}/tests/check/records/{name}.jsonl"));
    let output = check().arg("table").args(files).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let table = String::from_utf8(output.stdout).unwrap();
    page::hold(
        "src/manual/conformance.md",
        "check",
        &table,
        "cargo test -p forcewire-cli --test check manual",
    );
}
