//! The Fortran module: every call, the order of indices, and its agreement with the header.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use tempfile::tempdir;

use crate::layout::{self, NEEDINIT};
use crate::process::Process;
use crate::tools::{WATCHES, Watch, program, root};
use crate::wire::{EXIT, GETFORCE, HAVEDATA, READY, STATUS, accept, hear, listen, say};

fn start(watch: Watch, arguments: &[&str], directory: &std::path::Path) -> Process {
    let sources = &["src/c/forcewire.f90", "tests/c/module.f90"];
    // The numbers are copied and not computed, so they can be compared for equality.
    let flags = &["-std=f2008", "-pedantic", "-Wno-compare-reals"];
    let mut command = program(watch, sources, flags);
    Process::start(command.args(arguments), "module", directory)
}

/// A cell with the vectors (10, 0, 0), (2, 20, 0) and (3, 4, 30). On the wire they are columns, row
/// after row.
fn posdata(natoms: usize, first: f64) -> Vec<u8> {
    let h = [10.0, 2.0, 3.0, 0.0, 20.0, 4.0, 0.0, 0.0, 30.0];
    layout::posdata(&h, &INVERSE, &eighths(natoms, first))
}

/// The rows of 1/h, computed by hand.
#[rustfmt::skip]
const INVERSE: [f64; 9] = [
    0.1, -0.01, -26.0 / 3000.0,
    0.0, 0.05, -0.2 / 30.0,
    0.0, 0.0, 1.0 / 30.0,
];

fn eighths(natoms: usize, first: f64) -> Vec<f64> {
    (0..3 * natoms).map(|i| first + i as f64 / 8.0).collect()
}

/// The replies of the programs: virial(i, j) is 10 i + j.
fn forceready(natoms: usize, first: f64, extras: &str) -> Vec<u8> {
    let virial = [11, 12, 13, 21, 22, 23, 31, 32, 33].map(f64::from);
    layout::forceready(&[1.5], &eighths(natoms, first), &virial, &[extras])
}

#[test]
fn a_potential_sees_vectors_and_atoms_as_columns() {
    for watch in WATCHES {
        let (listener, port) = listen();
        let directory = tempdir().unwrap();
        let mut driver = start(watch, &["serve", &port.to_string()], directory.path());
        let mut server = accept(&listener);
        say(&mut server, &[STATUS, &posdata(2, 0.0), GETFORCE].concat());
        hear(&mut server, &[READY, &forceready(2, 0.0, "")].concat());
        say(&mut server, &[&posdata(2, 8.0), GETFORCE, EXIT].concat());
        hear(&mut server, &forceready(2, 8.0, ""));
        assert_eq!(driver.success(), "2 0 all is well\n");
    }
}

#[test]
fn a_potential_may_fail() {
    let (listener, port) = listen();
    let directory = tempdir().unwrap();
    let mut driver = start(
        Watch::Valgrind,
        &["serve", &port.to_string()],
        directory.path(),
    );
    let mut server = accept(&listener);
    say(&mut server, &[STATUS, &posdata(2, -1.0), GETFORCE].concat());
    hear(&mut server, READY);
    let said = driver.success();
    assert!(said.starts_with("1 11 the potential returned 17"), "{said}");
}

/// GETFORCE is read before the connection is closed, even if the failure ends the program: i-PI's
/// server hangs if the connection is reset.
#[test]
fn forces_that_are_refused_do_not_reset_the_connection() {
    for (how, status) in [("nan", 0), ("stop", 1)] {
        let (listener, port) = listen();
        let directory = tempdir().unwrap();
        let arguments = [how, &port.to_string()];
        let mut driver = start(Watch::None, &arguments, directory.path());
        let mut server = accept(&listener);
        say(&mut server, &posdata(2, 0.0));
        std::thread::sleep(Duration::from_millis(50));
        say(&mut server, GETFORCE);
        let mut heard = Vec::new();
        server.read_to_end(&mut heard).unwrap();
        assert!(heard.is_empty(), "{how}: {}", heard.escape_ascii());
        let (ended, said) = driver.end();
        assert_eq!(ended, Some(status), "{how}: {said}");
    }
}

#[test]
fn a_driver_goes_step_by_step() {
    let extras = "{\"dipole\": 1}";
    for watch in WATCHES {
        let (listener, port) = listen();
        let directory = tempdir().unwrap();
        let mut driver = start(watch, &["steps", &port.to_string()], directory.path());
        let mut server = accept(&listener);
        for natoms in [2, 5, 1] {
            say(
                &mut server,
                &[
                    STATUS,
                    &crate::wire::INIT,
                    STATUS,
                    &posdata(natoms, 0.0),
                    STATUS,
                    GETFORCE,
                ]
                .concat(),
            );
            hear(
                &mut server,
                &[NEEDINIT, READY, HAVEDATA, &forceready(natoms, 0.0, extras)].concat(),
            );
        }
        say(&mut server, EXIT);
        assert_eq!(driver.success(), "7 k:1\n7 k:1\n7 k:1\n");
    }
}

#[test]
fn a_server_sends_vectors_and_atoms_as_columns() {
    for watch in WATCHES {
        let port = listen().1;
        let directory = tempdir().unwrap();
        let mut server = start(watch, &["ask", &port.to_string()], directory.path());
        let mut driver = connect(port);
        say(&mut driver, &[NEEDINIT, READY].concat());
        hear(&mut driver, &[STATUS, &crate::wire::INIT, STATUS].concat());
        structure(&mut driver);
        say(
            &mut driver,
            &[HAVEDATA, &forceready(2, 0.0, "{\"dipole\": 1}"), READY].concat(),
        );
        hear(&mut driver, &[STATUS, GETFORCE, STATUS].concat());
        structure(&mut driver);
        say(
            &mut driver,
            &[HAVEDATA, &forceready(2, 0.0, ""), READY].concat(),
        );
        hear(&mut driver, &[STATUS, GETFORCE, STATUS, EXIT].concat());
        drop(driver);
        server.success();
    }
}

/// Reads POSDATA. The inverse is computed and may differ in the last bit.
fn structure(driver: &mut TcpStream) {
    let expected = posdata(2, 0.0);
    let inverse = layout::Posdata::of(2).cell(0) + layout::MATRIX;
    let atoms = layout::Posdata::of(2).atoms();
    hear(driver, &expected[..inverse]);
    let mut numbers = [0; layout::MATRIX];
    driver.read_exact(&mut numbers).unwrap();
    for (heard, expected) in layout::numbers(&numbers).into_iter().zip(INVERSE) {
        assert!(
            (heard - expected).abs() < 1e-16,
            "{heard} is not {expected}"
        );
    }
    hear(driver, &expected[atoms..]);
}

/// Connects to a server that will listen soon.
fn connect(port: u16) -> TcpStream {
    let start = Instant::now();
    loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(socket) => {
                socket
                    .set_read_timeout(Some(Duration::from_secs(60)))
                    .unwrap();
                return socket;
            }
            Err(error) => assert!(start.elapsed() < Duration::from_secs(60), "{error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Two drivers in two threads, 300 000 evaluations. With `-fno-automatic`, which old codes use, all
/// threads share each local variable of a procedure that is not recursive.
#[test]
fn drivers_in_threads_have_nothing_in_common() {
    let strict: &[&str] = &["-std=f2008", "-pedantic", "-Wno-compare-reals"];
    let runs: [(Watch, &[&str], u32); 3] = [
        (Watch::None, strict, 150_000),
        (Watch::None, &["-fno-automatic", "-w"], 150_000),
        // Not under valgrind, which reports libgomp's thread pool as a leak.
        (Watch::Sanitizers, strict, 1000),
    ];
    for (watch, flags, times) in runs {
        let sources = &["src/c/forcewire.f90", "tests/c/together.f90"];
        let directory = tempdir().unwrap();
        let mut command = program(watch, sources, flags);
        command.arg(times.to_string());
        let said = Process::start(&mut command, "together", directory.path()).success();
        assert_eq!(said, format!("{} evaluations\n", 2 * times));
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for watch in WATCHES {
        let directory = tempdir().unwrap();
        let (status, said) = start(watch, &["misuse"], directory.path()).end();
        assert_eq!(status, Some(1), "{said}");
        let words = "forcewire: the handle is not connected: connect or attach it";
        assert!(said.contains(words), "{said}");
    }
}

/// Constants, and the size of a handle, which the compiler does not compare.
#[test]
fn the_module_has_the_numbers_of_the_header() {
    let number = |text: &str| text.trim_end_matches([',', ';']).parse::<i32>().ok();
    let read = |path: &str| fs::read_to_string(root().join("src/c").join(path)).unwrap();
    let mut header = BTreeMap::new();
    for line in read("forcewire.h").lines() {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["#define", name, value] | [name, "=", value] if name.starts_with("FORCEWIRE_") => {
                header.extend(number(value).map(|value| (name.to_owned(), value)));
            }
            _ => {}
        }
    }
    let mut module = BTreeMap::new();
    for line in read("forcewire.f90").lines() {
        if let Some((_, rest)) = line.split_once("parameter, public :: ") {
            let (name, value) = rest.split_once(" = ").unwrap();
            module.insert(name.to_owned(), number(value).unwrap());
        }
        if let Some(value) = line.trim().strip_prefix("integer, parameter :: HANDLE = ") {
            module.insert("FORCEWIRE_HANDLE".to_owned(), number(value).unwrap());
        }
    }
    // Fortran does not distinguish this name from the type's.
    let failed = module.remove("FORCEWIRE_POTENTIAL_FAILED").unwrap();
    module.insert("FORCEWIRE_POTENTIAL".to_owned(), failed);
    // Functions for programs that use i-PI's sockets.c.
    for name in ["FORCEWIRE_EXIT", "FORCEWIRE_CONTINUE"] {
        assert!(header.remove(name).is_some());
    }
    assert!(header.len() > 25);
    assert_eq!(module, header);
}
