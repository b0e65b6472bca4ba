//! The common devices of Arm's MPS2 boards.

#![no_std]
#![warn(missing_docs)]

pub mod lan9118;
mod timer;

use forcewire_cortex_m::Machine;
use lan9118::Lan9118;
pub use timer::Timer;

/// The addresses of a board's devices.
pub struct Map {
    /// The Ethernet controller.
    pub lan9118: *mut u32,
    /// CMSDK timer 0.
    pub timer: *mut u32,
    /// The interrupts that end a sleep: the devices' and others.
    pub lines: &'static [u16],
    /// The clock of the core and of the timer, in hertz.
    pub hertz: u32,
}

impl Map {
    /// AN385 (Arm DAI 0385D, tables 3-1 and 3-5; QEMU 7.2, hw/arm/mps2.c).
    pub const AN385: Self = Self {
        lan9118: 0x4020_0000 as *mut u32,
        timer: 0x4000_0000 as *mut u32,
        lines: &[13, 8],
        hertz: 25_000_000,
    };
}

/// The board with its devices. `None` if there is no such Ethernet controller.
///
/// # Safety
///
/// The map must be the board's, and this must be the only call.
pub unsafe fn machine(map: &Map) -> Option<Machine<Lan9118, Timer>> {
    Some(Machine {
        // Safety: the caller ensures this.
        ethernet: unsafe { Lan9118::new(map.lan9118) }?,
        // Safety: the same.
        alarm: unsafe { Timer::new(map.timer, map.hertz) },
        lines: map.lines,
        hertz: map.hertz,
    })
}
