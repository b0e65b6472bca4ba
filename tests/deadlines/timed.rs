//! Streams with deadlines: temporary errors, deadlines for buffered bytes, and the timer used by
//! hand.

use std::cell::Cell;
use std::future::{pending, ready};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use embedded_io::ErrorKind;
use forcewire::{
    Awaited, Deadline, DeadlineTimer, Deadlines, Driver, Error, Exchange, Request, Server, Step,
    TimedOut, asynch, blocking,
};

use crate::{DEADLINES, HANDSHAKE};
use forcewire_support::fake::{Failure, Fake};
use forcewire_support::*;

/// The calls of a connection.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Call {
    Read,
    Write,
    Flush,
}

/// A connection on which one kind of call always fails.
struct Failing(Call, ErrorKind);

impl Failing {
    fn calls(&self, call: Call) -> Result<(), Failure> {
        if self.0 == call {
            Err(Failure(self.1))
        } else {
            Ok(())
        }
    }
}

impl embedded_io::ErrorType for Failing {
    type Error = Failure;
}

impl embedded_io::Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> Result<usize, Failure> {
        self.calls(Call::Read).map(|()| 0)
    }
}

impl embedded_io::Write for Failing {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        self.calls(Call::Write).map(|()| bytes.len())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.calls(Call::Flush)
    }
}

/// The error of the first STATUS over it, with a clock that advances a second at each reading.
fn status(call: Call, kind: ErrorKind) -> Error<Failure> {
    let seconds = Cell::new(0);
    let clock = || {
        seconds.set(seconds.get() + 1);
        assert!(seconds.get() < 1000, "it waits for ever");
        Duration::from_secs(seconds.get())
    };
    let mut timed = blocking::WithDeadlines::new(Failing(call, kind), DEADLINES, clock);
    blocking::run(&mut timed, Server::new().status()).unwrap_err()
}

#[test]
fn what_is_no_time_out_passes_at_once() {
    for call in [Call::Read, Call::Write, Call::Flush] {
        let kind = ErrorKind::ConnectionReset;
        assert_eq!(
            status(call, kind),
            Error::Transport(Failure(kind)),
            "{call:?}"
        );
    }
}

#[test]
fn a_time_out_is_waited_through_until_the_deadline() {
    for (call, awaited) in [
        (Call::Read, Awaited::Status),
        (Call::Write, Awaited::Taken),
        (Call::Flush, Awaited::Taken),
    ] {
        let error = status(call, ErrorKind::TimedOut);
        let Error::TimedOut(late) = error else {
            panic!("{call:?}: {error:?}");
        };
        assert_eq!(
            (late.deadline, late.awaited),
            (Deadline::Handshake, awaited),
            "{call:?}"
        );
    }
}

/// A stream for futures that never sends its buffered bytes.
struct Kept(Fake);

impl embedded_io_async::ErrorType for Kept {
    type Error = Failure;
}

impl embedded_io_async::Read for Kept {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        ready(embedded_io::Read::read(&mut self.0, buffer)).await
    }
}

impl embedded_io_async::Write for Kept {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        ready(embedded_io::Write::write(&mut self.0, bytes)).await
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        if self.0.owes() {
            pending().await
        } else {
            Ok(())
        }
    }
}

/// A stream that always has more bytes, and a clock that advances by a millisecond with each call.
struct Flood<'a> {
    clock: Rc<Cell<Duration>>,
    bytes: std::iter::Cycle<std::slice::Iter<'a, u8>>,
}

impl Flood<'_> {
    fn tick(&self) {
        self.clock.set(self.clock.get() + Duration::from_millis(1));
        assert!(self.clock.get().as_secs() < 1000, "it goes on for ever");
    }
}

impl embedded_io::ErrorType for Flood<'_> {
    type Error = Failure;
}

impl embedded_io::Read for Flood<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        self.tick();
        for byte in &mut *buffer {
            *byte = *self.bytes.next().unwrap();
        }
        Ok(buffer.len())
    }
}

impl embedded_io::Write for Flood<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}

impl embedded_io_async::Read for Flood<'_> {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        embedded_io::Read::read(self, buffer)
    }
}

impl embedded_io_async::Write for Flood<'_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        Ok(bytes.len())
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}

/// If bytes never stop arriving, the limit runs once more and no longer.
#[test]
fn a_flood_ends() {
    let limit = Duration::from_secs(5);
    let endless = [INIT, &integer(0), &integer(i32::MAX)].concat();
    for (bytes, deadlines, deadline) in [
        (STATUS, Deadlines::NONE.exchange(limit), Deadline::Exchange),
        (&endless, Deadlines::NONE.message(limit), Deadline::Message),
    ] {
        for is_async in [false, true] {
            let clock = Rc::new(Cell::new(Duration::ZERO));
            let bytes = bytes.iter().cycle();
            let flood = Flood {
                clock: Rc::clone(&clock),
                bytes,
            };
            let (mut driver, mut positions) = (Driver::new(), [[0.0; 3]; 1]);
            let receive = driver.receive(&mut positions);
            let result = if is_async {
                let mut timed =
                    asynch::WithDeadlines::new(flood, deadlines, Timer(Rc::clone(&clock)));
                let mut run = pin!(asynch::run(&mut timed, receive));
                loop {
                    let polled = run.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                    if let Poll::Ready(result) = polled {
                        break result;
                    }
                }
            } else {
                let mut timed = blocking::WithDeadlines::new(flood, deadlines, || clock.get());
                blocking::run(&mut timed, receive)
            };
            let Err(Error::TimedOut(late)) = result else {
                panic!("{result:?}");
            };
            assert_eq!((late.deadline, late.limit), (deadline, limit));
            let slack = Duration::from_millis(10);
            assert!(clock.get() < 2 * limit + slack, "{:?}", clock.get());
        }
    }
}

/// Other tasks of the executor have their turn next to a stream that is always ready.
#[test]
fn a_flood_does_not_hold_up_the_executor() {
    let clock = Rc::new(Cell::new(Duration::ZERO));
    let mut flood = Flood {
        clock: Rc::clone(&clock),
        bytes: STATUS.iter().cycle(),
    };
    let (mut driver, mut positions) = (Driver::new(), [[0.0; 3]; 1]);
    let mut receive = driver.receive(&mut positions);
    for poll in 1..=100 {
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let run = pin!(asynch::run(&mut flood, &mut receive));
        assert!(run.poll(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
        assert!(clock.get() <= poll * Duration::from_millis(64));
    }
}

/// The executor also gets its turns while a driver that has refused positions reads the rest of the
/// stream.
#[test]
fn a_flood_that_is_drained_does_not_hold_up_the_executor() {
    let clock = Rc::new(Cell::new(Duration::ZERO));
    let mut posdata = layout::posdata(&[1.0; 9], &[1.0; 9], &[]);
    put_integer(&mut posdata, Posdata::of(0).atoms(), i32::MAX);
    let bytes = [posdata.as_slice(), &[0; 1 << 12]].concat();
    let mut flood = Flood {
        clock: Rc::clone(&clock),
        bytes: bytes.iter().cycle(),
    };
    let mut potential = forcewire::potential::IdealGas::<f64>::new();
    let mut serve = pin!(asynch::serve::<1>(&mut flood, &mut potential));
    for poll in 1..=100 {
        let polled = serve.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
        // The first turn includes the calls of two exchanges.
        assert!(clock.get() <= (poll + 1) * Duration::from_millis(64));
    }
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A clock that moves only while something waits for it.
struct Timer(Rc<Cell<Duration>>);

impl asynch::Timer for Timer {
    fn now(&mut self) -> Duration {
        self.0.get()
    }

    async fn until(&mut self, at: Duration) {
        self.0.set(at);
    }
}

#[test]
fn what_a_stream_keeps_runs_into_a_deadline() {
    let clock = Rc::new(Cell::new(Duration::ZERO));
    let mut timed =
        asynch::WithDeadlines::new(Kept(Fake::new(b"")), DEADLINES, Timer(Rc::clone(&clock)));
    let mut server = Server::new();
    let run = pin!(asynch::run(&mut timed, server.status()));
    let Poll::Ready(result) = run.poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("it waits for ever");
    };
    let Err(Error::TimedOut(late)) = result else {
        panic!("{result:?}");
    };
    assert_eq!(
        (late.deadline, late.awaited),
        (Deadline::Handshake, Awaited::Taken)
    );
    assert_eq!(clock.get(), Duration::from_secs(HANDSHAKE));
}

/// The first flush of a run also has the deadline of a message: READY of the previous run is still
/// buffered.
#[test]
fn what_a_stream_keeps_of_an_earlier_run_runs_into_a_deadline() {
    let clock = Rc::new(Cell::new(Duration::ZERO));
    let limit = Duration::from_secs(5);
    let deadlines = Deadlines::NONE.message(limit);
    let stream = Kept(Fake::new(STATUS));
    let mut timed = asynch::WithDeadlines::new(stream, deadlines, Timer(Rc::clone(&clock)));
    let (mut driver, mut positions) = (Driver::new(), [[0.0; 3]; 1]);
    let mut receive = driver.receive(&mut positions);
    for runs in 1..=3 {
        let run = pin!(asynch::run(&mut timed, &mut receive));
        let Poll::Ready(result) = run.poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("it waits for ever");
        };
        let Err(Error::TimedOut(late)) = result else {
            panic!("{result:?}");
        };
        assert_eq!(
            (late.deadline, late.awaited),
            (Deadline::Message, Awaited::Taken)
        );
        assert_eq!(clock.get(), runs * limit);
    }
}

/// If two deadlines pass at the same time, the message's is reported, because it is the closer
/// cause.
#[test]
fn two_deadlines_at_once() {
    let limit = Duration::from_secs(7);
    let mut watch = DeadlineTimer::new(Deadlines::NONE.message(limit).evaluation(limit));
    let mut server = Server::new();
    assert!(pour(server.status(), &mut { READY }).0.is_ok());
    let (cell, positions) = (water().cell(), water().positions);
    let mut sending = server.send_positions(Request::new(&cell, &positions));
    assert!(matches!(sending.step(), Ok(Step::Write(_))));
    sending.advance(1);
    watch.note(Duration::ZERO, &sending.waits_for());
    let TimedOut {
        deadline, limit, ..
    } = watch.check(Duration::from_secs(7)).unwrap_err();
    assert_eq!(
        (deadline, limit),
        (Deadline::Message, Duration::from_secs(7))
    );
}

/// An exchange that follows an unfinished one has its deadline from its first read on.
#[test]
fn what_follows_an_exchange_that_did_not_end_is_not_awaited_for_ever() {
    let time = Cell::new(Duration::ZERO);
    let clock = || {
        time.set(time.get() + Duration::from_millis(100));
        assert!(time.get() < Duration::from_secs(100), "it goes on for ever");
        time.get()
    };
    let deadlines = Deadlines::NONE
        .message(DEADLINES.message.unwrap())
        .evaluation(DEADLINES.evaluation.unwrap());
    let late = |result: Result<(), Error<Failure>>| match result {
        Err(Error::TimedOut(late)) => late.awaited,
        other => panic!("{other:?}"),
    };
    // The last flush of a reply has failed, and the caller continues.
    let mut driver = Driver::new();
    let (mut positions, answer) = ([[0.0; 3]; 1], golden_answer());
    let mut heard = [&posdata(&golden()), GETFORCE].concat();
    pour(driver.receive(&mut positions), &mut heard.as_slice())
        .0
        .unwrap();
    heard = GETFORCE.to_vec();
    let mut reply = driver.reply(&answer.evaluation, &answer.forces, b"");
    pour_some(&mut reply, &mut heard.as_slice(), usize::MAX);
    drop(reply);
    let mut silent =
        blocking::WithDeadlines::new(Failing(Call::Read, ErrorKind::TimedOut), deadlines, clock);
    let result = blocking::run(&mut silent, driver.receive(&mut positions));
    assert_eq!(late(result.map(drop)), Awaited::Command);

    // EXIT could not be sent, and the caller asks for forces.
    time.set(Duration::ZERO);
    let mut server = Server::new();
    pour(server.status(), &mut &READY[..]).0.unwrap();
    let (cell, mut forces) = (golden().cell(), [[0.0; 3]; 1]);
    let request = Request::new(&cell, &answer.forces);
    pour(server.send_positions(request), &mut &b""[..])
        .0
        .unwrap();
    assert!(matches!(server.exit().step(), Ok(Step::Write(_))));
    let mut silent =
        blocking::WithDeadlines::new(Failing(Call::Read, ErrorKind::TimedOut), deadlines, clock);
    let result = blocking::run(&mut silent, server.get_forces(&mut forces, &mut []));
    assert_eq!(late(result.map(drop)), Awaited::Forces);
}
