//! The doorbells of the two cores: message handling unit 0 of the SSE-200 (Arm 101104,
//! "Message Handling Unit"; QEMU 7.2, hw/misc/armsse-mhu.c).

/// The registers of one core in the message handling unit. The core is interrupted while any bit of
/// its register is set.
#[derive(Clone, Copy)]
pub struct Doorbell {
    /// The offset of the core's registers in words.
    at: usize,
}

/// The unit's registers, at their secure address.
const MHU: *mut u32 = 0x5000_3000 as *mut u32;

/// The indices of a core's registers, after a read-only one.
const SET: usize = 1;
const CLEAR: usize = 2;

impl Doorbell {
    /// The doorbell that interrupts core 0.
    pub const CORE_0: Self = Self { at: 0 };
    /// The doorbell that interrupts core 1.
    pub const CORE_1: Self = Self { at: 4 };

    /// The number of the interrupt, the same on both cores.
    pub const LINE: u16 = 6;

    /// Interrupts the core until the doorbell is silenced.
    pub fn ring(self) {
        self.write(SET);
    }

    /// Ends the interrupt.
    pub fn silence(self) {
        self.write(CLEAR);
    }

    fn write(self, register: usize) {
        // Safety: the register exists, see above, and a write has no other effect.
        unsafe { MHU.add(self.at + register).write_volatile(1) }
    }
}
