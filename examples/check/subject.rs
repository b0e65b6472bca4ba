//! The program under test: started by a shell, with all that it says kept, and gone with its situation.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use crate::line::Address;
use crate::report::Finding;

pub struct Subject {
    child: Child,
    /// Once it has ended.
    status: Option<ExitStatus>,
    directory: TempDir,
}

impl Subject {
    /// Starts `command`, in which `{host}`, `{port}`, `{path}`, `{name}` and `{directory}` are filled in.
    pub fn start(command: &str, address: &Address) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let log = File::create(log(directory.path()))?;
        let child = Command::new("sh")
            .arg("-c")
            .arg(fill(command, address, directory.path()))
            .env("PYTHONUNBUFFERED", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // What the shell starts ends with it.
            .process_group(0)
            .spawn()?;
        Ok(Self {
            child,
            status: None,
            directory,
        })
    }

    /// What it has said so far.
    pub fn said(&self) -> String {
        let bytes = fs::read(log(self.directory.path())).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What it has said after so many bytes.
    pub fn said_since(&self, at: usize) -> String {
        let said = self.said();
        said.get(at..).unwrap_or(&said).to_owned()
    }

    /// Whether it has ended by now.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().ok().flatten();
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
}

impl Drop for Subject {
    fn drop(&mut self) {
        if self.ended().is_none() {
            if let Some(group) = Pid::from_raw(self.child.id() as i32) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            let _ = self.child.wait();
        }
    }
}

/// How long we sleep between two looks.
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

/// What i-PI and ASE put before the name of a unix socket.
pub const PREFIX: &str = "/tmp/ipi_";

/// How a program ended, judged by its status and what it said after the clumsy thing was done.
pub fn judge_end(status: ExitStatus, said: &str) -> Finding {
    let last = last_line(said);
    // A shell says 128 + n where signal n ended what it ran.
    let told = |code| matches!(code - 128, 4 | 6..=9 | 11 | 13).then_some(code - 128);
    if let Some(signal) = status.signal().or(status.code().and_then(told)) {
        return Finding::crashed(
            "signal",
            format!("ended by signal {signal}{}", quoted(last)),
        );
    }
    if let Some((_, trace)) = said.rsplit_once("Traceback (most recent call last)") {
        if foreseen(trace) {
            let because = format!("ended by an exception that was foreseen{}", quoted(last));
            return Finding::handled("refused (exception)", because);
        }
        let how = match last.starts_with("AssertionError") {
            true => "assertion",
            false => "exception",
        };
        return Finding::crashed(how, format!("ended by an {how}{}", quoted(last)));
    }
    if let Some((_, text)) = said.split_once("panicked at") {
        let text = text.lines().nth(1).unwrap_or_default();
        return Finding::crashed("panic", format!("ended by a panic{}", quoted(text)));
    }
    match status.code() {
        Some(0) => Finding::handled("ended", format!("ended with status 0{}", quoted(last))),
        Some(code) if last.is_empty() => Finding::crashed(
            "no word",
            format!("ended with status {code} and said nothing"),
        ),
        code => {
            let (code, word) = (code.unwrap_or_default(), quoted(complaint(said)));
            Finding::handled("refused", format!("ended with status {code}{word}"))
        }
    }
}

/// The line that says why; MPI and others have the last word.
fn complaint(said: &str) -> &str {
    let error = |line: &&str| line.to_ascii_lowercase().contains("error");
    let line = said.lines().rev().find(error);
    line.map_or(last_line(said), str::trim)
}

/// Whether somebody foresaw the exception: it comes from a `raise`, or is the system's word on the connection. The
/// others come from an `assert`, or from a call that was not expected to fail.
fn foreseen(trace: &str) -> bool {
    const SYSTEM: [&str; 4] = [
        "TimeoutError",
        "ConnectionResetError",
        "ConnectionAbortedError",
        "BrokenPipeError",
    ];
    let frame = trace.rsplit_once("\n  File ").map(|(_, frame)| frame);
    let source = frame.and_then(|frame| frame.lines().nth(1));
    let last = last_line(trace);
    source.is_some_and(|source| source.trim_start().starts_with("raise"))
        || SYSTEM.iter().any(|name| last.starts_with(name))
}

pub fn last_line(said: &str) -> &str {
    let line = said.lines().rev().find(|line| !line.trim().is_empty());
    line.unwrap_or_default().trim()
}

pub fn quoted(line: &str) -> String {
    const MOST: usize = 160;
    match line.char_indices().nth(MOST) {
        _ if line.is_empty() => String::new(),
        Some((end, _)) => format!(": {}...", &line[..end]),
        None => format!(": {line}"),
    }
}
