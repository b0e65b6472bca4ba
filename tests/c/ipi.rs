//! Complete simulations: an unmodified i-PI 3.3.1, whose output must agree to the last of 17 digits
//! between our Rust driver and a program in C or Fortran.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use tempfile::tempdir;

use crate::process::{Process, peer};
use crate::tools::{call, root};
use crate::wire::listen;

/// Hartree/bohr²: an atom swings once in 100 steps.
pub const SPRING: &str = "0.04";
/// The name of the unix socket.
pub const NAME: &str = "argon";

const STEPS: usize = 20;
const ATOMS: usize = 40;

const INPUT: &str = "\
<simulation verbosity='low' floatformat='%24.16e'>
  <output prefix='simulation'>
    <properties stride='1' filename='out'> [ step, conserved, potential, kinetic_md, virial_cv ] </properties>
    <trajectory stride='1' filename='forces' format='xyz'> forces </trajectory>
  </output>
  <total_steps> {steps} </total_steps>
  <prng> <seed> 31415 </seed> </prng>
  <ffsocket name='springs' mode='{mode}' pbc='False'>
    <address> {address} </address> <port> {port} </port> <timeout> 60 </timeout>
    <consolidate_messages> {consolidated} </consolidate_messages> <batch_size> {batch} </batch_size>
  </ffsocket>
  <system>
    <initialize nbeads='{beads}'>
      <file mode='xyz' units='atomic_unit'> start.xyz </file>
      <cell mode='manual' units='atomic_unit'> [ 60, 1, -2, 0, 60, 3, 0, 0, 60 ] </cell>
      <velocities mode='thermal' units='kelvin'> 30 </velocities>
    </initialize>
    <forces> <force forcefield='springs'/> </forces>
    <ensemble> <temperature units='kelvin'> 30 </temperature> </ensemble>
    <motion mode='dynamics'>
      <dynamics mode='nve'> <timestep units='femtosecond'> 2 </timestep> </dynamics>
    </motion>
  </system>
</simulation>
";

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Simulation {
    pub unix: bool,
    pub consolidated: bool,
    pub beads: usize,
    pub batch: usize,
}

impl Simulation {
    pub const CLASSIC: Self = Self {
        unix: false,
        consolidated: false,
        beads: 1,
        batch: 1,
    };
    pub const CONSOLIDATED: Self = Self {
        consolidated: true,
        ..Self::CLASSIC
    };
    pub const UNIX: Self = Self {
        unix: true,
        ..Self::CONSOLIDATED
    };

    /// i-PI's output with this driver, which receives the port and the prefix of the unix socket.
    pub fn run(self, driver: impl FnOnce(u16, &str) -> Command) -> String {
        let directory = tempdir().unwrap();
        let here = directory.path();
        let prefix = format!("{}/ipi_", here.display());
        let (_, port) = listen();
        let (mode, address) = if self.unix {
            ("unix", NAME)
        } else {
            ("inet", "127.0.0.1")
        };
        let input = INPUT
            .replace("{steps}", &STEPS.to_string())
            .replace("{mode}", mode)
            .replace("{address}", address)
            .replace("{port}", &port.to_string())
            .replace(
                "{consolidated}",
                if self.consolidated { "True" } else { "False" },
            )
            .replace("{batch}", &self.batch.to_string())
            .replace("{beads}", &self.beads.to_string());
        fs::write(here.join("input.xml"), input).unwrap();
        fs::write(here.join("start.xyz"), atoms()).unwrap();
        let mut ipi = peer("ipi", "i-pi");
        ipi.args(["-S", &prefix, "input.xml"]).current_dir(here);
        let mut ipi = Process::start(&mut ipi, "i-PI", here);
        ipi.until("to listen", |_| {
            is_listening(self.unix, port, &prefix).then_some(())
        });
        let mut driver = Process::start(&mut driver(port, &prefix), "driver", here);
        let said = ipi.success();
        driver.success();
        let mut written = String::new();
        let mut files: Vec<_> = fs::read_dir(here)
            .unwrap()
            .map(|it| it.unwrap().path())
            .collect();
        files.sort();
        for file in files {
            let name = file.file_name().unwrap().to_str().unwrap();
            if name.starts_with("simulation.") {
                written += &fs::read_to_string(&file).unwrap();
            }
        }
        let rows = written.lines().filter(|line| !line.contains('#')).count();
        assert!(rows > STEPS * ATOMS, "i-PI said:\n{said}");
        written
    }

    /// The driver's simulation equals the Rust driver's.
    pub fn agrees(self, driver: impl FnOnce(u16, &str) -> Command) {
        static REFERENCES: [OnceLock<String>; 2] = [OnceLock::new(), OnceLock::new()];
        // i-PI's way of asking changes only the order of beads in a batch.
        let reference = match self.beads {
            1 => REFERENCES[0].get_or_init(|| Self::CONSOLIDATED.run(rust)),
            8 => REFERENCES[1].get_or_init(|| {
                Self {
                    beads: 8,
                    ..Self::CONSOLIDATED
                }
                .run(rust)
            }),
            beads => panic!("there is no reference for {beads} beads"),
        };
        assert!(
            self.run(driver) == *reference,
            "{self:?}: a simulation of its own"
        );
    }
}

/// `forcewire driver`.
pub fn rust(port: u16, _: &str) -> Command {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    call(
        Command::new(env!("CARGO"))
            .current_dir(root())
            .args([
                "build",
                "--quiet",
                "--release",
                "--package",
                "forcewire-cli",
                "--target-dir",
            ])
            .arg(target),
    );
    let mut command = Command::new(target.join("release/forcewire"));
    command.args([
        "driver",
        "-a",
        "127.0.0.1",
        "-p",
        &port.to_string(),
        "-m",
        "harm3d",
        "-o",
        SPRING,
    ]);
    command
}

/// Asks the kernel, because a connection would count as a driver.
fn is_listening(unix: bool, port: u16, prefix: &str) -> bool {
    let (file, words) = if unix {
        (
            "/proc/net/unix",
            [format!("{prefix}{NAME}"), "00010000".into()],
        )
    } else {
        (
            "/proc/net/tcp",
            [format!(":{port:04X} 00000000:0000 0A"), ":".into()],
        )
    };
    let sockets = fs::read_to_string(file).unwrap();
    sockets
        .lines()
        .any(|line| words.iter().all(|word| line.contains(word)))
}

/// Argon atoms at irregular places.
fn atoms() -> String {
    let mut text = format!("{ATOMS}\n\n");
    for i in 0..ATOMS {
        let [x, y, z] = [0.37, 0.61, 0.83].map(|x| 9.0 * f64::sin(x * (i + 1) as f64));
        writeln!(text, "Ar {x} {y} {z}").unwrap();
    }
    text
}
