//! A server for many drivers: hands out what is to be computed and collects what they found.
//!
//! ```text
//!            submit                 idle driver                    answer
//!   caller --------> [ queue ] ------------------> [ computing ] ----------> next
//!                        ^                               |
//!                        +-------------------------------+
//!                          driver lost, late, or wrong
//! ```
//!
//! One thread, the caller's, inside [`Pool::next`]. `reactor` waits for whichever socket has
//! something (epoll, kqueue) and hands out turns. In its turn a `connection` moves what driver and
//! kernel allow, up to a number of messages, calls and bytes, so that no driver keeps another or
//! the caller waiting. `admission` accepts, each listener its share. `matching` decides who gets
//! what. A job that was lost with its driver goes to another one. It is answered once, because
//! only a whole answer counts.

mod admission;
mod connection;
mod counters;
mod event;
mod job;
mod matching;
mod options;
mod reactor;

use core::time::Duration;
use std::boxed::Box;
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::string::ToString;
use std::time::Instant;
use std::vec::Vec;

use mio::Interest;

use self::admission::{Admission, Arrival};
use self::connection::{Connection, Shared, Stage};
pub use self::counters::{Counters, Latencies, Loss};
pub use self::event::{EvaluateError, EvaluateFailure, LeftReason, PoolEvent, Refused};
pub use self::job::{Answered, DriverId, Job, Ticket};
use self::job::{Map, Task};
use self::matching::{Idle, Queue, Situation};
pub use self::options::{Matching, PoolOptions};
use self::reactor::{Limit, Reactor, TICK, Woken};
use super::Address;
use super::listener::Accepted;
use crate::fmt::debug;
use crate::{ProtocolError, Request};

/// Evaluations by any number of drivers, which may come and go at any time.
///
/// Results come in the order in which they are found; a [`Ticket`] says which is which.
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
///             println!("{} hartree from driver {}", answer.energy, answer.driver);
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
    /// Others wait to be accepted in the next round.
    crowded: bool,
    connections: Map<DriverId, Box<Connection>>,
    idle: Idle,
    /// Drivers that get no job before this time.
    held: BTreeSet<(Duration, DriverId)>,
    /// Drivers that have answered and have not said yet that they are ready.
    asked: BTreeSet<DriverId>,
    /// Which driver has which replica, for [`Matching::Locked`].
    owners: Map<i32, DriverId>,
    queue: Queue,
    /// Jobs that have been given to two drivers.
    twins: BTreeSet<Ticket>,
    events: VecDeque<PoolEvent>,
    shared: Shared,
    counters: Counters,
    /// Drivers that have joined, those of them that have answered, and those that compute and have
    /// not answered before.
    joined: usize,
    proved: usize,
    trials: usize,
    running: usize,
    drivers: u64,
    tickets: u64,
    natoms: Option<usize>,
    draining: bool,
}

/// Drivers that are given a job even if the caller's time is over.
const LEAST_GIVEN: usize = 64;

/// How long a job that was lost waits for a driver that has answered, if there is one, before any
/// other may have it.
const RESERVED: Duration = Duration::from_secs(1);

/// What a loss by a driver that had answered weighs, where one by a driver that had not weighs 1.
const BLAME: u32 = 4;

impl Pool {
    /// A pool without drivers, that listens nowhere yet.
    ///
    /// # Errors
    ///
    /// The system's, when it has no more descriptors.
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

    /// Listens, and returns where: with the port that the system chose, if the address had 0. A
    /// pool may listen in several places.
    ///
    /// A name is listened to on all of its addresses. The socket file that a killed server has left
    /// is replaced; ours is removed when the pool ends.
    ///
    /// # Errors
    ///
    /// The system's, with the address in its text. [`AddrInUse`](io::ErrorKind::AddrInUse) if
    /// another server listens there.
    pub fn listen(&mut self, address: &Address) -> io::Result<Address> {
        self.admission.listen(address, &self.options, &self.reactor)
    }

    /// Takes a job into the queue.
    ///
    /// # Errors
    ///
    /// The job comes back if no driver could be sent it, as
    /// [`Server::send_positions`](crate::Server::send_positions) describes. The number of atoms is
    /// that of the jobs in the pool and of what its drivers have computed, unless it
    /// [may change](PoolOptions::allow_changing_atoms).
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
        // Drivers that are gone and jobs that were cancelled settle nothing.
        let computed = || self.connections.values().find_map(|it| it.natoms);
        match self.queue.natoms().or_else(computed) {
            Some(expected) if expected != announced => Err(ProtocolError::AtomsChanged {
                announced,
                expected,
            }),
            _ => Ok(()),
        }
    }

    /// What happens next; `None` if nothing has within `timeout` (`None`: waits without a limit).
    /// Drivers are served in here and nowhere else. Time that the caller spends elsewhere does not
    /// count against them.
    ///
    /// # Errors
    ///
    /// The system's, of waiting. Those of a driver are [events](PoolEvent::Left).
    pub fn next(&mut self, timeout: Option<Duration>) -> io::Result<Option<PoolEvent>> {
        if let Some(event) = self.events.pop_front() {
            return Ok(Some(event));
        }
        let limit = Limit::new(timeout);
        loop {
            self.distribute(&limit);
            if self.events.is_empty() {
                self.wait(&limit)?;
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

    /// Has all of these computed, and returns the answers in the order of the jobs. What else
    /// happens is passed to `tell`: drivers' coming and going above all.
    ///
    /// ```no_run
    /// use forcewire::net::{Job, Pool, PoolEvent};
    ///
    /// # fn ring(pool: &mut Pool, beads: Vec<Job>) -> Result<(), Box<dyn std::error::Error>> {
    /// let answers = pool.evaluate(beads, None, |event| {
    ///     if let PoolEvent::Left { driver, why, .. } = event {
    ///         eprintln!("driver {driver} left: {why}");
    ///     }
    /// })?;
    /// let potential: f64 = answers.iter().map(|answer| answer.energy).sum();
    /// # let _ = potential;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`EvaluateError`], with the answers that there are and the jobs that have none. These are
    /// [cancelled](Self::cancel). It comes within `patience`, if there is one, whatever happens.
    pub fn evaluate(
        &mut self,
        jobs: impl IntoIterator<Item = Job>,
        patience: Option<Duration>,
        mut tell: impl FnMut(PoolEvent),
    ) -> Result<Vec<Answered>, EvaluateError> {
        let limit = Limit::new(patience);
        let first = self.tickets + 1;
        let mut answers: Vec<Option<Answered>> = Vec::new();
        let mut jobs = jobs.into_iter();
        while let Some(job) = jobs.next() {
            if let Err(refused) = self.submit(job) {
                let mut error = self.withdraw(first, answers, EvaluateFailure::Refused(refused));
                error.jobs.extend(jobs);
                return Err(error);
            }
            answers.push(None);
        }
        let place = |ticket: Ticket| usize::try_from(ticket.0.checked_sub(first)?).ok();
        let (mut missing, mut is_last) = (answers.len(), false);
        while missing > 0 {
            // What has happened already counts when the time is over, and nothing else.
            let event = if is_last {
                Ok(self.events.pop_front())
            } else {
                is_last = limit.is_over();
                self.next(limit.remaining(Instant::now()))
            };
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    return Err(self.withdraw(first, answers, EvaluateFailure::Waiting(error)));
                }
            };
            match event {
                Some(PoolEvent::Answered(answer)) => {
                    match place(answer.ticket).and_then(|at| answers.get_mut(at)) {
                        Some(place) => {
                            *place = Some(answer);
                            missing -= 1;
                        }
                        None => tell(PoolEvent::Answered(answer)),
                    }
                }
                Some(PoolEvent::GivenUp {
                    ticket,
                    job,
                    attempts,
                }) if place(ticket).is_some_and(|at| at < answers.len()) => {
                    self.queue.insert(Task::new(ticket, job)); // to be withdrawn with the others
                    let why = EvaluateFailure::GivenUp { ticket, attempts };
                    return Err(self.withdraw(first, answers, why));
                }
                Some(event) => tell(event),
                None => {
                    let why = EvaluateFailure::Late {
                        missing,
                        drivers: self.drivers(),
                        limit: patience.unwrap_or_default(),
                    };
                    return Err(self.withdraw(first, answers, why));
                }
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }

    /// Takes back the jobs that have no answer.
    fn withdraw(
        &mut self,
        first: u64,
        answers: Vec<Option<Answered>>,
        why: EvaluateFailure,
    ) -> EvaluateError {
        let (mut answered, mut jobs) = (Vec::new(), Vec::new());
        for (ticket, answer) in (first..).map(Ticket).zip(answers) {
            match answer {
                Some(answer) => answered.push(answer),
                None => jobs.extend(self.take(ticket)),
            }
        }
        EvaluateError {
            why,
            answered,
            jobs,
        }
    }

    /// Takes a job back, if it has no answer yet: from the queue, or its answer will be dropped.
    /// The driver that computes it continues; the protocol has no way to stop it.
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
            PoolEvent::GivenUp { ticket: it, .. } => *it == ticket,
            _ => false,
        };
        let at = self.events.iter().position(is_its)?;
        match self.events.remove(at)? {
            PoolEvent::Answered(answer) => Some(answer.job),
            PoolEvent::GivenUp { job, .. } => Some(job),
            _ => None,
        }
    }

    /// Drops the answer to a job that drivers compute; returns a copy of the job.
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

    /// Drivers that have joined.
    #[must_use]
    pub const fn drivers(&self) -> usize {
        self.joined
    }

    /// Connections: drivers that have joined, and peers that have not answered yet.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Jobs that no driver has.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Jobs that drivers have; one that was given to two of them counts twice.
    #[must_use]
    pub const fn running(&self) -> usize {
        self.running
    }

    /// What the pool has done so far.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Sends EXIT to a driver: now if it is idle, otherwise when it has answered. It gets no other
    /// job. Returns whether there is such a driver; [`PoolEvent::Left`] follows when it has closed.
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

    /// Begins to end the pool: listens no more, and [dismisses](Self::dismiss) all drivers. What
    /// they compute is still answered by [`next`](Self::next) until nothing is
    /// [running](Self::running); jobs in the queue stay there. Then [`close`](Self::close) it.
    pub fn drain(&mut self) {
        self.draining = true;
        self.dismiss_all(false);
    }

    /// Ends the pool: listens no more, sends EXIT to every driver and waits until it has closed, at
    /// most for `patience`. Jobs that are not answered are dropped. Returns how many drivers had
    /// not closed by then.
    ///
    /// Dropping a pool sends EXIT too, and does not wait.
    ///
    /// # Errors
    ///
    /// The system's, of waiting.
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

    /// Waits until a socket has something, at most for what the caller has left, and takes a round
    /// of turns.
    fn wait(&mut self, limit: &Limit) -> io::Result<()> {
        self.reactor.wait(self.longest_wait(), limit)?;
        let (connections, admission) = (&mut self.connections, &mut self.admission);
        self.reactor.wake(|woken| match woken {
            Woken::Driver(id, closing) => connections.get_mut(&id).is_some_and(|connection| {
                connection.woken(closing);
                !core::mem::replace(&mut connection.scheduled, true)
            }),
            Woken::Listener(index) => {
                admission.knock(index);
                false
            }
        });
        for taken in 0..self.reactor.round() {
            let Some(id) = self.reactor.next_turn(taken, limit) else {
                break;
            };
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.scheduled = false;
                self.turn(id);
            }
        }
        if self.reactor.is_time_to_judge() {
            self.judge();
            self.give_twice();
        }
        self.accept();
        Ok(())
    }

    /// After what time there is something to do although no socket has anything.
    fn longest_wait(&self) -> Option<Duration> {
        if self.crowded {
            return Some(Duration::ZERO);
        }
        let held = self.held.first();
        let held = held.map(|(until, _)| until.saturating_sub(self.reactor.now()).min(TICK));
        // A driver that is not idle may be late.
        let is_timed = self.admission.is_knocking()
            || self.idle.len() < self.connections.len()
            || self.options.stragglers.is_some();
        held.or(is_timed.then_some(TICK))
    }

    /// A driver takes its turn.
    fn turn(&mut self, id: DriverId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let (joined, proved) = (connection.joined, connection.proved);
        let was_on_trial = connection.stage == Stage::Computing && !proved;
        let (events, counters) = (&mut self.events, &mut self.counters);
        let (running, before) = (&mut self.running, events.len());
        let now = self.reactor.now();
        let mut answered = 0;
        let result = connection.take_turn(
            now,
            &self.options.init,
            &mut self.shared,
            |answer, is_cancelled| {
                *running -= 1;
                if answered == 0 {
                    counters.latencies.add(answer.took);
                }
                answered += 1;
                if !is_cancelled {
                    events.push_back(PoolEvent::Answered(answer));
                }
            },
        );
        self.counters.evaluations += answered;
        if connection.proved && !proved {
            self.proved += 1;
            self.admission.has_answered(connection.origin, now);
        }
        if was_on_trial && connection.proved {
            self.trials -= 1;
        }
        if connection.joined && !joined {
            self.joined += 1;
            self.counters.joined += 1;
            self.events.push_back(PoolEvent::Joined {
                driver: id,
                peer: connection.peer.clone(),
            });
        }
        let result = result.and_then(|()| {
            // Only then: a unix socket would report each time that it can be written to.
            let interest = match connection.is_blocked() {
                true => Interest::READABLE | Interest::WRITABLE,
                false => Interest::READABLE,
            };
            if interest == connection.interest {
                return Ok(());
            }
            connection.interest = interest;
            self.reactor
                .reregister(connection.socket(), id.token(), interest)
                .map_err(LeftReason::Lost)
        });
        match result {
            Ok(()) => self.settle(id),
            Err(why) => self.lose(id, why),
        }
        if answered > 0 && !self.twins.is_empty() {
            self.drop_twins(before);
        }
    }

    /// Puts a driver where it belongs after its turn.
    fn settle(&mut self, id: DriverId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if connection.stage == Stage::Free {
            let until = connection.held_until;
            if !connection.proved && until > self.reactor.now() {
                self.held.insert((until, id));
            } else {
                self.idle.insert(connection.candidate());
            }
        }
        if connection.stage == Stage::Asking && connection.last.is_some() {
            self.asked.insert(id);
        } else if !self.asked.is_empty() {
            self.asked.remove(&id);
        }
        if connection.is_unfinished() && !core::mem::replace(&mut connection.scheduled, true) {
            self.reactor.schedule(id);
        }
    }

    /// Parts with a driver; what it had goes back.
    fn lose(&mut self, id: DriverId, why: LeftReason) {
        let Some(mut connection) = self.connections.remove(&id) else {
            return;
        };
        let text = why.to_string();
        debug!("driver {} left: {}", id.0, text.as_str());
        self.reactor.deregister(connection.socket());
        self.idle.remove(id);
        self.held.remove(&(connection.held_until, id));
        self.asked.remove(&id);
        if let Some(replica) = connection.last
            && self.owners.get(&replica) == Some(&id)
        {
            self.owners.remove(&replica);
        }
        self.joined -= usize::from(connection.joined);
        self.proved -= usize::from(connection.proved);
        self.trials -= usize::from(connection.stage == Stage::Computing && !connection.proved);
        let tasks = connection.take_back();
        self.running -= tasks.len();
        if !tasks.is_empty() || why.is_a_fault() {
            self.counters.last_loss = Some(Loss {
                driver: id,
                peer: connection.peer.clone(),
                why: text,
                jobs: tasks.len(),
            });
        }
        let blame = self.blame(&connection, tasks.len());
        let (mut requeued, mut given_up) = (0, Vec::new());
        for mut task in tasks {
            // The other driver that has it still computes.
            if self.twins.remove(&task.ticket) || task.cancelled {
                continue;
            }
            task.lost(self.reactor.now(), blame);
            let most = self.options.attempts;
            if most.is_some_and(|most| task.blame >= most.saturating_mul(BLAME)) {
                given_up.push(PoolEvent::GivenUp {
                    ticket: task.ticket,
                    job: task.job,
                    attempts: task.attempts,
                });
            } else {
                requeued += 1;
                self.queue.insert(Box::new(task));
            }
        }
        self.counters.requeued += requeued as u64;
        self.counters.given_up += given_up.len() as u64;
        self.events.push_back(PoolEvent::Left {
            driver: id,
            peer: connection.peer,
            why,
            requeued,
        });
        self.events.extend(given_up);
    }

    /// What the loss of this driver weighs against a job that it had alone; `None` if it had
    /// several. A driver that never answered says little about its job.
    fn blame(&mut self, connection: &Connection, jobs: usize) -> Option<u32> {
        let (origin, now) = (connection.origin, self.reactor.now());
        if jobs > 0 && !connection.proved {
            self.admission.strike(origin, now, self.options.hold_back);
        }
        let blame = match connection.proved {
            true => BLAME,
            false => u32::from(self.admission.is_known(origin)),
        };
        (jobs == 1).then_some(blame)
    }

    /// Drops the drivers whose deadlines have passed. Each gets a turn before, in case that what it
    /// has sent was not looked at.
    fn judge(&mut self) {
        let now = self.reactor.now();
        let due = self.connections.values().filter(|it| it.is_due(now));
        let due: Vec<_> = due.map(|connection| connection.id).collect();
        for id in due {
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.woken(false);
                self.turn(id);
            }
            let connection = self.connections.get_mut(&id);
            if let Some(why) = connection.and_then(|connection| connection.overdue(now)) {
                self.lose(id, why);
            }
        }
    }

    /// Puts jobs that have been computed for long into the queue again, if there is nothing else
    /// for drivers that are idle.
    fn give_twice(&mut self) {
        let Some(after) = self.options.stragglers else {
            return;
        };
        let idle = self.idle.proved();
        let is_locked = self.options.matching == Matching::Locked;
        if idle == 0 || is_locked || !self.queue.is_empty() || self.draining {
            return;
        }
        let mut slow: Vec<_> = self.connections.values().collect();
        slow.retain(|connection| connection.computes_for() >= Some(after));
        slow.sort_by_key(|connection| core::cmp::Reverse(connection.computes_for()));
        let tasks = slow.iter().flat_map(|connection| connection.work().iter());
        let tasks = tasks.filter(|task| !task.cancelled && !self.twins.contains(&task.ticket));
        let tasks: Vec<_> = tasks.take(idle).map(|task| task.twin()).collect();
        for task in tasks {
            self.counters.given_twice += 1;
            self.twins.insert(task.ticket);
            self.queue.insert(task);
        }
    }

    /// Drops the second copies of jobs that have just been answered: events from this one on.
    fn drop_twins(&mut self, first: usize) {
        let answered = self.events.iter().skip(first);
        let answered = answered.filter_map(|event| match event {
            PoolEvent::Answered(answer) => Some(answer.ticket),
            _ => None,
        });
        let twins: Vec<_> = answered.filter(|it| self.twins.contains(it)).collect();
        for ticket in twins {
            self.twins.remove(&ticket);
            self.queue.remove(ticket);
            self.cancel_running(ticket);
        }
    }

    /// Lets in those that wait, as long as there is room.
    fn accept(&mut self) {
        let room = self.options.clients.saturating_sub(self.connections.len());
        let (arrivals, more) = self.admission.accept(room, &self.options);
        self.crowded = more;
        for arrival in arrivals {
            self.welcome(arrival);
        }
    }

    fn welcome(&mut self, arrival: Arrival) {
        let Arrival {
            accepted: Accepted { socket, peer, .. },
            origin,
            is_allowed,
        } = arrival;
        self.counters.connections += 1;
        self.drivers += 1;
        let id = DriverId(self.drivers);
        if !is_allowed {
            self.events.push_back(PoolEvent::Left {
                driver: id,
                peer,
                why: LeftReason::NotAllowed,
                requeued: 0,
            });
            return;
        }
        let Ok(mut connection) = Connection::new(id, peer, origin, socket, &self.options) else {
            return; // it has gone already
        };
        let (socket, interest) = (connection.socket(), connection.interest);
        if self.reactor.register(socket, id.token(), interest).is_err() {
            return; // no memory is left for it, and it sees its connection closed
        }
        connection.held_until = self.admission.held_until(origin);
        if connection.joined {
            self.joined += 1;
            self.counters.joined += 1;
            self.events.push_back(PoolEvent::Joined {
                driver: id,
                peer: connection.peer.clone(),
            });
        }
        self.connections.insert(id, Box::new(connection));
        self.turn(id);
    }

    /// Gives what waits to drivers that are idle.
    fn distribute(&mut self, limit: &Limit) {
        if self.queue.is_empty() || self.draining {
            return;
        }
        while let Some(&(until, id)) = self.held.first() {
            if until > self.reactor.now() {
                break;
            }
            self.held.pop_first();
            if let Some(connection) = self.connections.get(&id) {
                self.idle.insert(connection.candidate());
            }
        }
        if self.idle.len() == 0 {
            return;
        }
        let matching = self.options.matching;
        let situation = Situation {
            matching,
            claimed: match matching {
                Matching::Locked if self.idle.has_new() => self.owners.keys().copied().collect(),
                Matching::Auto => self.soon_free(),
                Matching::Locked | Matching::Any => BTreeSet::new(),
            },
            trials: self.trials,
            lost_before: match self.proved {
                0 => Duration::MAX,
                _ => self.reactor.now().saturating_sub(RESERVED),
            },
        };
        let matched = matching::distribute(&mut self.queue, &mut self.idle, situation);
        for (given, (id, task)) in matched.into_iter().enumerate() {
            let Some(connection) = self.connections.get_mut(&id) else {
                self.queue.insert(task);
                continue;
            };
            let replica = task.job.replica;
            let mut tasks = std::vec![*task];
            if let [task] = tasks.as_slice()
                && task.attempts == 0
            {
                let natoms = task.job.positions.len();
                let same = (matching == Matching::Locked).then_some(replica);
                let companions = core::iter::from_fn(|| self.queue.take_companion(natoms, same));
                let companions = companions.take(connection.capacity().saturating_sub(1));
                tasks.extend(companions.map(|task| *task));
            }
            self.running += tasks.len();
            self.trials += usize::from(!connection.proved);
            connection.assign(tasks, &mut self.shared);
            if matching == Matching::Locked {
                self.owners.insert(replica, id);
            }
            if given < LEAST_GIVEN || !limit.is_over() {
                self.turn(id);
            } else if !core::mem::replace(&mut connection.scheduled, true) {
                self.reactor.schedule(id);
            }
        }
    }

    /// The replicas of drivers that will be idle soon.
    fn soon_free(&mut self) -> BTreeSet<i32> {
        let connections = &self.connections;
        let soon = |id: &DriverId| connections.get(id).and_then(|it| it.soon_free());
        self.asked.retain(|id| soon(id).is_some());
        self.asked.iter().filter_map(soon).collect()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // i-PI's Python driver spins for ever when a server closes without EXIT.
        self.dismiss_all(true);
    }
}
