//! The smallest driver: `serve` over a stream.

#![no_std]
#![no_main]

use images::{Echo, Wire};

#[unsafe(no_mangle)]
extern "C" fn image() -> u32 {
    forcewire::serve::<64>(&mut Wire, &mut Echo).is_ok().into()
}
