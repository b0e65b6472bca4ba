//! How much memory a pool keeps, and for how long.

use std::io::Read;
use std::time::Duration;

use forcewire::net::{Matching, PoolOptions};
use forcewire::{Initialize, Mode};

use crate::peers::{Played, Server, check, computing, good, idle, job, positions, truth};
use forcewire_support::layout::{HEADER, Posdata, real_at};
use forcewire_support::{NEEDINIT, READY, STATUS, forceready, init};

/// The resident memory of this process in kilobytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}

#[test]
fn drivers_without_a_job_keep_no_buffers() {
    let mut server = Server::new(PoolOptions::default());
    let (path, before) = (server.path(), resident());
    let (count, len) = (400, 1 << 20);
    let drivers = std::thread::spawn(move || {
        let mut answer = truth(&positions(1, 0));
        answer.extras = vec![b'x'; len];
        let answer = [&forceready(&answer)[..], READY].concat();
        let mut drivers = Vec::new();
        for _ in 0..count {
            let mut driver = Played::connect(&path);
            driver.hears(STATUS);
            driver.says(READY);
            driver.hears_job(1).unwrap();
            driver.says(&answer);
            drivers.push(driver);
        }
        drivers
    });
    // Each driver except the newest stays with its replica.
    for replica in 0..count {
        server.joined(replica + 1);
        server
            .pool
            .submit(job(1, 0).replica(replica as i32))
            .unwrap();
        assert_eq!(server.answer().extras.len(), len);
    }
    let drivers = drivers.join().unwrap();
    let grown = resident().saturating_sub(before);
    assert!(
        grown < 150_000,
        "{grown} kB for {} idle drivers",
        drivers.len()
    );
}

#[test]
fn any_number_of_extras_may_be_kept() {
    for mode in [Mode::Consolidated, Mode::Batched(2)] {
        let mut server = Server::new(PoolOptions::default().extras(usize::MAX).mode(mode));
        let _driver = good(&server.address, Initialize::Once);
        for salt in 0..4 {
            server.pool.submit(job(2, salt)).unwrap();
        }
        for _ in 0..4 {
            let answer = server.answer();
            let salt = usize::try_from(answer.job.replica).unwrap();
            check(&answer, 2, salt);
        }
    }
}

#[test]
fn a_locked_drivers_batch_is_of_its_replica() {
    let options = PoolOptions::default()
        .mode(Mode::Batched(4))
        .matching(Matching::Locked);
    let mut server = Server::new(options);
    let mut driver = server.play();
    let player = std::thread::spawn(move || {
        driver.hears(STATUS);
        driver.says(NEEDINIT);
        driver.hears(init(1, "  batch_size:4"));
        driver.hears(STATUS);
        driver.says(READY);
        let places = Posdata::batch(4, 1);
        let mut message = vec![0; places.end() + 2 * HEADER];
        driver.0.read_exact(&mut message).unwrap();
        let x = |structure| real_at(&message, places.positions(structure));
        // The last structure is repeated.
        let salts: Vec<_> = (0..4).map(|structure| x(structure) * 16.0).collect();
        salts
    });
    for (salt, replica) in [(1, 1), (2, 2), (3, 1), (4, 2)] {
        server.pool.submit(job(1, salt).replica(replica)).unwrap();
    }
    server.left();
    assert_eq!(player.join().unwrap(), [1.0, 3.0, 3.0, 3.0]);
}

#[test]
fn a_job_that_is_gone_does_not_settle_the_number_of_atoms() {
    let mut server = Server::new(PoolOptions::default());
    let ticket = server.pool.submit(job(2, 1)).unwrap();
    assert!(server.pool.cancel(ticket));
    let ticket = server.pool.submit(job(3, 1)).unwrap();
    assert!(server.pool.cancel(ticket));

    // A driver that has computed fixes the number of atoms as long as it is connected.
    let mut driver = server.play();
    let player = std::thread::spawn(move || {
        driver.hears(STATUS);
        driver.says(READY);
        driver.hears_job(2).unwrap();
        driver.says([&forceready(&truth(&positions(2, 1)))[..], READY].concat());
        driver
    });
    server.pool.submit(job(2, 1)).unwrap();
    check(&server.answer(), 2, 1);
    let driver = player.join().unwrap();
    assert!(server.pool.submit(job(3, 1)).is_err());
    drop(driver);
    server.left();
    server.pool.submit(job(3, 1)).unwrap();
    let _driver = server.good();
    check(&server.answer(), 3, 1);
}

/// The CPU time of this thread in nanoseconds.
fn busy() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// The driver came back after losing its first job and has to wait for another, but none remains.
#[test]
fn a_driver_that_is_held_back_costs_nothing() {
    let mut server = Server::new(PoolOptions::default());
    let ticket = server.pool.submit(job(2, 1)).unwrap();
    // The last driver waits for 200 ms.
    for _ in 0..3 {
        computing(&server, 2, drop);
        server.left();
    }
    let _back = server.good();
    server.joined(1);
    server.pool.cancel(ticket);
    idle(&mut server.pool, Duration::from_millis(200));
    let before = busy();
    idle(&mut server.pool, Duration::from_millis(500));
    let spent = Duration::from_nanos(busy() - before);
    assert!(spent < Duration::from_millis(25), "{spent:?}");
}
