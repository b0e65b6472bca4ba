//! Results that wait in a file next to the output until the results of earlier frames are written.
//!
//! A frame of another group, or of a faster driver, may be computed before its turn. Its result is
//! a line of JSON in `OUTPUT.part`, which survives if the run is killed.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};

use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Kept {
    frame: usize,
    result: String,
}

/// The spool file, if it is not empty.
pub struct Spool {
    path: Option<String>,
    file: Option<File>,
}

impl Spool {
    /// The spool for standard output, which keeps nothing.
    pub const NONE: Self = Self {
        path: None,
        file: None,
    };

    /// Reads the results that an earlier run has kept, if any.
    pub fn open(output: &str, resume: bool) -> io::Result<(Self, BTreeMap<usize, Vec<u8>>)> {
        let path = format!("{output}.part");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let mut spool = Self {
            path: Some(path),
            file: None,
        };
        let mut kept = BTreeMap::new();
        if resume {
            // The last line may be incomplete.
            let lines = text
                .split_inclusive(|byte| *byte == b'\n')
                .filter(|line| line.ends_with(b"\n"));
            kept = lines
                .filter_map(|line| serde_json::from_slice::<Kept>(line).ok())
                .map(|line| (line.frame, line.result.into_bytes()))
                .collect();
        }
        if !text.is_empty() {
            spool.clear()?;
            for (frame, result) in &kept {
                spool.keep(*frame, result)?;
            }
        }
        Ok((spool, kept))
    }

    /// Keeps the result of a frame.
    pub fn keep(&mut self, frame: usize, result: &[u8]) -> io::Result<()> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let result = String::from_utf8_lossy(result).into_owned();
        let mut line = serde_json::to_vec(&Kept { frame, result })?;
        line.push(b'\n');
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(OpenOptions::new().create(true).append(true).open(path)?),
        };
        file.write_all(&line)
    }

    /// Removes the file once no result waits.
    pub fn clear(&mut self) -> io::Result<()> {
        self.file = None;
        match &self.path {
            Some(path) => fs::remove_file(path),
            None => Ok(()),
        }
    }

    pub const fn is_empty(&self) -> bool {
        self.file.is_none()
    }
}
