//! README's tables of clumsy and hostile peers, made of what `--json` wrote in real runs (`tests/peers/check.rs`).

use std::env;
use std::fs;

use crate::example;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn readme_has_what_the_kit_found() {
    let files = [
        "forcewire-driver",
        "ipi-driver",
        "ase-driver",
        "lammps-driver",
        "forcewire-server",
        "ipi-server",
        "ase-server",
    ];
    let files = files.map(|name| format!("{ROOT}/tests/peers/check/{name}.jsonl"));
    let output = example::check().arg("table").args(files).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let new = String::from_utf8(output.stdout).unwrap();

    let path = format!("{ROOT}/README.md");
    let readme = fs::read_to_string(&path).unwrap();
    let (before, rest) = readme.split_once("<!-- check -->\n").unwrap();
    let (old, after) = rest.split_once("<!-- /check -->\n").unwrap();
    if env::var_os("FORCEWIRE_OVERWRITE").is_some() {
        let text = format!("{before}<!-- check -->\n{new}<!-- /check -->\n{after}");
        fs::write(path, text).unwrap();
    } else {
        assert_eq!(
            old, new,
            "README's tables are not what tests/peers/check/*.jsonl make; \
             `FORCEWIRE_OVERWRITE=1 cargo test --test check readme` writes them anew"
        );
    }
}
