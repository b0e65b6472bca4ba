//! A correct server, unless FAULT in the environment names a fault.
//!
//! The server moves two atoms along their forces five times, with one driver after another. It
//! drops a driver that is silent for a while, sends something wrong or has gone, and uses the next
//! one.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{abort, exit};
use std::thread::sleep;
use std::time::Duration;

use crate::layout::{
    self, CELL, ForceReady, HEADER, INTEGER, Posdata, REAL, integer_at, numbers, real_at,
};
use crate::planted::{asked_for, program};

/// The command that starts the server with a fault.
pub fn command(fault: &str) -> String {
    program("planted_server::server", fault)
}

/// The cell; its columns are the vectors.
const H: [f64; 9] = [12.0, 3.0, 1.0, 0.0, 11.0, 2.0, 0.0, 0.0, 10.0];

fn inverse() -> [f64; 9] {
    let [a, d, e, _, b, f, _, _, c] = H;
    let (i, j, k) = (1.0 / a, 1.0 / b, 1.0 / c);
    [
        i,
        -d * i * j,
        (d * f * j - e) * i * k,
        0.0,
        j,
        -f * j * k,
        0.0,
        0.0,
        k,
    ]
}

fn transposed(m: [f64; 9]) -> [f64; 9] {
    std::array::from_fn(|at| m[3 * (at % 3) + at / 3])
}

/// POSDATA with this fault.
fn posdata(fault: &str, positions: &[f64; 6]) -> Vec<u8> {
    let (h, inverse) = match fault {
        "lower triangular" => (transposed(H), transposed(inverse())),
        "inverse transposed" => (H, transposed(inverse())),
        "inverse zero" => (H, [0.0; 9]),
        "angstrom" => (H.map(|x| 0.1 * x), inverse().map(|x| 10.0 * x)),
        _ => (H, inverse()),
    };
    let sent = match fault {
        "angstrom" => positions.map(|x| 0.1 * x),
        _ => *positions,
    };
    let mut message = layout::posdata(&h, &inverse, &sent);
    match fault {
        "big-endian" => {
            let (numbers, rest) = message[HEADER..].split_at_mut(CELL);
            let (count, positions) = rest.split_at_mut(INTEGER);
            count.reverse();
            numbers.chunks_mut(REAL).for_each(<[u8]>::reverse);
            positions.chunks_mut(REAL).for_each(<[u8]>::reverse);
        }
        "float32" => {
            let single = |x: &f64| (*x as f32).to_le_bytes();
            message.truncate(HEADER);
            message.extend(h.iter().chain(&inverse).flat_map(single));
            message.extend(layout::integer(2));
            message.extend(sent.iter().flat_map(single));
        }
        "int64" => {
            let whole = |x: &f64| (x.round() as i64).to_le_bytes();
            message.truncate(Posdata::of(2).positions(0));
            message.extend(sent.iter().flat_map(whole));
        }
        _ => {}
    }
    message
}

/// Lets a driver compute the forces on both atoms.
fn ask(fault: &str, driver: &mut TcpStream, positions: &[f64; 6]) -> io::Result<[f64; 6]> {
    let other = |what: &[u8]| {
        let what = what.escape_ascii().to_string();
        io::Error::other(format!("a driver sent {what:?}"))
    };
    let mut word = [0; HEADER];
    driver.write_all(layout::STATUS)?;
    driver.read_exact(&mut word)?;
    if word == layout::NEEDINIT && fault == "asks again" {
        driver.write_all(layout::STATUS)?;
        driver.read_exact(&mut word)?;
    }
    if word == layout::NEEDINIT && fault != "no INIT" {
        driver.write_all(&layout::init(
            0,
            if fault == "empty INIT" { "" } else { " " },
        ))?;
        driver.write_all(layout::STATUS)?;
        driver.read_exact(&mut word)?;
    }
    if word != layout::READY && fault != "no INIT" {
        return Err(other(&word));
    }
    driver.write_all(&posdata(fault, positions))?;
    if fault == "silent" {
        sleep(Duration::from_secs(600));
    }
    driver.write_all(layout::GETFORCE)?;
    let places = ForceReady::of(2);
    let mut reply = vec![0; places.end()];
    driver.read_exact(&mut reply)?;
    let extras = integer_at(&reply, places.extras());
    driver.read_exact(&mut vec![0; extras.clamp(0, 9_999_999) as usize])?;
    let numbers = numbers(&reply[places.forces(0)..places.extras()]);
    let energy = real_at(&reply, places.energy(0));
    let finite = numbers.iter().all(|x| x.is_finite()) && energy.is_finite();
    let right = reply.starts_with(layout::FORCEREADY)
        && integer_at(&reply, places.atoms()) == 2
        && extras >= 0;
    match fault {
        "believes" | "repeats and believes" => {}
        _ if !finite => return Err(io::Error::other("a number is not finite")),
        _ if !right => return Err(other(&reply[..places.forces(0)])),
        _ => {}
    }
    Ok(numbers[..6].try_into().unwrap())
}

#[test]
#[ignore = "a program of other tests"]
fn server() {
    let Some((fault, port)) = asked_for() else {
        return;
    };
    if fault == "refuses" {
        sleep(Duration::from_secs(600));
    }
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let mut positions = [0.5, 0.25, 0.125, 5.0, 1.0, 2.0];
    let mut driver = None;
    let mut step = 0;
    while step < 5 {
        let mut now = driver
            .take()
            .unwrap_or_else(|| listener.accept().unwrap().0);
        now.set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        let forces = match ask(&fault, &mut now, &positions) {
            Ok(forces) => forces,
            Err(error) => {
                let gone = error.kind() != io::ErrorKind::Other;
                if fault == "status 3" {
                    exit(3);
                }
                eprintln!("server: {error}");
                match &*fault {
                    "hangs" => sleep(Duration::from_secs(600)),
                    "dies" => abort(),
                    "panics" => panic!("{error}"),
                    "aborts" => exit(1),
                    "aborts at words" if !gone => exit(1),
                    "aborts at ends" if gone => exit(1),
                    "ends at once" => exit(0),
                    _ => {}
                }
                continue;
            }
        };
        driver = Some(now);
        step += 1;
        if !fault.starts_with("repeats") {
            for (x, f) in positions.iter_mut().zip(forces) {
                *x += f;
            }
        }
    }
    if let Some(mut driver) = driver {
        let _ = driver.write_all(layout::EXIT);
    }
    exit(0);
}
