//! An i-PI simulation in a separate directory, with our drivers or others.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::Instant;

use tempfile::TempDir;

use crate::process::{Process, peer, report};
use forcewire_support::programs;

/// The tolerance, relative to the largest number of a column. The runs differ only by rounding.
const TOLERANCE: f64 = 1e-10;

/// A system to simulate, and the reference for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum System {
    /// 13 argon atoms in a large box, as in `fflj`: every pair, no images, no virial.
    Cluster,
    /// 32 argon atoms in a triclinic box, with the tail correction. `lj.py` in i-PI's driver.
    Crystal,
    /// The crystal at constant pressure: the virial changes the box, and the cutoff scales with it.
    Barostat,
    /// This many argon atoms on springs. `-m harmonic` of i-PI's driver.
    Trap(usize),
}

/// The messages that i-PI uses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Messages {
    Classic,
    Consolidated,
    /// This many structures at once.
    Batches(usize),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Transport {
    Tcp,
    Unix,
}

use Messages::{Batches, Classic, Consolidated};
use System::{Barostat, Cluster, Crystal, Trap};
use Transport::{Tcp, Unix};

#[derive(Clone, Copy, Debug)]
pub struct Simulation {
    system: System,
    beads: usize,
    steps: usize,
    messages: Messages,
    transport: Transport,
    timeout: f64,
}

impl Simulation {
    pub const fn new(system: System, beads: usize, steps: usize) -> Self {
        Self {
            system,
            beads,
            steps,
            messages: Consolidated,
            transport: Tcp,
            timeout: 0.0,
        }
    }

    pub const fn speaking(self, messages: Messages) -> Self {
        Self { messages, ..self }
    }

    pub const fn over(self, transport: Transport) -> Self {
        Self { transport, ..self }
    }

    /// Lets i-PI drop a driver that does not reply for this many seconds.
    pub const fn dropping_after(self, timeout: f64) -> Self {
        Self { timeout, ..self }
    }

    /// Checks that one of our drivers produces the expected trajectory. Returns the driver's
    /// output.
    pub fn agrees(self, flags: &[&str]) -> String {
        let mut server = self.start();
        let mut driver = server.driver(&[&["-v"], flags].concat());
        let (begun, ended) = (server.writes(1), server.writes(self.steps + 1));
        server.ends_like(&self.reference());
        let said = driver.success();
        self.needed(evaluations(&said));
        let Self {
            system,
            beads,
            messages,
            transport,
            ..
        } = self;
        let what = format!("{system:?}, beads {beads}, {messages:?}, {transport:?}");
        let what = [&[what.as_str()], flags].concat().join(" ");
        report(&what, self.steps * beads, ended - begun);
        said
    }

    /// Checks that no structure was evaluated twice.
    pub fn needed(&self, evaluations: usize) {
        let needed = (self.steps + 1) * self.beads;
        match self.messages {
            // i-PI pads its batches, and may send one before all beads are ready.
            Batches(size) => assert!(
                evaluations >= needed && evaluations.is_multiple_of(size),
                "{evaluations} evaluations in {self:?}"
            ),
            Classic | Consolidated => assert_eq!(evaluations, needed, "{self:?}"),
        }
    }

    /// i-PI's trajectory without us. Each is made once.
    pub fn reference(&self) -> Trajectory {
        static MADE: Mutex<Vec<(System, usize, usize, Trajectory)>> = Mutex::new(Vec::new());
        // Not locked while one is made, so that a failing test does not make the others fail.
        let find = || {
            let made = MADE.lock().unwrap();
            made.iter()
                .find(|it| (it.0, it.1, it.2) == (self.system, self.beads, self.steps))
                .map(|it| it.3.clone())
        };
        find().unwrap_or_else(|| {
            let trajectory = self.make_reference();
            assert_eq!(trajectory.len(), self.steps + 1);
            let made = (self.system, self.beads, self.steps, trajectory.clone());
            MADE.lock().unwrap().push(made);
            trajectory
        })
    }

    fn make_reference(&self) -> Trajectory {
        let simulation = Self::new(self.system, self.beads, self.steps).over(Unix);
        let mut server = simulation.prepare();
        let flags = match self.system {
            Cluster => {
                server.forcefield = format!(
                    "<fflj name='peer'> <parameters> {{sigma: {SIGMA}, eps: {EPSILON}}} </parameters> </fflj>"
                );
                server.launch();
                server.process().success();
                return server.trajectory();
            }
            Crystal | Barostat => format!("-m custom -o {SIGMA},{EPSILON},{CUTOFF}"),
            Trap(_) => format!("-m harmonic -o {SPRING}"),
        };
        server.launch();
        let mut command = server.address(peer("ipi", "i-pi-py_driver"));
        command.args(flags.split(' ')).args([
            "-P",
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/lj.py"),
        ]);
        let _driver = Process::start(&mut command, "theirs", server.directory.path());
        server.process().success();
        server.trajectory()
    }

    /// Starts i-PI and waits until drivers can connect.
    pub fn start(&self) -> Server {
        let mut server = self.prepare();
        server.launch();
        server
    }

    /// Prepares everything but does not start i-PI; the drivers already know its address.
    pub fn prepare(&self) -> Server {
        let port = free_port();
        let (mode, address) = match self.transport {
            Tcp => (
                "inet",
                format!("<address> 127.0.0.1 </address> <port> {port} </port>"),
            ),
            Unix => ("unix", format!("<address> {NAME} </address>")),
        };
        let (consolidated, batch) = match self.messages {
            Classic => ("False", 1),
            Consolidated => ("True", 1),
            Batches(size) => ("True", size),
        };
        Server {
            simulation: *self,
            directory: tempfile::tempdir().unwrap(),
            port,
            forcefield: format!(
                "<ffsocket name='peer' mode='{mode}' pbc='False'>
    {address} <timeout> {} </timeout>
    <consolidate_messages> {consolidated} </consolidate_messages> <batch_size> {batch} </batch_size>
  </ffsocket>",
                self.timeout
            ),
            process: None,
        }
    }
}

/// A running i-PI, which ends when this is dropped.
pub struct Server {
    simulation: Simulation,
    // Dropped before the directory is removed.
    process: Option<Process>,
    directory: TempDir,
    port: u16,
    forcefield: String,
}

impl Server {
    pub fn launch(&mut self) {
        let Simulation {
            system,
            beads,
            steps,
            ..
        } = self.simulation;
        let (cell, atoms) = system.start();
        // `fflj` has no virial, and neither have the springs of the Python driver.
        let virial = matches!(system, Crystal | Barostat);
        let input = include_str!("input.xml")
            .replace("{steps}", &steps.to_string())
            .replace("{beads}", &beads.to_string())
            .replace("{forcefield}", &self.forcefield)
            .replace("{virial}", if virial { ", virial_cv" } else { "" })
            .replace("{cell}", &format!("{:?}", cell.as_flattened()))
            .replace("{dynamics}", system.dynamics());
        let mut start = format!("{}\n\n", atoms.len());
        for [x, y, z] in atoms {
            writeln!(start, "Ar {x} {y} {z}").unwrap();
        }
        let directory = self.directory.path();
        fs::write(directory.join("input.xml"), input).unwrap();
        fs::write(directory.join("start.xyz"), start).unwrap();

        let mut command = peer("ipi", "i-pi");
        command
            .args(["-S", &self.prefix(), "input.xml"])
            .current_dir(directory);
        let process = self
            .process
            .insert(Process::start(&mut command, "i-PI", directory));
        if self.forcefield.contains("ffsocket") {
            process.says("@interfacesocket.open: Created");
        }
    }

    /// i-PI itself.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().unwrap()
    }

    /// Starts one of our drivers.
    pub fn driver(&self, flags: &[&str]) -> Process {
        self.start_driver(self.address(programs::driver()), flags)
    }

    /// Starts a relay.
    pub fn relay(&self, flags: &[&str]) -> Process {
        let mut command = programs::relay();
        let server = match self.simulation.transport {
            Tcp => format!("127.0.0.1:{}", self.port),
            Unix => format!("{}{NAME}", self.prefix()),
        };
        command.args(["--to", &server, "--listen"]);
        command.arg(self.directory().join("relay")).args(flags);
        Process::start(&mut command, "the relay", self.directory())
    }

    /// Starts a driver that connects to the relay.
    pub fn driver_of_relay(&self, flags: &[&str]) -> Process {
        let mut command = programs::driver();
        let address = self.directory().join("relay");
        command.args(["-u", "-S", "", "-a"]).arg(address);
        self.start_driver(command, flags)
    }

    fn start_driver(&self, mut command: Command, flags: &[&str]) -> Process {
        let model = match self.simulation.system {
            // Beyond all pairs, but not as far as any image.
            Cluster => format!("-m lj -o {SIGMA},{EPSILON},90 --cutoff truncated"),
            Crystal => format!("-m lj -o {SIGMA},{EPSILON},{CUTOFF}"),
            Barostat => format!("-m lj -o {SIGMA},{EPSILON},{CUTOFF} --cutoff ipi"),
            Trap(_) => format!("-m harm3d -o {SPRING}"),
        };
        // i-PI announces batches only to a driver that asks for INIT.
        command.args(["--init", "once"]);
        command.args(model.split(' ')).args(flags);
        let directory = self.directory.path();
        let number = fs::read_dir(directory).unwrap().count();
        Process::start(&mut command, &format!("driver{number}"), directory)
    }

    /// Waits until the simulation has reached this step, which must be before its end.
    pub fn reaches(&mut self, step: usize) {
        self.writes(step + 1);
        let (done, steps) = (self.trajectory().len(), self.simulation.steps);
        assert!(
            done <= steps,
            "the test came too late, all {steps} steps are done"
        );
    }

    /// Waits for the end of the simulation and compares.
    pub fn ends_like(&mut self, reference: &Trajectory) {
        let log = self.process().success();
        let trajectory = self.trajectory();
        assert_eq!(trajectory.len(), reference.len(), "i-PI said:\n{log}");
        for column in 0..reference[0].len() {
            let largest = reference
                .iter()
                .map(|row| row[column].abs())
                .fold(0.0, f64::max);
            for (ours, theirs) in trajectory.iter().zip(reference) {
                let error = (ours[column] - theirs[column]).abs();
                assert!(
                    error <= TOLERANCE * largest,
                    "column {column} at step {}: {} and, without forcewire, {} in {:?}",
                    theirs[0],
                    ours[column],
                    theirs[column],
                    self.simulation
                );
            }
        }
    }

    /// Waits for this many rows of the trajectory. Returns when they were there.
    fn writes(&mut self, count: usize) -> Instant {
        let path = self.directory.path().join("simulation.out");
        self.process().until("to simulate", |_| {
            let output = fs::read_to_string(&path).unwrap_or_default();
            (rows(&output).len() >= count).then(Instant::now)
        })
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub const fn port(&self) -> u16 {
        self.port
    }

    pub fn trajectory(&self) -> Trajectory {
        rows(&fs::read_to_string(self.directory.path().join("simulation.out")).unwrap())
    }

    /// i-PI's drivers and ours have the same address flags.
    fn address(&self, mut command: Command) -> Command {
        match self.simulation.transport {
            Tcp => command.args(["-a", "127.0.0.1", "-p", &self.port.to_string()]),
            Unix => command.args(["-u", "-a", NAME, "-S", &self.prefix()]),
        };
        command
    }

    fn prefix(&self) -> String {
        format!("{}/ipi_", self.directory.path().display())
    }
}

/// The numbers that `input.xml` requests, a row for each step.
pub type Trajectory = Vec<Vec<f64>>;

fn rows(output: &str) -> Trajectory {
    let complete = output
        .rsplit_once('\n')
        .map_or("", |(complete, _)| complete);
    let numbers =
        |line: &str| -> Result<_, _> { line.split_whitespace().map(str::parse).collect() };
    complete
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| numbers(line).unwrap())
        .collect()
}

/// The number of evaluations that a driver reports at its end.
pub fn evaluations(said: &str) -> usize {
    let parse = |line: &str| {
        let (count, _) = line
            .strip_prefix("forcewire: ")?
            .split_once(" evaluation")?;
        count.parse().ok()
    };
    said.lines()
        .find_map(parse)
        .unwrap_or_else(|| panic!("{said}"))
}

pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

impl System {
    /// h by rows and the positions of the atoms, in bohr. i-PI adds velocities.
    pub fn start(self) -> ([[f64; 3]; 3], Vec<[f64; 3]>) {
        let large = [[200.0, 0.0, 0.0], [0.0, 200.0, 0.0], [0.0, 0.0, 200.0]];
        let skewed = [[20.0, 1.0, -0.6], [0.0, 20.0, 0.8], [0.0, 0.0, 20.0]];
        let skew = |[x, y, z]: [f64; 3]| [x + 0.05 * y - 0.03 * z, y + 0.04 * z, z];
        match self {
            Cluster => (large, fcc(-1..=1).collect()),
            Crystal | Barostat => (skewed, fcc(0..=3).map(skew).collect()),
            Trap(natoms) => (large, fcc(-11..=11).take(natoms).collect()),
        }
    }

    const fn dynamics(self) -> &'static str {
        match self {
            Barostat => {
                "<dynamics mode='npt'>
        <timestep units='femtosecond'> 2 </timestep>
        <thermostat mode='langevin'> <tau units='femtosecond'> 100 </tau> </thermostat>
        <barostat mode='flexible'>
          <tau units='femtosecond'> 100 </tau>
          <thermostat mode='langevin'> <tau units='femtosecond'> 100 </tau> </thermostat>
        </barostat>
      </dynamics>"
            }
            _ => "<dynamics mode='nve'> <timestep units='femtosecond'> 2 </timestep> </dynamics>",
        }
    }
}

/// The sites of an fcc lattice with an edge of 10 bohr, whose coordinates in half edges are in this
/// range.
fn fcc(range: std::ops::RangeInclusive<i32>) -> impl Iterator<Item = [f64; 3]> {
    let (from, n) = (*range.start(), range.count() as i32);
    (0..n * n * n)
        .map(move |i| [i / (n * n), i / n % n, i % n].map(|x| from + x))
        .filter(|[x, y, z]| (x + y + z) % 2 == 0)
        .map(|site| site.map(|x| 5.0 * f64::from(x)))
}

/// Parameters of argon, in bohr and hartree.
const SIGMA: f64 = 6.43452;
const EPSILON: f64 = 0.000379384;
/// The cutoff is between the first two shells of neighbours, at 7.1 and 10 bohr.
const CUTOFF: f64 = 8.5;
/// Hartree/bohr²: an atom swings once in 100 steps.
pub const SPRING: f64 = 0.04;
/// The name of the unix socket.
const NAME: &str = "argon";
