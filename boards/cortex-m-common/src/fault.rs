//! The handler of faults.

use core::arch::global_asm;

use crate::stack;

// It starts the stack again from its top, because the stack may be the reason, and a second fault
// would stop the core.
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

/// With the frame that the core pushed, or failed to push.
extern "C" fn fault(frame: *const u32) -> ! {
    if stack::has_left(frame) {
        defmt::error!("the stack has overflowed: give it more in memory.x");
    } else {
        // Safety: the core pushed eight words, the program counter is the seventh (Armv7-M ARM,
        // B1.5.6).
        let pc = unsafe { frame.add(6).read() };
        defmt::error!("hard fault at {:#010x}", pc);
    }
    forcewire_semihosted::fault()
}
