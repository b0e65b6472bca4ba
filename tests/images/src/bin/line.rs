//! `serve::<64>` over a serial line with frames, and the line's other end.

#![no_std]
#![no_main]

use core::time::Duration;

use embedded_io::Read;
use forcewire::line::Line;
use forcewire::serve;
use images::{Echo, Wire, may_panic, unforeseen};

const PATIENCE: Duration = Duration::from_secs(60);

#[unsafe(no_mangle)]
extern "C" fn image() -> u32 {
    let clock = || Duration::from_millis(unforeseen().into());
    may_panic(&mut [[0.0_f64; 3]]);
    if unforeseen() == 0 {
        let mut line = Line::host(Wire, clock);
        let mut bytes = [0; 64];
        return u32::from(line.accept(PATIENCE).is_ok() && line.read(&mut bytes).is_ok());
    }
    let mut line = Line::board(Wire, clock);
    if line.open(PATIENCE).is_err() {
        return 0;
    }
    let served = serve::<64>(&mut line, &mut Echo);
    let closed = line.close();
    u32::from(served.is_ok() && closed.is_ok())
}
