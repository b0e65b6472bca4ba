//! Counts the system calls per evaluation of `forcewire driver` and `forcewire evaluate` with
//! strace.
//!
//! `cargo bench --bench calls`; needs `strace` (Debian's package of that name).
//! FORCEWIRE_OVERWRITE=1 writes the table into the manual.

use forcewire_support::layout;
use forcewire_support::page;
use forcewire_support::programs;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

use layout::*;
use page::Table;

const EVALUATIONS: usize = 1000;
/// The sizes of the driver's structures; the server's have the first size only.
const ATOMS: [usize; 3] = [64, 4096, 100_000];

trait Peer: Read + Write {}
impl<T: Read + Write> Peer for T {}

fn main() {
    if Command::new("strace")
        .arg("-V")
        .stdout(Stdio::null())
        .status()
        .is_err()
    {
        println!("strace is not installed: nothing was counted");
        return;
    }
    let mut table = Table::new("src/manual/speed.md", "calls");
    table.line(format!(
        "system calls an evaluation, over {EVALUATIONS} of them ({} of 100000 atoms)",
        evaluations(100_000)
    ));
    let [small, large, largest] = ATOMS;
    for (role, natoms, count) in [
        ("driver", small, driver as Count),
        ("driver", large, driver),
        ("driver", largest, driver),
        ("server", small, server),
    ] {
        for transport in ["tcp", "unix"] {
            for mode in ["classic", "consolidated"] {
                let calls = count(transport, mode, natoms);
                let each: Vec<String> = calls
                    .iter()
                    .filter(|(_, n)| **n >= evaluations(natoms) / 10)
                    .map(|(name, n)| {
                        format!("{name} {:.2}", *n as f64 / evaluations(natoms) as f64)
                    })
                    .collect();
                let all = calls.values().sum::<usize>() as f64 / evaluations(natoms) as f64;
                let each = each.join(", ");
                table.line(format!(
                    "{role} {natoms:>6} {transport:>5} {mode:>13} {all:>6.2}   {each}"
                ));
            }
        }
    }
    table.end();
}

/// Calls by name that a program made.
type Calls = BTreeMap<String, usize>;
type Count = fn(&str, &str, usize) -> Calls;

/// The number of evaluations, small enough for a run of seconds.
fn evaluations(natoms: usize) -> usize {
    EVALUATIONS.min(100_000_000 / natoms / 10)
}

/// Runs a program under strace. Counts only calls on connected sockets, not those that start a
/// process.
fn strace(summary: &Path, program: &Command) -> Command {
    let mut command = Command::new("strace");
    command.args([
        "-f",
        "-c",
        "-e",
        "trace=network,read,write,readv,writev,poll,select,epoll_wait,futex",
    ]);
    command.arg("-o").arg(summary);
    command.arg(program.get_program()).args(program.get_args());
    command
}

/// Reads the counts that strace has written.
fn counted(summary: &Path) -> Calls {
    let summary = std::fs::read_to_string(summary).expect("strace's summary");
    let rows = summary.lines().filter_map(row);
    rows.filter(|(name, _)| name != "total").collect()
}

/// Calls that the server made for one driver.
fn server(transport: &str, mode: &str, natoms: usize) -> Calls {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (summary, frames) = (
        directory.path().join("calls"),
        directory.path().join("frames.xyz"),
    );
    let frame = format!("{natoms}\n\n{}", "Ar 0 0 0\n".repeat(natoms));
    std::fs::write(&frames, frame.repeat(evaluations(natoms))).expect("a file");
    let mut command = strace(&summary, &programs::evaluate());
    command.arg(&frames).args(["--mode", mode]);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let socket = directory.path().join("socket");
    if transport == "tcp" {
        command.args(["-a", "127.0.0.1", "-p", "0"]);
    } else {
        command.args(["-u", "-S", "", "-a"]).arg(&socket);
    }
    let mut child = command.spawn().expect("strace");
    let mut said = BufReader::new(child.stderr.take().expect("a pipe"));
    let mut line = String::new();
    while !line.contains("listening on") {
        line.clear();
        assert!(said.read_line(&mut line).expect("the server") > 0);
    }
    if transport == "tcp" {
        let (_, address) = line.trim_end().rsplit_once(' ').expect("an address");
        let mut peer = TcpStream::connect(address).expect("the server");
        peer.set_nodelay(true).expect("TCP");
        compute(&mut peer, natoms);
    } else {
        compute(
            &mut UnixStream::connect(&socket).expect("the server"),
            natoms,
        );
    }
    let mut rest = String::new();
    said.read_to_string(&mut rest).expect("the server");
    assert!(child.wait().expect("strace").success(), "{line}{rest}");
    counted(&summary)
}

/// A driver whose forces are 0, until it receives EXIT.
fn compute(peer: &mut dyn Peer, natoms: usize) {
    let mut frame = vec![0; Posdata::of(natoms).end() - HEADER];
    let (mut header, mut has_data) = ([0; HEADER], false);
    let reply = layout::forceready(&[0.0], &vec![0.0; 3 * natoms], &[0.0; 9], &[b""]);
    loop {
        peer.read_exact(&mut header).expect("the server");
        match header.as_slice() {
            STATUS if has_data => peer.write_all(HAVEDATA).expect("the server"),
            STATUS => peer.write_all(READY).expect("the server"),
            POSDATA => peer.read_exact(&mut frame).expect("the server"),
            GETFORCE => peer.write_all(&reply).expect("the server"),
            _ => return,
        }
        has_data = header == POSDATA || has_data && header == STATUS;
    }
}

/// Calls that the driver made while it served.
fn driver(transport: &str, mode: &str, natoms: usize) -> Calls {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let summary = directory.path().join("calls");
    let mut command = strace(&summary, &programs::driver());
    command.args(["-m", "gas", "--init", "never"]);
    if transport == "tcp" {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let port = listener.local_addr().expect("bound").port();
        let mut child = command
            .args(["-a", "127.0.0.1", "-p", &port.to_string()])
            .spawn()
            .expect("strace");
        let (mut peer, _) = listener.accept().expect("the driver");
        peer.set_nodelay(true).expect("TCP");
        converse(&mut peer, mode, natoms);
        assert!(child.wait().expect("strace").success());
    } else {
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).expect("a unix socket");
        let mut child = command
            .args(["-u", "-S", "", "-a"])
            .arg(&path)
            .spawn()
            .expect("strace");
        converse(&mut listener.accept().expect("the driver").0, mode, natoms);
        assert!(child.wait().expect("strace").success());
    }
    counted(&summary)
}

/// `% time, seconds, usecs/call, calls, [errors,] syscall`
fn row(line: &str) -> Option<(String, usize)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let calls = fields.get(3)?.parse().ok()?;
    Some(((*fields.last()?).to_owned(), calls))
}

fn converse(peer: &mut dyn Peer, mode: &str, natoms: usize) {
    let cube = layout::cube(10.0);
    let posdata = layout::posdata(&cube, &layout::cube(0.1), &vec![0.0; 3 * natoms]);
    let (mut status, mut reply) = ([0; 12], vec![0; ForceReady::of(natoms).end()]);
    for _ in 0..evaluations(natoms) {
        if mode == "classic" {
            peer.write_all(STATUS).expect("the driver");
            peer.read_exact(&mut status).expect("the driver");
            peer.write_all(&[&posdata[..], STATUS].concat())
                .expect("the driver");
            peer.read_exact(&mut status).expect("the driver");
            peer.write_all(GETFORCE).expect("the driver");
        } else {
            peer.write_all(&[&posdata[..], GETFORCE].concat())
                .expect("the driver");
        }
        peer.read_exact(&mut reply).expect("the driver");
    }
    peer.write_all(EXIT).expect("the driver");
}
