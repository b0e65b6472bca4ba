//! Deadlines of a host's sockets: available bytes are never late, a repeated call has its full
//! limit, floods end.

#![cfg(unix)]

use forcewire_support::layout;
use forcewire_support::programs;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use forcewire::net::Stream;
use forcewire::potential::Harmonic;
use forcewire::{
    Cell, Deadline, Deadlines, Driver, Error, Event, Exchange, ProtocolError, Quantity, Request,
    Server, Status, TimedOut, blocking,
};
use rustix::process::{Pid, Signal, kill_process};

use layout::{ForceReady, Posdata, READY, STATUS};

const LIMIT: Duration = Duration::from_millis(100);

/// POSDATA of atoms in a cube of 10 bohr.
fn posdata(natoms: usize) -> Vec<u8> {
    let positions = [1.0, 2.0, 3.0].repeat(natoms);
    layout::posdata(&layout::cube(10.0), &layout::cube(0.1), &positions)
}

/// Both ends of a connection, ours with these deadlines.
fn pair(deadlines: Deadlines) -> (Stream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    peer.set_nodelay(true).unwrap();
    let ours = listener.accept().unwrap().0;
    (Stream::from_tcp(ours, deadlines).unwrap(), peer)
}

/// The time-out of a result.
fn late<T: std::fmt::Debug>(result: Result<T, Error<std::io::Error>>) -> TimedOut {
    match result {
        Err(Error::TimedOut(late)) => late,
        result => panic!("{result:?}"),
    }
}

#[test]
fn a_message_that_came_while_nobody_looked() {
    let (mut stream, mut peer) = pair(Deadlines::NONE.message(LIMIT));
    let (mut driver, mut positions) = (Driver::new(), [[0.0; 3]; 1]);
    let message = posdata(1);
    peer.write_all(&message[..100]).unwrap();
    thread::sleep(LIMIT / 4);
    let mut receive = driver.receive(&mut positions);
    assert!(stream.poll(&mut receive).unwrap().is_pending());
    assert!(receive.midway());
    peer.write_all(&message[100..]).unwrap();
    thread::sleep(3 * LIMIT);
    let event = blocking::run(&mut stream, &mut receive).unwrap();
    assert!(matches!(event, Event::Positions { natoms: 1, .. }));
}

/// Half of the message has arrived and the other half is on its way: a late caller waits for it.
#[test]
fn a_message_that_came_in_part_while_nobody_looked() {
    let (mut stream, mut peer) = pair(Deadlines::NONE.message(LIMIT));
    let (mut driver, mut positions) = (Driver::new(), [[0.0; 3]; 1]);
    let message = posdata(1);
    peer.write_all(&message[..50]).unwrap();
    thread::sleep(LIMIT / 4);
    let mut receive = driver.receive(&mut positions);
    assert!(stream.poll(&mut receive).unwrap().is_pending());
    peer.write_all(&message[50..170]).unwrap();
    thread::sleep(3 * LIMIT);
    let sender = thread::spawn(move || {
        thread::sleep(LIMIT / 5);
        peer.write_all(&message[170..]).unwrap();
        peer
    });
    let event = blocking::run(&mut stream, &mut receive).unwrap();
    assert!(matches!(event, Event::Positions { natoms: 1, .. }));
    sender.join().unwrap();
}

#[test]
fn a_call_made_again_has_its_full_limit() {
    let deadlines = Deadlines::NONE.message(LIMIT).evaluation(LIMIT);
    let (mut stream, mut peer) = pair(deadlines);
    let (mut driver, mut positions) = (Driver::new(), [[0.0; 3]; 1]);
    let mut receive = driver.receive(&mut positions);
    for piece in [&b""[..], &posdata(1)[..30]] {
        peer.write_all(piece).unwrap();
        for _ in 0..3 {
            let start = Instant::now();
            let late = late(blocking::run(&mut stream, &mut receive));
            assert_eq!(late.moved, piece.len());
            assert!(start.elapsed() >= LIMIT, "{:?}", start.elapsed());
            thread::sleep(2 * LIMIT);
        }
    }
}

#[test]
fn limits_of_zero_send_and_take_what_is_there() {
    let zero = Duration::ZERO;
    let deadlines = Deadlines::NONE.handshake(zero).message(zero);
    let (mut stream, mut peer) = pair(deadlines.evaluation(zero).exchange(zero));
    let mut server = Server::new();
    let mut status = server.status();
    let deadline = late(blocking::run(&mut stream, &mut status)).deadline;
    assert_eq!(deadline, Deadline::Handshake);
    let mut heard = [0; 12];
    peer.read_exact(&mut heard).unwrap();
    assert_eq!(heard, STATUS);
    peer.write_all(READY).unwrap();
    thread::sleep(Duration::from_millis(20));
    let known = blocking::run(&mut stream, &mut status).unwrap();
    assert_eq!(known, Status::UP | Status::READY);
}

/// Sends STATUS and reads the answers until the other end has gone.
fn flood(peer: TcpStream) {
    let mut answers = peer.try_clone().unwrap();
    thread::spawn(move || while answers.read(&mut [0; 4096]).is_ok_and(|n| n > 0) {});
    thread::spawn(move || {
        let (mut peer, questions) = (peer, STATUS.repeat(100));
        while peer.write_all(&questions).is_ok() {}
    });
}

#[test]
fn a_poll_ends_under_a_flood() {
    let (mut stream, mut peer) = pair(Deadlines::NONE);
    let (mut driver, mut positions) = (Driver::new(), [[0.0; 3]; 1]);
    peer.write_all(&posdata(1)).unwrap();
    blocking::run(&mut stream, driver.receive(&mut positions)).unwrap();
    let pending = stream.poll(driver.await_getforce());
    assert!(matches!(pending, Ok(Poll::Pending)) && !stream.must_poll_again());
    flood(peer);
    let start = Instant::now();
    let mut stopped = 0;
    while stopped < 100 {
        let before = driver.traffic().received;
        let pending = stream.poll(driver.await_getforce());
        assert!(matches!(pending, Ok(Poll::Pending)), "{pending:?}");
        let messages = (driver.traffic().received - before).div_ceil(12);
        assert!(messages <= 65, "{messages}");
        stopped += usize::from(stream.must_poll_again());
        assert!(start.elapsed() < Duration::from_secs(60));
    }
    stream.shutdown().unwrap();
}

/// No other limit would end it: every message arrives in time.
#[test]
fn the_limit_of_an_exchange_ends_a_flood() {
    let minute = Duration::from_secs(60);
    let deadlines = Deadlines::NONE.message(minute).evaluation(minute);
    let (mut stream, peer) = pair(deadlines.exchange(LIMIT));
    let (mut driver, mut positions) = (Driver::new(), [[0.0; 3]; 1]);
    flood(peer);
    let start = Instant::now();
    let late = late(blocking::run(&mut stream, driver.receive(&mut positions)));
    assert_eq!((late.deadline, late.limit), (Deadline::Exchange, LIMIT));
    // The limit runs once more, for at least a second, while bytes never stop arriving.
    let elapsed = start.elapsed();
    assert!(elapsed >= LIMIT && elapsed < Duration::from_secs(30));
    stream.shutdown().unwrap();
}

/// A driver that is stopped and continued in the middle of a message, as by a debugger or a batch
/// system.
#[test]
fn a_process_that_was_stopped_goes_on() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut command = programs::driver();
    command.args(["-a", "127.0.0.1", "-m", "gas", "--init", "never"]);
    command.args(["--patience", "3", "-p", &port.to_string()]);
    let driver = command.stderr(Stdio::piped()).spawn().unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    peer.set_nodelay(true).unwrap();
    // More than the kernel holds: the rest can arrive only once the driver reads.
    const ATOMS: usize = 500_000;
    let message = [&posdata(ATOMS), layout::GETFORCE].concat();
    peer.write_all(&message[..100]).unwrap();
    thread::sleep(Duration::from_millis(300));
    let signal = |signal| kill_process(Pid::from_child(&driver), signal).unwrap();
    signal(Signal::STOP);
    let mut writer = peer.try_clone().unwrap();
    let writer = thread::spawn(move || writer.write_all(&message[100..]));
    thread::sleep(Duration::from_millis(4000));
    assert!(!writer.is_finished());
    signal(Signal::CONT);
    let mut reply = vec![0; ForceReady::of(ATOMS).end()];
    peer.set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let heard = peer.read_exact(&mut reply);
    if heard.is_ok() {
        peer.write_all(layout::EXIT).unwrap();
    }
    drop(peer);
    let ended = driver.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(heard.is_ok() && ended.status.success(), "{said}");
    writer.join().unwrap().unwrap();
    assert!(reply.starts_with(layout::FORCEREADY));
}

/// A server sends positions that are refused, and then either nothing or bytes that are no command,
/// without a pause.
#[test]
fn a_server_that_sends_no_command_after_refused_positions_is_not_awaited_for_ever() {
    for flood in [false, true] {
        let (mut stream, mut peer) = pair(Deadlines::NONE.message(LIMIT));
        let mut message = posdata(1);
        layout::put_real(&mut message, Posdata::of(1).positions(0), f64::NAN);
        peer.write_all(&message).unwrap();
        let sender = thread::spawn(move || while flood && peer.write_all(&[b'x'; 4096]).is_ok() {});
        let error = forcewire::serve::<1>(&mut stream, &mut Harmonic::<f64>::new(1.0)).unwrap_err();
        let not_finite = ProtocolError::NotFinite(Quantity::Positions);
        assert!(
            matches!(error, Error::Protocol(it) if it == not_finite),
            "{error}"
        );
        drop(stream);
        sender.join().unwrap();
    }
}

/// An exchange that is refused before anything has moved is over: the next one has its full time.
/// The answer to the STATUS after GETFORCE arrives with the forces, in one read.
#[test]
fn an_evaluation_has_its_limit_from_its_own_positions() {
    let limit = Duration::from_secs(1);
    let (mut stream, mut peer) = pair(Deadlines::NONE.evaluation(limit));
    let driver = thread::spawn(move || {
        peer.read_exact(&mut [0; 12]).unwrap();
        peer.write_all(READY).unwrap();
        let mut message = vec![0; posdata(1).len() + 24];
        let answer = layout::forceready(&[0.0], &[0.0; 3], &[0.0; 9], &[b""]);
        for _ in 0..2 {
            peer.read_exact(&mut message).unwrap();
            thread::sleep(limit / 50);
            peer.write_all(&[&answer[..], READY].concat()).unwrap();
        }
    });
    let (mut server, mut forces) = (Server::new(), [[0.0; 3]; 1]);
    let cell = Cell::orthorhombic([10.0; 3]);
    for pause in [limit * 6 / 5, Duration::ZERO] {
        let request = Request::new(&cell, &[[1.0, 2.0, 3.0]]);
        blocking::run(&mut stream, server.evaluate(request, &mut forces, &mut [])).unwrap();
        thread::sleep(pause);
    }
    driver.join().unwrap();
}

#[test]
fn a_refused_exchange_takes_no_time_of_the_next() {
    let (mut stream, mut peer) = pair(Deadlines::NONE.exchange(2 * LIMIT));
    let mut server = Server::new();
    peer.write_all(READY).unwrap();
    blocking::run(&mut stream, server.status()).unwrap();
    let cell = Cell::orthorhombic([10.0; 3]);
    let (nan, right, mut forces) = ([[f64::NAN; 3]], [[1.0; 3]], [[0.0; 3]]);
    let request = Request::new(&cell, &nan);
    let refused = blocking::run(&mut stream, server.evaluate(request, &mut forces, &mut []));
    assert!(matches!(
        refused,
        Err(Error::Protocol(ProtocolError::NotFinite(_)))
    ));
    thread::sleep(3 * LIMIT);
    let driver = thread::spawn(move || {
        thread::sleep(LIMIT / 2);
        let answer = layout::forceready(&[1.5], &[0.0; 3], &[0.0; 9], &[b""]);
        peer.write_all(&answer).unwrap();
        peer
    });
    let request = Request::new(&cell, &right);
    let answer = blocking::run(&mut stream, server.evaluate(request, &mut forces, &mut []));
    assert_eq!(answer.unwrap().evaluation.energy, 1.5);
    driver.join().unwrap();
}

/// Async runtimes hand out such sockets.
#[test]
fn a_socket_that_does_not_block_is_made_to() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let ours = listener.accept().unwrap().0;
    ours.set_nonblocking(true).unwrap();
    let mut stream = Stream::from_tcp(ours.try_clone().unwrap(), Deadlines::NONE).unwrap();
    let sender = thread::spawn(move || {
        thread::sleep(LIMIT);
        (&peer).write_all(layout::EXIT).unwrap();
        peer
    });
    let mut driver = Driver::new();
    let event = blocking::run(&mut stream, driver.receive::<f64>(&mut []));
    assert_eq!(event.unwrap(), Event::Exit);
    sender.join().unwrap();
}
