//! The header is what cbindgen makes of the library's source, and the library has what the header declares.

use std::env;
use std::fs;
use std::path::Path;

use cbindgen::{Builder, Config, DocumentationStyle, Language, Style};

const TOP: &str = "\
/* forcewire for C: both sides of the i-PI protocol, and the functions of i-PI's sockets.c again.

   Made from src/c by tests/c/header.rs: FORCEWIRE_OVERWRITE=1 cargo test -p forcewire-c header

   Atomic units throughout: bohr, hartree, hartree/bohr. Arrays of atoms are double[natoms][3], x y z of one atom after
   the other. Every call that can fail returns a forcewire_status_t. */";

fn header() -> String {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let modules = ["status", "link", "driver", "server", "host", "sockets"];
    let files = modules.map(|module| source.join(module).with_extension("rs"));
    let config = Config {
        language: Language::C,
        no_includes: true,
        sys_includes: ["stdbool.h", "stddef.h", "stdint.h"].map(Into::into).into(),
        header: Some(TOP.into()),
        include_guard: Some("FORCEWIRE_H".into()),
        cpp_compat: true,
        usize_is_size_t: true,
        style: Style::Type,
        documentation_style: DocumentationStyle::C99,
        line_length: 118,
        ..Config::default()
    };
    let builder = files
        .iter()
        .chain([&source.join("handle.rs")])
        .fold(Builder::new().with_config(config), |builder, file| {
            builder.with_src(file)
        });
    let mut text = Vec::new();
    builder.generate().unwrap().write(&mut text);
    String::from_utf8(text).unwrap()
}

#[test]
fn the_header_is_that_of_the_source() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("forcewire.h");
    let header = header();
    if env::var_os("FORCEWIRE_OVERWRITE").is_some() {
        fs::write(&path, &header).unwrap();
    }
    assert!(
        fs::read_to_string(&path).is_ok_and(|it| it == header),
        "{} is not what the source says; FORCEWIRE_OVERWRITE=1 writes it anew",
        path.display()
    );
}
