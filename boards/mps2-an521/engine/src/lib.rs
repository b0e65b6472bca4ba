//! Shared by the two cores of mps2-an521: a [mailbox](Mailbox) in memory, and a
//! [doorbell](Doorbell) that interrupts the other core.
//!
//! The two images are linked apart, for different ABIs, so all that lies in the mailbox has the
//! layout of C. `src/main.rs` is the image of core 1.

#![cfg_attr(not(test), no_std)]
#![warn(missing_docs)]

mod doorbell;
mod job;
mod mailbox;

pub use doorbell::Doorbell;
pub use job::{Job, Outcome, Parameters};
pub use mailbox::{Mailbox, Number};
