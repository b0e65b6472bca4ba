//! A general-purpose timer as an alarm. LM3S6965 data sheet, chapter 9.

use forcewire_cortex_m::Alarm;

/// The timer's registers.
pub struct Timer(*mut u32);

/// Offsets of registers, in bytes.
mod register {
    pub const MODE: usize = 0x04;
    pub const CONTROL: usize = 0x0c;
    pub const INTERRUPT_MASK: usize = 0x18;
    pub const CLEAR: usize = 0x24;
    pub const LOAD: usize = 0x28;
}

impl Timer {
    /// # Safety
    ///
    /// `registers` must be the timer's registers, and nothing else may use them.
    pub unsafe fn new(registers: *mut u32) -> Self {
        let mut timer = Self(registers);
        timer.write(register::MODE, 1); // once
        timer.write(register::INTERRUPT_MASK, 1);
        timer
    }

    fn write(&mut self, offset: usize, value: u32) {
        // Safety: the caller of `new` passed the registers, and all offsets are the timer's.
        unsafe { self.0.byte_add(offset).write_volatile(value) }
    }
}

impl Alarm for Timer {
    fn set(&mut self, microseconds: u32) {
        self.write(register::CONTROL, 0);
        self.write(register::CLEAR, 1);
        self.write(register::LOAD, (microseconds.saturating_mul(25) / 2).max(1));
        self.write(register::CONTROL, 1);
    }
}
