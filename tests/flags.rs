//! The command line of `examples/driver.rs`: help, nonsense, and a server that isn't there.

#[path = "common/example.rs"]
mod example;

use std::net::TcpListener;
use std::process::Output;

fn driver(arguments: &[&str]) -> Output {
    example::driver().args(arguments).output().unwrap()
}

/// The one line that the driver complains with.
fn complaint(output: &Output) -> &str {
    assert_eq!(output.stdout, b"", "{output:?}");
    let text = std::str::from_utf8(&output.stderr).unwrap();
    let line = text.strip_suffix('\n').unwrap();
    assert!(
        line.starts_with("driver: ") && !line.contains('\n'),
        "{text}"
    );
    line
}

#[test]
fn nonsense_is_one_clear_line_and_status_2() {
    for (arguments, says) in [
        (&["-p", "31415"][..], "-m MODEL is missing"),
        (&["-m", "water"], "not \"water\""),
        (
            &["-m", "lj"],
            "-o SIGMA,EPSILON,CUTOFF, and -o gives 0 numbers",
        ),
        (&["-m", "lj", "-o", "1,2"], "-o gives 2 numbers"),
        (&["-m", "lj", "-o", "1,2,x"], "not \"x\""),
        (&["-m", "lj", "-o", "1,2,nan"], "NaN"),
        (&["-m", "harm", "-o"], "missing argument for option '-o'"),
        (&["-m", "gas", "-p", "65536"], "not \"65536\""),
        (&["-m", "gas", "-p", "ipi"], "not \"ipi\""),
        (&["-m", "gas", "-z"], "invalid option '-z'"),
        (&["-m", "gas", "argon"], "unexpected argument \"argon\""),
        (&["-m", "gas", "--cutoff", "tail"], "--cutoff is for -m lj"),
        (
            &["-m", "lj", "-o", "1,2,3", "--cutoff", "sharp"],
            "not \"sharp\"",
        ),
        (&["-m", "gas", "--init", "maybe"], "not \"maybe\""),
        (&["-m", "gas", "--patience", "-1"], "not \"-1\""),
    ] {
        let output = driver(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        let line = complaint(&output);
        assert!(line.contains(says), "{arguments:?}: {line}");
    }
}

#[test]
fn help_names_every_flag() {
    let output = driver(&["--help"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    for flag in [
        "-a",
        "-p",
        "-u",
        "-S",
        "-m",
        "-o",
        "--cutoff",
        "--init",
        "--patience",
        "-v",
        "-h",
    ] {
        assert!(text.contains(&format!("  {flag}")), "{flag}");
    }
}

#[test]
fn a_server_that_is_not_there_is_status_1_with_the_reason() {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
        .to_string();
    let output = driver(&[
        "-a",
        "127.0.0.1",
        "-p",
        &port,
        "-m",
        "gas",
        "--patience",
        "0",
    ]);
    assert_eq!(output.status.code(), Some(1));
    let line = complaint(&output);
    assert!(
        line.contains(&format!(
            "no connection to 127.0.0.1:{port}: Connection refused"
        )),
        "{line}"
    );
}

#[cfg(unix)]
#[test]
fn a_unix_socket_is_named_with_its_prefix() {
    let directory = tempfile::tempdir().unwrap();
    let prefix = directory.path().join("ipi_").to_str().unwrap().to_owned();
    let output = driver(&[
        "-u",
        "-a",
        "argon",
        "-S",
        &prefix,
        "-m",
        "gas",
        "--patience",
        "0",
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        complaint(&output).contains(&format!("no connection to {prefix}argon")),
        "{output:?}"
    );
}
