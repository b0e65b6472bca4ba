//! forcewire on TI's LM3S6965, a Cortex-M3 with 64 KiB of memory, as QEMU emulates it.

#![no_std]
#![no_main]

use forcewire_boards::Memory;
use forcewire_cortex_m::{entry, run};

#[entry]
fn main() -> ! {
    // Atoms, structures of a batch, and bytes of each ring of TCP.
    static mut MEMORY: Memory<f64, 256, 1, 4096> = Memory::new();
    // Safety: this is that machine, and it is taken once.
    run(unsafe { lm3s6965evb::machine() }, MEMORY)
}
