//! Checks of the boards' common parts, for `tests/board`: `check=clock`, `check=stack`,
//! `check=fault` or `check=panic`.

#![no_std]
#![no_main]

use core::hint::black_box;

use forcewire_boards::Outcome;
use forcewire_cortex_m::{clock, entry, start};
use semihosting::experimental::{env, time::SystemTime};

#[entry]
fn main() -> ! {
    start();
    let Ok(arguments) = env::args::<128>() else {
        forcewire_semihosted::end(Outcome::BadOptions);
    };
    let outcome = match (&arguments).skip(1).flatten().next() {
        Some("check=clock") => check_clock(),
        Some("check=stack") => {
            defmt::info!("{}", deeper(1));
            Outcome::Exit
        }
        Some("check=fault") => cortex_m::asm::udf(),
        Some("check=panic") => panic!("as asked"),
        _ => Outcome::BadOptions,
    };
    forcewire_semihosted::end(outcome)
}

/// The clock must be right after three seconds without a reading, in which it wrapped four times.
fn check_clock() -> Outcome {
    let second = || {
        SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |time| time.as_secs())
    };
    let wait_for = |moment: u64| while second() < moment {};
    let start = second() + 1;
    wait_for(start);
    let before = clock::ticks();
    wait_for(start + 3);
    let milliseconds = (clock::ticks() - before) / 25_000;
    defmt::info!("3 s of the host's are {} ms", milliseconds);
    match milliseconds {
        2_000..4_000 => Outcome::Exit,
        _ => Outcome::TooManyFailures,
    }
}

/// Calls itself until the stack is used up.
#[expect(unconditional_recursion)]
fn deeper(depth: u32) -> u32 {
    let frame = black_box([depth; 100]);
    frame[99] + deeper(black_box(depth + 1)) + frame[0]
}
