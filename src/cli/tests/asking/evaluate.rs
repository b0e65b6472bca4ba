//! `forcewire evaluate`: frames in, JSON out.

use std::io::{self, PipeWriter, Write};
use std::thread;
use std::time::Duration;

use forcewire::net::{ConnectOptions, connect_with};
use forcewire::{Cell, Driver, Event, Initialize, blocking};
use serde_json::{Value, json};

use crate::process::Transport::{Tcp, Unix};
use crate::process::{Place, Server, springs, within};

const K: f64 = 0.125;
const SPRINGS: &[&str] = &["-m", "harm3d", "-o", "0.125"];

/// Positions that are not round numbers.
fn positions(frame: usize) -> Vec<[f64; 3]> {
    let at = |atom: usize, axis: usize| ((7 * frame + 3 * atom + axis) as f64).sin();
    (0..3)
        .map(|atom| [at(atom, 0), at(atom, 1), at(atom, 2)])
        .collect()
}

/// A frame of the file.
fn xyz(lattice: &str, positions: &[[f64; 3]]) -> String {
    let mut text = format!("{}\nLattice=\"{lattice}\"\n", positions.len());
    for [x, y, z] in positions {
        text += &format!("Ar {x} {y} {z}\n");
    }
    text
}

const CUBE: &str = "20 0 0 0 20 0 0 0 20";

fn frames(count: usize) -> String {
    (0..count)
        .map(|frame| xyz(CUBE, &positions(frame)))
        .collect()
}

fn lines(out: &str) -> Vec<Value> {
    out.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

fn vectors(value: &Value) -> Vec<[f64; 3]> {
    let vectors = value.as_array().unwrap();
    let vectors = vectors
        .iter()
        .map(|vector| [0, 1, 2].map(|i| number(&vector[i])));
    vectors.collect()
}

fn close(ours: &[[f64; 3]], expected: &[[f64; 3]], tolerance: f64) {
    assert_eq!(ours.len(), expected.len());
    let pairs = ours.as_flattened().iter().zip(expected.as_flattened());
    for (ours, expected) in pairs {
        assert!((ours - expected).abs() <= tolerance, "{ours} {expected}");
    }
}

/// Checks that a line belongs to this frame, computed with springs.
fn check(line: &Value, frame: usize, positions: &[[f64; 3]], tolerance: f64) {
    assert_eq!(line["frame"], json!(frame));
    let expected = springs(K, positions);
    let energy = expected.evaluation.energy;
    assert!((number(&line["energy"]) - energy).abs() <= tolerance * energy);
    close(&vectors(&line["forces"]), &expected.forces, tolerance);
    let virial = expected.evaluation.virial.0;
    close(&vectors(&line["virial"]), &virial, tolerance);
    assert_eq!(line["extras"], Value::Null);
    assert!(line["microseconds"].is_u64(), "{line}");
}

#[test]
fn every_frame_in_every_mode_over_both_transports() {
    for transport in [Tcp, Unix] {
        for mode in [
            &[][..],
            &["--mode", "classic"],
            &["--mode", "strict"],
            &["--batch", "4"],
        ] {
            let place = Place::new();
            let file = place.file("frames.xyz", &frames(10));
            let arguments = [&["evaluate", &file, "--units", "bohr"], mode].concat();
            let server = place.server(transport, &arguments);
            let driver = server.driver(SPRINGS);
            let ended = server.succeeds();
            driver.was_dismissed();
            let lines = lines(&ended.out);
            assert_eq!(lines.len(), 10);
            for (frame, line) in lines.iter().enumerate() {
                check(line, frame, &positions(frame), 1e-15);
                assert_eq!(line["driver"], json!(1));
            }
            assert!(ended.log.contains("driver 1 ("), "{}", ended.log);
            assert!(
                ended.log.contains("forcewire: 10 of 10 frames in "),
                "{}",
                ended.log
            );
        }
    }
}

#[test]
fn quick_and_slow_drivers_and_the_order_of_the_file() {
    let place = Place::new();
    let file = place.file("frames.xyz", &frames(60));
    let arguments = ["evaluate", &file, "--units", "bohr", "--drivers", "3"];
    let server = place.server(Tcp, &arguments);
    let drivers = [1, 4, 30].map(|milliseconds| {
        server.thread(move |positions| {
            thread::sleep(Duration::from_millis(milliseconds));
            Some(springs(K, positions))
        })
    });
    let ended = server.succeeds();
    for driver in drivers {
        driver.join().unwrap();
    }
    let lines = lines(&ended.out);
    assert_eq!(lines.len(), 60);
    for (frame, line) in lines.iter().enumerate() {
        check(line, frame, &positions(frame), 1e-15);
    }
    for driver in 1..=3 {
        let driver = json!(driver);
        assert!(lines.iter().any(|line| line["driver"] == driver));
    }
}

#[test]
fn angstroms_are_taken_for_granted() {
    let place = Place::new();
    let server = place.server(Tcp, &["evaluate", &place.file("it.xyz", &frames(1))]);
    let driver = server.driver(SPRINGS);
    let ended = server.succeeds();
    driver.was_dismissed();
    let bohr: Vec<_> = positions(0)
        .iter()
        .map(|r| r.map(|x| x / 0.529177210544))
        .collect();
    check(&lines(&ended.out)[0], 0, &bohr, 1e-14);
}

/// LAMMPS and i-PI need an upper triangular h. A frame with another cell gets the same energies,
/// and forces and virial in the axes of the file.
#[test]
fn a_cell_may_be_turned_and_left_handed() {
    let cell = [[14.0, 0.0, 0.0], [2.0, 13.0, 0.0], [-1.5, 3.0, 12.0]];
    let h = *Cell::from_vectors(cell).h();
    let atoms: Vec<_> = (0..8)
        .map(|i| {
            let at = [i & 1, (i >> 1) & 1, (i >> 2) & 1].map(|bit| 0.5 * f64::from(bit));
            let shaken = |x| 0.3 * f64::from(5 * i + x).sin();
            let place = |x: usize| h[x].iter().zip(at).map(|(h, s)| h * s).sum::<f64>();
            [
                place(0) + shaken(0),
                place(1) + shaken(1),
                place(2) + shaken(2),
            ]
        })
        .collect();
    // A rotation, and a reflection.
    let (sin, cos) = 0.7_f64.sin_cos();
    let turn = |[x, y, z]: [f64; 3]| {
        let [x, y, z] = [cos * x - sin * y, sin * x + cos * y, z];
        [cos * z - sin * x, y, sin * z + cos * x]
    };
    let mirror = |[x, y, z]: [f64; 3]| [x, z, y];
    let transforms: [&dyn Fn([f64; 3]) -> [f64; 3]; 3] = [&|r| r, &turn, &mirror];
    let text: String = transforms
        .iter()
        .map(|transform| {
            let lattice = cell.map(transform);
            let numbers: Vec<_> = lattice.as_flattened().iter().map(f64::to_string).collect();
            let atoms: Vec<_> = atoms.iter().map(|r| transform(*r)).collect();
            xyz(&numbers.join(" "), &atoms)
        })
        .collect();

    let place = Place::new();
    let file = place.file("turned.xyz", &text);
    let server = place.server(Unix, &["evaluate", &file, "--units", "bohr"]);
    let driver = server.driver(&["-m", "lj", "-o", "6,0.0004,13.9"]);
    let ended = server.succeeds();
    driver.was_dismissed();
    let lines = lines(&ended.out);
    let energy = number(&lines[0]["energy"]);
    let (forces, virial) = (vectors(&lines[0]["forces"]), vectors(&lines[0]["virial"]));
    let largest = forces
        .as_flattened()
        .iter()
        .fold(0.0, |largest: f64, x| largest.max(x.abs()));
    assert!(largest > 1e-4, "{largest}");
    for (line, transform) in lines.iter().zip(transforms) {
        let other = number(&line["energy"]);
        assert!(
            (other - energy).abs() < 1e-12 * energy.abs(),
            "{other} {energy}"
        );
        let expected: Vec<_> = forces.iter().map(|f| transform(*f)).collect();
        close(&vectors(&line["forces"]), &expected, 1e-12 * largest);
        // Transform the rows, then the columns.
        let rows = virial.iter().map(|row| transform(*row));
        let rows: Vec<_> = rows.collect();
        let columns = [0, 1, 2].map(|i| transform([rows[0][i], rows[1][i], rows[2][i]]));
        close(&vectors(&line["virial"]), &columns, 1e-12);
    }
}

#[test]
fn extras_come_with_their_frame() {
    let place = Place::new();
    let file = place.file("frames.xyz", &frames(4));
    let server = place.server(Unix, &["evaluate", &file]);
    let extras = [&br#"{"dipole": [0.1, 2]}"#[..], b"converged", b" ", b"\xff"];
    let mut said = extras.into_iter();
    let driver = server.thread(move |positions| {
        let mut reply = springs(K, positions);
        reply.extras = said.next().unwrap().into();
        Some(reply)
    });
    let ended = server.succeeds();
    driver.join().unwrap();
    let extras: Vec<_> = lines(&ended.out)
        .iter()
        .map(|line| line["extras"].clone())
        .collect();
    let expected = [
        json!({"dipole": [0.1, 2]}),
        json!("converged"),
        Value::Null,
        json!("\u{fffd}"),
    ];
    assert_eq!(extras, expected);
}

/// A program that writes frames may wait for each result before it writes the next frame.
#[test]
fn the_standard_input_is_answered_frame_by_frame() {
    let place = Place::new();
    let (input, mut frames) = io::pipe().unwrap();
    let write = |frames: &mut PipeWriter, frame| {
        let text = xyz(CUBE, &positions(frame));
        frames.write_all(text.as_bytes()).unwrap();
    };
    write(&mut frames, 0);
    let arguments = ["evaluate", "-", "--units", "bohr"];
    let server = place.server_with(Tcp, &arguments, input.into());
    let driver = server.driver(SPRINGS);
    for frame in 0..3 {
        let line = within("a line", || {
            server.out().lines().nth(frame).map(str::to_owned)
        });
        check(&lines(&line)[0], frame, &positions(frame), 1e-15);
        if frame < 2 {
            write(&mut frames, frame + 1);
        }
    }
    drop(frames);
    assert_eq!(server.succeeds().out.lines().count(), 3);
    driver.was_dismissed();
}

#[test]
fn a_bad_frame_of_the_standard_input_ends_it_after_those_before() {
    let place = Place::new();
    let (input, mut pipe) = io::pipe().unwrap();
    let server = place.server_with(Unix, &["evaluate", "-"], {
        pipe.write_all(frames(2).as_bytes()).unwrap();
        input.into()
    });
    let driver = server.driver(SPRINGS);
    within("two lines", || {
        (server.out().lines().count() == 2).then_some(())
    });
    pipe.write_all(b"3\n\nAr 0 0 0\nAr 1 O 2\nAr 0 0 0\n")
        .unwrap();
    let ended = server.ends();
    driver.was_dismissed();
    assert_eq!((ended.code, ended.out.lines().count()), (Some(1), 2));
    let place = ":14: column 3 is a number, not \"O\"";
    assert!(ended.log.contains(place), "{}", ended.log);
}

#[test]
fn a_frame_that_ends_drivers_is_named() {
    let place = Place::new();
    let file = place.file("frames.xyz", &frames(3));
    let arguments = ["evaluate", &file, "--units", "bohr", "--attempts", "2"];
    let server = place.server(Unix, &arguments);
    let hard = positions(1);
    let driver = || {
        let hard = hard.clone();
        server.thread(move |positions| (positions != hard).then(|| springs(K, positions)))
    };
    driver().join().unwrap();
    server.says("; its 1 evaluation goes to another");
    server.says("there is no driver; waiting up to 60s for another");
    driver().join().unwrap();
    let reason = server.fails();
    let expected = "forcewire: frame 1, which begins in line 6: 2 drivers lost over one structure";
    assert!(reason.starts_with(expected), "{reason}");
}

/// A driver that leaves when it receives one of these frames, and connects again.
fn afraid_of(server: &Server, frames: &'static [usize]) -> thread::JoinHandle<()> {
    let address = server.address.clone();
    let bad: Vec<_> = frames.iter().map(|frame| positions(*frame)).collect();
    thread::spawn(move || {
        while let Ok(mut stream) = connect_with(&address, ONCE, |_, _| {}) {
            let mut driver = Driver::new().initialize(Initialize::Once);
            let mut cells = [Cell::orthorhombic([0.0; 3]); 8];
            let mut all = vec![[0.0; 3]; 64];
            loop {
                let receive = driver.receive_batch(&mut cells, &mut all);
                let (natoms, structures) = match blocking::run(&mut stream, receive) {
                    Ok(Event::Positions {
                        natoms, structures, ..
                    }) => (natoms, structures),
                    Ok(Event::Init { .. }) => continue,
                    Ok(_) => return,
                    Err(_) => break,
                };
                let chunks = || all.chunks(natoms).take(structures);
                if chunks().any(|chunk| bad.iter().any(|bad| bad == chunk)) {
                    break;
                }
                let replies: Vec<_> = chunks().map(|chunk| springs(K, chunk)).collect();
                let evaluations: Vec<_> = replies.iter().map(|reply| reply.evaluation).collect();
                let forces: Vec<_> = replies
                    .iter()
                    .flat_map(|reply| &reply.forces)
                    .copied()
                    .collect();
                let extras = vec![&b""[..]; structures];
                let reply = driver.reply_batch(&evaluations, &forces, &extras);
                if blocking::run(&mut stream, reply).is_err() {
                    break;
                }
            }
        }
    })
}

const ONCE: ConnectOptions = ConnectOptions::new().connect(Duration::ZERO);

#[test]
fn it_keeps_going_after_a_frame_that_ends_drivers() {
    for batch in ["1", "4"] {
        let place = Place::new();
        let file = place.file("frames.xyz", &frames(10));
        let server = place.server(
            Unix,
            &[
                "evaluate",
                &file,
                "--units",
                "bohr",
                "--attempts",
                "1",
                "--batch",
                batch,
                "--keep-going",
            ],
        );
        let driver = afraid_of(&server, &[2, 9]);
        let ended = server.ends();
        driver.join().unwrap();
        assert_eq!(ended.code, Some(1));
        assert!(
            ended
                .log
                .ends_with("forcewire: 2 frames can't be computed\n"),
            "{}",
            ended.log
        );
        let lines = lines(&ended.out);
        assert_eq!(lines.len(), 10);
        for (frame, line) in lines.iter().enumerate() {
            if [2, 9].contains(&frame) {
                assert_eq!(line["frame"], json!(frame));
                let error = line["error"].as_str().unwrap();
                assert!(error.contains("lost over one structure"), "{error}");
            } else {
                check(line, frame, &positions(frame), 1e-15);
            }
        }
    }
}

#[test]
fn it_waits_while_drivers_come_and_go() {
    let place = Place::new();
    let file = place.file("frames.xyz", &frames(2));
    let arguments = ["evaluate", &file, "--units", "bohr", "--wait", "0.6"];
    let server = place.server(Unix, &arguments);
    for _ in 0..8 {
        server.thread(|_| None).join().unwrap();
        thread::sleep(Duration::from_millis(200));
    }
    let driver = server.driver(SPRINGS);
    let ended = server.succeeds();
    driver.was_dismissed();
    assert_eq!(lines(&ended.out).len(), 2);
}

#[test]
fn a_driver_that_takes_too_long_is_dropped() {
    let place = Place::new();
    let file = place.file("frames.xyz", &frames(1));
    let arguments = ["evaluate", &file, "--timeout", "0.2", "--wait", "0.2"];
    let server = place.server(Tcp, &arguments);
    let driver = server.driver(&["-m", "gas", "-o", "600"]);
    server.says("left: waited 200ms for the driver's forces: is it still computing?");
    let reason = server.fails();
    assert!(
        reason.contains("there is no driver, and none has come within"),
        "{reason}"
    );
    driver.kill();
}
