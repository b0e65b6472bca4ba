//! The hart's clock, and how it sleeps.

use forcewire_boards::{Board, Ethernet};
use forcewire_virt::Virtio;
use smoltcp::time::Instant;

// QEMU 7.2, hw/riscv/virt.c: VIRT_CLINT and VIRT_PLIC.
const CLINT: *mut u32 = 0x0200_0000 as *mut u32;
const PLIC: *mut u32 = 0x0c00_0000 as *mut u32;

/// Offsets of registers, in bytes: first the CLINT's, then the PLIC's for hart 0 in machine mode.
const COMPARE: usize = 0x4000;
const TIME: usize = 0xbff8;
const ENABLE: usize = 0x2000;
const THRESHOLD: usize = 0x20_0000;
const CLAIM: usize = 0x20_0004;

/// Ticks of the 10 MHz clock in a microsecond.
const TICKS: u64 = 10;

/// The machine with its network device.
pub struct Machine {
    ethernet: Virtio,
}

impl Machine {
    /// Lets the timer and the device's interrupt, which has this number, wake the hart. Neither is
    /// ever taken.
    pub fn new(ethernet: Virtio, interrupt: usize) -> Self {
        // Safety: the PLIC exists, and interrupts are off.
        unsafe {
            PLIC.add(interrupt).write_volatile(1); // its priority
            PLIC.byte_add(ENABLE).write_volatile(1 << interrupt);
            PLIC.byte_add(THRESHOLD).write_volatile(0);
            riscv::register::mie::set_mext();
            riscv::register::mie::set_mtimer();
        }
        Self { ethernet }
    }
}

fn ticks() -> u64 {
    let low = CLINT.wrapping_byte_add(TIME);
    let high = low.wrapping_add(1);
    loop {
        // Safety: the CLINT exists at this address.
        let words = unsafe {
            [
                high.read_volatile(),
                low.read_volatile(),
                high.read_volatile(),
            ]
        };
        let [before, low, after] = words.map(u64::from);
        if before == after {
            return after << 32 | low;
        }
    }
}

impl Board for Machine {
    type Ethernet = Virtio;

    fn ethernet(&mut self) -> &mut Virtio {
        &mut self.ethernet
    }

    fn now(&self) -> Instant {
        Instant::from_micros((ticks() / TICKS) as i64)
    }

    fn wait(&mut self, until: Instant) {
        let at = until.total_micros().unsigned_abs() * TICKS;
        // Safety: the CLINT and the PLIC exist.
        unsafe {
            let compare = CLINT.byte_add(COMPARE);
            compare.add(1).write_volatile(u32::MAX); // never, until both halves are written
            compare.write_volatile(at as u32);
            compare.add(1).write_volatile((at >> 32) as u32);
            if self.ethernet.idle() {
                riscv::asm::wfi();
            }
            let claim = PLIC.byte_add(CLAIM);
            let interrupt = claim.read_volatile();
            if interrupt != 0 {
                self.ethernet.idle(); // acknowledges
                claim.write_volatile(interrupt);
            }
        }
    }
}
