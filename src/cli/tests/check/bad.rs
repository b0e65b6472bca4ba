//! Peers that do wrong on purpose, each in one way: the kit has to see it.
//!
//! They are tests of this binary, which the kit starts anew as a program.

use crate::layout;
use std::env;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{abort, exit};
use std::thread::sleep;
use std::time::Duration;

use crate::{Rows, check, rows};

/// What a peer does when something happens that it does not expect.
const WAYS: [&str; 5] = ["hangs", "aborts", "panics", "leaves", "refuses"];

/// Plays some situations against one of the peers below.
fn play(role: &str, peer: &str, way: &str, only: &[&str]) -> Rows {
    let this = env::current_exe().unwrap();
    let command = format!(
        "PEER_WAY={way} PEER_PORT={{port}} exec '{}' --exact bad::{peer} --ignored --nocapture",
        this.display()
    );
    let mut check = check();
    check.args([
        role,
        "--json",
        "--command",
        &command,
        "--patience",
        "1",
        "--jobs",
        "8",
    ]);
    for name in only {
        check.args(["--only", name]);
    }
    let output = check.output().unwrap();
    assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
    rows(&output)
}

fn found(rows: &Rows, situation: &str) -> (String, String) {
    let row = &rows[situation];
    let text = |key: &str| row[key].as_str().unwrap().to_owned();
    (text("verdict"), text("how"))
}

fn expected(way: &str) -> (String, String) {
    let (verdict, how) = match way {
        "hangs" => ("hung", "silent"),
        "aborts" => ("crashed", "signal"),
        "panics" => ("crashed", "panic"),
        "leaves" => ("crashed", "no word"),
        _ => ("handled", "refused"),
    };
    (verdict.into(), how.into())
}

#[test]
#[ignore = "peers that stall need a quiet machine: tests/run check"]
fn a_driver_that_hangs_or_crashes_or_refuses_is_seen() {
    each_way_is_seen("driver", ["unknown-header", "cut-positions"]);
}

fn each_way_is_seen(role: &str, situations: [&str; 2]) {
    for way in WAYS {
        let rows = play(role, role, way, &[&["control"], &situations[..]].concat());
        assert_eq!(found(&rows, "control").0, "handled");
        for situation in situations {
            assert_eq!(
                found(&rows, situation),
                expected(way),
                "{situation}: {rows:?}"
            );
        }
    }
}

#[test]
#[ignore = "peers that stall need a quiet machine: tests/run check"]
fn a_driver_that_is_silently_wrong_is_seen() {
    let only = [
        "nan-position",
        "getforce-first",
        "wrong-inverse",
        "negative-atoms",
        "posdata-twice",
    ];
    for (situation, row) in play("driver", "driver", "believes", &only) {
        assert_eq!(row["verdict"], "silently wrong", "{situation}: {row}");
    }
}

#[test]
#[ignore = "peers that stall need a quiet machine: tests/run check"]
fn a_server_that_hangs_or_crashes_or_refuses_is_seen() {
    each_way_is_seen("server", ["nan-forces", "cut-forces"]);
}

#[test]
#[ignore = "peers that stall need a quiet machine: tests/run check"]
fn a_server_that_is_silently_wrong_is_seen() {
    let only = ["nan-forces", "infinite-virial", "nan-energy", "cut-forces"];
    for (situation, row) in play("server", "server", "believes", &only) {
        assert_eq!(row["verdict"], "silently wrong", "{situation}: {row}");
    }
}

#[test]
#[ignore = "peers that stall need a quiet machine: tests/run check"]
fn a_driver_without_right_numbers_is_not_judged() {
    let this = env::current_exe().unwrap();
    let command = format!(
        "PEER_WAY=forgets PEER_PORT={{port}} exec '{}' --exact bad::driver --ignored --nocapture",
        this.display()
    );
    let output = check()
        .args(["driver", "--command", &command])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains("the control failed: answered with an energy of"),
        "{text}"
    );
    assert_eq!(
        output.stdout, b"",
        "nothing is said of a driver without its control"
    );
}

/// Does it the wrong way. Returns if the peer believes whatever it hears.
fn wrong(way: &str, what: &str) {
    match way {
        "hangs" => loop {
            sleep(Duration::from_secs(1));
        },
        "aborts" => abort(),
        "panics" => panic!("{what}"),
        "leaves" => exit(3),
        "refuses" => {
            eprintln!("peer: {what}");
            exit(1);
        }
        _ => {}
    }
}

fn way_and_port() -> Option<(String, u16)> {
    let port = env::var("PEER_PORT").ok()?.parse().ok()?;
    Some((env::var("PEER_WAY").ok()?, port))
}

fn real(bytes: &[u8]) -> f64 {
    f64::from_le_bytes(bytes.try_into().unwrap())
}

/// A driver of springs whose length follows the inverse cell that it is sent, if it believes that.
#[test]
#[ignore = "a peer of the tests above"]
fn driver() {
    let Some((way, port)) = way_and_port() else {
        return;
    };
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let (mut reply, mut has_data, mut count) = (Vec::new(), false, 0.0);
    loop {
        let mut word = [0; 12];
        match stream.read_exact(&mut word) {
            Err(_) => exit(0),
            Ok(()) => count += 1.0,
        }
        match word.trim_ascii() {
            b"STATUS" if has_data => stream.write_all(b"HAVEDATA    ").unwrap(),
            b"STATUS" => stream.write_all(b"READY       ").unwrap(),
            b"EXIT" => exit(0),
            b"GETFORCE" => {
                stream.write_all(&reply).unwrap();
                has_data = false;
            }
            b"POSDATA" => {
                let natoms = |bytes: &[u8]| i32::from_le_bytes(bytes.try_into().unwrap());
                let mut frame = [0; 148];
                let mut read = || {
                    stream.read_exact(&mut frame)?;
                    let mut positions = vec![0; 24 * natoms(&frame[144..]).max(0) as usize];
                    stream.read_exact(&mut positions)?;
                    io::Result::Ok(positions)
                };
                let Ok(bytes) = read() else {
                    wrong(&way, "the positions end early");
                    exit(0);
                };
                // The second POSDATA is read, and the first one's numbers are sent.
                if has_data {
                    continue;
                }
                let numbers: Vec<f64> = bytes.chunks(8).map(real).collect();
                if numbers.iter().any(|x| !x.is_finite()) {
                    wrong(&way, "a position is no number");
                }
                let believed = if way == "believes" {
                    real(&frame[72..80])
                } else {
                    1.0
                };
                let noise = if way == "forgets" { count } else { 0.0 };
                let size = |x: &f64| if x.is_finite() { x.abs() } else { 1.0 };
                let energy = believed + noise + numbers.iter().map(size).sum::<f64>();
                let force = |x: &f64| if x.is_finite() { -x } else { 0.0 };
                let forces: Vec<_> = numbers.iter().map(force).collect();
                reply = layout::forceready(&[energy], &forces, &[0.0; 9], &[b""]);
                has_data = true;
            }
            _ => wrong(&way, "what is this?"),
        }
    }
}

/// A server that moves one atom four times, along its force, with one driver after the other.
#[test]
#[ignore = "a peer of the tests above"]
fn server() {
    let Some((way, port)) = way_and_port() else {
        return;
    };
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let mut x = 1.0f64;
    let mut driver = listener.accept().unwrap().0;
    for _ in 0..4 {
        let mut reply = [0; 124];
        loop {
            let posdata = layout::posdata(&[0.0; 9], &[0.0; 9], &[x, 0.0, 0.0]);
            let message = [&posdata[..], layout::GETFORCE].concat();
            let asked = driver.write_all(&message).is_ok();
            if asked && driver.read_exact(&mut reply).is_ok() {
                break;
            }
            wrong(&way, "the driver is gone");
            driver = listener.accept().unwrap().0;
            // It believes what it has of the reply.
            if way == "believes" {
                break;
            }
        }
        let bytes = [&reply[12..20], &reply[24..120]].concat();
        let numbers: Vec<f64> = bytes.chunks(8).map(real).collect();
        if numbers.iter().any(|x| !x.is_finite()) {
            wrong(&way, "a number is none");
        }
        x += real(&reply[24..32]);
    }
    driver.write_all(b"EXIT        ").unwrap();
    exit(0);
}
