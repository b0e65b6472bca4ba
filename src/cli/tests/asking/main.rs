//! `forcewire evaluate` and `md` with drivers: `forcewire driver`, and drivers written for the
//! tests.
#![cfg(unix)]

mod command;
mod dynamics;
mod evaluate;
mod process;
