//! README's first program, built as a user would, and i-PI with the input below it.

use std::fs;
use std::process::Command;

use crate::process::{Process, peer};
use crate::simulation::free_port;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The part of README after this line, up to the end of the block.
fn block(begin: &str) -> String {
    let readme = fs::read_to_string(format!("{ROOT}/README.md")).unwrap();
    let (_, rest) = readme.split_once(&format!("```{begin}\n")).unwrap();
    rest.split_once("```\n").unwrap().0.to_owned()
}

#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn the_first_program_answers_the_input_beside_it() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let port = free_port().to_string();
    let manifest = format!(
        "[package]\nname = 'front'\nedition = '2024'\n[workspace]\n\
         [dependencies]\nforcewire = {{ path = '{ROOT}', features = ['std'] }}\n"
    );
    fs::create_dir(at("src")).unwrap();
    fs::write(at("Cargo.toml"), manifest).unwrap();
    fs::write(
        at("src/main.rs"),
        block("rust,no_run").replace("31415", &port),
    )
    .unwrap();
    fs::write(at("input.xml"), block("xml").replace("31415", &port)).unwrap();
    let cell = "# CELL(abcH): 20 20 20 90 90 90 positions{angstrom} cell{angstrom}";
    let frame = format!("2\n{cell}\nAr 0.1 0.2 0.3\nAr 1.0 2.0 3.0\n");
    fs::write(at("start.xyz"), frame).unwrap();

    // The versions of this repository, which are already downloaded.
    fs::copy(format!("{ROOT}/Cargo.lock"), at("Cargo.lock")).unwrap();
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--quiet", "--offline"]);
    cargo
        .current_dir(&directory)
        .env("CARGO_TARGET_DIR", at("target"));
    Process::start(&mut cargo, "cargo", directory.path()).success();

    let mut ipi = peer("ipi", "i-pi");
    ipi.arg("input.xml").current_dir(&directory);
    let mut server = Process::start(&mut ipi, "i-pi", directory.path());
    server.says("Starting the polling thread");
    let mut driver = Command::new(at("target/debug/front"));
    Process::start(&mut driver, "driver", directory.path()).success();
    let said = server.success();
    assert!(said.contains("I-PI reports success"), "{said}");
}
