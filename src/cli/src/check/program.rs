//! The program under test: started by a shell, with all that it says kept, and gone with its situation.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use super::line::Address;

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
