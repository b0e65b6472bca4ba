//! The table of interrupt handlers. For most chips a device crate provides this table.

use crate::{ethernet, time};

/// A handler.
type Vector = unsafe extern "C" fn();

unsafe extern "C" {
    /// The handler of `forcewire-cortex-m`, which masks unexpected interrupts.
    fn DefaultHandler();
}

/// The handlers in the order of the interrupts' numbers (Arm DAI 0385D, table 3-5), up to the last
/// one used.
#[unsafe(link_section = ".vector_table.interrupts")]
#[unsafe(no_mangle)]
static __INTERRUPTS: [Vector; 14] = {
    let mut vectors = [DefaultHandler as Vector; 14];
    vectors[time::LINE.0 as usize] = time::interrupt;
    vectors[ethernet::LINE.0 as usize] = ethernet::interrupt;
    vectors
};

/// The number of an interrupt.
#[derive(Clone, Copy)]
pub struct Line(pub u16);

// Safety: the machine has interrupts with these numbers.
unsafe impl cortex_m::interrupt::InterruptNumber for Line {
    fn number(self) -> u16 {
        self.0
    }
}
