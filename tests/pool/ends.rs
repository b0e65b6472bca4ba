//! Drivers that are dismissed, pools that end gradually, and jobs that are given to two drivers.

use std::io::Read;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use forcewire::Mode;
use forcewire::net::{EvaluateFailure, LeftReason, PoolEvent, PoolOptions};

use crate::peers::{LIMIT, Played, Server, check, computing, job, positions, truth};
use forcewire_support::layout::{HEADER, Posdata};
use forcewire_support::{EXIT, GETFORCE, HAVEDATA, READY, STATUS, forceready};

fn answer(salt: usize) -> Vec<u8> {
    [&forceready(&truth(&positions(2, salt)))[..], READY].concat()
}

/// A driver that answers one job when it is told to, then expects EXIT.
fn one_job(server: &Server) -> std::sync::mpsc::Sender<()> {
    let (go, wait) = channel::<()>();
    computing(server, 2, move |mut driver| {
        wait.recv().unwrap();
        driver.says(answer(1));
        driver.hears(EXIT);
    });
    go
}

#[test]
fn a_driver_that_is_dismissed_leaves_at_once_or_with_its_answer() {
    let mut server = Server::new(PoolOptions::default());
    let go = one_job(&server);
    let PoolEvent::Joined { driver: busy, .. } = server.next() else {
        panic!("no driver")
    };
    server.pool.submit(job(2, 1)).unwrap();
    assert!(server.pool.next(Some(Duration::ZERO)).unwrap().is_none());
    let idle = server.good();
    let PoolEvent::Joined { driver, .. } = server.next() else {
        panic!("no driver")
    };

    assert!(server.pool.dismiss(driver));
    assert_eq!(idle.join().unwrap(), 0);
    let (why, requeued) = server.left();
    assert!(matches!(why, LeftReason::Dismissed), "{why:?}");
    assert_eq!(requeued, 0);
    assert!(!server.pool.dismiss(driver), "it is gone");

    assert!(server.pool.dismiss(busy));
    assert_eq!(server.pool.running(), 1);
    // The dismissed driver gets no other job.
    server.pool.submit(job(2, 2)).unwrap();
    go.send(()).unwrap();
    check(&server.answer(), 2, 1);
    let (why, requeued) = server.left();
    assert!(matches!(why, LeftReason::Dismissed), "{why:?}");
    assert_eq!((requeued, server.pool.queued()), (0, 1));
}

#[test]
fn a_strict_driver_is_dismissed_with_its_answer() {
    let mut server = Server::new(PoolOptions::default().mode(Mode::Strict));
    let mut driver = server.play();
    let player = thread::spawn(move || {
        driver.hears(STATUS);
        driver.says(READY);
        let mut message = vec![0; Posdata::of(2).end() + HEADER];
        driver.0.read_exact(&mut message).unwrap();
        driver.says(HAVEDATA);
        driver.hears(GETFORCE);
        driver.says(forceready(&truth(&positions(2, 1))));
        driver.hears(EXIT);
    });
    server.pool.submit(job(2, 1)).unwrap();
    let PoolEvent::Joined { driver, .. } = server.next() else {
        panic!("no driver")
    };
    assert!(server.pool.next(Some(Duration::ZERO)).unwrap().is_none());
    assert!(server.pool.dismiss(driver));
    check(&server.answer(), 2, 1);
    player.join().unwrap();
    assert!(matches!(server.left().0, LeftReason::Dismissed));
}

#[test]
fn a_pool_that_is_drained_answers_what_runs() {
    let mut server = Server::new(PoolOptions::default());
    let path = server.path();
    let go = one_job(&server);
    server.joined(1);
    server.pool.submit(job(2, 1)).unwrap();
    assert!(server.pool.next(Some(Duration::ZERO)).unwrap().is_none());
    let idle = server.good();
    server.joined(2);
    server.pool.submit(job(2, 2)).unwrap();
    // The job may have been answered by now.
    let event = server.pool.next(Some(Duration::ZERO)).unwrap();
    server.pool.submit(job(2, 3)).unwrap();

    server.pool.drain();
    assert!(!path.exists());
    let answered = match event {
        Some(PoolEvent::Answered(answer)) => answer,
        event => {
            assert!(event.is_none(), "{event:?}");
            server.answer()
        }
    };
    check(&answered, 2, 2);
    assert_eq!(idle.join().unwrap(), 1);
    go.send(()).unwrap();
    check(&server.answer(), 2, 1);
    assert_eq!((server.pool.queued(), server.pool.running()), (1, 0));
    assert_eq!(server.pool.close(LIMIT).unwrap(), 0);
}

#[test]
fn a_straggler_is_overtaken_and_its_answer_dropped() {
    let after = Some(Duration::from_millis(100));
    let mut server = Server::new(PoolOptions::default().stragglers(after));
    let _good = server.good();
    server.pool.submit(job(2, 9)).unwrap();
    server.answer();
    let (go, wait) = channel::<()>();
    let mut slow = server.play();
    let player = thread::spawn(move || {
        slow.hears(STATUS);
        slow.says(READY);
        slow.hears_job(2).unwrap();
        wait.recv().unwrap();
        slow.says(answer(1));
        slow
    });
    server.joined(2);
    // The newcomer gets the first job and keeps it.
    for salt in 1..=3 {
        server.pool.submit(job(2, salt)).unwrap();
    }
    let mut answered: Vec<i32> = (0..3).map(|_| server.answer().job.replica).collect();
    answered.sort_unstable();
    assert_eq!(answered, [1, 2, 3]);
    assert_eq!(server.pool.counters().given_twice, 1);
    assert_eq!((server.pool.queued(), server.pool.running()), (0, 1));
    go.send(()).unwrap();
    let _slow: Played = player.join().unwrap();
    // The answer of the slow driver is counted but not delivered.
    crate::peers::idle(&mut server.pool, Duration::from_millis(100));
    let counters = server.pool.counters();
    assert_eq!((counters.evaluations, server.pool.running()), (5, 0));
}

#[test]
fn a_straggler_that_is_lost_costs_nothing() {
    let after = Some(Duration::from_millis(50));
    let options = PoolOptions::default().stragglers(after);
    let mut server = Server::new(options);
    let go = one_job(&server);
    let (lose, wait) = channel::<()>();
    computing(&server, 2, move |mut driver| {
        driver.says(answer(7));
        driver.hears_job(2).unwrap();
        wait.recv().unwrap();
    });
    server.joined(2);
    server.pool.submit(job(2, 1)).unwrap();
    server.pool.submit(job(2, 7)).unwrap();
    check(&server.answer(), 2, 7);
    // Job 1 is also given to the second driver, which leaves with it.
    while server.pool.running() < 2 {
        assert!(
            server
                .pool
                .next(Some(Duration::from_millis(20)))
                .unwrap()
                .is_none()
        );
    }
    lose.send(()).unwrap();
    let (_, requeued) = server.left();
    assert_eq!((requeued, server.pool.running()), (0, 1));
    go.send(()).unwrap();
    let answer = server.answer();
    check(&answer, 2, 1);
    assert_eq!(answer.attempts, 1);
}

#[test]
fn counters_tell_what_has_happened() {
    let mut server = Server::new(PoolOptions::default());
    computing(&server, 2, drop);
    server.pool.submit(job(2, 1)).unwrap();
    let (why, _) = server.left();
    let _good = server.good();
    check(&server.answer(), 2, 1);
    let counters = server.pool.counters();
    assert_eq!((counters.connections, counters.joined), (2, 2));
    assert_eq!((counters.evaluations, counters.requeued), (1, 1));
    assert_eq!(counters.latencies.count(), 1);
    assert!(counters.latencies.quantile(1.0) > Some(counters.latencies.longest()));
    let loss = counters.last_loss.as_ref().unwrap();
    assert_eq!((loss.why.clone(), loss.jobs), (why.to_string(), 1));
}

#[test]
fn one_that_comes_back_without_an_answer_waits_longer_each_time() {
    let mut server = Server::new(PoolOptions::default().hold_back(Duration::from_millis(200)));
    server.pool.submit(job(2, 1)).unwrap();
    let mut waits = Vec::new();
    // The time when the previous driver had its positions; it was lost a moment later.
    let mut last = Instant::now();
    for _ in 0..5 {
        let (tell, told) = channel();
        computing(&server, 2, move |_| tell.send(Instant::now()).unwrap());
        server.left();
        let asked = told.recv().unwrap();
        waits.push(asked.duration_since(last));
        last = asked;
    }
    for (wait, least) in waits.iter().zip([0, 50, 100, 200, 200]) {
        assert!(*wait >= Duration::from_millis(least), "{waits:?}");
    }
}

#[test]
fn a_drained_pool_is_of_no_more_use() {
    let mut server = Server::new(PoolOptions::default());
    server.pool.drain();
    let error = server.pool.listen(&"localhost:0".parse().unwrap());
    assert_eq!(error.unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    let error = server.pool.evaluate([job(2, 1)], None, |_| {}).unwrap_err();
    assert!(matches!(error.why, EvaluateFailure::Draining), "{error}");
    assert_eq!(error.jobs, [job(2, 1)]);
}
