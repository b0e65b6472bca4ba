//! The CMSDK APB timer as an alarm. Registers: Arm DDI 0479D, table 4-3.

use forcewire_cortex_m::Alarm;

/// The timer.
pub struct Timer {
    registers: *mut u32,
    ticks_a_microsecond: u32,
}

/// Register numbers.
const CONTROL: usize = 0;
const VALUE: usize = 1;
const RELOAD: usize = 2;
const CLEAR: usize = 3;

impl Timer {
    /// # Safety
    ///
    /// `registers` must be the timer's registers, and nothing else may use them.
    pub unsafe fn new(registers: *mut u32, hertz: u32) -> Self {
        Self {
            registers,
            ticks_a_microsecond: hertz / 1_000_000,
        }
    }

    fn write(&mut self, register: usize, value: u32) {
        // Safety: the caller of `new` passed the registers.
        unsafe { self.registers.add(register).write_volatile(value) }
    }
}

impl Alarm for Timer {
    fn set(&mut self, microseconds: u32) {
        let ticks = microseconds.saturating_mul(self.ticks_a_microsecond).max(1);
        self.write(CONTROL, 0);
        self.write(CLEAR, 1);
        self.write(RELOAD, ticks);
        self.write(VALUE, ticks);
        self.write(CONTROL, 1 << 3 | 1);
    }
}
