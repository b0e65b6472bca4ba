//! What the protocol's tests share: a conversation as a script, and the peer's bytes written out.
//!
//! Nothing here uses the code under test to make bytes.

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
