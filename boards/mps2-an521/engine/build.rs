//! The build script of the engine: the same as ../../build.rs, without the symbols of a log.

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo says where"));
    fs::copy("memory.x", out.join("memory.x")).expect("a script can be copied");
    println!("cargo::rerun-if-changed=memory.x");
    // Not a `rustc-link-search`, because core 0 would inherit it with the library, and core 0 has
    // its own memory.x.
    let search = format!("-L{}", out.display());
    for argument in [&search, "--nmagic", "-Tlink.x"] {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
}
