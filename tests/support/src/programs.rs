//! The programs that tests start: the examples and the command.

use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// A program of `examples`.
pub fn named(name: &str) -> Command {
    Command::new(built(&["--example", name], &format!("examples/{name}")))
}

/// `forcewire driver`.
pub fn driver() -> Command {
    forcewire("driver")
}

/// `forcewire relay`.
pub fn relay() -> Command {
    forcewire("relay")
}

/// `forcewire evaluate`.
pub fn evaluate() -> Command {
    forcewire("evaluate")
}

/// `forcewire md`.
pub fn md() -> Command {
    forcewire("md")
}

/// `examples/tls.rs`.
pub fn tls() -> Command {
    static TLS: OnceLock<PathBuf> = OnceLock::new();
    Command::new(TLS.get_or_init(|| built(&["--example", "tls"], "examples/tls")))
}

/// `forcewire bridge`.
pub fn bridge() -> Command {
    forcewire("bridge")
}

/// A command of `forcewire`.
fn forcewire(command: &str) -> Command {
    static FORCEWIRE: OnceLock<PathBuf> = OnceLock::new();
    let binary = ["--package", "forcewire-cli", "--bin", "forcewire"];
    let program = FORCEWIRE.get_or_init(|| built(&binary, "forcewire"));
    let mut forcewire = Command::new(program);
    forcewire.arg(command);
    forcewire
}

/// Builds a program from the current source, with the profile and the target directory of the
/// tests.
fn built(target: &[&str], path: &str) -> PathBuf {
    let profile = if cfg!(debug_assertions) {
        "dev"
    } else {
        "release"
    };
    // This program is in DIRECTORY/debug/deps.
    let this = env::current_exe().unwrap();
    let place = this.ancestors().nth(3).unwrap();
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--quiet", "--profile", profile])
        .args(target)
        .args([
            "--manifest-path",
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml"),
        ])
        .arg("--target-dir")
        .arg(place)
        .env_remove("CARGO_BUILD_TARGET");
    assert!(cargo.status().unwrap().success(), "{cargo:?}");
    let directory = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    let path = place.join(directory).join(path);
    path.with_extension(env::consts::EXE_EXTENSION)
}
