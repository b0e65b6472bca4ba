//! The devices that Arm's MPS2 boards share.

#![no_std]
#![warn(missing_docs)]

pub mod lan9118;
mod timer;

use forcewire_cortex_m::Machine;
use lan9118::Lan9118;
pub use timer::Timer;

/// The core's clock, also that of the timers (QEMU 7.2, hw/arm/mps2.c).
const CLOCK: u32 = 25_000_000;

/// CMSDK timer 0 (Arm DAI 0385D, table 3-1).
const TIMER: *mut u32 = 0x4000_0000 as *mut u32;

/// Interrupts of the Ethernet controller and of timer 0 (Arm DAI 0385D, table 3-5).
const LINES: [u16; 2] = [13, 8];

/// The board, with its LAN9118 at this address. None if there is no such controller.
///
/// # Safety
///
/// The address must be the board's, and this must be the only call.
pub unsafe fn machine(ethernet: *mut u32) -> Option<Machine<Lan9118, Timer>> {
    Some(Machine {
        // Safety: as the caller says.
        ethernet: unsafe { Lan9118::new(ethernet) }?,
        // Safety: the same on all boards, and this is the only call.
        alarm: unsafe { Timer::new(TIMER, CLOCK) },
        lines: LINES,
        hertz: CLOCK,
    })
}
