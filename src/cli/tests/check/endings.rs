//! No process of a program under test survives the kit, however the kit ends.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::{FORCEWIRE, check};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A command that starts another one in a new session and records both process ids.
fn leaves_something(pids: &Path, then: &str) -> String {
    let pids = pids.display();
    format!(
        "setsid sleep 600 & echo $! > {pids}.part; echo $$ >> {pids}.part; mv {pids}.part {pids}; {then}"
    )
}

fn runs(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

#[track_caller]
fn until(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        sleep(Duration::from_millis(5));
    }
}

#[track_caller]
fn are_gone(pids: &Path) {
    let text = fs::read_to_string(pids).unwrap();
    assert_eq!(text.lines().count(), 2);
    for pid in text.lines() {
        until("it runs on", || !runs(pid));
    }
}

#[test]
fn whatever_signal_ends_the_kit() {
    for signal in ["-INT", "-TERM", "-KILL", "-HUP"] {
        for role in ["driver", "server"] {
            let directory = tempfile::tempdir().unwrap();
            let pids = directory.path().join("pids");
            let mut kit = check()
                .args([role, "--command", &leaves_something(&pids, "sleep 600")])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            until("it never began", || pids.exists());
            let id = kit.id().to_string();
            assert!(
                Command::new("kill")
                    .args([signal, &id])
                    .status()
                    .unwrap()
                    .success()
            );
            kit.wait().unwrap();
            are_gone(&pids);
        }
    }
}

#[test]
fn and_when_it_ends_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let pids = directory.path().join("pids");
    let driver = format!("exec '{FORCEWIRE}' driver -a {{host}} -p {{port}} -m harm -o 0.1");
    let command = leaves_something(&pids, &driver);
    let output = check()
        .args(["driver", "--only", "idle", "--command", &command])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    are_gone(&pids);
}
