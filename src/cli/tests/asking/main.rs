//! `forcewire evaluate` and `md` with drivers: `forcewire driver`, and some of the tests' own.
#![cfg(unix)]

mod command;
mod dynamics;
mod evaluate;
mod process;
