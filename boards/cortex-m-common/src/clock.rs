//! Time since the start, from SysTick: 24 bits, which an exception extends to 64.
//!
//! The exception occurs each time that the counter wraps (every 0.67 s at 25 MHz), even while the
//! application computes. No time is lost, however rarely the clock is read, unless an emulator
//! stops the core for two wraps. With a tick each millisecond a busy host lost some time in every
//! run.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use cortex_m::peripheral::syst::SystClkSource;
use cortex_m::peripheral::{SCB, SYST};

const BITS: u32 = 24;
const MASK: u32 = (1 << BITS) - 1;

static WRAPS: AtomicU32 = AtomicU32::new(0);

/// Starts the clock at zero.
pub(crate) fn start(timer: &mut SYST) {
    timer.set_clock_source(SystClkSource::Core);
    timer.set_reload(MASK);
    timer.clear_current();
    timer.enable_counter();
    timer.enable_interrupt();
}

/// Cycles of the core since it started.
pub fn ticks() -> u64 {
    cortex_m::interrupt::free(|_| {
        let (mut wraps, mut counter) = (WRAPS.load(Relaxed), counter());
        if SCB::is_pendst_pending() {
            // The counter wrapped after interrupts were disabled, so the exception has not counted
            // it.
            wraps = wraps.wrapping_add(1);
            counter = self::counter();
        }
        u64::from(wraps) << BITS | u64::from(counter)
    })
}

/// The timer counts down. It stays at 0 for a tick, and in QEMU 7.2 until the exception is pending:
/// then read it again.
fn counter() -> u32 {
    loop {
        let counter = SYST::get_current();
        if counter != 0 {
            return MASK - counter;
        }
    }
}

#[cortex_m_rt::exception]
fn SysTick() {
    WRAPS.fetch_add(1, Relaxed);
}
