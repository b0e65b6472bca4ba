//! `serve::<64>` over an embedded-io stream.

#![no_std]
#![no_main]

use images::{Echo, Wire};

#[unsafe(no_mangle)]
extern "C" fn image() -> u32 {
    forcewire::serve::<64>(&mut Wire, &mut Echo).is_ok().into()
}
