//! forcewire on Arm's MPS2 with two Cortex-M33 (AN521), emulated by QEMU. This is core 0, which
//! runs the protocol; core 1 computes (`engine`).

#![no_std]
#![no_main]

use forcewire_boards::Memory;
use forcewire_cortex_m::{entry, run_with};
use mps2_an521::Core1;

#[entry]
fn main() -> ! {
    // The numbers of atoms and of structures in a batch, and the bytes of each TCP ring. The
    // receiving one fits into the LAN9118's FIFO.
    static mut MEMORY: Memory<f64, 4096, 64, 7168> = Memory::new();
    // Safety: this is that machine, and this is the only call.
    let machine = unsafe { mps2_an521::machine() };
    // Safety: the same.
    run_with(machine, MEMORY, |options, boxes| unsafe {
        Core1::start(options, boxes)
    })
}
