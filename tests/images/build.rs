//! Links without a C runtime and a vector table: an image is an entry point and what it reaches.

fn main() {
    for argument in ["--gc-sections", "--entry=image"] {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
}
