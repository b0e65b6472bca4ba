//! Shared by boards with a Cortex-A on which one core works and no interrupt is ever taken: the
//! interrupt controller, which ends a sleep, and critical sections.

#![no_std]
#![warn(missing_docs)]

mod gic;

use critical_section::RawRestoreState;
pub use gic::Gic;

/// One core, on which interrupts are always off.
struct Alone;

critical_section::set_impl!(Alone);

// Safety: nothing can come between.
unsafe impl critical_section::Impl for Alone {
    unsafe fn acquire() -> RawRestoreState {
        RawRestoreState::default()
    }

    unsafe fn release(_: RawRestoreState) {}
}
