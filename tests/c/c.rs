//! C and Fortran programs, compiled by these tests, against misbehaving peers, our own machines and
//! i-PI.
//!
//! ```text
//! tests/run c
//! ```
//!
//! installs what they need and runs them.

#![cfg(unix)]

mod api;
mod dropin;
mod ends;
mod examples;
mod fortran;
mod header;
mod ipi;
mod layers;
mod module;
mod panics;
mod timeouts;
mod tools;
mod wire;

use forcewire_support::layout;
use forcewire_support::page;
use forcewire_support::process;
