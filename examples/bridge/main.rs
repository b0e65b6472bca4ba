//! Connects boards on serial lines to a server: the host's end of `forcewire::line`.
//!
//! ```text
//! cargo run --release --example bridge -- --serial /dev/ttyACM0 --to localhost:31415
//! cargo run --release --example bridge -- --to localhost:31415 qemu-system-arm … -serial stdio
//! ```

#[cfg(unix)]
mod bridge;
#[cfg(unix)]
mod command;
#[cfg(unix)]
mod device;

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    command::main()
}

#[cfg(not(unix))]
fn main() {
    panic!("bridge: serial devices are those of unix systems");
}
