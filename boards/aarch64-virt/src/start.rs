//! The start before `main`: the stack, zeros, the page table and the vector of faults.

use core::arch::{asm, global_asm};

use forcewire_cortex_a as _; // critical sections

use crate::fault;

global_asm!(
    ".section .text.start, \"ax\"",
    ".global start",
    "start:",
    "mov x0, #(3 << 20)", // floating point
    "msr cpacr_el1, x0",
    "isb",
    "adrp x0, _stack_start",
    "mov sp, x0",
    "adrp x0, _bss_start",
    "add x0, x0, :lo12:_bss_start",
    "adrp x1, _bss_end",
    "add x1, x1, :lo12:_bss_end",
    "0: cmp x0, x1",
    "b.hs 1f",
    "stp xzr, xzr, [x0], #16",
    "b 0b",
    "1: b {prepare}",
    prepare = sym prepare,
);

extern "C" fn prepare() -> ! {
    fault::catch();
    map();
    crate::main()
}

#[repr(align(4096))]
struct Table([u64; 512]);

/// Each entry maps 1 GiB.
static mut UPPER: Table = Table([0; 512]);
/// Each entry maps 2 MiB of the second GiB.
static mut LOWER: Table = Table([0; 512]);

/// Descriptors (Arm DDI 0487, D8.3): accessed, shareable memory with MAIR's attribute 0 or 1.
const BLOCK: u64 = 1 << 10 | 1;
const TABLE: u64 = 3;
const NORMAL: u64 = 3 << 8;
const DEVICE: u64 = 1 << 2;

/// Maps devices and memory to their own addresses, except for the guard of the stack.
fn map() {
    let (upper, lower) = (&raw mut UPPER, &raw mut LOWER);
    // Safety: nothing else uses the tables, and each address keeps its meaning.
    unsafe {
        (*upper).0[0] = DEVICE | BLOCK;
        (*upper).0[1] = lower.addr() as u64 | TABLE;
        for (entry, block) in (*lower).0.iter_mut().zip(0..) {
            let address = (1 << 30) + (block << 21);
            *entry = match address == fault::guard() {
                true => 0,
                false => address | NORMAL | BLOCK,
            };
        }
        asm!(
            "msr mair_el1, {attributes}",
            "msr tcr_el1, {control}",
            "msr ttbr0_el1, {table}",
            "isb",
            "mrs {scratch}, sctlr_el1",
            "orr {scratch}, {scratch}, #0x1000", // instruction cache
            "orr {scratch}, {scratch}, #0x4", // data cache
            "orr {scratch}, {scratch}, #0x1", // translation
            "msr sctlr_el1, {scratch}",
            "isb",
            attributes = in(reg) 0xff_u64, // 0: memory, write-back; 1: device
            // 39 bits, cached, one table
            control = in(reg) 25_u64 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23,
            table = in(reg) upper.addr(),
            scratch = out(reg) _,
        );
    }
}
