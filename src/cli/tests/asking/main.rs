//! `examples/server` with drivers: `examples/driver.rs`, and some of the tests' own.

#![cfg(unix)]

mod command;
mod dynamics;
mod evaluate;
#[path = "../common/example.rs"]
mod example;
mod process;
