//! A peer with a timetable at the other end of each shim, and a clock that moves only while
//! something waits.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use embedded_io::ErrorKind;
use forcewire::smoltcp::poll_by;
use forcewire::{DeadlineTimer, Deadlines, Error, Exchange, TimedOut, asynch, blocking};
use smoltcp::time::Instant;

use forcewire_support::fake::Failure;
use forcewire_support::network::{Host, Hosts};

/// The peer's acts and their times, in seconds.
#[derive(Clone, Default)]
pub struct Peer {
    /// Sends these bytes.
    pub sends: VecDeque<(u64, Vec<u8>)>,
    /// Closes its side.
    pub closes: Option<u64>,
    /// Until then, accepts at most what its buffers hold.
    pub deaf: u64,
}

/// The size of its buffers: part of a message of a few atoms.
const BUFFERS: usize = 60;

impl Peer {
    pub fn sends(mut self, at: u64, bytes: impl AsRef<[u8]>) -> Self {
        self.sends.push_back((at, bytes.as_ref().to_vec()));
        self
    }

    /// Sends these bytes, one a second.
    pub fn dribbles(mut self, from: u64, bytes: &[u8]) -> Self {
        for (at, byte) in (from..).zip(bytes) {
            self = self.sends(at, [*byte]);
        }
        self
    }

    pub fn closes(self, at: u64) -> Self {
        Self {
            closes: Some(at),
            ..self
        }
    }

    pub fn deaf_until(self, deaf: u64) -> Self {
        Self { deaf, ..self }
    }

    /// The time of its next action.
    fn next(&self, now: Duration) -> Option<Duration> {
        let sends = self.sends.iter().map(|(at, _)| *at);
        let times = sends.chain(self.closes).chain([self.deaf]);
        let times = times.map(Duration::from_secs);
        times.filter(|at| *at > now).min()
    }

    /// The bytes that have arrived by now and were not read yet, and whether the end follows them.
    fn read(&mut self, now: Duration, buffer: &mut [u8]) -> Option<usize> {
        let by_now = |at: u64| Duration::from_secs(at) <= now;
        match self.sends.front_mut() {
            Some((at, bytes)) if by_now(*at) => {
                let n = bytes.len().min(buffer.len());
                buffer[..n].copy_from_slice(&bytes[..n]);
                bytes.drain(..n);
                if bytes.is_empty() {
                    self.sends.pop_front();
                }
                Some(n)
            }
            _ => self.closes.filter(|at| by_now(*at)).map(|_| 0),
        }
    }

    /// How many bytes it accepts now, after accepting this many.
    fn room(&self, now: Duration, taken: usize) -> usize {
        if now < Duration::from_secs(self.deaf) {
            BUFFERS.saturating_sub(taken)
        } else {
            usize::MAX
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
pub enum Role {
    Driver,
    Server,
}

/// Our end of a connection.
pub trait Shim {
    /// How late a passed deadline is noticed.
    const LATE: Duration;

    /// The connection is made at second 0.
    fn new(role: Role, deadlines: Deadlines, peer: Peer) -> Self;

    fn now(&self) -> Duration;

    /// Our side does other work for this many seconds.
    fn pass(&mut self, seconds: u64);

    /// Runs an exchange to its end.
    fn run<X: Exchange>(&mut self, exchange: X) -> Result<X::Output, TimedOut>;

    /// All bytes that the peer has received.
    fn said(&mut self) -> Vec<u8>;
}

fn only_late<T, E: fmt::Display>(result: Result<T, Error<E>>) -> Result<T, TimedOut> {
    result.map_err(|error| match error {
        Error::TimedOut(late) => late,
        error => panic!("{error}"),
    })
}

type Clock = Rc<Cell<Duration>>;

/// A stream, blocking or async.
struct Stream {
    clock: Clock,
    peer: Rc<RefCell<Peer>>,
    said: Rc<RefCell<Vec<u8>>>,
}

impl Stream {
    fn try_read(&mut self, buffer: &mut [u8]) -> Option<usize> {
        self.peer.borrow_mut().read(self.clock.get(), buffer)
    }

    fn try_write(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut said = self.said.borrow_mut();
        let room = self.peer.borrow().room(self.clock.get(), said.len());
        let n = bytes.len().min(room);
        said.extend(&bytes[..n]);
        (n > 0).then_some(n)
    }

    /// Waits for the peer, but only briefly.
    fn tick(&mut self) -> Result<(), Failure> {
        let now = self.clock.get();
        match self.peer.borrow().next(now) {
            Some(next) if next <= now + TICK => {
                self.clock.set(next);
                Ok(())
            }
            _ => {
                self.clock.set(now + TICK);
                Err(Failure(ErrorKind::TimedOut))
            }
        }
    }
}

/// The time-out of a blocking call.
const TICK: Duration = Duration::from_millis(70);

impl embedded_io::ErrorType for Stream {
    type Error = Failure;
}

impl embedded_io::Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        loop {
            match self.try_read(buffer) {
                Some(n) => return Ok(n),
                None => self.tick()?,
            }
        }
    }
}

impl embedded_io::Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        loop {
            match self.try_write(bytes) {
                Some(n) => return Ok(n),
                None => self.tick()?,
            }
        }
    }

    fn flush(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}

pub struct Blocking {
    clock: Clock,
    said: Rc<RefCell<Vec<u8>>>,
    timed: blocking::WithDeadlines<Stream, Box<dyn FnMut() -> Duration>>,
}

impl Shim for Blocking {
    // A read that began before the deadline may end after it, and the next one still tries.
    const LATE: Duration = Duration::from_millis(2 * 70);

    fn new(_: Role, deadlines: Deadlines, peer: Peer) -> Self {
        let (clock, said) = (Clock::default(), Rc::default());
        let stream = Stream {
            clock: Rc::clone(&clock),
            peer: Rc::new(peer.into()),
            said: Rc::clone(&said),
        };
        let time = Rc::clone(&clock);
        // The clock may start at any time.
        let now = Box::new(move || Duration::from_secs(1_000_000) + time.get());
        let timed = blocking::WithDeadlines::new(stream, deadlines, now as Box<_>);
        Self { clock, said, timed }
    }

    fn now(&self) -> Duration {
        self.clock.get()
    }

    fn pass(&mut self, seconds: u64) {
        self.clock.set(self.now() + Duration::from_secs(seconds));
    }

    fn run<X: Exchange>(&mut self, exchange: X) -> Result<X::Output, TimedOut> {
        only_late(blocking::run(&mut self.timed, exchange))
    }

    fn said(&mut self) -> Vec<u8> {
        self.said.borrow().clone()
    }
}

/// The same stream for futures, which are dropped after each wait and recreated.
struct Slow(Stream);

impl embedded_io_async::ErrorType for Slow {
    type Error = Failure;
}

impl embedded_io_async::Read for Slow {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        poll_fn(|_| match self.0.try_read(buffer) {
            Some(n) => Poll::Ready(Ok(n)),
            None => Poll::Pending,
        })
        .await
    }
}

impl embedded_io_async::Write for Slow {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        poll_fn(|_| match self.0.try_write(bytes) {
            Some(n) => Poll::Ready(Ok(n)),
            None => Poll::Pending,
        })
        .await
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}

/// Tells the executor when to wake it.
struct Timer {
    clock: Clock,
    alarm: Rc<Cell<Option<Duration>>>,
}

impl asynch::Timer for Timer {
    fn now(&mut self) -> Duration {
        self.clock.get()
    }

    async fn until(&mut self, at: Duration) {
        poll_fn(|_| {
            self.alarm.set(Some(at));
            if self.clock.get() < at {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
    }
}

pub struct Asynch {
    clock: Clock,
    alarm: Rc<Cell<Option<Duration>>>,
    peer: Rc<RefCell<Peer>>,
    said: Rc<RefCell<Vec<u8>>>,
    timed: asynch::WithDeadlines<Slow, Timer>,
}

impl Shim for Asynch {
    const LATE: Duration = Duration::from_nanos(1);

    fn new(_: Role, deadlines: Deadlines, peer: Peer) -> Self {
        let (clock, alarm) = (Clock::default(), Rc::new(Cell::default()));
        let (peer, said) = (Rc::new(RefCell::new(peer)), Rc::default());
        let stream = Slow(Stream {
            clock: Rc::clone(&clock),
            peer: Rc::clone(&peer),
            said: Rc::clone(&said),
        });
        let timer = Timer {
            clock: Rc::clone(&clock),
            alarm: Rc::clone(&alarm),
        };
        let timed = asynch::WithDeadlines::new(stream, deadlines, timer);
        Self {
            clock,
            alarm,
            peer,
            said,
            timed,
        }
    }

    fn now(&self) -> Duration {
        self.clock.get()
    }

    fn pass(&mut self, seconds: u64) {
        self.clock.set(self.now() + Duration::from_secs(seconds));
    }

    fn run<X: Exchange>(&mut self, mut exchange: X) -> Result<X::Output, TimedOut> {
        let mut context = Context::from_waker(Waker::noop());
        loop {
            self.alarm.set(None);
            // The future is dropped after each poll, but the time of its wait still counts.
            let polled = pin!(asynch::run(&mut self.timed, &mut exchange)).poll(&mut context);
            if let Poll::Ready(result) = polled {
                return only_late(result);
            }
            let now = self.clock.get();
            let next = self.peer.borrow().next(now);
            let next = next.into_iter().chain(self.alarm.get()).min();
            self.clock.set(next.expect("it waits for ever"));
        }
    }

    fn said(&mut self) -> Vec<u8> {
        self.said.borrow().clone()
    }
}

/// A smoltcp socket at each end; the peer's has small rings.
pub struct Rings {
    hosts: Hosts,
    role: Role,
    peer: Peer,
    said: Vec<u8>,
    watch: DeadlineTimer,
}

impl Rings {
    fn ends(&mut self) -> (&mut Host, &mut Host) {
        match self.role {
            Role::Driver => (&mut self.hosts.driver, &mut self.hosts.server),
            Role::Server => (&mut self.hosts.server, &mut self.hosts.driver),
        }
    }

    /// The peer takes its next step.
    fn play(&mut self) {
        let (now, mut peer) = (self.now(), std::mem::take(&mut self.peer));
        let (_, host) = self.ends();
        let socket = host.socket();
        let mut buffer = [0; 256];
        while socket.can_send() && socket.send_capacity() - socket.send_queue() >= buffer.len() {
            match peer.read(now, &mut buffer) {
                Some(n @ 1..) => assert_eq!(socket.send_slice(&buffer[..n]), Ok(n)),
                Some(_) => socket.close(),
                None => break,
            }
        }
        let mut heard = Vec::new();
        while socket.can_recv() && peer.room(now, 0) > BUFFERS {
            let take = |bytes: &mut [u8]| (bytes.len(), bytes.to_vec());
            heard.extend(socket.recv(take).unwrap());
        }
        self.said.extend(heard);
        self.peer = peer;
    }
}

impl Shim for Rings {
    const LATE: Duration = Duration::from_nanos(1);

    fn new(role: Role, deadlines: Deadlines, peer: Peer) -> Self {
        let (ours, theirs) = ((100, 30), (30, 4096));
        let hosts = match role {
            Role::Driver => Hosts::new(theirs, ours, 0),
            Role::Server => Hosts::new(ours, theirs, 0),
        };
        assert_eq!(hosts.now, Instant::ZERO);
        Self {
            hosts,
            role,
            peer,
            said: Vec::new(),
            watch: DeadlineTimer::new(deadlines),
        }
    }

    fn now(&self) -> Duration {
        (self.hosts.now - Instant::ZERO).into()
    }

    fn pass(&mut self, seconds: u64) {
        // Poll the interface.
        self.said();
        self.hosts.now += smoltcp::time::Duration::from_secs(seconds);
    }

    fn run<X: Exchange>(&mut self, mut exchange: X) -> Result<X::Output, TimedOut> {
        loop {
            self.play();
            // Move frames first: at a call after the deadline everything may have arrived.
            for _ in 0..2 {
                self.hosts.turn_until(Some(self.hosts.now));
            }
            let (now, watch) = (self.now(), &mut self.watch.clone());
            let (host, _) = self.ends();
            let polled = poll_by(host.socket(), &mut exchange, watch, now);
            self.watch = *watch;
            if let Poll::Ready(output) = only_late(polled)? {
                return Ok(output);
            }
            let next = self
                .peer
                .next(now)
                .into_iter()
                .chain(self.watch.due())
                .min();
            let next = next.expect("it waits for ever").as_micros();
            self.hosts
                .turn_until(Some(Instant::from_micros(i64::try_from(next).unwrap())));
        }
    }

    fn said(&mut self) -> Vec<u8> {
        for _ in 0..100 {
            self.hosts.turn_until(Some(self.hosts.now));
            self.play();
        }
        self.said.clone()
    }
}
