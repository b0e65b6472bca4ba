//! The bell between the processor and the engine: a byte on UART 1, in either direction (UG585
//! chapter 19, and appendix B for the registers).
//!
//! A stand-in: of QEMU's devices it is the one through which another process can interrupt the
//! core. On silicon the engine sees the write to its register, and interrupts by IRQ_F2P.

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

/// In the status: nothing has come.
const EMPTY: u32 = 1 << 1;

impl Bell {
    /// Switches both directions on.
    ///
    /// # Safety
    ///
    /// `registers` must be where a UART is that no one else uses.
    pub unsafe fn new(registers: *mut u32) -> Self {
        let bell = Self(registers);
        bell.write(register::CONTROL, 1 << 4 | 1 << 2 | 1 << 1 | 1); // both on, both empty
        bell.write(register::RECEIVE_TRIGGER, 1);
        bell.write(register::INTERRUPT_ENABLE, 1); // as many have come
        bell
    }

    /// Rings.
    pub fn ring(self) {
        self.write(register::FIFO, 1);
    }

    /// Ends the interrupt.
    pub fn silence(self) {
        while self.read(register::STATUS) & EMPTY == 0 {
            self.read(register::FIFO);
        }
        self.write(register::INTERRUPT_STATUS, !0);
    }

    fn read(self, offset: usize) -> u32 {
        // Safety: the caller of `new` gave us the registers, and all offsets are the UART's.
        unsafe { self.0.byte_add(offset).read_volatile() }
    }

    fn write(self, offset: usize, value: u32) {
        // Safety: as above.
        unsafe { self.0.byte_add(offset).write_volatile(value) }
    }
}
