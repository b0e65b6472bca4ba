//! TI's LM3S6965: its Ethernet controller, its timer, and their initialization.

#![no_std]
#![warn(missing_docs)]

mod stellaris;
mod timer;

use forcewire_cortex_m::Machine;
pub use stellaris::Stellaris;
pub use timer::Timer;

const ETHERNET: *mut u32 = 0x4004_8000 as *mut u32;
const TIMER: *mut u32 = 0x4003_0000 as *mut u32;
/// The clock gates RCGC1 and RCGC2, and their bits for timer 0, EPHY0 and EMAC0 (data sheet, 5.4).
const GATES: *mut u32 = 0x400f_e104 as *mut u32;
const TIMER0: u32 = 1 << 16;
const ETHERNETS: u32 = 1 << 30 | 1 << 28;

/// Interrupts of the Ethernet controller and of timer 0A (data sheet, table 2-9).
const LINES: &[u16] = &[42, 19];

/// The core's clock after the reset (QEMU 7.2, hw/arm/stellaris.c).
const CLOCK: u32 = 12_500_000;

/// The machine.
///
/// # Safety
///
/// The program must run on an LM3S6965 and call this once.
#[must_use]
pub unsafe fn machine() -> Option<Machine<Stellaris, Timer>> {
    // Safety: the caller ensures this.
    unsafe {
        GATES.write_volatile(TIMER0);
        GATES.add(1).write_volatile(ETHERNETS);
        Some(Machine {
            ethernet: Stellaris::new(ETHERNET),
            alarm: Timer::new(TIMER),
            lines: LINES,
            hertz: CLOCK,
        })
    }
}
