//! Peers that connect, send and leave without end delay neither the drivers nor the caller.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use forcewire::net::{Address, PoolEvent, PoolOptions};

use crate::peers::{LIMIT, Played, Server, job};
use forcewire_support::{NEEDINIT, STATUS};

/// Runs this while other threads repeat their action.
fn while_others<T>(
    path: &Path,
    others: &[fn(&Path) -> std::io::Result<()>],
    run: impl FnOnce() -> T,
) -> T {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for other in others {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let _ = other(path);
                }
            });
        }
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
        over.store(true, Ordering::Relaxed);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Answers everything with NEEDINIT, and reads all bytes.
fn asks_for_init(path: &Path) -> std::io::Result<()> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut heard = [0; 4096];
    while stream.read(&mut heard)? > 0 {
        stream.write_all(NEEDINIT)?;
    }
    Ok(())
}

/// Sends NEEDINIT without being asked.
fn floods(path: &Path) -> std::io::Result<()> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_write_timeout(Some(Duration::from_secs(1)))?;
    let many = NEEDINIT.repeat(5000);
    loop {
        stream.write_all(&many)?;
    }
}

fn comes_and_closes(path: &Path) -> std::io::Result<()> {
    UnixStream::connect(path).map(drop)
}

#[test]
fn one_that_asks_for_init_again_and_again_costs_others_little() {
    let mut server = Server::new(PoolOptions::default());
    let _driver = server.good();
    server.joined(1);
    let rate = |server: &mut Server, time: Duration| {
        let (start, mut answers, mut longest) = (Instant::now(), 0, Duration::ZERO);
        while start.elapsed() < time {
            if server.pool.queued() + server.pool.running() == 0 {
                server.pool.submit(job(2, answers)).unwrap();
            }
            let before = Instant::now();
            let event = server.pool.next(Some(Duration::from_millis(50))).unwrap();
            longest = longest.max(before.elapsed());
            answers += usize::from(matches!(event, Some(PoolEvent::Answered(_))));
        }
        (answers, longest)
    };
    let time = Duration::from_secs(2);
    let (alone, _) = rate(&mut server, time);
    let path = server.path();
    let (besieged, longest) =
        while_others(&path, &[asks_for_init, floods], || rate(&mut server, time));
    // The peers take CPU time from the good driver, but no turns.
    assert!(besieged > alone / 20, "{besieged} of {alone}");
    assert!(longest < Duration::from_secs(1), "{longest:?}");
}

#[test]
fn patience_ends_while_connections_come_and_close() {
    let mut server = Server::new(PoolOptions::default());
    let path = server.path();
    let patience = Duration::from_millis(500);
    let (result, took) = while_others(&path, &[comes_and_closes, comes_and_closes], move || {
        let start = Instant::now();
        let mut stuck = 0;
        let result = server.pool.evaluate([job(2, 1)], Some(patience), |_| {
            stuck += 1;
            assert!(start.elapsed() < LIMIT, "{stuck} events and no end");
        });
        (result, start.elapsed()) // and nobody waits any more to be accepted
    });
    assert!(result.is_err());
    assert!((patience..10 * patience).contains(&took), "{took:?}");
}

#[test]
fn each_listener_has_its_turn() {
    let mut server = Server::new(PoolOptions::default());
    let other = server.path().with_file_name("other");
    server.pool.listen(&Address::Unix(other.clone())).unwrap();
    // More connections than are accepted in one round.
    let _knock: Vec<_> = (0..100)
        .map(|_| UnixStream::connect(server.path()).unwrap())
        .collect();
    let mut driver = Played::connect(&other);
    server.pool.next(Some(Duration::ZERO)).unwrap();
    driver
        .0
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    driver.hears(STATUS);
}
