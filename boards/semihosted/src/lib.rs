//! Log, options and exit of a board through its debugger or emulator, by Arm's semihosting, which
//! RISC-V has too; and the use of the stack, for cores whose runtime does not measure it.

#![no_std]
#![warn(missing_docs)]

pub mod stack;

use core::iter::{Flatten, Skip};
use core::panic::PanicInfo;

use defmt_semihosting as _;
use forcewire_boards::{Accelerator, Board, Buffers, Engine, Memory, Options, Outcome};
use semihosting::experimental::env::{self, Args};

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
    report(stack_used, |words| {
        forcewire_boards::run_with(board, memory, words, potential)
    })
}

/// The same with [`forcewire_boards::run_windows`].
pub fn run_windows<A: Accelerator, const R: usize>(
    board: impl Board,
    buffers: &mut Buffers<R>,
    accelerator: impl FnOnce(&Options<'_>) -> A,
    stack_used: fn() -> usize,
) -> ! {
    report(stack_used, |words| {
        forcewire_boards::run_windows(board, buffers, words, accelerator)
    })
}

/// The words of the emulator's command line.
type Words<'a> = Flatten<Skip<&'a Args<512>>>;

fn report(stack_used: fn() -> usize, run: impl FnOnce(Words<'_>) -> Outcome) -> ! {
    let outcome = match env::args() {
        // The first word is the image's name.
        Ok(arguments) => run((&arguments).skip(1).flatten()),
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
