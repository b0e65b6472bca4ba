//! The common part of QEMU's machines `virt` with any core: the network device.

#![no_std]
#![warn(missing_docs)]

mod virtio;

pub use virtio::{Buffers, Virtio};
