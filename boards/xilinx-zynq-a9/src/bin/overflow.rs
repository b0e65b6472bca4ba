//! A stack that overflows, for `tests/boards`: status 102, or 0 if nothing guards it.

#![no_std]
#![no_main]

#[path = "../fault.rs"]
mod fault;
#[path = "../start.rs"]
mod start;

use core::hint::black_box;

use forcewire_boards::Outcome;

extern "C" fn main() -> ! {
    defmt::info!("{} bytes of stack used", fault::stack_used());
    defmt::info!("{}", deeper(1));
    forcewire_semihosted::end(Outcome::Exit)
}

/// Calls itself until the stack is at its end.
#[expect(unconditional_recursion)]
fn deeper(depth: u32) -> u32 {
    let frame = black_box([depth; 100]);
    frame[99] + deeper(black_box(depth + 1)) + frame[0]
}
