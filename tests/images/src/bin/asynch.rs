//! `asynch::serve::<64>`, polled by hand.

#![no_std]
#![no_main]

use core::pin::pin;
use core::task::{Context, Poll, Waker};

use forcewire::asynch;
use images::{Echo, Wire};

#[unsafe(no_mangle)]
extern "C" fn image() -> u32 {
    let (mut wire, mut echo) = (Wire, Echo);
    let mut serve = pin!(asynch::serve::<64>(&mut wire, &mut echo));
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(result) = serve.as_mut().poll(&mut context) {
            return result.is_ok().into();
        }
    }
}

/// One panic is reachable here: a future panics if it is polled again after its end. The report
/// checks that there is no other.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn a_panic_is_reachable() -> ! {
    loop {
        core::hint::spin_loop();
    }
}
