//! Each program of `examples` works as described. `tests/peers/tls.rs` runs the TLS example, and
//! `tests/c` the examples in C and Fortran.
#![cfg(unix)]

use forcewire_support::programs;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use forcewire::blocking::run;
use forcewire::net::{Stream, connect, serve};
use forcewire::potential::Harmonic;
use forcewire::{Cell, Deadlines, Request, Server};
use rustix::process::{Pid, Signal, kill_process};

const PATIENCE: Duration = Duration::from_secs(60);

/// A program that ends with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn start(mut command: Command) -> Self {
        Self(command.stdout(Stdio::piped()).spawn().unwrap())
    }

    /// The output of the program, which must end with success.
    fn succeeds(mut self) -> String {
        let mut said = String::new();
        let mut out = self.0.stdout.take().unwrap();
        out.read_to_string(&mut said).unwrap();
        assert!(self.0.wait().unwrap().success(), "{said}");
        said
    }
}

/// A driver of the examples, and its connection to this test.
fn driver(name: &str) -> (Running, Stream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = programs::named(name);
    command.arg(listener.local_addr().unwrap().to_string());
    let driver = Running::start(command);
    let (socket, _) = listener.accept().unwrap();
    let deadlines = Deadlines::NONE.message(PATIENCE).evaluation(PATIENCE);
    (driver, Stream::from_tcp(socket, deadlines).unwrap())
}

/// Atoms whose centre is not at the origin.
fn positions() -> Vec<[f64; 3]> {
    let at = |i: i32| [f64::from(i), 0.5 * f64::from(i % 7), -1.0];
    (0..60).map(at).collect()
}

/// Lets a driver of springs compute twice, and sends EXIT if requested.
fn ask(stream: &mut Stream, centre: [f64; 3], tolerance: f64, exit: bool) {
    let (cell, positions) = (Cell::orthorhombic([100.0; 3]), positions());
    let (mut server, mut forces) = (Server::new(), vec![[0.0; 3]; positions.len()]);
    for _ in 0..2 {
        let request = Request::new(&cell, &positions);
        let evaluate = server.evaluate(request, &mut forces, &mut []);
        let answer = run(stream, evaluate).unwrap();
        let mut energy = 0.0;
        for (r, f) in positions.iter().zip(&forces) {
            for axis in 0..3 {
                let x = r[axis] - centre[axis];
                energy += 0.005 * x * x;
                assert!((f[axis] + 0.01 * x).abs() <= tolerance, "{f:?}");
            }
        }
        assert!((answer.evaluation.energy - energy).abs() <= 1e-6 * energy);
    }
    if exit {
        run(stream, server.exit()).unwrap();
    }
}

#[test]
fn minimal_driver() {
    let (driver, mut stream) = driver("minimal_driver");
    ask(&mut stream, [0.0; 3], 1e-15, true);
    assert_eq!(driver.succeeds(), "the server ended it: Exit\n");
}

#[test]
fn tokio_driver() {
    let (driver, mut stream) = driver("tokio_driver");
    ask(&mut stream, [0.0; 3], 1e-15, true);
    assert_eq!(driver.succeeds(), "the server ended it: Exit\n");
}

#[test]
fn tokio_driver_is_stopped_while_it_waits() {
    let (driver, mut stream) = driver("tokio_driver");
    ask(&mut stream, [0.0; 3], 1e-15, false);
    kill_process(Pid::from_child(&driver.0), Signal::INT).unwrap();
    assert_eq!(driver.succeeds(), "stopped\n");
}

#[test]
fn windows() {
    let (driver, mut stream) = driver("windows");
    let positions = positions();
    let mean = |axis: usize| positions.iter().map(|r| r[axis]).sum::<f64>() / 60.0;
    ask(&mut stream, [0, 1, 2].map(mean), 1e-7, true);
    assert_eq!(driver.succeeds(), "the server ended it: Exit\n");
}

/// Starts a server of the examples on a unix socket, with a driver in this process.
fn server(name: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ipi_it");
    let mut command = programs::named(name);
    let running = Running::start({
        command.arg(&path).stderr(Stdio::null());
        command
    });
    let address = path.to_str().unwrap().parse().unwrap();
    // The call waits until the server listens.
    let mut stream = connect(&address).unwrap();
    serve(&mut stream, &mut Harmonic::<f64>::new(2.0)).unwrap();
    drop(stream);
    running.succeeds()
}

#[test]
fn minimal_server() {
    let said = server("minimal_server");
    let expected = "energy 2.25 hartree\n\
                    forces [[-0.0, -0.0, -0.0], [-3.0, -0.0, -0.0]] hartree/bohr\n";
    assert_eq!(said, expected);
}

#[test]
fn pool() {
    let said = server("pool");
    assert_eq!(said.lines().count(), 16);
    assert!(said.starts_with("2 bohr: 4 hartree\n2.5 bohr: 6.25 hartree\n"));
}

#[test]
fn smoltcp_loopback() {
    let said = Running::start(programs::named("smoltcp_loopback")).succeeds();
    let expected = "energy 1.5 hartree, first force [1.0, 2.0, 3.0]\n";
    assert_eq!(said, expected);
}

#[test]
fn uart() {
    let said = Running::start(programs::named("uart")).succeeds();
    let expected = "energy 0.07 hartree, force [-0.01, -0.02, -0.03]\n";
    assert_eq!(said, expected);
}

/// Each example has a row in the README and a test here, or in the file that its first line names.
#[test]
fn every_example_has_a_row_and_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("examples/README.md")).unwrap();
    let tests = fs::File::open(root.join(file!())).unwrap();
    let tests: Vec<_> = BufReader::new(tests).lines().map(Result::unwrap).collect();
    for entry in fs::read_dir(root.join("examples")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(name) = name.strip_suffix(".rs") else {
            continue;
        };
        assert!(readme.contains(&format!("[`{name}`]({name}.rs)")), "{name}");
        let test = format!("fn {name}() {{");
        assert!(name == "tls" || tests.contains(&test), "{name}");
    }
}
