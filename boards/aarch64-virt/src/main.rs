//! forcewire on a 64-bit Arm with virtio-net: QEMU's machine virt.

#![no_std]
#![no_main]

mod fault;
mod machine;
mod start;

use forcewire_boards::{Memory, Outcome, lennard_jones};
use forcewire_virt::{Buffers, Virtio};
use machine::Machine;

/// The slots of virtio (QEMU 7.2, hw/arm/virt.c, VIRT_MMIO), and the interrupt of the first.
fn slots() -> impl Iterator<Item = *mut u32> {
    (0..32).map(|slot| (0x0a00_0000 + slot * 0x200) as *mut u32)
}
const INTERRUPT: usize = 32 + 16;

/// Called once, by `start`.
extern "C" fn main() -> ! {
    // The numbers of atoms and of structures in a batch, and the bytes of each TCP ring.
    static mut MEMORY: Memory<f64, 4096, 64, 16384> = Memory::new();
    static mut BUFFERS: Buffers = Buffers::new();
    // Safety: memory, buffers and slots are each taken once.
    let (memory, buffers) = unsafe { (&mut *(&raw mut MEMORY), &mut *(&raw mut BUFFERS)) };
    let Some((slot, ethernet)) = (unsafe { Virtio::find(slots(), buffers) }) else {
        defmt::error!("no virtio-net");
        forcewire_semihosted::end(Outcome::NoServer)
    };
    let machine = Machine::new(ethernet, INTERRUPT + slot);
    forcewire_semihosted::run_with(machine, memory, lennard_jones, fault::stack_used)
}
