//! Sets `cfg(armv8m)` if the core is an Armv8-M, as cortex-m's build script does.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(armv8m)");
    println!("cargo::rerun-if-changed=build.rs");
    let target = std::env::var("TARGET").expect("cargo says for what");
    if target.starts_with("thumbv8m.main") {
        println!("cargo::rustc-cfg=armv8m");
    }
}
