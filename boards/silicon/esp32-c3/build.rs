//! Where the linker finds what is where: in esp-hal. Not in RUSTFLAGS, which those of a user would
//! replace.

fn main() {
    for script in ["defmt.x", "linkall.x"] {
        println!("cargo::rustc-link-arg-bins=-T{script}");
    }
}
