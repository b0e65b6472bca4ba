//! forcewire on a 32-bit RISC-V with virtio-net: QEMU's machine virt.

#![no_std]
#![no_main]

mod fault;
mod machine;

use forcewire_boards::{Memory, Outcome, lennard_jones};
use forcewire_virt::{Buffers, Virtio};
use machine::Machine;

/// The slots of virtio (QEMU 7.2, hw/riscv/virt.c, VIRT_VIRTIO). Their interrupts are 1 to 8.
fn slots() -> impl Iterator<Item = *mut u32> {
    (0..8).map(|slot| (0x1000_1000 + slot * 0x1000) as *mut u32)
}

#[riscv_rt::entry]
fn main() -> ! {
    // The numbers of atoms and of structures in a batch, and the bytes of each TCP ring.
    static mut MEMORY: Memory<f64, 4096, 64, 16384> = Memory::new();
    static mut BUFFERS: Buffers = Buffers::new();
    fault::guard();
    // Safety: memory, buffers and slots are each taken once.
    let (memory, buffers) = unsafe { (&mut *(&raw mut MEMORY), &mut *(&raw mut BUFFERS)) };
    let Some((slot, ethernet)) = (unsafe { Virtio::find(slots(), buffers) }) else {
        defmt::error!("no virtio-net");
        forcewire_semihosted::end(Outcome::NoServer)
    };
    let machine = Machine::new(ethernet, slot + 1);
    forcewire_semihosted::run_with(machine, memory, lennard_jones, fault::stack_used)
}
