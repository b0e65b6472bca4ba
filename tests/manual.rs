//! The manual and README say what commands have printed and what the code holds.

#![cfg(unix)]

mod common;
#[path = "common/page.rs"]
mod page;

use std::fmt::Write;
use std::fs;
use std::path::Path;

use forcewire::line::Framing;
use forcewire::{Driver, Server, Storage};

const COMMAND: &str = "cargo test --test manual";
const SIZES: &str = "src/manual/sizes.md";
const SPEED: &str = "src/manual/speed.md";

/// The bytes that i-PI has written, as tests hold both machines to them.
#[test]
fn golden_vectors_are_those_of_the_tests() {
    for (name, digits) in [
        ("posdata", common::GOLDEN_POSDATA),
        ("forceready", common::GOLDEN_FORCEREADY),
        ("init", common::GOLDEN_INIT),
    ] {
        let lines: Vec<_> = digits
            .as_bytes()
            .chunks(96)
            .map(|line| std::str::from_utf8(line).unwrap())
            .collect();
        let block = format!("```text\n{}\n```\n", lines.join("\n"));
        page::hold("src/manual/protocol.md", name, &block, COMMAND);
    }
}

/// The lengths of messages, of which the golden vectors are three.
#[test]
fn lengths_are_those_of_golden_vectors() {
    let table = page::block("src/manual/protocol.md", "messages");
    for (name, length, bytes) in [
        ("`INIT`", "| 20 + length |", 20 + 14),
        ("`POSDATA`", "| 160 + 24 N |", 160 + 24),
        ("`FORCEREADY`", "| 100 + 24 N + length |", 100 + 24 + 2),
    ] {
        let row = table.lines().find(|line| line.contains(name)).unwrap();
        assert!(row.ends_with(length), "{row}");
        let golden = match name {
            "`INIT`" => common::GOLDEN_INIT,
            "`POSDATA`" => common::GOLDEN_POSDATA,
            _ => common::GOLDEN_FORCEREADY,
        };
        assert_eq!(common::hex(golden).len(), bytes, "{name}");
    }
}

/// What of this is on the heap of a host, or in a `static` of a device.
#[test]
#[cfg(target_pointer_width = "64")]
fn memory_is_that_of_the_types() {
    let mut block = String::from("| | bytes |\n|---|---|\n");
    for (name, size) in [
        ("`Driver`", size_of::<Driver>()),
        ("`Server`", size_of::<Server>()),
        ("`Storage<f64, 64>`", size_of::<Storage<f64, 64>>()),
        ("`Storage<f32, 64>`", size_of::<Storage<f32, 64>>()),
        ("`line::Framing`", size_of::<Framing>()),
    ] {
        writeln!(block, "| {name} | {size} |").unwrap();
    }
    page::hold(SIZES, "memory", &block, COMMAND);
}

/// Three numbers each of size and speed, from the tables of the manual.
#[test]
#[cfg(target_pointer_width = "64")]
fn figures_are_those_of_the_manual() {
    let sizes = page::block(SIZES, "sizes");
    let version = cell(&sizes, "bytes of flash, ", 0);
    let flash: [usize; 2] = numbers(&sizes, "blocking ");
    let stack: [usize; 3] = numbers(&sizes, "blocking::run");
    let calls = cell(
        &page::block(SPEED, "calls"),
        "driver     64   tcp  consolidated",
        0,
    );
    let ratio = cell(
        &page::block(SPEED, "driver"),
        "     64   tcp  consolidated",
        4,
    );
    let pool = cell(&page::block(SPEED, "pool"), "     64  consolidated", 1);
    let driver = size_of::<Driver>();
    let rows = [
        (
            format!(
                "flash of firmware with `serve::<64>` on a Cortex-M3, its network aside ({version})"
            ),
            format!("{} bytes", flash.iter().sum::<usize>()),
            "tests/images/run",
        ),
        (
            "stack of its deepest call, the most of a Cortex-M3, a Cortex-M0 and a RISC-V".into(),
            format!("{} bytes", stack.iter().max().unwrap()),
            "tests/images/run",
        ),
        (
            "memory of a `Driver`; the arrays are yours, 48 bytes an atom in `f64`".into(),
            format!("{driver} bytes"),
            COMMAND,
        ),
        (
            "system calls of a driver on a host, a consolidated evaluation over TCP".into(),
            calls,
            "cargo bench --bench calls",
        ),
        (
            "time of that with 64 atoms, beside plain sockets that look at nothing".into(),
            ratio,
            "taskset -c 0 cargo bench --bench driver",
        ),
        (
            "evaluations a second of a pool of 64 drivers on one CPU, theirs included".into(),
            pool,
            "taskset -c 0 cargo bench --bench pool",
        ),
    ];
    let mut block = String::from("| | | printed by |\n|---|---|---|\n");
    for (what, value, command) in rows {
        writeln!(block, "| {what} | {value} | `{command}` |").unwrap();
    }
    page::hold("README.md", "figures", &block, COMMAND);
}

/// Word `index` after the text with which its line begins, or which is in it.
fn cell(table: &str, text: &str, index: usize) -> String {
    let line = table.lines().find(|line| line.contains(text));
    let line = line.unwrap_or_else(|| panic!("no {text:?} in {table}"));
    let (_, after) = line.split_once(text).unwrap();
    if text.ends_with(", ") {
        return after.to_owned();
    }
    after.split_whitespace().nth(index).unwrap().to_owned()
}

/// The first numbers of the first line with this text.
fn numbers<const N: usize>(table: &str, text: &str) -> [usize; N] {
    let line = table.lines().find(|line| line.contains(text)).unwrap();
    let numbers = line.split_whitespace().filter_map(|word| word.parse().ok());
    numbers.take(N).collect::<Vec<_>>().try_into().unwrap()
}

/// Every page is in the manual's list, and its links lead to files that exist.
#[test]
fn links_lead_to_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let list = fs::read_to_string(root.join("src/manual/mod.rs")).unwrap();
    let pages = fs::read_dir(root.join("src/manual")).unwrap();
    let pages = pages.map(|entry| entry.unwrap().path());
    let pages = pages.filter(|path| path.extension().is_some_and(|it| it == "md"));
    let mut checked = 0;
    for page in pages.chain([root.join("README.md"), root.join("SECURITY.md")]) {
        let name = page.file_stem().unwrap().to_str().unwrap();
        if name == "links" {
            continue;
        }
        assert!(
            name.chars().all(char::is_uppercase)
                || list.contains(&format!("    {name},"))
                || list.contains(&format!("({name},")),
            "{name} is not in mod.rs"
        );
        let text = fs::read_to_string(&page).unwrap();
        let inline = text
            .split("](")
            .skip(1)
            .filter_map(|it| it.split(')').next());
        let defined = text.lines().filter(|line| line.starts_with('['));
        let defined = defined.filter_map(|line| Some(line.split_once("]: ")?.1));
        for link in inline.chain(defined) {
            let file = link.split('#').next().unwrap();
            if file.starts_with("http") || file.is_empty() || file.contains(' ') {
                continue;
            }
            assert!(page.parent().unwrap().join(file).exists(), "{name}: {link}");
            checked += 1;
        }
    }
    assert!(checked > 60, "{checked}");
}
