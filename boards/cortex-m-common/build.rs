//! Says in `cfg(armv8m)` whether the core is one of Armv8-M, as the build script of cortex-m does.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(armv8m)");
    println!("cargo::rerun-if-changed=build.rs");
    let target = std::env::var("TARGET").expect("cargo says for what");
    if target.starts_with("thumbv8m.main") {
        println!("cargo::rustc-cfg=armv8m");
    }
}
