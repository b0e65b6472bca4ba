//! Core 0 of AN521: the machine, with core 1 as an engine.

#![no_std]
#![warn(missing_docs)]

mod core1;

pub use core1::Core1;
use forcewire_cortex_m::Machine;
use forcewire_mps2::lan9118::Lan9118;
use forcewire_mps2::{Map, Timer};

/// Secure addresses, interrupts and clock (Arm DAI 0521C; for the timer Arm 101104; QEMU 7.2,
/// hw/arm/mps2-tz.c and armsse.c).
const MAP: Map = Map {
    lan9118: 0x5200_0000 as *mut u32,
    timer: 0x5000_0000 as *mut u32,
    lines: &[48, 3, core1::LINE],
    hertz: 20_000_000,
};

/// The machine.
///
/// # Safety
///
/// The program must run on core 0 of an AN521 and call this once.
#[must_use]
pub unsafe fn machine() -> Option<Machine<Lan9118, Timer>> {
    // Safety: the caller ensures this.
    unsafe { forcewire_mps2::machine(&MAP) }
}
