//! forcewire on TI's LM3S6965, a Cortex-M3 with 64 KiB of memory, emulated by QEMU.

#![no_std]
#![no_main]

use forcewire_boards::Memory;
use forcewire_cortex_m::{entry, run};

#[entry]
fn main() -> ! {
    // The numbers of atoms and of structures in a batch, and the bytes of each TCP ring.
    static mut MEMORY: Memory<f64, 256, 1, 4096> = Memory::new();
    // Safety: this is that machine, and this is the only call.
    run(unsafe { lm3s6965evb::machine() }, MEMORY)
}
