//! A correct driver, unless FAULT in the environment names a fault.
//!
//! The driver is a test of this binary, which the kit starts again as a program.

use std::env;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::{abort, exit};
use std::thread::sleep;
use std::time::Duration;

use crate::layout::{self, ATOM, CELL, INTEGER, integer_at, numbers};
use crate::planted_numbers::{Matrix, Memory, Vector, compute};

/// The command that starts the driver with a fault.
pub fn command(fault: &str) -> String {
    program("planted::driver", fault)
}

/// The command that starts one of the programs of these tests.
pub fn program(name: &str, fault: &str) -> String {
    let this = env::current_exe().unwrap();
    format!(
        "FAULT='{fault}' PORT={{port}} exec '{}' --exact {name} --ignored --nocapture",
        this.display()
    )
}

/// Fault and port, if the kit has started this process.
pub fn asked_for() -> Option<(String, u16)> {
    let port = env::var("PORT").ok()?.parse().ok()?;
    Some((env::var("FAULT").ok()?, port))
}

/// Reads cell and positions of POSDATA.
fn structure(fault: &str, stream: &mut TcpStream) -> io::Result<(Matrix, f64, Vec<Vector>)> {
    let mut frame = [0; CELL + INTEGER];
    stream.read_exact(&mut frame)?;
    let natoms = integer_at(&frame, CELL);
    if natoms < 0 && fault != "believes" {
        return Err(io::Error::other("a negative number of atoms"));
    }
    let mut bytes = vec![0; ATOM * natoms.max(0) as usize];
    stream.read_exact(&mut bytes)?;
    let cell = numbers(&frame[..CELL]);
    let h = [0, 1, 2].map(|row| [0, 1, 2].map(|column| cell[3 * row + column]));
    let numbers = numbers(&bytes);
    if numbers
        .iter()
        .chain(h.as_flattened())
        .any(|x| !x.is_finite())
        && fault != "believes"
    {
        return Err(io::Error::other("a number is not finite"));
    }
    Ok((h, cell[9], numbers.as_chunks().0.to_vec()))
}

/// Prints what Python prints if line 7 of a program fails.
fn traceback(place: &str, source: &str, error: &str) {
    eprintln!(
        "Traceback (most recent call last):\n  File \"/home/me/driver.py\", line 7, in <module>\n    main()\n  File \
         \"{place}\", line 9, in read\n    {source}\n{error}"
    );
}

/// Reacts to a message that ends early or makes no sense. Returns if the driver connects again.
fn fails(fault: &str, stream: &mut Option<TcpStream>, what: &str) {
    let forever = || loop {
        sleep(Duration::from_secs(1));
    };
    match fault {
        "quiet" => exit(0),
        "status 0 with a word" => {
            eprintln!("driver: {what}");
            exit(0);
        }
        "status 3" => exit(3),
        "hangs" => forever(),
        "aborts" => abort(),
        "panics" => panic!("{what}"),
        "Fortran's bounds" => {
            eprintln!("At line 88 of file driver.f90");
            eprintln!(
                "Fortran runtime error: Index '5' of dimension 1 of array 'r' above upper bound of 4"
            );
            exit(2);
        }
        "Fortran's ERROR STOP" => {
            eprintln!(
                "ERROR STOP the server closed the connection\n\nError termination. Backtrace:"
            );
            exit(1);
        }
        "Julia's bounds" => {
            eprintln!(
                "ERROR: LoadError: BoundsError: attempt to access 4-element Vector{{Float64}} at index [5]"
            );
            exit(1);
        }
        "Julia's error" => {
            eprintln!(
                "ERROR: LoadError: the server closed the connection\nStacktrace:\n [1] error"
            );
            exit(1);
        }
        "a library raises" => {
            let place = "/usr/lib/python3.11/json/decoder.py";
            traceback(
                place,
                "raise JSONDecodeError(msg, s, err.value)",
                "json.decoder.JSONDecodeError: Expecting value",
            );
            exit(1);
        }
        "a name begins with raise" => {
            traceback("/home/me/driver.py", "raised = data[n]", "IndexError: 5");
            exit(1);
        }
        "raises" => {
            traceback(
                "/home/me/driver.py",
                "raise RuntimeError(text)",
                "RuntimeError: the server closed",
            );
            exit(1);
        }
        "asserts" => {
            traceback(
                "/home/me/driver.py",
                "assert len(data) == n",
                "AssertionError",
            );
            exit(1);
        }
        "logs a traceback" => {
            traceback(
                "/home/me/driver.py",
                "data[n]",
                "IndexError: index out of range",
            );
            exit(0);
        }
        "spins" => {
            *stream = None;
            while std::hint::black_box(true) {}
        }
        "closes and stays" => {
            *stream = None;
            forever();
        }
        _ if fault.starts_with("comes back") => *stream = None,
        _ => {
            eprintln!("driver: {what}");
            exit(1);
        }
    }
}

#[test]
#[ignore = "a program of other tests"]
fn driver() {
    let Some((fault, port)) = asked_for() else {
        return;
    };
    let connect = || TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut stream = Some(connect());
    let (mut memory, mut reply, mut back) = (Memory::default(), None, false);
    loop {
        let line = stream.get_or_insert_with(|| {
            (reply, back) = (None, true);
            // A driver that waits until its server is restarted.
            loop {
                match TcpStream::connect(("127.0.0.1", port)) {
                    Ok(stream) => break stream,
                    Err(_) => sleep(Duration::from_millis(20)),
                }
            }
        });
        if fault == "impatient" {
            line.set_read_timeout(Some(Duration::from_millis(500)))
                .unwrap();
        }
        let mut word = [0; 12];
        let read = match &*fault {
            "one recv" => line
                .read(&mut word)
                .map(|len| if len < 12 { 0 } else { len }),
            _ => line.read_exact(&mut word).map(|()| 12),
        };
        match read {
            Ok(12) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                fails(&fault, &mut stream, "the server is silent");
                continue;
            }
            _ => {
                fails(&fault, &mut stream, "the server closed");
                continue;
            }
        }
        match (word.trim_ascii(), &*fault) {
            (_, "comes back and refuses") if back => {
                eprintln!("driver: the server was not whole");
                exit(1);
            }
            (_, "comes back and hangs") if back => sleep(Duration::from_secs(600)),
            (b"STATUS", _) if reply.is_some() => line.write_all(layout::HAVEDATA).unwrap(),
            (b"STATUS", _) => line.write_all(layout::READY).unwrap(),
            (b"POSDATA", _) => match structure(&fault, line) {
                Ok((h, inverse, positions)) => {
                    if fault == "does not converge" && memory.steps == 10 {
                        traceback(
                            "/home/me/driver.py",
                            "raise RuntimeError(text)",
                            "RuntimeError: SCF not converged",
                        );
                        exit(1);
                    }
                    let mut sent = compute(&fault, &mut memory, &h, &positions);
                    match &*fault {
                        "comes back wrong" if back => sent.energy += 1.0,
                        // This driver believes the inverse cell, and the first of two structures.
                        "believes" => sent.energy += inverse,
                        "forgets" => sent.energy += f64::from(memory.steps),
                        _ => {}
                    }
                    if fault == "believes" && reply.is_some() {
                        continue;
                    }
                    let (forces, virial) = (sent.forces.as_flattened(), sent.virial.as_flattened());
                    let virial: [f64; 9] = virial.try_into().unwrap();
                    reply = Some(layout::forceready(&[sent.energy], forces, &virial, &[b""]));
                }
                Err(_) => fails(&fault, &mut stream, "the message was cut"),
            },
            (b"GETFORCE", _) if reply.is_some() => {
                line.write_all(&reply.take().unwrap()).unwrap();
            }
            (b"GETFORCE", "believes") => line
                .write_all(&layout::forceready(&[0.0], &[], &[0.0; 9], &[b""]))
                .unwrap(),
            (b"EXIT", "closes at EXIT and stays") => {
                stream = None;
                sleep(Duration::from_secs(600));
            }
            (b"EXIT", "ignores EXIT") => {}
            (b"EXIT", "comes back") => stream = None,
            (b"EXIT", _) => exit(0),
            _ => fails(&fault, &mut stream, "what is this?"),
        }
    }
}
