//! Log, options and exit of a board through its debugger or emulator, by Arm's semihosting, which
//! RISC-V has too.

#![no_std]
#![warn(missing_docs)]

use core::panic::PanicInfo;

use defmt_semihosting as _;
use forcewire_boards::{Board, Engine, Memory, Options, Outcome};
use semihosting::experimental::env;

/// Calls [`forcewire_boards::run_with`] with the options of the emulator's command line, then ends
/// the emulator with the outcome as its status.
///
/// `stack_used` returns how many bytes of the stack the program has written to.
pub fn run_with<'m, P: Engine, const N: usize, const B: usize, const R: usize>(
    board: impl Board,
    memory: &'m mut Memory<P::Real, N, B, R>,
    potential: impl FnOnce(&Options<'_>, &'m mut [u32]) -> P,
    stack_used: fn() -> usize,
) -> ! {
    let outcome = match env::args::<512>() {
        // The first word is the image's name.
        Ok(arguments) => {
            let words = (&arguments).skip(1).flatten();
            forcewire_boards::run_with(board, memory, words, potential)
        }
        Err(_) => {
            defmt::error!("no options, or more than 512 bytes of them and the image's path");
            Outcome::BadOptions
        }
    };
    defmt::info!("{} bytes of stack used", stack_used());
    end(outcome)
}

/// Logs an outcome and ends the emulator with its status.
pub fn end(outcome: Outcome) -> ! {
    if outcome == Outcome::Exit {
        defmt::info!("done");
    } else {
        defmt::error!("{}", outcome);
    }
    semihosting::process::exit(outcome as i32)
}

/// Ends the emulator after a processor fault, which has been logged.
pub fn fault() -> ! {
    semihosting::process::exit(102)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    defmt::error!("{}", defmt::Display2Format(info));
    semihosting::process::exit(101)
}
