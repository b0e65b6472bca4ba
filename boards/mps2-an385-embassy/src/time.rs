//! embassy's time driver, in microseconds: SysTick counts, and timer 0 interrupts when a task is
//! due.

use core::cell::RefCell;
use core::task::Waker;

use cortex_m::peripheral::NVIC;
use critical_section::Mutex;
use embassy_time_driver::{Driver, time_driver_impl};
use embassy_time_queue_utils::Queue;
use forcewire_cortex_m::{Alarm, clock};
use forcewire_mps2::{Map, Timer};

use crate::vectors::Line;

/// Timer 0's interrupt (Arm DAI 0385D, table 3-5).
pub const LINE: Line = Line(8);

time_driver_impl!(static TIME: Time = Time(Mutex::new(RefCell::new(Sleepers {
    queue: Queue::new(),
    alarm: None,
}))));

struct Time(Mutex<RefCell<Sleepers>>);

/// The tasks that wait for a time.
struct Sleepers {
    queue: Queue,
    alarm: Option<Timer>,
}

// Safety: the timer's registers belong to the only core.
unsafe impl Send for Sleepers {}

/// Call this before any task waits.
pub fn start(alarm: Timer) {
    critical_section::with(|cs| TIME.0.borrow_ref_mut(cs).alarm = Some(alarm));
    // Safety: the handler is `interrupt`.
    unsafe { NVIC::unmask(LINE) };
}

impl Driver for Time {
    fn now(&self) -> u64 {
        clock::ticks() / u64::from(Map::AN385.hertz / 1_000_000)
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        critical_section::with(|cs| {
            let mut sleepers = self.0.borrow_ref_mut(cs);
            if sleepers.queue.schedule_wake(at, waker) {
                sleepers.wake();
            }
        });
    }
}

impl Sleepers {
    /// Wakes the tasks that are due, and sets the alarm for the next one.
    fn wake(&mut self) {
        let now = TIME.now();
        let until = self.queue.next_expiration(now).saturating_sub(now);
        if let Some(alarm) = &mut self.alarm {
            // A distant time takes more than one alarm.
            alarm.set(until.try_into().unwrap_or(u32::MAX));
        }
    }
}

/// The timer's interrupt handler. Setting a new alarm acknowledges the interrupt.
pub extern "C" fn interrupt() {
    critical_section::with(|cs| TIME.0.borrow_ref_mut(cs).wake());
}
