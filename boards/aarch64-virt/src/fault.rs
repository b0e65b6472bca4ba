//! Fault handling, and the guard of the stack.

use core::arch::{asm, global_asm};

use forcewire_semihosted::stack;

unsafe extern "C" {
    static _guard: u8;
    static _stack_end: usize;
    static _stack_start: usize;
    fn vectors();
}

// No interrupt is ever taken, so every exception is a fault. The handler resets the stack pointer
// to the top, because the stack may be the cause.
global_asm!(
    ".balign 2048",
    "vectors:",
    ".rept 16",
    ".balign 128",
    "b fault",
    ".endr",
    "fault:",
    "mrs x0, esr_el1",
    "mrs x1, elr_el1",
    "mrs x2, far_el1",
    "adrp x3, _stack_start",
    "mov sp, x3",
    "b {fault}",
    fault = sym fault,
);

/// Sets the exception handler, and paints the stack.
pub fn catch() {
    // Safety: the handler never returns, and this is the end of the current stack.
    unsafe {
        asm!("msr vbar_el1, {}", in(reg) vectors as unsafe extern "C" fn());
        stack::paint((&raw const _stack_end).cast_mut());
    }
}

/// The address of the 2 MiB guard.
pub fn guard() -> u64 {
    (&raw const _guard).addr() as u64
}

/// How many bytes of the stack have been used.
pub fn stack_used() -> usize {
    // Safety: these are its ends.
    unsafe { stack::used(&raw const _stack_end, &raw const _stack_start) }
}

extern "C" fn fault(syndrome: u64, at: u64, address: u64) -> ! {
    if (guard()..guard() + (2 << 20)).contains(&address) {
        defmt::error!("the stack has overflowed: give it more in link.x");
    } else {
        defmt::error!("fault {:#010x} at {:#010x}", syndrome, at);
    }
    forcewire_semihosted::fault()
}
