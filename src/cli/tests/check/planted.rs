//! A driver that is right, unless the environment's FAULT names what it does wrong.
//!
//! Pairs at all distances up to the second image, smooth everywhere. It is a test of this binary,
//! which the kit starts anew as a program.

use std::env;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::{abort, exit};
use std::thread::sleep;
use std::time::Duration;

use forcewire::Cell;
use forcewire::potential::{LennardJones, Potential};

use crate::layout;

type Vector = [f64; 3];
type Matrix = [Vector; 3];

/// What it computes: energy, forces and virial.
#[derive(Clone)]
pub struct Computed {
    pub energy: f64,
    pub forces: Vec<Vector>,
    pub virial: Matrix,
}

/// The command that starts it with a fault.
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

/// Fault and port, if the kit has started this.
pub fn asked_for() -> Option<(String, u16)> {
    let port = env::var("PORT").ok()?.parse().ok()?;
    Some((env::var("FAULT").ok()?, port))
}

pub fn real(bytes: &[u8]) -> f64 {
    f64::from_le_bytes(bytes.try_into().unwrap())
}

fn times(h: &Matrix, s: Vector) -> Vector {
    h.map(|row| row[0] * s[0] + row[1] * s[1] + row[2] * s[2])
}

/// All pairs with 27 images of each; the cell's vectors are the columns of `h`.
fn pairs(h: &Matrix, positions: &[Vector]) -> Computed {
    const SIZE: f64 = 25.0;
    let mut computed = Computed {
        energy: 0.0,
        forces: vec![[0.0; 3]; positions.len()],
        virial: [[0.0; 3]; 3],
    };
    for j in 0..positions.len() {
        for i in 0..j {
            for image in 0..27 {
                let [a, b, c] = [image % 3, image / 3 % 3, image / 9].map(|n| f64::from(n) - 1.0);
                let shift = times(h, [a, b, c]);
                let d = [0, 1, 2].map(|x| positions[j][x] - positions[i][x] + shift[x]);
                let r = 10.0 + d.iter().map(|x| x * x).sum::<f64>();
                let x = (SIZE / r).powi(3);
                computed.energy += 4e-3 * (x * x - x);
                let f = d.map(|d| -2.0 * 4e-3 * (3.0 * x - 6.0 * x * x) / r * d);
                for x in 0..3 {
                    computed.forces[j][x] += f[x];
                    computed.forces[i][x] -= f[x];
                    for (w, f) in computed.virial[x].iter_mut().zip(f) {
                        *w += d[x] * f;
                    }
                }
            }
        }
    }
    computed
}

fn transposed(m: &Matrix) -> Matrix {
    [0, 1, 2].map(|row| [0, 1, 2].map(|column| m[column][row]))
}

fn scale(m: &mut Matrix, factor: f64) {
    m.as_flattened_mut().iter_mut().for_each(|x| *x *= factor);
}

fn volume(h: &Matrix) -> f64 {
    h[0][0] * (h[1][1] * h[2][2] - h[1][2] * h[2][1])
        - h[0][1] * (h[1][0] * h[2][2] - h[1][2] * h[2][0])
        + h[0][2] * (h[1][0] * h[2][1] - h[1][1] * h[2][0])
}

/// What a driver remembers from step to step.
#[derive(Default)]
struct Memory {
    first_cell: Option<Matrix>,
    cell: Option<Matrix>,
    answer: Option<Computed>,
    steps: u32,
    natoms: Option<usize>,
}

/// Computes with this fault.
fn compute(fault: &str, memory: &mut Memory, h: &Matrix, positions: &[Vector]) -> Computed {
    const ANGSTROM: f64 = 0.529177;
    let first = *memory.first_cell.get_or_insert(*h);
    let before = memory.cell.replace(*h).unwrap_or(*h);
    let h = match fault {
        "transposed cell" => transposed(h),
        "first cell" => first,
        "earlier cell" => before,
        "angstrom" => h.map(|row| row.map(|x| ANGSTROM * x)),
        _ => *h,
    };
    let positions: Vec<_> = match fault {
        "angstrom" => positions.iter().map(|r| r.map(|x| ANGSTROM * x)).collect(),
        _ => positions.to_vec(),
    };
    let right = match fault {
        "ours in f32" => ours(&h, &positions),
        _ => pairs(&h, &positions),
    };
    let mut sent = right.clone();
    let mut forces = |factor: f64| {
        let forces = sent.forces.as_flattened_mut();
        forces.iter_mut().for_each(|x| *x *= factor);
    };
    match fault {
        "forces in eV/angstrom" => forces(51.4221),
        "forces in rydberg/bohr" => forces(2.0),
        "gradient" => forces(-1.0),
        "no forces" => forces(0.0),
        "electronvolts" => {
            forces(51.4221);
            sent.energy *= 27.2114;
            scale(&mut sent.virial, 27.2114);
        }
        "energy in electronvolts" => sent.energy *= 27.2114,
        "energy in eV, forces in rydberg" => {
            forces(2.0);
            scale(&mut sent.virial, 2.0);
            sent.energy *= 27.2114;
        }
        "energy per atom" => sent.energy /= positions.len() as f64,
        "sign of the virial" => scale(&mut sent.virial, -1.0),
        "virial in electronvolts" => scale(&mut sent.virial, 27.2114),
        "stress" => scale(&mut sent.virial, 1.0 / volume(&h)),
        "stress in GPa" => scale(&mut sent.virial, -29421.02 / volume(&h)),
        "no virial" => scale(&mut sent.virial, 0.0),
        "not symmetric" => sent.virial[0][1] += 1e-3,
        "upper half" => (sent.virial[1][0], sent.virial[2][0], sent.virial[2][1]) = (0.0, 0.0, 0.0),
        "diagonal" => {
            let [[x, ..], [_, y, _], [.., z]] = sent.virial;
            sent.virial = [[x, 0.0, 0.0], [0.0, y, 0.0], [0.0, 0.0, z]];
        }
        "all x first" => {
            let natoms = positions.len();
            let old = right.forces.as_flattened();
            let flat = sent.forces.as_flattened_mut();
            for (at, x) in old.iter().enumerate() {
                flat[at % 3 * natoms + at / 3] = *x;
            }
        }
        "other atoms" => sent.forces.reverse(),
        "float32" => {
            let forces = sent.forces.as_flattened_mut();
            forces.iter_mut().for_each(|x| *x = f64::from(*x as f32));
            sent.energy = f64::from(sent.energy as f32);
        }
        "noise" => sent.energy += 1e-5 * f64::from(memory.steps * 7919 % 13),
        "earlier forces" => {
            if let Some(before) = &memory.answer {
                sent.forces.clone_from(&before.forces);
            }
        }
        "first forces" => match &memory.answer {
            Some(first) => sent.forces.clone_from(&first.forces),
            None => memory.answer = Some(right.clone()),
        },
        "earlier answer" => {
            if let Some(before) = &memory.answer {
                sent = before.clone();
            }
        }
        "rounds" => {
            let noise = 1e-18 * f64::from(memory.steps);
            sent.forces
                .as_flattened_mut()
                .iter_mut()
                .for_each(|x| *x += noise);
        }
        "wrong for another count" if memory.natoms.is_some_and(|it| it != positions.len()) => {
            sent.energy += 1.0;
        }
        "a term without forces" => {
            sent.energy += 1e-4 * positions[0][0].sin() * positions[1][1].cos()
        }
        _ => {}
    }
    if fault.starts_with("earlier") {
        memory.answer = Some(right);
    }
    memory.steps += 1;
    memory.natoms.get_or_insert(positions.len());
    sent
}

/// forcewire's own Lennard-Jones in single precision.
fn ours(h: &Matrix, positions: &[Vector]) -> Computed {
    let mut argon = LennardJones::<f32>::new(6.43452, 0.000379384, 16.0863);
    let rounded: Vec<_> = positions.iter().map(|r| r.map(|x| x as f32)).collect();
    let mut forces = vec![[0.0; 3]; positions.len()];
    let cell = Cell::from_rows(*h);
    let found = argon.evaluate(&cell, &rounded, &mut forces).unwrap();
    Computed {
        energy: found.energy,
        forces: forces.iter().map(|f| f.map(f64::from)).collect(),
        virial: found.virial.0,
    }
}

/// Cell and positions of POSDATA.
fn structure(fault: &str, stream: &mut TcpStream) -> io::Result<(Matrix, f64, Vec<Vector>)> {
    let mut frame = [0; 148];
    stream.read_exact(&mut frame)?;
    let natoms = i32::from_le_bytes(frame[144..].try_into().unwrap());
    if natoms < 0 && fault != "believes" {
        return Err(io::Error::other("a negative number of atoms"));
    }
    let mut bytes = vec![0; 24 * natoms.max(0) as usize];
    stream.read_exact(&mut bytes)?;
    let numbers: Vec<_> = frame[..72].chunks(8).map(real).collect();
    let h = [0, 1, 2].map(|row| [0, 1, 2].map(|column| numbers[3 * row + column]));
    let numbers: Vec<_> = bytes.chunks(8).map(real).collect();
    if numbers
        .iter()
        .chain(h.as_flattened())
        .any(|x| !x.is_finite())
        && fault != "believes"
    {
        return Err(io::Error::other("a number is not finite"));
    }
    Ok((h, real(&frame[72..80]), numbers.as_chunks().0.to_vec()))
}

/// Python's words where line 7 of a program fails.
fn traceback(place: &str, source: &str, error: &str) {
    eprintln!(
        "Traceback (most recent call last):\n  File \"/home/me/driver.py\", line 7, in <module>\n    main()\n  File \
         \"{place}\", line 9, in read\n    {source}\n{error}"
    );
}

/// What it does where a message ends early or makes no sense. Returns if it connects again.
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
        "raises IndexError" => {
            traceback("/home/me/driver.py", "raise IndexError(n)", "IndexError: 5");
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
            // As a driver does that waits for its server's next start.
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
                    let mut sent = compute(&fault, &mut memory, &h, &positions);
                    match &*fault {
                        "comes back wrong" if back => sent.energy += 1.0,
                        // It takes the inverse for what it should be, and the first of two structures.
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
