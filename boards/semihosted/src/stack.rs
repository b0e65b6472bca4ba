//! Measures how much of a stack has been used. The stack is painted at the start.

use core::hint::black_box;

const PAINT: usize = 0xcccc_cccc;
/// How many bytes below the caller's frame stay unpainted.
const SPARED: usize = 1024;

/// Paints the stack from its end to a little below this function's frame.
///
/// # Safety
///
/// `end` must be the end of the current stack, in whole words.
#[inline(never)]
pub unsafe fn paint(end: *mut usize) {
    let here = black_box(0_usize);
    let top = (&raw const here).wrapping_byte_sub(SPARED);
    let mut word = end;
    while word.cast_const() < top {
        // Safety: these addresses are below the frames in use, as the caller ensures.
        unsafe { word.write_volatile(PAINT) };
        word = word.wrapping_add(1);
    }
}

/// The number of bytes from the top of the stack to the last word that differs from the paint.
///
/// # Safety
///
/// `end` and `top` must belong to the current stack.
pub unsafe fn used(end: *const usize, top: *const usize) -> usize {
    let mut word = end;
    // Safety: the caller ensures this; words of the stack may have any value.
    while word < top && unsafe { word.read_volatile() } == PAINT {
        word = word.wrapping_add(1);
    }
    top.addr() - word.addr()
}
