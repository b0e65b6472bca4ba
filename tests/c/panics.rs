//! No panic of the library reaches C, where it would end the program.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::tempdir;

use crate::header::declared;
use crate::tools::{Watch, call, library_with, program, root};

/// In a library built for this test, each function of the header panics and still returns.
#[test]
fn every_function_catches_a_panic() {
    let library = library_with("panics", "--cfg forcewire_panics");
    let directory = tempdir().unwrap();
    let (source, program) = (directory.path().join("all.c"), directory.path().join("all"));
    let names = declared();
    let calls: String = names
        .iter()
        .map(|name| format!("    CALL({name});\n"))
        .collect();
    // The panic comes before any argument is used.
    let text = format!(
        "#include <forcewire.h>\n#include <stdio.h>\n#include <stdlib.h>\n\
         typedef long function(long, long, long, long, long, long, long, long);\n\
         #define CALL(name) printf(\"%s %d\\n\", #name, (int)((function *)(void *)name)(0, 0, 0, 0, 0, 0, 0, 0))\n\
         int main(void)\n{{\n    forcewire_driver_t driver;\n    char text[512];\n    \
         forcewire_on_error(FORCEWIRE_CONTINUE);\n    \
         if (forcewire_driver_init(&driver, 0) != FORCEWIRE_OK)\n        return 1;\n    \
         setenv(\"FORCEWIRE_PANICS\", \"1\", 1);\n{calls}    \
         printf(\"%d\\n\", forcewire_driver_receive(&driver, NULL, 0, NULL));\n    \
         unsetenv(\"FORCEWIRE_PANICS\");\n    \
         printf(\"%s\\n%s\\n\", forcewire_driver_error(&driver, text, sizeof text), forcewire_strerror(13));\n    \
         printf(\"%d\\n\", forcewire_error());\n    return 0;\n}}\n"
    );
    fs::write(&source, text).unwrap();
    let mut compiler = Command::new("gcc");
    compiler.arg("-I").arg(root().join("src/c")).arg(&source);
    compiler.arg(library.join("libforcewire.a"));
    call(compiler.arg("-lm").arg("-o").arg(&program));

    let output = Command::new(&program)
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    let (said, complained) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    );
    assert!(output.status.success(), "{said}{complained}");
    let panics = complained.matches("as a test has asked for").count();
    assert_eq!(panics, names.len() + 1, "{said}{complained}");
    for name in &names {
        let status = said.lines().find_map(|line| {
            let (called, status) = line.split_once(' ')?;
            (called == name).then(|| status.parse::<i32>().unwrap())
        });
        let returns_status = ["_driver_", "_server_"].iter().any(|it| name.contains(it))
            && !name.ends_with("_error")
            && !name.ends_with("_text");
        if returns_status || name == "forcewire_error" {
            assert_eq!(status, Some(13), "{name}");
        }
    }
    let rest: Vec<_> = said.lines().skip(names.len()).collect();
    assert_eq!((rest[0], rest[3]), ("13", "13"), "{said}");
    assert!(rest[1].contains("please report it"), "{said}");
    assert_eq!(rest[1], rest[2], "{said}");
}

/// The recorded errors of a thread, in the destructors at its end.
#[test]
fn errors_are_remembered_to_the_end_of_a_thread() {
    let mut command = program(Watch::None, &["tests/c/ending.c"], &[]);
    assert_eq!(
        call(&mut command),
        "1 there is no descriptor or no length\n"
    );
}

/// Name parts of std and its dependencies in the library.
const STD: [&str; 15] = [
    "std",
    "core",
    "alloc",
    "compiler_builtins",
    "panic_abort",
    "unwind",
    "gimli",
    "addr2line",
    "adler2",
    "miniz_oxide",
    "object",
    "hashbrown",
    "memchr",
    "rustc_demangle",
    "libc",
];

/// Functions of the standard library that panic, or end the program without memory, and that these
/// functions of the header reach without a detour through the standard library.
fn panics(objects: &Path, roots: &[String]) -> Vec<String> {
    let linked = objects.join("linked");
    let mut linker = Command::new("ld");
    linker.args(["-r", "--gc-sections", "-o"]).arg(&linked);
    linker.args(roots.iter().flat_map(|name| ["-u", name]));
    for object in fs::read_dir(objects).unwrap() {
        let path = object.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let is_std = STD.iter().any(|it| {
            let rest = name.strip_prefix(it);
            rest.is_some_and(|rest| rest.starts_with(['-', '.']))
        });
        if name.ends_with(".o") && !is_std {
            linker.arg(&path);
        }
    }
    call(&mut linker);
    // The table still has undefined symbols of discarded functions, but there are no relocations
    // for them.
    let said = call(
        Command::new("readelf")
            .args(["-rW", "--demangle"])
            .arg(&linked),
    );
    let words = [
        "panic",
        "unwrap_failed",
        "expect_failed",
        "assert_failed",
        "_fail",
        "handle_alloc_error",
        "handle_error",
        "capacity_overflow",
    ];
    let mut found: Vec<_> = said
        .lines()
        .filter_map(|line| line.split_whitespace().nth(4))
        .filter(|name| {
            ["core::", "alloc::", "std::"]
                .iter()
                .any(|it| name.contains(it))
        })
        // A Mutex only asks whether the thread is panicking.
        .filter(|name| words.iter().any(|it| name.contains(it)) && !name.contains("panic_count"))
        .map(str::to_owned)
        .collect();
    found.sort();
    found.dedup();
    found
}

/// The host's library links without a panic, as firmware does, with two exceptions. The standard
/// library's own panics are excluded. So are the functions that connect, accept or adopt, because
/// the standard library and rustix assert properties of names, addresses and descriptors there. In
/// the rest only memory can run out.
#[test]
fn nothing_but_memory_fails_once_there_is_a_connection() {
    let library = library_with("abort", "-C panic=abort -C codegen-units=1");
    let directory = tempdir().unwrap();
    call(
        Command::new("ar")
            .current_dir(directory.path())
            .arg("x")
            .arg(library.join("libforcewire.a")),
    );
    let connects = |name: &String| {
        ["connect", "accept", "adopt", "open_socket", "shm_map"]
            .iter()
            .any(|it| name.contains(it))
    };
    let (connecting, rest): (Vec<_>, Vec<_>) = declared().into_iter().partition(connects);
    let found = panics(directory.path(), &rest);
    assert!(
        found
            .iter()
            .all(|it| it.ends_with("::handle_alloc_error") || it.ends_with("::handle_error")),
        "{found:?}"
    );
    // Otherwise this test would detect nothing.
    assert!(!found.is_empty());
    assert!(panics(directory.path(), &connecting).len() > found.len());
}
