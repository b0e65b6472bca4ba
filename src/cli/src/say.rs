//! Messages on standard error. A log that can't be written never ends a run.

use std::fmt::Display;
use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

/// Writes a line to standard error, ignoring failures.
pub fn say(text: impl Display) {
    let _ = writeln!(io::stderr(), "forcewire: {text}");
}

/// Why a command has failed.
#[derive(Debug)]
pub enum Failure {
    /// A flag makes no sense: status 2.
    Usage(String),
    /// Something went wrong: status 1.
    Run(String),
    /// A program that was started has printed the reason; this is its status.
    Command(u8),
}

impl Failure {
    pub fn report(self) -> ExitCode {
        match self {
            Self::Usage(text) => {
                say(format_args!("{text} (--help lists the flags)"));
                ExitCode::from(2)
            }
            Self::Run(text) => {
                say(text);
                ExitCode::FAILURE
            }
            Self::Command(status) => ExitCode::from(status),
        }
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self::Run(text)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Run(error.to_string())
    }
}

/// Locks a file for this process for as long as the file is open.
///
/// If a batch system started a job twice, everything would be written twice.
pub fn lock(file: &File, path: &str) -> Result<(), String> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(format!("{path}: another forcewire is writing it")),
        // The file system may have no locks.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
    }
}

/// "1 driver", "2 drivers".
pub fn counted(count: impl Into<u64>, what: &str) -> String {
    match count.into() {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}

/// "up to 60s", or "without a limit".
pub fn up_to(limit: Duration) -> String {
    match limit {
        Duration::MAX => "without a limit".into(),
        limit => format!("up to {limit:?}"),
    }
}
