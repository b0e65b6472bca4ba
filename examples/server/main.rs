//! A server for drivers: evaluates the frames of a file, or runs molecular dynamics.
//!
//! ```text
//! cargo run --release --example server -- frames.xyz --evaluate -u -a water --drivers 4
//! cargo run --release --example server -- argon.xyz --steps 1000 --temperature 80 --output argon
//! ```

#[cfg(unix)]
mod command;
#[cfg(unix)]
mod comment;
#[cfg(unix)]
mod drivers;
#[cfg(unix)]
mod dynamics;
#[cfg(unix)]
mod evaluate;
#[cfg(unix)]
mod masses;
#[cfg(unix)]
mod units;
#[cfg(unix)]
mod verlet;
#[cfg(unix)]
mod xyz;

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    command::main()
}

#[cfg(not(unix))]
fn main() -> std::process::ExitCode {
    eprintln!("server: there is a pool of drivers on unix systems only");
    std::process::ExitCode::FAILURE
}
