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
    /// A driver gets the same replica as last time; a replica waits a short time for a driver that
    /// has just computed it. The remaining replicas go first to drivers that have had none, and
    /// then to those that have not stayed with their replica. i-PI calls this `auto`: electronic
    /// structure codes start from the wave functions of the previous step. While a driver that has
    /// answered is idle, drivers that have not are tried one at a time.
    #[default]
    Auto,
    /// The oldest job goes to any free driver.
    Any,
    /// A driver stays with its first replica, and a driver without one gets a replica that has no
    /// driver.
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
    /// The messages between the pool and its drivers.
    pub mode: Mode,
    /// Which driver gets which job.
    pub matching: Matching,
    /// How long the pool waits for a driver before it drops the driver. The time of an evaluation
    /// includes INIT. The deadlines are checked ten times a second.
    pub deadlines: Deadlines,
    /// The most connections at a time. Drivers that connect later wait until another one has left.
    pub clients: usize,
    /// The networks from which TCP connections are accepted; all if empty. Other connections are
    /// closed before a byte is read.
    pub allow: Vec<Subnet>,
    /// Whether processes of other users may connect to a unix socket. Otherwise only our user can
    /// open its file (mode 0600), and the user of each peer is checked: ours, or root.
    pub any_user: bool,
    /// The text of INIT ([`Request::init`](crate::Request::init)); one blank if empty.
    pub init: Vec<u8>,
    /// How many bytes of a reply's extras to keep (of all structures of a batch together); the rest
    /// is dropped.
    pub extras: usize,
    /// How many drivers that had answered before may be lost over a job, while they compute nothing
    /// else, until it fails; `None` means any number. Four losses of drivers that had not answered
    /// count as one if other drivers from the same address, or of the same user, had answered. The
    /// loss of other newcomers proves nothing about a job. A driver that has connected since the
    /// first of these losses may be the lost one, and counts as a newcomer while another driver
    /// that has answered is connected.
    pub attempts: Option<u32>,
    /// The longest time that a driver waits for a job if others from the same address, or of the
    /// same user, were lost over their first jobs: 50 ms after the first loss, twice as long after
    /// each further one. With zero, drivers never wait.
    pub hold_back: Duration,
    /// After how long a job is also given to a second driver, if a driver that has answered before
    /// is idle and no other job waits; `None` means never. The first answer counts, and the other
    /// one is dropped.
    pub stragglers: Option<Duration>,
    /// Whether to fold atoms into the cell before they are sent
    /// ([`Server::fold_positions`](crate::Server::fold_positions)); LAMMPS of 2021 needs that.
    pub fold: bool,
    /// Whether infinite numbers and NaN are allowed
    /// ([`Server::allow_not_finite`](crate::Server::allow_not_finite)).
    pub allow_not_finite: bool,
    /// Whether jobs may have different numbers of atoms
    /// ([`Server::allow_changing_atoms`](crate::Server::allow_changing_atoms)).
    pub allow_changing_atoms: bool,
}

impl PoolOptions {
    /// Sets the messages between the pool and its drivers. See the [field](Self#structfield.mode).
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Sets which driver gets which job. See the [field](Self#structfield.matching).
    #[must_use]
    pub fn matching(mut self, matching: Matching) -> Self {
        self.matching = matching;
        self
    }

    /// Sets how long the pool waits for a driver. See the [field](Self#structfield.deadlines).
    #[must_use]
    pub fn deadlines(mut self, deadlines: Deadlines) -> Self {
        self.deadlines = deadlines;
        self
    }

    /// Sets the most connections at a time. See the [field](Self#structfield.clients).
    #[must_use]
    pub fn clients(mut self, clients: usize) -> Self {
        self.clients = clients;
        self
    }

    /// Sets the networks from which TCP connections are accepted. See the
    /// [field](Self#structfield.allow).
    #[must_use]
    pub fn allow(mut self, allow: Vec<Subnet>) -> Self {
        self.allow = allow;
        self
    }

    /// Sets whether processes of other users may connect to a unix socket. See the
    /// [field](Self#structfield.any_user).
    #[must_use]
    pub fn any_user(mut self, any_user: bool) -> Self {
        self.any_user = any_user;
        self
    }

    /// Sets the text of INIT. See the [field](Self#structfield.init).
    #[must_use]
    pub fn init(mut self, init: Vec<u8>) -> Self {
        self.init = init;
        self
    }

    /// Sets how many bytes of a reply's extras to keep. See the [field](Self#structfield.extras).
    #[must_use]
    pub fn extras(mut self, extras: usize) -> Self {
        self.extras = extras;
        self
    }

    /// Sets how many drivers may be lost over a job. See the [field](Self#structfield.attempts).
    #[must_use]
    pub fn attempts(mut self, attempts: Option<u32>) -> Self {
        self.attempts = attempts;
        self
    }

    /// Sets the longest time that a driver may have to wait for a job. See the
    /// [field](Self#structfield.hold_back).
    #[must_use]
    pub fn hold_back(mut self, longest: Duration) -> Self {
        self.hold_back = longest;
        self
    }

    /// Sets after how long a job is given to a second driver. See the
    /// [field](Self#structfield.stragglers).
    #[must_use]
    pub fn stragglers(mut self, after: Option<Duration>) -> Self {
        self.stragglers = after;
        self
    }

    /// Sets whether to fold atoms into the cell before they are sent. See the
    /// [field](Self#structfield.fold).
    #[must_use]
    pub fn fold(mut self, fold: bool) -> Self {
        self.fold = fold;
        self
    }

    /// Sets whether infinite numbers and NaN are allowed. See the
    /// [field](Self#structfield.allow_not_finite).
    #[must_use]
    pub fn allow_not_finite(mut self, allow_not_finite: bool) -> Self {
        self.allow_not_finite = allow_not_finite;
        self
    }

    /// Sets whether jobs may have different numbers of atoms. See the
    /// [field](Self#structfield.allow_changing_atoms).
    #[must_use]
    pub fn allow_changing_atoms(mut self, allow_changing_atoms: bool) -> Self {
        self.allow_changing_atoms = allow_changing_atoms;
        self
    }
}

impl Default for PoolOptions {
    /// The defaults: consolidated messages, 4096 connections, a MiB of extras, and jobs that never
    /// fail.
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
