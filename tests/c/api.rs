//! Programs that use the library's own calls, in both roles: against peers that end in the middle
//! of a message, against each other's machines, and in i-PI's simulations.

use std::io::{self, Read};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use tempfile::tempdir;

use crate::ends::{BROKEN, CLOSED, CONNECTION, NO_ROOM, NOT_FINITE, OK, POTENTIAL, ends};
use crate::ipi::{self, NAME, SPRING, Simulation};
use crate::layout;
use crate::process::Process;
use crate::tools::{WATCHES, Watch, program};
use crate::wire::{
    EXIT, GETFORCE, HAVEDATA, READY, STATUS, accept, answers, close, conversation, forceready,
    hear, listen, posdata, reset, say,
};

/// The ways in which `driver.c` can serve.
const HOWS: [&str; 4] = ["serve", "arrays", "steps", "functions"];

fn driver(watch: Watch, how: &str, port: u16, k: &str, times: usize) -> Command {
    let mut command = program(watch, &["tests/c/driver.c"], &[]);
    command.args([how, &format!("127.0.0.1:{port}"), k, &times.to_string()]);
    command
}

fn server(watch: Watch, how: &str, port: u16, times: usize) -> Command {
    let mut command = program(watch, &["tests/c/server.c"], &[]);
    command.args([how, &port.to_string(), &times.to_string()]);
    command
}

#[test]
fn a_driver_never_computes_on_what_has_not_come() {
    let (conversation, boundaries) = conversation();
    // All offsets in each way, and each kind of watch in one of them.
    let runs = HOWS.map(|how| (how, Watch::None)).into_iter();
    for (how, watch) in runs.chain([("serve", WATCHES[2]), ("functions", WATCHES[1])]) {
        let (listener, port) = listen();
        let directory = tempdir().unwrap();
        let mut command = driver(watch, how, port, "0", conversation.len() + 1);
        let mut driver = Process::start(&mut command, "driver", directory.path());
        for end in 0..=conversation.len() {
            let mut peer = accept(&listener);
            say(&mut peer, &conversation[..end]);
            let heard = close(peer);
            let said = heard.escape_ascii();
            assert!(heard == answers(end), "{how}, byte {end}: {said}");
        }
        for (end, (evaluations, status, text)) in ends(&driver.success()).into_iter().enumerate() {
            let positions = [boundaries[4], boundaries[8]];
            let complete = positions.iter().filter(|&&at| end >= at).count();
            assert_eq!(evaluations, complete, "{how}, byte {end}: {text}");
            let expected = if boundaries.contains(&end) {
                CLOSED
            } else {
                BROKEN
            };
            assert!(
                text.contains("closed the connection"),
                "{how}, byte {end}: {text}"
            );
            assert_eq!(status, expected, "{how}, byte {end}: {text}");
        }
    }
}

#[test]
fn a_driver_that_is_reset_never_computes_on_what_has_not_come() {
    let (conversation, boundaries) = conversation();
    for how in HOWS {
        let (listener, port) = listen();
        let directory = tempdir().unwrap();
        // Before its first answer the program may still be connecting, and would then try again.
        let offsets = boundaries[1]..conversation.len();
        let mut command = driver(Watch::None, how, port, "0", offsets.len());
        let mut driver = Process::start(&mut command, "driver", directory.path());
        for end in offsets.clone() {
            let mut peer = accept(&listener);
            say(&mut peer, &conversation[..end]);
            hear(&mut peer, &answers(end));
            reset(peer);
        }
        let ends = ends(&driver.success());
        assert_eq!(ends.len(), offsets.len());
        for (end, (evaluations, status, text)) in offsets.zip(ends) {
            let positions = [boundaries[4], boundaries[8]];
            let complete = positions.iter().filter(|&&at| end >= at).count();
            assert!(evaluations <= complete, "{how}, byte {end}: {text}");
            assert_eq!(status, CONNECTION, "{how}, byte {end}: {text}");
        }
    }
}

/// A driver's messages to a server that evaluates twice, and the end of each.
fn replies() -> (Vec<u8>, Vec<usize>) {
    let replies = [
        READY,
        &forceready(2, 0.0),
        READY,
        &forceready(2, 50.0),
        READY,
    ];
    let mut at = 0;
    let ends = replies.iter().map(|reply| {
        at += reply.len();
        at
    });
    (replies.concat(), ends.collect())
}

#[test]
fn a_server_never_returns_forces_that_have_not_come() {
    let (replies, boundaries) = replies();
    for watch in WATCHES {
        let (listener, port) = listen();
        let directory = tempdir().unwrap();
        let mut command = server(watch, "evaluate", port, 2 * replies.len());
        let mut server = Process::start(&mut command, "server", directory.path());
        for end in 0..replies.len() {
            for resets in [false, true] {
                let mut peer = accept(&listener);
                say(&mut peer, &replies[..end]);
                if resets {
                    reset(peer);
                } else {
                    close(peer);
                }
            }
        }
        for (case, (evaluations, status, text)) in ends(&server.success()).into_iter().enumerate() {
            let end = case / 2;
            let complete = boundaries[1..4]
                .iter()
                .step_by(2)
                .filter(|&&at| end >= at)
                .count();
            if case % 2 == 0 {
                assert_eq!(evaluations, complete, "byte {end}: {text}");
                let expected = match end {
                    // The server needs no more answers, so its last STATUS may be answered or not.
                    _ if complete == 2 => OK,
                    _ if boundaries.contains(&end) || end == 0 => CLOSED,
                    _ => BROKEN,
                };
                assert_eq!(status, expected, "byte {end}: {text}");
            } else {
                assert!(evaluations <= complete, "byte {end}: {text}");
                assert!(
                    [OK, CONNECTION, CLOSED, BROKEN].contains(&status)
                        && (status != OK || evaluations == 2),
                    "byte {end}: {text}"
                );
            }
        }
    }
}

/// Energy, forces, virial and extras, as written byte by byte for a driver.
#[test]
fn all_of_an_answer_arrives() {
    let numbers = |natoms: usize, start: f64| {
        let forces: Vec<_> = (0..3 * natoms).map(|i| start + i as f64 / 8.0).collect();
        let virial = [0.0; 9];
        let all = [1.5].iter().chain(&forces).chain(&virial);
        all.map(f64::to_string).collect::<Vec<_>>().join(" ")
    };
    for how in ["evaluate", "classic"] {
        let (listener, port) = listen();
        let directory = tempdir().unwrap();
        let mut server = Process::start(
            &mut server(Watch::Valgrind, how, port, 1),
            "server",
            directory.path(),
        );
        let mut peer = accept(&listener);
        let replies = replies().0;
        say(&mut peer, &replies[..12]);
        let mut heard = Vec::new();
        if how == "classic" {
            // One more STATUS for each structure, before the forces are requested.
            for start in [0.0, 50.0] {
                say(&mut peer, HAVEDATA);
                say(&mut peer, &forceready(2, start));
                say(&mut peer, READY);
            }
        } else {
            say(&mut peer, &replies[12..]);
        }
        peer.shutdown(Shutdown::Write).unwrap();
        peer.read_to_end(&mut heard).unwrap();
        let expected = format!(
            "{} 0 \n{} 0 \n2 0 all is well\n",
            numbers(2, 0.0),
            numbers(2, 50.0)
        );
        assert_eq!(server.success(), expected);
        assert!(
            heard.starts_with(b"STATUS      POSDATA     "),
            "{}",
            heard.escape_ascii()
        );
        assert!(heard.ends_with(EXIT), "{}", heard.escape_ascii());
    }
}

/// Servers and drivers of this library, in C and in Rust, compute the same numbers with each other.
#[test]
fn both_languages_compute_the_same_bits() {
    let ask = |how: &str, start: &dyn Fn(u16) -> Command| {
        let (listener, port) = listen();
        let directory = tempdir().unwrap();
        let (relay, relayed) = listen();
        let mut driver = Process::start(&mut start(relayed), "driver", directory.path());
        let mut server = Process::start(
            &mut server(Watch::None, how, port, 1),
            "server",
            directory.path(),
        );
        join(accept(&listener), accept(&relay));
        driver.success();
        server.success()
    };
    let rust = ask("evaluate", &|port| ipi::rust(port, ""));
    let lines: Vec<_> = rust.lines().collect();
    assert_eq!(lines.len(), 3, "{rust}");
    for how in HOWS {
        for asks in ["evaluate", "classic", "steps"] {
            let said = ask(asks, &|port| driver(Watch::None, how, port, SPRING, 1));
            // All but the extras, which the Rust driver does not send.
            for (line, expected) in said.lines().zip(&lines).take(2) {
                let numbers: Vec<_> = line.split(' ').take(16).collect();
                let expected: Vec<_> = expected.split(' ').take(16).collect();
                assert_eq!(numbers, expected, "{how}, {asks}");
                let extras = if ["serve", "arrays"].contains(&how) {
                    " 0 "
                } else {
                    " 2 {}"
                };
                assert!(line.ends_with(extras), "{how}, {asks}: {line}");
            }
            assert_eq!(
                said.lines().last(),
                Some("2 0 all is well"),
                "{how}, {asks}"
            );
        }
    }
}

#[test]
fn a_driver_runs_simulations() {
    let batches = Simulation {
        beads: 8,
        batch: 3,
        ..Simulation::CONSOLIDATED
    };
    let runs = [
        ("serve", Watch::Valgrind, batches),
        ("serve", Watch::None, Simulation::CLASSIC),
        ("arrays", Watch::Sanitizers, Simulation::CONSOLIDATED),
        ("steps", Watch::Valgrind, Simulation::CLASSIC),
        ("functions", Watch::Sanitizers, Simulation::CONSOLIDATED),
    ];
    for (how, watch, simulation) in runs {
        simulation.agrees(|port, _| driver(watch, how, port, SPRING, 1));
    }
    Simulation::UNIX.agrees(|_, prefix| {
        let mut command = program(Watch::Valgrind, &["tests/c/driver.c"], &[]);
        command.args(["arrays", &format!("unix:{prefix}{NAME}"), SPRING]);
        command
    });
}

/// A driver without forces reads GETFORCE before it closes: i-PI's server hangs if the connection
/// is reset.
#[test]
fn a_potential_that_fails_does_not_reset_the_connection() {
    let ends_with = |how: &str, k: &str, peer: &dyn Fn(&mut TcpStream)| {
        let (listener, port) = listen();
        let directory = tempdir().unwrap();
        let mut command = driver(Watch::None, how, port, k, 1);
        let mut driver = Process::start(&mut command, "driver", directory.path());
        let mut server = accept(&listener);
        peer(&mut server);
        let mut heard = Vec::new();
        server.read_to_end(&mut heard).unwrap();
        assert!(heard.is_empty(), "{how}, {k}: {}", heard.escape_ascii());
        let (evaluations, status, text) = ends(&driver.success()).remove(0);
        // The program's own loop has no potential: the infinite forces are refused.
        let expected = if k == "inf" && how != "steps" {
            POTENTIAL
        } else {
            NOT_FINITE
        };
        assert_eq!((evaluations, status), (1, expected), "{how}, {k}: {text}");
    };
    for k in ["inf", "nan"] {
        for how in ["serve", "arrays", "steps"] {
            // While the potential computes, which takes 200 ms.
            ends_with(how, k, &|server| {
                say(server, &posdata(2, 1.0));
                thread::sleep(Duration::from_millis(50));
                say(server, GETFORCE);
            });
            // After the potential has failed.
            ends_with(how, k, &|server| {
                say(server, &posdata(2, 1.0));
                thread::sleep(Duration::from_millis(300));
                // STATUS is not answered, because a classic i-PI would then ask for forces forever.
                say(server, STATUS);
            });
        }
    }
}

/// The server has sent the atoms and GETFORCE. It receives the end of the connection, and no reset.
#[test]
fn more_atoms_than_there_is_room_for_are_refused() {
    let refused = |how: &str, sent: &[u8], natoms: usize, room: &str| {
        let (listener, port) = listen();
        let directory = tempdir().unwrap();
        let mut command = driver(Watch::None, how, port, "0", 1);
        let mut driver = Process::start(&mut command, "driver", directory.path());
        let mut server = accept(&listener);
        say(&mut server, sent);
        let mut heard = Vec::new();
        server.read_to_end(&mut heard).unwrap();
        assert!(heard.is_empty(), "{natoms}: {}", heard.escape_ascii());
        let (evaluations, status, text) = ends(&driver.success()).remove(0);
        assert_eq!((evaluations, status), (0, NO_ROOM), "{text}");
        let numbers = [room, &natoms.to_string()];
        assert!(numbers.iter().all(|number| text.contains(number)), "{text}");
    };
    for natoms in [1001, 5000, 200_000] {
        let sent = [&posdata(natoms, 0.0), GETFORCE].concat();
        refused("arrays", &sent, natoms, "1000");
    }
    // One atom more than the library allocates. A megabyte of positions is enough to leave some
    // unread.
    let mut sent = [&posdata(50_000, 0.0), GETFORCE].concat();
    layout::put_integer(&mut sent, layout::Posdata::of(0).atoms(), 10_000_001);
    refused("serve", &sent, 10_000_001, "");
}

#[test]
fn what_makes_no_sense_is_refused() {
    for watch in WATCHES {
        program_succeeds(watch, "tests/c/misuse.c");
    }
}

#[test]
fn hosts_are_reached_as_from_rust() {
    for watch in WATCHES {
        let directory = tempdir().unwrap();
        let mut command = program(watch, &["tests/c/hosts.c"], &[]);
        command.arg(directory.path());
        Process::start(&mut command, "hosts", directory.path()).success();
    }
}

#[test]
fn handles_have_nothing_in_common() {
    for watch in WATCHES {
        program_succeeds(watch, "tests/c/threads.c");
    }
}

fn program_succeeds(watch: Watch, source: &str) {
    let directory = tempdir().unwrap();
    Process::start(
        &mut program(watch, &[source], &[]),
        "program",
        directory.path(),
    )
    .success();
}

/// Forwards bytes between two peers that have both connected to us, until both have closed.
fn join(one: TcpStream, other: TcpStream) {
    let hand_on = |mut from: TcpStream, mut to: TcpStream| {
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        })
    };
    hand_on(one.try_clone().unwrap(), other.try_clone().unwrap());
    hand_on(other, one);
}
