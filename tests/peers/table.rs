//! The tested peers. The manual's table is generated from this file, and the tests of drivers use
//! it.

use std::fs;

use forcewire::Mode;

use crate::drivers::{self, codes};
use crate::page;

use Mode::{Batched, Classic, Consolidated, Strict};
use System::{Argon, Copper, Hydrogen, Silicon, Water};
use Version::{Listed, Said};

/// A real server. Each server has its test in a separate file.
struct Server {
    /// The name, with `{}` for the version.
    name: &'static str,
    version: &'static str,
    /// The virtual environment, which has the name of the server's package.
    environment: &'static str,
    conversations: &'static str,
    /// The checks, and the tests that make them.
    checks: &'static str,
    tests: &'static [&'static str],
    source: &'static str,
}

/// A real driver.
#[derive(Clone, Copy)]
pub struct Driver {
    /// The name of its tests and of its records.
    pub key: &'static str,
    /// The name, with `{}` for the version.
    pub name: &'static str,
    pub version: &'static str,
    pub seen: Version,
    /// The virtual environment that contains the driver; None means a package of Debian.
    pub environment: Option<&'static str>,
    /// The words of the command, with `{address}` and `{here}`, the directory of this file.
    pub command: &'static str,
    /// The address in the program's format: over TCP with `{port}`, for a unix socket with
    /// `{name}`.
    pub tcp: &'static str,
    pub unix: &'static str,
    /// The name and the text of its input file, with `{address}` and the structure: `{a}`, `{b}`,
    /// `{c}`, and `{atoms}` or `{positions}`.
    pub input: Option<(&'static str, &'static str)>,
    pub system: System,
    /// The conversations that it supports.
    pub modes: &'static [Mode],
    /// Whether atoms have to be inside the cell. LAMMPS of 2021 folds them by one box length, and
    /// silently loses those that are farther out.
    pub fold: bool,
    /// How far energies, forces and virials may differ from those that it returned to i-PI,
    /// relative to the largest. Results of electronic structure codes depend on their starting
    /// point, within the convergence that the input requests.
    pub again: f64,
    /// How far forces may differ from differences of energies, relative to the largest: because of
    /// higher orders, and of energies that are not fully converged.
    pub forces: f64,
    /// How far the virial may differ, if the driver returns one.
    pub virial: Option<f64>,
    /// The driver's exit status after EXIT.
    pub status: i32,
}

/// Where to find a driver's version.
#[derive(Clone, Copy)]
pub enum Version {
    /// In its output, with `{}` for the version.
    Said(&'static str),
    /// In the list from which its environment was made, under this package name.
    Listed(&'static str),
}

/// The systems that drivers compute.
#[derive(Clone, Copy)]
pub enum System {
    Argon,
    Water,
    Hydrogen,
    Silicon,
    Copper,
}

/// The directory of this file.
pub const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers");

const SERVERS: &[Server] = &[
    Server {
        name: "i-PI {}",
        version: "3.3.1",
        environment: "ipi",
        conversations: "classic, consolidated, batched",
        checks: "1 and 8 beads; INIT never, once and always; the trajectory is that of i-PI's own driver",
        tests: &[
            "classic_over_tcp",
            "classic_over_a_unix_socket",
            "consolidated_over_tcp",
            "consolidated_over_a_unix_socket",
            "batches_over_tcp",
            "batches_over_a_unix_socket",
            "without_init",
            "with_init_before_every_structure",
            "springs_of_the_python_driver",
        ],
        source: include_str!("ipi.rs"),
    },
    Server {
        name: "ASE {}",
        version: "3.29.0",
        environment: "ase",
        conversations: "classic",
        checks: "INIT never, once and always; energies, forces and stress are those of ASE's own Lennard-Jones; \
                 closes without EXIT",
        tests: &[
            "ase_agrees_over_tcp_and_closes_without_exit",
            "ase_agrees_over_a_unix_socket_and_closes_without_exit",
            "ase_needs_no_init",
            "ase_gives_init_before_every_structure",
        ],
        source: include_str!("ase.rs"),
    },
];

/// The values for most drivers: a Debian program with self-consistent energies, which ends with
/// success on EXIT.
const DRIVER: Driver = Driver {
    key: "",
    name: "",
    version: "",
    seen: Said(""),
    environment: None,
    command: "",
    tcp: "127.0.0.1:{port}",
    unix: "{name}:UNIX",
    input: None,
    system: Hydrogen,
    modes: &[Classic, Consolidated, Strict],
    fold: false,
    again: 1e-7,
    forces: 3e-5,
    virial: Some(3e-5),
    status: 0,
};

const PYTHON_DRIVER: Driver = Driver {
    version: "3.3.1",
    seen: Listed("ipi"),
    environment: Some("ipi"),
    tcp: "-a 127.0.0.1 -p {port}",
    unix: "-u -a {name}",
    system: Argon,
    modes: &[Classic, Consolidated, Strict, Batched(2)],
    again: 1e-12,
    ..DRIVER
};

const ASE: Driver = Driver {
    tcp: "{port}",
    unix: "unix:{name}",
    ..DRIVER
};

const LAMMPS: Driver = Driver {
    name: "LAMMPS {}",
    seen: Said("LAMMPS ({}"),
    command: "lmp -in lammps.in",
    tcp: "127.0.0.1 {port}",
    unix: "{name} 1 unix",
    input: Some(("lammps.in", include_str!("drivers/lammps.in"))),
    system: Argon,
    again: 1e-8,
    status: 1,
    ..DRIVER
};

pub const DRIVERS: &[Driver] = &[
    Driver {
        key: "harmonic",
        name: "i-PI {}'s Python driver, `harmonic`",
        command: "i-pi-py_driver -m harmonic -o 0.01 {address}",
        virial: None,
        ..PYTHON_DRIVER
    },
    Driver {
        key: "lennard_jones",
        name: "i-PI {}'s Python driver, Lennard-Jones",
        command: "i-pi-py_driver -m custom -P {here}/lj.py -o 6.43452,0.000379384,8.5 {address}",
        ..PYTHON_DRIVER
    },
    Driver {
        key: "xtb",
        name: "xTB (tblite {}) in i-PI's Python driver",
        version: "0.8.0",
        seen: Listed("tblite"),
        environment: Some("xtb"),
        command: "i-pi-py_driver -m xtb -o template=water.xyz,method=GFN2-xTB {address}",
        input: Some(("water.xyz", include_str!("drivers/water.xyz"))),
        system: Water,
        // Each calculation starts from scratch.
        again: 1e-9,
        // Converged to 1e-6 hartree.
        forces: 1e-4,
        ..PYTHON_DRIVER
    },
    Driver {
        key: "ase",
        name: "ASE {}'s client with EMT",
        version: "3.29.0",
        seen: Said("ASE {}"),
        environment: Some("ase"),
        command: "python {here}/drivers/ase_client.py emt {address}",
        system: Copper,
        again: 1e-11,
        ..ASE
    },
    Driver {
        key: "lammps",
        version: "22 Jul 2025",
        environment: Some("lammps"),
        ..LAMMPS
    },
    Driver {
        key: "debian_lammps",
        version: "29 Sep 2021",
        fold: true,
        ..LAMMPS
    },
    Driver {
        key: "quantum_espresso",
        name: "Quantum ESPRESSO {}",
        version: "6.7",
        seen: Said("Program PWSCF v.{}"),
        command: "pw.x -in si.pwi -ipi {address}",
        input: Some(("si.pwi", include_str!("drivers/si.pwi"))),
        system: Silicon,
        ..DRIVER
    },
    Driver {
        key: "cp2k",
        name: "CP2K {}",
        version: "2023.1",
        seen: Said("CP2K version {}"),
        command: "cp2k.psmp -i h2.inp",
        tcp: "HOST 127.0.0.1\n    PORT {port}",
        unix: "HOST {name}\n    UNIX",
        input: Some(("h2.inp", include_str!("drivers/h2.inp"))),
        again: 1e-6,
        // The grid for the exchange-correlation energy does not move with the atoms.
        forces: 2e-4,
        ..DRIVER
    },
    Driver {
        key: "nwchem",
        name: "NWChem {}",
        version: "7.0.2",
        seen: Said("(NWChem) {}"),
        command: "nwchem water.nw",
        tcp: "ipi_client 127.0.0.1:{port}",
        unix: "unix {name}",
        input: Some(("water.nw", include_str!("drivers/water.nw"))),
        system: Water,
        virial: None,
        ..DRIVER
    },
    Driver {
        key: "abinit",
        name: "ABINIT {}",
        version: "9.6.2",
        seen: Said("ABINIT {}"),
        command: "abinit h2.abi --ipi {address}",
        input: Some(("h2.abi", include_str!("drivers/h2.abi"))),
        modes: &[Strict],
        again: 1e-8,
        // Plane waves enter and leave smoothly while the cell changes.
        virial: Some(2e-3),
        status: 14,
        ..DRIVER
    },
    Driver {
        key: "gpaw",
        name: "GPAW {} with ASE 3.22's client",
        version: "22.8.0",
        seen: Said("GPAW {}"),
        command: "/usr/bin/python3 {here}/drivers/ase_client.py gpaw {address}",
        again: 1e-6,
        forces: 1e-4,
        // With a strained cell, the number of plane waves changes in jumps.
        virial: Some(3e-2),
        ..ASE
    },
];

impl Driver {
    pub fn named(key: &str) -> Self {
        *DRIVERS.iter().find(|driver| driver.key == key).unwrap()
    }

    /// The name of the driver in the manual.
    pub fn title(&self) -> String {
        self.name.replace("{}", self.version)
    }

    fn conversations(&self) -> String {
        let name = |mode: &Mode| match mode {
            Classic => "classic",
            Consolidated => "consolidated",
            Strict => "strict",
            Batched(_) => "batched",
        };
        self.modes.iter().map(name).collect::<Vec<_>>().join(", ")
    }

    fn checks(&self) -> String {
        let mut checks = String::from("energies, forces");
        if self.virial.is_some() {
            checks += ", virial";
        }
        if self.fold {
            checks += "; atoms are folded into the cell for it";
        }
        if self.status != 0 {
            checks += &format!("; EXIT ends it with status {}", self.status);
        }
        checks
    }
}

/// The lines of the manual's table.
fn table() -> String {
    let row = |cells: [&str; 5]| format!("| {} |\n", cells.join(" | "));
    let header = row(["peer", "role", "conversations", "what is checked", "by"]);
    let servers = SERVERS.iter().map(|server| {
        let title = server.name.replace("{}", server.version);
        let (conversations, checks) = (server.conversations, server.checks);
        row([&title, "server", conversations, checks, "`tests/run`"])
    });
    let drivers = DRIVERS.iter().map(|driver| {
        let by = match codes::TESTED.contains(&driver.key) {
            true => "`tests/run drivers`",
            false => "`tests/run`",
        };
        let (conversations, checks) = (driver.conversations(), driver.checks());
        row([&driver.title(), "driver", &conversations, &checks, by])
    });
    let lines = "|---|---|---|---|---|\n".to_owned();
    [header, lines]
        .into_iter()
        .chain(servers)
        .chain(drivers)
        .collect()
}

#[test]
fn what_the_table_says_is_tested() {
    for server in SERVERS {
        for test in server.tests {
            let test = format!("\nfn {test}() {{");
            assert!(server.source.contains(&test), "{}: {test}", server.name);
        }
        assert_listed(server.environment, server.environment, server.version);
    }
    for driver in DRIVERS {
        if let Listed(package) = driver.seen {
            assert_listed(driver.environment.unwrap(), package, driver.version);
        }
    }
    let tested = drivers::TESTED.iter().chain(codes::TESTED);
    assert!(tested.eq(DRIVERS.iter().map(|driver| &driver.key)));
}

fn assert_listed(environment: &str, package: &str, version: &str) {
    let list = format!("{HERE}/{environment}.txt");
    let line = format!("\n{package}=={version}\n");
    assert!(
        fs::read_to_string(&list).unwrap().contains(&line),
        "{line} is not in {list}"
    );
}

#[test]
fn the_manual_has_this_table() {
    page::hold(
        "src/manual/peers.md",
        "peers",
        &table(),
        "cargo test --test peers manual",
    );
}
