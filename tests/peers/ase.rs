//! ASE's `SocketIOCalculator` as the server. `ase_server.py` makes the comparisons.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::process::{Process, peer, report};
use forcewire_support::programs::driver;

const ARGON: [&str; 6] = [
    "-m",
    "lj",
    "-o",
    "6.43452,0.000379384,8.7",
    "--cutoff",
    "shifted",
];

/// Starts the script, waits until it prints its address, and starts a driver. `address` adds the
/// address to the driver's command line.
fn serve(argument: &str, init: &str, address: impl Fn(&mut Command, &str)) {
    let directory = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/ase_server.py");
    let mut server = Process::start(
        peer("ase", "python")
            .arg(script)
            .arg(argument)
            .env("MPLCONFIGDIR", directory.path()),
        "ASE",
        directory.path(),
    );
    let at = server.until("to listen", |log| {
        let (_, rest) = log.split_once("listening ")?;
        Some(rest.split_once('\n')?.0.to_owned())
    });
    let mut command = driver();
    command.args(ARGON).args(["--init", init, "-v"]);
    address(&mut command, &at);
    let mut driver = Process::start(&mut command, "driver", directory.path());

    let log = server.success();
    let last = log.lines().next_back().unwrap_or_default();
    let last: Vec<_> = last.split(' ').collect();
    let &["agrees", comparisons, error, evaluations, seconds] = last.as_slice() else {
        panic!("ASE said:\n{log}");
    };
    // One comparison at first, 21 in the simulation, one relaxed, five strained.
    assert_eq!(comparisons, "28");
    assert!(error.parse::<f64>().unwrap() < 1e-8, "{error}");

    let (status, said) = driver.end();
    assert_eq!(
        status,
        Some(0),
        "ASE ends without EXIT; the driver said:\n{said}"
    );
    assert!(
        said.contains("closed the connection without EXIT"),
        "{said}"
    );
    let (evaluations, seconds) = (evaluations.parse().unwrap(), seconds.parse().unwrap());
    report(
        &format!("ASE, {argument} --init {init}"),
        evaluations,
        Duration::from_secs_f64(seconds),
    );
}

fn tcp(command: &mut Command, port: &str) {
    command.args(["-a", "127.0.0.1", "-p", port]);
}

#[test]
#[ignore = "needs ASE 3.29: tests/peers/README.md"]
fn ase_agrees_over_tcp_and_closes_without_exit() {
    serve("tcp", "once", tcp);
}

#[test]
#[ignore = "needs ASE 3.29: tests/peers/README.md"]
fn ase_needs_no_init() {
    serve("tcp", "never", tcp);
}

#[test]
#[ignore = "needs ASE 3.29: tests/peers/README.md"]
fn ase_gives_init_before_every_structure() {
    serve("tcp", "every", tcp);
}

#[test]
#[ignore = "needs ASE 3.29: tests/peers/README.md"]
fn ase_agrees_over_a_unix_socket_and_closes_without_exit() {
    // ASE requires /tmp/ipi_, and removes the socket at its end.
    let name = format!("forcewire_{}", std::process::id());
    let left = Left(format!("/tmp/ipi_{name}"));
    serve(&format!("unix:{name}"), "once", |command, at| {
        assert_eq!(at, left.0);
        command.args(["-u", "-a", &name]);
    });
    assert!(!Path::new(&left.0).exists(), "ASE left {} behind", left.0);
}

/// A file that exists only if something went wrong.
struct Left(String);

impl Drop for Left {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
