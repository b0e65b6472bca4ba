//! forcewire on Arm's MPS2 with a Cortex-M3 (AN385), emulated by QEMU.

#![no_std]
#![no_main]

use forcewire_boards::Memory;
use forcewire_cortex_m::{entry, run};
use forcewire_mps2::Map;

#[entry]
fn main() -> ! {
    // The numbers of atoms and of structures in a batch, and the bytes of each TCP ring. The
    // receiving one fits into the LAN9118's FIFO.
    static mut MEMORY: Memory<f64, 4096, 64, 7168> = Memory::new();
    // Safety: this is that machine, and this is the only call.
    run(unsafe { forcewire_mps2::machine(&Map::AN385) }, MEMORY)
}
