//! A driver's use of INIT, and the events that an exchange returns.

use crate::geometry::Cell;

/// When a driver asks its server for INIT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Initialize {
    /// Never: answer READY from the start. Every server understands this (i-PI's Fortran driver,
    /// LAMMPS and ASE do the same).
    #[default]
    Never,
    /// Once a connection, as i-PI's Python driver does. i-PI announces batches only to such a
    /// driver; CP2K's and ASE's servers accept it, those of IPICalculator.jl, eOn and pysisyphus do
    /// not.
    Once,
    /// Before every structure, as Quantum ESPRESSO does: INIT then names the replica of each.
    EveryStep,
}

/// The result of [`Driver::receive`](super::Driver::receive).
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Event {
    /// The server has sent INIT; its text is at [`Driver::init_text`](super::Driver::init_text).
    Init {
        /// The replica (bead) that comes next. May be negative.
        replica: i32,
    },
    /// Positions are in the caller's array: compute, then [`reply`](super::Driver::reply).
    Positions {
        /// Atoms of each structure.
        natoms: usize,
        /// Structures that came: 1, or those of a batch. Structure `i` begins at atom `i * natoms`.
        structures: usize,
        /// The cell, of the first structure in a batch.
        cell: Cell,
    },
    /// The server sent EXIT: it needs no more forces.
    Exit,
    /// The server closed the connection between two messages. ASE's ends like this; i-PI closes
    /// without EXIT only when it drops a driver, and connecting again may be worth it.
    Closed,
}
