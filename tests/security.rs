//! SECURITY.md names the tests that check each of its guarantees. The named tests have to exist.

use std::fs;
use std::path::Path;

#[test]
fn tests_that_are_named_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("SECURITY.md")).unwrap();
    let mut named = 0;
    for quoted in text.split('`').skip(1).step_by(2) {
        let Some(path) = quoted.strip_prefix("tests/") else {
            continue;
        };
        let (path, test) = path
            .split_once(": ")
            .map_or((path, None), |(path, test)| (path, Some(test)));
        // Arguments follow a command.
        let file = path.split(' ').next().unwrap();
        let path = root.join("tests").join(file);
        assert!(path.exists(), "{quoted}");
        let Some(test) = test else { continue };
        let source = fs::read_to_string(&path).unwrap();
        // A macro may make the function from a name.
        let found = source.contains(&format!("fn {test}(")) || source.contains(&format!("{test}:"));
        assert!(found, "{quoted}");
        named += 1;
    }
    assert!(named > 25, "{named}");
}

/// Invariants are numbered consecutively, and each names its tests.
#[test]
fn every_invariant_is_held_by_something() {
    let text =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("SECURITY.md")).unwrap();
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| I"))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    for (index, row) in rows.iter().enumerate() {
        assert_eq!(row[1], format!("I{}", index + 1));
        assert!(row[3].contains("`tests/"), "{row:?}");
    }
    assert!(rows.len() > 15);
}
