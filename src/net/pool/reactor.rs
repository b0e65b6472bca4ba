//! The wait for sockets, the order of turns, and the pool's clock.

use core::time::Duration;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Instant;

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::DriverId;

/// How often deadlines are checked.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// The most that a single step of the pool's clock counts.
const STEP: Duration = Duration::from_millis(200);

/// How many turns to take even if the caller's time is over, so that a caller with a limit of zero
/// makes progress.
const LEAST_TURNS: usize = 64;

/// The caller's time limit and its start; `None` means no limit, and then the clock is not read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit(Option<(Instant, Duration)>);

impl Limit {
    pub(super) fn new(timeout: Option<Duration>) -> Self {
        Self(timeout.map(|timeout| (Instant::now(), timeout)))
    }

    /// The remaining time.
    pub(super) fn remaining(&self) -> Option<Duration> {
        let (start, timeout) = self.0?;
        Some(timeout.saturating_sub(start.elapsed()))
    }

    pub(super) fn is_over(&self) -> bool {
        self.remaining() == Some(Duration::ZERO)
    }
}

/// Counts only the time during which the pool polled its sockets.
///
/// If the caller stays away or the process is stopped, the clock advances by a single step, however
/// long that takes: the drivers can't do anything about it, and their bytes wait in the kernel.
#[derive(Debug)]
struct Clock {
    now: Duration,
    looked: Instant,
}

impl Clock {
    fn look(&mut self) -> Instant {
        let now = Instant::now();
        self.now += now.saturating_duration_since(self.looked).min(STEP);
        self.looked = now;
        now
    }
}

/// The poll, the queue for turns, and the clock.
#[derive(Debug)]
pub(super) struct Reactor {
    poll: Poll,
    ready: Events,
    /// Drivers with something to do, each at most once.
    turns: VecDeque<DriverId>,
    clock: Clock,
    judged: Duration,
}

/// The recipient of an event.
pub(super) enum Woken {
    /// A driver, and whether it will send no more bytes.
    Driver(DriverId, bool),
    /// A connection waits at the listener with this number.
    Listener(usize),
}

impl Reactor {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            ready: Events::with_capacity(1024),
            turns: VecDeque::new(),
            clock: Clock {
                now: Duration::ZERO,
                looked: Instant::now(),
            },
            judged: Duration::ZERO,
        })
    }

    /// The time of the last reading of the pool's clock.
    pub(super) const fn now(&self) -> Duration {
        self.clock.now
    }

    /// Reads the pool's clock.
    pub(super) fn look(&mut self) -> Duration {
        self.clock.look();
        self.clock.now
    }

    /// Waits until a socket is ready, at most for `most` and for the caller's remaining time. Does
    /// not wait if a turn is due.
    pub(super) fn wait(&mut self, most: Option<Duration>, limit: &Limit) -> io::Result<()> {
        let timeout = match (self.turns.is_empty(), most, limit.remaining()) {
            (false, ..) => Some(Duration::ZERO),
            (_, Some(most), Some(remaining)) => Some(most.min(remaining)),
            (_, most, remaining) => most.or(remaining),
        };
        match self.poll.poll(&mut self.ready, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => self.ready.clear(),
            result => result?,
        }
        self.clock.look();
        Ok(())
    }

    /// Passes each event to `wake`, which returns whether the driver gets a turn.
    pub(super) fn wake(&mut self, mut wake: impl FnMut(Woken) -> bool) {
        for event in &self.ready {
            let woken = woken(event);
            let driver = match woken {
                Woken::Driver(id, _) => Some(id),
                Woken::Listener(_) => None,
            };
            if wake(woken) {
                self.turns.extend(driver);
            }
        }
        self.ready.clear();
    }

    /// Puts a driver at the end of the queue for turns.
    pub(super) fn schedule(&mut self, id: DriverId) {
        self.turns.push_back(id);
    }

    /// The number of turns in this round.
    pub(super) fn round(&self) -> usize {
        self.turns.len()
    }

    /// The next driver in the queue; `None` if the caller's time is over. `taken` is the number of
    /// turns already taken in this round.
    pub(super) fn next_turn(&mut self, taken: usize, limit: &Limit) -> Option<DriverId> {
        if taken >= LEAST_TURNS && limit.is_over() {
            return None;
        }
        self.turns.pop_front()
    }

    /// Whether it is time to check deadlines.
    pub(super) fn is_time_to_judge(&mut self) -> bool {
        let is_time = self.clock.now >= self.judged + TICK;
        if is_time {
            self.judged = self.clock.now;
        }
        is_time
    }

    pub(super) fn register(
        &self,
        socket: &impl AsRawFd,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        let socket: RawFd = socket.as_raw_fd();
        let registry = self.poll.registry();
        registry.register(&mut SourceFd(&socket), token, interest)
    }

    pub(super) fn reregister(
        &self,
        socket: &impl AsRawFd,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        let socket: RawFd = socket.as_raw_fd();
        let registry = self.poll.registry();
        registry.reregister(&mut SourceFd(&socket), token, interest)
    }

    pub(super) fn deregister(&self, socket: &impl AsRawFd) {
        let socket: RawFd = socket.as_raw_fd();
        let _ = self.poll.registry().deregister(&mut SourceFd(&socket));
    }
}

/// The poll's token for a listener: larger than any driver's.
pub(super) const fn listener_token(index: usize) -> Token {
    Token(usize::MAX - 1 - index)
}

/// More listeners than a process can have descriptors.
const LISTENERS: usize = 1 << 20;

fn woken(event: &Event) -> Woken {
    let token = event.token().0;
    match usize::MAX - 1 - token {
        index if index < LISTENERS => Woken::Listener(index),
        _ => Woken::Driver(
            DriverId(token as u64),
            event.is_read_closed() || event.is_error(),
        ),
    }
}
