//! The engine in the programmable logic, as the processor sees it: registers, a memory that DMA
//! reaches, a bell.
//!
//! ```text
//! TCP -> driver -> put: 2 windows of 128 atoms -> DMA -> engine's memory
//! TCP <- driver <- get: the same 2 windows     <- DMA <- engine's memory
//! ```
//!
//! While DMA moves one window, the network fills or empties the other.

use core::ops::ControlFlow;

use forcewire::{Cell, Evaluation, PotentialError, Sink, Source, Virial};
use forcewire_boards::{Accelerator, Options};
use xilinx_zynq_a9_engine::{ATOMS, BASE, CUTOFFS, FORCES, POSITIONS, register};

use crate::bell::Bell;
use crate::pl330::{BURST, LONGEST, Pl330};

/// Atoms that a window shows.
const WINDOW: usize = 128;
/// Bytes of an atom.
const ATOM: usize = size_of::<[f64; 3]>();
const _: () = assert!(WINDOW * ATOM % BURST == 0 && WINDOW * ATOM <= LONGEST);

/// What DMA copies to the engine and back. It must be in memory that is not cached.
#[repr(C, align(128))]
pub struct Windows([[[f64; 3]; WINDOW]; 2]);

impl Windows {
    /// Unused memory; `const`, for a `static`.
    pub const fn new() -> Self {
        Self([[[0.0; 3]; WINDOW]; 2])
    }
}

/// The engine.
pub struct Engine {
    dma: Pl330,
    bell: Bell,
    windows: *mut Windows,
    natoms: usize,
    /// Of the last job.
    number: u32,
}

impl Engine {
    /// Gives the engine the parameters of the potential.
    ///
    /// # Safety
    ///
    /// The engine must be there, and no one else may use it or the windows.
    pub unsafe fn new(
        options: &Options<'_>,
        dma: Pl330,
        bell: Bell,
        windows: *mut Windows,
    ) -> Self {
        let at_cutoff = CUTOFFS.iter().position(|cutoff| *cutoff == options.cutoff);
        write(register::CUTOFF, at_cutoff.unwrap_or(CUTOFFS.len()) as u32);
        write_numbers(register::PARAMETERS, &options.lj);
        Self {
            dma,
            bell,
            windows,
            natoms: 0,
            number: read(register::WANTED),
        }
    }

    /// Where the window is that shows this atom.
    fn window(&self, atom: usize) -> *mut [f64; 3] {
        // Safety: there are two windows.
        unsafe { (&raw mut (*self.windows).0[atom / WINDOW % 2]).cast() }
    }

    /// Moves the window that begins with this atom, if there is one, in the direction that `copy`
    /// says, when the window before has been moved.
    fn copy(&mut self, first: usize, direction: Direction) {
        let Some(atoms) = self.natoms.checked_sub(first).filter(|atoms| *atoms > 0) else {
            return;
        };
        let (here, bytes) = (self.window(first).addr(), atoms.min(WINDOW) * ATOM);
        let (from, to) = match direction {
            Direction::There => (here, BASE + POSITIONS + first * ATOM),
            Direction::Back => (BASE + FORCES + first * ATOM, here),
        };
        // Safety: nothing is read from a window or written to it before the next call has begun, for
        // the other window, or `wait` has returned.
        unsafe { self.dma.copy(from, to, bytes) };
    }
}

/// Of a window's numbers.
enum Direction {
    There,
    Back,
}

impl Sink for Engine {
    type Real = f64;

    fn begin(&mut self, natoms: usize) -> bool {
        if natoms > ATOMS {
            defmt::warn!(
                "{} atoms and there is room for {} in the engine",
                natoms,
                ATOMS
            );
            return false;
        }
        self.dma.wait();
        self.natoms = natoms;
        true
    }

    fn put(&mut self, first: usize, atoms: &[[f64; 3]]) {
        for (atom, position) in (first..).zip(atoms) {
            // Safety: the window is not being moved: that of the atoms before it may be.
            unsafe {
                self.window(atom)
                    .add(atom % WINDOW)
                    .write_volatile(*position)
            };
            let next = atom + 1;
            if next % WINDOW == 0 || next == self.natoms {
                self.copy(atom - atom % WINDOW, Direction::There);
            }
        }
    }
}

impl Source for Engine {
    type Real = f64;

    fn natoms(&self) -> usize {
        self.natoms
    }

    fn get(&mut self, first: usize, atoms: &mut [[f64; 3]]) {
        for (atom, force) in (first..).zip(atoms) {
            if atom == 0 {
                self.copy(0, Direction::Back);
            }
            if atom % WINDOW == 0 {
                self.dma.wait();
                self.copy(atom + WINDOW, Direction::Back);
            }
            // Safety: the window is here, and the next is another.
            *force = unsafe { self.window(atom).add(atom % WINDOW).read_volatile() };
        }
    }
}

impl Accelerator for Engine {
    fn evaluate(
        &mut self,
        cell: &Cell,
        meanwhile: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Option<Evaluation>, PotentialError> {
        self.dma.wait();
        write(register::NATOMS, self.natoms as u32);
        write_numbers(register::CELL, cell.h().as_flattened());
        self.number = self.number.wrapping_add(1);
        write(register::WANTED, self.number);
        self.bell.ring();
        while read(register::DONE) != self.number {
            if meanwhile().is_break() {
                return Ok(None); // the outcome will be that of no job
            }
        }
        if read(register::FAILED) != 0 {
            return Err(PotentialError::Failed(
                "the engine has no forces for these positions",
            ));
        }
        let [energy] = read_numbers(register::ENERGY);
        let [a, b, c, d, e, f, g, h, i] = read_numbers(register::VIRIAL);
        let virial = Virial([[a, b, c], [d, e, f], [g, h, i]]);
        Ok(Some(Evaluation { energy, virial }))
    }
}

fn read(offset: usize) -> u32 {
    // Safety: the engine is there, and all offsets are its registers'.
    unsafe { ((BASE + offset) as *const u32).read_volatile() }
}

fn write(offset: usize, value: u32) {
    // Safety: as above.
    unsafe { ((BASE + offset) as *mut u32).write_volatile(value) }
}

fn read_numbers<const N: usize>(offset: usize) -> [f64; N] {
    core::array::from_fn(|index| {
        let [low, high] = [0, 4].map(|half| u64::from(read(offset + 8 * index + half)));
        f64::from_bits(high << 32 | low)
    })
}

fn write_numbers(offset: usize, numbers: &[f64]) {
    for (number, at) in numbers.iter().zip((offset..).step_by(8)) {
        write(at, number.to_bits() as u32);
        write(at + 4, (number.to_bits() >> 32) as u32);
    }
}
