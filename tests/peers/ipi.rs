//! i-PI as the server: an unmodified `i-pi input.xml`.
//!
//! Its trajectories must be those that i-PI makes with forces from elsewhere: its built-in Lennard-Jones
//! (`fflj`), or its own Python driver.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::sync::Mutex;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::process::{self, Process, peer, report};

/// Relative to the largest number of a column. Runs agree to about 1e-15, so there is room for other compilers.
const TOLERANCE: f64 = 1e-10;

/// What is simulated, and who else can.
#[derive(Clone, Copy, Debug, PartialEq)]
enum System {
    /// 13 atoms of argon in a large box, as `fflj` has it: every pair, no images, no virial.
    Cluster,
    /// 32 atoms of argon in a triclinic box with the tail's correction. `lj.py` in i-PI's driver.
    Crystal,
    /// The same at constant pressure, so that the virial moves the box. No tail, and a cutoff that no pair crosses.
    Barostat,
    /// This many atoms on springs. `-m harmonic` of i-PI's driver.
    Trap(usize),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Messages {
    Classic,
    Consolidated,
    Batches(usize),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Transport {
    Tcp,
    Unix,
}

use Messages::{Batches, Classic, Consolidated};
use System::{Barostat, Cluster, Crystal, Trap};
use Transport::{Tcp, Unix};

#[derive(Clone, Copy, Debug)]
struct Simulation {
    system: System,
    beads: usize,
    steps: usize,
    messages: Messages,
    transport: Transport,
    /// Seconds after which i-PI drops a driver that does not reply; 0 is never.
    timeout: f64,
}

#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn classic_over_tcp() {
    over(Tcp, Classic);
}

#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn classic_over_a_unix_socket() {
    over(Unix, Classic);
}

#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn consolidated_over_tcp() {
    over(Tcp, Consolidated);
}

#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn consolidated_over_a_unix_socket() {
    over(Unix, Consolidated);
}

#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn batches_over_tcp() {
    over(Tcp, Batches(4));
}

#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn batches_over_a_unix_socket() {
    over(Unix, Batches(4));
}

/// One bead (which i-PI sends four times if it batches) and eight.
fn over(transport: Transport, messages: Messages) {
    for beads in [1, 8] {
        Simulation::new(Cluster, beads, 50)
            .says(messages)
            .over(transport)
            .agrees(&[]);
    }
}

#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn batches_that_come_out_uneven() {
    Simulation::new(Cluster, 8, 20).says(Batches(3)).agrees(&[]);
}

#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn triclinic_crystal_with_its_tail() {
    for messages in [Classic, Consolidated, Batches(4)] {
        Simulation::new(Crystal, 8, 20).says(messages).agrees(&[]);
    }
}

#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn crystal_whose_cell_follows_the_virial() {
    for messages in [Classic, Consolidated] {
        Simulation::new(Barostat, 1, 50).says(messages).agrees(&[]);
    }
    Simulation::new(Barostat, 8, 20)
        .says(Batches(4))
        .agrees(&[]);
}

#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn springs_of_the_python_driver() {
    for beads in [1, 8] {
        Simulation::new(Trap(5), beads, 50).agrees(&[]);
    }
}

#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn messages_larger_than_every_buffer() {
    for (transport, messages) in [(Tcp, Classic), (Unix, Consolidated), (Tcp, Batches(2))] {
        Simulation::new(Trap(5000), 2, 4)
            .says(messages)
            .over(transport)
            .agrees(&[]);
    }
}

#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn without_init() {
    for messages in [Classic, Consolidated] {
        let (trajectory, said) = Simulation::new(Cluster, 8, 20)
            .says(messages)
            .agrees(&["--init", "never"]);
        assert!(!said.contains("replica"), "{trajectory:?} {said}");
    }
}

#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn with_init_before_every_structure() {
    for messages in [Classic, Consolidated, Batches(4)] {
        let simulation = Simulation::new(Cluster, 8, 20).says(messages);
        let said = simulation.agrees(&["--init", "every"]);
        let exchanges = if messages == Batches(4) {
            2 * 21
        } else {
            8 * 21
        };
        let inits = said.matches("driver: replica ").count();
        assert!(
            inits >= exchanges,
            "{inits} INITs in {exchanges} exchanges with {messages:?}"
        );
    }
}

#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn batches_that_were_not_announced_are_refused() {
    for beads in [1, 8] {
        let server = Simulation::new(Cluster, beads, 5).says(Batches(4)).start();
        let (status, said) = server.driver(&["--init", "never"]).end();
        assert_eq!(status, Some(1), "{said}");
        assert!(
            said.contains("sends batches") && said.contains("Initialize::Once"),
            "{said}"
        );
    }
}

#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn two_drivers_share_the_beads() {
    for messages in [Classic, Consolidated, Batches(4)] {
        let simulation = Simulation::new(Trap(5), 8, 400).says(messages);
        let mut server = simulation.start();
        let mut first = server.driver(&["-v"]);
        // The second one is late.
        server.reaches(20);
        let mut second = server.driver(&["-v"]);
        server.ends_like(simulation.reference());
        let (first, second) = (
            evaluations(&first.success()).0,
            evaluations(&second.success()).0,
        );
        assert!(
            first > 20 * 8 && second > 8,
            "{first} and {second} evaluations with {messages:?}"
        );
        simulation.all_are_needed(first + second);
    }
}

#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn driver_waits_for_a_server_that_is_not_there_yet() {
    let simulation = Simulation::new(Trap(5), 1, 50).over(Unix);
    let mut server = simulation.prepare();
    let mut driver = server.driver(&[]);
    driver.until("to find nobody", |log| {
        log.contains("trying again").then_some(())
    });
    server.launch();
    server.ends_like(simulation.reference());
    driver.success();
}

#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn driver_takes_over_from_one_that_was_killed() {
    for (messages, transport) in [(Classic, Tcp), (Consolidated, Unix), (Batches(4), Tcp)] {
        let simulation = Simulation::new(Trap(5), 8, 400)
            .says(messages)
            .over(transport);
        let mut server = simulation.start();
        for at in [20, 40] {
            let mut driver = server.driver(&[]);
            server.reaches(at);
            // i-PI's polling thread does not survive a driver that is gone before it has read everything
            // (`recvall` catches no ConnectionResetError), so this one gets the time to read it.
            server.process().signal("STOP");
            sleep(Duration::from_millis(200));
            driver.kill();
            server.process().signal("CONT");
        }
        let mut last = server.driver(&[]);
        server.ends_like(simulation.reference());
        last.success();
    }
}

#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn driver_that_ipi_dropped_ends_and_another_goes_on() {
    // Not classic: there a thread of i-PI's waits for the slow one for ever, whatever `timeout` says.
    for transport in [Tcp, Unix] {
        let simulation = Simulation::new(Trap(5), 8, 400)
            .over(transport)
            .drops_after(1.0);
        let mut server = simulation.start();
        let mut slow = server.driver(&[]);
        server.reaches(20);
        slow.signal("STOP");
        let mut good = server.driver(&[]);
        server.ends_like(simulation.reference());
        good.success();
        slow.signal("CONT");
        // i-PI says EXIT to those that it drops. Whether the slow one hears it or finds its reply refused
        // first is the transport's affair.
        let (status, said) = slow.end();
        assert!(
            status == Some(0) || status == Some(1) && said.contains("lost:"),
            "{status:?} {said}"
        );
    }
}

#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn driver_ends_well_when_ipi_is_asked_to_stop() {
    for messages in [Classic, Consolidated, Batches(4)] {
        let mut server = Simulation::new(Trap(5), 8, 1_000_000)
            .says(messages)
            .start();
        let mut driver = server.driver(&[]);
        server.reaches(20);
        server.process().signal("TERM");
        driver.success();
    }
}

#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn driver_says_that_ipi_is_gone() {
    for transport in [Tcp, Unix] {
        for messages in [Classic, Consolidated, Batches(4)] {
            let mut server = Simulation::new(Trap(5), 8, 1_000_000)
                .says(messages)
                .over(transport)
                .start();
            let mut driver = server.driver(&[]);
            server.reaches(20);
            server.process().kill();
            let (status, said) = driver.end();
            assert_eq!(status, Some(1), "{said}");
            // Between two messages, inside one, or with a reply that was never read.
            let reasons = [
                "closed the connection without EXIT",
                "closed the connection inside",
                "lost:",
            ];
            assert!(reasons.iter().any(|reason| said.contains(reason)), "{said}");
        }
    }
}

impl Simulation {
    const fn new(system: System, beads: usize, steps: usize) -> Self {
        Self {
            system,
            beads,
            steps,
            messages: Consolidated,
            transport: Tcp,
            timeout: 0.0,
        }
    }

    /// One driver of ours makes the trajectory that it should be, and computes no structure twice.
    fn agrees(self, flags: &[&str]) -> String {
        let mut server = self.start();
        let mut driver = server.driver(&[&["-v"], flags].concat());
        let (begun, ended) = (server.writes(1), server.writes(self.steps + 1));
        server.ends_like(self.reference());
        let said = driver.success();
        self.all_are_needed(evaluations(&said));
        let Self {
            system,
            beads,
            messages,
            transport,
            ..
        } = self;
        let what = format!(
            "{system:?}, beads: {beads}, {messages:?}, {transport:?} {}",
            flags.join(" ")
        );
        report(&what, self.steps * beads, ended - begun);
        said
    }

    /// No structure was computed twice.
    fn all_are_needed(&self, evaluations: usize) {
        let needed = (self.steps + 1) * self.beads;
        if let Batches(size) = self.messages {
            // i-PI fills up batches, and begins one before all beads are there.
            assert!(
                evaluations >= needed && evaluations.is_multiple_of(size),
                "{evaluations} in {self:?}"
            );
        } else {
            assert_eq!(evaluations, needed, "{self:?}");
        }
    }

    /// The trajectory as i-PI makes it without us. Each is made once.
    fn reference(self) -> Trajectory {
        static MADE: Mutex<Vec<((System, usize, usize), Trajectory)>> = Mutex::new(Vec::new());
        // Not locked while it is made: a test that fails must not take the others along.
        let key = (self.system, self.beads, self.steps);
        let made = MADE
            .lock()
            .unwrap()
            .iter()
            .find(|made| made.0 == key)
            .map(|made| made.1.clone());
        made.unwrap_or_else(|| {
            let mut server = Self { messages: Consolidated, transport: Unix, timeout: 0.0, ..self }.prepare();
            if self.system == Cluster {
                server.forcefield = format!(
                    "<fflj name='peer'> <parameters> {{ sigma: {SIGMA}, eps: {EPSILON} }} </parameters> </fflj>"
                );
                server.launch();
                server.process().success();
            } else {
                server.launch();
                let mut command = server.address(peer("ipi", "i-pi-py_driver"));
                let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/lj.py");
                let (spring, crystal, barostat) = (
                    SPRING.to_string(),
                    format!("{SIGMA},{EPSILON},{CUTOFF},1"),
                    format!("{SIGMA},{EPSILON},{CUTOFF},0"),
                );
                match self.system {
                    Trap(_) => command.args(["-m", "harmonic", "-o", &spring]),
                    Crystal => command.args(["-m", "custom", "-P", script, "-o", &crystal]),
                    _ => command.args(["-m", "custom", "-P", script, "-o", &barostat]),
                };
                let _driver = Process::start(&mut command, "theirs", server.directory.path());
                server.process().success();
            }
            let trajectory = server.trajectory();
            assert_eq!(trajectory.len(), self.steps + 1);
            MADE.lock().unwrap().push((key, trajectory.clone()));
            trajectory
        })
    }

    /// Starts i-PI and waits until there is something to connect to.
    fn start(self) -> Server {
        let mut server = self.prepare();
        server.launch();
        server
    }

    fn prepare(self) -> Server {
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let Self {
            messages, timeout, ..
        } = self;
        let place = match self.transport {
            Tcp => format!("<address> 127.0.0.1 </address> <port> {port} </port>"),
            Unix => format!("<address> {NAME} </address>"),
        };
        let mode = if self.transport == Tcp {
            "inet"
        } else {
            "unix"
        };
        let batch = if let Batches(size) = messages {
            size
        } else {
            1
        };
        let forcefield = format!(
            "<ffsocket name='peer' mode='{mode}' pbc='False'> {place} <timeout> {timeout} </timeout>
               <consolidate_messages> {} </consolidate_messages> <batch_size> {batch} </batch_size> </ffsocket>",
            if messages == Classic { "False" } else { "True" }
        );
        Server {
            simulation: self,
            directory,
            port,
            forcefield,
            process: None,
        }
    }
}

/// An i-PI in a directory of its own.
struct Server {
    simulation: Simulation,
    directory: TempDir,
    port: u16,
    forcefield: String,
    process: Option<Process>,
}

impl Server {
    fn launch(&mut self) {
        let Simulation {
            system,
            beads,
            steps,
            transport,
            ..
        } = self.simulation;
        let (cell, atoms) = system.start();
        let dynamics = match system {
            Barostat => {
                "<dynamics mode='npt'> <timestep units='femtosecond'> 2 </timestep>
                   <thermostat mode='langevin'> <tau units='femtosecond'> 100 </tau> </thermostat>
                   <barostat mode='flexible'> <tau units='femtosecond'> 100 </tau>
                     <thermostat mode='langevin'> <tau units='femtosecond'> 100 </tau> </thermostat> </barostat>
                 </dynamics>"
            }
            _ => "<dynamics mode='nve'> <timestep units='femtosecond'> 2 </timestep> </dynamics>",
        };
        let input = include_str!("input.xml")
            .replace("{steps}", &steps.to_string())
            .replace("{beads}", &beads.to_string())
            .replace("{forcefield}", &self.forcefield)
            // `fflj` and the Python driver's springs leave it 0.
            .replace(
                "{virial}",
                if matches!(system, Crystal | Barostat) {
                    ", virial_cv"
                } else {
                    ""
                },
            )
            .replace("{cell}", &format!("{:?}", cell.as_flattened()))
            .replace("{dynamics}", dynamics);
        let directory = self.directory.path();
        fs::write(directory.join("input.xml"), input).unwrap();
        let mut start = format!(
            "{}\n# CELL{{H}} positions{{atomic_unit}} cell{{atomic_unit}}\n",
            atoms.len()
        );
        for [x, y, z] in atoms {
            writeln!(start, "Ar {x} {y} {z}").unwrap();
        }
        fs::write(directory.join("start.xyz"), start).unwrap();

        let mut command = peer("ipi", "i-pi");
        command
            .arg("-S")
            .arg(self.prefix())
            .arg("input.xml")
            .current_dir(directory);
        let mut process = Process::start(&mut command, "i-PI", directory);
        if self.forcefield.contains("ffsocket") {
            let created = if transport == Tcp {
                "Created inet socket"
            } else {
                "Created unix socket"
            };
            process.until("to listen", |log| log.contains(created).then_some(()));
        }
        self.process = Some(process);
    }

    fn process(&mut self) -> &mut Process {
        self.process.as_mut().unwrap()
    }

    fn prefix(&self) -> String {
        format!("{}/", self.directory.path().display())
    }

    /// The same flags for their driver and ours.
    fn address(&self, mut command: Command) -> Command {
        match self.simulation.transport {
            Tcp => command.args(["-a", "127.0.0.1", "-p", &self.port.to_string()]),
            Unix => command.args(["-u", "-a", NAME, "-S", &self.prefix()]),
        };
        command
    }

    /// Starts a driver of ours.
    fn driver(&self, flags: &[&str]) -> Process {
        let mut command = self.address(process::driver());
        match self.simulation.system {
            Cluster => {
                let argon = format!("{SIGMA},{EPSILON},inf");
                command.args(["-m", "lj", "-o", &argon, "--cutoff", "truncated"])
            }
            Crystal => command.args(["-m", "lj", "-o", &format!("{SIGMA},{EPSILON},{CUTOFF}")]),
            Barostat => {
                let argon = format!("{SIGMA},{EPSILON},{CUTOFF}");
                command.args(["-m", "lj", "-o", &argon, "--cutoff", "truncated"])
            }
            Trap(_) => command.args(["-m", "harm3d", "-o", &SPRING.to_string()]),
        };
        let number = fs::read_dir(self.directory.path()).unwrap().count();
        Process::start(
            command.args(flags),
            &format!("driver{number}"),
            self.directory.path(),
        )
    }

    /// Waits until the simulation is at this step, and has not come to its end.
    fn reaches(&mut self, step: usize) {
        self.writes(step + 1);
        let (done, steps) = (self.trajectory().len(), self.simulation.steps);
        assert!(
            done <= steps,
            "the test came too late, all {steps} steps are done"
        );
    }

    /// Waits for so many rows of the trajectory; when they were there.
    fn writes(&mut self, count: usize) -> Instant {
        let path = self.directory.path().join("simulation.out");
        self.process().until("to compute", |_| {
            let output = fs::read_to_string(&path).unwrap_or_default();
            (rows(&output).len() >= count).then(Instant::now)
        })
    }

    /// Waits for the end of the simulation and compares.
    fn ends_like(&mut self, reference: Trajectory) {
        let log = self.process().success();
        let trajectory = self.trajectory();
        assert_eq!(trajectory.len(), reference.len(), "i-PI said:\n{log}");
        for column in 0..reference[0].len() {
            let largest = reference
                .iter()
                .map(|row| row[column].abs())
                .fold(0.0, f64::max);
            for (ours, theirs) in trajectory.iter().zip(&reference) {
                let error = (ours[column] - theirs[column]).abs();
                assert!(
                    error <= TOLERANCE * largest,
                    "column {column} at step {}: {} and, without forcewire, {}, in {:?}",
                    theirs[0],
                    ours[column],
                    theirs[column],
                    self.simulation
                );
            }
        }
    }

    fn trajectory(&self) -> Trajectory {
        let path = self.directory.path().join("simulation.out");
        rows(&fs::read_to_string(path).unwrap())
    }
}

/// The numbers that `input.xml` asks for, one row a step.
type Trajectory = Vec<Vec<f64>>;

fn rows(output: &str) -> Trajectory {
    let complete = output
        .rsplit_once('\n')
        .map_or("", |(complete, _)| complete);
    complete
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            line.split_whitespace()
                .map(|number| number.parse().unwrap())
                .collect()
        })
        .collect()
}

/// Evaluations and seconds, from what the driver says at its end.
fn evaluations(said: &str) -> (usize, f64) {
    let parse = |line: &str| {
        let (count, rest) = line
            .strip_prefix("driver: ")?
            .split_once(" evaluations in ")?;
        Some((count.parse().ok()?, rest.split_once(' ')?.0.parse().ok()?))
    };
    said.lines()
        .find_map(parse)
        .unwrap_or_else(|| panic!("{said}"))
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

impl System {
    /// h by rows and the atoms' positions, bohr. i-PI adds velocities.
    fn start(self) -> ([[f64; 3]; 3], Vec<[f64; 3]>) {
        let [large, small] =
            [200.0, 20.0].map(|edge| [[edge, 0.0, 0.0], [0.0, edge, 0.0], [0.0, 0.0, edge]]);
        match self {
            Cluster => (large, fcc(-1, 2).collect()),
            Crystal | Barostat => {
                let [[a, ..], ..] = small;
                let h = [[a, 1.0, -0.6], [0.0, a, 0.8], [0.0, 0.0, a]];
                let skew = |[x, y, z]: [f64; 3]| [x + (1.0 * y - 0.6 * z) / a, y + 0.8 * z / a, z];
                (h, fcc(0, 4).map(skew).collect())
            }
            Trap(natoms) => (
                large,
                lattice(0..40)
                    .take(natoms)
                    .map(|atom| atom.map(|x| x / 50.0))
                    .collect(),
            ),
        }
    }
}

/// Sites of an fcc lattice with an edge of 10 bohr, from and up to these coordinates in half edges.
fn fcc(from: i32, to: i32) -> impl Iterator<Item = [f64; 3]> {
    let n = to - from;
    (0..n * n * n)
        .map(move |i| [i / (n * n), i / n % n, i % n].map(|x| from + x))
        .filter(|[x, y, z]| (x + y + z) % 2 == 0)
        .map(|site| site.map(|x| 5.0 * f64::from(x)))
}

/// Argon, bohr and hartree.
const SIGMA: f64 = 6.43452;
const EPSILON: f64 = 0.000379384;
/// Between the first two shells of neighbours, at 7.1 and 10 bohr.
const CUTOFF: f64 = 8.5;
/// Hartree/bohr²: an atom swings once in 100 steps.
const SPRING: f64 = 0.04;
/// Of the unix socket.
const NAME: &str = "argon";
