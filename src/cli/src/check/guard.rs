//! The process between the kit and a program under test: nothing that the program starts outlives
//! it.
//!
//! The kit may end by any signal, and programs start others, as MPI does, which may leave their
//! process group. The guard adopts processes that lose their parent. The end of a pipe tells it
//! that the kit has ended or is done. Then it kills all that is there.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use clap::Args;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};

use super::processes::descendants;

/// The name of its command.
pub const NAME: &str = "guard";

/// Start a program, and end all that it starts (what check does with every program)
#[derive(Args, Debug)]
pub struct Arguments {
    /// Removed at the end
    #[arg(long)]
    directory: PathBuf,
    /// Removed at the end
    #[arg(long)]
    socket: Option<PathBuf>,
    /// For the shell
    command: String,
}

/// How long a killed process may take to end.
const LIMIT: Duration = Duration::from_secs(5);

/// Starts the program with what the guard has as its standard error for both outputs, and writes
/// the status with which it ends to the standard output. Returns when the standard input ends.
pub fn run(arguments: Arguments) -> io::Result<ExitCode> {
    // Where this is not Linux, a program that leaves its parent is not followed.
    #[cfg(target_os = "linux")]
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let log = io::stderr().as_fd().try_clone_to_owned()?;
    let child = Command::new("sh")
        .args(["-c", &arguments.command])
        .stdin(Stdio::null())
        .stdout(log)
        .spawn()?;
    let child = child.id() as i32;
    thread::spawn(move || reap(child));

    let mut nothing = Vec::new();
    let _ = io::stdin().read_to_end(&mut nothing);
    kill_all(child);
    // The kit does the same if it still can.
    let _ = fs::remove_dir_all(&arguments.directory);
    if let Some(socket) = &arguments.socket {
        let _ = fs::remove_file(socket);
    }
    Ok(ExitCode::SUCCESS)
}

/// Reports the end of the program, and lets orphans go when they end.
fn reap(child: i32) {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get() == child => {
                let mut out = io::stdout();
                let _ = writeln!(out, "{}", status.as_raw());
                let _ = out.flush();
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => sleep(Duration::from_millis(20)),
        }
    }
}

fn kill_all(child: i32) {
    let start = Instant::now();
    if cfg!(not(target_os = "linux"))
        && let Some(child) = Pid::from_raw(child)
    {
        let _ = kill_process(child, Signal::KILL);
    }
    // One that forks may have done so since.
    loop {
        let living = descendants(std::process::id());
        if living.is_empty() || start.elapsed() > LIMIT {
            return;
        }
        for process in living {
            if let Some(pid) = Pid::from_raw(process.id as i32) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        sleep(Duration::from_millis(2));
    }
}
