//! Runs the fuzz targets over their corpora without a fuzzer. The corpora are small named files,
//! explained in `fuzz/corpus/README.md`; `tests/fuzz/run` continues from them.

#[path = "fuzz/src/lib.rs"]
mod fuzz;

use std::fs;
use std::panic;
use std::path::Path;

/// The files of a target's corpus, by name.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    let files = fs::read_dir(directory.join(target)).expect("a corpus");
    let mut files: Vec<_> = files
        .map(|file| {
            let file = file.expect("a file");
            let name = file.file_name().into_string().expect("a name");
            (name, fs::read(file.path()).expect("a file"))
        })
        .collect();
    files.sort();
    files
}

#[test]
fn every_file_of_every_corpus() {
    for (target, run) in fuzz::TARGETS {
        let files = corpus(target);
        assert!(files.len() >= 10, "{target}");
        for (name, bytes) in files {
            let result = panic::catch_unwind(|| run(&bytes));
            assert!(result.is_ok(), "tests/fuzz/corpus/{target}/{name}");
        }
    }
}

#[test]
fn every_file_is_explained() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    let readme = fs::read_to_string(directory.join("README.md")).expect("a README");
    for (target, _) in fuzz::TARGETS {
        let (_, section) = readme
            .split_once(&format!("\n## {target}\n"))
            .unwrap_or_else(|| panic!("{target} has no section"));
        let section = section.split("\n## ").next().unwrap_or(section);
        for (name, _) in corpus(target) {
            let row = format!("\n| `{name}` |");
            assert!(section.contains(&row), "{target}/{name} is not explained");
        }
        let rows = section.matches("\n| `").count();
        assert_eq!(rows, corpus(target).len(), "{target}: a file is missing");
    }
}

/// Prefixes of every file, and every file with one byte changed: the first step of a fuzzer.
#[test]
fn files_cut_short_and_changed() {
    for (target, run) in fuzz::TARGETS {
        for (index, (name, bytes)) in corpus(target).into_iter().enumerate() {
            let every = 1 + bytes.len() / 24;
            for at in (index % every..bytes.len()).step_by(every) {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << (at % 8);
                let both = panic::catch_unwind(|| {
                    run(&bytes[..at]);
                    run(&changed);
                });
                assert!(both.is_ok(), "tests/fuzz/corpus/{target}/{name}, byte {at}");
            }
        }
    }
}
