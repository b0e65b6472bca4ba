//! The files of the library form layers: none uses a file above it, so there are no cycles.

use std::fs;

use crate::tools::root;

/// The layers from bottom to top. `sockets.rs` is separate: nothing uses it.
const LAYERS: [&str; 11] = [
    "guard",
    "memory",
    "status",
    "link",
    "potential",
    "unfinished",
    "handle",
    "driver",
    "server",
    "host",
    "serve",
];

/// The modules that a file imports from its own crate.
fn uses(name: &str) -> Vec<String> {
    let path = root().join("src/c").join(name).with_extension("rs");
    let source = fs::read_to_string(path).unwrap();
    let names = source.split("crate::").skip(1).map(|rest| {
        let end = rest.find(|it: char| !it.is_ascii_lowercase());
        rest[..end.unwrap_or(rest.len())].to_owned()
    });
    names.filter(|it| it != name).collect()
}

#[test]
fn no_file_uses_one_above_it() {
    for (level, name) in LAYERS.iter().enumerate() {
        for used in uses(name) {
            let below = LAYERS[..level].contains(&used.as_str());
            assert!(below, "{name}.rs uses {used}.rs, which is not below it");
        }
    }
}

#[test]
fn every_file_has_a_layer() {
    let entries = fs::read_dir(root().join("src/c")).unwrap();
    let mut sources: Vec<_> = entries
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".rs").map(str::to_owned))
        .filter(|name| !["lib", "sockets"].contains(&name.as_str()))
        .collect();
    sources.sort();
    let mut layers = LAYERS.map(str::to_owned);
    layers.sort();
    assert_eq!(sources, layers);
}
