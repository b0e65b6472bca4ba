//! The stack: its place, and how much of it has been used.
//!
//! A board's `memory.x` places the stack at the bottom of the memory, below the data:
//!
//! ```text
//! STACK = 16K;
//! MEMORY { … RAM : ORIGIN = 0x20000000 + STACK, LENGTH = 64K - STACK }
//! _stack_start = ORIGIN(RAM);
//! _stack_end = ORIGIN(RAM) - STACK;
//! ```
//!
//! The linker then refuses data that leave less than `STACK`, and a stack that overflows leaves the
//! memory. A region of the MPU closes the addresses below the memory, because not every machine
//! faults there: QEMU's MPS2 ignores writes. An overflow therefore causes a fault and never changes
//! a number. The region takes no memory, and is so large that no frame can jump over it, unlike a
//! guard between data and stack. A core of Armv8-M has a register for the stack's limit instead.

#[cfg(not(armv8m))]
use cortex_m::peripheral::MPU;
use cortex_m_rt::STACK_PAINT_VALUE;

unsafe extern "C" {
    static _stack_start: u32;
    static _stack_end: u32;
}

/// log2 of the number of bytes below the stack that are closed.
#[cfg(not(armv8m))]
const CLOSED: u32 = 20;

/// Sets the stack's limit (Armv8-M ARM, MSPLIM).
#[cfg(armv8m)]
pub(crate) fn guard() {
    // Safety: the stack is above it.
    unsafe { cortex_m::register::msplim::write((&raw const _stack_end).addr() as u32) }
}

/// Closes the addresses below the stack, if the core has an Armv7-M MPU (Armv7-M ARM, B3.5).
#[cfg(not(armv8m))]
pub(crate) fn guard(mpu: &mut MPU) {
    let bottom = (&raw const _stack_end).addr() as u32;
    let closed = bottom.wrapping_sub(1 << CLOSED);
    let regions = mpu._type.read() >> 8 & 0xff;
    if regions == 0 || closed % (1 << CLOSED) != 0 {
        defmt::warn!("nothing guards the stack");
        return;
    }
    // Safety: no program uses addresses below the memory.
    unsafe {
        mpu.rnr.write(0);
        mpu.rbar.write(closed);
        mpu.rasr.write(1 << 28 | (CLOSED - 1) << 1 | 1); // no access, enabled
        mpu.ctrl.write(1 << 2 | 1); // all else is as without an MPU
    }
    cortex_m::asm::dsb();
    cortex_m::asm::isb();
}

/// The number of bytes from the top of the stack to the last word that differs from cortex-m-rt's
/// paint.
pub fn used() -> usize {
    let (mut word, top) = (&raw const _stack_end, &raw const _stack_start);
    // Safety: both pointers are within the stack, and any bits are a valid word.
    while word < top && unsafe { word.read_volatile() } == STACK_PAINT_VALUE {
        word = word.wrapping_add(1);
    }
    top.addr() - word.addr()
}

/// Whether the cause of the fault is that the stack limit was exceeded: UFSR.STKOF (Armv8-M ARM,
/// CFSR).
#[cfg(armv8m)]
pub(crate) fn has_left(_: *const u32) -> bool {
    // Safety: the register may be read at any time.
    let scb = unsafe { &*cortex_m::peripheral::SCB::PTR };
    scb.cfsr.read() & 1 << 20 != 0
}

/// Whether an exception frame at this address is outside the stack.
#[cfg(not(armv8m))]
pub(crate) fn has_left(frame: *const u32) -> bool {
    !(&raw const _stack_end..&raw const _stack_start).contains(&frame)
}
