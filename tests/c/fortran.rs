//! Fortran programs: in today's style with `sockets.c`, and with the module.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixListener;

use tempfile::tempdir;

use crate::ipi::{NAME, SPRING, Simulation};
use crate::process::Process;
use crate::tools::{Watch, program};
use crate::wire::EXIT;

/// Old codes contain much that compilers warn about: for instance one name with arguments of many
/// types.
const PLAIN: (&[&str], &[&str]) = (&["tests/c/plain.f90"], &["-std=legacy", "-Wno-error"]);
const BOUND: (&[&str], &[&str]) = (&["tests/c/bound.f90"], &["-cpp"]);
const WITHOUT_PREFIX: (&[&str], &[&str]) = (
    &["tests/c/bound.f90"],
    &[
        "-cpp",
        "-DWITHOUT_PREFIX",
        "-Wl,--defsym=open_socket=forcewire_open_socket_4",
    ],
);

/// i-PI's simulation with a driver that used to be linked with sockets.c.
fn agrees(watch: Watch, (sources, flags): (&[&str], &[&str]), simulation: Simulation) {
    simulation.agrees(|port, prefix| {
        let mut command = program(watch, sources, flags);
        if simulation.unix {
            command.args(["0", "0", NAME, SPRING, prefix]);
        } else {
            command.args(["1", &port.to_string(), "localhost", SPRING, prefix]);
        }
        command
    });
}

#[test]
fn symbols_with_an_underscore_drive_a_simulation() {
    agrees(Watch::None, PLAIN, Simulation::CLASSIC);
    agrees(Watch::Valgrind, PLAIN, Simulation::CONSOLIDATED);
    agrees(Watch::Sanitizers, PLAIN, Simulation::UNIX);
}

#[test]
fn bound_names_drive_a_simulation() {
    agrees(Watch::None, BOUND, Simulation::CLASSIC);
    agrees(Watch::Valgrind, BOUND, Simulation::UNIX);
    agrees(Watch::Sanitizers, WITHOUT_PREFIX, Simulation::CONSOLIDATED);
}

/// The place of unix sockets if no prefix is passed.
#[test]
fn four_arguments_mean_the_usual_prefix() {
    let path = format!("/tmp/ipi_forcewire_{}", std::process::id());
    let _ = fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    let directory = tempdir().unwrap();
    for (sources, flags) in [PLAIN, WITHOUT_PREFIX] {
        let mut command = program(Watch::Sanitizers, sources, flags);
        let name = path.strip_prefix("/tmp/ipi_").unwrap();
        command.args(["0", "0", name, SPRING]);
        let mut driver = Process::start(&mut command, "driver", directory.path());
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(EXIT).unwrap();
        driver.success();
    }
    fs::remove_file(&path).unwrap();
}
