//! A driver's use of INIT, and the events of an exchange.

use crate::geometry::Cell;

/// When a driver asks its server for INIT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Initialize {
    /// Never: the driver answers READY from the start. Every server supports this (i-PI's Fortran
    /// driver, LAMMPS and ASE do the same).
    #[default]
    Never,
    /// Once per connection, like i-PI's Python driver. i-PI announces batches only to such a
    /// driver. CP2K's and ASE's servers accept it; the servers of IPICalculator.jl, eOn and
    /// pysisyphus do not.
    Once,
    /// Before every structure, like Quantum ESPRESSO: INIT then names the replica of each.
    EveryStep,
}

/// The result of [`Driver::receive`](super::Driver::receive).
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Event {
    /// The server has sent INIT; its text is in [`Driver::init_text`](super::Driver::init_text).
    Init {
        /// The replica (bead) of the next structure. May be negative.
        replica: i32,
    },
    /// Positions are in the caller's array: compute, then [`reply`](super::Driver::reply).
    Positions {
        /// The number of atoms of each structure.
        natoms: usize,
        /// The number of structures: 1, or more in a batch. Structure `i` begins at atom
        /// `i * natoms`.
        structures: usize,
        /// The cell; in a batch, the first structure's.
        cell: Cell,
    },
    /// The server sent EXIT: it needs no more forces.
    Exit,
    /// The server closed the connection between two messages. ASE's server ends this way. i-PI
    /// closes without EXIT only when it drops a driver, so it may be worth connecting again.
    Closed,
}
