//! The examples as programs that tests start.

#![allow(dead_code)] // each test starts its own

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// `examples/driver.rs`.
pub fn driver() -> Command {
    static DRIVER: OnceLock<PathBuf> = OnceLock::new();
    Command::new(DRIVER.get_or_init(|| built("driver")))
}

/// `examples/server`.
pub fn server() -> Command {
    static SERVER: OnceLock<PathBuf> = OnceLock::new();
    Command::new(SERVER.get_or_init(|| built("server")))
}

/// `examples/tls.rs`.
pub fn tls() -> Command {
    static TLS: OnceLock<PathBuf> = OnceLock::new();
    Command::new(TLS.get_or_init(|| built("tls")))
}

/// `examples/bridge`.
pub fn bridge() -> Command {
    static BRIDGE: OnceLock<PathBuf> = OnceLock::new();
    Command::new(BRIDGE.get_or_init(|| built("bridge")))
}

/// Builds an example from the source as it is now, in the profile and the place of the tests.
fn built(example: &str) -> PathBuf {
    let profile = if cfg!(debug_assertions) {
        "dev"
    } else {
        "release"
    };
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--quiet", "--example", example])
        .args(["--profile", profile])
        .args([
            "--manifest-path",
            concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
        ])
        .arg("--target-dir")
        .arg(target)
        .env_remove("CARGO_BUILD_TARGET");
    assert!(cargo.status().unwrap().success(), "{cargo:?}");
    let directory = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    let path = target.join(directory).join("examples").join(example);
    path.with_extension(env::consts::EXE_EXTENSION)
}
