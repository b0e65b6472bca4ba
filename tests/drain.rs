//! A driver that reads before it closes without a reply.

use core::time::Duration;

use embedded_io::{ErrorKind, ErrorType, Read, Write};
use forcewire::blocking::WithDeadlines;
use forcewire::{
    Awaited, Deadlines, Driver, Error, Evaluation, Exchange, Initialize, ProtocolError, Scalar,
    Step, blocking,
};
use forcewire_support::fake::Fake;
use forcewire_support::network::Hosts;
use forcewire_support::*;
use smoltcp::socket::tcp::RecvError;

/// Sends these bytes, in pieces of this size, to a driver with room for one atom. Returns how far
/// the driver got.
fn receives<T: Scalar>(driver: &mut Driver, mut bytes: &[u8], piece: usize) {
    let mut positions = [[T::from_f64(0.0); 3]; 1];
    let mut receive = driver.receive(&mut positions);
    loop {
        let moved = match receive.step() {
            Ok(Step::Read(slice)) if !bytes.is_empty() => {
                let moved = slice.len().min(piece).min(bytes.len());
                slice[..moved].copy_from_slice(&bytes[..moved]);
                bytes = &bytes[moved..];
                moved
            }
            Ok(Step::Write(slice)) => slice.len(),
            Ok(Step::Done(_) | Step::Read(_)) | Err(_) => break,
        };
        receive.advance(moved);
    }
    assert_eq!(bytes, b"");
}

/// Drains in pieces of this size, with a new exchange for each. Returns the unread bytes, and
/// whether it ended.
fn drains<'b>(driver: &mut Driver, mut bytes: &'b [u8], piece: usize) -> (&'b [u8], bool) {
    let before = (driver.traffic().received, bytes.len());
    let ended = loop {
        let mut drain = driver.drain();
        match drain.step() {
            Ok(Step::Read(slice)) if !bytes.is_empty() => {
                let moved = slice.len().min(piece).min(bytes.len());
                slice[..moved].copy_from_slice(&bytes[..moved]);
                bytes = &bytes[moved..];
                drain.advance(moved);
            }
            Ok(Step::Read(_)) => {
                assert!(drain.waits_for().owed());
                break false;
            }
            Ok(Step::Done(())) => {
                assert_eq!(drain.waits_for().awaited, Awaited::Nothing);
                break true;
            }
            other => panic!("{other:?}"),
        }
    };
    let read = before.1 - bytes.len();
    assert_eq!(driver.traffic().received, before.0 + read as u64);
    (bytes, ended)
}

/// The driver has read any part of positions and command before, into arrays of any type.
#[test]
fn it_ends_with_the_command_that_follows_positions() {
    fn check<T: Scalar>(positions: &[u8]) {
        for command in [
            STATUS,
            GETFORCE,
            EXIT,
            b"GETFORCE\0\0\0\0",
            b"EXIT \0\0     ",
        ] {
            let message = [positions, command].concat();
            for first in 12..message.len() {
                for piece in [1, 7, 768] {
                    let mut driver = Driver::new();
                    receives::<T>(&mut driver, &message[..first.min(positions.len())], piece);
                    // Any exchange that waits for a command reads its beginning.
                    for byte in &message[first.min(positions.len())..first] {
                        let mut attend = driver.await_getforce();
                        let Ok(Step::Read(slice)) = attend.step() else {
                            panic!("it is not all here")
                        };
                        slice[0] = *byte;
                        attend.advance(1);
                    }
                    let (rest, ended) = drains(&mut driver, &message[first..], piece);
                    assert!(rest.is_empty() && ended, "{first} {piece}");
                    let mut none = [[0.0; 3]; 0];
                    let again = driver.receive(&mut none).step().err();
                    assert_eq!(again, Some(ProtocolError::Drained));
                    let sum = Evaluation::default();
                    let reply = driver.reply(&sum, &none, b"").step().err();
                    assert_eq!(reply, Some(ProtocolError::Drained));
                }
            }
        }
    }
    check::<f64>(&posdata(&golden()));
    check::<f32>(&posdata(&golden()));
}

/// The machine has failed inside the message, and still returns why.
#[test]
fn it_ends_with_the_command_that_follows_refused_positions() {
    let mut nan = golden();
    nan.h[0] = f64::NAN;
    let nan = posdata(&nan);
    let two = posdata_batch(&[water(), water()]);
    let uninit = Driver::new().initialize(Initialize::Once);
    for (mut driver, positions) in [
        (Driver::new(), nan),
        (Driver::new(), two),
        (uninit, posdata(&golden())),
    ] {
        let mut room = [[0.0; 3]; 9];
        let mut rest = positions.as_slice();
        let (result, _) = pour(driver.receive(&mut room), &mut rest);
        let error = result.unwrap_err();
        let sent = [rest, GETFORCE].concat();
        assert_eq!(drains(&mut driver, &sent, 5), (&[][..], true), "{error}");
        assert_eq!(driver.receive(&mut room).step().err(), Some(error));
        assert_eq!(drains(&mut driver, b"", 5), (&[][..], true), "{error}");
        driver.reset();
        receives::<f64>(&mut driver, STATUS, 12);
    }
}

/// A drain does not wait for a command that need not come.
#[test]
fn it_is_done_where_no_command_is_to_come() {
    let position = posdata(&golden());
    let all: [&[&[u8]]; 8] = [
        &[],
        &[STATUS],
        &[&STATUS[..5]],
        &[&init(1, "some text")[..22]],
        &[EXIT],
        &[b"NONSENSE    "],
        &[GETFORCE],
        &[READY],
    ];
    for sent in all {
        let mut driver = Driver::new();
        receives::<f64>(&mut driver, &sent.concat(), 768);
        assert_eq!(
            drains(&mut driver, b"more", 1),
            (&b"more"[..], true),
            "{sent:?}"
        );
    }
    // The command has arrived.
    let mut driver = Driver::new();
    receives::<f64>(&mut driver, &position, 768);
    let _ = pour(driver.await_getforce(), &mut { GETFORCE });
    assert_eq!(drains(&mut driver, b"more", 1), (&b"more"[..], true));
    // The reply is being sent.
    let mut driver = Driver::new();
    receives::<f64>(&mut driver, &position, 768);
    let answer = golden_answer();
    let mut reply = driver.reply(&answer.evaluation, &answer.forces, &answer.extras);
    if let Ok(Step::Read(slice)) = reply.step() {
        slice.copy_from_slice(GETFORCE);
    }
    reply.advance(12);
    assert!(matches!(reply.step(), Ok(Step::Write(_))));
    reply.advance(5);
    drop(reply);
    assert_eq!(drains(&mut driver, b"more", 1), (&b"more"[..], true));
}

#[test]
fn it_ends_with_the_stream() {
    let mut driver = Driver::new();
    receives::<f64>(&mut driver, &posdata(&golden()), 768);
    let mut fake = Fake::new(b"GETF");
    assert_eq!(blocking::run(&mut fake, driver.drain()), Ok(()));
    assert!(fake.calls.is_empty());
}

/// A stream that has these bytes and then only time-outs.
struct Silent(Vec<u8>);

impl ErrorType for Silent {
    type Error = ErrorKind;
}

impl Read for Silent {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        if self.0.is_empty() {
            return Err(ErrorKind::TimedOut);
        }
        buffer[0] = self.0.remove(0);
        Ok(1)
    }
}

impl Write for Silent {
    fn write(&mut self, _: &[u8]) -> Result<usize, ErrorKind> {
        panic!("a driver that gives up says nothing")
    }

    fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}

/// If a server sends half of a command, or dribbles, the wait ends at the limit for a message.
#[test]
fn it_has_the_time_of_a_message() {
    for dribble in [0, 4, 1_000_000] {
        let mut driver = Driver::new();
        receives::<f64>(&mut driver, &posdata(&golden()), 768);
        let mut time = Duration::ZERO;
        let clock = || {
            time += Duration::from_millis(10);
            time
        };
        let deadlines = Deadlines::NONE.message(Duration::from_secs(1));
        let mut stream = WithDeadlines::new(Silent(vec![b'G'; dribble]), deadlines, clock);
        let result = blocking::run(&mut stream, driver.drain());
        let Err(Error::TimedOut(late)) = result else {
            panic!("{result:?}")
        };
        assert_eq!(late.limit, Duration::from_secs(1));
    }
}

/// Over smoltcp, through a ring smaller than the refused message.
#[test]
fn a_server_sees_a_clean_end_over_smoltcp() {
    let mut hosts = Hosts::new((512, 512), (64, 64), 0);
    let mut driver = Driver::new();
    let mut room = [[0.0; 3]; 64];
    let message = [&posdata(&atoms(65)), GETFORCE].concat();
    let (mut sent, mut refused, mut closed) = (0, None, false);
    let end = loop {
        let server = hosts.server.socket();
        sent += server.send_slice(&message[sent..]).unwrap();
        match server.recv_slice(&mut [0]) {
            Ok(0) => {}
            end => break end,
        }
        let socket = hosts.driver.socket();
        if refused.is_none() {
            let polled = forcewire::smoltcp::poll(socket, &mut driver.receive(&mut room));
            refused = polled.err();
        } else if !closed
            && forcewire::smoltcp::poll(socket, &mut driver.drain())
                .unwrap()
                .is_ready()
        {
            socket.close();
            closed = true;
        }
        hosts.turn();
    };
    assert_eq!(end, Err(RecvError::Finished));
    assert_eq!(sent, message.len());
    assert_eq!(driver.traffic().received, message.len() as u64);
}

/// STATUS was read while forces were computed and has not been answered yet, so no more bytes will
/// come.
#[test]
fn a_command_that_was_read_is_not_awaited_again() {
    let mut driver = Driver::new();
    receives::<f64>(&mut driver, &posdata(&golden()), 768);
    pour_some(driver.await_getforce(), &mut &STATUS[..], 12);
    assert_eq!(drains(&mut driver, b"", 1), (&b""[..], true));
}
