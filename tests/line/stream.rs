//! A `Line` as a stream: complete drivers and servers over it, and its errors.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use embedded_io::{Error as _, ErrorKind, ErrorType, Read, Write};
use forcewire::line::{Fault, Line, LineError, State};
use forcewire::potential::Harmonic;
use forcewire::{Cell, Deadline, Deadlines, Error, Request, Server, blocking, serve};

use forcewire_support::fake::Failure;

const SECONDS: Duration = Duration::from_secs(20);

/// An end of a pair, which times out every 10 ms.
pub struct End {
    out: Sender<u8>,
    inbox: Receiver<u8>,
    /// The sent byte with this number is changed.
    pub flips: Option<usize>,
    sent: usize,
}

pub fn pair() -> (End, End) {
    let ((a, b), (c, d)) = (mpsc::channel(), mpsc::channel());
    let end = |out, inbox| End {
        out,
        inbox,
        flips: None,
        sent: 0,
    };
    (end(a, d), end(c, b))
}

impl ErrorType for End {
    type Error = Failure;
}

impl Read for End {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        match self.inbox.recv_timeout(Duration::from_millis(10)) {
            Ok(byte) => buffer[0] = byte,
            Err(RecvTimeoutError::Timeout) => return Err(Failure(ErrorKind::TimedOut)),
            Err(RecvTimeoutError::Disconnected) => return Ok(0),
        }
        let rest = buffer[1..].iter_mut().zip(self.inbox.try_iter());
        Ok(1 + rest.map(|(to, from)| *to = from).count())
    }
}

impl Write for End {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        let taken = &bytes[..bytes.len().min(100)];
        for &byte in taken {
            let flip = u8::from(self.flips == Some(self.sent));
            let _ = self.out.send(byte ^ flip);
            self.sent += 1;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}

/// A UART with an overrun at each read.
struct Overrun;

impl ErrorType for Overrun {
    type Error = Failure;
}

impl Read for Overrun {
    fn read(&mut self, _: &mut [u8]) -> Result<usize, Failure> {
        Err(Failure(ErrorKind::Other))
    }
}

impl Write for Overrun {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}

/// The cable is not the cause.
#[test]
fn an_error_of_the_stream_is_not_called_damage() {
    let mut line = Line::board(Overrun, clock());
    let opened = line.open(SECONDS);
    assert!(matches!(opened, Err(LineError::Stream(_))), "{opened:?}");
    assert_eq!(line.framing().state(), State::Failed(Fault::Stream));
}

/// An end whose write with this number times out before anything was sent.
struct Stalls(End, usize);

impl ErrorType for Stalls {
    type Error = Failure;
}

impl Read for Stalls {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        self.0.read(buffer)
    }
}

impl Write for Stalls {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        match self.1.checked_sub(1) {
            Some(rest) => self.1 = rest,
            None => {
                self.1 = usize::MAX;
                return Err(Failure(ErrorKind::TimedOut));
            }
        }
        self.0.write(bytes)
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.0.flush()
    }
}

/// The first bytes from a host end an earlier connection; the next ones accept.
#[test]
fn accepting_is_made_again_after_any_write_that_timed_out() {
    for write in 0..3 {
        let (board, host) = pair();
        let mut board = Line::board(board, clock());
        let mut host = Line::host(Stalls(host, write), clock());
        thread::scope(|scope| {
            scope.spawn(|| {
                board.open(SECONDS).unwrap();
                board.write_all(b"from the board").unwrap();
                board.flush().unwrap();
            });
            let again = |opened: &Result<(), LineError<Failure>>| matches!(opened, Err(error) if error.kind() == ErrorKind::TimedOut);
            let mut accepted = host.accept(SECONDS);
            assert_eq!(again(&accepted), write < 2, "{write}: {accepted:?}");
            if again(&accepted) {
                accepted = host.accept(SECONDS);
            }
            accepted.unwrap();
            let mut came: Vec<u8> = Vec::new();
            while came.len() < 14 {
                let mut piece = [0; 14];
                match host.read(&mut piece) {
                    Ok(n) => came.extend(&piece[..n]),
                    // The board may take its time.
                    Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}"),
                }
            }
            assert_eq!(came, b"from the board", "{write}");
        });
    }
}

/// A stream that always delivers the same: the end of the stream, or noise.
struct Endless(&'static [u8]);

impl ErrorType for Endless {
    type Error = Failure;
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        let n = self.0.len().min(buffer.len());
        buffer[..n].copy_from_slice(&self.0[..n]);
        Ok(n)
    }
}

impl Write for Endless {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}

/// Such a stream has no time-outs, but the call must end.
#[test]
fn a_call_ends_on_a_stream_that_has_ended_or_never_pauses() {
    let patience = Duration::from_millis(100);
    for (bytes, fault) in [(&b""[..], Fault::Gone), (b"noise\0", Fault::Silent)] {
        let mut board = Line::board(Endless(bytes), clock());
        assert_eq!(board.open(patience), Err(fault.into()));
        let mut host = Line::host(Endless(bytes), clock());
        assert_eq!(host.accept(patience), Err(fault.into()));
    }
}

fn clock() -> impl FnMut() -> Duration {
    let start = Instant::now();
    move || start.elapsed()
}

/// Lines with an open connection.
fn lines() -> (
    Line<End, impl FnMut() -> Duration>,
    Line<End, impl FnMut() -> Duration>,
) {
    let (board, host) = pair();
    let (mut board, mut host) = (Line::board(board, clock()), Line::host(host, clock()));
    thread::scope(|scope| {
        scope.spawn(|| host.accept(SECONDS).unwrap());
        board.open(SECONDS).unwrap();
    });
    (board, host)
}

/// Reads until the result is not a time-out.
fn read<S: Read>(line: &mut S, buffer: &mut [u8]) -> Result<usize, S::Error> {
    loop {
        match line.read(buffer) {
            Err(error) if error.kind() == ErrorKind::TimedOut => {}
            result => return result,
        }
    }
}

#[test]
fn a_whole_driver_serves_over_a_line() {
    let (mut board, mut host) = lines();
    let cell = Cell::orthorhombic([20.0; 3]);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut timed = blocking::WithDeadlines::new(&mut board, Deadlines::NONE, clock());
            serve::<64>(&mut timed, &mut Harmonic::<f64>::new(0.5)).unwrap();
            board.close().unwrap();
        });
        let mut timed = blocking::WithDeadlines::new(&mut host, Deadlines::default(), clock());
        let mut server = Server::new();
        for step in [1.0, 0.1, 0.01] {
            let positions: [_; 64] = core::array::from_fn(|i| [i as f64 * step, 0.25, -1.0]);
            let mut forces = [[0.0; 3]; 64];
            let request = Request::new(&cell, &positions);
            let evaluate = server.evaluate(request, &mut forces, &mut []);
            blocking::run(&mut timed, evaluate).unwrap();
            assert_eq!(forces, positions.map(|r| r.map(|x| -0.5 * x)));
        }
        blocking::run(&mut timed, server.exit()).unwrap();
    });
}

#[test]
fn a_fault_is_final_and_both_ends_have_it_until_the_line_is_opened_again() {
    let (mut board, mut host) = lines();
    board.get_mut().flips = Some(board.get_mut().sent + 8);
    board.write(b"damaged").unwrap();
    board.flush().unwrap();
    let mut buffer = [0; 100];
    let damaged = LineError::Fault(Fault::Damaged);
    for _ in 0..2 {
        assert_eq!(read(&mut host, &mut buffer), Err(damaged));
        assert_eq!(host.write(b"x"), Err(damaged));
        assert_eq!(host.flush(), Err(damaged));
    }
    let reported = LineError::Fault(Fault::Reported);
    assert_eq!(read(&mut board, &mut buffer), Err(reported));
    assert_eq!(board.write(b"x"), Err(reported));
    thread::scope(|scope| {
        scope.spawn(|| host.accept(SECONDS).unwrap());
        board.open(SECONDS).unwrap();
    });
    host.write(b"again").unwrap();
    host.flush().unwrap();
    assert_eq!(read(&mut board, &mut buffer), Ok(5));
    assert_eq!(buffer[..5], *b"again");
}

#[test]
fn a_peer_that_closes_is_read_to_its_end() {
    let (mut board, mut host) = lines();
    host.write(b"the last words").unwrap();
    host.flush().unwrap();
    host.close().unwrap();
    let mut buffer = [0; 9];
    assert_eq!(read(&mut board, &mut buffer), Ok(9));
    assert_eq!(read(&mut board, &mut buffer), Ok(5));
    for _ in 0..2 {
        assert_eq!(read(&mut board, &mut buffer), Ok(0));
        assert_eq!(board.flush(), Ok(()));
        assert_eq!(board.write(b"x"), Err(Fault::NotOpen.into()));
    }
}

#[test]
fn a_board_that_opens_again_ends_the_connection_of_its_host() {
    let (mut board, mut host) = lines();
    thread::scope(|scope| {
        scope.spawn(|| board.open(SECONDS).unwrap());
        let mut buffer = [0; 1];
        let ended = read(&mut host, &mut buffer);
        assert_eq!(ended, Err(Fault::Restarted.into()));
        host.accept(SECONDS).unwrap();
    });
}

#[test]
fn data_that_were_not_read_do_not_stop_the_next_connection() {
    let (mut board, mut host) = lines();
    board.write(b"never read").unwrap();
    board.flush().unwrap();
    assert_eq!(read(&mut host, &mut [0; 1]), Ok(1));
    thread::scope(|scope| {
        scope.spawn(|| board.open(SECONDS).unwrap());
        host.accept(SECONDS).unwrap();
    });
    host.write(b"a").unwrap();
    host.flush().unwrap();
    assert_eq!(read(&mut board, &mut [0; 9]), Ok(1));
}

#[test]
fn a_line_that_was_not_opened_is_no_connection() {
    let (board, _host) = pair();
    let mut line = Line::board(board, clock());
    let error = LineError::Fault(Fault::NotOpen);
    assert_eq!(line.read(&mut [0; 1]), Err(error));
    assert_eq!(line.write(&[1]), Err(error));
    assert_eq!(error.kind(), ErrorKind::NotConnected);
    assert_eq!(line.open(Duration::ZERO), Err(Fault::Silent.into()));
}

#[test]
fn a_stream_that_ends_is_an_error() {
    let (mut board, host) = lines();
    drop(host);
    assert_eq!(read(&mut board, &mut [0; 1]), Err(Fault::Gone.into()));
}

#[test]
fn deadlines_hold_over_a_line() {
    let (mut board, _host) = lines();
    let limit = Duration::from_millis(100);
    let deadlines = Deadlines::NONE.handshake(limit);
    let mut timed = blocking::WithDeadlines::new(&mut board, deadlines, clock());
    match serve::<1>(&mut timed, &mut Harmonic::<f64>::new(0.5)) {
        Err(Error::TimedOut(late)) => assert_eq!(late.deadline, Deadline::Handshake),
        other => panic!("{other:?}"),
    }
}

mod asynch {
    use std::cell::{Cell, RefCell};
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::future::{Future, pending, poll_fn};
    use std::pin::pin;
    use std::rc::Rc;
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use embedded_io_async::{ErrorType, Read, Write};
    use forcewire::asynch::Timer;
    use forcewire::line::{Fault, Line};

    use crate::world::{Message, conversation};
    use forcewire::line::Role;

    /// A stream that is ready every other time, and moves at most seven bytes.
    struct End {
        out: Rc<RefCell<VecDeque<u8>>>,
        inbox: Rc<RefCell<VecDeque<u8>>>,
        is_ready: bool,
    }

    impl End {
        fn poll<T>(&mut self, then: impl FnOnce(&Self) -> Poll<T>) -> Poll<T> {
            self.is_ready = !self.is_ready;
            match self.is_ready {
                true => then(self),
                false => Poll::Pending,
            }
        }
    }

    impl ErrorType for End {
        type Error = Infallible;
    }

    impl Read for End {
        async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Infallible> {
            poll_fn(|_| {
                self.poll(|end| {
                    let mut inbox = end.inbox.borrow_mut();
                    let n = buffer.len().min(inbox.len()).min(7);
                    for (to, from) in buffer.iter_mut().zip(inbox.drain(..n)) {
                        *to = from;
                    }
                    if n == 0 {
                        Poll::Pending
                    } else {
                        Poll::Ready(Ok(n))
                    }
                })
            })
            .await
        }
    }

    impl Write for End {
        async fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
            poll_fn(|_| {
                self.poll(|end| {
                    let n = bytes.len().min(7);
                    end.out.borrow_mut().extend(&bytes[..n]);
                    Poll::Ready(Ok(n))
                })
            })
            .await
        }

        async fn flush(&mut self) -> Result<(), Infallible> {
            poll_fn(|_| self.poll(|_| Poll::Ready(Ok(())))).await
        }
    }

    #[derive(Clone, Default)]
    struct Clock(Rc<Cell<Duration>>);

    impl Timer for Clock {
        fn now(&mut self) -> Duration {
            self.0.get()
        }

        async fn until(&mut self, at: Duration) {
            if self.0.get() < at {
                pending().await
            }
        }
    }

    type AsyncLine = Line<End, Clock>;

    fn pair() -> (AsyncLine, AsyncLine, Clock) {
        let (a, b): (Rc<RefCell<VecDeque<u8>>>, _) = Default::default();
        let end = |out: &Rc<_>, inbox: &Rc<_>| End {
            out: Rc::clone(out),
            inbox: Rc::clone(inbox),
            is_ready: false,
        };
        let clock = Clock::default();
        let board = Line::board(end(&a, &b), clock.clone());
        let host = Line::host(end(&b, &a), clock.clone());
        (board, host, clock)
    }

    /// The result of a future, if it is ready at once; it is dropped in any case.
    fn once<T>(future: impl Future<Output = T>) -> Option<T> {
        let mut context = Context::from_waker(Waker::noop());
        match pin!(future).as_mut().poll(&mut context) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    /// A program that drops each future that has to wait, and makes it again.
    struct Program {
        role: Role,
        turn: usize,
        moved: usize,
        flushing: bool,
    }

    impl Program {
        fn step(&mut self, line: &mut AsyncLine, messages: &[Message]) {
            let Some((sender, message)) = messages.get(self.turn) else {
                return;
            };
            if self.flushing {
                if let Some(flushed) = once(line.flush()) {
                    flushed.unwrap();
                    (self.flushing, self.moved) = (false, 0);
                    self.turn += 1;
                }
                return;
            }
            let rest = &message[self.moved..];
            let n = if *sender == self.role {
                once(line.write(rest))
            } else {
                let mut buffer = vec![0; rest.len().min(50)];
                let n = once(line.read(&mut buffer));
                if let Some(Ok(n)) = n {
                    assert!(n > 0);
                    assert_eq!(buffer[..n], rest[..n]);
                }
                n
            };
            self.moved += n.map_or(0, Result::unwrap);
            if self.moved == message.len() {
                if *sender == self.role {
                    self.flushing = true;
                } else {
                    self.moved = 0;
                    self.turn += 1;
                }
            }
        }
    }

    /// Opens a connection with futures that are kept at both ends.
    fn open(board: &mut AsyncLine, host: &mut AsyncLine) {
        let patience = Duration::from_secs(5);
        let (mut opens, mut accepts) = (
            pin!(board.open_async(patience)),
            pin!(host.accept_async(patience)),
        );
        let mut context = Context::from_waker(Waker::noop());
        let (mut opened, mut accepted) = (false, false);
        for _ in 0..10_000 {
            if !opened && let Poll::Ready(result) = opens.as_mut().poll(&mut context) {
                result.unwrap();
                opened = true;
            }
            if !accepted && let Poll::Ready(result) = accepts.as_mut().poll(&mut context) {
                result.unwrap();
                accepted = true;
            }
        }
        assert!(opened && accepted);
    }

    #[test]
    fn accepting_may_be_dropped_at_every_await() {
        let (mut board, mut host, _) = pair();
        let patience = Duration::from_secs(5);
        let mut opens = pin!(board.open_async(patience));
        let mut context = Context::from_waker(Waker::noop());
        let (mut opened, mut accepted) = (false, false);
        for _ in 0..10_000 {
            if !accepted && let Some(result) = once(host.accept_async(patience)) {
                result.unwrap();
                accepted = true;
            }
            opened = opened || opens.as_mut().poll(&mut context).is_ready();
        }
        assert!(opened && accepted);
    }

    /// Data of the open connection are dropped meanwhile, even if the future is dropped too.
    #[test]
    fn accepting_another_connection_ends_the_open_one() {
        let (mut board, mut host, _) = pair();
        open(&mut board, &mut host);
        let say = |board: &mut AsyncLine, message: &[u8]| {
            assert_eq!(once(board.write(message)), Some(Ok(message.len())));
            while once(board.flush()).is_none() {}
        };
        let mut buffer = [0; 9];
        let mut read = |host: &mut AsyncLine| (0..100).find_map(|_| once(host.read(&mut buffer)));
        say(&mut board, b"read");
        assert_eq!(read(&mut host), Some(Ok(4)));
        say(&mut board, b"dropped");
        for _ in 0..100 {
            assert_eq!(once(host.accept_async(Duration::from_secs(5))), None);
        }
        say(&mut board, b"after a gap");
        assert_eq!(read(&mut host), Some(Ok(0)));
        // The board finds CLOSE.
        let ended = (0..100).find_map(|_| once(board.read(&mut [0; 9])));
        assert_eq!(ended, Some(Ok(0)));
    }

    #[test]
    fn futures_may_be_dropped_at_every_await() {
        let (mut board, mut host, _) = pair();
        open(&mut board, &mut host);
        let messages = conversation();
        let [mut a, mut b] = [Role::Board, Role::Host].map(|role| Program {
            role,
            turn: 0,
            moved: 0,
            flushing: false,
        });
        for _ in 0..100_000 {
            a.step(&mut board, &messages);
            b.step(&mut host, &messages);
        }
        assert_eq!([a.turn, b.turn], [messages.len(); 2]);
    }

    #[test]
    fn time_goes_on_although_futures_are_dropped() {
        let (mut board, mut host, clock) = pair();
        open(&mut board, &mut host);
        host.get_mut().inbox.borrow_mut().push_back(7); // half a frame
        let mut ended = None;
        for _ in 0..100 {
            clock.0.set(clock.0.get() + Duration::from_millis(100));
            ended = ended.or_else(|| once(host.read(&mut [0; 1])));
        }
        assert_eq!(ended, Some(Err(Fault::Cut.into())));
    }

    #[test]
    fn a_whole_driver_serves_over_a_line_of_futures() {
        use forcewire::potential::Harmonic;
        use forcewire::{Request, Server};

        let (mut board, mut host, _) = pair();
        open(&mut board, &mut host);
        let mut potential = Harmonic::<f64>::new(0.5);
        let mut driver = pin!(async {
            forcewire::asynch::serve::<8>(&mut board, &mut potential)
                .await
                .unwrap();
            board.close_async().await.unwrap();
        });
        let (cell, positions) = (
            forcewire::Cell::orthorhombic([20.0; 3]),
            [[1.0, 2.0, 3.0]; 8],
        );
        let mut server = pin!(async {
            let mut forces = [[0.0; 3]; 8];
            let mut server = Server::new();
            let request = Request::new(&cell, &positions);
            let evaluate = server.evaluate(request, &mut forces, &mut []);
            forcewire::asynch::run(&mut host, evaluate).await.unwrap();
            forcewire::asynch::run(&mut host, server.exit())
                .await
                .unwrap();
            assert_eq!(forces, [[-0.5, -1.0, -1.5]; 8]);
        });
        let mut context = Context::from_waker(Waker::noop());
        let (mut drove, mut served) = (false, false);
        for _ in 0..100_000 {
            drove = drove || driver.as_mut().poll(&mut context).is_ready();
            served = served || server.as_mut().poll(&mut context).is_ready();
        }
        assert!(drove && served);
    }
}
