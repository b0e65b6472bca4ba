//! The doorbell between the processor and the engine: a byte on UART 1, in either direction (UG585
//! chapter 19, and appendix B for the registers).
//!
//! This replaces two wires. QEMU has no other simple way for another process to interrupt the core.
//! On silicon the engine notices the write to its register, and interrupts by IRQ_F2P.

/// The UART.
#[derive(Clone, Copy)]
pub struct Bell(*mut u32);

/// Offsets of registers, in bytes.
mod register {
    pub const CONTROL: usize = 0x00;
    pub const INTERRUPT_ENABLE: usize = 0x08;
    pub const INTERRUPT_STATUS: usize = 0x14;
    pub const RECEIVE_TRIGGER: usize = 0x20;
    pub const STATUS: usize = 0x2c;
    pub const FIFO: usize = 0x30;
}

/// A bit of the status: the receive FIFO is empty.
const EMPTY: u32 = 1 << 1;

impl Bell {
    /// Enables both directions.
    ///
    /// # Safety
    ///
    /// `registers` must be the registers of a UART, and nothing else may use them.
    pub unsafe fn new(registers: *mut u32) -> Self {
        let bell = Self(registers);
        // Transmitter and receiver enabled, both reset.
        bell.write(register::CONTROL, 1 << 4 | 1 << 2 | 1 << 1 | 1);
        bell.write(register::RECEIVE_TRIGGER, 1);
        bell.write(register::INTERRUPT_ENABLE, 1); // the trigger
        bell
    }

    /// Rings the engine.
    pub fn ring(self) {
        self.write(register::FIFO, 1);
    }

    /// Ends the interrupt by the engine.
    pub fn silence(self) {
        while self.read(register::STATUS) & EMPTY == 0 {
            self.read(register::FIFO);
        }
        self.write(register::INTERRUPT_STATUS, !0);
    }

    fn read(self, offset: usize) -> u32 {
        // Safety: the caller of `new` passed the registers, and all offsets are the UART's.
        unsafe { self.0.byte_add(offset).read_volatile() }
    }

    fn write(self, offset: usize, value: u32) {
        // Safety: as above.
        unsafe { self.0.byte_add(offset).write_volatile(value) }
    }
}
