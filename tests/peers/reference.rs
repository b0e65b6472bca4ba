//! Answers of drivers to i-PI: `drivers/reference.json`. With the peers installed, this command
//! records it again:
//!
//! ```text
//! FORCEWIRE_RECORD=1 FORCEWIRE_PEERS=DIRECTORY cargo test --test peers drivers:: -- --ignored
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use forcewire::net::{Address, Job};
use forcewire::{Cell, Mode};
use serde_json::{Value, json};

use crate::process::{Process, debian, peer};
use crate::simulation::System::Crystal;
use crate::simulation::free_port;
use crate::table::{Driver, HERE, System, Version};

/// A structure, and a driver's results when i-PI asked for it. There are no forces if the driver
/// returned only the energy.
pub struct Recorded {
    pub job: Job,
    pub energy: f64,
    pub forces: Vec<[f64; 3]>,
    pub virial: Vec<[f64; 3]>,
}

/// The recorded answers of a driver, made now if they are to be recorded.
pub fn recorded(driver: &Driver) -> Vec<Recorded> {
    static DONE: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());
    let mut done = DONE.lock().unwrap_or_else(PoisonError::into_inner);
    let path = format!("{HERE}/drivers/reference.json");
    let text = fs::read_to_string(&path).unwrap();
    let mut all: BTreeMap<String, Value> = serde_json::from_str(&text).unwrap();
    if env::var_os("FORCEWIRE_RECORD").is_some() && done.insert(driver.key) {
        all.insert(driver.key.to_owned(), driver.record());
        fs::write(&path, written(&all)).unwrap();
    }
    let triples = |value: Option<&Value>| -> Vec<[f64; 3]> {
        value.map_or(Vec::new(), |it| serde_json::from_value(it.clone()).unwrap())
    };
    let parse = |it: &Value| {
        let cell = serde_json::from_value(it["cell"].clone()).unwrap();
        Recorded {
            job: Job::new(Cell::from_rows(cell), triples(it.get("positions"))),
            energy: it["energy"].as_f64().unwrap(),
            forces: triples(it.get("forces")),
            virial: triples(it.get("virial")),
        }
    };
    let structures = all[driver.key]["structures"].as_array().unwrap();
    structures.iter().map(parse).collect()
}

/// JSON with a line for each structure.
fn written(all: &BTreeMap<String, Value>) -> String {
    let entry = |(key, it): (&String, &Value)| {
        let Value::Array(structures) = &it["structures"] else {
            unreachable!()
        };
        let lines: Vec<_> = structures.iter().map(|it| format!("    {it}")).collect();
        let (version, server, command) = (&it["version"], &it["server"], &it["command"]);
        format!(
            "\"{key}\": {{\n  \"version\": {version},\n  \"server\": {server},\n  \"command\": {command},\n  \
             \"structures\": [\n{}\n  ]\n}}",
            lines.join(",\n")
        )
    };
    let entries: Vec<_> = all.iter().map(entry).collect();
    format!("{{\n{}\n}}\n", entries.join(",\n"))
}

fn structure(job: &Job) -> Value {
    json!({ "cell": job.cell.h(), "positions": job.positions })
}

impl Driver {
    /// The driver's answers to i-PI.
    fn record(&self) -> Value {
        let directory = tempfile::tempdir().unwrap();
        let jobs = self.system.structures();
        let (found, version) = if self.modes.contains(&Mode::Consolidated) {
            self.give_ipi(&jobs, directory.path())
        } else {
            self.find_alone(&jobs, directory.path())
        };
        let (server, answers) = (&found["server"], found["answers"].as_array().unwrap());
        let mut structures: Vec<_> = jobs.iter().map(structure).collect();
        for (structure, answer) in structures.iter_mut().zip(answers) {
            let answer = answer.as_object().unwrap().clone();
            structure.as_object_mut().unwrap().extend(answer);
        }
        json!({ "version": version, "command": self.command, "server": server, "structures": structures })
    }

    fn give_ipi(&self, jobs: &[Job], directory: &Path) -> (Value, String) {
        let file = directory.join("structures.json");
        let structures = jobs.iter().map(structure).collect();
        fs::write(&file, Value::Array(structures).to_string()).unwrap();
        let port = free_port();
        let mut command = peer("ipi", "python");
        command
            .arg(format!("{HERE}/drivers/ipi_server.py"))
            .arg(port.to_string())
            .arg(if self.fold { "pbc" } else { "nopbc" })
            .arg(file);
        let mut server = Process::start(&mut command, "i-PI", directory);
        server.says("listening");
        let mut driver = self.launch(&Address::tcp("127.0.0.1", port), &jobs[0], directory);
        let log = server.success();
        let found = serde_json::from_str(log.lines().next_back().unwrap()).unwrap();
        (found, self.version_in(&driver.end().1))
    }

    /// For ABINIT 9.6, which i-PI can't drive: computes each structure in a separate run.
    fn find_alone(&self, jobs: &[Job], directory: &Path) -> (Value, String) {
        let (name, text) = self.input.unwrap();
        let (alone, _socket) = text.trim_end().rsplit_once('\n').unwrap();
        let mut version = String::new();
        let energies = jobs.iter().map(|job| {
            fs::write(directory.join(name), self.system.describe(alone, job)).unwrap();
            let mut command = debian("abinit");
            let command = command.arg(name).current_dir(directory);
            let log = Process::start(command, self.key, directory).success();
            version = self.version_in(&log);
            // The last iteration: its number, the energy, and the difference from the previous one.
            let (_, last) = log.rsplit_once("\n ETOT ").unwrap();
            let energy = last.split_whitespace().nth(1).unwrap();
            json!({ "energy": energy.parse::<f64>().unwrap() })
        });
        let energies: Vec<_> = energies.collect();
        (json!({ "server": null, "answers": energies }), version)
    }

    fn version_in(&self, log: &str) -> String {
        match self.seen {
            Version::Listed(package) => format!("{package}=={}", self.version),
            Version::Said(text) => {
                let text = text.replace("{}", self.version);
                let line = log.lines().find(|line| line.contains(&text));
                let line = line.unwrap_or_else(|| panic!("no {text:?} in:\n{log}"));
                // Quantum ESPRESSO prints the time as well.
                let line = line
                    .split_once(" starts on ")
                    .map_or(line, |(line, _)| line);
                line.trim().to_owned()
            }
        }
    }
}

impl System {
    /// One structure near its equilibrium, one with displaced atoms, and one that also has a
    /// changed cell and atoms outside it.
    fn structures(self) -> Vec<Job> {
        let (cell, positions) = match self {
            Self::Argon => Crystal.start(),
            Self::Water => (
                [[10.0, 0.5, -0.3], [0.0, 10.0, 0.4], [0.0, 0.0, 10.0]],
                vec![[5.0, 5.0, 4.78], [5.0, 6.43, 5.87], [5.0, 3.57, 5.87]],
            ),
            Self::Hydrogen => (
                [[6.0, 0.4, -0.2], [0.0, 6.0, 0.3], [0.0, 0.0, 6.0]],
                vec![[2.3, 3.0, 3.0], [3.7, 3.0, 3.0]],
            ),
            Self::Silicon => (
                // A third of the fcc cell, with its first vector along x.
                [
                    [7.2125, 3.60625, 3.60625],
                    [0.0, 6.2462, 2.082066666666667],
                    [0.0, 0.0, 5.889],
                ],
                vec![[0.0; 3], [3.60625, 2.082066666666667, 1.47225]],
            ),
            Self::Copper => (
                [[6.9, 0.1, 0.2], [0.0, 6.9, -0.1], [0.0, 0.0, 6.9]],
                vec![
                    [0.0; 3],
                    [0.15, 3.4, 3.45],
                    [3.55, -0.05, 3.45],
                    [3.5, 3.45, 0.0],
                ],
            ),
        };
        let start = Job::new(Cell::from_rows(cell), positions);
        let mut rattled = start.clone();
        for (i, x) in rattled.positions.as_flattened_mut().iter_mut().enumerate() {
            *x += 0.1 * (1.0 + i as f64).sin();
        }
        let mut last = rattled.clone();
        for (i, j, strain) in [(0, 0, 0.01), (1, 2, -0.02), (2, 2, -0.01)] {
            last = strained(&last, i, j, strain);
        }
        if let Self::Argon = self {
            // Farther out than a driver with a single image would fold back.
            let [a, _, c] = last.cell.vectors();
            for k in 0..3 {
                last.positions[3][k] += 3.0 * a[k] - 2.0 * c[k];
            }
        }
        vec![start, rattled, last]
    }
}

/// (1 + ε) applied to cell and positions, where this element of ε is the only one.
pub fn strained(job: &Job, i: usize, j: usize, by: f64) -> Job {
    let mut rows = *job.cell.h();
    let row = rows[j];
    for k in 0..3 {
        rows[i][k] += by * row[k];
    }
    let mut job = job.clone();
    job.cell = Cell::from_rows(rows);
    for r in &mut job.positions {
        r[i] += by * r[j];
    }
    job
}
