//! Streams whose peer reads or sends little, and sockets that have been changed without the
//! stream's knowledge.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::task::Poll;
use std::time::Duration;

use forcewire::net::{Address, Stream};
use forcewire::{Deadlines, Driver, Error, Evaluation, Event, Virial, blocking};

use crate::layout;

const LIMIT: Duration = Duration::from_millis(100);
/// More than the kernel's socket buffers hold.
const ATOMS: usize = 100_000;

fn pair(deadlines: Deadlines) -> (Stream, UnixStream) {
    let (ours, peer) = UnixStream::pair().unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let name = Address::Unix("pair".into());
    (Stream::from_unix(ours, name, deadlines).unwrap(), peer)
}

fn hear(peer: &mut UnixStream, expected: &[u8]) {
    let mut heard = vec![0; expected.len()];
    peer.read_exact(&mut heard).unwrap();
    assert!(heard == expected);
}

/// A driver that has been asked for the forces of one structure.
fn asked(stream: &mut Stream, peer: &mut UnixStream) -> Driver {
    let posdata = layout::posdata(
        &layout::cube(10.0),
        &layout::cube(0.1),
        &vec![0.0; 3 * ATOMS],
    );
    let mut driver = Driver::new();
    let mut positions = vec![[0.0_f64; 3]; ATOMS];
    std::thread::scope(|scope| {
        scope.spawn(|| peer.write_all(&[&posdata[..], b"GETFORCE    "].concat()));
        let event = blocking::run(stream, driver.receive(&mut positions)).unwrap();
        assert!(matches!(event, Event::Positions { natoms: ATOMS, .. }));
    });
    driver
}

fn forces(from: f64) -> Vec<[f64; 3]> {
    (0..ATOMS)
        .map(|atom| [from + atom as f64, 0.5, -0.5])
        .collect()
}

const EVALUATION: Evaluation = Evaluation {
    energy: 1.5,
    virial: Virial([[0.0; 3]; 3]),
};

/// A stream owns a copy of the unsent part of an array: a caller that changes the array after a
/// time-out does not change the reply.
#[test]
fn a_reply_that_is_stuck_keeps_its_numbers() {
    for polls in [false, true] {
        let (mut stream, mut peer) = pair(Deadlines::NONE.message(LIMIT));
        let mut driver = asked(&mut stream, &mut peer);
        let mut array = forces(0.0);
        let expected = layout::forceready(&[1.5], array.as_flattened(), &[0.0; 9], &[b""]);
        {
            let mut reply = driver.reply(&EVALUATION, &array, b"");
            if polls {
                assert!(matches!(stream.poll(&mut reply), Ok(Poll::Pending)));
            } else {
                let result = blocking::run(&mut stream, &mut reply);
                assert!(matches!(result, Err(Error::TimedOut(_))), "{result:?}");
            }
        }
        array.fill([f64::NAN; 3]);
        drop(array);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                hear(&mut peer, &expected);
                peer.write_all(b"STATUS      ").unwrap();
                hear(&mut peer, b"READY       ");
                peer.write_all(b"EXIT        ").unwrap();
            });
            let event = loop {
                match blocking::run(&mut stream, driver.receive(&mut [[0.0; 3]; 1])) {
                    Err(Error::TimedOut(_)) => {}
                    result => break result.unwrap(),
                }
            };
            assert_eq!(event, Event::Exit);
        });
    }
}

/// Another owner of the socket has made it non-blocking: the stream waits for it instead of polling
/// it all the time.
#[cfg(target_os = "linux")]
#[test]
fn a_socket_that_does_not_block_is_waited_for() {
    for deadlines in [Deadlines::NONE, Deadlines::NONE.message(60 * LIMIT)] {
        let (ours, mut peer) = UnixStream::pair().unwrap();
        let other = ours.try_clone().unwrap();
        let name = Address::Unix("pair".into());
        let mut stream = Stream::from_unix(ours, name, deadlines).unwrap();
        other.set_nonblocking(true).unwrap();
        let sender = std::thread::spawn(move || {
            std::thread::sleep(5 * LIMIT);
            peer.write_all(b"EXIT        ").unwrap();
        });
        let before = computed();
        let event = blocking::run(&mut stream, Driver::new().receive(&mut [[0.0; 3]; 1]));
        assert_eq!(event.unwrap(), Event::Exit);
        let computed = computed() - before;
        assert!(computed < 2 * LIMIT, "{computed:?} of a CPU");
        sender.join().unwrap();
    }
}

/// The CPU time of this thread.
fn computed() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let nanoseconds = text.split(' ').next().unwrap();
    Duration::from_nanos(nanoseconds.parse().unwrap())
}
