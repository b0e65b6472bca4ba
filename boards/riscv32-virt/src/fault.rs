//! Faults, and the guard of the stack.

use core::arch::{asm, global_asm};

use forcewire_semihosted::stack;
use riscv::register::{mcause, mepc, mtval};

unsafe extern "C" {
    static _guard: u8;
    static _stack_end: usize;
    static _stack_start: usize;
    fn trap();
}

/// log2 of the guard's bytes: GUARD in memory.x.
const GUARD: u32 = 16;

// No interrupt is ever taken, so a trap is a fault. It starts the stack again from its top, because
// the stack may be the reason.
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
    // Safety: nothing is there; the trap's handler never returns.
    unsafe {
        // A power of two at its own multiple, whose low bits say how large it is; locked, which
        // closes it for machine mode too (privileged architecture 1.12, 3.7.1).
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

/// Bytes of the stack that have been in use.
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
