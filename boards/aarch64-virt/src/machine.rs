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
    /// Ticks of the clock in a second.
    frequency: u64,
}

impl Machine {
    /// Lets the device's interrupt, of this number, and the timer wake the core. They are never
    /// taken.
    pub fn new(ethernet: Virtio, interrupt: usize) -> Self {
        let frequency;
        // Safety: the GIC is there, and interrupts are off.
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
        // Safety: reads a counter.
        unsafe { asm!("isb", "mrs {}, cntvct_el0", out(reg) ticks) };
        let micros = u128::from(ticks) * 1_000_000 / u128::from(self.frequency);
        Instant::from_micros(micros as i64)
    }

    fn wait(&mut self, until: Instant) {
        let micros = until.total_micros().unsigned_abs();
        // One tick more: by then the time has come.
        let at = u128::from(micros) * u128::from(self.frequency) / 1_000_000 + 1;
        // Safety: the timer and the GIC are there.
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
