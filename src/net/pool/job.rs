//! Jobs of a pool, and their answers.

use core::fmt;
use core::hash::{BuildHasherDefault, Hasher};
use core::time::Duration;
use std::boxed::Box;
use std::collections::HashMap;
use std::vec::Vec;

use mio::Token;

use crate::geometry::Cell;
use crate::potential::Evaluation;

/// One structure to compute. The job is returned with its answer, and its memory can be reused.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Job {
    /// The replica (bead), for drivers that use it and for [`Matching`](crate::net::Matching).
    pub replica: i32,
    /// The cell, bohr, upper triangular ([`Cell::to_upper_triangular`]).
    pub cell: Cell,
    /// Positions in bohr, one triple per atom.
    pub positions: Vec<[f64; 3]>,
    /// Forces in hartree/bohr, as many as positions once the job is answered. Earlier contents do
    /// not matter.
    pub forces: Vec<[f64; 3]>,
}

impl Job {
    /// Makes a job for replica 0.
    #[must_use]
    pub const fn new(cell: Cell, positions: Vec<[f64; 3]>) -> Self {
        Self {
            replica: 0,
            cell,
            positions,
            forces: Vec::new(),
        }
    }

    /// Sets the replica.
    #[must_use]
    pub fn replica(mut self, replica: i32) -> Self {
        self.replica = replica;
        self
    }
}

/// The number of a job in its pool; later ones are larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub(super) u64);

/// The number of a driver in its pool. It is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DriverId(pub(super) u64);

impl DriverId {
    /// The driver's token in the poll.
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

/// A map whose keys are numbers chosen by the pool or its caller, so no stranger can choose them.
pub(super) type Map<K, V> = HashMap<K, V, BuildHasherDefault<NumberHasher>>;

/// Spreads a number over the whole word; SipHash took a tenth of the pool's time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(byte.into());
        }
    }

    fn write_i32(&mut self, number: i32) {
        self.write_u64(u64::from(number.cast_unsigned()));
    }

    fn write_u64(&mut self, number: u64) {
        // The multiplier of Fibonacci hashing: 2^64 over the golden ratio.
        let spread = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = spread ^ (spread >> 32);
    }
}

/// A job inside the pool.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) ticket: Ticket,
    pub(super) job: Job,
    /// How many drivers were lost while they had the job, alone or in a batch.
    pub(super) attempts: u32,
    /// How many of the lost drivers had nothing else to compute.
    pub(super) losses: u32,
    /// How much the lost drivers count against the job, in total.
    pub(super) blame: u32,
    /// When the last driver with this job was lost, on the pool's clock.
    pub(super) lost_at: Duration,
    /// The newest driver at the time when the first one was lost.
    newest: DriverId,
    /// Whether the job was cancelled.
    pub(super) cancelled: bool,
}

impl Task {
    pub(super) fn new(ticket: Ticket, job: Job) -> Box<Self> {
        Box::new(Self {
            ticket,
            job,
            attempts: 0,
            losses: 0,
            blame: 0,
            lost_at: Duration::ZERO,
            newest: DriverId(0),
            cancelled: false,
        })
    }

    /// A copy of the task for another driver.
    pub(super) fn twin(&self) -> Box<Self> {
        Box::new(Self {
            job: self.job.clone(),
            ..*self
        })
    }

    /// Whether this driver has connected since the first one was lost over the task.
    pub(super) const fn is_younger(&self, driver: DriverId) -> bool {
        self.attempts > 0 && driver.0 > self.newest.0
    }

    /// Counts the loss of a driver that had this task, and the weight of the loss if the driver had
    /// no other task.
    pub(super) const fn lost(&mut self, now: Duration, blame: Option<u32>, newest: DriverId) {
        if self.attempts == 0 {
            self.newest = newest;
        }
        self.lost_at = now;
        self.attempts = self.attempts.saturating_add(1);
        if let Some(blame) = blame {
            self.losses = self.losses.saturating_add(1);
            self.blame = self.blame.saturating_add(blame);
        }
    }
}

/// A job and its results.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Answered {
    /// The ticket from [`Pool::submit`](crate::net::Pool::submit).
    pub ticket: Ticket,
    /// The job, with its forces.
    pub job: Job,
    /// Energy and virial, hartree; the virial is made symmetric
    /// ([`Virial::symmetric`](crate::Virial::symmetric)).
    pub evaluation: Evaluation,
    /// The extras that the driver sent, as far as
    /// [`PoolOptions::extras`](crate::net::PoolOptions::extras) allows them to be kept.
    pub extras: Vec<u8>,
    /// How many bytes of extras the driver sent.
    pub extras_sent: usize,
    /// The driver that computed it.
    pub driver: DriverId,
    /// The time from the first byte of the positions to the last byte of the forces; for a job in a
    /// batch, the time of the whole batch.
    pub took: Duration,
    /// How many drivers had the job, including this one: 1 unless some were lost.
    pub attempts: u32,
}
