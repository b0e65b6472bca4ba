//! Cases that no conversation reaches. They were found through branches that the other tests don't
//! take, and through changes of the source that they don't detect (`tests/coverage`,
//! `tests/mutants`).

use std::convert::Infallible;
use std::fmt;

use embedded_io::{ErrorKind, ErrorType, Read, Write};
use forcewire::{
    Backoff, Cell, CoalesceError, Coalesced, Driver, Error, Event, Exchange, Extras, ExtrasError,
    Header, Potential, PotentialError, ProtocolError, Request, Rotation, Server, Status, Step,
    Storage, asynch, blocking,
};
use forcewire_support::*;

// ---- a caller that counts more bytes than moved, or fewer, or at the wrong time ----

/// If a transport reports more bytes than the slice holds, only the slice counts.
#[test]
fn more_than_a_slice_holds_has_not_moved() {
    let mut driver = Driver::new();
    let mut positions = [[0.0; 3]; 1];
    let mut receive = driver.receive(&mut positions);
    match receive.step() {
        Ok(Step::Read(slice)) => slice.copy_from_slice(STATUS),
        other => panic!("{other:?}"),
    }
    receive.advance(1000);
    assert!(matches!(receive.step(), Ok(Step::Write(b"READY       "))));
    receive.advance(5);
    receive.advance(1000);
    assert!(matches!(receive.step(), Ok(Step::Read(slice)) if slice.len() == 12));
    drop(receive);
    let traffic = driver.traffic();
    assert_eq!((traffic.received, traffic.sent), (12, 12));

    let mut server = Server::new();
    let mut status = server.status();
    assert!(matches!(status.step(), Ok(Step::Write(b"STATUS      "))));
    status.advance(3);
    status.advance(1000);
    match status.step() {
        Ok(Step::Read(slice)) => slice.copy_from_slice(READY),
        other => panic!("{other:?}"),
    }
    status.advance(1000);
    assert!(matches!(status.step(), Ok(Step::Done(_))));
    drop(status);
    let traffic = server.traffic();
    assert_eq!((traffic.received, traffic.sent), (12, 12));
}

/// An exchange that has ended moves nothing more.
#[test]
fn nothing_moves_in_an_exchange_that_has_ended() {
    let mut driver = Driver::new();
    let mut inbox = init(3, " ");
    let mut positions = [[0.0; 3]; 1];
    let mut receive = driver.receive(&mut positions);
    let told = pour(&mut receive, &mut inbox.as_slice()).0;
    assert_eq!(told, Ok(Event::Init { replica: 3 }));
    receive.advance(12);
    assert!(matches!(
        receive.step(),
        Ok(Step::Done(Event::Init { replica: 3 }))
    ));
    drop(receive);
    assert_eq!(driver.traffic().received, 21);

    let mut server = Server::new();
    let mut status = server.status();
    inbox = READY.to_vec();
    let known = pour(&mut status, &mut inbox.as_slice()).0;
    assert_eq!(known, Ok(Status::UP | Status::READY));
    status.advance(12);
    assert!(matches!(status.step(), Ok(Step::Done(_))));
    drop(status);
    assert_eq!((server.traffic().received, server.traffic().sent), (12, 12));
}

/// `end` may be called more than once, and changes nothing after the first.
#[test]
fn an_end_behind_an_end_is_none() {
    let mut driver = Driver::new();
    let mut positions = [[0.0; 3]; 1];
    let told = pour(driver.receive(&mut positions), &mut { EXIT }).0;
    assert_eq!(told, Ok(Event::Exit));
    driver.receive(&mut positions).end();
    driver.await_getforce().end();
    assert!(matches!(
        driver.receive(&mut positions).step(),
        Ok(Step::Done(Event::Exit))
    ));

    let error = ProtocolError::UnknownHeader(*b"GET / HTTP/1");
    driver.reset();
    let told = pour(driver.receive(&mut positions), &mut &b"GET / HTTP/1"[..]).0;
    assert_eq!(told, Err(error));
    driver.receive(&mut positions).end();
    assert_eq!(
        pour(driver.receive(&mut positions), &mut { STATUS }).0,
        Err(error)
    );

    let mut server = Server::new();
    let told = pour(server.status(), &mut &b"GET / HTTP/1"[..]).0;
    assert_eq!(told, Err(error));
    server.status().end();
    assert_eq!(pour(server.status(), &mut { READY }).0, Err(error));
}

/// An exchange passed by reference is the same exchange.
#[test]
fn a_transfer_may_be_lent() {
    fn lent<T: Exchange>(mut transfer: T) -> (bool, bool) {
        let lent = &mut transfer;
        (Exchange::midway(&lent), lent.waits_for().owed())
    }
    fn ends<T: Exchange>(mut transfer: T) {
        Exchange::end(&mut &mut transfer);
    }
    let mut server = Server::new();
    assert_eq!(lent(&mut server.status()), (false, false));
    pour_some(server.status(), &mut &b""[..], 5);
    assert_eq!(lent(&mut server.status()), (true, true));
    pour_some(server.status(), &mut &b""[..], 7);
    assert_eq!(lent(&mut server.status()), (false, true));
    ends(&mut server.status());
    assert_eq!(lent(&mut server.status()), (false, false));
    assert_eq!(server.last_status(), Status::DISCONNECTED);

    let mut driver = Driver::new();
    let mut positions = [[0.0; 3]; 1];
    assert_eq!(lent(&mut driver.receive(&mut positions)), (false, false));
    pour_some(driver.receive(&mut positions), &mut &STATUS[..3], 3);
    assert_eq!(lent(&mut driver.receive(&mut positions)), (true, true));
    ends(&mut driver.receive(&mut positions));
    let error = ProtocolError::EndOfStream {
        within: None,
        after: 3,
    };
    assert_eq!(
        pour(driver.receive(&mut positions), &mut &b""[..]).0,
        Err(error)
    );
}

// ---- formatting ----

#[test]
fn defaults_are_new_ones() {
    let shown = |it: &dyn fmt::Debug| format!("{it:?}");
    assert_eq!(shown(&Driver::default()), shown(&Driver::new()));
    assert_eq!(shown(&Server::default()), shown(&Server::new()));
}

/// A log shows the state of a conversation, but none of its numbers.
#[test]
fn machines_and_exchanges_say_where_they_are() {
    let mut driver = Driver::new();
    let text = format!("{driver:?}");
    assert!(text.contains("Ready") && text.contains("Idle"), "{text}");
    let text = format!("{:?}", driver.await_getforce());
    assert!(
        text.contains("AwaitGetForce") && text.contains("Ready"),
        "{text}"
    );
    let mut server = Server::new();
    let text = format!("{server:?}");
    assert!(
        text.contains("Consolidated") && text.contains("Idle"),
        "{text}"
    );
    let text = format!("{:?}", server.status());
    assert!(text.starts_with("ServerExchange { goal: Status"), "{text}");
}

#[test]
fn a_status_is_named_in_full() {
    for (status, text) in [
        (Status::DISCONNECTED, "disconnected"),
        (Status::UP, "up"),
        (Status::UP | Status::READY, "up, ready"),
        (Status::UP | Status::HAS_DATA, "up, has data"),
        (
            Status::UP | Status::BUSY | Status::TIMEOUT,
            "up, busy, timeout",
        ),
        (Status::TIMEOUT, "timeout"),
    ] {
        assert_eq!(status.to_string(), text);
    }
}

/// A writer without room returns an error instead of writing half a status.
#[test]
fn a_status_that_does_not_fit_is_an_error() {
    struct Room(usize);
    impl fmt::Write for Room {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0 = self.0.checked_sub(text.len()).ok_or(fmt::Error)?;
            Ok(())
        }
    }
    let status = Status::UP | Status::READY;
    for room in 0..9 {
        let written = fmt::Write::write_fmt(&mut Room(room), format_args!("{status}"));
        assert!(written.is_err(), "{room}");
    }
    let written = fmt::Write::write_fmt(&mut Room(9), format_args!("{status}"));
    assert!(written.is_ok());
}

#[test]
fn failures_in_a_row_are_forgotten_by_a_success() {
    let seconds = std::time::Duration::from_secs;
    let mut backoff = Backoff::new(seconds(1), seconds(60));
    let pauses: [_; 2] = std::array::from_fn(|_| backoff.failed());
    assert_eq!((pauses, backoff.failures()), ([seconds(1), seconds(2)], 2));
    backoff.succeeded();
    assert_eq!(backoff.failures(), 0);
    assert_eq!(backoff.failed(), seconds(1));
    // However short the first pause is, the longest one is reached.
    let mut backoff = Backoff::new(std::time::Duration::from_nanos(1), seconds(60));
    let longest = (0..50).map(|_| backoff.failed()).max();
    assert_eq!(longest, Some(seconds(60)));
}

// ---- streams that fail ----

/// The next action of a stream.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Does {
    /// Does everything that is requested.
    Works,
    Fails(ErrorKind),
    /// Accepts no bytes.
    Nothing,
}

/// A stream that does each of these in turn, and works afterwards.
struct Moody<'a> {
    inbox: &'a [u8],
    said: Vec<u8>,
    writes: usize,
    read: Vec<Does>,
    write: Vec<Does>,
    flush: Vec<Does>,
}

impl<'a> Moody<'a> {
    fn new(inbox: &'a [u8]) -> Self {
        Self {
            inbox,
            said: Vec::new(),
            writes: 0,
            read: Vec::new(),
            write: Vec::new(),
            flush: Vec::new(),
        }
    }

    fn mood(moods: &mut Vec<Does>) -> Does {
        if moods.is_empty() {
            Does::Works
        } else {
            moods.remove(0)
        }
    }
}

impl ErrorType for Moody<'_> {
    type Error = ErrorKind;
}

impl Read for Moody<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        match Self::mood(&mut self.read) {
            Does::Fails(kind) => Err(kind),
            Does::Nothing => Ok(0),
            Does::Works => Ok(Read::read(&mut self.inbox, buffer).unwrap_or(0)),
        }
    }
}

impl Write for Moody<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        match Self::mood(&mut self.write) {
            Does::Fails(kind) => Err(kind),
            Does::Nothing => Ok(0),
            Does::Works => {
                self.said.extend(bytes);
                self.writes += 1;
                Ok(bytes.len())
            }
        }
    }

    fn flush(&mut self) -> Result<(), ErrorKind> {
        match Self::mood(&mut self.flush) {
            Does::Fails(kind) => Err(kind),
            _ => Ok(()),
        }
    }
}

impl embedded_io_async::Read for Moody<'_> {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        Read::read(self, buffer)
    }
}

impl embedded_io_async::Write for Moody<'_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        Write::write(self, bytes)
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        Write::flush(self)
    }
}

/// The result of a future that never waits.
fn now<F: Future>(future: F) -> F::Output {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(output) => output,
        std::task::Poll::Pending => panic!("it waits"),
    }
}

/// Both shims run the same exchange over streams that behave the same.
#[test]
fn blocking_and_asynchronous_shims_fail_alike() {
    let all = [STATUS, EXIT].concat();
    let signal = Does::Fails(ErrorKind::Interrupted);
    let reset = Does::Fails(ErrorKind::ConnectionReset);
    let lost = Err(Error::Transport(ErrorKind::ConnectionReset));
    type Moods = [Vec<Does>; 3];
    let cases: [(Moods, Result<Event, Error<ErrorKind>>); 9] = [
        ([vec![], vec![], vec![]], Ok(Event::Exit)),
        // A signal is never an error, at any point.
        ([vec![signal; 3], vec![], vec![]], Ok(Event::Exit)),
        ([vec![], vec![signal; 3], vec![]], Ok(Event::Exit)),
        ([vec![], vec![], vec![signal; 3]], Ok(Event::Exit)),
        ([vec![], vec![], vec![Does::Works, signal]], Ok(Event::Exit)),
        // A stream that reports zero bytes has ended.
        ([vec![Does::Nothing], vec![], vec![]], Ok(Event::Closed)),
        ([vec![reset], vec![], vec![]], lost),
        ([vec![], vec![reset], vec![]], lost),
        ([vec![], vec![Does::Nothing], vec![]], Err(Error::WriteZero)),
    ];
    for ([read, write, flush], expected) in cases {
        for twin in [false, true] {
            let mut stream = Moody {
                read: read.clone(),
                write: write.clone(),
                flush: flush.clone(),
                ..Moody::new(&all)
            };
            let mut driver = Driver::new();
            let mut positions = [[0.0; 3]; 1];
            let receive = driver.receive(&mut positions);
            let result = if twin {
                now(asynch::run(&mut stream, receive))
            } else {
                blocking::run(&mut stream, receive)
            };
            assert_eq!(result, expected, "{read:?} {write:?} {flush:?}");
            if expected == Ok(Event::Exit) {
                assert_eq!(stream.said, READY);
            }
        }
    }
    // A flush that fails, before the exchange or in it, is an error too, and nothing is lost.
    for twin in [false, true] {
        for good in 0..2 {
            let mut stream = Moody::new(&all);
            stream.flush = [vec![Does::Works; good], vec![reset]].concat();
            let mut driver = Driver::new();
            let mut positions = [[0.0; 3]; 1];
            let mut run = |stream: &mut Moody<'_>| {
                let receive = driver.receive(&mut positions);
                if twin {
                    now(asynch::run(stream, receive))
                } else {
                    blocking::run(stream, receive)
                }
            };
            assert_eq!(run(&mut stream), lost);
            assert_eq!(run(&mut stream), Ok(Event::Exit));
            assert_eq!(stream.said, READY);
        }
    }
}

/// A potential that always fails.
struct Refuses;

impl Potential for Refuses {
    type Real = f64;

    fn evaluate(
        &mut self,
        _: &Cell,
        _: &[[f64; 3]],
        _: &mut [[f64; 3]],
    ) -> Result<forcewire::Evaluation, PotentialError> {
        Err(PotentialError::ResultNotFinite)
    }
}

/// The server waits for a reply that will not come: nothing is sent, and the caller gets the
/// reason.
#[test]
fn a_potential_that_fails_ends_the_program_without_a_reply() {
    let all = [STATUS, &posdata(&golden()), GETFORCE].concat();
    for twin in [false, true] {
        let mut stream = Moody::new(&all);
        let served = if twin {
            now(asynch::serve::<1>(&mut stream, &mut Refuses))
        } else {
            blocking::serve::<1>(&mut stream, &mut Refuses)
        };
        assert_eq!(
            served,
            Err(Error::Potential(PotentialError::ResultNotFinite))
        );
        assert_eq!(stream.said, READY);
    }
}

/// Errors while receiving or replying end the async program in the same way as the blocking one.
#[test]
fn a_program_ends_with_its_streams_error() {
    let all = [&posdata(&golden())[..], STATUS, GETFORCE].concat();
    let mut gas = forcewire::potential::IdealGas::<f64>::new();
    for twin in [false, true] {
        for (read, write) in [(true, false), (false, true)] {
            let reset = vec![Does::Fails(ErrorKind::ConnectionReset)];
            let mut stream = Moody::new(&all);
            if read {
                stream.read = reset;
            } else if write {
                stream.write = reset;
            }
            let served = if twin {
                now(asynch::serve::<1>(&mut stream, &mut gas))
            } else {
                blocking::serve::<1>(&mut stream, &mut gas)
            };
            assert_eq!(served, Err(Error::Transport(ErrorKind::ConnectionReset)));
        }
    }
}

// ---- a stream that collects pieces ----

/// Sends a reply of 40 atoms over a stream that collects `N` bytes, blocking or async.
fn gathers<const N: usize>(
    moody: Moody<'_>,
    twin: bool,
) -> (Result<(), Error<CoalesceError<ErrorKind>>>, Vec<u8>, usize) {
    let answer = answer(40, 1.0, b"{}");
    let mut driver = Driver::new();
    let mut positions = [[0.0; 3]; 40];
    let message = posdata(&atoms(40));
    let told = pour(driver.receive(&mut positions), &mut message.as_slice()).0;
    assert_eq!(told, Ok(atoms(40).event()));
    let mut stream = Coalesced::<_, N>::new(moody);
    let reply = driver.reply(&answer.evaluation, &answer.forces, &answer.extras);
    let result = if twin {
        now(asynch::run(&mut stream, reply))
    } else {
        blocking::run(&mut stream, reply)
    };
    let moody = stream.into_inner();
    (result, moody.said, moody.writes)
}

#[test]
fn gathering_is_the_same_in_both_ways() {
    let reply = forceready(&answer(40, 1.0, b"{}"));
    for twin in [false, true] {
        // The whole reply; all but its last part; an array that bypasses the buffer.
        let (result, said, writes) = gathers::<1062>(Moody::new(GETFORCE), twin);
        assert_eq!((result, &said, writes), (Ok(()), &reply, 1));
        let (result, said, writes) = gathers::<1000>(Moody::new(GETFORCE), twin);
        assert_eq!((result, &said, writes), (Ok(()), &reply, 2));
        let (result, said, _) = gathers::<64>(Moody::new(GETFORCE), twin);
        assert_eq!((result, &said), (Ok(()), &reply));
    }
}

#[test]
fn what_a_stream_that_gathers_can_not_send_is_an_error() {
    let reset = Does::Fails(ErrorKind::ConnectionReset);
    let lost = Err(Error::Transport(CoalesceError::Stream(
        ErrorKind::ConnectionReset,
    )));
    let none = Err(Error::Transport(CoalesceError::WriteZero));
    for twin in [false, true] {
        // At the flush; after the first part, when there is no more room; past the buffer.
        for before in [0, 1] {
            for (does, expected) in [(reset, lost), (Does::Nothing, none)] {
                let mut moody = Moody::new(GETFORCE);
                moody.write = [vec![Does::Works; before], vec![does]].concat();
                let result = gathers::<1000>(moody, twin).0;
                assert_eq!(result, expected, "{twin} {before} {does:?}");
            }
        }
        let mut moody = Moody::new(GETFORCE);
        moody.write = vec![Does::Works, reset];
        assert_eq!(gathers::<64>(moody, twin).0, lost);
        let mut moody = Moody::new(GETFORCE);
        moody.flush = vec![Does::Works, reset];
        assert_eq!(gathers::<1062>(moody, twin).0, lost);
        let mut moody = Moody::new(GETFORCE);
        moody.read = vec![reset];
        assert_eq!(gathers::<1062>(moody, twin).0, lost);
    }
    let stream: CoalesceError<ErrorKind> = CoalesceError::Stream(ErrorKind::TimedOut);
    assert_eq!(embedded_io::Error::kind(&stream), ErrorKind::TimedOut);
    assert_eq!(stream.to_string(), ErrorKind::TimedOut.to_string());
    let zero: CoalesceError<Infallible> = CoalesceError::WriteZero;
    assert!(zero.to_string().contains("connect again"), "{zero}");
}

// ---- extras, cells ----

/// At each size, an entry that does not fit is refused, wherever in its key or value the room ends.
#[test]
fn extras_that_end_anywhere_are_whole() {
    fn check<const N: usize>() {
        let mut extras = Extras::<N>::new();
        let mut expected = String::from("{}");
        for key in ["a", "bc", "\"", "\u{1}"] {
            type Add<const N: usize> = fn(&mut Extras<N>, &str) -> Result<(), ExtrasError>;
            let adds: [(Add<N>, &str); 3] = [
                (|extras, key| extras.real(key, 0.5), "0.5"),
                (
                    |extras, key| extras.triples(key, &[[1.0; 3]; 2]),
                    "[[1.0,1.0,1.0],[1.0,1.0,1.0]]",
                ),
                (|extras, key| extras.text(key, "\\ö\""), "\"\\\\ö\\\"\""),
            ];
            for (add, value) in adds {
                let escaped = match key {
                    "\"" => "\\\"",
                    "\u{1}" => "\\u0001",
                    key => key,
                };
                let inside = &expected[1..expected.len() - 1];
                let comma = if inside.is_empty() { "" } else { "," };
                let more = format!("{{{inside}{comma}\"{escaped}\":{value}}}");
                let added = add(&mut extras, key);
                if more.len() <= N {
                    assert_eq!(added, Ok(()));
                    expected = more;
                } else {
                    assert_eq!(added, Err(ExtrasError::Full));
                }
                assert_eq!(extras.as_bytes(), expected.as_bytes(), "{N}");
            }
        }
    }
    macro_rules! check {
        ($($n:literal)*) => { $(check::<$n>();)* };
    }
    check!(2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39 40);
    check!(41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63 64 80 96 112 128 160 192 256);
}

/// A cell that is upper triangular but has negative diagonal elements is rotated, too.
#[test]
fn a_cell_that_points_backwards_is_turned_round() {
    for (edges, turned) in [
        ([-4.0, 8.0, 16.0], true),
        ([4.0, -8.0, 16.0], true),
        ([4.0, 8.0, -16.0], false),
        ([4.0, 8.0, 16.0], false),
    ] {
        let cell = Cell::orthorhombic(edges);
        let (upper, rotation) = cell.to_upper_triangular().expect("a volume");
        let [[ax, ..], [_, by, _], _] = *upper.h();
        assert_eq!((ax, by), (4.0, 8.0));
        assert_eq!(upper.determinant(), cell.determinant());
        assert_eq!(upper == cell, !turned);
        let still = |rotation: &Rotation| rotation.apply([1.0, 2.0, 3.0]) == [1.0, 2.0, 3.0];
        assert_eq!(still(&rotation), !turned);
    }
}

/// Storage evaluates the received structures, no matter what it evaluated before.
#[test]
fn storage_forgets_what_was_evaluated_before() {
    let (mut driver, mut storage) = (Driver::new(), Storage::<f64, 4>::default());
    let mut gas = forcewire::potential::IdealGas::new();
    for natoms in [3, 3] {
        let message = [&posdata(&atoms(natoms))[..], GETFORCE].concat();
        let mut inbox = message.as_slice();
        let told = pour(storage.receive(&mut driver), &mut inbox).0;
        assert_eq!(told, Ok(atoms(natoms).event()));
        // Nothing has been computed for these positions.
        let reply = pour(storage.reply(&mut driver), &mut &b""[..]).0;
        assert!(
            matches!(reply, Err(ProtocolError::WrongLength { .. })),
            "{reply:?}"
        );
        storage
            .evaluate(driver.natoms(), driver.structures(), &mut gas)
            .expect("no forces");
        assert_eq!(pour(storage.reply(&mut driver), &mut inbox).0, Ok(()));
        assert_eq!(driver.status(), Header::Ready);
    }
}

/// A structure with as many atoms as there are structures, and one without atoms.
#[test]
fn what_a_request_is_made_of() {
    let cells = [Cell::orthorhombic([16.0; 3]); 2];
    let request: Request<'_, f64> = Request::batch(&cells, &[]);
    let mut server = Server::new();
    assert!(pour(server.status(), &mut { READY }).0.is_ok());
    let sent = pour(server.send_positions(request), &mut &b""[..]).0;
    assert!(
        matches!(sent, Err(ProtocolError::WrongLength { .. })),
        "{sent:?}"
    );
    let request: Request<'_, f64> = Request::new(&cells[0], &[]);
    let (sent, said) = pour(server.send_positions(request), &mut &b""[..]);
    assert_eq!((sent, said.len()), (Ok(()), 160 + 24));
    assert_eq!(server.natoms(), 0);
}
