//! The conformance kit with the drivers and servers of forcewire, i-PI and ASE, and with LAMMPS.
//! The manual's tables come from these runs. Each program is started as its users start it, with a
//! time limit of two seconds if it has one.
//!
//! ```text
//! export FORCEWIRE_OVERWRITE=1 FORCEWIRE_PEERS=DIRECTORY
//! cargo test -p forcewire-cli --test check peers -- --ignored --test-threads 1
//! cargo test -p forcewire-cli --test check manual
//! ```

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::{FORCEWIRE, check};

const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/check/records");

/// Inputs of the peers' own tests.
const PEERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/peers");

/// A program under test.
struct Subject {
    /// The name of its results: `records/WHO-ROLE.jsonl`.
    who: &'static str,
    role: &'static str,
    title: &'static str,
    /// The program to start: ours, or one of a peer's environment.
    program: fn() -> Command,
    /// The shell command that starts it, with `{program}`, `{here}` (the directory of records),
    /// `{peers}`, and the kit's own placeholders.
    command: &'static str,
    /// Flags for the kit.
    flags: &'static [&'static str],
}

const FORCEWIRE_DRIVER: Subject = Subject::new(
    "forcewire",
    "driver",
    "`forcewire driver`, lj",
    forcewire,
    "{program} driver -a {host} -p {port} -m lj -o 6.43452,0.000379384,8.5 --patience 2",
);

const FORCEWIRE_SERVER: Subject = Subject::new(
    "forcewire",
    "server",
    "`forcewire md`",
    forcewire,
    "{program} md {here}/argon.xyz --steps 5 --temperature 30 -a {host} -p {port} --timeout 2 \
     --output {directory}/argon",
);

const IPI_DRIVER: Subject = Subject::new(
    "ipi",
    "driver",
    "i-PI 3.3.1's Python driver, harmonic",
    || peer("ipi", "i-pi-py_driver"),
    "{program} -a {host} -p {port} -m harmonic -o 0.01",
);

const IPI_SERVER: Subject = Subject::new(
    "ipi",
    "server",
    "i-PI 3.3.1",
    || peer("ipi", "i-pi"),
    "sed s/PORT/{port}/ '{here}/ipi.xml' > input.xml && cp '{here}/argon.xyz' . && {program} input.xml",
);

const ASE_DRIVER: Subject = Subject::new(
    "ase",
    "driver",
    "ASE 3.29.0's client, EMT",
    || peer("ase", "python"),
    "{program} {peers}/drivers/ase_client.py emt {port}",
);

const ASE_SERVER: Subject = Subject::new(
    "ase",
    "server",
    "ASE 3.29.0, for one driver",
    || peer("ase", "python"),
    "{program} {here}/ase_server.py {port} {here}/argon.xyz",
);

const LAMMPS_DRIVER: Subject = Subject {
    flags: &[
        "--structure",
        concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/check/records/argon32.txt"
        ),
    ],
    ..Subject::new(
        "lammps",
        "driver",
        "LAMMPS 22 Jul 2025, lj/cut",
        || peer("lammps", "lmp"),
        "sed 's/{address}/{host} {port}/' '{peers}/drivers/lammps.in' > lammps.in && {program} -in lammps.in",
    )
};

fn forcewire() -> Command {
    Command::new(FORCEWIRE)
}

fn peer(environment: &str, program: &str) -> Command {
    let peers = env::var("FORCEWIRE_PEERS").expect("FORCEWIRE_PEERS names a directory");
    Command::new(format!("{peers}/{environment}/bin/{program}"))
}

impl Subject {
    const fn new(
        who: &'static str,
        role: &'static str,
        title: &'static str,
        program: fn() -> Command,
        command: &'static str,
    ) -> Self {
        Self {
            who,
            role,
            title,
            program,
            command,
            flags: &[],
        }
    }

    fn command(&self) -> String {
        let program = (self.program)();
        let program = program.get_program().to_str().unwrap();
        let exec = format!("MPLCONFIGDIR={{directory}} exec '{program}'");
        let command = self.command.replace("{program}", &exec);
        format!(
            "cd {{directory}} && {}",
            command.replace("{here}", HERE).replace("{peers}", PEERS)
        )
    }

    /// Runs the kit and compares its findings with the recorded ones.
    fn check(&self) {
        let mut check = check();
        check
            .args([self.role, "--json", "--title", self.title])
            .args(["--command", &self.command()])
            .args(self.flags)
            .args(["--patience", "7", "--start", "60", "--jobs", "8"])
            .envs(
                (self.program)()
                    .get_envs()
                    .filter_map(|(key, value)| Some((key, value?))),
            );
        let output = check.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            matches!(output.status.code(), Some(0 | 1)),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let path = format!("{HERE}/{}-{}.jsonl", self.who, self.role);
        if env::var_os("FORCEWIRE_OVERWRITE").is_some() {
            fs::write(PathBuf::from(path), portable(&text)).unwrap();
            return;
        }
        let recorded = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(
            verdicts(&text),
            verdicts(&recorded),
            "other verdicts than {path} has; FORCEWIRE_OVERWRITE=1 writes it anew"
        );
    }
}

/// Removes what differs between runs: ports, addresses and times.
fn portable(text: &str) -> String {
    let mut lines = String::new();
    for line in text.lines() {
        let mut row: Value = serde_json::from_str(line).unwrap();
        row.as_object_mut().unwrap().remove("seconds");
        let because = row["because"].as_str().unwrap();
        let mut words: Vec<_> = because.split(' ').collect();
        for word in &mut words {
            if word.starts_with("127.0.0.1:") {
                *word = "127.0.0.1";
            }
            if word
                .bytes()
                .all(|byte| byte.is_ascii_digit() || b"),".contains(&byte))
                && word.len() > 5
                && word.ends_with(')')
            {
                *word = "PORT)";
            }
        }
        row["because"] = words.join(" ").into();
        lines += &format!("{row}\n");
    }
    lines
}

fn verdicts(text: &str) -> BTreeMap<String, String> {
    let rows = text.lines().map(|line| {
        let row: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| row[key].as_str().unwrap().to_owned();
        (
            text("situation"),
            format!("{} ({})", text("verdict"), text("how")),
        )
    });
    rows.collect()
}

// The kit's findings equal the recorded ones.

#[test]
#[ignore = "needs FORCEWIRE_PEERS"]
fn forcewires_driver_and_server() {
    FORCEWIRE_DRIVER.check();
    FORCEWIRE_SERVER.check();
}

#[test]
#[ignore = "needs FORCEWIRE_PEERS"]
fn ipis_driver() {
    IPI_DRIVER.check();
}

#[test]
#[ignore = "needs FORCEWIRE_PEERS"]
fn ipis_server() {
    IPI_SERVER.check();
}

#[test]
#[ignore = "needs FORCEWIRE_PEERS"]
fn ases_driver() {
    ASE_DRIVER.check();
}

#[test]
#[ignore = "needs FORCEWIRE_PEERS"]
fn ases_server() {
    ASE_SERVER.check();
}

#[test]
#[ignore = "needs FORCEWIRE_PEERS"]
fn lammpss_driver() {
    LAMMPS_DRIVER.check();
}
