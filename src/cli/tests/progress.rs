//! The display of progress, on a terminal and in a log.
#![cfg(unix)]

mod common;

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::Instant;

use common::*;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::{fs, pty, termios};

/// A terminal of 100 columns, and the text written to it.
struct Terminal {
    ours: File,
    screen: String,
}

impl Terminal {
    /// The terminal, and the end of it to which a program writes.
    fn open() -> (Self, OwnedFd) {
        let flags = pty::OpenptFlags::RDWR | pty::OpenptFlags::NOCTTY;
        let ours = pty::openpt(flags).unwrap();
        pty::grantpt(&ours).unwrap();
        pty::unlockpt(&ours).unwrap();
        let name = pty::ptsname(&ours, Vec::new()).unwrap();
        let flags = fs::OFlags::RDWR | fs::OFlags::NOCTTY | fs::OFlags::CLOEXEC;
        let theirs = fs::open(name, flags, fs::Mode::empty()).unwrap();
        let size = termios::Winsize {
            ws_row: 30,
            ws_col: 100,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        termios::tcsetwinsize(&theirs, size).unwrap();
        let terminal = Self {
            ours: ours.into(),
            screen: String::new(),
        };
        (terminal, theirs)
    }

    /// Reads the next output. Returns false at the end.
    fn read(&mut self) -> bool {
        let mut fds = [PollFd::new(&self.ours, PollFlags::IN)];
        let tick = Timespec {
            tv_sec: 0,
            tv_nsec: 20_000_000,
        };
        if poll(&mut fds, Some(&tick)).unwrap() == 0 {
            return true;
        }
        let mut bytes = [0; 4096];
        // On Linux an error means that the other end is closed.
        let n = self.ours.read(&mut bytes).unwrap_or(0);
        self.screen += &String::from_utf8_lossy(&bytes[..n]);
        n > 0
    }

    /// Waits for this text on the screen, after the previously expected text.
    fn expect(&mut self, text: &str) {
        let start = Instant::now();
        loop {
            if let Some(at) = self.screen.find(text) {
                self.screen.drain(..at + text.len());
                return;
            }
            let goes_on = self.read() && start.elapsed() < PATIENCE;
            let found = self.screen.contains(text);
            assert!(goes_on || found, "no {text:?}: {:?}", self.screen);
        }
    }

    /// All output until the program closes its end.
    fn rest(&mut self) -> &str {
        let start = Instant::now();
        while self.read() {
            assert!(start.elapsed() < PATIENCE, "{:?}", self.screen);
        }
        &self.screen
    }
}

/// Return to the start of the line and clear it, which removes a bar.
const CLEARED: &str = "\r\u{1b}[2K";

fn frames(count: usize) -> String {
    "1\n\nAr 0 0 0\n".repeat(count)
}

#[test]
fn a_terminal_has_a_bar_when_results_go_to_a_file() {
    let place = Place::new();
    place.write("frames.xyz", &frames(20));
    let _driver = place.driver("-m gas -o 0.05");
    let (mut terminal, theirs) = Terminal::open();
    let mut run = {
        // The command also holds an end of the terminal.
        let mut command = place.command("evaluate", "frames.xyz --output results.xyz");
        command
            .stdout(Stdio::null())
            .stderr(theirs)
            .spawn()
            .unwrap()
    };
    for says in [
        "waiting up to 60s for 1 driver",
        "of 20 frames, ",
        "1 driver",
    ] {
        terminal.expect(says);
    }
    let rest = terminal.rest();
    let (_, after) = rest.rsplit_once(CLEARED).unwrap();
    assert!(after.contains("20 of 20 frames in "), "{rest:?}");
    assert!(run.wait().unwrap().success());
    assert_eq!(place.read("results.xyz").lines().count(), 60);
}

/// Results on the same terminal do not appear in the middle of a bar.
#[test]
fn results_on_the_terminal_are_lines_of_their_own() {
    let place = Place::new();
    place.write("frames.xyz", &frames(10));
    let _driver = place.driver("-m gas -o 0.05");
    let (mut terminal, theirs) = Terminal::open();
    let mut run = {
        // The command also holds an end of the terminal.
        let mut command = place.command("evaluate", "frames.xyz");
        command
            .stdout(theirs.try_clone().unwrap())
            .stderr(theirs)
            .spawn()
            .unwrap()
    };
    for frame in 0..10 {
        terminal.expect(&format!("{CLEARED}{{\"frame\":{frame},"));
        terminal.expect("}\r\n");
    }
    terminal.expect("10 of 10 frames in ");
    terminal.rest();
    assert!(run.wait().unwrap().success());
}

#[test]
fn md_has_its_energy_beside_the_bar() {
    let place = Place::new();
    place.write("one.xyz", "1\n\nAr 1 0 0\n");
    let _driver = place.driver("-m harm3d -o 0.01");
    let (mut terminal, theirs) = Terminal::open();
    let mut run = {
        // The command also holds an end of the terminal.
        let mut command = place.command("md", "one.xyz --steps 20000 --output run");
        command
            .stdout(Stdio::null())
            .stderr(theirs)
            .spawn()
            .unwrap()
    };
    for says in [
        "of 20000 steps, ",
        "left, potential 0.0",
        " hartree, 1 driver",
    ] {
        terminal.expect(says);
    }
    run.kill().unwrap();
    run.wait().unwrap();
}

#[test]
fn a_log_has_no_bar() {
    let place = Place::new();
    place.write("frames.xyz", &frames(5));
    let _driver = place.driver("-m gas -o 0.05");
    let ended = place
        .start("evaluate", "frames.xyz --output results.xyz")
        .end();
    assert_eq!(ended.status, Some(0), "{}", ended.err);
    assert!(!ended.err.contains(['\r', '\u{1b}']), "{:?}", ended.err);
    assert!(ended.err.contains("5 of 5 frames in "), "{}", ended.err);
}
