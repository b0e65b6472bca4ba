//! Arm's interrupt controller, GICv1 or GICv2: it wakes the core.

/// The controller at its addresses.
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

/// Interrupts from here on are shared by all cores, and have a target.
const SHARED: usize = 32;
/// Numbers from here on mean that there is no interrupt.
const NONE: u32 = 1020;

impl Gic {
    /// Lets interrupts of these numbers wake core 0.
    ///
    /// # Safety
    ///
    /// A GIC must be at these addresses, which nothing else may use, and interrupts must be off.
    pub unsafe fn new(distributor: *mut u32, interface: *mut u32, lines: &[usize]) -> Self {
        // Safety: the caller ensures it.
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

    /// Ends the interrupt that waits, if one does, after `silence` has acknowledged it where it
    /// comes from.
    pub fn end(&mut self, silence: impl FnOnce()) {
        // Safety: the GIC is there.
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
