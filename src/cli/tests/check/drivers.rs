//! `check driver`: for each verdict, one driver that must get it and a similar one that must not.

use serde_json::Value;

use crate::{Rows, check, planted, rows};

/// The kit's verdicts on a planted driver in some situations.
fn play(fault: &str, only: &[&str]) -> Rows {
    play_with(fault, only, &[])
}

fn play_with(fault: &str, only: &[&str], flags: &[&str]) -> Rows {
    let command = planted::command(fault);
    let mut check = check();
    check.args(["driver", "--json", "--command", &command, "--patience", "1"]);
    for name in only {
        check.args(["--only", name]);
    }
    let output = check.args(flags).output().unwrap();
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

/// Each of these drivers meets a message that ends early.
#[test]
fn ends_are_judged_by_status_and_words() {
    for (fault, verdict, how) in [
        ("none", "handled", "refused"),
        ("quiet", "crashed", "no word"),
        ("status 0 with a word", "handled", "ended"),
        ("status 3", "crashed", "no word"),
        ("aborts", "crashed", "signal"),
        ("panics", "crashed", "panic"),
        ("Fortran's bounds", "crashed", "runtime error"),
        ("Fortran's ERROR STOP", "handled", "refused"),
        ("Julia's bounds", "crashed", "runtime error"),
        ("Julia's error", "handled", "refused"),
        ("a library raises", "crashed", "exception"),
        ("a name begins with raise", "crashed", "exception"),
        ("raises", "handled", "refused (exception)"),
        ("asserts", "crashed", "assertion"),
        ("logs a traceback", "handled", "ended"),
    ] {
        let fault = fault.replace('\'', "'\\''");
        is(
            &play(&fault, &["cut-positions"])["cut-positions"],
            verdict,
            how,
        );
    }
    // Between two messages, an end is not an error.
    is(&play("quiet", &["close"])["close"], "handled", "ended");
}

#[test]
fn drivers_that_do_not_end_are_told_apart() {
    for (fault, verdict, how, because) in [
        ("hangs", "hung", "silent", "runs on without coming back"),
        ("spins", "hung", "silent", "it spins"),
        ("closes and stays", "handled", "closed", "runs on"),
        (
            "comes back",
            "handled",
            "came back",
            "the numbers are right",
        ),
        (
            "comes back wrong",
            "silently wrong",
            "went on",
            "connected again",
        ),
        (
            "comes back and refuses",
            "handled",
            "refused",
            "connected again, then ended",
        ),
        (
            "comes back and hangs",
            "hung",
            "silent",
            "did not take part",
        ),
    ] {
        let rows = play(fault, &["cut-positions"]);
        is(&rows["cut-positions"], verdict, how);
        let said = rows["cut-positions"]["because"].as_str().unwrap();
        assert!(said.contains(because), "{fault}: {said}");
    }
}

#[test]
fn after_exit_a_driver_ends_or_comes_back() {
    for name in ["exit-at-once", "exit-ready"] {
        is(&play("none", &[name])[name], "handled", "ended");
        is(&play("comes back", &[name])[name], "handled", "came back");
        for fault in ["closes at EXIT and stays", "ignores EXIT"] {
            is(&play(fault, &[name])[name], "hung", "silent");
        }
    }
}

#[test]
fn a_driver_that_ends_where_nothing_is_wrong_gave_up() {
    is(&play("impatient", &["idle"])["idle"], "gave up", "refused");
    is(&play("none", &["idle"])["idle"], "handled", "carried on");
    is(
        &play("one recv", &["split-header"])["split-header"],
        "gave up",
        "refused",
    );
    is(
        &play("none", &["split-header"])["split-header"],
        "handled",
        "carried on",
    );
}

#[test]
fn numbers_are_compared_in_every_situation() {
    let some = ["one-atom-more", "one-atom-less"];
    for row in play("wrong for another count", &some).values() {
        is(row, "silently wrong", "went on");
    }
    for row in play("none", &some).values() {
        is(row, "handled", "carried on");
    }
    // Nothing was sent on this connection before, so the right numbers come from a separate run.
    is(
        &play("comes back wrong", &["http"])["http"],
        "silently wrong",
        "went on",
    );
    is(
        &play("comes back", &["http"])["http"],
        "handled",
        "came back",
    );
}

#[test]
fn forces_that_are_zero_by_symmetry_may_differ_in_rounding() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("symmetric");
    std::fs::write(&path, "8 0 0\n0 8 0\n0 0 8\n0 0 0\n4 4 4\n").unwrap();
    let flags = ["--structure", path.to_str().unwrap()];
    let rows = play_with("rounds", &["control", "idle"], &flags);
    is(&rows["idle"], "handled", "carried on");
}

#[test]
fn a_driver_that_believes_what_it_is_sent_is_silently_wrong() {
    let some = [
        "nan-position",
        "getforce-first",
        "wrong-inverse",
        "negative-atoms",
        "posdata-twice",
    ];
    for row in play("believes", &some).values() {
        assert_eq!(row["verdict"], "silently wrong", "{row}");
    }
    for row in play("none", &some).values() {
        assert_eq!(row["verdict"], "handled", "{row}");
    }
}

#[test]
fn a_driver_without_right_numbers_is_not_judged() {
    let output = check()
        .args(["driver", "--command", &planted::command("forgets")])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains("the control failed: answered with an energy of"),
        "{text}"
    );
    assert!(
        output.stdout.is_empty(),
        "nothing is said of a driver without its control"
    );
}

/// A correct driver gets no other verdict in any situation that it may handle, at any number of
/// jobs.
#[test]
fn a_driver_that_is_right_is_called_so_at_any_number_of_jobs() {
    let some = [
        "split-header",
        "dribble",
        "pieces",
        "slow-reader",
        "idle",
        "no-status",
        "wrong-inverse",
    ];
    for jobs in ["1", "16"] {
        for row in play_with("none", &some, &["--jobs", jobs]).values() {
            is(row, "handled", "carried on");
        }
    }
    for row in play_with("hangs", &["cut-positions", "cut-header"], &["--jobs", "16"]).values() {
        is(row, "hung", "silent");
    }
}
