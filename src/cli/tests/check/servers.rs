//! `check server`: for each verdict, one server that must get it and a similar one that must not.

use serde_json::Value;

use crate::{FORCEWIRE, FRAMES, Rows, check, planted_server, rows};

/// The kit's verdicts on a planted server in some situations.
fn play(fault: &str, only: &[&str]) -> Rows {
    play_with(fault, only, "2")
}

fn play_with(fault: &str, only: &[&str], patience: &str) -> Rows {
    let command = planted_server::command(fault);
    let mut check = check();
    check.args(["server", "--json", "--command", &command]);
    check.args(["--patience", patience, "--jobs", "4"]);
    for name in only {
        check.args(["--only", name]);
    }
    let output = check.output().unwrap();
    assert!(
        matches!(output.status.code(), Some(0 | 1)),
        "{fault}: {output:?}"
    );
    rows(&output)
}

#[track_caller]
fn is(row: &Value, verdict: &str, how: &str) {
    assert_eq!(
        (row["verdict"].as_str(), row["how"].as_str()),
        (Some(verdict), Some(how)),
        "{row}"
    );
}

/// The reason why a server can't be judged.
fn control_fails(command: &str, flags: &[&str]) -> String {
    let mut check = check();
    check
        .args(["server", "--command", command, "--patience", "1"])
        .args(flags);
    let output = check.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_server_that_is_right_handles_all_of_it() {
    // The server drops thirty silent drivers one after another.
    let rows = play_with("none", &[], "20");
    for row in rows.values() {
        is(row, "handled", "carried on");
    }
}

#[test]
fn what_a_server_sends_is_looked_at() {
    for (fault, name) in [
        ("lower triangular", "transposed cell"),
        ("inverse transposed", "inverse cell"),
        ("inverse zero", "inverse cell"),
        ("angstrom", "angstrom"),
    ] {
        is(
            &play(fault, &["messages"])["messages"],
            "silently wrong",
            name,
        );
    }
    let rows = play("asks again", &["asks-for-init"]);
    is(&rows["asks-for-init"], "handled", "carried on");
    for fault in ["empty INIT", "no INIT"] {
        let rows = play(fault, &["messages", "asks-for-init"]);
        is(&rows["messages"], "handled", "carried on");
        is(&rows["asks-for-init"], "silently wrong", fault);
    }
}

#[test]
fn numbers_of_another_format_are_named() {
    for (fault, says) in [
        ("big-endian", "POSDATA is big-endian"),
        ("float32", "float32 numbers would end"),
        ("int64", "consist of integers"),
    ] {
        let text = control_fails(&planted_server::command(fault), &[]);
        assert!(text.contains(says), "{text}");
    }
}

#[test]
fn a_control_that_fails_has_what_its_driver_saw() {
    let text = control_fails(&planted_server::command("silent"), &[]);
    assert!(
        text.contains("its driver saw: STATUS, POSDATA, 2 atoms"),
        "{text}"
    );
}

#[test]
fn a_server_that_does_not_listen_is_told_so() {
    let text = control_fails(&planted_server::command("refuses"), &["--start", "1"]);
    assert!(
        text.contains("the server refuses connections: nobody listens at 127.0.0.1:"),
        "{text}"
    );
    let output = check()
        .args(["server", "--address", "127.0.0.1:1", "--start", "0.2"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("nobody listens at 127.0.0.1:1"), "{text}");
}

#[test]
fn a_first_structure_is_compared_with_what_it_should_be() {
    let directory = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(FRAMES).unwrap();
    let mut lines = text.lines().skip(1);
    let comment = lines.next().unwrap().to_owned();
    let atoms: Vec<Vec<f64>> = lines
        .map(|line| {
            line.split_whitespace()
                .skip(1)
                .map(|x| x.parse().unwrap())
                .collect()
        })
        .collect();
    let write = |name: &str, factor: f64| {
        let mut text = "1000 0 0\n0 1000 0\n0 0 1000\n".to_owned();
        for r in &atoms {
            text += &format!("{} {} {}\n", factor * r[0], factor * r[1], factor * r[2]);
        }
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let run = "--steps 3 --timeout 2 --output {directory}/argon -a {host} -p {port}";
    let command = format!("exec '{FORCEWIRE}' md '{FRAMES}' {run}");
    for (path, verdict) in [
        (write("right", 1.0 / 0.529177210903), "handled"),
        (write("wrong", 1.0), "silently wrong"),
    ] {
        let mut check = check();
        check.args([
            "server",
            "--json",
            "--command",
            &command,
            "--only",
            "messages",
        ]);
        let output = check
            .args(["--structure", &path, "--patience", "8"])
            .output()
            .unwrap();
        let rows = rows(&output);
        assert_eq!(rows["messages"]["verdict"], verdict, "{comment}: {rows:?}");
    }
}

const PASSERS_BY: [&str; 4] = ["closes-at-once", "says-nothing", "http", "garbage"];
const DEATHS: [&str; 4] = [
    "dies-computing",
    "closes-computing",
    "cut-forces",
    "stalls-in-reply",
];

#[test]
fn a_server_that_ends_its_run_for_another_driver_gave_up() {
    let rows = play("aborts", &[&PASSERS_BY[..], &DEATHS].concat());
    for row in rows.values() {
        is(row, "gave up", "refused");
    }
    // A number that is not finite may end a run if the server gives the reason.
    is(
        &play("aborts", &["nan-forces"])["nan-forces"],
        "handled",
        "refused",
    );
    let rows = play("aborts at ends", &["http", "closes-computing"]);
    is(&rows["http"], "handled", "carried on");
    is(&rows["closes-computing"], "gave up", "refused");
    is(
        &play("ends at once", &["closes-at-once"])["closes-at-once"],
        "silently wrong",
        "went on",
    );
}

#[test]
fn ends_are_judged_by_status_and_words() {
    for (fault, verdict, how) in [
        ("hangs", "hung", "silent"),
        ("dies", "crashed", "signal"),
        ("panics", "crashed", "panic"),
        ("status 3", "crashed", "no word"),
    ] {
        is(&play(fault, &["nan-forces"])["nan-forces"], verdict, how);
    }
}

#[test]
fn a_nan_is_seen_where_a_run_repeats_a_structure() {
    let some = ["nan-forces", "nan-energy"];
    for row in play("repeats and believes", &some).values() {
        is(row, "silently wrong", "went on");
    }
    for row in play("repeats", &some).values() {
        is(row, "handled", "carried on");
    }
    for row in play("believes", &some[..1]).values() {
        is(row, "silently wrong", "went on");
    }
}
