//! README and manual agree with the code and with the output of commands.

#![cfg(unix)]

use forcewire_support::page;

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Duration;

use forcewire::line::Framing;
use forcewire::{Deadlines, Driver, Server, Storage};

const COMMAND: &str = "cargo test --test manual";
const SIZES: &str = "src/manual/sizes.md";
const SPEED: &str = "src/manual/speed.md";

/// Bytes written by i-PI, with which tests compare both machines.
#[test]
fn golden_vectors_are_those_of_the_tests() {
    for (name, digits) in [
        ("posdata", forcewire_support::GOLDEN_POSDATA),
        ("forceready", forcewire_support::GOLDEN_FORCEREADY),
        ("init", forcewire_support::GOLDEN_INIT),
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

/// The lengths of messages, three of which have golden vectors.
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
            "`INIT`" => forcewire_support::GOLDEN_INIT,
            "`POSDATA`" => forcewire_support::GOLDEN_POSDATA,
            _ => forcewire_support::GOLDEN_FORCEREADY,
        };
        assert_eq!(forcewire_support::hex(golden).len(), bytes, "{name}");
    }
}

/// The sizes of types that a host has on its heap, or a device in a `static`.
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

/// Three numbers each for size and speed, from the tables of the manual.
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

/// Numbers in prose that follow from the source: each stands in place of `{}`.
#[test]
fn numbers_are_those_of_the_source() {
    let scratch = constant("src/protocol/gather.rs", "SCRATCH");
    let buffer = constant("src/net/socket.rs", "BUFFER");
    let lent = constant("src/net/outbox.rs", "LENT");
    let turns = constant("tests/benches/driver.rs", "TURNS");
    // The sizes of messages, from golden vectors with one atom of 24 bytes.
    let header = "POSDATA     ".len();
    let before_positions =
        forcewire_support::hex(forcewire_support::GOLDEN_POSDATA).len() - header - 24;
    let reply =
        forcewire_support::hex(forcewire_support::GOLDEN_FORCEREADY).len() - "{}".len() - 24;
    let (energy, count, virial) = (8, 4, 9 * 8);
    let seconds = |limit: Option<Duration>| limit.unwrap().as_secs();
    let deadlines = Deadlines::default();
    let smoltcp = version("Cargo.toml", "smoltcp = { version = \"");
    let ipi = version("tests/peers/ipi.txt", "ipi==");
    let ase = version("tests/peers/ase.txt", "ase==");
    let [architecture, deadline] = ["architecture", "deadlines"].map(page_of);
    for (page, text, value) in [
        (
            &*architecture,
            "the machine's scratch of {}.",
            scratch.to_string(),
        ),
        (&architecture, "a scratch of {} bytes", scratch.to_string()),
        (
            &architecture,
            "{} bytes into the scratch",
            before_positions.to_string(),
        ),
        (
            &architecture,
            "the {} that are needed",
            before_positions.to_string(),
        ),
        (
            &architecture,
            "a reply of up to {} atoms",
            ((scratch - reply) / 24).to_string(),
        ),
        (
            &architecture,
            "a reply of {} atoms",
            ((scratch - reply) / 24).to_string(),
        ),
        (
            &architecture,
            "a write of {} bytes",
            (header + energy + count).to_string(),
        ),
        (
            &architecture,
            "and one of {}.",
            (virial + count).to_string(),
        ),
        (
            &architecture,
            "positions {} atoms at a time",
            (scratch / 24).to_string(),
        ),
        (
            &architecture,
            "yields after {} calls",
            constant("src/asynch.rs", "CALLS").to_string(),
        ),
        (
            &architecture,
            "a poll begins {} messages",
            constant("src/net/stream.rs", "BUDGET").to_string(),
        ),
        (
            &architecture,
            "one `recv` of up to {} KiB",
            (buffer / 1024).to_string(),
        ),
        (
            &architecture,
            "from {} atoms on",
            lent.div_ceil(24).to_string(),
        ),
        (
            SPEED,
            "wait for {} ms",
            constant("src/net/stream.rs", "DELAYED").to_string(),
        ),
        (SPEED, "the median of {} turns", turns.to_string()),
        (
            SPEED,
            "and {} that are idle",
            constant("tests/benches/siege.rs", "BAD").to_string(),
        ),
        (
            &deadline,
            "| {} s |\n| `message`",
            seconds(deadlines.handshake).to_string(),
        ),
        (
            &deadline,
            "| {} s |\n| `evaluation`",
            seconds(deadlines.message).to_string(),
        ),
        (
            "README.md",
            "Coalesced::<_, {}>",
            (reply + 64 * 24).to_string(),
        ),
        ("README.md", "smoltcp {},", smoltcp.clone()),
        ("README.md", "this input of i-PI {} ", ipi.clone()),
        ("tests/peers/README.md", "| i-PI {} |", ipi.clone()),
        ("src/manual/peers.md", "pip install ipi=={}`", ipi.clone()),
        ("src/manual/peers.md", "pip install ase=={}`", ase),
        (
            "src/manual/protocol.md",
            "written from i-PI {}'s source",
            ipi,
        ),
        ("SECURITY.md", "smoltcp {} asserts", smoltcp),
    ] {
        let expected = text.replace("{}", &value);
        // Lines may be broken anywhere.
        let prose = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let found = prose(&read(page)).contains(&prose(&expected));
        assert!(found, "{page} does not have {expected:?}");
    }
    let lines = read("README.md").lines().count();
    assert!(lines < 150, "README has {lines} lines");
}

/// System calls per evaluation in the prose, from the table above it.
#[test]
fn calls_are_those_of_the_table() {
    let table = page::block(SPEED, "calls");
    let calls = |row: &str| cell(&table, row, 0).parse::<f64>().unwrap().round();
    let classic = calls("driver     64   tcp       classic");
    let consolidated = calls("driver     64   tcp  consolidated");
    let text = read(SPEED);
    let prose =
        format!("evaluation at {classic} system calls and a consolidated one at {consolidated}");
    assert!(text.contains(&prose), "{prose:?}");
}

fn page_of(name: &str) -> String {
    format!("src/manual/{name}.md")
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The value of a constant: the product of the numbers on its line, after its type.
fn constant(path: &str, name: &str) -> usize {
    let source = read(path);
    let line = source.lines().find_map(|line| {
        let (_, rest) = line.split_once(&format!("const {name}: "))?;
        Some(rest.split_once(" = ")?.1)
    });
    let line = line.unwrap_or_else(|| panic!("{path} has no constant {name}"));
    let numbers = line.split(|it: char| !it.is_ascii_digit());
    numbers.filter_map(|it| it.parse::<usize>().ok()).product()
}

/// The text after this one in a file, as far as it is a version.
fn version(path: &str, text: &str) -> String {
    let file = read(path);
    let (_, rest) = file.split_once(text).unwrap();
    rest.chars()
        .take_while(|it| it.is_ascii_digit() || *it == '.')
        .collect()
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

/// Every page is in the manual's list, and README's.
#[test]
fn every_page_is_listed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let list = fs::read_to_string(root.join("src/manual/mod.rs")).unwrap();
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let mut pages = 0;
    for entry in fs::read_dir(root.join("src/manual")).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let Some(name) = file.strip_suffix(".md").filter(|&it| it != "links") else {
            continue;
        };
        let listed = list.contains(&format!("    {name},")) || list.contains(&format!("({name},"));
        assert!(listed, "{name} is not in mod.rs");
        assert!(
            readme.contains(&format!("(src/manual/{file})")),
            "{file} is not in README"
        );
        pages += 1;
    }
    assert!(pages > 8, "{pages}");
}
