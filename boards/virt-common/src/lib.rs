//! Shared by QEMU's machines `virt`, whatever their core: the network device.

#![no_std]
#![warn(missing_docs)]

mod virtio;

pub use virtio::{Buffers, Virtio};
