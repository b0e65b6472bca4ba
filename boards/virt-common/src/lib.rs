//! The common part of QEMU's machines `virt` with any core: the network device, and the use of the
//! stack.

#![no_std]
#![warn(missing_docs)]

pub mod stack;
mod virtio;

pub use virtio::{Buffers, Virtio};
