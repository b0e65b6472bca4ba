//! The command line: help, nonsense, unreadable files, and drivers that don't come.

use std::fs::File;
use std::process::{Output, Stdio};

use crate::process::Transport::{Tcp, Unix};
use crate::process::{Place, forcewire};

const ONE: &str = "1\n\nAr 0 0 0\n";

fn server(arguments: &[&str]) -> Output {
    forcewire().args(arguments).output().unwrap()
}

/// The line with the server's complaint, after its notes about the file.
fn complaint(output: &Output) -> &str {
    assert_eq!(output.stdout, b"", "{output:?}");
    let text = std::str::from_utf8(&output.stderr).unwrap();
    let mut lines = text.lines().rev();
    let is_reason = |line: &&str| !line.ends_with(" are done");
    let line = lines.find(is_reason).unwrap();
    assert!(line.starts_with("forcewire: "), "{text}");
    line
}

#[test]
fn nonsense_is_status_2_and_named_by_its_flag() {
    for (arguments, says) in [
        ("evaluate", "<FILE>"),
        ("evaluate a.xyz b.xyz", "'b.xyz'"),
        ("evaluate a.xyz --steps 3", "'--steps'"),
        ("md a.xyz --steps 1 --timestep inf", "it is not a number"),
        ("md a.xyz --steps 1 --stride 0", "--stride <N>"),
        ("md a.xyz --steps 1 --seed x", "'x'"),
        ("evaluate a.xyz --units nm", "'nm'"),
        ("evaluate a.xyz --cell nan", "it is not a number"),
        ("evaluate a.xyz --mode shm", "'shm'"),
        ("evaluate a.xyz --batch 0", "--batch <N>"),
        ("evaluate a.xyz --drivers 0", "--drivers <N>"),
        ("evaluate a.xyz --attempts 0", "--attempts <N>"),
        ("evaluate a.xyz --wait=-1", "it must not be negative"),
        ("evaluate a.xyz --timeout soon", "it is not a number"),
        ("evaluate a.xyz --allow 10.0.0.0/33", "'10.0.0.0/33'"),
        ("evaluate a.xyz -p 65536", "'65536'"),
        ("evaluate a.xyz -p", "'--port <PORT>'"),
        ("evaluate a.xyz -z", "'-z'"),
    ] {
        let output = server(&arguments.split(' ').collect::<Vec<_>>());
        assert_eq!(output.status.code(), Some(2), "{arguments}: {output:?}");
        assert_eq!(output.stdout, b"", "{arguments}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(says), "{arguments}: {text}");
    }
}

fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

/// A pipe without a reader.
fn broken() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[test]
fn help_that_cant_be_printed_is_no_panic() {
    for stdout in [full().into(), broken()] {
        let mut command = forcewire();
        let status = command.arg("--help").stdout(stdout).status().unwrap();
        assert_eq!(status.code(), Some(0));
    }
    for stderr in [full().into(), broken()] {
        let mut command = forcewire();
        let status = command.arg("--nonsense").stderr(stderr).status().unwrap();
        assert_eq!(status.code(), Some(2));
    }
}

#[test]
fn a_log_that_cant_be_written_costs_no_result() {
    let place = Place::new();
    let file = place.file("three.xyz", &ONE.repeat(3));
    for stderr in [full().into(), broken()] {
        let prefix = place.path("ipi_");
        let prefix = prefix.to_str().unwrap();
        let mut command = forcewire();
        command
            .args(["evaluate", &file, "-u", "-a", "water", "-S", prefix])
            .stdout(Stdio::piped())
            .stderr(stderr);
        let server = command.spawn().unwrap();
        let mut command = forcewire();
        let socket = place.path("ipi_water");
        command
            .args([
                "driver",
                "-u",
                "-S",
                "",
                "-a",
                socket.to_str().unwrap(),
                "-m",
                "gas",
            ])
            .stderr(Stdio::null());
        let mut driver = command.spawn().unwrap();
        let output = server.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 3);
        assert!(driver.wait().unwrap().success());
    }
}

#[test]
fn results_that_cant_be_printed_are_the_reason_of_the_end() {
    let place = Place::new();
    let file = place.file("three.xyz", &ONE.repeat(3));
    for arguments in [&["evaluate"][..], &["md", "--steps", "3"]] {
        let prefix = place.path("ipi_");
        let mut command = forcewire();
        let socket = place.path("ipi_water");
        command
            .args(arguments)
            .args([&file, "-u", "-a", "water", "-S", prefix.to_str().unwrap()])
            .stdout(broken())
            .stderr(Stdio::piped());
        let server = command.spawn().unwrap();
        let mut command = forcewire();
        command
            .args([
                "driver",
                "-u",
                "-S",
                "",
                "-a",
                socket.to_str().unwrap(),
                "-m",
                "gas",
            ])
            .stderr(Stdio::null());
        let mut driver = command.spawn().unwrap();
        let output = server.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let log = String::from_utf8(output.stderr).unwrap();
        let mut lines = log.lines().rev();
        assert!(lines.next().unwrap().contains(" of 3 "), "{log}");
        assert!(lines.next().unwrap().contains("Broken pipe"), "{log}");
        assert!(driver.wait().unwrap().success(), "it was told to exit");
    }
}

#[test]
fn what_cant_be_read_is_status_1_before_anyone_waits() {
    let place = Place::new();
    let empty = place.file("empty.xyz", "\n");
    let short = place.file("short.xyz", "2\n\nAr 0 0 0\n");
    let odd = place.file("odd.xyz", "1\n\nQq 0 0 0\n");
    let good = place.file("good.xyz", ONE);
    let full = place.file("good.out", "of yesterday");
    let prefix = full.strip_suffix(".out").unwrap();
    let missing = place.path("missing.xyz");
    let missing = missing.to_str().unwrap();
    for (arguments, says) in [
        (
            &["evaluate", missing][..],
            format!("{missing}: No such file"),
        ),
        (
            &["evaluate", &empty],
            format!("{empty}: there is no frame in it"),
        ),
        (
            &["evaluate", &short],
            format!("{short}:3: the file ends after 1 of 2 atoms"),
        ),
        (&["md", &odd, "--steps", "1"], "\"Qq\" is no element".into()),
        (
            &["md", &good, "--steps", "1", "--output", prefix],
            format!("{full} is there already"),
        ),
    ] {
        let output = server(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        let line = complaint(&output);
        assert!(line.contains(&says), "{arguments:?}: {line}");
    }
    assert_eq!(place.read("good.out"), "of yesterday");
    // With this prefix, PREFIX.xyz would be the input file.
    assert_eq!(place.read("good.xyz"), ONE);
}

#[test]
fn drivers_that_do_not_come_are_not_waited_for_for_ever() {
    let place = Place::new();
    let file = place.file("one.xyz", ONE);
    for (drivers, wanted) in [("1", "1 driver"), ("4", "4 drivers")] {
        let arguments = ["evaluate", &file, "--wait", "0.2", "--drivers", drivers];
        let ended = place.server(Unix, &arguments).ends();
        assert_eq!(ended.code, Some(1));
        assert_eq!(ended.out, "");
        let lines: Vec<_> = ended.log.lines().collect();
        assert!(lines[0].contains("the cell that is sent is 1000 bohr long"));
        assert!(lines[1].ends_with("ipi_water"), "{lines:?}");
        assert_eq!(
            lines[2],
            format!("forcewire: waiting up to 200ms for {wanted}")
        );
        let reason = format!("forcewire: waited 200ms for {wanted}, and 0 joined: start them");
        assert!(lines[3].starts_with(&reason), "{lines:?}");
        assert!(!place.path("ipi_water").exists());
    }
}

#[test]
fn an_address_in_use_is_told() {
    let place = Place::new();
    let file = place.file("one.xyz", ONE);
    let server = place.server(Tcp, &["evaluate", &file]);
    let forcewire::net::Address::Tcp { port, .. } = &server.address else {
        unreachable!()
    };
    let arguments = [
        "evaluate",
        &file,
        "-a",
        "127.0.0.1",
        "-p",
        &port.to_string(),
    ];
    let output = self::server(&arguments);
    assert_eq!(output.status.code(), Some(1));
    let line = complaint(&output);
    assert!(
        line.contains("another server does, end it or choose another address"),
        "{line}"
    );
}
