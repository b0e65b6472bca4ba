//! Fault handling, and the use of the stack.

use core::arch::{asm, global_asm};

use forcewire_semihosted::stack;

unsafe extern "C" {
    static _guard: u8;
    static _stack_end: usize;
    static _stack_start: usize;
    fn vectors();
}

// No interrupt is ever taken, so every exception is a fault. The handler returns to supervisor mode
// and resets the stack pointer to the top, because the stack may be the cause. It reads DFSR and
// DFAR (Arm DDI 0406C, B1.8.1 and B4.1.52).
global_asm!(
    ".balign 32",
    "vectors:",
    ".rept 8",
    "b fault",
    ".endr",
    "fault:",
    "cpsid aif, #0x13",
    "movw sp, #:lower16:_stack_start",
    "movt sp, #:upper16:_stack_start",
    "mrc p15, 0, r0, c5, c0, 0",
    "mrc p15, 0, r1, c6, c0, 0",
    "b {fault}",
    fault = sym fault,
);

/// Sets the exception handler, and paints the stack.
pub fn catch() {
    // Safety: the handler never returns, and this is the end of the current stack.
    unsafe {
        asm!("mcr p15, 0, {}, c12, c0, 0", in(reg) vectors as unsafe extern "C" fn()); // VBAR
        stack::paint((&raw const _stack_end).cast_mut());
    }
}

/// How many bytes of the stack have been used.
pub fn stack_used() -> usize {
    // Safety: these are its ends.
    unsafe { stack::used(&raw const _stack_end, &raw const _stack_start) }
}

extern "C" fn fault(status: u32, address: usize) -> ! {
    let guard = (&raw const _guard).addr();
    if (guard..guard + (1 << 20)).contains(&address) {
        defmt::error!("the stack has overflowed: give it more in link.x");
    } else {
        defmt::error!("fault {:#010x}, of data at {:#010x}", status, address);
    }
    forcewire_semihosted::fault()
}
