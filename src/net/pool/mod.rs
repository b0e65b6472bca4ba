//! A server for many drivers: hands out what is to be computed and collects what they found.
//!
//! ```text
//!            submit                 free driver                    answer
//!   caller --------> [ queue ] ------------------> [ computing ] ----------> next
//!                        ^                               |
//!                        +-------------------------------+
//!                          driver lost, late, or wrong
//! ```
//!
//! One thread, the caller's, inside [`Pool::next`]. It waits for whichever socket has something (epoll, kqueue), takes
//! what is there and goes on to the next, so that no driver keeps another waiting: one that is silent, slow, or sends
//! half a message waits for its deadline by itself. What a lost driver was to compute goes back to its place in the
//! queue and to another driver; it is answered once, because only a whole answer counts.

mod client;
mod event;
mod job;
mod options;
mod queue;

use core::time::Duration;
use std::boxed::Box;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::string::ToString;
use std::time::Instant;
use std::vec::Vec;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use self::client::{Client, Input, Stage};
pub use self::event::{EvaluateError, LeftReason, PoolEvent, Refused};
use self::job::Task;
pub use self::job::{Answered, DriverId, Job, Ticket};
pub use self::options::{Matching, PoolOptions};
use self::queue::{Free, Queue};
use super::Address;
use super::listener::{Accepted, Listener, Origin};
use crate::fmt::debug;
use crate::{ProtocolError, Request, Server};

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
    poll: Poll,
    ready: Events,
    listeners: Vec<Listener>,
    /// Someone may be waiting to be accepted, and no one will say so again.
    knocking: bool,
    clients: HashMap<DriverId, Client>,
    /// Those that have nothing to do.
    free: BTreeSet<DriverId>,
    /// Those that have sent more than a turn takes.
    unfinished: Vec<DriverId>,
    queue: Queue,
    running: usize,
    events: VecDeque<PoolEvent>,
    input: Input,
    drivers: u64,
    tickets: u64,
    natoms: Option<usize>,
    checked: Instant,
}

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(100);

/// Connections that are accepted in one go.
const ACCEPTS: usize = 64;

impl Pool {
    /// A pool without drivers, that listens nowhere yet.
    ///
    /// # Errors
    ///
    /// The system's, when it has no more descriptors.
    pub fn new(options: PoolOptions) -> io::Result<Self> {
        Ok(Self {
            options,
            poll: Poll::new()?,
            ready: Events::with_capacity(1024),
            listeners: Vec::new(),
            knocking: false,
            clients: HashMap::new(),
            free: BTreeSet::new(),
            unfinished: Vec::new(),
            queue: Queue::default(),
            running: 0,
            events: VecDeque::new(),
            input: Input::new(),
            drivers: 0,
            tickets: 0,
            natoms: None,
            checked: Instant::now(),
        })
    }

    /// Listens, and says where: with the port that the system chose, if the address had 0. A pool may listen in
    /// several places.
    ///
    /// A name is listened to on all of its addresses. The socket file that a server left behind when it was killed
    /// is replaced; ours is removed when the pool ends.
    ///
    /// # Errors
    ///
    /// The system's, with the address in its text. [`ErrorKind::AddrInUse`] if another server listens there.
    pub fn listen(&mut self, address: &Address) -> io::Result<Address> {
        let opened = Listener::open(address, self.options.any_user)?;
        let bound = opened
            .first()
            .map_or_else(|| address.clone(), |listener| listener.address().clone());
        for listener in opened {
            let token = Token(usize::MAX - 1 - self.listeners.len());
            let source = listener.as_raw_fd();
            let registry = self.poll.registry();
            registry.register(&mut SourceFd(&source), token, Interest::READABLE)?;
            self.listeners.push(listener);
        }
        self.knocking = true;
        Ok(bound)
    }

    /// Takes a job into the queue.
    ///
    /// # Errors
    ///
    /// The job comes back if no driver could be sent it: as [`Server::send_positions`] says.
    pub fn submit(&mut self, job: Job) -> Result<Ticket, Refused> {
        if let Err(why) = self.check(&job) {
            let job = Box::new(job);
            return Err(Refused { job, why });
        }
        self.natoms = Some(job.positions.len());
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.queue.insert(Task {
            ticket,
            job,
            attempts: 0,
            cancelled: false,
        });
        Ok(ticket)
    }

    fn check(&self, job: &Job) -> Result<(), ProtocolError> {
        Request::new(&job.cell, &job.positions).check(self.options.allow_not_finite)?;
        match self.natoms {
            Some(expected)
                if expected != job.positions.len() && !self.options.allow_changing_atoms =>
            {
                Err(ProtocolError::AtomsChanged {
                    announced: job.positions.len(),
                    expected,
                })
            }
            _ => Ok(()),
        }
    }

    /// What happens next; `None` if nothing has for so long (`None`: waits for ever). Drivers are served in here and
    /// nowhere else.
    ///
    /// # Errors
    ///
    /// The system's, of waiting. Those of a driver are [events](PoolEvent::Left).
    pub fn next(&mut self, timeout: Option<Duration>) -> io::Result<Option<PoolEvent>> {
        let start = Instant::now();
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            self.distribute();
            if !self.events.is_empty() {
                continue;
            }
            let left = timeout.map(|timeout| timeout.saturating_sub(start.elapsed()));
            self.wait(left)?;
            self.distribute(); // before the caller does something that takes time
            if self.events.is_empty() && left.is_some_and(|left| left.is_zero()) {
                return Ok(None);
            }
        }
    }

    /// Has all of these computed, and gives the answers in the order of the jobs; within `patience`, if there is one.
    /// What else happens is told as it does, drivers' coming and going above all.
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
    /// [`EvaluateError`]; all of these jobs are [cancelled](Self::cancel) then.
    pub fn evaluate(
        &mut self,
        jobs: impl IntoIterator<Item = Job>,
        patience: Option<Duration>,
        mut tell: impl FnMut(PoolEvent),
    ) -> Result<Vec<Answered>, EvaluateError> {
        let start = Instant::now();
        let first = Ticket(self.tickets + 1);
        let result = jobs
            .into_iter()
            .try_for_each(|job| self.submit(job).map(|_| ()))
            .map_err(EvaluateError::Refused)
            .and_then(|()| {
                let count = self.tickets + 1 - first.0;
                let mut answers: Vec<Option<Answered>> = (0..count).map(|_| None).collect();
                let mut missing = answers.len();
                while missing > 0 {
                    let left = patience.map(|patience| patience.saturating_sub(start.elapsed()));
                    match self.next(left).map_err(EvaluateError::Waiting)? {
                        Some(PoolEvent::Answered(answer)) if answer.ticket >= first => {
                            let place = usize::try_from(answer.ticket.0 - first.0);
                            if let Some(place) = place.ok().and_then(|at| answers.get_mut(at)) {
                                *place = Some(answer);
                                missing -= 1;
                            }
                        }
                        Some(PoolEvent::GivenUp {
                            ticket, attempts, ..
                        }) if ticket >= first => {
                            return Err(EvaluateError::GivenUp { attempts });
                        }
                        Some(event) => tell(event),
                        None => {
                            return Err(EvaluateError::Late {
                                missing,
                                drivers: self.drivers(),
                                limit: patience.unwrap_or_default(),
                            });
                        }
                    }
                }
                Ok(answers.into_iter().flatten().collect())
            });
        if result.is_err() {
            for ticket in first.0..=self.tickets {
                self.cancel(Ticket(ticket));
            }
        }
        result
    }

    /// Takes a job back, if it has no answer yet: from the queue, or its answer will be dropped. The driver that
    /// computes it goes on, the protocol has no way to stop it.
    pub fn cancel(&mut self, ticket: Ticket) -> bool {
        if self.queue.remove(ticket).is_some() {
            return true;
        }
        if self.clients.values_mut().any(|it| it.cancel(ticket)) {
            return true;
        }
        let before = self.events.len();
        self.events.retain(|event| match event {
            PoolEvent::Answered(answer) => answer.ticket != ticket,
            PoolEvent::GivenUp { ticket: it, .. } => *it != ticket,
            _ => true,
        });
        self.events.len() < before
    }

    /// Drivers that have joined.
    #[must_use]
    pub fn drivers(&self) -> usize {
        self.clients.values().filter(|it| it.joined).count()
    }

    /// Jobs that no driver has.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Jobs that drivers have.
    #[must_use]
    pub const fn running(&self) -> usize {
        self.running
    }

    /// Ends the pool: accepts no one any more, tells every driver EXIT and waits until it has closed, at most
    /// for `patience`. Jobs that are not answered are dropped. How many drivers had not closed by then.
    ///
    /// Dropping a pool tells them too, and does not wait.
    ///
    /// # Errors
    ///
    /// The system's, of waiting.
    pub fn close(mut self, patience: Duration) -> io::Result<usize> {
        self.dismiss();
        let start = Instant::now();
        loop {
            self.events.clear();
            let left = patience.saturating_sub(start.elapsed());
            if self.clients.is_empty() || left.is_zero() {
                return Ok(self.clients.len());
            }
            self.wait(Some(left))?;
        }
    }

    fn dismiss(&mut self) {
        for listener in self.listeners.drain(..) {
            let source = listener.as_raw_fd();
            let _ = self.poll.registry().deregister(&mut SourceFd(&source));
        }
        self.free.clear();
        let all: Vec<_> = self.clients.keys().copied().collect();
        for id in all {
            if let Some(client) = self.clients.get_mut(&id) {
                client.dismiss();
            }
            self.drive(id);
        }
    }

    /// Waits until a socket has something, at most so long, and sees to all that have.
    fn wait(&mut self, left: Option<Duration>) -> io::Result<()> {
        // Who is not free may be late.
        let timed = self.knocking || self.free.len() < self.clients.len();
        let timeout = if !self.unfinished.is_empty() {
            Some(Duration::ZERO)
        } else if timed {
            Some(left.map_or(TICK, |left| left.min(TICK)))
        } else {
            left
        };
        match self.poll.poll(&mut self.ready, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => self.ready.clear(),
            result => result?,
        }
        let mut turn = core::mem::take(&mut self.unfinished);
        for event in &self.ready {
            let id = DriverId(event.token().0 as u64);
            match self.clients.get_mut(&id) {
                Some(client) => {
                    client.woken(event.is_read_closed() || event.is_error());
                    turn.push(id);
                }
                None => self.knocking = true,
            }
        }
        for id in turn {
            self.drive(id);
        }
        if self.checked.elapsed() >= TICK {
            self.checked = Instant::now();
            self.drop_overdue();
        }
        if self.knocking {
            self.accept();
        }
        Ok(())
    }

    /// Lets a driver go on.
    fn drive(&mut self, id: DriverId) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let (joined, events, running) = (client.joined, &mut self.events, &mut self.running);
        let result = client.drive(&self.options.init, &mut self.input, |answer, cancelled| {
            *running -= 1;
            if !cancelled {
                events.push_back(PoolEvent::Answered(answer));
            }
        });
        if client.joined && !joined {
            self.events.push_back(PoolEvent::Joined {
                driver: id,
                peer: client.peer.clone(),
            });
        }
        if client.stage == Stage::Free {
            self.free.insert(id);
        }
        if client.is_unfinished() {
            self.unfinished.push(id);
        }
        // Only then: a unix socket would tell us each time that it can be written to.
        let interest = match client.is_blocked() {
            true => Interest::READABLE | Interest::WRITABLE,
            false => Interest::READABLE,
        };
        let result = result.and_then(|()| {
            if interest == client.interest {
                return Ok(());
            }
            client.interest = interest;
            let source = client.socket().as_raw_fd();
            let registry = self.poll.registry();
            registry
                .reregister(&mut SourceFd(&source), id.token(), interest)
                .map_err(LeftReason::Lost)
        });
        if let Err(why) = result {
            self.lose(id, why);
        }
    }

    /// Parts with a driver; what it had goes back.
    fn lose(&mut self, id: DriverId, why: LeftReason) {
        let Some(mut client) = self.clients.remove(&id) else {
            return;
        };
        debug!("driver {} left: {}", id.0, why.to_string().as_str());
        self.free.remove(&id);
        let source = client.socket().as_raw_fd();
        let _ = self.poll.registry().deregister(&mut SourceFd(&source));
        let tasks = client.take_back();
        self.running -= tasks.len();
        let mut requeued = 0;
        let mut given_up = Vec::new();
        for task in tasks.into_iter().filter(|task| !task.cancelled) {
            if self
                .options
                .attempts
                .is_some_and(|most| task.attempts >= most)
            {
                given_up.push(PoolEvent::GivenUp {
                    ticket: task.ticket,
                    job: task.job,
                    attempts: task.attempts,
                });
            } else {
                requeued += 1;
                self.queue.insert(task);
            }
        }
        self.events.push_back(PoolEvent::Left {
            driver: id,
            peer: client.peer,
            why,
            requeued,
        });
        self.events.extend(given_up);
        self.knocking |= !self.listeners.is_empty(); // there is room for another
    }

    fn drop_overdue(&mut self) {
        let overdue =
            |(&id, client): (&DriverId, &mut Client)| client.overdue().map(|why| (id, why));
        let late: Vec<_> = self.clients.iter_mut().filter_map(overdue).collect();
        for (id, why) in late {
            self.lose(id, why);
        }
    }

    /// Lets in who waits, as long as there is room.
    fn accept(&mut self) {
        let mut left = ACCEPTS;
        for index in 0..self.listeners.len() {
            loop {
                if left == 0 || self.clients.len() >= self.options.clients {
                    return; // still knocking
                }
                let Some(listener) = self.listeners.get(index) else {
                    return;
                };
                match listener.accept() {
                    Ok(accepted) => {
                        left -= 1;
                        self.welcome(accepted);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    // One that has left again before it was let in.
                    Err(error)
                        if matches!(
                            error.kind(),
                            ErrorKind::Interrupted | ErrorKind::ConnectionAborted
                        ) => {}
                    // No descriptor is left: another driver's end, or time, may help.
                    Err(_) => return,
                }
            }
        }
        self.knocking = false;
    }

    fn welcome(&mut self, Accepted { socket, peer, from }: Accepted) {
        let options = &self.options;
        self.drivers += 1;
        let id = DriverId(self.drivers);
        let allowed = match from {
            Origin::Address(it) => {
                options.allow.is_empty()
                    || options.allow.iter().any(|subnet| subnet.contains(it.ip()))
            }
            Origin::Process(it) => options.any_user || it.is_ours(),
        };
        if !allowed {
            self.events.push_back(PoolEvent::Left {
                driver: id,
                peer,
                why: LeftReason::NotAllowed,
                requeued: 0,
            });
            return;
        }
        let mut server = Server::new().mode(options.mode);
        if options.fold {
            server = server.fold_positions();
        }
        if options.allow_not_finite {
            server = server.allow_not_finite();
        }
        if options.allow_changing_atoms {
            server = server.allow_changing_atoms();
        }
        let (mode, deadlines) = (options.mode, options.deadlines);
        let Ok(client) = Client::new(id, peer, socket, server, mode, deadlines) else {
            return; // it has gone already
        };
        let source = client.socket().as_raw_fd();
        let registry = self.poll.registry();
        let registered = registry.register(&mut SourceFd(&source), id.token(), client.interest);
        if registered.is_err() {
            return; // no memory is left for it, and it sees its connection closed
        }
        if client.joined {
            self.events.push_back(PoolEvent::Joined {
                driver: id,
                peer: client.peer.clone(),
            });
        }
        self.clients.insert(id, client);
        self.drive(id);
    }

    /// Gives what waits to those who are free.
    fn distribute(&mut self) {
        if self.queue.is_empty() || self.free.is_empty() {
            return;
        }
        let free = self.free.iter().filter_map(|&id| {
            let client = self.clients.get(&id)?;
            let (last, locked) = (client.last, client.locked);
            Some(Free { id, last, locked })
        });
        let clients = self.clients.values();
        let claimed = match self.options.matching {
            Matching::Locked => clients.filter_map(|it| it.last).collect(),
            Matching::Auto => clients.filter_map(Client::soon_free).collect(),
            Matching::Any => BTreeSet::new(),
        };
        let (matching, free) = (self.options.matching, free.collect());
        for (id, task) in self.queue.distribute(matching, free, claimed) {
            let Some(client) = self.clients.get_mut(&id) else {
                continue;
            };
            self.free.remove(&id);
            let natoms = task.job.positions.len();
            let more = client.capacity().saturating_sub(1);
            let queue = &mut self.queue;
            let companions = core::iter::repeat_with(|| queue.take_alike(natoms));
            let tasks: Vec<_> = core::iter::once(task)
                .chain(companions.take(more).map_while(|task| task))
                .collect();
            self.running += tasks.len();
            client.assign(tasks, self.options.extras);
            self.drive(id);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // i-PI's Python driver spins for ever when a server closes without EXIT.
        self.dismiss();
    }
}
