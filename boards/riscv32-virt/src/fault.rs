//! Fault handling, and the guard of the stack.

use core::arch::{asm, global_asm};

use forcewire_semihosted::stack;
use riscv::register::{mcause, mepc, mtval};

unsafe extern "C" {
    static _guard: u8;
    static _stack_end: usize;
    static _stack_start: usize;
    fn trap();
}

/// log2 of the guard's size: GUARD in memory.x.
const GUARD: u32 = 16;

// No interrupt is ever taken, so every trap is a fault. The handler resets the stack pointer to the
// top, because the stack may be the cause.
global_asm!(
    ".align 2",
    "trap:",
    "la sp, _stack_start",
    "j {fault}",
    fault = sym fault,
);

/// Closes the memory below the stack, and paints the stack.
pub fn guard() {
    let base = (&raw const _guard).addr();
    // Safety: nothing uses that memory, and the trap handler never returns.
    unsafe {
        // A region whose size is a power of two, which the low bits of its address encode. It is
        // locked, and therefore closed for machine mode too (privileged architecture 1.12, 3.7.1).
        asm!(
            "csrw pmpaddr0, {region}",
            "csrw pmpcfg0, {closed}",
            "csrw mtvec, {trap}",
            region = in(reg) base >> 2 | ((1 << (GUARD - 3)) - 1),
            closed = in(reg) 1 << 7 | 3 << 3,
            trap = in(reg) trap as unsafe extern "C" fn(),
        );
        stack::paint((&raw const _stack_end).cast_mut());
    }
}

/// How many bytes of the stack have been used.
pub fn stack_used() -> usize {
    // Safety: these are its ends.
    unsafe { stack::used(&raw const _stack_end, &raw const _stack_start) }
}

extern "C" fn fault() -> ! {
    let (address, guard) = (mtval::read(), (&raw const _guard).addr());
    if (guard..guard + (1 << GUARD)).contains(&address) {
        defmt::error!("the stack has overflowed: give it more in memory.x");
    } else {
        defmt::error!("fault {} at {:#010x}", mcause::read().bits(), mepc::read());
    }
    forcewire_semihosted::fault()
}
