//! Real drivers of the pool. `table.rs` describes each and its requirements.
//!
//! Their energies, forces and virials must equal those that the same program returned to i-PI
//! (`drivers/reference.json`), and forces and virials must agree with differences of the energies.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use forcewire::Mode;
use forcewire::net::{Address, Answered, Job, Pool, PoolOptions};
use tempfile::TempDir;

use crate::process::{Process, debian, peer, report};
use crate::reference::{Recorded, recorded, strained};
use crate::simulation::Transport::{self, Tcp, Unix};
use crate::table::{Driver, HERE, System, Version};

/// Defines two tests for each driver.
macro_rules! drivers {
    ($($key:ident)*) => {
        pub const TESTED: &[&str] = &[$(stringify!($key)),*];

        $(mod $key {
            use crate::drivers::agrees;
            use crate::simulation::Transport::{Tcp, Unix};

            #[test]
            #[ignore = "needs real drivers: tests/peers/README.md"]
            fn agrees_over_tcp() {
                agrees(stringify!($key), Tcp);
            }

            #[test]
            #[ignore = "needs real drivers: tests/peers/README.md"]
            fn agrees_over_a_unix_socket() {
                agrees(stringify!($key), Unix);
            }
        })*
    };
}

drivers! { harmonic lennard_jones xtb ase lammps }

/// The drivers of `tests/run drivers`.
pub mod codes {
    drivers! { debian_lammps quantum_espresso cp2k nwchem abinit gpaw }

    #[test]
    #[ignore = "needs real drivers: tests/peers/README.md"]
    fn debian_lammps_takes_less_than_a_millisecond_over_tcp() {
        super::takes_less_than_a_millisecond(super::Driver::named("debian_lammps"));
    }
}

#[test]
#[ignore = "needs real drivers: tests/peers/README.md"]
fn ase_takes_less_than_a_millisecond_over_tcp() {
    takes_less_than_a_millisecond(Driver {
        command: "python {here}/drivers/ase_client.py springs {address}",
        ..Driver::named("ase")
    });
}

/// The driver returns the same to us as to i-PI, and its results are consistent.
fn agrees(key: &str, transport: Transport) {
    let driver = Driver::named(key);
    let reference = recorded(&driver);
    for &mode in driver.modes {
        let mut session = Session::start(driver, mode, transport, &reference[0].job);
        session.gives(&reference);
        if (Some(&mode), transport) == (driver.modes.first(), Tcp) {
            session.gives_derivatives(&reference[1].job);
        }
        session.ends();
    }
}

/// Both programs write in pieces with Nagle's algorithm on, which costs 40 ms if a piece is not
/// acknowledged at once.
fn takes_less_than_a_millisecond(driver: Driver) {
    let start = &recorded(&driver)[0].job;
    for mode in [Mode::Classic, Mode::Consolidated] {
        let mut session = Session::start(driver, mode, Tcp, start);
        let jobs = (0..200).map(|step| moved(start, 0, 0, 1e-4 * f64::from(step)));
        let answers = session.evaluate(jobs.collect());
        let mut times: Vec<_> = answers.iter().map(|answer| answer.took).collect();
        times.sort();
        // Other tests run at the same time and slow down most evaluations; a delayed
        // acknowledgement slows down all.
        let time = times[times.len() / 10];
        report(&session.what, 1, time);
        assert!(
            time < Duration::from_millis(1),
            "{}: {time:?}",
            session.what
        );
        session.ends();
    }
}

/// A driver and the pool that uses it.
struct Session {
    driver: Driver,
    what: String,
    pool: Pool,
    // Dropped before the directory is removed.
    process: Process,
    _directory: TempDir,
}

impl Session {
    fn start(driver: Driver, mode: Mode, transport: Transport, first: &Job) -> Self {
        let mut pool = Pool::new(
            PoolOptions::default()
                .mode(mode)
                .fold(driver.fold)
                .attempts(Some(1)),
        )
        .unwrap();
        let address = match transport {
            Tcp => Address::tcp("127.0.0.1", 0),
            Unix => Address::unix(Address::PREFIX, &unique_name()),
        };
        let address = pool.listen(&address).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let process = driver.launch(&address, first, directory.path());
        Self {
            driver,
            what: format!("{}, {mode:?}, {transport:?}", driver.title()),
            pool,
            process,
            _directory: directory,
        }
    }

    fn evaluate(&mut self, jobs: Vec<Job>) -> Vec<Answered> {
        let answers = self.pool.evaluate(jobs, Some(LIMIT), |_| {});
        answers
            .unwrap_or_else(|why| panic!("{}: {why}; it said:\n{}", self.what, self.process.log()))
    }

    /// The answers equal the recorded ones.
    fn gives(&mut self, reference: &[Recorded]) {
        let jobs = reference.iter().map(|it| it.job.clone()).collect();
        let answers = self.evaluate(jobs);
        let forces = |it: &Recorded| largest(it.forces.as_flattened());
        let forces = reference.iter().map(forces).fold(0.0, f64::max);
        let virial = |it: &Recorded| largest(it.virial.as_flattened());
        let virial = reference.iter().map(virial).fold(0.0, f64::max);
        let again = self.driver.again;
        for (answer, recorded) in answers.iter().zip(reference) {
            let energy = recorded.energy;
            self.close(
                "energy",
                again * energy.abs(),
                &[answer.evaluation.energy],
                &[energy],
            );
            if recorded.forces.is_empty() {
                continue; // by itself
            }
            let (ours, theirs) = (&answer.job.forces, &recorded.forces);
            self.close(
                "forces",
                again * forces,
                ours.as_flattened(),
                theirs.as_flattened(),
            );
            // LAMMPS sends one triangle, which i-PI reads.
            let theirs = UPPER.map(|(i, j)| recorded.virial[i][j]);
            let ours = answer.evaluation.virial.0;
            self.close(
                "virial",
                again * virial,
                &UPPER.map(|(i, j)| ours[i][j]),
                &theirs,
            );
            self.close(
                "virial",
                again * virial,
                &UPPER.map(|(i, j)| ours[j][i]),
                &theirs,
            );
        }
    }

    /// Forces and virial agree with differences of the energy.
    fn gives_derivatives(&mut self, job: &Job) {
        let natoms = job.positions.len();
        let shifts = [(0, 0), (1, 1), (natoms - 1, 2)];
        let mut jobs = vec![job.clone()];
        for (atom, axis) in shifts {
            jobs.extend([SHIFT, -SHIFT].map(|by| moved(job, atom, axis, by)));
        }
        if self.driver.virial.is_some() {
            for (i, j) in UPPER {
                jobs.extend([STRAIN, -STRAIN].map(|by| strained(job, i, j, by)));
            }
        }
        let answers = self.evaluate(jobs);
        let (at, around) = answers.split_first().unwrap();
        let time = around.iter().map(|answer| answer.took).sum();
        report(&self.what, around.len(), time);

        let (shifted, strained) = around.split_at(2 * shifts.len());
        let forces = shifts.map(|(atom, axis)| at.job.forces[atom][axis]);
        let tolerance = self.driver.forces * largest(at.job.forces.as_flattened());
        let found = slopes(shifted, SHIFT);
        self.close("forces and differences", tolerance, &forces, &found);
        if let Some(tolerance) = self.driver.virial {
            let virial = UPPER.map(|(i, j)| at.evaluation.virial.0[i][j]);
            let found = slopes(strained, STRAIN);
            let tolerance = tolerance * largest(&virial);
            self.close("virial and differences", tolerance, &virial, &found);
        }
    }

    fn close(&self, quantity: &str, tolerance: f64, ours: &[f64], theirs: &[f64]) {
        assert_eq!(ours.len(), theirs.len());
        let errors = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs());
        let error = errors.fold(0.0, f64::max);
        assert!(
            error <= tolerance,
            "{}: {quantity} are off by {error:e}, more than {tolerance:e}: {ours:?} and not {theirs:?}",
            self.what
        );
    }

    /// The driver receives EXIT and ends.
    fn ends(mut self) {
        let still_there = self.pool.close(LIMIT).unwrap();
        let (status, log) = self.process.end();
        let what = &self.what;
        assert_eq!(still_there, 0, "{what} said:\n{log}");
        assert_eq!(status, Some(self.driver.status), "{what} said:\n{log}");
        if let Version::Said(text) = self.driver.seen {
            let text = text.replace("{}", self.driver.version);
            assert!(
                log.contains(&text),
                "no {text:?} in what {what} said:\n{log}"
            );
        }
    }
}

impl Driver {
    /// Starts the driver in a directory with its files. It will connect to this address.
    pub fn launch(&self, address: &Address, first: &Job, directory: &Path) -> Process {
        let address = match address {
            Address::Tcp { port, .. } => self.tcp.replace("{port}", &port.to_string()),
            Address::Unix(path) => {
                let name = path.to_str().unwrap().strip_prefix(Address::PREFIX);
                self.unix.replace("{name}", name.unwrap())
            }
        };
        if let Some((name, text)) = self.input {
            let text = self.system.describe(text, first);
            fs::write(directory.join(name), text.replace("{address}", &address)).unwrap();
        }
        let mut command = self.command(&address);
        Process::start(command.current_dir(directory), self.key, directory)
    }

    fn command(&self, address: &str) -> Command {
        let line = self.command.replace("{address}", address);
        let mut words = line.split(' ');
        let program = words.next().unwrap();
        let mut command = match self.environment {
            Some(environment) => peer(environment, program),
            None => debian(program),
        };
        command.args(words.map(|word| word.replace("{here}", HERE)));
        command
    }
}

impl System {
    fn elements(self) -> &'static [&'static str] {
        match self {
            Self::Argon => &["Ar"; 32],
            Self::Water => &["O", "H", "H"],
            Self::Hydrogen => &["H"; 2],
            Self::Silicon => &["Si"; 2],
            Self::Copper => &["Cu"; 4],
        }
    }

    /// Fills a structure into an input file.
    pub fn describe(self, text: &str, job: &Job) -> String {
        let [a, b, c] = job.cell.vectors().map(numbers);
        let positions: Vec<_> = job.positions.iter().map(|&r| numbers(r)).collect();
        let atoms = positions.iter().zip(self.elements());
        let atoms: Vec<_> = atoms.map(|(r, element)| format!("{element} {r}")).collect();
        text.replace("{a}", &a)
            .replace("{b}", &b)
            .replace("{c}", &c)
            .replace("{positions}", &positions.join("\n"))
            .replace("{atoms}", &atoms.join("\n"))
    }
}

/// Three numbers in the format of input files.
fn numbers(numbers: [f64; 3]) -> String {
    numbers.map(|x| x.to_string()).join(" ")
}

fn largest(numbers: &[f64]) -> f64 {
    numbers.iter().fold(0.0, |largest, x| x.abs().max(largest))
}

/// −dE/dx, from energies at +step and -step in alternation.
fn slopes(pairs: &[Answered], step: f64) -> Vec<f64> {
    let slope =
        |pair: &[Answered]| (pair[1].evaluation.energy - pair[0].evaluation.energy) / (2.0 * step);
    pairs.chunks(2).map(slope).collect()
}

fn moved(job: &Job, atom: usize, axis: usize, by: f64) -> Job {
    let mut job = job.clone();
    job.positions[atom][axis] += by;
    job
}

/// The elements of a symmetric matrix.
const UPPER: [(usize, usize); 6] = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)];

/// Half the distance between two energies whose difference is taken: in bohr, and as a strain of
/// the cell.
const SHIFT: f64 = 0.003;
const STRAIN: f64 = 0.0005;

/// The longest that a test waits for forces.
const LIMIT: Duration = Duration::from_secs(100);

/// A unique name for a socket.
fn unique_name() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("forcewire_{}_{count}", std::process::id())
}
