//! The start before `main`: floating point, the stack, zeros, and the page table.

use core::arch::{asm, global_asm};

use forcewire_cortex_a as _; // critical sections

use crate::fault;

// Sets the stack, enables the FPU (CPACR, then FPEXC; Arm DDI 0406C, B1.11.1) and clears memory.
global_asm!(
    ".section .text.start, \"ax\"",
    ".global start",
    "start:",
    "cpsid aif, #0x13",
    "movw sp, #:lower16:_stack_start",
    "movt sp, #:upper16:_stack_start",
    "mrc p15, 0, r0, c1, c0, 2",
    "orr r0, r0, #0xf00000",
    "mcr p15, 0, r0, c1, c0, 2",
    "isb",
    "mov r0, #0x40000000",
    "vmsr fpexc, r0",
    "mov r2, #0",
    "mov r3, #0",
    ".irp region, bss, dma",
    "movw r0, #:lower16:_\\region\\()_start",
    "movt r0, #:upper16:_\\region\\()_start",
    "movw r1, #:lower16:_\\region\\()_end",
    "movt r1, #:upper16:_\\region\\()_end",
    "0: cmp r0, r1",
    "strdlo r2, r3, [r0], #8",
    "blo 0b",
    ".endr",
    "b {prepare}",
    prepare = sym prepare,
);

extern "C" fn prepare() -> ! {
    fault::catch();
    map();
    crate::main()
}

/// The page table: an entry maps a section of 1 MiB.
#[repr(align(16384))]
struct Table([u32; 4096]);

static mut TABLE: Table = Table([0; 4096]);

/// Descriptors of sections. TEX, C and B are the kind of memory (Arm DDI 0406C, B3.5.1 and B3.8.2).
const SECTION: u32 = 3 << 10 | 2; // full access
const CACHED: u32 = 1 << 12 | 1 << 3 | 1 << 2 | SECTION; // write-back
const UNCACHED: u32 = 1 << 12 | 1 << 4 | SECTION; // never executed
const DEVICE: u32 = 1 << 4 | 1 << 2 | SECTION; // never executed

/// The mapped sections, from a first MiB on: the regions of link.x, the programmable logic, and
/// devices (UG585 chapter 4 and appendix B). Any other access is a fault.
const MAPPED: [(usize, usize, u32); 8] = [
    (0x001, 1, CACHED),   // the image
    (0x002, 1, CACHED),   // data
    (0x004, 1, CACHED),   // the stack
    (0x005, 1, UNCACHED), // DMA
    (0x400, 16, DEVICE),  // the engine
    (0xe00, 1, DEVICE),   // UART and GEM
    (0xf80, 1, DEVICE),   // the DMA controller
    (0xf8f, 1, DEVICE),   // timer and GIC
];

fn map() {
    let table = &raw mut TABLE;
    for (first, count, attributes) in MAPPED {
        for section in first..first + count {
            // Safety: nothing else uses the table, and no address changes its meaning.
            unsafe { (*table).0[section] = (section as u32) << 20 | attributes };
        }
    }
    // Safety: as above. The table is in memory, because no cache is enabled yet.
    unsafe {
        asm!(
            "mcr p15, 0, {zero}, c8, c7, 0", // TLBIALL
            "mcr p15, 0, {zero}, c7, c5, 0", // ICIALLU
            "mcr p15, 0, {zero}, c7, c5, 6", // BPIALL
            "mcr p15, 0, {zero}, c2, c0, 2", // TTBCR: one table
            "mcr p15, 0, {table}, c2, c0, 0", // TTBR0
            "mcr p15, 0, {domain}, c3, c0, 0", // DACR: domain 0 obeys descriptors
            "dsb",
            "isb",
            "mrc p15, 0, {scratch}, c1, c0, 0", // SCTLR
            "orr {scratch}, {scratch}, #0x1000", // instruction cache
            "orr {scratch}, {scratch}, #0x4", // data cache
            "orr {scratch}, {scratch}, #0x1", // translation
            "mcr p15, 0, {scratch}, c1, c0, 0",
            "isb",
            zero = in(reg) 0,
            table = in(reg) table,
            domain = in(reg) 1,
            scratch = out(reg) _,
        );
    }
}
