//! Compilers, and the tools that watch the compiled programs.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

/// How to watch a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// Without a tool, as users run it.
    None,
    /// With the address and undefined-behaviour sanitizers; any report ends the program.
    Sanitizers,
    /// With valgrind: an error or a leak ends the program with status 99.
    Valgrind,
}

pub const WATCHES: [Watch; 3] = [Watch::None, Watch::Sanitizers, Watch::Valgrind];

/// Warnings that C code of this project must not cause.
const C: &[&str] = &[
    "-std=c11",
    "-D_GNU_SOURCE",
    "-O2",
    "-g",
    "-ffp-contract=off",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wshadow",
    "-Wstrict-prototypes",
];
const FORTRAN: &[&str] = &[
    "-O2",
    "-g",
    "-ffp-contract=off",
    "-fopenmp",
    "-Wall",
    "-Wextra",
    "-Werror",
];
const SANITIZERS: &[&str] = &["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// The directory with `libforcewire.a`, which the documented command makes.
pub fn library() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| build(target(), None))
}

/// The directory of a library built separately with these compiler flags.
pub fn library_with(name: &str, flags: &str) -> PathBuf {
    build(&target().join("c").join(name), Some(flags))
}

fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap()
}

fn build(target: &Path, flags: Option<&str>) -> PathBuf {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(root());
    command.args(["build", "--quiet", "--release", "-p", "forcewire-c"]);
    if let Some(flags) = flags {
        command.env("RUSTFLAGS", flags);
    }
    call(command.arg("--target-dir").arg(target));
    target.join("release")
}

/// Programs already built: their sources, relative to the repository, and their flags.
static PROGRAMS: Mutex<Vec<(Vec<String>, PathBuf)>> = Mutex::new(Vec::new());

/// Compiles a program once, and returns a command that starts it. For Fortran sources the Fortran
/// compiler is used, also for C sources compiled with them.
pub fn program(watch: Watch, sources: &[&str], flags: &[&str]) -> Command {
    let library = library();
    let fortran = sources.iter().any(|source| source.ends_with(".f90"));
    let sanitized = watch == Watch::Sanitizers;
    let key: Vec<_> = [sources, flags, &[if sanitized { "sanitized" } else { "" }]]
        .concat()
        .into_iter()
        .map(String::from)
        .collect();
    // Held during compilation, because another test may need the same program.
    let mut programs = PROGRAMS
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let known = programs
        .iter()
        .find(|(it, _)| *it == key)
        .map(|(_, path)| path.clone());
    let path = known.unwrap_or_else(|| {
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("program{}", programs.len()));
        let modules = path.with_extension("modules");
        std::fs::create_dir_all(&modules).unwrap();
        let mut compiler = Command::new(if fortran { "gfortran" } else { "gcc" });
        compiler
            .current_dir(root())
            .args(if fortran { FORTRAN } else { C });
        if fortran {
            compiler.arg("-J").arg(&modules);
        }
        if sanitized {
            compiler.args(SANITIZERS);
        }
        let paths = sources.iter().map(|source| source.trim_start_matches("./"));
        compiler.arg("-Isrc/c").args(paths).args(flags);
        // Named by its path: with -L and -l the linker would take the dynamic library, which is in
        // the same directory.
        compiler
            .arg(library.join("libforcewire.a"))
            .arg("-lm")
            .arg("-o")
            .arg(&path);
        call(&mut compiler);
        programs.push((key, path.clone()));
        path
    });
    if watch == Watch::Valgrind {
        let mut valgrind = Command::new("valgrind");
        // Reachable memory is no leak: names of peers, gfortran's units.
        valgrind.args([
            "--quiet",
            "--error-exitcode=99",
            "--leak-check=full",
            "--errors-for-leak-kinds=definite,indirect,possible",
        ]);
        valgrind.arg(path);
        return valgrind;
    }
    Command::new(path)
}

/// Runs a command that must succeed.
pub fn call(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (said, complained) = (output.stdout, output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&complained)
    );
    String::from_utf8(said).unwrap()
}
