//! How much of a stack has been in use: it is painted at the start.

use core::hint::black_box;

const PAINT: usize = 0xcccc_cccc;
/// Bytes below the caller that stay as they are.
const SPARED: usize = 1024;

/// Paints the stack from its end up to a little below here.
///
/// # Safety
///
/// `end` must be the end of the stack in use, in whole words.
#[inline(never)]
pub unsafe fn paint(end: *mut usize) {
    let here = black_box(0_usize);
    let top = (&raw const here).wrapping_byte_sub(SPARED);
    let mut word = end;
    while word.cast_const() < top {
        // Safety: below the frames in use, as the caller says.
        unsafe { word.write_volatile(PAINT) };
        word = word.wrapping_add(1);
    }
}

/// Bytes from the top of the stack to the last word that is not as it was painted.
///
/// # Safety
///
/// `end` and `top` must be those of the stack in use.
pub unsafe fn used(end: *const usize, top: *const usize) -> usize {
    let mut word = end;
    // Safety: the caller ensures it; words of the stack may have any value.
    while word < top && unsafe { word.read_volatile() } == PAINT {
        word = word.wrapping_add(1);
    }
    top.addr() - word.addr()
}
