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
mod queue;

use core::fmt;
use core::time::Duration;
use std::boxed::Box;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::string::{String, ToString};
use std::time::Instant;
use std::vec::Vec;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use self::client::{Client, Input, Stage};
use self::queue::{Free, Queue};
use super::Address;
use super::listener::Listener;
use crate::fmt::debug;
use crate::{Cell, Mode, ProtocolError, Request, Server, Virial};

/// How jobs are matched to drivers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Matching {
    /// The replica that a driver had last; then any to one that had none yet; then any, rather to a driver that has not
    /// stayed with its replica. What i-PI calls `auto`; electronic structure codes start from the wave functions
    /// of the step before.
    #[default]
    Auto,
    /// The oldest job to whoever is free.
    Any,
    /// A driver stays with its first replica, and one that had none gets one that no other has.
    Locked,
}

/// How long a pool waits, and then drops a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// For the answer to the first STATUS of a connection.
    pub handshake: Duration,
    /// For the rest of a message that has begun, for an answer to STATUS, and for the driver to take what it is sent.
    pub message: Duration,
    /// From positions to the last byte of their forces; for ever if `None`.
    pub evaluation: Option<Duration>,
}

impl Default for Deadlines {
    /// Ten seconds for a handshake, a minute for a message, for ever to compute.
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            message: Duration::from_secs(60),
            evaluation: None,
        }
    }
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
    /// How long it waits.
    pub deadlines: Deadlines,
    /// Connections at a time. Who comes later waits, connected and not heard, until another has left.
    pub clients: usize,
    /// The text of INIT ([`Request::init`]); one blank if empty.
    pub init: Vec<u8>,
    /// Bytes of extras that are kept of a reply (of all structures of a batch together); the rest is dropped.
    pub extras: usize,
    /// How many drivers may be lost over a job before it is given up; never, if `None`.
    pub attempts: Option<u32>,
    /// Moves atoms into the cell before they are sent ([`Server::fold_positions`]); LAMMPS needs it.
    pub fold: bool,
    /// Lets infinite numbers and NaN through ([`Server::allow_not_finite`]).
    pub allow_not_finite: bool,
    /// Lets jobs have different numbers of atoms ([`Server::allow_changing_atoms`]).
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
            init: Vec::new(),
            extras: 1024 * 1024,
            attempts: None,
            fold: false,
            allow_not_finite: false,
            allow_changing_atoms: false,
        }
    }
}

/// One structure to be computed. Comes back with its answer, and its memory can be used again.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// The replica (bead), for drivers that want to know and for [`Matching`].
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
}

/// The number of a job in its pool; later ones are larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// The number of a driver in its pool, never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DriverId(u64);

impl DriverId {
    /// What the poll calls it.
    #[allow(clippy::cast_possible_truncation)] // 2^32 connections, on a machine of 32 bits
    const fn token(self) -> Token {
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
struct Task {
    ticket: Ticket,
    job: Job,
    /// Drivers that were lost over it.
    attempts: u32,
}

/// A job and what a driver found.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// What [`Pool::submit`] gave for it.
    pub ticket: Ticket,
    /// The job, with its forces.
    pub job: Job,
    /// The potential energy, hartree.
    pub energy: f64,
    /// The virial, hartree, made symmetric ([`Virial::symmetric`]).
    pub virial: Virial,
    /// What else the driver sent, as far as [`PoolOptions::extras`] lets it be kept.
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

/// Something that happened in a pool.
#[derive(Debug)]
#[non_exhaustive]
pub enum PoolEvent {
    /// A driver has connected and answered; in [`Mode::Strict`], it has connected.
    Joined {
        /// Its number.
        driver: DriverId,
        /// Its address, or that of the unix socket.
        peer: String,
    },
    /// A driver has gone, or was dropped. One that never answered may leave without having joined.
    Left {
        /// Its number.
        driver: DriverId,
        /// Its address, or that of the unix socket.
        peer: String,
        /// What it did.
        why: LeftReason,
        /// Jobs that it had, which go to others.
        requeued: usize,
    },
    /// A job has been computed.
    Answered(Answered),
    /// A job has cost as many drivers as [`PoolOptions::attempts`] allows.
    GivenUp {
        /// What [`Pool::submit`] gave for it.
        ticket: Ticket,
        /// The job.
        job: Job,
        /// Drivers that had it.
        attempts: u32,
    },
}

/// Why a driver is no longer in a pool.
#[derive(Debug)]
#[non_exhaustive]
pub enum LeftReason {
    /// It closed the connection while it had nothing to do.
    Closed,
    /// It was told EXIT and has closed the connection.
    Dismissed,
    /// It sent something without being asked.
    OutOfTurn,
    /// It broke the protocol, or left in the middle of a conversation.
    Protocol(ProtocolError),
    /// The connection was lost.
    Lost(io::Error),
    /// It let a deadline pass.
    Late {
        /// Which one.
        waited: Waited,
        /// How long that was.
        limit: Duration,
    },
}

/// What a driver was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// Its first answer, [`Deadlines::handshake`].
    Handshake,
    /// An answer to STATUS, the rest of a message, or that it takes what is sent, [`Deadlines::message`].
    Message,
    /// Forces, [`Deadlines::evaluation`].
    Evaluation,
}

impl fmt::Display for LeftReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("it closed the connection"),
            Self::Dismissed => f.write_str("it was told to exit, and did"),
            Self::OutOfTurn => f.write_str("it sent something without being asked"),
            Self::Protocol(error) => error.fmt(f),
            Self::Lost(error) => write!(f, "the connection was lost: {error}"),
            Self::Late { waited, limit } => {
                let what = match waited {
                    Waited::Handshake => "for its answer to the first STATUS: is it a driver?",
                    Waited::Message => "for an answer or the rest of a message",
                    Waited::Evaluation => "for the forces",
                };
                write!(f, "waited {limit:?} {what}")
            }
        }
    }
}

impl core::error::Error for LeftReason {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Protocol(error) => Some(error),
            Self::Lost(error) => Some(error),
            _ => None,
        }
    }
}

/// A job that can't be sent to any driver, given back.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    /// The job.
    pub job: Box<Job>,
    /// What is wrong with it.
    pub why: ProtocolError,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.why.fmt(f)
    }
}

impl core::error::Error for Refused {}

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
    /// Those that have nothing to do, in the order in which they became so.
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

/// How often deadlines are looked at, at least.
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
        let opened = Listener::open(address)?;
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
        let result = client.drive(&self.options.init, &mut self.input, |answer| {
            *running -= 1;
            events.push_back(PoolEvent::Answered(answer));
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
        for task in tasks {
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
        let deadlines = self.options.deadlines;
        let overdue = |(&id, client): (&DriverId, &mut Client)| {
            client.overdue(&deadlines).map(|why| (id, why))
        };
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
                    Ok((socket, peer)) => {
                        left -= 1;
                        self.welcome(socket, &peer);
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

    fn welcome(&mut self, socket: super::socket::Socket, peer: &Address) {
        let options = &self.options;
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
        self.drivers += 1;
        let id = DriverId(self.drivers);
        let Ok(client) = Client::new(id, peer.to_string(), socket, server, options.mode) else {
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
        let claimed = match self.options.matching {
            Matching::Locked => self.clients.values().filter_map(|it| it.last).collect(),
            Matching::Auto | Matching::Any => BTreeSet::new(),
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
