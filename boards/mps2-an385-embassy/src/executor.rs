//! embassy's executor, asleep by WFI while no task is ready.
//!
//! The one that embassy brings for a Cortex-M sleeps by WFE, at which QEMU 7.2 does not stop: the
//! emulated board would use 35 % of a core.

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use embassy_executor::Spawner;
use embassy_executor::raw::Executor;
use static_cell::StaticCell;

static EXECUTOR: StaticCell<Executor> = StaticCell::new();

/// A task became ready.
static READY: AtomicBool = AtomicBool::new(false);

/// Called by every waker, also from interrupts.
#[unsafe(export_name = "__pender")]
fn pender(_: *mut ()) {
    READY.store(true, Relaxed);
}

/// Runs the tasks that `spawn` starts. Never returns.
pub fn run(spawn: impl FnOnce(Spawner)) -> ! {
    let executor = EXECUTOR.init(Executor::new(core::ptr::null_mut()));
    spawn(executor.spawner());
    loop {
        // Safety: nothing else polls; wakers only set `READY`.
        unsafe { executor.poll() };
        // An interrupt that comes after the question is pending and ends the sleep; its handler
        // runs when interrupts are on again.
        cortex_m::interrupt::free(|_| {
            if !READY.swap(false, Relaxed) {
                cortex_m::asm::wfi();
            }
        });
    }
}
