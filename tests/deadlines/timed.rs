//! Connections that are watched over: their errors pass, and what they keep for themselves runs into a deadline too; and
//! the watch by hand.

use std::cell::Cell;
use std::future::{pending, ready};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use embedded_io::ErrorKind;
use forcewire::{
    Awaited, Deadline, DeadlineTimer, Deadlines, Error, Exchange, Request, Server, Step, TimedOut,
    asynch, blocking,
};

use crate::common::fake::{Failure, Fake};
use crate::common::*;
use crate::{DEADLINES, HANDSHAKE};

/// The calls of a connection.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Call {
    Read,
    Write,
    Flush,
}

/// A connection of which one call fails each time.
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

/// What comes of the first STATUS over it, on a clock of which each look takes a second.
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

/// A stream for futures that never lets go of what it was given.
struct Kept(Fake);

impl embedded_io_async::ErrorType for Kept {
    type Error = Failure;
}

impl embedded_io_async::Read for Kept {
    async fn read(&mut self, _: &mut [u8]) -> Result<usize, Failure> {
        panic!("it has not left yet")
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

/// A clock that stands still until someone waits for it.
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

/// Of two deadlines that pass at the same moment the message's is told: the nearer cause.
#[test]
fn two_deadlines_at_once() {
    let limit = Some(Duration::from_secs(7));
    let mut watch = DeadlineTimer::new(Deadlines {
        handshake: None,
        message: limit,
        evaluation: limit,
    });
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
