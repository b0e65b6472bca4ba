//! `forcewire check`: `forcewire driver` and `forcewire md` handle every situation, and the kit
//! detects peers that do not.

#![cfg(unix)]

mod drivers;
mod endings;
use forcewire_support::layout;
mod manual;
use forcewire_support::page;
mod peers;
mod physics;
mod planted;
mod planted_numbers;
mod planted_server;
mod servers;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The fewest situations of both roles together.
const SITUATIONS: usize = 40;

/// The command, which is also the driver and the server under test.
const FORCEWIRE: &str = env!("CARGO_BIN_EXE_forcewire");

/// Argon for `forcewire md`.
const FRAMES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/check/records/argon.xyz");

fn check() -> Command {
    let mut command = Command::new(FORCEWIRE);
    command.arg("check");
    command
}

/// One line of `--json` for each situation, by its name.
type Rows = BTreeMap<String, Value>;

fn rows(output: &Output) -> Rows {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    let rows = text.lines().map(|line| {
        let row: Value = serde_json::from_str(line).unwrap();
        (row["situation"].as_str().unwrap().to_owned(), row)
    });
    rows.collect()
}

fn all_handled(mut check: Command) -> Rows {
    let output = check.output().unwrap();
    let rows = rows(&output);
    for row in rows.values() {
        assert_eq!(row["verdict"], "handled", "{row}");
    }
    assert!(output.status.success(), "{output:?}");
    rows
}

/// Runs the kit with our driver, whose time limit is shorter than the kit's patience.
fn driver(flags: &[&str], address: &str) -> Command {
    let mut check = crate::check();
    let lj = "-m lj -o 6.43452,0.000379384,8.5 --patience 1";
    let command = format!("exec '{FORCEWIRE}' driver {address} {lj}");
    check.args(["driver", "--json", "--command", &command, "--jobs", "4"]);
    check.args(flags);
    check
}

/// Runs the kit with our server.
fn server(flags: &[&str], address: &str) -> Command {
    let mut check = crate::check();
    let run = "--steps 5 --temperature 30 --timeout 2 --wait 20 --output {directory}/argon";
    let command = format!("exec '{FORCEWIRE}' md '{FRAMES}' {address} {run}");
    // After EXIT the server waits 5 s for drivers to close.
    check.args(["server", "--json", "--command", &command, "--jobs", "4"]);
    check.args(["--patience", "8"]).args(flags);
    check
}

#[test]
#[ignore = "peers that stall need a quiet machine: tests/run check"]
fn forcewires_driver_and_server_handle_all_of_it() {
    let server = std::thread::spawn(|| all_handled(server(&[], "-a {host} -p {port}")));
    let drivers = all_handled(driver(&[], "-a {host} -p {port}"));
    let servers = server.join().unwrap();
    // The controls are not counted.
    let (drivers, servers) = (drivers.len() - 1, servers.len() - 1);
    assert!(drivers >= SITUATIONS / 2 && servers >= SITUATIONS / 2);
    assert!(drivers + servers >= SITUATIONS);
}

#[test]
#[ignore = "peers that stall need a quiet machine: tests/run check"]
fn the_same_over_unix_sockets() {
    let some = ["dribble", "cut-positions", "reset-reply", "restart"];
    let only = some.map(|name| ["--only", name]);
    let flags = [&["--unix"], only.as_flattened()].concat();
    assert_eq!(all_handled(driver(&flags, "-u -a {name}")).len(), 4);

    let some = ["nan-forces", "cut-forces", "thirty-mutes", "http"];
    let only = some.map(|name| ["--only", name]);
    let flags = [&["--unix"], only.as_flattened()].concat();
    assert_eq!(all_handled(server(&flags, "-u -a {name}")).len(), 4);
}

#[test]
#[ignore = "peers that stall need a quiet machine: tests/run check"]
fn a_server_that_stays_is_asked_for_work_only() {
    let mut server = Command::new(FORCEWIRE);
    server.args(["md", FRAMES, "--steps", "100000000"]);
    server.args(["-a", "127.0.0.1", "-p", "0"]);
    server.args(["--stride", "100000000", "--attempts", "100"]);
    let mut server = server
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(server.stderr.take().unwrap()).lines();
    let mut addresses = said.by_ref().map_while(Result::ok).filter_map(|line| {
        let address = line.strip_prefix("forcewire: listening on ")?;
        Some(address.to_owned())
    });
    let address = addresses.next().unwrap();
    drop(addresses);
    let drain = std::thread::spawn(move || said.for_each(drop));

    let mut check = crate::check();
    check.args(["server", "--json", "--address", &address]);
    for name in ["control", "http", "nan-forces", "cut-forces", "dribble"] {
        check.args(["--only", name]);
    }
    let output = check.output().unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    drain.join().unwrap();
    let rows = rows(&output);
    assert_eq!(rows.len(), 5, "{output:?}");
    for row in rows.values() {
        assert_eq!(row["verdict"], "handled", "{row}");
    }
}

#[test]
#[ignore = "peers that stall need a quiet machine: tests/run check"]
fn many_atoms_travel_as_few_do() {
    let flags = [
        "--atoms",
        "1000",
        "--only",
        "slow-reader",
        "--only",
        "pieces",
        "--only",
        "stall",
    ];
    let flags = [&flags[..], &["--patience", "30"]].concat();
    assert_eq!(all_handled(driver(&flags, "-a {host} -p {port}")).len(), 3);
}

#[test]
fn nonsense_is_said_and_status_2() {
    for (arguments, says) in [
        (&[][..], "driver, server or table"),
        (&["client"], "'client'"),
        (&["driver"], "--command <COMMAND>"),
        (
            &["driver", "--command", "true", "--patience=-1"],
            "must not be negative",
        ),
        (
            &["driver", "--command", "true", "--address", "x:1"],
            "'--address'",
        ),
        (
            &["driver", "--command", "true", "--only", "rain"],
            "--only rain",
        ),
        (&["driver", "--command", "d {prot}"], "{prot}"),
        (&["server", "--command", "s {path}"], "without --unix"),
        (&["server", "--address", "here"], "HOST:PORT"),
        (&["table", "/nowhere"], "/nowhere"),
        // The control fails and gives the reason.
        (
            &["driver", "--command", "echo no license; exit 3"],
            "no license",
        ),
        (
            &["server", "--command", "echo no license; exit 3"],
            "no license",
        ),
        (
            &["driver", "--command", "sleep 9", "--start", "0.1"],
            "has not connected within",
        ),
    ] {
        let output = check().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        let text = std::str::from_utf8(&output.stderr).unwrap();
        let said = ["forcewire: ", "error: "]
            .iter()
            .any(|word| text.starts_with(word));
        assert!(said, "{text}");
        assert!(text.contains(says), "{arguments:?}: {text}");
    }
}

#[test]
fn only_the_control_judges_nothing() {
    let command = format!("exec '{FORCEWIRE}' driver -a {{host}} -p {{port}} -m harm -o 0.1");
    let output = check()
        .args(["driver", "--only", "control", "--command", &command])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && text.contains("nothing is judged by it"),
        "{text}"
    );
}

#[test]
fn each_situation_says_where_it_comes_from() {
    let list = |arguments: &[&str]| {
        let output = check().args(arguments).arg("--list").output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(list(&[]), list(&["driver"]) + &list(&["server"]));
    for role in ["driver", "server"] {
        let text = list(&[role]);
        let lines: Vec<_> = text.lines().collect();
        let (situations, rest) = lines.as_chunks();
        assert!(situations.len() > SITUATIONS / 2 && rest.is_empty());
        let mut names = Vec::new();
        for [name, does, why, see] in situations {
            assert!(!names.contains(name), "{name} is there twice");
            names.push(name);
            assert!(
                does.starts_with("    the ") && why.len() > 20 && see.len() > 20,
                "{name}"
            );
        }
    }
}
