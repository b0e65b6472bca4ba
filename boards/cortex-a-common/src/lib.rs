//! The common part of boards with a Cortex-A that use one core and never take an interrupt: the
//! interrupt controller, which ends a sleep, and critical sections.

#![no_std]
#![warn(missing_docs)]

mod gic;

use critical_section::RawRestoreState;
pub use gic::Gic;

/// There is one core, and its interrupts are always off.
struct Alone;

critical_section::set_impl!(Alone);

// Safety: nothing can interrupt a critical section.
unsafe impl critical_section::Impl for Alone {
    unsafe fn acquire() -> RawRestoreState {
        RawRestoreState::default()
    }

    unsafe fn release(_: RawRestoreState) {}
}
