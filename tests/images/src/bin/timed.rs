//! `serve::<64>` with deadlines on a clock.

#![no_std]
#![no_main]

use core::time::Duration;

use forcewire::blocking::WithDeadlines;
use forcewire::{Deadlines, Error};
use images::{Echo, Wire, unforeseen};

#[unsafe(no_mangle)]
extern "C" fn image() -> u32 {
    let seconds = || Duration::from_secs(unforeseen().into());
    let deadlines = Deadlines::NONE
        .handshake(seconds())
        .message(seconds())
        .evaluation(seconds())
        .exchange(seconds());
    let clock = || Duration::from_millis(unforeseen().into());
    let mut socket = WithDeadlines::new(Wire, deadlines, clock);
    match forcewire::serve::<64>(&mut socket, &mut Echo) {
        Err(Error::TimedOut(late)) => late.moved as u32,
        result => result.is_ok().into(),
    }
}
