//! What the tests share: conversations as scripts, the peer's bytes, streams that fail, and the
//! programs that tests start.
//!
//! Nothing here uses the code under test to make bytes.

pub mod layout;
pub mod page;
#[cfg(unix)]
pub mod process;
pub mod programs;

#[cfg(feature = "machines")]
mod bytes;
#[cfg(feature = "machines")]
mod driver;
#[cfg(feature = "machines")]
pub mod fake;
#[cfg(feature = "machines")]
pub mod network;
#[cfg(feature = "machines")]
pub mod server;
#[cfg(feature = "machines")]
pub mod slow;
#[cfg(feature = "machines")]
mod wire;

#[cfg(feature = "machines")]
pub use bytes::*;
#[cfg(feature = "machines")]
pub use driver::*;
#[cfg(feature = "machines")]
pub use wire::{Dice, Split, at_every_split, pour, pour_at_most, pour_some};
