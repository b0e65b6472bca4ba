//! The processor's side of the engine: its registers, its memory, which DMA accesses, and its
//! doorbell.
//!
//! ```text
//! TCP -> driver -> put: 2 windows of 128 atoms -> DMA -> engine's memory
//! TCP <- driver <- get: the same 2 windows     <- DMA <- engine's memory
//! ```
//!
//! While DMA copies one window, the driver fills or empties the other.

use core::ops::ControlFlow;

use forcewire::{Cell, Evaluation, PotentialError, Sink, Source, Virial};
use forcewire_boards::{Accelerator, Options};
use xilinx_zynq_a9_engine::{ATOMS, BASE, CUTOFFS, FORCES, POSITIONS, register};

use crate::bell::Bell;
use crate::pl330::{BURST, LONGEST, Pl330};

/// The atoms of a window.
const WINDOW: usize = 128;
/// The bytes of an atom.
const ATOM: usize = size_of::<[f64; 3]>();
const _: () = assert!(WINDOW * ATOM % BURST == 0 && WINDOW * ATOM <= LONGEST);

/// Memory for two windows. It must not be cached; zeros are valid.
#[repr(C, align(128))]
pub struct Windows([[[f64; 3]; WINDOW]; 2]);

/// The engine.
pub struct Engine {
    dma: Pl330,
    bell: Bell,
    windows: *mut Windows,
    natoms: usize,
    /// The number of the last job.
    number: u32,
}

impl Engine {
    /// Passes the parameters of the potential to the engine.
    ///
    /// # Safety
    ///
    /// The engine must exist, and nothing else may use it or the windows.
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

    /// The window of this atom.
    fn window(&self, atom: usize) -> *mut [f64; 3] {
        // Safety: there are two windows.
        unsafe { (&raw mut (*self.windows).0[atom / WINDOW % 2]).cast() }
    }

    /// Starts to copy the window that begins with this atom, if there is one. Waits for the
    /// previous copy first.
    fn copy(&mut self, first: usize, direction: Direction) {
        let Some(atoms) = self.natoms.checked_sub(first).filter(|atoms| *atoms > 0) else {
            return;
        };
        let (here, bytes) = (self.window(first).addr(), atoms.min(WINDOW) * ATOM);
        let (from, to) = match direction {
            Direction::There => (here, BASE + POSITIONS + first * ATOM),
            Direction::Back => (BASE + FORCES + first * ATOM, here),
        };
        // Safety: this window is not used until `dma` has waited, either here for the other window
        // or by itself.
        unsafe { self.dma.copy(from, to, bytes) };
    }
}

/// The direction of a copy: positions to the engine, or forces back.
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
            // Safety: only the other window may be in use by DMA.
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
            // Safety: as above.
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
                return Ok(None); // its outcome will be ignored
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
    // Safety: the engine exists, and all offsets are its registers'.
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
