//! forcewire on Arm's MPS2 with a Cortex-M7 (AN500), which computes f64 in hardware, emulated by
//! QEMU.

#![no_std]
#![no_main]

use forcewire_boards::Memory;
use forcewire_cortex_m::{entry, run};
use forcewire_mps2::Map;

/// The same as AN385, except for the LAN9118 (QEMU 7.2, hw/arm/mps2.c).
const MAP: Map = Map {
    lan9118: 0xa000_0000 as *mut u32,
    ..Map::AN385
};

#[entry]
fn main() -> ! {
    // The numbers of atoms and of structures in a batch, and the bytes of each TCP ring. The
    // receiving one fits into the LAN9118's FIFO.
    static mut MEMORY: Memory<f64, 4096, 64, 7168> = Memory::new();
    // Safety: this is that machine, and this is the only call.
    run(unsafe { forcewire_mps2::machine(&MAP) }, MEMORY)
}
