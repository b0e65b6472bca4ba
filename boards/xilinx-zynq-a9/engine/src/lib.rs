//! The registers and the memory of the engine, for the firmware and the model (`src/main.rs`).
//!
//! Registers are little-endian words of 32 bits; an f64 takes two of them. A job goes like this:
//!
//! 1. The processor copies positions to [`POSITIONS`] by DMA.
//! 2. It writes parameters, cell and the number of atoms to their registers.
//! 3. It writes a new number to [`WANTED`](register::WANTED), and rings.
//! 4. The engine writes forces to [`FORCES`], energy and virial to their registers, and the same
//!    number to [`DONE`](register::DONE). Then it rings.
//!
//! The processor may abandon a job at any time and begin the next. The engine finishes what it has
//! begun, perhaps with numbers of both jobs. The outcome carries the number of the abandoned job,
//! so it is never taken for another job's.

#![no_std]
#![warn(missing_docs)]

use forcewire::potential::Cutoff;

/// The address of the engine for the processor and for DMA: M_AXI_GP0, the first of the two ports
/// to the programmable logic (UG585 chapter 4, "System Addresses").
pub const BASE: usize = 0x4000_0000;
/// The bytes of its registers and memory.
pub const SIZE: usize = 16 << 20;

/// The most atoms.
pub const ATOMS: usize = 100_000;
/// The offset of positions in bytes: a triple an atom, in bohr.
pub const POSITIONS: usize = 1 << 20;
/// The offset of forces in bytes: a triple an atom, in hartree/bohr.
pub const FORCES: usize = 8 << 20;

/// The bytes of positions or forces. DMA may access a little more than the atoms take.
const ARRAY: usize = (ATOMS * 24).next_multiple_of(4096);
const _: () = assert!(POSITIONS + ARRAY <= FORCES && FORCES + ARRAY <= SIZE);

/// Offsets of registers, in bytes from the base.
pub mod register {
    /// The number of the requested job.
    pub const WANTED: usize = 0x00;
    /// The number of the last finished job.
    pub const DONE: usize = 0x04;
    /// Not zero if the last finished job failed.
    pub const FAILED: usize = 0x08;
    /// The number of atoms.
    pub const NATOMS: usize = 0x0c;
    /// The treatment of the cutoff: its index in [`CUTOFFS`](super::CUTOFFS).
    pub const CUTOFF: usize = 0x10;
    /// σ, ε and the cutoff of the Lennard-Jones potential, in bohr and hartree.
    pub const PARAMETERS: usize = 0x18;
    /// The cell: nine numbers in bohr, in the order of [`Cell::h`](forcewire::Cell::h).
    pub const CELL: usize = 0x30;
    /// The energy, in hartree.
    pub const ENERGY: usize = 0x78;
    /// The virial: nine numbers, in hartree.
    pub const VIRIAL: usize = 0x80;
}

/// The treatments of the cutoff.
pub const CUTOFFS: [Cutoff; 3] = [Cutoff::Truncated, Cutoff::Shifted, Cutoff::Tail];
