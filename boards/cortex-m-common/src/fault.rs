//! The handler for faults.

use core::arch::global_asm;

use crate::stack;

// The handler resets the stack pointer to the top, because the stack may be the cause, and a second
// fault would stop the core.
global_asm!(
    ".section .HardFault.user, \"ax\"",
    ".global HardFault",
    ".type HardFault, %function",
    ".thumb_func",
    "HardFault:",
    "mrs r0, msp",
    "ldr r1, =_stack_start",
    "mov sp, r1",
    "b {fault}",
    ".ltorg",
    fault = sym fault,
);

/// Called with the frame that the core pushed, or tried to push.
extern "C" fn fault(frame: *const u32) -> ! {
    if stack::has_left(frame) {
        defmt::error!("the stack has overflowed: give it more in memory.x");
    } else {
        // Safety: the core pushed eight words, the seventh of which is the program counter (Armv7-M
        // ARM, B1.5.6).
        let pc = unsafe { frame.add(6).read() };
        defmt::error!("hard fault at {:#010x}", pc);
    }
    forcewire_semihosted::fault()
}
