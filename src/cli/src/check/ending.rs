//! How a program ended, judged by its status and what it said.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use super::report::Finding;

/// How a program ended, judged by its status and what it said after the clumsy thing was done.
pub fn judge_end(status: ExitStatus, said: &str) -> Finding {
    let last = last_line(said);
    // A shell says 128 + n where signal n ended what it ran.
    let told = |code| matches!(code - 128, 4 | 6..=9 | 11 | 13).then_some(code - 128);
    if let Some(signal) = status.signal().or(status.code().and_then(told)) {
        return Finding::crashed(
            "signal",
            format!("ended by signal {signal}{}", quoted(last)),
        );
    }
    if let Some((_, trace)) = said.rsplit_once("Traceback (most recent call last)") {
        if foreseen(trace) {
            let because = format!("ended by an exception that was foreseen{}", quoted(last));
            return Finding::handled("refused (exception)", because);
        }
        let how = match last.starts_with("AssertionError") {
            true => "assertion",
            false => "exception",
        };
        return Finding::crashed(how, format!("ended by an {how}{}", quoted(last)));
    }
    if let Some((_, text)) = said.split_once("panicked at") {
        let text = text.lines().nth(1).unwrap_or_default();
        return Finding::crashed("panic", format!("ended by a panic{}", quoted(text)));
    }
    match status.code() {
        Some(0) => Finding::handled("ended", format!("ended with status 0{}", quoted(last))),
        Some(code) if last.is_empty() => Finding::crashed(
            "no word",
            format!("ended with status {code} and said nothing"),
        ),
        code => {
            let (code, word) = (code.unwrap_or_default(), quoted(complaint(said)));
            Finding::handled("refused", format!("ended with status {code}{word}"))
        }
    }
}

/// The line that says why; MPI and others have the last word.
fn complaint(said: &str) -> &str {
    let error = |line: &&str| line.to_ascii_lowercase().contains("error");
    let line = said.lines().rev().find(error);
    line.map_or(last_line(said), str::trim)
}

/// Whether somebody foresaw the exception: it comes from a `raise`, or is the system's word on the connection. The
/// others come from an `assert`, or from a call that was not expected to fail.
fn foreseen(trace: &str) -> bool {
    const SYSTEM: [&str; 4] = [
        "TimeoutError",
        "ConnectionResetError",
        "ConnectionAbortedError",
        "BrokenPipeError",
    ];
    let frame = trace.rsplit_once("\n  File ").map(|(_, frame)| frame);
    let source = frame.and_then(|frame| frame.lines().nth(1));
    let last = last_line(trace);
    source.is_some_and(|source| source.trim_start().starts_with("raise"))
        || SYSTEM.iter().any(|name| last.starts_with(name))
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
