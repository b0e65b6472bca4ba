//! Results that wait for those of earlier frames, beside the output until it is their turn.
//!
//! Frames of another group, or of a faster driver, are computed before their turn. A run that is
//! killed has them in `OUTPUT.part`, a line of JSON each.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};

use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Kept {
    frame: usize,
    result: String,
}

/// The file, if anything is in it.
pub struct Spool {
    path: Option<String>,
    file: Option<File>,
}

impl Spool {
    /// For the standard output: nothing is kept.
    pub const NONE: Self = Self {
        path: None,
        file: None,
    };

    /// Results that an earlier run has kept, or none.
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
            // The last line may have been cut.
            let lines = text
                .split_inclusive(|byte| *byte == b'\n')
                .filter(|line| line.ends_with(b"\n"));
            kept = lines
                .filter_map(|line| serde_json::from_slice::<Kept>(line).ok())
                .map(|it| (it.frame, it.result.into_bytes()))
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

    /// Removes the file: nothing waits.
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
