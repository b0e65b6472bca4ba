//! The files of a run, and the parts needed for a restart.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use super::integrator::{Atoms, Drift};
use crate::digest::checksum;
use crate::say::lock;

/// The state after a step. JSON keeps every bit of its numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    pub plan: Plan,
    /// The digest of the frame with which the run began.
    pub input: String,
    pub species: Vec<String>,
    /// The cell of the file, in Å, and the cell that is sent, in bohr.
    pub cells: [[[f64; 3]; 3]; 2],
    pub step: u64,
    pub atoms: Atoms,
    pub potential: f64,
    pub virial: [[f64; 3]; 3],
    /// The energy that the thermostat has added, hartree.
    pub given: f64,
    pub drift: Drift,
    /// The sizes in bytes of table and trajectory up to this step.
    pub lengths: [u64; 2],
}

/// The settings that must not change between the parts of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub timestep: f64,
    pub temperature: f64,
    pub langevin: Option<f64>,
    pub seed: u64,
    pub stride: u64,
}

impl Plan {
    /// Describes the flag that has changed, if any.
    pub fn differs(&self, before: &Self) -> Option<String> {
        let changed = |flag: &str, was: String, is: String| {
            (was != is).then(|| format!("{flag} is {is}, and was {was} when the run began"))
        };
        let tau = |plan: &Self| {
            plan.langevin
                .map_or_else(|| "off".into(), |tau| tau.to_string())
        };
        changed(
            "--timestep",
            before.timestep.to_string(),
            self.timestep.to_string(),
        )
        .or_else(|| {
            changed(
                "--temperature",
                before.temperature.to_string(),
                self.temperature.to_string(),
            )
        })
        .or_else(|| changed("--langevin", tau(before), tau(self)))
        .or_else(|| changed("--seed", before.seed.to_string(), self.seed.to_string()))
        .or_else(|| {
            changed(
                "--stride",
                before.stride.to_string(),
                self.stride.to_string(),
            )
        })
    }
}

/// The table and the trajectory.
pub struct Files {
    prefix: Option<String>,
    table: Box<dyn Write>,
    trajectory: Box<dyn Write>,
    /// The sizes of both in bytes.
    pub lengths: [u64; 2],
}

impl Files {
    /// Creates the files of a new run. Existing ones are not overwritten.
    pub fn begin(prefix: Option<String>, is_restart: bool) -> Result<Self, String> {
        let Some(prefix) = prefix else {
            return Ok(Self {
                prefix: None,
                table: Box::new(io::stdout()),
                trajectory: Box::new(io::sink()),
                lengths: [0; 2],
            });
        };
        for end in ["out", "xyz", "restart"] {
            let path = format!("{prefix}.{end}");
            if fs::metadata(&path).is_ok_and(|metadata| metadata.len() > 0) {
                return Err(if is_restart {
                    format!(
                        "{path} is there, and not {prefix}.restart, which --restart needs: bring it back, choose \
                         another --output, or move {path} away"
                    )
                } else {
                    format!(
                        "{path} is there already: go on with --restart, choose another --output, or move it away"
                    )
                });
            }
        }
        Self::go_on(prefix, [0; 2])
    }

    /// Opens the files of a run that continues, and truncates them to these lengths.
    pub fn go_on(prefix: String, lengths: [u64; 2]) -> Result<Self, String> {
        let open = |end: &str, len: u64| -> Result<Box<dyn Write>, String> {
            let path = format!("{prefix}.{end}");
            let named = |error: io::Error| format!("{path}: {error}");
            let file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(&path)
                .map_err(named)?;
            lock(&file, &path)?;
            let now = file.metadata().map_err(named)?.len();
            if now < len {
                return Err(format!(
                    "{path} is shorter than it was when the run was stopped"
                ));
            }
            if now > len {
                file.set_len(len).map_err(named)?;
            }
            Ok(Box::new(file))
        };
        let (table, trajectory) = (open("out", lengths[0])?, open("xyz", lengths[1])?);
        Ok(Self {
            prefix: Some(prefix),
            table,
            trajectory,
            lengths,
        })
    }

    /// Whether the table goes to standard output.
    pub const fn is_stdout(&self) -> bool {
        self.prefix.is_none()
    }

    pub fn write(&mut self, row: &[u8], frame: &[u8]) -> io::Result<()> {
        self.table.write_all(row)?;
        self.table.flush()?;
        self.trajectory.write_all(frame)?;
        self.lengths[0] += row.len() as u64;
        self.lengths[1] += frame.len() as u64;
        Ok(())
    }

    /// Replaces the checkpoint atomically: there is a complete one at any time.
    pub fn keep(&self, checkpoint: &Checkpoint) -> Result<(), String> {
        let Some(prefix) = &self.prefix else {
            return Ok(());
        };
        let (new, path) = (format!("{prefix}.restart.new"), format!("{prefix}.restart"));
        let write = || -> io::Result<()> {
            let mut text = serde_json::to_vec(checkpoint)?;
            let check = checksum(&text);
            text.extend(format!("\n{check}\n").into_bytes());
            let mut file = File::create(&new)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&new, &path)
        };
        write().map_err(|error| format!("can't write {path}: {error}"))
    }

    /// The name of another file with the same prefix.
    pub fn beside(&self, end: &str) -> Option<String> {
        self.prefix.as_ref().map(|prefix| format!("{prefix}.{end}"))
    }
}

/// Reads the checkpoint of an earlier run; `None` if there was none.
pub fn checkpoint(prefix: &str) -> Result<Option<Checkpoint>, String> {
    let path = format!("{prefix}.restart");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{path}: {error}")),
    };
    let (state, check) = text.split_once('\n').unwrap_or_default();
    if check.trim_end() != checksum(state.as_bytes()) {
        return Err(format!(
            "{path} was changed or damaged, its checksum is wrong: begin again with another --output"
        ));
    }
    let checkpoint = serde_json::from_str(state);
    checkpoint
        .map(Some)
        .map_err(|error| format!("{path}: {error}"))
}
