//! The core's clock, and how it sleeps.

use core::arch::asm;

use forcewire_boards::{Board, Ethernet};
use forcewire_cortex_a::Gic;
use forcewire_virt::Virtio;
use smoltcp::time::Instant;

// QEMU 7.2, hw/arm/virt.c: VIRT_GIC_DIST and VIRT_GIC_CPU, a GICv2.
const DISTRIBUTOR: *mut u32 = 0x0800_0000 as *mut u32;
const INTERFACE: *mut u32 = 0x0801_0000 as *mut u32;

/// The interrupt of the virtual timer.
const TIMER: usize = 27;

/// The machine with its network device.
pub struct Machine {
    ethernet: Virtio,
    gic: Gic,
    /// The frequency of the clock in hertz.
    frequency: u64,
}

impl Machine {
    /// Lets the timer and the device's interrupt, which has this number, wake the core. Neither is
    /// ever taken.
    pub fn new(ethernet: Virtio, interrupt: usize) -> Self {
        let frequency;
        // Safety: the GIC exists at this address, and interrupts are off.
        unsafe {
            asm!("mrs {}, cntfrq_el0", out(reg) frequency);
            Self {
                ethernet,
                gic: Gic::new(DISTRIBUTOR, INTERFACE, &[TIMER, interrupt]),
                frequency,
            }
        }
    }
}

impl Board for Machine {
    type Ethernet = Virtio;

    fn ethernet(&mut self) -> &mut Virtio {
        &mut self.ethernet
    }

    fn now(&self) -> Instant {
        let ticks: u64;
        // Safety: the instruction only reads a counter.
        unsafe { asm!("isb", "mrs {}, cntvct_el0", out(reg) ticks) };
        let micros = u128::from(ticks) * 1_000_000 / u128::from(self.frequency);
        Instant::from_micros(micros as i64)
    }

    fn wait(&mut self, until: Instant) {
        let micros = until.total_micros().unsigned_abs();
        // Add one tick, so that the time has come by then.
        let at = u128::from(micros) * u128::from(self.frequency) / 1_000_000 + 1;
        // Safety: the timer and the GIC exist.
        unsafe {
            asm!("msr cntv_cval_el0, {}", "msr cntv_ctl_el0, {}", in(reg) at as u64, in(reg) 1_u64);
            if self.ethernet.idle() {
                asm!("wfi");
            }
            asm!("msr cntv_ctl_el0, xzr");
        }
        self.gic.end(|| {
            self.ethernet.idle(); // acknowledges
        });
    }
}
