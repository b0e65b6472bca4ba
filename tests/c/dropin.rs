//! Programs that call `open_socket`, `readbuffer` and `writebuffer`, against misbehaving peers.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::tempdir;

use crate::ends::{BROKEN, CLOSED, CONNECTION, OK, ends};
use crate::layout;
use crate::process::Process;
use crate::tools::{WATCHES, Watch, program};
use crate::wire::{
    EXIT, GETFORCE, IPV6, STATUS, accept, answers, close, conversation, forceready, hear, listen,
    listen_at, posdata, reset, say,
};

/// `dropin.c` against a server over TCP.
fn start(watch: Watch, port: u16, times: usize, directory: &Path) -> Process {
    let mut command = program(watch, &["tests/c/dropin.c"], &[]);
    command.args([
        "1",
        &port.to_string(),
        "localhost",
        "/tmp/ipi_",
        &times.to_string(),
    ]);
    Process::start(&mut command, "dropin", directory)
}

#[test]
fn a_stream_that_ends_at_any_byte_never_succeeds() {
    let (conversation, boundaries) = conversation();
    for watch in WATCHES {
        let (listener, port) = listen();
        let directory = tempdir().unwrap();
        let mut driver = start(watch, port, conversation.len() + 1, directory.path());
        for end in 0..=conversation.len() {
            let mut peer = accept(&listener);
            say(&mut peer, &conversation[..end]);
            let heard = close(peer);
            assert!(
                heard == answers(end),
                "byte {end}: {}",
                heard.escape_ascii()
            );
        }
        let said = driver.success();
        for (end, (evaluations, status, text)) in ends(&said).into_iter().enumerate() {
            let complete = answers(end).len();
            let expected = usize::from(complete >= answers(boundaries[6]).len())
                + usize::from(end == conversation.len());
            assert_eq!(evaluations, expected, "byte {end}: {text}");
            let expected = if boundaries.contains(&end) {
                CLOSED
            } else {
                BROKEN
            };
            assert_eq!(status, expected, "byte {end}: {text}");
            assert!(
                text.starts_with(&format!("localhost:{port} closed the connection ")),
                "{text}"
            );
        }
    }
}

#[test]
fn a_stream_that_is_reset_at_any_byte_never_succeeds() {
    let (conversation, _) = conversation();
    for watch in WATCHES {
        let (listener, port) = listen();
        let directory = tempdir().unwrap();
        let mut driver = start(watch, port, conversation.len(), directory.path());
        for end in 0..conversation.len() {
            let mut peer = accept(&listener);
            say(&mut peer, &conversation[..end]);
            // The connection ends after everything was answered, when the program has read a part,
            // or when it has read nothing.
            if end % 3 > 0 {
                hear(&mut peer, &answers(end));
            }
            reset(peer);
        }
        for (end, (evaluations, status, text)) in ends(&driver.success()).into_iter().enumerate() {
            assert!(evaluations <= 2, "byte {end}: {text}");
            // On a busy machine the reset arrives before the program reads its socket.
            if status == CLOSED && end % 3 == 0 {
                continue;
            }
            assert_eq!(status, CONNECTION, "byte {end}: {text}");
            let lost = text.starts_with(&format!("connection to localhost:{port} lost after "));
            // On a busy machine the reset arrives before the program's `connect` has returned.
            let connecting =
                end % 3 == 0 && text.starts_with(&format!("no connection to localhost:{port}: "));
            assert!(lost || connecting, "{text}");
        }
    }
}

#[test]
fn a_peer_that_dribbles_is_understood() {
    let (conversation, _) = conversation();
    for watch in WATCHES {
        let (listener, port) = listen();
        let directory = tempdir().unwrap();
        let mut driver = start(watch, port, 1, directory.path());
        let mut peer = accept(&listener);
        for &byte in [&conversation, EXIT].concat().iter() {
            say(&mut peer, &[byte]);
            thread::sleep(Duration::from_micros(100));
        }
        hear(&mut peer, &answers(conversation.len()));
        assert_eq!(ends(&driver.success())[0], (2, OK, "all is well".into()));
    }
}

#[test]
fn more_than_the_socket_holds_arrives_whole() {
    let (listener, port) = listen();
    let directory = tempdir().unwrap();
    let mut driver = start(Watch::None, port, 1, directory.path());
    let mut peer = accept(&listener);
    let natoms = 100_000;
    for _ in 0..5 {
        say(&mut peer, &[&posdata(natoms, 0.0), GETFORCE].concat());
        // Wait until the program's send finds no room.
        thread::sleep(Duration::from_millis(20));
        hear(&mut peer, &forceready(natoms, 0.0));
    }
    say(&mut peer, EXIT);
    assert_eq!(ends(&driver.success())[0].0, 5);
}

#[test]
fn without_a_word_from_the_program_an_error_is_a_line_and_a_status() {
    let (listener, port) = listen();
    let directory = tempdir().unwrap();
    // The bytes that the server sends before it closes, the expected status, and the message.
    let broken = [STATUS, &posdata(2, 0.0)[..100]].concat();
    let cases: [(&[u8], i32, &str); 3] = [
        (
            STATUS,
            CLOSED,
            "closed the connection between two messages, after 0 of 12 bytes: ",
        ),
        (
            &broken,
            BROKEN,
            "closed the connection in the middle of a message, after 16 of 72 bytes: ",
        ),
        (
            b"STAT",
            BROKEN,
            "closed the connection in the middle of a message, after 4 of 12 bytes: ",
        ),
    ];
    for (sent, status, words) in cases {
        let mut driver = start(Watch::None, port, 0, directory.path());
        let mut peer = accept(&listener);
        say(&mut peer, sent);
        close(peer);
        let (code, said) = driver.end();
        assert_eq!(code, Some(status), "{said}");
        assert!(
            said.starts_with(&format!("forcewire: localhost:{port} {words}")),
            "{said}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    drop(listener);
    let (code, said) = start(Watch::None, port, 0, directory.path()).end();
    assert_eq!(code, Some(CONNECTION), "{said}");
    let words = format!(
        "forcewire: no connection to localhost:{port}: Connection refused (os error 111): start the server first\n"
    );
    assert_eq!(said, words);
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    for watch in WATCHES {
        let (listener, port) = listen();
        let mut command = program(watch, &["tests/c/arguments.c"], &[]);
        command.arg(port.to_string());
        let directory = tempdir().unwrap();
        let mut process = Process::start(&mut command, "arguments", directory.path());
        let mut peer = accept(&listener);
        say(&mut peer, b"12345678");
        hear(&mut peer, b"abc");
        process.success();
    }
}

#[test]
fn ipv6_and_unix_sockets_are_connected_to() {
    let directory = tempdir().unwrap();
    let (listener, port) = listen_at(IPV6);
    let mut command = program(Watch::None, &["tests/c/dropin.c"], &[]);
    command.args(["1", &port.to_string(), "::1", "", "1"]);
    let mut driver = Process::start(&mut command, "ipv6", directory.path());
    say(&mut accept(&listener), EXIT);
    assert_eq!(ends(&driver.success())[0].1, OK);

    let prefix = format!("{}/ipi_", directory.path().display());
    let listener = std::os::unix::net::UnixListener::bind(format!("{prefix}argon")).unwrap();
    let mut command = program(Watch::None, &["tests/c/dropin.c"], &[]);
    // The blanks are Fortran's padding.
    command.args(["0", "0", "argon    ", &prefix, "2"]);
    let mut driver = Process::start(&mut command, "unix", directory.path());
    let (mut peer, _) = listener.accept().unwrap();
    // The listener goes before the program connects again.
    drop(listener);
    std::io::Write::write_all(&mut peer, EXIT).unwrap();
    drop(peer);
    let said = driver.success();
    let ends = ends(&said);
    assert_eq!(ends[0].1, OK);
    assert_eq!(ends[1].1, CONNECTION);
    let words = format!("no connection to {prefix}argon: Connection refused");
    assert!(ends[1].2.starts_with(&words), "{said}");
}

/// The peer sends its pieces separately with Nagle's algorithm on, as ASE and LAMMPS 2021 do.
#[test]
fn a_peer_without_nodelay_does_not_wait_for_acknowledgements() {
    const STEPS: usize = 40;
    let (listener, port) = listen();
    let directory = tempdir().unwrap();
    let mut driver = start(Watch::None, port, 1, directory.path());
    let mut peer = accept(&listener);
    peer.set_nodelay(false).unwrap();
    let message = posdata(64, 0.0);
    let mut steps = Vec::new();
    for _ in 0..STEPS {
        let begin = Instant::now();
        for piece in layout::pieces(&message) {
            say(&mut peer, piece);
        }
        say(&mut peer, GETFORCE);
        hear(&mut peer, &forceready(64, 0.0));
        steps.push(begin.elapsed());
    }
    say(&mut peer, EXIT);
    driver.success();
    // Delayed acknowledgements cost 40 ms in every step after a connection's first few.
    let fastest = steps[STEPS / 2..].iter().min().unwrap();
    assert!(*fastest < Duration::from_millis(20), "{steps:?}");
}
