//! System calls of `examples/driver.rs` an evaluation, counted by strace.
//!
//! `cargo bench --bench calls`; needs `strace` (Debian's package of that name).

#[path = "../common/example.rs"]
mod example;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

const EVALUATIONS: usize = 1000;
const ATOMS: usize = 64;

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
    println!("system calls an evaluation of {ATOMS} atoms, over {EVALUATIONS} of them");
    for transport in ["tcp", "unix"] {
        for mode in ["classic", "consolidated"] {
            let calls = count(transport, mode);
            let each: Vec<String> = calls
                .iter()
                .filter(|(_, n)| **n >= EVALUATIONS / 10)
                .map(|(name, n)| format!("{name} {:.2}", *n as f64 / EVALUATIONS as f64))
                .collect();
            let all = calls.values().sum::<usize>() as f64 / EVALUATIONS as f64;
            println!("{transport:>5} {mode:>13} {all:>6.2}   {}", each.join(", "));
        }
    }
}

/// Calls by name that the driver made while it served.
fn count(transport: &str, mode: &str) -> BTreeMap<String, usize> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let summary = directory.path().join("calls");
    let mut command = Command::new("strace");
    // On the connected socket and nothing else: starting a process is not what is counted.
    command.args([
        "-f",
        "-c",
        "-e",
        "trace=network,read,write,readv,writev,poll,select,epoll_wait,futex",
    ]);
    command
        .arg("-o")
        .arg(&summary)
        .arg(example::driver().get_program())
        .args(["-m", "gas", "--init", "never"]);
    if transport == "tcp" {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let port = listener.local_addr().expect("bound").port();
        let mut child = command
            .args(["-a", "127.0.0.1", "-p", &port.to_string()])
            .spawn()
            .expect("strace");
        let (mut peer, _) = listener.accept().expect("the driver");
        peer.set_nodelay(true).expect("TCP");
        converse(&mut peer, mode);
        assert!(child.wait().expect("strace").success());
    } else {
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).expect("a unix socket");
        let mut child = command
            .args(["-u", "-S", ""])
            .arg("-a")
            .arg(&path)
            .spawn()
            .expect("strace");
        converse(&mut listener.accept().expect("the driver").0, mode);
        assert!(child.wait().expect("strace").success());
    }
    let summary = std::fs::read_to_string(&summary).expect("strace's summary");
    summary
        .lines()
        .filter_map(row)
        .filter(|(name, _)| name != "total")
        .collect()
}

/// `% time, seconds, usecs/call, calls, [errors,] syscall`
fn row(line: &str) -> Option<(String, usize)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let calls = fields.get(3)?.parse().ok()?;
    Some(((*fields.last()?).to_owned(), calls))
}

fn converse(peer: &mut dyn Peer, mode: &str) {
    let mut posdata = b"POSDATA     ".to_vec();
    let cube = [10.0_f64, 0.0, 0.0, 0.0, 10.0, 0.0, 0.0, 0.0, 10.0];
    posdata.extend(cube.iter().chain(&cube).flat_map(|x| x.to_le_bytes()));
    posdata.extend(i32::try_from(ATOMS).expect("few").to_le_bytes());
    posdata.resize(posdata.len() + 24 * ATOMS, 0);
    let (mut status, mut reply) = ([0; 12], vec![0; 100 + 24 * ATOMS]);
    for _ in 0..EVALUATIONS {
        if mode == "classic" {
            peer.write_all(b"STATUS      ").expect("the driver");
            peer.read_exact(&mut status).expect("the driver");
            peer.write_all(&[&posdata[..], b"STATUS      "].concat())
                .expect("the driver");
            peer.read_exact(&mut status).expect("the driver");
            peer.write_all(b"GETFORCE    ").expect("the driver");
        } else {
            peer.write_all(&[&posdata[..], b"GETFORCE    "].concat())
                .expect("the driver");
        }
        peer.read_exact(&mut reply).expect("the driver");
    }
    peer.write_all(b"EXIT        ").expect("the driver");
}
