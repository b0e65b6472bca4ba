//! forcewire on Arm's MPS2 with a Cortex-M7 (AN500), which computes f64 in hardware, as QEMU
//! emulates it.

#![no_std]
#![no_main]

use forcewire_boards::Memory;
use forcewire_cortex_m::{entry, run};
use forcewire_mps2::Map;

/// As AN385, but for the LAN9118 (QEMU 7.2, hw/arm/mps2.c).
const MAP: Map = Map {
    lan9118: 0xa000_0000 as *mut u32,
    ..Map::AN385
};

#[entry]
fn main() -> ! {
    // Atoms, structures of a batch, and bytes of each ring of TCP; the receiving one fits the
    // LAN9118's FIFO.
    static mut MEMORY: Memory<f64, 4096, 64, 7168> = Memory::new();
    // Safety: this is that machine, and it is taken once.
    run(unsafe { forcewire_mps2::machine(&MAP) }, MEMORY)
}
