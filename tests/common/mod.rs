//! The common part of the protocol's tests: conversations as scripts, and the peers' bytes written
//! by hand.
//!
//! Nothing here uses the code under test to produce bytes.

#![allow(dead_code, unused_imports)] // each test file uses its part

mod bytes;
mod driver;
pub mod fake;
pub mod layout;
pub mod network;
pub mod server;
pub mod slow;
mod wire;

pub use bytes::*;
pub use driver::*;
pub use wire::{Dice, Split, at_every_split, pour, pour_at_most, pour_some};
