//! embassy's executor, which sleeps with WFI while no task is ready.
//!
//! embassy's own executor for a Cortex-M sleeps with WFE, which does not stop QEMU 7.2: the
//! emulated board would use 35 % of a core.

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use embassy_executor::Spawner;
use embassy_executor::raw::Executor;
use static_cell::StaticCell;

static EXECUTOR: StaticCell<Executor> = StaticCell::new();

/// Whether a task has become ready.
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
        // An interrupt after this check is pending and ends the sleep. Its handler runs once
        // interrupts are enabled again.
        cortex_m::interrupt::free(|_| {
            if !READY.swap(false, Relaxed) {
                cortex_m::asm::wfi();
            }
        });
    }
}
