//! The repository as strangers see it: links of pages, a row for each test, the contents of
//! packages, the width of comments.

#![cfg(unix)]

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files below these paths, without build products.
fn files(below: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut rest: Vec<_> = below.iter().map(|it| root().join(it)).collect();
    while let Some(path) = rest.pop() {
        if path.is_dir() && !path.is_symlink() {
            let entries = fs::read_dir(path).unwrap().map(|it| it.unwrap().path());
            rest.extend(entries.filter(|it| !is_build(it)));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Whether builds, Python or git created this file.
fn is_build(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str).unwrap();
    ["target", "__pycache__", ".git", "corpus", "artifacts"].contains(&name)
}

fn extension(path: &Path) -> &str {
    path.extension().and_then(OsStr::to_str).unwrap_or_default()
}

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

// ---- pages ----

/// The targets of relative links of every page, including the heading after `#`.
#[test]
fn links_lead_to_files_and_headings() {
    let mut checked = 0;
    for page in files(&["."]) {
        if extension(&page) != "md" || page.ends_with("src/manual/links.md") {
            continue;
        }
        let text = fs::read_to_string(&page).unwrap();
        for link in links(&text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => page.clone(),
                _ => page.parent().unwrap().join(file),
            };
            assert!(target.exists(), "{}: {link}", page.display());
            if !heading.is_empty() {
                let text = fs::read_to_string(&target).unwrap();
                let headings: Vec<_> = headings(&text).collect();
                let found = headings.iter().any(|it| it == heading);
                assert!(found, "{}: {link} of {headings:?}", page.display());
            }
            checked += 1;
        }
    }
    assert!(checked > 120, "{checked}");
}

/// Inline links and definitions outside code.
fn links(text: &str) -> impl Iterator<Item = &str> {
    prose(text).flat_map(|line| {
        let inline = line.split("](").skip(1);
        let inline = inline.filter_map(|it| it.split(')').next());
        let defined = line.strip_prefix('[');
        let defined = defined.and_then(|it| Some(it.split_once("]: ")?.1));
        inline.chain(defined)
    })
}

/// Headings in the form of their links: lower case, hyphens for blanks, and no characters other
/// than letters, digits and hyphens.
fn headings(text: &str) -> impl Iterator<Item = String> {
    let titles = prose(text).filter(|line| line.starts_with('#'));
    titles.map(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let title = title.replace(' ', "-");
        title.replace(|it: char| !it.is_alphanumeric() && !"-_".contains(it), "")
    })
}

/// Lines outside code blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

// ---- tests ----

/// Checks that all tests use the same encoder for messages.
#[test]
fn the_bytes_of_messages_are_written_down_once() {
    let words = ["INIT", "POSDATA", "FORCEREADY"].map(|word| format!("b\"{word:12}\""));
    let sources = files(&["tests", "src/cli", "src/c"]);
    let sources = sources.iter().filter(|it| extension(it) == "rs");
    let writes = |it: &&PathBuf| {
        let text = fs::read_to_string(it).unwrap();
        words.iter().any(|word| text.contains(word))
    };
    let found: Vec<_> = sources.filter(writes).collect();
    assert_eq!(found, [&root().join("tests/support/src/layout.rs")]);
}

/// Checks that every test target and bench of the workspace has a row in the section of its
/// package, and that everything in `tests` has one.
#[test]
fn every_test_has_a_row() {
    let readme = read("tests/README.md");
    let metadata = cargo(&["metadata", "--offline", "--no-deps", "--format-version=1"]);
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let mut targets = 0;
    for package in metadata["packages"].as_array().unwrap() {
        for target in package["targets"].as_array().unwrap() {
            let (kind, name) = (&target["kind"][0], target["name"].as_str().unwrap());
            let section = match (kind.as_str().unwrap(), package["name"].as_str().unwrap()) {
                ("bench", _) => "Benches",
                ("test", "forcewire") => "The crate",
                ("test", "forcewire-cli") => "The command",
                ("test", "forcewire-c") => "C and Fortran",
                _ => continue,
            };
            let row = rows(&readme, section).any(|it| it == name);
            assert!(row, "{section} of tests/README.md has no row for {name}");
            targets += 1;
        }
    }
    assert!(targets > 45, "{targets}");
    for entry in fs::read_dir(root().join("tests")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let target = path.file_stem().unwrap().to_str().unwrap();
        let named =
            readme.contains(&format!("`{name}`")) || readme.contains(&format!("`{target}`"));
        assert!(
            named || name == "README.md" || is_build(&path),
            "tests/README.md does not name {name}"
        );
    }
}

#[test]
fn every_step_of_run_has_a_row() {
    let readme = read("tests/README.md");
    let rows: BTreeSet<_> = rows(&readme, "Steps").collect();
    let run = read("tests/run");
    let functions = run.lines().filter_map(|line| line.strip_suffix("() {"));
    let functions = functions.filter(|it| !["say", "features"].contains(it));
    let functions: BTreeSet<_> = functions.collect();
    assert_eq!(functions, rows.intersection(&functions).copied().collect());
    // Each step can be requested and is in the help.
    let (help, program) = run.split_once("set -euo pipefail").unwrap();
    let (_, dispatch) = program.split_once("case $step in").unwrap();
    for step in functions {
        let has = |text: &str| {
            text.split(|it: char| !it.is_alphanumeric())
                .any(|it| it == step)
        };
        assert!(has(help), "the help of tests/run has no {step}");
        assert!(has(dispatch), "tests/run takes no {step}");
    }
}

/// The text in backticks at the beginning of each row of a section.
fn rows<'a>(page: &'a str, section: &str) -> impl Iterator<Item = &'a str> {
    let (_, rest) = page.split_once(&format!("## {section}")).unwrap();
    let section = rest.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|it| it.strip_prefix("| `"));
    rows.filter_map(|it| it.split('`').next())
}

// ---- packages ----

/// The files that `cargo publish` would upload.
#[test]
fn packages_hold_what_programs_need() {
    let list = |package| {
        cargo(&[
            "package",
            "--list",
            "--allow-dirty",
            "--offline",
            "-p",
            package,
        ])
    };
    let core = list("forcewire");
    for file in [
        "CHANGELOG.md",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "README.md",
        "SECURITY.md",
        "examples/pool.rs",
        "src/lib.rs",
        "src/manual/protocol.md",
        "src/net/pool/mod.rs",
    ] {
        assert!(core.lines().any(|it| it == file), "{file} is not in {core}");
    }
    for folder in [
        "tests/",
        "boards/",
        "src/c/",
        "src/cli/",
        "examples/c/",
        ".ci/",
    ] {
        assert!(
            !core.contains(&format!("\n{folder}")),
            "{folder} is in {core}"
        );
    }
    let command = list("forcewire-cli");
    for file in ["LICENSE-APACHE", "LICENSE-MIT", "README.md", "src/main.rs"] {
        assert!(
            command.lines().any(|it| it == file),
            "{file} is not in {command}"
        );
    }
    assert!(!command.contains("\ntests/"), "{command}");
}

/// No dependency of the crate or the command requires a newer compiler than `rust-version`. Clippy
/// checks the same for functions of the standard library (`incompatible_msrv`).
#[test]
fn dependencies_keep_the_minimum_rust_version() {
    let host = Command::new("rustc").arg("-vV").output().unwrap().stdout;
    let host = String::from_utf8(host).unwrap();
    let host = host
        .lines()
        .find_map(|it| it.strip_prefix("host: "))
        .unwrap();
    let platform = format!("--filter-platform={host}");
    let metadata = cargo(&["metadata", "--offline", "--format-version=1", &platform]);
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let list = |value: &Value| value.as_array().unwrap().clone();
    let packages: HashMap<_, _> = list(&metadata["packages"])
        .into_iter()
        .map(|it| (it["id"].as_str().unwrap().to_owned(), it))
        .collect();
    let nodes: HashMap<_, _> = list(&metadata["resolve"]["nodes"])
        .into_iter()
        .map(|it| (it["id"].as_str().unwrap().to_owned(), it))
        .collect();
    let mut rest: Vec<_> = packages
        .values()
        .filter(|it| {
            ["forcewire", "forcewire-cli", "forcewire-c"]
                .map(Value::from)
                .contains(&it["name"])
        })
        .map(|it| it["id"].as_str().unwrap().to_owned())
        .collect();
    let minimum = version(&packages[&rest[0]]).unwrap();
    assert!(read("README.md").contains(&format!("The minimum Rust version is 1.{}", minimum[1])));
    let mut seen = BTreeSet::new();
    while let Some(id) = rest.pop() {
        let asked = version(&packages[&id]).unwrap_or_default();
        assert!(asked <= minimum, "{id} asks for Rust {asked:?}");
        for dependency in list(&nodes[&id]["deps"]) {
            let kinds = list(&dependency["dep_kinds"]);
            let id = dependency["pkg"].as_str().unwrap().to_owned();
            if kinds.iter().any(|it| it["kind"] != "dev") && seen.insert(id.clone()) {
                rest.push(id);
            }
        }
    }
    assert!(seen.len() > 50, "{}", seen.len());
}

fn version(package: &Value) -> Option<[u32; 3]> {
    let mut parts = package["rust_version"]
        .as_str()?
        .split('.')
        .map(|it| it.parse().unwrap());
    Some([(); 3].map(|()| parts.next().unwrap_or(0)))
}

// ---- layers ----

/// The modules of the crate from bottom to top: each uses only modules in earlier rows.
const LAYERS: [&[&str]; 8] = [
    &["fmt", "geometry", "backoff"],
    &["protocol"],
    &["exchange"],
    &["deadlines", "potential"],
    &["driver", "server", "error"],
    &["asynch", "blocking", "coalesce", "smoltcp"],
    &["line", "serve"],
    &["net"],
];

/// The modules of the C library from bottom to top.
const LAYERS_OF_C: [&[&str]; 6] = [
    &["guard", "memory"],
    &["status", "potential"],
    &["link", "sockets", "unfinished"],
    &["handle"],
    &["driver", "server", "host"],
    &["serve"],
];

/// Drivers and servers, for instance, do not know each other, and neither knows a transport. A name
/// imported through the crate's root would hide its origin.
#[test]
fn modules_use_only_what_is_below_them() {
    let crates = [
        ("src", "lib manual", &LAYERS[..]),
        ("src/c", "lib", &LAYERS_OF_C),
    ];
    for (folder, exempt, layers) in crates {
        let rank = |module: &str| layers.iter().position(|layer| layer.contains(&module));
        let mut uses = 0;
        for path in files(&[folder]) {
            let inside = path.strip_prefix(root().join(folder)).unwrap();
            let first = Path::new(inside.iter().next().unwrap()).file_stem();
            let module = first.and_then(OsStr::to_str).unwrap();
            let another = folder == "src" && ["c", "cli"].contains(&module);
            if extension(&path) != "rs" || another || exempt.split(' ').any(|it| it == module) {
                continue;
            }
            let own = rank(module).unwrap_or_else(|| panic!("{module} has no layer"));
            let text = fs::read_to_string(&path).unwrap();
            // `pub use` gives a name a second path.
            let code = text.lines().map(str::trim_start);
            let code = code.filter(|line| !line.starts_with("//") && !line.starts_with("pub use"));
            for used in code.flat_map(|line| line.split("crate::").skip(1)) {
                let name = used.split(|c: char| !c.is_alphanumeric() && c != '_');
                let name = name.into_iter().next().unwrap();
                let below = rank(name).is_some_and(|used| used < own);
                assert!(below || name == module, "{}: crate::{used}", path.display());
                uses += 1;
            }
        }
        assert!(uses > 30, "{folder}: {uses}");
    }
}

// ---- comments ----

/// In every language. Text in quotes or code may be longer.
#[test]
fn comments_end_at_column_100() {
    let mut long = Vec::new();
    for path in files(&["src", "examples", "tests", "boards"]) {
        let begins: &[&str] = match extension(&path) {
            "rs" | "c" | "h" => &["//", "/*", "*"],
            "f90" => &["!"],
            "py" | "toml" | "" => &["#"],
            _ => continue,
        };
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        for (index, line) in text.lines().enumerate() {
            let comment = begins.iter().any(|it| line.trim_start().starts_with(it));
            if comment && line.chars().count() > 100 {
                let path = path.strip_prefix(root()).unwrap().display();
                long.push(format!("{path}:{}", index + 1));
            }
        }
    }
    assert!(long.is_empty(), "{} comments: {long:#?}", long.len());
}

/// The sections of the specification that source and tests cite exist.
#[test]
fn sections_of_the_protocol_exist() {
    let page = read("src/manual/protocol.md");
    let mut cited = 0;
    for path in files(&["src", "tests"]) {
        if extension(&path) != "rs" || path.ends_with("tests/repository.rs") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let words: Vec<_> = text
            .split_whitespace()
            .filter(|it| !it.starts_with("//"))
            .collect();
        for (index, word) in words.iter().enumerate() {
            if !word.ends_with("src/manual/protocol.md`,") {
                continue;
            }
            // `section 2`, or `sections 2 and 3`.
            let after = words[index + 2..].iter().step_by(2).take(2);
            let numbers = after.map(|it| it.trim_end_matches(|it: char| !it.is_ascii_digit()));
            let numbers: Vec<u32> = numbers.map_while(|it| it.parse().ok()).collect();
            assert!(!numbers.is_empty(), "{}: {word}", path.display());
            for number in numbers {
                let heading = format!("\n## {number}. ");
                assert!(page.contains(&heading), "{}: {number}", path.display());
                cited += 1;
            }
        }
    }
    assert!(cited > 8, "{cited}");
}
