//! The header equals cbindgen's output for the library's source, and the library defines everything
//! that the header declares.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cbindgen::{Builder, Config, DocumentationStyle, Language, Style};

use crate::tools::{call, library, root};

const TOP: &str = "\
/* forcewire for C: both sides of the i-PI protocol, and the functions of i-PI's sockets.c again.

   Made from src/c by tests/c/header.rs: FORCEWIRE_OVERWRITE=1 cargo test -p forcewire-c header

   Atomic units throughout: bohr, hartree, hartree/bohr. Arrays of atoms are double[natoms][3],
   x y z of one atom after the other. Every call that can fail returns a forcewire_status_t. */";

fn header_path() -> PathBuf {
    root().join("src/c/forcewire.h")
}

fn header() -> String {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let modules = [
        "status",
        "link",
        "potential",
        "driver",
        "server",
        "serve",
        "host",
        "sockets",
    ];
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
    let path = header_path();
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

/// In each C-family language that users compile with, and without any other include.
#[test]
fn the_header_stands_by_itself() {
    for language in [
        "-std=c99 -xc",
        "-std=c17 -xc",
        "-std=c++11 -xc++",
        "-std=c++20 -xc++",
    ] {
        let mut compiler = Command::new("gcc");
        compiler.args(language.split(' ')).args([
            "-pedantic-errors",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-fsyntax-only",
        ]);
        call(compiler.arg(header_path()));
    }
}

/// The names of the functions that the header declares.
pub fn declared() -> Vec<String> {
    let header = fs::read_to_string(header_path()).unwrap();
    let declared = header.split("extern \"C\" {").nth(1).unwrap();
    let code = declared
        .lines()
        .filter(|line| !line.starts_with("//"))
        .collect::<String>();
    // The word before the first parenthesis of each declaration.
    let names: Vec<_> = code
        .split(';')
        .filter_map(|it| it.split_once('('))
        .filter_map(|(before, _)| before.split([' ', '*']).next_back())
        .map(str::to_owned)
        .collect();
    assert!(
        names.len() > 30 && names.iter().any(|it| it == "readbuffer_"),
        "{names:?}"
    );
    names
}

/// A program that uses every function of the header links with both libraries.
#[test]
fn the_libraries_have_what_the_header_declares() {
    let names = declared();
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("all.c");
    let all = names.join(", (void *)");
    let program = format!(
        "#include <forcewire.h>\nvoid *const all[] = {{(void *){all}}};\nint main(void) {{ return !all[0]; }}\n"
    );
    fs::write(&source, program).unwrap();
    for file in ["libforcewire.a", "libforcewire.so"] {
        let program = directory.path().join("all");
        let mut compiler = Command::new("gcc");
        compiler
            .arg("-Wall")
            .arg("-Werror")
            .arg("-I")
            .arg(header_path().parent().unwrap());
        compiler.arg(&source).arg(library().join(file)).arg("-lm");
        call(compiler.arg("-o").arg(&program));
        call(Command::new(&program).env("LD_LIBRARY_PATH", library()));
    }
}
