//! The options of a pool.

use core::time::Duration;
use std::vec::Vec;

use crate::deadlines::Deadlines;
use crate::net::Subnet;
use crate::server::Mode;

/// How jobs are matched to drivers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Matching {
    /// A driver gets the replica that it had last, which waits a moment for a driver that has just
    /// computed it. Then drivers that had none yet get any, and then those that have not stayed
    /// with their replica. i-PI calls this `auto`: electronic structure codes start from the wave
    /// functions of the step before. While a driver that has answered is idle, those that have not
    /// are tried one at a time.
    #[default]
    Auto,
    /// The oldest job goes to any driver that is free.
    Any,
    /// A driver stays with its first replica, and one that had none gets one that no other has.
    Locked,
}

/// The options of a pool.
///
/// ```
/// use forcewire::Mode;
/// use forcewire::net::PoolOptions;
///
/// let options = PoolOptions::default()
///     .mode(Mode::Batched(16))
///     .clients(8);
/// # let _ = options;
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PoolOptions {
    /// How the pool speaks with its drivers.
    pub mode: Mode,
    /// Which driver gets which job.
    pub matching: Matching,
    /// How long the pool waits for a driver before it drops it. The time of an evaluation includes
    /// INIT. Judged ten times a second.
    pub deadlines: Deadlines,
    /// Connections at a time. Drivers that connect later wait until another has left.
    pub clients: usize,
    /// Whose TCP connections are accepted; everyone's who can reach the pool, if empty. Others are
    /// closed before a byte is read.
    pub allow: Vec<Subnet>,
    /// Lets processes of other users connect to a unix socket. Otherwise its file is only ours to
    /// use (mode 0600), and who connects is asked for his user: ours, or root.
    pub any_user: bool,
    /// The text of INIT ([`Request::init`](crate::Request::init)); one blank if empty.
    pub init: Vec<u8>,
    /// Bytes of extras that are kept of a reply (of all structures of a batch together); the rest
    /// is dropped.
    pub extras: usize,
    /// How many drivers that had answered before may be lost over a job, while they compute nothing
    /// else, until it is given up; never, if `None`. Four losses of drivers that had not answered
    /// count as one if others from the same address, or of the same user, had. The loss of other
    /// newcomers proves nothing about a job. A driver that has connected after the first of these
    /// losses may be the one that was lost, and counts as a newcomer while another is there that
    /// has answered.
    pub attempts: Option<u32>,
    /// How long a driver waits for a job at most, if others from the same address, or of the same
    /// user, were lost over their first jobs: 50 ms after the first of them, twice as long after
    /// each other. Zero: they never wait.
    pub hold_back: Duration,
    /// Gives jobs to a second driver that have been computed for at least this long while a driver
    /// that has answered before is idle and nothing waits; never, if `None`. The first answer
    /// counts, and the other one is dropped.
    pub stragglers: Option<Duration>,
    /// Moves atoms into the cell before they are sent
    /// ([`Server::fold_positions`](crate::Server::fold_positions)); LAMMPS of 2021 needs it.
    pub fold: bool,
    /// Lets infinite numbers and NaN through
    /// ([`Server::allow_not_finite`](crate::Server::allow_not_finite)).
    pub allow_not_finite: bool,
    /// Lets jobs have different numbers of atoms
    /// ([`Server::allow_changing_atoms`](crate::Server::allow_changing_atoms)).
    pub allow_changing_atoms: bool,
}

impl PoolOptions {
    /// How the pool speaks with its drivers. See the [field](Self#structfield.mode).
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Which driver gets which job. See the [field](Self#structfield.matching).
    #[must_use]
    pub fn matching(mut self, matching: Matching) -> Self {
        self.matching = matching;
        self
    }

    /// How long the pool waits for a driver. See the [field](Self#structfield.deadlines).
    #[must_use]
    pub fn deadlines(mut self, deadlines: Deadlines) -> Self {
        self.deadlines = deadlines;
        self
    }

    /// How many connections there may be at a time. See the [field](Self#structfield.clients).
    #[must_use]
    pub fn clients(mut self, clients: usize) -> Self {
        self.clients = clients;
        self
    }

    /// Whose TCP connections are accepted. See the [field](Self#structfield.allow).
    #[must_use]
    pub fn allow(mut self, allow: Vec<Subnet>) -> Self {
        self.allow = allow;
        self
    }

    /// Whether processes of other users may connect to a unix socket. See the
    /// [field](Self#structfield.any_user).
    #[must_use]
    pub fn any_user(mut self, any_user: bool) -> Self {
        self.any_user = any_user;
        self
    }

    /// The text of INIT. See the [field](Self#structfield.init).
    #[must_use]
    pub fn init(mut self, init: Vec<u8>) -> Self {
        self.init = init;
        self
    }

    /// Bytes of extras that are kept of a reply. See the [field](Self#structfield.extras).
    #[must_use]
    pub fn extras(mut self, extras: usize) -> Self {
        self.extras = extras;
        self
    }

    /// How many drivers may be lost over a job. See the [field](Self#structfield.attempts).
    #[must_use]
    pub fn attempts(mut self, attempts: Option<u32>) -> Self {
        self.attempts = attempts;
        self
    }

    /// How long a driver may have to wait for a job. See the [field](Self#structfield.hold_back).
    #[must_use]
    pub fn hold_back(mut self, longest: Duration) -> Self {
        self.hold_back = longest;
        self
    }

    /// After how long a job is given twice. See the [field](Self#structfield.stragglers).
    #[must_use]
    pub fn stragglers(mut self, after: Option<Duration>) -> Self {
        self.stragglers = after;
        self
    }

    /// Whether atoms are moved into the cell before they are sent. See the
    /// [field](Self#structfield.fold).
    #[must_use]
    pub fn fold(mut self, fold: bool) -> Self {
        self.fold = fold;
        self
    }

    /// Whether infinite numbers and NaN may pass. See the
    /// [field](Self#structfield.allow_not_finite).
    #[must_use]
    pub fn allow_not_finite(mut self, allow_not_finite: bool) -> Self {
        self.allow_not_finite = allow_not_finite;
        self
    }

    /// Whether jobs may have different numbers of atoms. See the
    /// [field](Self#structfield.allow_changing_atoms).
    #[must_use]
    pub fn allow_changing_atoms(mut self, allow_changing_atoms: bool) -> Self {
        self.allow_changing_atoms = allow_changing_atoms;
        self
    }
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
            hold_back: Duration::from_secs(5),
            stragglers: None,
            fold: false,
            allow_not_finite: false,
            allow_changing_atoms: false,
        }
    }
}
