//! forcewire on Xilinx's Zynq-7000, whose Cortex-A9 speaks the protocol and whose programmable
//! logic computes.
//!
//! QEMU 7.2 emulates the core, the network (GEM), DMA (PL330), timer and GIC. The engine in the
//! logic is a model: another process, which shares memory with the emulator. This has never run on
//! silicon. What is different there, for the engineer who takes it there:
//!
//! - **Caches.** QEMU has none, so it can't show a fault of coherence. Neither GEM nor PL330 sees a
//!   cache. All that they touch is in the section `.dma`, which the page table makes not cacheable
//!   (start.rs, link.x); nothing is cleaned or invalidated. Whoever puts windows or frames into
//!   cached memory must clean L1 and L2 before a device reads, and invalidate both after it writes
//!   (UG585, 3.2.3 and 3.4). The boot loader must have invalidated both before `start` enables L1.
//! - **Interrupts.** The engine's is a byte on UART 1, because nothing else lets another process
//!   interrupt the emulated core (bell.rs). On silicon it is IRQ_F2P, 61 at the GIC (UG585, table
//!   7-4), and the engine sees the write to its register. The end of a copy is polled.
//! - **Clocks, PHY, addresses.** QEMU needs none of what a boot loader sets up in the SLCR. GEM's
//!   speed must be the PHY's, and its hardware address must be set. machine.rs has the timer's
//!   frequency.
//! - **The port.** The engine is at M_AXI_GP0. Its level shifters must be on and its reset released
//!   (UG585, 2.4 and chapter 26).

#![no_std]
#![no_main]

mod bell;
mod engine;
mod fault;
mod gem;
mod machine;
mod pl330;
mod start;

use bell::Bell;
use engine::{Engine, Windows};
use forcewire_boards::Buffers;
use gem::{Gem, Rings};
use machine::Machine;
use pl330::{Pl330, Program};

/// Registers (UG585 appendix B: "UART1", "gem0" and "dmac0_s").
const UART: *mut u32 = 0xe000_1000 as *mut u32;
const GEM: *mut u32 = 0xe000_b000 as *mut u32;
const DMA: *mut u32 = 0xf800_3000 as *mut u32;

/// Runs once, from `start`.
extern "C" fn main() -> ! {
    // Bytes of each ring of TCP.
    static mut BUFFERS: Buffers<8192> = Buffers::new();
    #[unsafe(link_section = ".dma")]
    static mut RINGS: Rings = Rings::new();
    #[unsafe(link_section = ".dma")]
    static mut WINDOWS: Windows = Windows::new();
    #[unsafe(link_section = ".dma")]
    static mut PROGRAM: Program = Program::new();
    // Safety: this is that machine, and all is taken once.
    let (buffers, machine, dma, bell) = unsafe {
        let bell = Bell::new(UART);
        let ethernet = Gem::new(GEM, &raw mut RINGS);
        let machine = Machine::new(ethernet, bell);
        let dma = Pl330::new(DMA, &raw mut PROGRAM);
        (&mut *(&raw mut BUFFERS), machine, dma, bell)
    };
    forcewire_semihosted::run_windows(
        machine,
        buffers,
        // Safety: the same.
        |options| unsafe { Engine::new(options, dma, bell, &raw mut WINDOWS) },
        fault::stack_used,
    )
}
