//! A server written byte by byte, and programs that end with their test.

#![allow(dead_code, unused_imports)] // each test uses a part

pub use forcewire_support::layout;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub use layout::*;

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn forcewire(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forcewire"));
    command.args(arguments.split_whitespace());
    command
}

/// A running program.
pub struct Process(Option<Child>);

impl Process {
    pub fn start(command: &mut Command) -> Self {
        let piped = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self(Some(piped.spawn().unwrap()))
    }

    pub fn id(&self) -> u32 {
        self.0.as_ref().unwrap().id()
    }

    /// Waits for the program's end.
    pub fn end(mut self) -> Ended {
        let start = Instant::now();
        let child = self.0.as_mut().unwrap();
        while child.try_wait().unwrap().is_none() {
            if start.elapsed() > PATIENCE {
                child.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.0.take().unwrap().wait_with_output().unwrap().into()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    pub status: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// The server's end of a connection.
pub struct Server(pub TcpStream);

pub fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, format!("-a 127.0.0.1 -p {port}"))
}

impl Server {
    pub fn accept(listener: &TcpListener) -> Self {
        listener.set_nonblocking(true).unwrap();
        let start = Instant::now();
        let stream = loop {
            match listener.accept() {
                Ok((stream, _)) => break stream,
                Err(error) if start.elapsed() > PATIENCE => panic!("nobody came: {error}"),
                Err(_) => std::thread::sleep(Duration::from_millis(2)),
            }
        };
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    pub fn says(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.write_all(bytes).unwrap();
        self
    }

    pub fn hears(&mut self, bytes: &[u8]) -> &mut Self {
        let mut heard = vec![0; bytes.len()];
        self.0.read_exact(&mut heard).unwrap();
        assert_eq!(
            heard.escape_ascii().to_string(),
            bytes.escape_ascii().to_string()
        );
        self
    }

    /// Reads a reply to one structure: energy, forces and virial.
    pub fn hears_forces(&mut self, natoms: usize) -> (f64, Vec<f64>, Vec<f64>) {
        self.hears(FORCEREADY);
        let energy = self.numbers(1)[0];
        assert_eq!(self.integer(), natoms as i32);
        let (forces, virial) = (self.numbers(3 * natoms), self.numbers(9));
        let extras = self.integer();
        assert_eq!(extras, 0);
        (energy, forces, virial)
    }

    pub fn numbers(&mut self, count: usize) -> Vec<f64> {
        let mut bytes = vec![0; REAL * count];
        self.0.read_exact(&mut bytes).unwrap();
        numbers(&bytes)
    }

    pub fn integer(&mut self) -> i32 {
        let mut bytes = [0; INTEGER];
        self.0.read_exact(&mut bytes).unwrap();
        integer_at(&bytes, 0)
    }

    pub fn ended(&mut self) {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty(), "{}", rest.escape_ascii());
    }
}

/// POSDATA with a wrong inverse cell, because drivers should not read it.
pub fn posdata(h: [f64; 9], positions: &[[f64; 3]]) -> Vec<u8> {
    layout::posdata(&h, &[0.0; 9], positions.as_flattened())
}

/// Returns POSDATA of a batch.
pub fn batch(cells: &[[f64; 9]], structures: &[Vec<[f64; 3]>]) -> Vec<u8> {
    let cells: Vec<_> = cells.iter().map(|h| [*h, [0.0; 9]]).collect();
    layout::posdata_batch(&cells, structures.concat().as_flattened())
}

/// A directory for a socket.
pub struct Place(pub tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn at(&self) -> String {
        format!("-u -a ipi -S {}/", self.0.path().display())
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub fn driver(&self, arguments: &str) -> Process {
        Process::start(&mut forcewire(&format!("driver {} {arguments}", self.at())))
    }

    pub fn command(&self, command: &str, arguments: &str) -> Command {
        let mut command = forcewire(&format!("{command} {} {arguments}", self.at()));
        command.current_dir(self.0.path());
        command
    }

    pub fn start(&self, command: &str, arguments: &str) -> Process {
        Process::start(&mut self.command(command, arguments))
    }

    /// Waits until a file has this many lines.
    pub fn wait_for_lines(&self, name: &str, lines: usize) {
        let start = Instant::now();
        while fs::read_to_string(self.path(name)).map_or(0, |text| text.lines().count()) < lines {
            assert!(start.elapsed() < PATIENCE, "{name} has not {lines} lines");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Sends a program a signal.
pub fn kill(process: &Process, signal: &str) {
    let kill = Command::new("kill")
        .args([signal, &process.id().to_string()])
        .status();
    assert!(kill.unwrap().success());
}

/// The directory of peers' environments. `tests/peers/install` creates `ase` there.
pub fn peers() -> String {
    std::env::var("FORCEWIRE_PEERS").expect("FORCEWIRE_PEERS names a directory")
}

/// Runs a script in ASE's environment.
pub fn ase(script: &str, directory: &Path) {
    let mut python = Command::new(format!("{}/ase/bin/python", peers()));
    let output = python
        .args(["-c", script])
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
