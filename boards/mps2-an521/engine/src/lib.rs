//! The common part of the two cores of mps2-an521: a [mailbox](Mailbox) in memory, and a
//! [doorbell](Doorbell) that interrupts the other core.
//!
//! The two images are linked separately and for different ABIs, so everything in the mailbox has
//! C's layout. `src/main.rs` is the image of core 1.

#![cfg_attr(not(test), no_std)]
#![warn(missing_docs)]

mod doorbell;
mod job;
mod mailbox;

pub use doorbell::Doorbell;
pub use job::{Job, Outcome, Parameters};
pub use mailbox::{Mailbox, Number};
