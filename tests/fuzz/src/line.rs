//! A `Line` and its peer over a wire that flips, drops, doubles and adds bytes, with callers that
//! drop futures and repeat calls. The data read equal the data written in the same connection, and
//! both ends finish in the same state.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use embedded_io::{Error as _, ErrorKind, ErrorType, Read, Write};
use forcewire::asynch::Timer;
use forcewire::line::{Fault, Framing, Line, LineError, Role, State};

use super::choices::Choices;
use super::framing::framing;

/// The first byte chooses between one end with arbitrary calls, and a conversation over a damaged
/// wire, blocking or async.
pub fn line(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let what = choices.byte();
    if what & 1 == 1 {
        return framing(&mut choices);
    }
    let role = match what & 2 {
        0 => Role::Board,
        _ => Role::Host,
    };
    let world = Rc::new(RefCell::new(World::new(choices, role)));
    let stub = Stub(Rc::clone(&world));
    let clock = Rc::clone(&world);
    let blocking_clock = move || clock.borrow().now;
    match (what & 4, role) {
        (0, Role::Board) => converse(&world, &mut Line::board(stub, blocking_clock)),
        (0, Role::Host) => converse(&world, &mut Line::host(stub, blocking_clock)),
        (_, Role::Board) => {
            let line = Line::board(stub, Clock(Rc::clone(&world)));
            let futures = &mut Futures {
                line,
                world: Rc::clone(&world),
            };
            converse(&world, futures);
        }
        (_, Role::Host) => {
            let line = Line::host(stub, Clock(Rc::clone(&world)));
            let futures = &mut Futures {
                line,
                world: Rc::clone(&world),
            };
            converse(&world, futures);
        }
    }
}

/// How many bytes of a connection an end has written, flushed and read.
#[derive(Clone, Copy, Default)]
struct Count {
    written: usize,
    flushed: usize,
    read: usize,
}

/// The line's surroundings: the behaviour of its stream, its clock, and its peer.
struct World<'a> {
    choices: Choices<'a>,
    now: Duration,
    role: Role,
    peer: Framing,
    to_line: VecDeque<u8>,
    to_peer: VecDeque<u8>,
    /// The counts of each connection, for the line and for its peer.
    line_counts: Vec<Count>,
    peer_counts: Vec<Count>,
    /// How many calls of the stream the last call of the line has made.
    calls: usize,
    /// Whether the peer connects again after the end of a connection.
    connects: bool,
}

/// Byte `i` of what an end writes in a connection.
fn pattern(role: Role, session: u8, i: usize) -> u8 {
    let salt = if role == Role::Board { 3 } else { 5 };
    ((i * i) >> 3) as u8 ^ (i as u8).wrapping_mul(salt) ^ session.wrapping_mul(37)
}

/// Compares the bytes read at `reader` with those that `writer` has written.
fn compare(bytes: &[u8], role: Role, session: u8, reader: &mut [Count], writer: &[Count]) {
    let count = &mut reader[usize::from(session)];
    for &byte in bytes {
        assert_eq!(byte, pattern(role, session, count.read), "a wrong payload");
        count.read += 1;
    }
    let written = writer[usize::from(session)].written;
    assert!(count.read <= written, "{} of {written} bytes", count.read);
}

impl<'a> World<'a> {
    fn new(choices: Choices<'a>, role: Role) -> Self {
        let peer = match role {
            Role::Board => Role::Host,
            Role::Host => Role::Board,
        };
        Self {
            choices,
            now: Duration::from_secs(100),
            role,
            peer: Framing::new(peer),
            to_line: VecDeque::new(),
            to_peer: VecDeque::new(),
            line_counts: vec![Count::default(); 256],
            peer_counts: vec![Count::default(); 256],
            calls: 0,
            connects: true,
        }
    }

    /// The peer reads, connects and sends.
    fn step(&mut self) {
        loop {
            let space = self.peer.space();
            let n = space.len().min(self.to_peer.len());
            if n == 0 {
                break;
            }
            for (to, from) in space.iter_mut().zip(self.to_peer.drain(..n)) {
                *to = from;
            }
            self.peer.received(n, self.now);
            while !self.peer.data().is_empty() {
                let session = self.peer.session();
                let (reader, writer) = (&mut self.peer_counts, &self.line_counts);
                compare(self.peer.data(), self.role, session, reader, writer);
                self.peer.consume(usize::MAX);
            }
        }
        self.peer.elapsed(self.now);
        match (self.peer.state(), self.peer.role()) {
            (State::Opening, Role::Host) => self.peer.accept(self.now),
            (State::Closed | State::Failed(_), Role::Board) if self.connects => {
                self.peer.open(self.now);
            }
            _ => {}
        }
        self.send();
    }

    fn send(&mut self) {
        loop {
            let bytes = self.peer.outgoing().to_vec();
            if bytes.is_empty() {
                return;
            }
            self.peer.sent(bytes.len());
            let carried = damaged(&bytes, &mut self.choices);
            self.to_line.extend(carried);
        }
    }

    /// The peer writes a message or a part of one.
    fn say(&mut self, len: usize) {
        let session = self.peer.session();
        let count = self.peer_counts[usize::from(session)];
        let from = count.written;
        let bytes = from..from + len;
        let bytes: Vec<u8> = bytes
            .map(|i| pattern(self.peer.role(), session, i))
            .collect();
        let mut rest = &bytes[..];
        while self.peer.state() == State::Open && !rest.is_empty() {
            let n = self.peer.put(rest);
            rest = &rest[n..];
            self.peer_counts[usize::from(session)].written += n;
            self.send();
        }
        self.peer.end_message();
        if self.peer.state() == State::Open {
            let count = &mut self.peer_counts[usize::from(session)];
            count.flushed = count.written;
        }
        self.send();
    }

    /// The result of a stream's call that does not move all bytes: an error, or how many it moves.
    fn most(&mut self) -> Poll<Result<usize, ErrorKind>> {
        self.calls += 1;
        assert!(self.calls < 5_000, "it calls for ever");
        Poll::Ready(match self.choices.byte() {
            0xf0..=0xf3 => Err(ErrorKind::Interrupted),
            0xf4..=0xf7 => Err(ErrorKind::TimedOut),
            0xf8..=0xfb => return Poll::Pending,
            0xfc => Err(ErrorKind::Other),
            0xe0..=0xe7 => Ok(1),
            0xe8..=0xef => Ok(7),
            _ => Ok(usize::MAX),
        })
    }

    fn read(&mut self, buffer: &mut [u8]) -> Poll<Result<usize, ErrorKind>> {
        assert!(!buffer.is_empty());
        let Poll::Ready(most) = self.most()? else {
            return Poll::Pending;
        };
        self.step();
        let n = buffer.len().min(self.to_line.len()).min(most);
        for (to, from) in buffer.iter_mut().zip(self.to_line.drain(..n)) {
            *to = from;
        }
        if n == 0 {
            return Poll::Pending;
        }
        Poll::Ready(Ok(n))
    }

    fn write(&mut self, bytes: &[u8]) -> Poll<Result<usize, ErrorKind>> {
        assert!(!bytes.is_empty());
        let Poll::Ready(most) = self.most()? else {
            return Poll::Pending;
        };
        let n = bytes.len().min(most);
        let carried = damaged(&bytes[..n], &mut self.choices);
        self.to_peer.extend(carried);
        Poll::Ready(Ok(n))
    }

    /// Lets time pass when a call would block.
    fn wait(&mut self) {
        self.now += Duration::from_millis(100);
    }
}

/// The bytes as they arrive after the wire has damaged them.
fn damaged(bytes: &[u8], choices: &mut Choices<'_>) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let what = choices.byte();
    if what < 0xe0 {
        return bytes;
    }
    let at = choices.below(bytes.len());
    match what % 8 {
        0 | 1 => bytes[at] ^= 1 << choices.below(8),
        2 => drop(bytes.remove(at)),
        3 => bytes.insert(at, bytes[at]),
        4 => bytes.insert(at, choices.byte()),
        5 => bytes.truncate(at),
        6 => drop(bytes.drain(..at)),
        // Send everything a second time, which may be a complete frame.
        _ => bytes.extend_from_within(..),
    }
    bytes
}

#[derive(Clone)]
struct Stub<'a>(Rc<RefCell<World<'a>>>);

impl ErrorType for Stub<'_> {
    type Error = ErrorKind;
}

impl Stub<'_> {
    /// A call that blocks until the stream's own time-out.
    fn block<T>(&self, poll: Poll<Result<T, ErrorKind>>) -> Result<T, ErrorKind> {
        match poll {
            Poll::Ready(result) => result,
            Poll::Pending => {
                self.0.borrow_mut().wait();
                Err(ErrorKind::TimedOut)
            }
        }
    }
}

impl Read for Stub<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        let poll = self.0.borrow_mut().read(buffer);
        self.block(poll)
    }
}

impl Write for Stub<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        let poll = self.0.borrow_mut().write(bytes);
        self.block(poll)
    }

    fn flush(&mut self) -> Result<(), ErrorKind> {
        let poll = self.0.borrow_mut().most();
        self.block(poll).map(drop)
    }
}

impl embedded_io_async::Read for Stub<'_> {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        poll_fn(|_| self.0.borrow_mut().read(buffer)).await
    }
}

impl embedded_io_async::Write for Stub<'_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        poll_fn(|_| self.0.borrow_mut().write(bytes)).await
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        poll_fn(|_| self.0.borrow_mut().most()).await.map(drop)
    }
}

struct Clock<'a>(Rc<RefCell<World<'a>>>);

impl Timer for Clock<'_> {
    fn now(&mut self) -> Duration {
        self.0.borrow().now
    }

    async fn until(&mut self, at: Duration) {
        poll_fn(|_| match self.0.borrow().now < at {
            true => Poll::Pending,
            false => Poll::Ready(()),
        })
        .await;
    }
}

type Called<T> = Result<T, LineError<ErrorKind>>;

/// The calls of a line; `None` means that a future was dropped.
trait Calls {
    fn framing(&mut self) -> &mut Framing;
    fn connect(&mut self, patience: Duration) -> Option<Called<()>>;
    fn close(&mut self) -> Option<Called<()>>;
    fn read(&mut self, buffer: &mut [u8]) -> Option<Called<usize>>;
    fn write(&mut self, bytes: &[u8]) -> Option<Called<usize>>;
    fn flush(&mut self) -> Option<Called<()>>;
}

impl<C: FnMut() -> Duration> Calls for Line<Stub<'_>, C> {
    fn framing(&mut self) -> &mut Framing {
        self.framing()
    }

    fn connect(&mut self, patience: Duration) -> Option<Called<()>> {
        Some(match self.framing().role() {
            Role::Board => self.open(patience),
            Role::Host => self.accept(patience),
        })
    }

    fn close(&mut self) -> Option<Called<()>> {
        Some(self.close())
    }

    fn read(&mut self, buffer: &mut [u8]) -> Option<Called<usize>> {
        Some(Read::read(self, buffer))
    }

    fn write(&mut self, bytes: &[u8]) -> Option<Called<usize>> {
        Some(Write::write(self, bytes))
    }

    fn flush(&mut self) -> Option<Called<()>> {
        Some(Write::flush(self))
    }
}

struct Futures<'a> {
    line: Line<Stub<'a>, Clock<'a>>,
    world: Rc<RefCell<World<'a>>>,
}

/// Polls a future as many times as chosen, then drops it.
fn poll<T>(world: &Rc<RefCell<World<'_>>>, future: impl Future<Output = T>) -> Option<T> {
    let turns = match world.borrow_mut().choices.byte() {
        0 => 50,
        n => usize::from(n >> 3),
    };
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..=turns {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        world.borrow_mut().wait();
    }
    None
}

impl Calls for Futures<'_> {
    fn framing(&mut self) -> &mut Framing {
        self.line.framing()
    }

    fn connect(&mut self, patience: Duration) -> Option<Called<()>> {
        match self.line.framing().role() {
            Role::Board => poll(&self.world, self.line.open_async(patience)),
            Role::Host => poll(&self.world, self.line.accept_async(patience)),
        }
    }

    fn close(&mut self) -> Option<Called<()>> {
        poll(&self.world, self.line.close_async())
    }

    fn read(&mut self, buffer: &mut [u8]) -> Option<Called<usize>> {
        let read = embedded_io_async::Read::read(&mut self.line, buffer);
        poll(&self.world, read)
    }

    fn write(&mut self, bytes: &[u8]) -> Option<Called<usize>> {
        let write = embedded_io_async::Write::write(&mut self.line, bytes);
        poll(&self.world, write)
    }

    fn flush(&mut self) -> Option<Called<()>> {
        let flush = embedded_io_async::Write::flush(&mut self.line);
        poll(&self.world, flush)
    }
}

fn converse(world: &Rc<RefCell<World<'_>>>, line: &mut impl Calls) {
    // The connections that this end has given up.
    let mut given_up = [false; 256];
    loop {
        let mut now = world.borrow_mut();
        // Calls begin at every other byte, so that inputs can be written by hand.
        if now.choices.0.len() % 2 == 1 {
            now.choices.byte();
        }
        if now.choices.is_empty() {
            break;
        }
        let (what, n) = (now.choices.below(12), usize::from(now.choices.byte()));
        // Stop before the session numbers start again.
        let is_late = now.peer.session().max(line.framing().session()) > 200;
        now.connects &= !is_late;
        now.calls = 0;
        drop(now);
        let session = usize::from(line.framing().session());
        match what {
            0 => world.borrow_mut().now += Duration::from_millis(50 * n as u64),
            1 => read(world, line, 1 + n, &given_up),
            2 | 3 => write(world, line, 1 + 2 * n),
            4 => flush(world, line),
            5 | 6 if !is_late => {
                let connected = line.connect(Duration::from_secs(n as u64 % 4));
                let is_another = usize::from(line.framing().session()) != session;
                given_up[session] |= is_another || line.framing().state() != State::Open;
                check(line, connected);
            }
            7 => {
                given_up[session] = true;
                let closed = line.close();
                assert_ne!(line.framing().state(), State::Open);
                check(line, closed);
            }
            8 => world.borrow_mut().say(1 + 2 * n),
            9 => world.borrow_mut().peer.close(),
            10 => {
                let mut world = world.borrow_mut();
                for _ in 0..n {
                    let byte = world.choices.byte();
                    world.to_line.push_back(byte);
                }
            }
            _ => line.framing().fail(Fault::Lost),
        }
        world.borrow_mut().step();
    }
    ends(world, line, &given_up);
}

/// From here on nothing is damaged and both ends read. Checks that they agree in the end: either
/// neither has an open connection, or both do and all bytes that were flushed have been read.
fn ends(world: &Rc<RefCell<World<'_>>>, line: &mut impl Calls, given_up: &[bool; 256]) {
    let silence = Some(Duration::from_secs(10));
    line.framing().set_silence(silence);
    world.borrow_mut().peer.set_silence(silence);
    world.borrow_mut().connects = false;
    let end = world.borrow().now + Duration::from_secs(25);
    while world.borrow().now < end {
        world.borrow_mut().calls = 0;
        flush(world, line);
        read(world, line, 256, given_up);
        world.borrow_mut().wait();
        world.borrow_mut().step();
    }
    let world = world.borrow();
    let states = [line.framing().state(), world.peer.state()];
    if states == [State::Open; 2] {
        let session = line.framing().session();
        assert_eq!(session, world.peer.session());
        let [here, there] =
            [&world.line_counts, &world.peer_counts].map(|c| c[usize::from(session)]);
        assert_eq!(here.read, there.flushed, "something has not come");
        assert_eq!(there.read, here.flushed, "something has not come");
    } else {
        assert!(!states.contains(&State::Open), "{states:?}");
    }
}

/// Errors are those that were chosen, and after a fault there is no connection.
fn check<T>(line: &mut impl Calls, called: Option<Called<T>>) -> Option<T> {
    let error = match called? {
        Ok(value) => return Some(value),
        Err(error) => error,
    };
    let passes = matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::Interrupted);
    assert_ne!(error, LineError::WriteZero);
    assert!(passes || line.framing().state() != State::Open, "{error}");
    None
}

fn read(world: &Rc<RefCell<World<'_>>>, line: &mut impl Calls, len: usize, given_up: &[bool; 256]) {
    let mut buffer = vec![0; len];
    // After the last data of a connection the board may have requested the next one.
    let session = line.framing().session();
    let came = line.read(&mut buffer);
    let Some(n) = check(line, came) else {
        return;
    };
    let mut world = world.borrow_mut();
    let world = &mut *world;
    let (reader, writer) = (&mut world.line_counts, &world.peer_counts);
    let role = world.peer.role();
    compare(&buffer[..n], role, session, reader, writer);
    if n == 0 && !given_up[usize::from(session)] {
        // Everything that was flushed before the peer closed.
        let [here, there] = [reader, writer].map(|counts| counts[usize::from(session)]);
        assert!(here.read >= there.flushed, "the end comes too early");
    }
}

fn write(world: &Rc<RefCell<World<'_>>>, line: &mut impl Calls, len: usize) {
    let session = line.framing().session();
    let role = line.framing().role();
    let from = world.borrow().line_counts[usize::from(session)].written;
    let bytes: Vec<u8> = (from..from + len)
        .map(|i| pattern(role, session, i))
        .collect();
    let taken = line.write(&bytes);
    if let Some(n) = check(line, taken) {
        assert!(n > 0);
        world.borrow_mut().line_counts[usize::from(session)].written += n;
    }
}

fn flush(world: &Rc<RefCell<World<'_>>>, line: &mut impl Calls) {
    let flushed = line.flush();
    if check(line, flushed).is_some() && line.framing().state() == State::Open {
        let session = usize::from(line.framing().session());
        let count = &mut world.borrow_mut().line_counts[session];
        count.flushed = count.written;
    }
}
