//! Streams that never let the line wait: they have ended, deliver bytes without a pause, or are
//! interrupted all the time. Each call still ends and reports the cause.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use embedded_io::{Error as _, ErrorKind, ErrorType, Read, Write};
use forcewire::asynch::Timer;
use forcewire::line::{Fault, Framing, Line, LineError, Role, State};
use forcewire::potential::Harmonic;
use forcewire::{Deadline, Deadlines, Error, asynch, blocking, serve};

use forcewire_support::fake::Failure;

const PATIENCE: Duration = Duration::from_secs(2);
/// The longest duration of a call.
const LIMIT: Duration = Duration::from_secs(4);

#[derive(Clone, Default)]
struct Clock(Rc<Cell<Duration>>);

impl Clock {
    fn pass(&self, milliseconds: u64) {
        self.0
            .set(self.0.get() + Duration::from_millis(milliseconds));
    }
}

impl Timer for Clock {
    fn now(&mut self) -> Duration {
        self.0.get()
    }

    async fn until(&mut self, at: Duration) {
        poll_fn(|_| match self.0.get() < at {
            true => Poll::Pending,
            false => Poll::Ready(()),
        })
        .await;
    }
}

/// The bytes and the result of a read.
type Reading = Box<dyn FnMut(&mut [u8]) -> Result<usize, ErrorKind>>;

/// A stream that is always ready. Each read takes ten milliseconds, and the number of reads is
/// limited.
struct Stub {
    clock: Clock,
    reading: Reading,
    writing: Result<(), ErrorKind>,
    flushing: Result<(), ErrorKind>,
    reads: usize,
}

impl Stub {
    fn new(
        clock: &Clock,
        reading: impl FnMut(&mut [u8]) -> Result<usize, ErrorKind> + 'static,
    ) -> Self {
        Self {
            clock: clock.clone(),
            reading: Box::new(reading),
            writing: Ok(()),
            flushing: Ok(()),
            reads: 3_000,
        }
    }

    fn board(
        clock: &Clock,
        reading: impl FnMut(&mut [u8]) -> Result<usize, ErrorKind> + 'static,
    ) -> Line<Self, Box<dyn FnMut() -> Duration>> {
        let now = Rc::clone(&clock.0);
        Line::board(Self::new(clock, reading), Box::new(move || now.get()))
    }

    fn come(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        assert!(!buffer.is_empty(), "no room to read into");
        self.reads = self.reads.checked_sub(1).expect("it reads for ever");
        self.clock.pass(10);
        (self.reading)(buffer).map_err(Failure)
    }
}

impl ErrorType for Stub {
    type Error = Failure;
}

impl Read for Stub {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        self.come(buffer)
    }
}

impl Write for Stub {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        self.writing.map(|()| bytes.len()).map_err(Failure)
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.flushing.map_err(Failure)
    }
}

impl embedded_io_async::Read for Stub {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        self.come(buffer)
    }
}

impl embedded_io_async::Write for Stub {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        Write::write(self, bytes)
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        Write::flush(self)
    }
}

/// Runs a future, which must yield to its executor repeatedly. Returns how often it did.
fn carry<T>(future: impl Future<Output = T>, turns: &mut usize) -> T {
    let mut context = Context::from_waker(Waker::noop());
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        *turns += 1;
        assert!(*turns < 10_000, "it waits for ever");
    }
}

/// The results of opening and accepting, blocking and as futures, all within the limit.
fn opened_and_accepted(
    reading: impl FnMut(&mut [u8]) -> Result<usize, ErrorKind> + Clone + 'static,
) -> [(LineError<Failure>, State); 4] {
    let clock = Clock::default();
    let now = || {
        let now = Rc::clone(&clock.0);
        move || now.get()
    };
    let stub = || Stub::new(&clock, reading.clone());
    let mut turns = 0;
    let mut results = Vec::new();
    let mut end = |result: Result<(), _>, framing: &mut Framing| {
        assert!(clock.0.take() <= LIMIT, "it took {:?}", clock.0.get());
        results.push((result.expect_err("no connection"), framing.state()));
    };
    let mut line = Line::board(stub(), now());
    end(line.open(PATIENCE), line.framing());
    let mut line = Line::host(stub(), now());
    end(line.accept(PATIENCE), line.framing());
    let mut line = Line::board(stub(), clock.clone());
    end(carry(line.open_async(PATIENCE), &mut turns), line.framing());
    let mut line = Line::host(stub(), clock.clone());
    end(
        carry(line.accept_async(PATIENCE), &mut turns),
        line.framing(),
    );
    results.try_into().unwrap_or_else(|_| unreachable!())
}

#[test]
fn a_stream_that_has_ended_ends_opening_and_accepting() {
    for (error, state) in opened_and_accepted(|_| Ok(0)) {
        assert_eq!(error, Fault::Gone.into());
        assert_eq!(state, State::Failed(Fault::Gone));
    }
}

#[test]
fn garbage_without_a_pause_ends_opening_and_accepting() {
    for garbage in [0, 1, 0x55, 0xff] {
        for most in [1, 7, 256] {
            let reading = move |buffer: &mut [u8]| {
                let n = buffer.len().min(most);
                buffer[..n].fill(garbage);
                Ok(n)
            };
            for (error, state) in opened_and_accepted(reading) {
                assert_eq!(error, Fault::Silent.into());
                assert_eq!(state, State::Closed);
            }
        }
    }
}

#[test]
fn interruptions_without_end_end_opening_and_accepting() {
    for kind in [ErrorKind::Interrupted, ErrorKind::TimedOut] {
        for (error, state) in opened_and_accepted(move |_| Err(kind)) {
            assert_eq!(error, Fault::Silent.into(), "{kind:?}");
            assert_eq!(state, State::Closed);
        }
    }
}

/// Futures do not block their executor, although the stream is always ready.
#[test]
fn garbage_without_a_pause_leaves_other_tasks_their_turn() {
    let clock = Clock::default();
    let reading = |buffer: &mut [u8]| {
        buffer.fill(0);
        Ok(buffer.len())
    };
    let mut turns = 0;
    let mut line = Line::board(Stub::new(&clock, reading), clock.clone());
    let opened = carry(line.open_async(PATIENCE), &mut turns);
    assert_eq!(opened, Err(Fault::Silent.into()));
    assert!(turns > 1);
}

/// The bytes from a host to a board that opens for the first time: OPENED, and a second later a
/// probe.
fn opened_and_probe() -> [Vec<u8>; 2] {
    let mut board = Framing::new(Role::Board);
    board.open(Duration::ZERO);
    let mut host = Framing::new(Role::Host);
    let open = board.outgoing();
    let n = open.len();
    host.space()[..n].copy_from_slice(open);
    host.received(n, Duration::ZERO);
    host.accept(Duration::ZERO);
    [Duration::ZERO, Duration::from_secs(1)].map(|now| {
        host.elapsed(now);
        let bytes = host.outgoing().to_vec();
        host.sent(bytes.len());
        bytes
    })
}

/// OPENED, then the bytes of `reading`.
fn after_opened(
    mut reading: impl FnMut(&mut [u8]) -> Result<usize, ErrorKind>,
) -> impl FnMut(&mut [u8]) -> Result<usize, ErrorKind> {
    let [mut opened, _] = opened_and_probe();
    move |buffer| match opened.len() {
        0 => reading(buffer),
        n => {
            buffer[..n].copy_from_slice(&opened);
            opened.clear();
            Ok(n)
        }
    }
}

/// OPENED, then probes without a pause.
fn flood() -> impl FnMut(&mut [u8]) -> Result<usize, ErrorKind> {
    let [_, probe] = opened_and_probe();
    after_opened(move |buffer| {
        buffer[..probe.len()].copy_from_slice(&probe);
        Ok(probe.len())
    })
}

#[test]
fn a_flood_of_probes_ends_a_read_and_is_no_fault() {
    let clock = Clock::default();
    let mut line = Stub::board(&clock, flood());
    line.open(PATIENCE).unwrap();
    let start = clock.0.get();
    let error = line.read(&mut [0; 9]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(clock.0.get() - start <= Duration::from_millis(1_100));
    assert_eq!(line.framing().state(), State::Open);
}

#[test]
fn deadlines_hold_under_a_flood_of_probes() {
    let clock = Clock::default();
    let mut line = Stub::board(&clock, flood());
    line.open(PATIENCE).unwrap();
    let deadlines = Deadlines::NONE.handshake(PATIENCE);
    let now = Rc::clone(&clock.0);
    let mut timed = blocking::WithDeadlines::new(&mut line, deadlines, move || now.get());
    match serve::<1>(&mut timed, &mut Harmonic::<f64>::new(0.5)) {
        Err(Error::TimedOut(late)) => assert_eq!(late.deadline, Deadline::Handshake),
        other => panic!("{other:?}"),
    }
}

#[test]
fn deadlines_hold_under_a_flood_of_probes_in_a_future() {
    let clock = Clock::default();
    let mut line = Line::board(Stub::new(&clock, flood()), clock.clone());
    let mut turns = 0;
    carry(line.open_async(PATIENCE), &mut turns).unwrap();
    let deadlines = Deadlines::NONE.handshake(PATIENCE);
    let mut timed = asynch::WithDeadlines::new(&mut line, deadlines, clock.clone());
    let mut potential = Harmonic::<f64>::new(0.5);
    match carry(asynch::serve::<1>(&mut timed, &mut potential), &mut turns) {
        Err(Error::TimedOut(late)) => assert_eq!(late.deadline, Deadline::Handshake),
        other => panic!("{other:?}"),
    }
}

/// A program with a timer whose signal arrives more often than the stream times out.
#[test]
fn interruptions_do_not_stop_the_clock() {
    let clock = Clock::default();
    let mut line = Stub::board(&clock, after_opened(|_| Err(ErrorKind::Interrupted)));
    line.open(PATIENCE).unwrap();
    let ended = loop {
        match line.read(&mut [0; 9]) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            ended => break ended,
        }
    };
    assert_eq!(ended, Err(Fault::Silent.into()));
}

/// Half a frame, a long pause of the program that ends with a signal, and the other half, which has
/// arrived meanwhile.
#[test]
fn an_interruption_after_a_pause_cuts_no_frame() {
    let clock = Clock::default();
    let [_, probe] = opened_and_probe();
    let passing = clock.clone();
    let mut turn = 0;
    let reading = move |buffer: &mut [u8]| {
        turn += 1;
        let half = match turn {
            1 => &probe[..4],
            2 => {
                passing.pass(60_000);
                return Err(ErrorKind::Interrupted);
            }
            3 => &probe[4..],
            _ => return Err(ErrorKind::TimedOut),
        };
        buffer[..half.len()].copy_from_slice(half);
        Ok(half.len())
    };
    let mut line = Stub::board(&clock, after_opened(reading));
    line.open(PATIENCE).unwrap();
    for expected in [ErrorKind::Interrupted, ErrorKind::TimedOut] {
        assert_eq!(line.read(&mut [0; 9]).unwrap_err().kind(), expected);
        assert_eq!(line.framing().state(), State::Open);
    }
}

/// A write or a flush that fails ends the connection as a read does, and is not reported as damage.
#[test]
fn errors_of_writing_and_flushing_say_what_they_are() {
    for (kind, fault) in [
        (ErrorKind::Other, Fault::Stream),
        (ErrorKind::InvalidInput, Fault::Stream),
        (ErrorKind::BrokenPipe, Fault::Gone),
        (ErrorKind::ConnectionReset, Fault::Gone),
    ] {
        for is_flush in [false, true] {
            let clock = Clock::default();
            let mut line = Stub::board(&clock, after_opened(|_| Err(ErrorKind::TimedOut)));
            line.open(PATIENCE).unwrap();
            assert_eq!(line.write(b"never"), Ok(5));
            match is_flush {
                false => line.get_mut().writing = Err(kind),
                true => line.get_mut().flushing = Err(kind),
            }
            assert_eq!(line.flush(), Err(LineError::Stream(Failure(kind))));
            assert_eq!(line.framing().state(), State::Failed(fault), "{kind:?}");
            assert_eq!(line.write(b"x"), Err(fault.into()));
        }
    }
}

/// Unread data may be several frames; all of them make room for the next connection.
#[test]
fn data_that_were_not_read_leave_room() {
    let mut host = Framing::new(Role::Host);
    let mut board = Framing::new(Role::Board);
    let leave = |end: &mut Framing| {
        let bytes = end.outgoing().to_vec();
        end.sent(bytes.len());
        bytes
    };
    let receive = |end: &mut Framing, bytes: &[u8]| {
        end.space()[..bytes.len()].copy_from_slice(bytes);
        end.received(bytes.len(), Duration::ZERO);
    };
    board.open(Duration::ZERO);
    let open = leave(&mut board);
    receive(&mut host, &open);
    host.accept(Duration::ZERO);
    let opened = leave(&mut host);
    receive(&mut board, &opened);
    let mut unread = Vec::new();
    for _ in 0..3 {
        board.put(b"unread");
        board.end_message();
        unread.extend(leave(&mut board));
    }
    board.open(Duration::ZERO);
    let mut coming = vec![leave(&mut board), unread, open];
    let clock = Clock::default();
    let now = Rc::clone(&clock.0);
    let reading = move |buffer: &mut [u8]| {
        let bytes = coming.pop().ok_or(ErrorKind::TimedOut)?;
        buffer[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    };
    let mut line = Line::host(Stub::new(&clock, reading), move || now.get());
    line.accept(PATIENCE).unwrap();
    assert_eq!(line.read(&mut [0; 1]), Ok(1));
    line.accept(PATIENCE).unwrap();
}

/// A stream that sends its bytes only when it is flushed, as a USB serial device does.
struct Buffered {
    kept: Vec<u8>,
    peer: Framing,
    now: Rc<Cell<Duration>>,
}

impl ErrorType for Buffered {
    type Error = Failure;
}

impl Read for Buffered {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        self.now.set(self.now.get() + Duration::from_millis(100));
        self.peer.elapsed(self.now.get());
        self.peer.accept(self.now.get());
        let bytes = self.peer.outgoing();
        let n = bytes.len().min(buffer.len());
        buffer[..n].copy_from_slice(&bytes[..n]);
        self.peer.sent(n);
        match n {
            0 => Err(Failure(ErrorKind::TimedOut)),
            n => Ok(n),
        }
    }
}

impl Write for Buffered {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        self.kept.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        for byte in self.kept.drain(..) {
            self.peer.space()[0] = byte;
            self.peer.received(1, self.now.get());
        }
        Ok(())
    }
}

/// OPEN, answers to probes, and CLOSE after a fault.
#[test]
fn a_stream_that_keeps_bytes_is_flushed() {
    let now = Rc::new(Cell::new(Duration::ZERO));
    let clock = Rc::clone(&now);
    let buffered = Buffered {
        kept: Vec::new(),
        peer: Framing::new(Role::Host),
        now,
    };
    let mut line = Line::board(buffered, move || clock.get());
    line.open(PATIENCE).unwrap();
    line.get_mut()
        .peer
        .set_silence(Some(Duration::from_secs(5)));
    for _ in 0..200 {
        let error = line.read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    }
    line.framing().fail(Fault::Lost);
    assert_eq!(line.read(&mut [0; 1]), Err(Fault::Lost.into()));
    assert_eq!(line.get_mut().peer.state(), State::Failed(Fault::Reported));
}

/// Calls meant for the other role wait until their limit and change nothing.
#[test]
fn the_wrong_role_gets_no_connection() {
    let clock = Clock::default();
    let now = Rc::clone(&clock.0);
    let silent = |_: &mut [u8]| Err(ErrorKind::TimedOut);
    let mut board = Stub::board(&clock, silent);
    board.framing().open(Duration::ZERO);
    assert_eq!(board.accept(PATIENCE), Err(Fault::Silent.into()));
    let mut host = Line::host(Stub::new(&clock, silent), move || now.get());
    assert_eq!(host.open(PATIENCE), Err(Fault::Silent.into()));
    assert_eq!(host.accept(PATIENCE), Err(Fault::Silent.into()));
}
