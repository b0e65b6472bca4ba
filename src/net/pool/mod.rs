//! A server for many drivers: hands out jobs and collects answers.
//!
//! ```text
//!            submit                 idle driver                    answer
//!   caller --------> [ queue ] ------------------> [ computing ] ----------> next
//!                        ^                               |
//!                        +-------------------------------+
//!                          driver lost, late, or wrong
//! ```
//!
//! There is one thread, the caller's, inside [`Pool::next`]. `reactor` waits for events on all
//! sockets (epoll, kqueue) and hands out turns. In its turn a `connection` moves what driver and
//! kernel allow, up to a number of messages, calls and bytes, so that no driver keeps another or
//! the caller waiting. `admission` accepts connections, with a share for each listener. `matching`
//! decides which driver gets which job. If a driver is lost, its job goes to another one. Each job
//! is answered once, because only complete answers count.

mod admission;
mod batch;
mod connection;
mod counters;
mod evaluate;
mod event;
mod job;
mod line;
mod matching;
mod options;
mod reactor;
mod serve;

use core::time::Duration;
use std::boxed::Box;
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::vec::Vec;

use self::admission::Admission;
use self::connection::Connection;
pub use self::counters::{Counters, Latencies, Loss};
pub use self::event::{EvaluateError, EvaluateFailure, LeftReason, PoolEvent, Refused};
pub use self::job::{Answered, DriverId, Job, Ticket};
use self::job::{Map, Task};
use self::line::Shared;
use self::matching::{Idle, Queue};
pub use self::options::{Matching, PoolOptions};
use self::reactor::{Limit, Reactor};
use super::Address;
use crate::protocol::ProtocolError;
use crate::server::Request;

/// Evaluations by any number of drivers, which may come and go at any time.
///
/// Results are returned in the order of their computation; each has the [`Ticket`] of its job.
///
/// ```no_run
/// use forcewire::Cell;
/// use forcewire::net::{Job, Pool, PoolEvent, PoolOptions};
///
/// let mut pool = Pool::new(PoolOptions::default())?;
/// pool.listen(&"127.0.0.1:31415".parse()?)?;
/// let positions = vec![[0.0, 0.0, 0.0], [1.4, 0.0, 0.0]];
/// let ticket = pool.submit(Job::new(Cell::orthorhombic([20.0; 3]), positions))?;
/// while let Some(event) = pool.next(None)? {
///     match event {
///         PoolEvent::Answered(answer) => {
///             println!("{} hartree from driver {}", answer.evaluation.energy, answer.driver);
///             break;
///         }
///         PoolEvent::Left { driver, why, .. } => eprintln!("driver {driver} left: {why}"),
///         _ => {}
///     }
/// }
/// pool.close(std::time::Duration::from_secs(1))?;
/// # let _ = ticket;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Pool {
    options: PoolOptions,
    reactor: Reactor,
    admission: Admission,
    /// Whether more connections wait to be accepted in the next round.
    crowded: bool,
    connections: Map<DriverId, Box<Connection>>,
    idle: Idle,
    /// Drivers that get no job before the given time.
    held: BTreeSet<(Duration, DriverId)>,
    /// Drivers that have answered a job and not sent READY yet.
    asked: BTreeSet<DriverId>,
    /// The driver of each replica, for [`Matching::Locked`].
    owners: Map<i32, DriverId>,
    queue: Queue,
    /// Jobs that have been given to two drivers.
    twins: BTreeSet<Ticket>,
    events: VecDeque<PoolEvent>,
    shared: Shared,
    counters: Counters,
    /// How many answers in a row arrived without waiting.
    ahead: usize,
    /// The number of drivers that have joined, of those that have answered, and of those that
    /// compute and have not answered before.
    joined: usize,
    proved: usize,
    trials: usize,
    running: usize,
    drivers: u64,
    tickets: u64,
    natoms: Option<usize>,
    draining: bool,
}

impl Pool {
    /// Makes a pool without drivers or listeners.
    ///
    /// # Errors
    ///
    /// The system's error if no descriptor is free.
    pub fn new(options: PoolOptions) -> io::Result<Self> {
        Ok(Self {
            options,
            reactor: Reactor::new()?,
            admission: Admission::default(),
            crowded: false,
            connections: Map::default(),
            idle: Idle::default(),
            held: BTreeSet::new(),
            asked: BTreeSet::new(),
            owners: Map::default(),
            queue: Queue::default(),
            twins: BTreeSet::new(),
            events: VecDeque::new(),
            shared: Shared::default(),
            counters: Counters::default(),
            ahead: 0,
            joined: 0,
            proved: 0,
            trials: 0,
            running: 0,
            drivers: 0,
            tickets: 0,
            natoms: None,
            draining: false,
        })
    }

    /// Listens, and returns the address, with the port that the system chose if the address had
    /// port 0. A pool may listen at several addresses.
    ///
    /// A name is bound at all of its addresses. A stale socket file of a killed server is replaced;
    /// ours is removed when the pool ends.
    ///
    /// # Errors
    ///
    /// The system's error, with the address in its text. [`AddrInUse`](io::ErrorKind::AddrInUse) if
    /// another server listens there, [`InvalidInput`](io::ErrorKind::InvalidInput) if the pool is
    /// [drained](Self::drain).
    pub fn listen(&mut self, address: &Address) -> io::Result<Address> {
        if self.draining {
            let text = "the pool is drained, its drivers would get no job: make another";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        self.admission.listen(address, &self.options, &self.reactor)
    }

    /// Sets the text of INIT ([`PoolOptions::init`]) for later requests of drivers. A driver that
    /// is being sent the old text is dropped, so call this while no job is running.
    pub fn set_init(&mut self, text: Vec<u8>) {
        self.options.init = text;
    }

    /// Adds a job to the queue.
    ///
    /// # Errors
    ///
    /// Returns the job if it can't be sent to any driver, as documented for
    /// [`Server::send_positions`](crate::Server::send_positions). The number of atoms must be the
    /// same as in the other jobs in the pool and in its drivers' earlier jobs, unless it [may
    /// change](PoolOptions::allow_changing_atoms).
    pub fn submit(&mut self, job: Job) -> Result<Ticket, Refused> {
        if let Err(why) = self.check(&job) {
            let job = Box::new(job);
            return Err(Refused { job, why });
        }
        self.natoms = Some(job.positions.len());
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.queue.insert(Task::new(ticket, job));
        Ok(ticket)
    }

    fn check(&self, job: &Job) -> Result<(), ProtocolError> {
        Request::new(&job.cell, &job.positions).check(self.options.allow_not_finite)?;
        let announced = job.positions.len();
        if self.natoms == Some(announced) || self.options.allow_changing_atoms {
            return Ok(());
        }
        // Lost drivers and cancelled jobs do not fix the number of atoms.
        let computed = || {
            self.connections
                .values()
                .find_map(|connection| connection.natoms)
        };
        match self.queue.natoms().or_else(computed) {
            Some(expected) if expected != announced => Err(ProtocolError::AtomsChanged {
                announced,
                expected,
            }),
            _ => Ok(()),
        }
    }

    /// Returns the next event; `None` if there is none within `timeout` (without a timeout, waits
    /// without a limit). Drivers are served only inside this method. Time that the caller spends
    /// elsewhere does not count against them.
    ///
    /// # Errors
    ///
    /// The system's errors of waiting. Errors of a driver are [events](PoolEvent::Left).
    pub fn next(&mut self, timeout: Option<Duration>) -> io::Result<Option<PoolEvent>> {
        if let Some(event) = self.events.pop_front() {
            return Ok(Some(event));
        }
        let limit = Limit::new(timeout);
        loop {
            self.distribute(&limit);
            if self.events.is_empty() {
                if !self.look_ahead() {
                    self.wait(&limit)?;
                }
                self.distribute(&limit); // before the caller does something that takes time
            }
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            if limit.is_over() {
                return Ok(None);
            }
        }
    }

    /// Cancels a job that has no answer yet. It is removed from the queue, or its answer will be
    /// dropped: the driver that computes it continues, because the protocol has no way to stop it.
    pub fn cancel(&mut self, ticket: Ticket) -> bool {
        self.take(ticket).is_some()
    }

    fn take(&mut self, ticket: Ticket) -> Option<Job> {
        self.twins.remove(&ticket);
        let waiting = self.queue.remove(ticket).map(|task| task.job);
        let computed = self.cancel_running(ticket);
        if waiting.is_some() || computed.is_some() {
            return waiting.or(computed);
        }
        let is_its = |event: &PoolEvent| match event {
            PoolEvent::Answered(answer) => answer.ticket == ticket,
            PoolEvent::GivenUp {
                ticket: given_up, ..
            } => *given_up == ticket,
            _ => false,
        };
        let at = self.events.iter().position(is_its)?;
        match self.events.remove(at)? {
            PoolEvent::Answered(answer) => Some(answer.job),
            PoolEvent::GivenUp { job, .. } => Some(job),
            _ => None,
        }
    }

    /// Cancels a job that drivers are computing; returns a copy of the job.
    fn cancel_running(&mut self, ticket: Ticket) -> Option<Job> {
        let mut job = None;
        for connection in self.connections.values_mut() {
            if connection.cancel(ticket) {
                let task = connection.work().iter().find(|task| task.ticket == ticket);
                job = job.or_else(|| task.map(|task| task.job.clone()));
            }
        }
        job
    }

    /// The number of drivers that have joined.
    #[must_use]
    pub const fn drivers(&self) -> usize {
        self.joined
    }

    /// The number of connections: drivers that have joined, and peers that have not answered yet.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// The number of jobs that no driver has.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// The number of jobs that drivers have; a job that two drivers have counts twice.
    #[must_use]
    pub const fn running(&self) -> usize {
        self.running
    }

    /// The counters of the pool's work so far.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Sends EXIT to a driver: now if it is idle, otherwise once it has answered. It gets no other
    /// job. Returns whether there is such a driver; [`PoolEvent::Left`] follows once it has closed.
    pub fn dismiss(&mut self, driver: DriverId) -> bool {
        self.dismiss_one(driver, false)
    }

    fn dismiss_one(&mut self, id: DriverId, at_once: bool) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else {
            return false;
        };
        connection.dismiss(at_once);
        self.idle.remove(id);
        self.held.remove(&(connection.held_until, id));
        self.turn(id);
        true
    }

    /// Begins to end the pool: stops listening, and [dismisses](Self::dismiss) all drivers.
    /// [`next`](Self::next) still returns their answers until no job is [running](Self::running).
    /// Jobs in the queue stay there. Then [`close`](Self::close) the pool; it can't be used for
    /// anything else.
    pub fn drain(&mut self) {
        self.draining = true;
        self.dismiss_all(false);
    }

    /// Ends the pool: stops listening, sends EXIT to every driver and waits until it has closed, at
    /// most for `patience`. Jobs without an answer are dropped. Returns how many drivers had not
    /// closed by then.
    ///
    /// Dropping a pool also sends EXIT, but does not wait.
    ///
    /// # Errors
    ///
    /// The system's errors of waiting.
    pub fn close(mut self, patience: Duration) -> io::Result<usize> {
        self.draining = true;
        self.dismiss_all(true);
        let limit = Limit::new(Some(patience));
        loop {
            self.events.clear();
            if self.connections.is_empty() || limit.is_over() {
                return Ok(self.connections.len());
            }
            self.wait(&limit)?;
        }
    }

    fn dismiss_all(&mut self, at_once: bool) {
        self.admission.close(&self.reactor);
        let all: Vec<_> = self.connections.keys().copied().collect();
        for id in all {
            self.dismiss_one(id, at_once);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // i-PI's Python driver spins forever if a server closes without EXIT.
        self.dismiss_all(true);
    }
}
