//! Checks of the two cores, for `tests/boards`: `check=stack` on core 0, or `check=engine` on core
//! 1.

#![no_std]
#![no_main]

use core::hint::black_box;
use core::ops::ControlFlow::{self, Break, Continue};

use forcewire::{Cell, Evaluation, PotentialError};
use forcewire_boards::{Engine, Options, Outcome};
use forcewire_cortex_m::{entry, start};
use mps2_an521::Core1;
use semihosting::experimental::env;

#[entry]
fn main() -> ! {
    start();
    let Ok(arguments) = env::args::<128>() else {
        forcewire_semihosted::end(Outcome::BadOptions);
    };
    let outcome = match (&arguments).skip(1).flatten().next() {
        Some("check=stack") => {
            defmt::info!("{}", deeper(1));
            Outcome::Exit
        }
        Some("check=engine") => check_engine(),
        _ => Outcome::BadOptions,
    };
    forcewire_semihosted::end(outcome)
}

type Answer = Result<Option<Evaluation>, PotentialError>;

/// The engine computes the same forces after a fault and after a withdrawn job.
fn check_engine() -> Outcome {
    static mut POSITIONS: [[f64; 3]; 1000] = [[0.0; 3]; 1000];
    static mut FORCES: [[f64; 3]; 1000] = [[0.0; 3]; 1000];
    // Safety: this function runs once.
    let (positions, forces) = unsafe { (&mut *&raw mut POSITIONS, &mut *&raw mut FORCES) };
    let mut boxes = [0; 64];
    // Safety: this is core 0.
    let mut engine = unsafe { Core1::start(&Options::default(), &mut boxes) };
    for (position, number) in positions.iter_mut().zip(0_u32..) {
        *position = [number % 10, number / 10 % 10, number / 100].map(|x| 7.0 * f64::from(x));
    }
    let mut ask = |positions: &[[f64; 3]], wait| -> Answer {
        let forces = forces.get_mut(..positions.len()).unwrap_or_default();
        let cell = Cell::orthorhombic([70.0; 3]);
        let mut meanwhile = || -> ControlFlow<()> { if wait { Continue(()) } else { Break(()) } };
        engine.evaluate(&cell, positions, forces, &mut meanwhile)
    };
    let dimer = &positions[..2];
    let expected = ask(dimer, true);
    // Safety: there is no memory at this address, so a read faults; only core 1 reads.
    let nowhere = unsafe { core::slice::from_raw_parts(0xf000_0000 as *const [f64; 3], 2) };
    let faulted = ask(nowhere, true);
    let after_fault = ask(dimer, true);
    let withdrawn = ask(positions, false);
    let after_withdrawal = ask(dimer, true);
    defmt::info!("{}, {}, {}", expected, faulted, withdrawn);
    let right = matches!(expected, Ok(Some(_)))
        && faulted.is_err()
        && after_fault == expected
        && withdrawn == Ok(None)
        && after_withdrawal == expected;
    if right {
        Outcome::Exit
    } else {
        Outcome::TooManyFailures
    }
}

/// Calls itself until the stack is used up.
#[expect(unconditional_recursion)]
fn deeper(depth: u32) -> u32 {
    let frame = black_box([depth; 100]);
    frame[99] + deeper(black_box(depth + 1)) + frame[0]
}
