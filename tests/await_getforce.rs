//! A driver that listens to its server while it computes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use forcewire::net::{Address, Stream, connect};
use forcewire::{Deadlines, Driver, Error, Event, Exchange, Header, ProtocolError, Step, blocking};
use forcewire_support::*;

/// A driver that has received [`golden`].
fn computing() -> Driver {
    let mut driver = Driver::new();
    script(&mut driver, Split::Whole)
        .hears(posdata(&golden()))
        .tells(golden().event());
    driver
}

/// Runs `await_getforce` over these bytes, in pieces of this size, each with a new exchange.
/// Returns what it sent and the results.
fn attends(
    driver: &mut Driver,
    mut bytes: &[u8],
    piece: usize,
) -> (Vec<u8>, Option<Result<Option<Event>, ProtocolError>>) {
    let mut said = Vec::new();
    loop {
        let mut attend = driver.await_getforce();
        let moved = match attend.step() {
            Err(error) => return (said, Some(Err(error))),
            Ok(Step::Done(outcome)) => return (said, Some(Ok(outcome))),
            Ok(Step::Write(slice)) => {
                let moved = slice.len().min(piece);
                said.extend(&slice[..moved]);
                moved
            }
            Ok(Step::Read(_)) if bytes.is_empty() => return (said, None),
            Ok(Step::Read(slice)) => {
                let moved = slice.len().min(piece).min(bytes.len());
                slice[..moved].copy_from_slice(&bytes[..moved]);
                bytes = &bytes[moved..];
                moved
            }
        };
        attend.advance(moved);
    }
}

#[test]
fn status_is_answered_and_getforce_is_left_to_the_reply() {
    for piece in [1, 5, 12, 100] {
        let mut driver = computing();
        let (said, told) = attends(&mut driver, &[STATUS, STATUS].concat(), piece);
        assert_eq!((said, told), ([HAVEDATA, HAVEDATA].concat(), None));
        let (said, told) = attends(&mut driver, GETFORCE, piece);
        assert_eq!((said, told), (vec![], Some(Ok(None))));
        // The result can be requested any number of times.
        assert_eq!(attends(&mut driver, b"", piece), (vec![], Some(Ok(None))));
        script(&mut driver, Split::Whole)
            .replies(&golden_answer())
            .says(hex(GOLDEN_FORCEREADY))
            .hears(STATUS)
            .says(READY);
    }
}

#[test]
fn it_is_midway_inside_a_message_and_nowhere_else() {
    let mut driver = computing();
    for n in 1..=12 {
        assert_eq!(attends(&mut driver, &STATUS[n - 1..n], 1).1, None);
        // The answer to the last byte was sent.
        assert_eq!(driver.await_getforce().midway(), n < 12, "{n}");
    }
}

#[test]
fn the_end_is_told_while_there_is_still_something_to_be_saved() {
    for piece in [1, 12] {
        let mut driver = computing();
        let (said, told) = attends(&mut driver, &[STATUS, EXIT].concat(), piece);
        assert_eq!(
            (said, told),
            (HAVEDATA.to_vec(), Some(Ok(Some(Event::Exit))))
        );

        let mut driver = computing();
        assert_eq!(attends(&mut driver, STATUS, piece).1, None);
        driver.await_getforce().end();
        let told = attends(&mut driver, b"", piece).1;
        assert_eq!(told, Some(Ok(Some(Event::Closed))));
    }
}

#[test]
fn half_a_header_heard_while_computing_is_finished_by_the_reply() {
    let mut driver = computing();
    assert_eq!(attends(&mut driver, &GETFORCE[..5], 5), (vec![], None));
    script(&mut driver, Split::Whole)
        .replies(&golden_answer())
        .hears(&GETFORCE[5..])
        .says(hex(GOLDEN_FORCEREADY));
}

#[test]
fn what_is_wrong_is_told_at_once() {
    let mut driver = computing();
    let refused = ProtocolError::OutOfTurn {
        command: Header::PosData,
        status: Header::HaveData,
    };
    let told = attends(&mut driver, &posdata(&golden()), 12).1;
    assert_eq!(told, Some(Err(refused)));
    let told = attends(&mut Driver::new(), STATUS, 12).1;
    assert_eq!(told, Some(Err(ProtocolError::NothingToReplyTo)));
}

/// A driver over TCP that has received [`golden`], and its server.
fn connected() -> (Stream, Driver, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut stream = connect(&Address::tcp("127.0.0.1", port)).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    server.set_nodelay(true).unwrap();
    server.write_all(&posdata(&golden())).unwrap();
    let mut driver = Driver::new();
    let mut positions = [[0.0; 3]; 1];
    let event = blocking::run(&mut stream, driver.receive(&mut positions)).unwrap();
    assert_eq!(event, golden().event());
    (stream, driver, server)
}

/// Polls repeatedly, as a computation does between two of its parts.
fn until_it_is_told(stream: &mut Stream, driver: &mut Driver) -> Option<Event> {
    let start = Instant::now();
    loop {
        if let Poll::Ready(told) = stream.poll(driver.await_getforce()).unwrap() {
            return told;
        }
        assert!(start.elapsed() < Duration::from_secs(20));
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_host_looks_without_waiting() {
    let (mut stream, mut driver, mut server) = connected();
    let start = Instant::now();
    for _ in 0..100 {
        assert!(stream.poll(driver.await_getforce()).unwrap().is_pending());
    }
    assert!(start.elapsed() < Duration::from_secs(5));

    let player = thread::spawn(move || {
        let mut answer = [0; 12];
        server.write_all(STATUS).unwrap();
        server.read_exact(&mut answer).unwrap();
        assert_eq!(answer, HAVEDATA);
        server.write_all(GETFORCE).unwrap();
        let mut reply = vec![0; hex(GOLDEN_FORCEREADY).len()];
        server.read_exact(&mut reply).unwrap();
        assert_eq!(reply, hex(GOLDEN_FORCEREADY));
        server.write_all(EXIT).unwrap();
    });
    assert_eq!(until_it_is_told(&mut stream, &mut driver), None);
    let answer = golden_answer();
    let reply = driver.reply(&answer.evaluation, &answer.forces, &answer.extras);
    blocking::run(&mut stream, reply).unwrap();
    // The exchange waits again if its caller runs it again.
    let mut positions = [[0.0; 3]; 1];
    let event = blocking::run(&mut stream, driver.receive(&mut positions)).unwrap();
    assert_eq!(event, Event::Exit);
    player.join().unwrap();
}

#[test]
fn a_host_learns_that_no_one_waits_for_the_forces() {
    let (mut stream, mut driver, mut server) = connected();
    server.write_all(EXIT).unwrap();
    let told = until_it_is_told(&mut stream, &mut driver);
    assert_eq!(told, Some(Event::Exit));

    let (mut stream, mut driver, server) = connected();
    drop(server);
    let told = until_it_is_told(&mut stream, &mut driver);
    assert_eq!(told, Some(Event::Closed));
}

#[test]
fn half_a_message_is_waited_for_no_longer_than_patience() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let limit = Duration::from_millis(50);
    let deadlines = Deadlines::NONE.message(limit);
    let mut stream = Stream::from_tcp(socket, deadlines).unwrap();
    let mut driver = computing();
    server.write_all(&STATUS[..3]).unwrap();
    let start = Instant::now();
    let error = loop {
        match stream.poll(driver.await_getforce()) {
            Ok(Poll::Pending) => thread::sleep(Duration::from_millis(1)),
            Ok(Poll::Ready(told)) => panic!("{told:?}"),
            Err(error) => break error,
        }
        assert!(start.elapsed() < Duration::from_secs(20));
    };
    assert!(start.elapsed() >= limit);
    assert!(matches!(error, Error::TimedOut(_)), "{error:?}");
}
