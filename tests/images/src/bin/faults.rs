//! Faults that the report has to find: an allocator, a panic, deep calls, recursion.

#![no_std]
#![no_main]

use core::hint::black_box;

use images::unforeseen;

#[unsafe(no_mangle)]
extern "C" fn image() -> u32 {
    black_box(malloc as *const u8);
    let any: fn(u32) -> u32 = black_box(deep);
    indirect(any) + recursive(unforeseen()) + panicking(unforeseen())
}

#[unsafe(no_mangle)]
extern "C" fn malloc() {}

#[unsafe(export_name = "call_panicking")]
#[inline(never)]
fn panicking(at: u32) -> u32 {
    black_box([1, 2, 3])[at as usize]
}

#[unsafe(export_name = "call_deep")]
#[inline(never)]
fn deep(at: u32) -> u32 {
    black_box([at; 100]).iter().sum()
}

#[unsafe(export_name = "call_indirect")]
#[inline(never)]
fn indirect(call: fn(u32) -> u32) -> u32 {
    call(1) + 1
}

#[unsafe(export_name = "call_recursive")]
#[inline(never)]
fn recursive(depth: u32) -> u32 {
    match depth {
        0 => 0,
        _ => black_box(recursive(depth - 1)) + 1,
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn a_panic_is_reachable() -> ! {
    loop {
        core::hint::spin_loop();
    }
}
