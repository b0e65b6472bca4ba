//! A process between the kit and a program under test. It ends everything that the program starts.
//!
//! The kit may end by any signal, and programs start others (MPI does), which may leave their
//! process group. The guard adopts processes that lose their parent. When the kit ends or is done,
//! a pipe closes, and the guard kills all of them.

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

/// The name of the guard's command.
pub const NAME: &str = "guard";

/// Start a program, and end everything that it starts (check does this with every program)
#[derive(Args, Debug)]
pub struct Arguments {
    /// Directory to remove at the end
    #[arg(long)]
    directory: PathBuf,
    /// Socket to remove at the end
    #[arg(long)]
    socket: Option<PathBuf>,
    /// Command for the shell
    command: String,
}

/// How long a killed process may take to end.
const LIMIT: Duration = Duration::from_secs(5);

/// Starts the program with both outputs going to the guard's standard error, and writes its exit
/// status to standard output. Returns when standard input ends.
pub fn run(arguments: Arguments) -> io::Result<ExitCode> {
    // On systems other than Linux, a process that loses its parent is not tracked.
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
    // The kit removes it too, if it still can.
    let _ = fs::remove_dir_all(&arguments.directory);
    if let Some(socket) = &arguments.socket {
        let _ = fs::remove_file(socket);
    }
    Ok(ExitCode::SUCCESS)
}

/// Reports the end of the program, and reaps orphans.
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
    // A process may have forked since the last look.
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
