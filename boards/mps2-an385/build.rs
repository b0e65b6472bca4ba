//! Where the linker finds the memory map, and what it is told. Not in RUSTFLAGS, which a user's own replace.

fn main() {
    let here = std::env::var("CARGO_MANIFEST_DIR").expect("cargo says where");
    println!("cargo::rustc-link-search={here}");
    for argument in ["--nmagic", "-Tlink.x", "-Tdefmt.x"] {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
    println!("cargo::rerun-if-changed=memory.x");
}
