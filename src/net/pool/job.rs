//! What is asked of a pool and what it gives back.

use core::fmt;
use core::time::Duration;
use std::vec::Vec;

use mio::Token;

use crate::{Cell, Virial};

/// One structure to be computed. Comes back with its answer, and its memory can be used again.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Job {
    /// The replica (bead), for drivers that want to know and for [`Matching`](crate::net::Matching).
    pub replica: i32,
    /// The cell, bohr, upper triangular ([`Cell::to_upper_triangular`]).
    pub cell: Cell,
    /// Bohr, one triple an atom.
    pub positions: Vec<[f64; 3]>,
    /// Hartree/bohr, as many as positions once the job is answered. What is in it before does not matter.
    pub forces: Vec<[f64; 3]>,
}

impl Job {
    /// A job for replica 0.
    #[must_use]
    pub const fn new(cell: Cell, positions: Vec<[f64; 3]>) -> Self {
        Self {
            replica: 0,
            cell,
            positions,
            forces: Vec::new(),
        }
    }

    /// The same for another replica.
    #[must_use]
    pub fn replica(mut self, replica: i32) -> Self {
        self.replica = replica;
        self
    }
}

/// The number of a job in its pool; later ones are larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub(super) u64);

/// The number of a driver in its pool, never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DriverId(pub(super) u64);

impl DriverId {
    /// What the poll calls it.
    #[allow(clippy::cast_possible_truncation)] // 2^32 connections, on a machine of 32 bits
    pub(super) const fn token(self) -> Token {
        Token(self.0 as usize)
    }
}

impl fmt::Display for DriverId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A job in the pool's hands.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) ticket: Ticket,
    pub(super) job: Job,
    /// Drivers that were lost over it.
    pub(super) attempts: u32,
    /// No one waits for it any more.
    pub(super) cancelled: bool,
}

/// A job and what a driver found.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Answered {
    /// What [`Pool::submit`](crate::net::Pool::submit) gave for it.
    pub ticket: Ticket,
    /// The job, with its forces.
    pub job: Job,
    /// The potential energy, hartree.
    pub energy: f64,
    /// The virial, hartree, made symmetric ([`Virial::symmetric`]).
    pub virial: Virial,
    /// What else the driver sent, as far as [`PoolOptions::extras`](crate::net::PoolOptions::extras) lets it be kept.
    pub extras: Vec<u8>,
    /// Bytes of extras that it sent.
    pub extras_sent: usize,
    /// Who computed it.
    pub driver: DriverId,
    /// From the first byte of the positions to the last of the forces; of the whole batch, if it was in one.
    pub took: Duration,
    /// Drivers that had it, this one included: 1 unless some were lost.
    pub attempts: u32,
}
