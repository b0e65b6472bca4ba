//! Blocks of the manual and of README that commands write: from `<!-- name -->` to
//! `<!-- /name -->`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// The repository, in which pages are named.
pub const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// The tests of one program write and read the same pages.
static PAGES: Mutex<()> = Mutex::new(());

fn path(page: &str) -> PathBuf {
    Path::new(ROOT).join(page)
}

/// The text before a block, in it and after it.
fn split(page: &str, name: &str) -> [String; 3] {
    let text = fs::read_to_string(path(page)).unwrap();
    let begin = format!("<!-- {name} -->\n");
    let end = format!("<!-- /{name} -->\n");
    let parts = text.split_once(&begin).and_then(|(before, rest)| {
        let (block, after) = rest.split_once(&end)?;
        Some([before.to_owned() + &begin, block.to_owned(), end + after])
    });
    parts.unwrap_or_else(|| panic!("{page} has no block `{name}`"))
}

/// The block with this name.
pub fn block(page: &str, name: &str) -> String {
    let _pages = PAGES.lock();
    let [_, block, _] = split(page, name);
    block
}

/// Whether blocks are to be written instead of compared.
pub fn overwrites() -> bool {
    env::var_os("FORCEWIRE_OVERWRITE").is_some()
}

/// Rewrites the block.
pub fn write(page: &str, name: &str, new: &str) {
    let _pages = PAGES.lock();
    let [before, _, after] = split(page, name);
    fs::write(path(page), before + new + &after).unwrap();
}

/// Compares the block with its expected text, or writes it.
#[track_caller]
pub fn hold(page: &str, name: &str, new: &str, command: &str) {
    if overwrites() {
        write(page, name, new);
    } else {
        assert_eq!(
            block(page, name),
            new,
            "`{name}` in {page} is out of date: `FORCEWIRE_OVERWRITE=1 {command}` writes it"
        );
    }
}

/// A table that is printed while it is measured, and written into a block at the end.
pub struct Table {
    page: &'static str,
    name: &'static str,
    lines: String,
}

impl Table {
    pub const fn new(page: &'static str, name: &'static str) -> Self {
        Self {
            page,
            name,
            lines: String::new(),
        }
    }

    pub fn line(&mut self, line: impl AsRef<str>) {
        let line = line.as_ref().trim_end();
        println!("{line}");
        self.lines += line;
        self.lines += "\n";
    }

    /// Adds the machine on which the measurements ran.
    pub fn end(mut self) {
        self.line("");
        self.line(machine());
        if overwrites() {
            let block = format!("```text\n{}```\n", self.lines);
            write(self.page, self.name, &block);
        }
    }
}

/// The compiler, the system and the CPU.
fn machine() -> String {
    let rustc = Command::new("rustc").arg("--version").output();
    let rustc = rustc.map_or_else(
        |_| "rustc".into(),
        |it| String::from_utf8(it.stdout).unwrap(),
    );
    let rustc: Vec<_> = rustc.split_whitespace().take(2).collect();
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let cpu = cpu.map_or("?", |it| it.trim_start_matches([' ', '\t', ':']));
    format!("{}, Linux {}, {cpu}", rustc.join(" "), release.trim())
}
