//! The addresses at which a pool listens, how it ends, and what it leaves behind.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use forcewire::Initialize;
use forcewire::net::{Address, Pool, PoolOptions};

use crate::peers::{LIMIT, Server, computing, good, job};
use forcewire_support::{EXIT, READY, STATUS};

#[test]
fn a_file_that_a_killed_server_left_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("driver");
    // The listener is closed and its file stays, as after a crash.
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let mut pool = Pool::new(PoolOptions::default()).unwrap();
    let address = Address::Unix(path.clone());
    assert_eq!(pool.listen(&address).unwrap(), address);
    let _driver = good(&address, Initialize::Never);
    pool.submit(job(1, 1)).unwrap();
    while pool.drivers() == 0 {
        pool.next(Some(LIMIT)).unwrap().unwrap();
    }
    pool.close(LIMIT).unwrap();
    assert!(!path.exists());
}

#[test]
fn a_socket_in_use_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("driver");
    let theirs = UnixListener::bind(&path).unwrap();
    let address = Address::Unix(path.clone());
    let mut pool = Pool::new(PoolOptions::default()).unwrap();
    let error = pool.listen(&address).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    let text = error.to_string();
    assert!(
        text.contains(&address.to_string()) && text.contains("another server"),
        "{text}"
    );
    drop(pool);
    assert!(UnixStream::connect(&path).is_ok());

    // Even a server that is too busy to accept.
    theirs.set_nonblocking(true).unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = mio_connect(&path) {
        waiting.push(stream);
    }
    let mut pool = Pool::new(PoolOptions::default()).unwrap();
    let start = Instant::now();
    let error = pool.listen(&address).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(start.elapsed() < LIMIT);
    assert!(path.exists());
}

/// Connects without waiting; fails once the server's queue is full.
fn mio_connect(path: &std::path::Path) -> std::io::Result<rustix::fd::OwnedFd> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::NONBLOCK,
        None,
    )?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

#[test]
fn a_file_that_is_no_socket_is_never_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("thesis.tex");
    fs::write(&path, "ten years of work").unwrap();
    let mut pool = Pool::new(PoolOptions::default()).unwrap();
    let error = pool.listen(&Address::Unix(path.clone())).unwrap_err();
    assert!(error.to_string().contains("no socket"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "ten years of work");
}

#[test]
fn a_tcp_port_in_use_is_refused() {
    let theirs = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = theirs.local_addr().unwrap().port();
    let mut pool = Pool::new(PoolOptions::default()).unwrap();
    let error = pool.listen(&Address::tcp("127.0.0.1", port)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&port.to_string()), "{error}");
}

#[test]
fn localhost_is_all_of_its_addresses() {
    let mut server = Server::new(PoolOptions::default());
    let bound = server.pool.listen(&"localhost:0".parse().unwrap()).unwrap();
    let Address::Tcp { port, .. } = bound else {
        panic!("{bound}")
    };
    assert_ne!(port, 0);
    let driver = good(&Address::tcp("127.0.0.1", port), Initialize::Never);
    let other = good(&Address::tcp("localhost", port), Initialize::Never);
    server.joined(2);
    server.pool.close(LIMIT).unwrap();
    assert_eq!(driver.join().unwrap() + other.join().unwrap(), 0);
}

#[test]
fn a_file_that_is_no_longer_ours_stays() {
    let mut server = Server::new(PoolOptions::default());
    let path = server.path();
    fs::remove_file(&path).unwrap();
    let _theirs = UnixListener::bind(&path).unwrap();
    assert!(server.pool.next(Some(Duration::ZERO)).unwrap().is_none());
    server.pool.close(LIMIT).unwrap();
    assert!(path.exists());
}

#[test]
fn closing_says_exit_and_waits_for_the_end() {
    let mut server = Server::new(PoolOptions::default());
    let path = server.path();
    // A driver that computes: its answer comes too late to be waited for.
    computing(&server, 1, |mut driver| {
        driver.hears(EXIT);
        driver.says(crate::peers::plausible(1));
    });
    server.joined(1);
    server.pool.submit(job(1, 1)).unwrap();
    let mut slow = server.play();
    let player = std::thread::spawn(move || {
        slow.hears(STATUS);
        slow.says(READY);
        slow.hears(EXIT);
        std::thread::sleep(Duration::from_millis(100));
    });
    server.joined(2);
    assert_eq!(server.pool.running(), 1);
    let start = Instant::now();
    assert_eq!(server.pool.close(LIMIT).unwrap(), 0);
    assert!(start.elapsed() >= Duration::from_millis(50));
    player.join().unwrap();
    assert!(!path.exists());
}

#[test]
fn closing_does_not_wait_for_ever() {
    let mut server = Server::new(PoolOptions::default());
    let mut stubborn = server.play();
    stubborn.says(READY);
    server.joined(1);
    let patience = Duration::from_millis(100);
    let start = Instant::now();
    assert_eq!(server.pool.close(patience).unwrap(), 1);
    assert!((patience..LIMIT).contains(&start.elapsed()));
    stubborn.hears([STATUS, EXIT].concat());
    stubborn.hears_the_end();
}

#[test]
fn a_pool_that_is_dropped_says_exit_as_well() {
    let mut server = Server::new(PoolOptions::default());
    let driver = server.good();
    let path = server.path();
    server.joined(1);
    drop(server.pool);
    assert_eq!(driver.join().unwrap(), 0);
    assert!(!path.exists());
}
