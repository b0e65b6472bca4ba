//! Shared by QEMU's machines `virt`, whatever their core: the network device, and the stack's
//! measure.

#![no_std]
#![warn(missing_docs)]

pub mod stack;
mod virtio;

pub use virtio::{Buffers, Virtio};
