//! The program under test: started by a shell, with its output kept, and ended with its situation.

use std::env;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use tempfile::TempDir;

use super::guard;
use super::line::Address;
use super::processes::descendants;

pub struct Subject {
    /// The guard, which runs until its standard input is closed.
    guard: Child,
    /// The pipe to which the guard writes the program's status.
    ends: ChildStdout,
    /// The status, once the program has ended.
    status: Option<ExitStatus>,
    directory: TempDir,
}

impl Subject {
    /// Starts `command` after filling in `{host}`, `{port}`, `{path}`, `{name}` and `{directory}`.
    pub fn start(command: &str, address: &Address) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let log = File::create(log(directory.path()))?;
        let mut guard = Command::new(this()?);
        guard.args(["check", guard::NAME, "--directory"]);
        guard.arg(directory.path());
        if let Address::Unix(path) = address {
            guard.arg("--socket").arg(path);
        }
        let mut guard = guard
            .arg("--")
            .arg(fill(command, address, directory.path()))
            .env("PYTHONUNBUFFERED", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            // Signals from the terminal are for the kit only.
            .process_group(0)
            .spawn()?;
        let ends = guard.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        fcntl_setfl(&ends, fcntl_getfl(&ends)? | OFlags::NONBLOCK)?;
        Ok(Self {
            guard,
            ends,
            status: None,
            directory,
        })
    }

    /// The program's output so far.
    pub fn said(&self) -> String {
        let bytes = fs::read(log(self.directory.path())).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The program's output after this many bytes.
    pub fn said_since(&self, at: usize) -> String {
        let said = self.said();
        said.get(at..).unwrap_or(&said).to_owned()
    }

    /// The program's status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            // A pipe takes a line this short in one piece.
            let mut line = [0; 32];
            let len = self.ends.read(&mut line).unwrap_or_default();
            let text = std::str::from_utf8(&line[..len]).unwrap_or_default();
            self.status = text.trim().parse().ok().map(ExitStatus::from_raw);
        }
        self.status
    }

    pub fn ends_within(&mut self, patience: Duration) -> Option<ExitStatus> {
        let start = Instant::now();
        while self.ended().is_none() && start.elapsed() < patience {
            sleep(TICK);
        }
        self.ended()
    }

    /// CPU time of the program and all of its descendants.
    pub fn cpu(&self) -> Duration {
        let processes = descendants(self.guard.id());
        processes.iter().map(|process| process.cpu).sum()
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// The path of this executable, even if another version has replaced the file.
fn this() -> io::Result<PathBuf> {
    match cfg!(target_os = "linux") {
        true => Ok("/proc/self/exe".into()),
        false => env::current_exe(),
    }
}

/// How long to sleep between two checks.
pub const TICK: Duration = Duration::from_millis(5);

fn log(directory: &Path) -> std::path::PathBuf {
    directory.join("said.log")
}

fn fill(command: &str, address: &Address, directory: &Path) -> String {
    let (host, port, path) = match address {
        Address::Tcp(host, port) => (host.clone(), port.to_string(), String::new()),
        Address::Unix(path) => (String::new(), String::new(), path.display().to_string()),
    };
    let name = path.strip_prefix(PREFIX).unwrap_or(&path);
    command
        .replace("{host}", &host)
        .replace("{port}", &port)
        .replace("{name}", name)
        .replace("{path}", &path)
        .replace("{directory}", &directory.display().to_string())
}

/// The prefix that i-PI and ASE put before the name of a unix socket.
pub const PREFIX: &str = "/tmp/ipi_";

/// The placeholders that are filled in.
const PLACES: [&str; 5] = ["host", "port", "name", "path", "directory"];

/// Refuses a command with a misspelt placeholder. Other words in braces are left to the programs in
/// it.
pub fn places(command: &str, unix: bool) -> Result<(), String> {
    let mut rest = command;
    while let Some((before, after)) = rest.split_once('{') {
        rest = after;
        let Some((word, _)) = after.split_once('}') else {
            continue;
        };
        // `${port}` is the shell's syntax.
        if before.ends_with('$') || word.is_empty() {
            continue;
        }
        if !PLACES.contains(&word) {
            let lower = word.to_ascii_lowercase();
            if let Some(place) = PLACES.iter().find(|place| alike(&lower, place)) {
                return Err(format!("--command has {{{word}}}: is that {{{place}}}?"));
            }
            continue;
        }
        let (right, instead) = match unix {
            true => (
                !["host", "port"].contains(&word),
                "with --unix it is {path} or {name}",
            ),
            false => (
                !["path", "name"].contains(&word),
                "without --unix it is {host} and {port}",
            ),
        };
        if !right {
            return Err(format!("--command has {{{word}}}: {instead}"));
        }
    }
    Ok(())
}

/// Whether a word differs from this placeholder only in one letter, two swapped letters, or its
/// end.
fn alike(word: &str, place: &str) -> bool {
    if word.len() >= 3 && (word.starts_with(place) || place.starts_with(word)) {
        return true;
    }
    let sorted = |text: &str| {
        let mut letters: Vec<_> = text.chars().collect();
        letters.sort_unstable();
        letters
    };
    let same = |a: &[u8], b: &[u8]| a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let (a, b) = (word.as_bytes(), place.as_bytes());
    let front = same(a, b);
    let back = same(
        &a.iter().rev().copied().collect::<Vec<_>>(),
        &b.iter().rev().copied().collect::<Vec<_>>(),
    );
    let letter = a.len().abs_diff(b.len()) <= 1 && front + back + 1 >= a.len().max(b.len());
    letter || sorted(word) == sorted(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_places_are_refused_and_shells_braces_are_not() {
        assert_eq!(
            places(
                "sed s/{address}/{host}/; awk '{print}'; d {port} ${HOME} ${port} { a; } {}",
                false
            ),
            Ok(())
        );
        assert_eq!(places("d {path} {name} {directory}", true), Ok(()));
        for (command, unix) in [
            ("d {prot}", false),
            ("d {Port}", false),
            ("d {hst}", false),
            ("d {dir}", false),
            ("d {hostname}", false),
            ("d {path}", false),
            ("d {port}", true),
        ] {
            assert!(places(command, unix).is_err(), "{command}");
        }
    }
}
