//! The interrupts' handlers, which a device crate has for most chips.

use crate::{ethernet, time};

/// A handler.
type Vector = unsafe extern "C" fn();

unsafe extern "C" {
    /// The one of `forcewire-cortex-m`, which masks what is not expected.
    fn DefaultHandler();
}

/// In the order of the interrupts' numbers (Arm DAI 0385D, table 3-5), as far as the last one used.
#[unsafe(link_section = ".vector_table.interrupts")]
#[unsafe(no_mangle)]
static __INTERRUPTS: [Vector; 14] = {
    let mut vectors = [DefaultHandler as Vector; 14];
    vectors[time::LINE.0 as usize] = time::interrupt;
    vectors[ethernet::LINE.0 as usize] = ethernet::interrupt;
    vectors
};

/// An interrupt, by number.
#[derive(Clone, Copy)]
pub struct Line(pub u16);

// Safety: the numbers are the machine's.
unsafe impl cortex_m::interrupt::InterruptNumber for Line {
    fn number(self) -> u16 {
        self.0
    }
}
