//! forcewire on Xilinx's Zynq-7000, whose Cortex-A9 speaks the protocol and whose programmable
//! logic computes.
//!
//! QEMU 7.2 emulates the core, the network (GEM), DMA (PL330), the timer and the GIC. The engine in
//! the logic is a model: another process that shares memory with the emulator
//! (`engine/src/main.rs`). This firmware has never run on silicon. Differences there:
//!
//! - **Caches.** QEMU has none, so a missing cache operation does not show. Neither GEM nor PL330
//!   snoops the caches. All memory that they access is in the section `.dma`, which the page table
//!   maps as not cacheable (start.rs, link.x), so no cache operation is needed. If you move windows
//!   or frames to cached memory: clean L1 and L2 before a device reads, invalidate both after it
//!   writes (UG585 chapter 3). The boot loader must invalidate both before `start` enables L1.
//! - **Interrupts.** The engine interrupts by a byte on UART 1, because QEMU lets no other process
//!   raise IRQ_F2P (bell.rs). On silicon use IRQ_F2P, which is 61 at the GIC, and set its
//!   sensitivity (UG585 chapter 7). The end of a DMA copy is polled here; the DMA controller can
//!   interrupt.
//! - **Clocks, PHY, hardware address.** The boot loader must set up clocks and pins in the SLCR.
//!   Set GEM's speed to the PHY's, and its hardware address; set the frequency in machine.rs.
//! - **The port.** The engine is at M_AXI_GP0. Its level shifters and resets are in the SLCR (UG585
//!   chapters 2 and 26). A copy to an address where the logic answers nothing stops the bus.

#![no_std]
#![no_main]

mod bell;
mod engine;
mod fault;
mod gem;
mod machine;
mod pl330;
mod start;

use core::mem::MaybeUninit;

use bell::Bell;
use engine::{Engine, Windows};
use forcewire_boards::Buffers;
use gem::{Gem, Rings};
use machine::Machine;
use pl330::{Pl330, Program};

/// The registers of UART 1, GEM 0 and the secure DMA controller (UG585 appendix B).
const UART: *mut u32 = 0xe000_1000 as *mut u32;
const GEM: *mut u32 = 0xe000_b000 as *mut u32;
const DMA: *mut u32 = 0xf800_3000 as *mut u32;

/// Runs once, from `start`.
extern "C" fn main() -> ! {
    // The size is the bytes of each TCP ring.
    static mut BUFFERS: Buffers<8192> = Buffers::new();
    #[unsafe(link_section = ".dma")]
    static mut RINGS: MaybeUninit<Rings> = MaybeUninit::zeroed();
    #[unsafe(link_section = ".dma")]
    static mut WINDOWS: MaybeUninit<Windows> = MaybeUninit::zeroed();
    #[unsafe(link_section = ".dma")]
    static mut PROGRAM: MaybeUninit<Program> = MaybeUninit::zeroed();
    // Safety: this is a Zynq-7000, and everything is taken once.
    let (buffers, machine, dma, bell) = unsafe {
        let bell = Bell::new(UART);
        let ethernet = Gem::new(GEM, (&raw mut RINGS).cast());
        let machine = Machine::new(ethernet, bell);
        let dma = Pl330::new(DMA, (&raw mut PROGRAM).cast());
        (&mut *(&raw mut BUFFERS), machine, dma, bell)
    };
    forcewire_semihosted::run_windows(
        machine,
        buffers,
        // Safety: the same.
        |options| unsafe { Engine::new(options, dma, bell, (&raw mut WINDOWS).cast()) },
        fault::stack_used,
    )
}
