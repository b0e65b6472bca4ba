//! Ten thousand connections, one after another, to a pool and from a driver: none leaves anything
//! behind. The test runs in a separate process, because it counts the resources of the process.

#![cfg(target_os = "linux")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use forcewire::net::{Address, Job, Pool, PoolEvent, PoolOptions, connect};
use forcewire::{Cell, Driver, Error, Event, ProtocolError, blocking};
use forcewire_support::{GETFORCE, READY, STATUS, atoms, posdata};

const CONNECTIONS: usize = 10_000;
const LIMIT: Duration = Duration::from_secs(30);

/// The number of descriptors, and kB of resident memory.
fn held() -> (usize, usize) {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let memory = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    let memory = memory.split_whitespace().next().unwrap().parse().unwrap();
    (fs::read_dir("/proc/self/fd").unwrap().count(), memory)
}

/// After a tenth of the connections all buffers have their final size, and nothing grows after
/// that.
fn check(early: (usize, usize), late: (usize, usize)) {
    println!(
        "{} connections later: {early:?} descriptors and kB, then {late:?}",
        CONNECTIONS * 9 / 10
    );
    assert!(late.0 <= early.0 + 2, "{early:?}, {late:?}");
    assert!(late.1 <= early.1 + 1024, "{early:?}, {late:?}");
}

#[test]
fn nothing_is_left_behind() {
    drivers_that_come_and_go();
    servers_that_come_and_go();
}

/// A third of them close as soon as they have joined, a third with a job, a third in the middle of
/// a message.
fn drivers_that_come_and_go() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pool");
    let mut pool = Pool::new(PoolOptions::default().attempts(None)).unwrap();
    pool.listen(&Address::Unix(path.clone())).unwrap();
    pool.submit(Job::new(Cell::orthorhombic([20.0; 3]), vec![[0.0; 3]; 64]))
        .unwrap();
    let mut early = (0, 0);
    for number in 0..CONNECTIONS {
        if number == CONNECTIONS / 10 {
            early = held();
        }
        let mut driver = UnixStream::connect(&path).unwrap();
        let words = [READY, &READY[..5], b"READY       FORCEREADY"];
        driver.write_all(words[number % 3]).unwrap();
        drop(driver);
        // Wait until the pool has noticed its arrival and its end.
        while !matches!(
            pool.next(Some(LIMIT)).unwrap(),
            Some(PoolEvent::Left { .. })
        ) {}
    }
    check(early, held());
}

/// Drivers are dropped between messages, in the middle of one, or with positions to compute.
fn servers_that_come_and_go() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::tcp("127.0.0.1", listener.local_addr().unwrap().port());
    let server = thread::spawn(move || {
        for number in 0..CONNECTIONS {
            let (mut driver, _) = listener.accept().unwrap();
            let whole = [&posdata(&atoms(2)), GETFORCE].concat();
            let said = [STATUS, &whole[..100], &whole];
            driver.write_all(said[number % 3]).unwrap();
            let _ = driver.shutdown(std::net::Shutdown::Write); // fails if it is gone already
            let _ = driver.read_to_end(&mut Vec::new());
        }
    });
    let mut driver = Driver::new();
    let mut positions = [[0.0; 3]; 2];
    let mut early = (0, 0);
    for number in 0..CONNECTIONS {
        if number == CONNECTIONS / 10 {
            early = held();
        }
        let mut stream = connect(&address).unwrap();
        driver.reset();
        let event = blocking::run(&mut stream, driver.receive(&mut positions));
        match number % 3 {
            0 => assert_eq!(event.unwrap(), Event::Closed),
            1 => assert!(matches!(
                event,
                Err(Error::Protocol(ProtocolError::EndOfStream { .. }))
            )),
            _ => assert!(matches!(event.unwrap(), Event::Positions { natoms: 2, .. })),
        }
    }
    server.join().unwrap();
    check(early, held());
}
