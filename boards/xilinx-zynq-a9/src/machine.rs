//! The core's clock, and how it sleeps.

use core::arch::asm;

use forcewire_boards::{Board, Ethernet};
use forcewire_cortex_a::Gic;
use smoltcp::time::Instant;

use crate::bell::Bell;
use crate::gem::Gem;

/// Private registers of the cores (UG585 appendix B, "mpcore"): the GIC, and the global timer.
const INTERFACE: *mut u32 = 0xf8f0_0100 as *mut u32;
const TIMER: *mut u32 = 0xf8f0_0200 as *mut u32;
const DISTRIBUTOR: *mut u32 = 0xf8f0_1000 as *mut u32;

/// Offsets of the timer's registers, in bytes (Arm DDI 0407G, 4.4).
mod register {
    pub const COUNTER: usize = 0x00;
    pub const CONTROL: usize = 0x08;
    pub const STATUS: usize = 0x0c;
    pub const COMPARATOR: usize = 0x10;
}
/// Bits of the control register: the timer runs; it compares and interrupts.
const COUNTS: u32 = 1 << 0;
const COMPARES: u32 = 1 << 1 | 1 << 2;

/// Interrupts of the global timer, GEM 0 and UART 1 (UG585, tables 7-3 and 7-4).
const LINES: &[usize] = &[27, 54, 82];

/// Ticks in a microsecond. QEMU 7.2 counts at 100 MHz (hw/timer/a9gtimer.c). On silicon the clock
/// is CPU_3x2x, half of the core's (UG585 chapters 8 and 25): 333 at 667 MHz.
const TICKS: u64 = 100;

/// The machine.
pub struct Machine {
    ethernet: Gem,
    bell: Bell,
    gic: Gic,
}

impl Machine {
    /// Starts the clock, and lets the timer, the network and the engine wake the core. No interrupt
    /// is ever taken.
    ///
    /// # Safety
    ///
    /// The program must run on a Zynq-7000 with interrupts off, and call this once.
    pub unsafe fn new(ethernet: Gem, bell: Bell) -> Self {
        write(register::CONTROL, COUNTS);
        // Safety: the caller ensures this.
        let gic = unsafe { Gic::new(DISTRIBUTOR, INTERFACE, LINES) };
        Self {
            ethernet,
            bell,
            gic,
        }
    }
}

fn read(offset: usize) -> u32 {
    // Safety: the timer exists at this address.
    unsafe { TIMER.byte_add(offset).read_volatile() }
}

fn write(offset: usize, value: u32) {
    // Safety: as above.
    unsafe { TIMER.byte_add(offset).write_volatile(value) }
}

fn ticks() -> u64 {
    loop {
        let words = [4, 0, 4].map(|half| u64::from(read(register::COUNTER + half)));
        let [before, low, after] = words;
        if before == after {
            return after << 32 | low;
        }
    }
}

impl Board for Machine {
    type Ethernet = Gem;

    fn ethernet(&mut self) -> &mut Gem {
        &mut self.ethernet
    }

    fn now(&self) -> Instant {
        Instant::from_micros((ticks() / TICKS) as i64)
    }

    fn wait(&mut self, until: Instant) {
        let at = until.total_micros().unsigned_abs() * TICKS;
        write(register::CONTROL, COUNTS);
        write(register::COMPARATOR, at as u32);
        write(register::COMPARATOR + 4, (at >> 32) as u32);
        write(register::CONTROL, COUNTS | COMPARES);
        if self.ethernet.idle() {
            // Safety: sleeps; a pending interrupt ends this at once.
            unsafe { asm!("dsb", "wfi") };
        }
        write(register::CONTROL, COUNTS);
        write(register::STATUS, 1);
        self.bell.silence();
        self.gic.end(|| {
            self.ethernet.idle(); // acknowledges
        });
    }
}
