//! The registers and the memory of the engine, for the firmware and for the model (`src/main.rs`).
//!
//! Words of 32 bits, little-endian; a number is two of them, in f64. To have forces computed:
//!
//! 1. Positions go to [`POSITIONS`], by DMA.
//! 2. Parameters, cell and the number of atoms go to their registers.
//! 3. A number that no job has had goes to [`WANTED`](register::WANTED), and the engine's bell is
//!    rung.
//! 4. The engine rings when [`DONE`](register::DONE) is that number: forces are at [`FORCES`],
//!    energy and virial in their registers.
//!
//! Nobody has to wait for that. The engine finishes what it has begun and then looks for the job
//! that is wanted, so the outcome of one that was given up is never taken for another's.

#![no_std]
#![warn(missing_docs)]

use forcewire::potential::Cutoff;

/// Where the engine is for the processor and its DMA: M_AXI_GP0, the first of the two ports into
/// the programmable logic (UG585 chapter 4, "System Addresses").
pub const BASE: usize = 0x4000_0000;
/// Bytes of it.
pub const SIZE: usize = 16 << 20;

/// Room for this many atoms.
pub const ATOMS: usize = 100_000;
/// Where positions are, in bytes from the base: a triple an atom, in bohr.
pub const POSITIONS: usize = 1 << 20;
/// Where forces are: a triple an atom, in hartree/bohr.
pub const FORCES: usize = 8 << 20;

/// Bytes of positions or forces, up to the next multiple of what DMA moves at once.
const ARRAY: usize = (ATOMS * 24).next_multiple_of(4096);
const _: () = assert!(POSITIONS + ARRAY <= FORCES && FORCES + ARRAY <= SIZE);

/// Offsets of registers, in bytes from the base.
pub mod register {
    /// The number of the job that is wanted.
    pub const WANTED: usize = 0x00;
    /// The number of the job whose outcome is here.
    pub const DONE: usize = 0x04;
    /// Whether it failed.
    pub const FAILED: usize = 0x08;
    /// How many atoms the job has.
    pub const NATOMS: usize = 0x0c;
    /// The treatment of the cutoff: its place in [`CUTOFFS`](super::CUTOFFS).
    pub const CUTOFF: usize = 0x10;
    /// σ, ε and the cutoff of Lennard-Jones's potential, in bohr and hartree.
    pub const PARAMETERS: usize = 0x18;
    /// The cell: nine numbers, as [`Cell::h`](forcewire::Cell::h) has them.
    pub const CELL: usize = 0x30;
    /// The energy, in hartree.
    pub const ENERGY: usize = 0x78;
    /// The virial: nine numbers, in hartree.
    pub const VIRIAL: usize = 0x80;
}

/// The treatments of the cutoff.
pub const CUTOFFS: [Cutoff; 3] = [Cutoff::Truncated, Cutoff::Shifted, Cutoff::Tail];
