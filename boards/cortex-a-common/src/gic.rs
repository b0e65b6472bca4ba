//! Arm's interrupt controller, GICv1 or GICv2. It wakes the core.

/// An interrupt controller.
pub struct Gic {
    interface: *mut u32,
}

/// Offsets of registers, in bytes (Arm IHI 0048B, tables 4-1 and 4-2).
mod distributor {
    pub const CONTROL: usize = 0x000;
    pub const ENABLE: usize = 0x100;
    pub const TARGETS: usize = 0x800;
}
mod interface {
    pub const CONTROL: usize = 0x000;
    pub const PRIORITY_MASK: usize = 0x004;
    pub const ACKNOWLEDGE: usize = 0x00c;
    pub const END: usize = 0x010;
}

/// Interrupts with numbers from here on are shared by all cores and need a target.
const SHARED: usize = 32;
/// Interrupt numbers from here on mean that there is no interrupt.
const NONE: u32 = 1020;

impl Gic {
    /// Lets interrupts of these numbers wake core 0.
    ///
    /// # Safety
    ///
    /// A GIC must exist at these addresses, nothing else may use it, and interrupts must be off.
    pub unsafe fn new(distributor: *mut u32, interface: *mut u32, lines: &[usize]) -> Self {
        // Safety: the caller ensures this.
        unsafe {
            for line in lines {
                let word = distributor.byte_add(distributor::ENABLE + line / 32 * 4);
                word.write_volatile(1 << (line % 32));
                if *line >= SHARED {
                    let target = distributor.byte_add(distributor::TARGETS + line);
                    target.cast::<u8>().write_volatile(1);
                }
            }
            distributor.byte_add(distributor::CONTROL).write_volatile(1);
            interface
                .byte_add(interface::PRIORITY_MASK)
                .write_volatile(0xff);
            interface.byte_add(interface::CONTROL).write_volatile(1);
        }
        Self { interface }
    }

    /// Ends the pending interrupt, if there is one. `silence` acknowledges it at its device first.
    pub fn end(&mut self, silence: impl FnOnce()) {
        // Safety: the GIC exists at this address.
        unsafe {
            let number = self
                .interface
                .byte_add(interface::ACKNOWLEDGE)
                .read_volatile();
            if number < NONE {
                silence();
                self.interface
                    .byte_add(interface::END)
                    .write_volatile(number);
            }
        }
    }
}
