//! What is settled before a pool begins.

use std::vec::Vec;

use crate::net::Subnet;
use crate::{Deadlines, Mode};

/// How jobs are matched to drivers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Matching {
    /// The replica that a driver had last, which waits a moment if that driver has just computed it; then any to one that
    /// had none yet; then any, rather to a driver that has not stayed with its replica. What i-PI calls `auto`; electronic structure codes start from the wave functions
    /// of the step before.
    #[default]
    Auto,
    /// The oldest job to whoever is free.
    Any,
    /// A driver stays with its first replica, and one that had none gets one that no other has.
    Locked,
}

/// What is settled before a pool begins.
///
/// ```
/// use forcewire::Mode;
/// use forcewire::net::PoolOptions;
///
/// let options = PoolOptions {
///     mode: Mode::Batched(16),
///     clients: 8,
///     ..PoolOptions::default()
/// };
/// # let _ = options;
/// ```
#[derive(Clone, Debug)]
pub struct PoolOptions {
    /// How the pool speaks with its drivers.
    pub mode: Mode,
    /// Who gets what.
    pub matching: Matching,
    /// How long it waits, and then drops a driver; for an evaluation from when it is given one, INIT included. Looked at
    /// ten times a second.
    pub deadlines: Deadlines,
    /// Connections at a time. Who comes later waits, connected and not heard, until another has left.
    pub clients: usize,
    /// Whose TCP connections are accepted; everyone's who can reach the pool, if empty. Others are closed before a byte is
    /// read.
    pub allow: Vec<Subnet>,
    /// Lets processes of other users connect to a unix socket. Otherwise its file is only ours to use (mode 0600), and
    /// who connects is asked for his user: ours, or root.
    pub any_user: bool,
    /// The text of INIT ([`Request::init`](crate::Request::init)); one blank if empty.
    pub init: Vec<u8>,
    /// Bytes of extras that are kept of a reply (of all structures of a batch together); the rest is dropped.
    pub extras: usize,
    /// How many drivers may be lost over a job before it is given up; never, if `None`.
    pub attempts: Option<u32>,
    /// Moves atoms into the cell before they are sent ([`Server::fold_positions`](crate::Server::fold_positions)); LAMMPS of 2021 needs it.
    pub fold: bool,
    /// Lets infinite numbers and NaN through ([`Server::allow_not_finite`](crate::Server::allow_not_finite)).
    pub allow_not_finite: bool,
    /// Lets jobs have different numbers of atoms ([`Server::allow_changing_atoms`](crate::Server::allow_changing_atoms)).
    pub allow_changing_atoms: bool,
}

impl Default for PoolOptions {
    /// Consolidated messages; 4096 connections; a MiB of extras; a job is never given up.
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            matching: Matching::default(),
            deadlines: Deadlines::default(),
            clients: 4096,
            allow: Vec::new(),
            any_user: false,
            init: Vec::new(),
            extras: 1024 * 1024,
            attempts: None,
            fold: false,
            allow_not_finite: false,
            allow_changing_atoms: false,
        }
    }
}
