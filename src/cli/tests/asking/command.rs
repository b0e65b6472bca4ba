//! The command line: help, nonsense, files that can't be read, and drivers that don't come.

use std::fs::File;
use std::process::{Output, Stdio};

use crate::example;
use crate::process::Place;
use crate::process::Transport::{Tcp, Unix};

const ONE: &str = "1\n\nAr 0 0 0\n";

fn server(arguments: &[&str]) -> Output {
    example::server().args(arguments).output().unwrap()
}

/// The one line that the server complains with.
fn complaint(output: &Output) -> &str {
    assert_eq!(output.stdout, b"", "{output:?}");
    let text = std::str::from_utf8(&output.stderr).unwrap();
    let line = text.strip_suffix('\n').unwrap();
    assert!(
        line.starts_with("server: ") && !line.contains('\n'),
        "{text}"
    );
    line
}

#[test]
fn nonsense_is_one_clear_line_and_status_2() {
    for (arguments, says) in [
        (&["--evaluate"][..], "the FILE of frames is missing"),
        (&["a.xyz"], "--evaluate or --steps N is missing"),
        (
            &["a.xyz", "b.xyz", "--evaluate"],
            "unexpected argument \"b.xyz\"",
        ),
        (
            &["a.xyz", "--evaluate", "--steps", "3"],
            "--steps is for molecular dynamics",
        ),
        (
            &["a.xyz", "--evaluate", "--seed", "3"],
            "--seed is for molecular dynamics",
        ),
        (
            &["a.xyz", "--steps", "0"],
            "--steps takes a number, at least 1, not \"0\"",
        ),
        (
            &["a.xyz", "--steps", "-1"],
            "--steps takes a number, not \"-1\"",
        ),
        (
            &["a.xyz", "--steps", "1", "--timestep", "0"],
            "--timestep takes fs, more than 0",
        ),
        (
            &["a.xyz", "--steps", "1", "--timestep", "inf"],
            "not \"inf\"",
        ),
        (
            &["a.xyz", "--steps", "1", "--temperature", "-1"],
            "--temperature takes K",
        ),
        (&["a.xyz", "--steps", "1", "--stride", "0"], "at least 1"),
        (&["a.xyz", "--steps", "1", "--seed", "x"], "not \"x\""),
        (
            &["a.xyz", "--evaluate", "--units", "nm"],
            "--units is one of angstrom, bohr, not \"nm\"",
        ),
        (
            &["a.xyz", "--evaluate", "--cell", "nan"],
            "--cell takes a length",
        ),
        (
            &["a.xyz", "--evaluate", "--mode", "shm"],
            "--mode is one of classic, consolidated, strict",
        ),
        (
            &["a.xyz", "--evaluate", "--batch", "2", "--mode", "strict"],
            "--batch is for --mode consolidated, not strict",
        ),
        (&["a.xyz", "--evaluate", "--batch", "0"], "at least 1"),
        (&["a.xyz", "--evaluate", "--drivers", "0"], "at least 1"),
        (&["a.xyz", "--evaluate", "--attempts", "0"], "at least 1"),
        (
            &["a.xyz", "--evaluate", "--wait", "-1"],
            "--wait takes a number of seconds",
        ),
        (
            &["a.xyz", "--evaluate", "--timeout", "soon"],
            "not \"soon\"",
        ),
        (
            &["a.xyz", "--evaluate", "--allow", "10.0.0.0/33"],
            "--allow takes a subnet",
        ),
        (
            &["a.xyz", "--evaluate", "-p", "65536"],
            "-p takes a port, not \"65536\"",
        ),
        (
            &["a.xyz", "--evaluate", "-p"],
            "missing argument for option '-p'",
        ),
        (&["a.xyz", "--evaluate", "-z"], "invalid option '-z'"),
    ] {
        let output = server(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        let line = complaint(&output);
        assert!(line.contains(says), "{arguments:?}: {line}");
    }
}

#[test]
fn help_names_every_flag() {
    let output = server(&["--help"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    for flag in [
        "-a",
        "-p",
        "-u",
        "-S",
        "-h",
        "--units",
        "--cell",
        "--allow",
        "--drivers",
        "--wait",
        "--timeout",
        "--attempts",
        "--stragglers",
        "--keep-going",
        "--mode",
        "--batch",
        "--init",
        "--fold",
        "--timestep",
        "--temperature",
        "--seed",
        "--output",
        "--stride",
    ] {
        assert!(text.contains(&format!("\n  {flag}")), "{flag}");
    }
    assert!(text.contains("FILE --evaluate") && text.contains("FILE --steps N"));
}

fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

/// A pipe that nobody reads.
fn broken() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[test]
fn help_that_cant_be_printed_is_no_panic() {
    for (stdout, code) in [(full().into(), 1), (broken(), 0)] {
        let mut command = example::server();
        let status = command.arg("--help").stdout(stdout).status().unwrap();
        assert_eq!(status.code(), Some(code));
    }
    for stderr in [full().into(), broken()] {
        let mut command = example::server();
        let status = command.arg("--nonsense").stderr(stderr).status().unwrap();
        assert_eq!(status.code(), Some(2));
    }
}

#[test]
fn a_log_that_cant_be_written_costs_no_result() {
    let place = Place::new();
    let file = place.file("three.xyz", &ONE.repeat(3));
    let driver = example::driver;
    driver();
    for stderr in [full().into(), broken()] {
        let prefix = place.path("ipi_");
        let prefix = prefix.to_str().unwrap();
        let mut command = example::server();
        command
            .args([&file, "--evaluate", "-u", "-a", "water", "-S", prefix])
            .stdout(Stdio::piped())
            .stderr(stderr);
        let server = command.spawn().unwrap();
        let mut command = driver();
        let socket = place.path("ipi_water");
        command
            .args(["-u", "-S", "", "-a", socket.to_str().unwrap(), "-m", "gas"])
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
    for arguments in [&["--evaluate"][..], &["--steps", "3"]] {
        let prefix = place.path("ipi_");
        let mut command = example::server();
        let socket = place.path("ipi_water");
        command
            .args([&file, "-u", "-a", "water", "-S", prefix.to_str().unwrap()])
            .args(arguments)
            .stdout(broken())
            .stderr(Stdio::piped());
        let server = command.spawn().unwrap();
        let mut command = example::driver();
        command
            .args(["-u", "-S", "", "-a", socket.to_str().unwrap(), "-m", "gas"])
            .stderr(Stdio::null());
        let mut driver = command.spawn().unwrap();
        let output = server.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let log = String::from_utf8(output.stderr).unwrap();
        let last = log.lines().last().unwrap();
        assert!(last.contains("Broken pipe"), "{log}");
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
            &[missing, "--evaluate"][..],
            format!("{missing}: No such file"),
        ),
        (
            &[&empty, "--evaluate"],
            format!("{empty}: there is no frame in it"),
        ),
        (
            &[&short, "--evaluate"],
            format!("{short}:4: the file ends after 1 of 2 atoms"),
        ),
        (&[&odd, "--steps", "1"], "\"Qq\" is no element".into()),
        (
            &[&good, "--steps", "1", "--output", prefix],
            format!("{full} is there already"),
        ),
    ] {
        let output = server(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        let line = complaint(&output);
        assert!(line.contains(&says), "{arguments:?}: {line}");
    }
    assert_eq!(place.read("good.out"), "of yesterday");
    // PREFIX.xyz would be the file itself.
    assert_eq!(place.read("good.xyz"), ONE);
}

#[test]
fn drivers_that_do_not_come_are_not_waited_for_for_ever() {
    let place = Place::new();
    let file = place.file("one.xyz", ONE);
    for (drivers, wanted) in [("1", "1 driver"), ("4", "4 drivers")] {
        let arguments = [&file, "--evaluate", "--wait", "0.2", "--drivers", drivers];
        let ended = place.server(Unix, &arguments).ends();
        assert_eq!(ended.code, Some(1));
        assert_eq!(ended.out, "");
        let lines: Vec<_> = ended.log.lines().collect();
        assert!(lines[0].ends_with("ipi_water"), "{lines:?}");
        assert!(lines[1].ends_with("one.xyz: a cube of 1000 bohr"));
        assert_eq!(
            lines[2],
            format!("server: waiting up to 200ms for {wanted}")
        );
        let reason = format!("server: waited 200ms for {wanted}, and 0 joined: start them");
        assert!(lines[3].starts_with(&reason), "{lines:?}");
        assert!(!place.path("ipi_water").exists());
    }
}

#[test]
fn an_address_in_use_is_told() {
    let place = Place::new();
    let file = place.file("one.xyz", ONE);
    let server = place.server(Tcp, &[&file, "--evaluate"]);
    let forcewire::net::Address::Tcp { port, .. } = &server.address else {
        unreachable!()
    };
    let arguments = [
        &file,
        "--evaluate",
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
