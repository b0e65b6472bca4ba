//! How a program ended, judged by its status and its output.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use super::report::Finding;

/// Judges how a program ended from its status, its output after the clumsy act, and whether it was
/// inside an unfinished message.
pub fn judge_end(status: ExitStatus, said: &str, inside: bool) -> Finding {
    let last = last_line(said);
    // A shell returns 128 + n if signal n ended its command.
    let told = |code| matches!(code - 128, 4 | 6..=9 | 11 | 13).then_some(code - 128);
    if let Some(signal) = status.signal().or(status.code().and_then(told)) {
        return Finding::crashed(
            "signal",
            format!("ended by signal {signal}{}", quoted(last)),
        );
    }
    match status.code() {
        // Nobody would notice that a driver ended in the middle of a message.
        Some(0) if inside && last.is_empty() => Finding::crashed(
            "no word",
            "ended inside a message with status 0 and said nothing",
        ),
        // An error in the log did not cause the end.
        Some(0) => Finding::handled("ended", format!("ended with status 0{}", quoted(last))),
        Some(code) if last.is_empty() => Finding::crashed(
            "no word",
            format!("ended with status {code} and said nothing"),
        ),
        code => {
            let word = quoted(complaint(said));
            failure(said).unwrap_or_else(|| {
                let code = code.unwrap_or_default();
                Finding::handled("refused", format!("ended with status {code}{word}"))
            })
        }
    }
}

/// Recognizes what languages print for an unforeseen error or an exception.
fn failure(said: &str) -> Option<Finding> {
    if let Some((_, trace)) = said.rsplit_once("Traceback (most recent call last)") {
        return Some(exception(trace));
    }
    if let Some((_, text)) = said.split_once("panicked at") {
        let text = text.lines().nth(1).unwrap_or_default();
        return Some(Finding::crashed(
            "panic",
            format!("ended by a panic{}", quoted(text)),
        ));
    }
    let line = said.lines().find(|line| {
        RUNTIME
            .iter()
            .any(|(word, also)| line.contains(word) && line.contains(also))
    })?;
    Some(Finding::crashed(
        "runtime error",
        format!("ended by an error of its language{}", quoted(line.trim())),
    ))
}

/// Pairs of words that appear on one line. Other errors of Fortran and Julia may be raised by the
/// program itself: ERROR STOP, `error("...")`.
const RUNTIME: [(&str, &str); 16] = [
    ("Fortran runtime error: ", "bound"),
    ("Fortran runtime error: ", "allocat"),
    ("Fortran runtime error: ", "Integer"),
    ("Fortran runtime error: ", "dimension"),
    ("forrtl: severe (408)", ""),
    ("forrtl: severe (174)", ""),
    ("ERROR: ", "BoundsError"),
    ("ERROR: ", "MethodError"),
    ("ERROR: ", "UndefVarError"),
    ("ERROR: ", "InexactError"),
    ("ERROR: ", "DimensionMismatch"),
    ("ERROR: ", "ArgumentError: invalid Array"),
    ("panic: runtime error", ""),
    ("AddressSanitizer", "ERROR"),
    ("runtime error: ", "out of bounds"),
    ("Exception in thread", "OutOfBounds"),
];

/// The last exception of a Python program.
fn exception(trace: &str) -> Finding {
    let last = last_line(trace);
    if foreseen(trace) {
        let because = format!("ended by an exception that was foreseen{}", quoted(last));
        return Finding::handled("refused (exception)", because);
    }
    let how = match last.starts_with("AssertionError") {
        true => "assertion",
        false => "exception",
    };
    Finding::crashed(how, format!("ended by an {how}{}", quoted(last)))
}

/// The line with the reason. It is not the last one, because MPI and others print more after it.
fn complaint(said: &str) -> &str {
    let error = |line: &&str| line.to_ascii_lowercase().contains("error");
    let line = said.lines().rev().find(error);
    line.map_or(last_line(said), str::trim)
}

/// Whether the exception was foreseen: the program raises it, or the system reports it for the
/// connection. A `raise` in a library that was given nonsense does not count as foreseen.
fn foreseen(trace: &str) -> bool {
    const SYSTEM: [&str; 4] = [
        "TimeoutError",
        "ConnectionResetError",
        "ConnectionAbortedError",
        "BrokenPipeError",
    ];
    let last = last_line(trace);
    if SYSTEM.iter().any(|name| last.starts_with(name)) {
        return true;
    }
    let Some((_, frame)) = trace.rsplit_once("\n  File ") else {
        return false;
    };
    let mut lines = frame.lines();
    let place = lines.next().unwrap_or_default();
    let source = lines.next().unwrap_or_default().trim_start();
    source.starts_with("raise ") && !library(place)
}

/// Whether a frame is in Python's standard library or in NumPy, which only report bad arguments.
fn library(place: &str) -> bool {
    let path = place.split('"').nth(1).unwrap_or_default();
    let standard = path.contains("/lib/python3") && !path.contains("-packages/");
    let numeric = ["numpy", "scipy", "torch", "jax"];
    let numeric = numeric
        .iter()
        .any(|it| path.contains(&format!("-packages/{it}/")));
    standard || numeric || path.starts_with("<frozen")
}

pub fn last_line(said: &str) -> &str {
    let line = said.lines().rev().find(|line| !line.trim().is_empty());
    line.unwrap_or_default().trim()
}

pub fn quoted(line: &str) -> String {
    const MOST: usize = 160;
    match line.char_indices().nth(MOST) {
        _ if line.is_empty() => String::new(),
        Some((end, _)) => format!(": {}...", &line[..end]),
        None => format!(": {line}"),
    }
}
