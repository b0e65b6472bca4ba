//! `forcewire` with released versions of ASE and i-PI: `tests/peers/install` makes their
//! environments.
//!
//!     FORCEWIRE_PEERS=target/peers cargo test -p forcewire-cli -- --ignored
#![cfg(unix)]

mod common;

use std::process::Command;

use common::*;

/// A name below /tmp/ipi_…, where both programs require their sockets.
fn name(test: &str) -> String {
    format!("forcewire_cli_{test}_{}", std::process::id())
}

fn python(peer: &str, place: &Place, file: &str) -> Process {
    let mut python = Command::new(format!("{}/{peer}/bin/python", peers()));
    Process::start(python.arg(file).current_dir(place.0.path()))
}

/// A molecule without a cell, a cell smaller than the cutoff, and a slab. Then ASE closes without
/// EXIT.
#[test]
#[ignore = "needs FORCEWIRE_PEERS"]
fn ase_gets_what_it_computes_itself_and_ends_well() {
    let place = Place::new();
    let name = name("ase");
    let script = format!(
        "
import numpy as np
from ase import Atoms
from ase.calculators.lj import LennardJones
from ase.calculators.socketio import SocketIOCalculator
from ase.units import Bohr, Hartree
atoms = [[0, 0, 0], [0.2, 0.1, 3.8]]
systems = [
    Atoms('Ar2', atoms),
    Atoms('Ar2', atoms, cell=[[6, 0, 0], [1, 5, 0], [0, 2, 7]], pbc=True),
    Atoms('Ar2', atoms, cell=[[6, 0, 0], [1, 5, 0], [0, 0, 0]], pbc=[True, True, False]),
]
own = LennardJones(sigma=6.43452 * Bohr, epsilon=0.000379384 * Hartree, rc=16 * Bohr)
with SocketIOCalculator(unixsocket='{name}') as calculator:
    for system in systems:
        copy = system.copy()
        system.calc, copy.calc = calculator, own
        near = lambda a, b: np.allclose(a, b, rtol=1e-7, atol=1e-7 * np.abs(b).max() + 1e-12)
        assert near(system.get_potential_energy(), copy.get_potential_energy())
        assert near(system.get_forces(), copy.get_forces())
"
    );
    place.write("server.py", &script);
    let server = python("ase", &place, "server.py");
    let arguments = "-m lj -o 6.43452,0.000379384,16 --cutoff shifted";
    let driver = Process::start(&mut forcewire(&format!("driver -u -a {name} {arguments}")));
    let (server, driver) = (server.end(), driver.end());
    assert_eq!(server.status, Some(0), "{}", server.err);
    assert_eq!(driver.status, Some(0), "{}", driver.err);
    assert!(
        driver.err.contains("closed the connection without EXIT"),
        "{}",
        driver.err
    );
}

/// i-PI sends batches without announcing them to a driver that answers READY.
#[test]
#[ignore = "needs FORCEWIRE_PEERS"]
fn ipi_sends_batches_once_it_is_asked_for_init() {
    let place = Place::new();
    let name = name("ipi");
    place.write(
        "start.xyz",
        "2\n# CELL(abcABC): 20 20 20 90 90 90\nAr 0 0 0\nAr 3.8 0 0\n",
    );
    place.write(
        "input.xml",
        &format!(
            "<simulation verbosity='quiet'><total_steps>5</total_steps>
               <ffsocket name='lj' mode='unix'><address>{name}</address><batch_size>4</batch_size></ffsocket>
               <system>
                 <initialize nbeads='4'><file mode='xyz'>start.xyz</file></initialize>
                 <forces><force forcefield='lj'/></forces>
                 <ensemble><temperature units='kelvin'>30</temperature></ensemble>
                 <motion mode='dynamics'><dynamics mode='nve'/></motion>
               </system></simulation>"
        ),
    );
    let mut ipi = Command::new(format!("{}/ipi/bin/i-pi", peers()));
    let server = Process::start(ipi.arg("input.xml").current_dir(place.0.path()));
    let arguments = "-v -m lj -o 6.43452,0.000379384,16";
    let driver = Process::start(&mut forcewire(&format!("driver -u -a {name} {arguments}")));
    let (server, driver) = (server.end(), driver.end());
    assert_eq!(server.status, Some(0), "{}", server.err);
    assert_eq!(driver.status, Some(0), "{}", driver.err);
    assert_eq!(
        driver
            .err
            .matches("connecting again to ask for INIT")
            .count(),
        1,
        "{}",
        driver.err
    );
    assert!(driver.err.contains("24 evaluations"), "{}", driver.err);
}
