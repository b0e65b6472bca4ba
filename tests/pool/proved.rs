//! Drivers that have answered, new drivers, and drivers that return without an answer.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use forcewire::net::{Matching, PoolEvent, PoolOptions};

use crate::peers::{Played, Server, check, computing, job, positions, truth};
use forcewire_support::layout::{HEADER, Posdata, numbers};
use forcewire_support::{READY, STATUS, forceready};

/// Sends READY, accepts a job and closes; connects again at once, until this is dropped.
struct Flapping {
    over: Arc<AtomicBool>,
    jobs: Arc<AtomicUsize>,
}

impl Flapping {
    fn new(path: PathBuf, natoms: usize, holds: Duration) -> Self {
        let (over, jobs) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let flapping = Self {
            over: over.clone(),
            jobs: jobs.clone(),
        };
        thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let Ok(mut stream) = UnixStream::connect(&path) else {
                    return;
                };
                stream
                    .set_read_timeout(Some(Duration::from_secs(1)))
                    .unwrap();
                if stream.read_exact(&mut [0; HEADER]).is_err() {
                    continue;
                }
                let _ = stream.write_all(READY);
                if Played(stream).hears_job(natoms).is_ok() {
                    jobs.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(holds);
                }
            }
        });
        flapping
    }

    fn jobs(&self) -> usize {
        self.jobs.load(Ordering::Relaxed)
    }
}

impl Drop for Flapping {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

#[test]
fn one_that_has_answered_gets_its_jobs_while_newcomers_lose_theirs() {
    for matching in [Matching::Auto, Matching::Any] {
        let mut server = Server::new(PoolOptions::default().matching(matching));
        let _driver = server.good();
        server.pool.submit(job(2, 0)).unwrap();
        server.answer();
        let holds = Duration::from_millis(100);
        let newcomers: Vec<_> = (0..8)
            .map(|_| Flapping::new(server.path(), 2, holds))
            .collect();
        server.joined(2);
        for salt in 1..=5 {
            server.pool.submit(job(2, salt)).unwrap();
            let start = Instant::now();
            let answer = loop {
                assert!(
                    start.elapsed() < Duration::from_secs(5),
                    "{salt}: no answer"
                );
                if let Some(PoolEvent::Answered(answer)) =
                    server.pool.next(Some(Duration::from_millis(50))).unwrap()
                {
                    break answer;
                }
            };
            check(&answer, 2, salt);
            assert!(answer.attempts <= 2, "{} drivers had it", answer.attempts);
        }
        drop(newcomers);
    }
}

#[test]
fn one_flapping_driver_does_not_end_a_run() {
    let mut server = Server::new(PoolOptions::default().attempts(Some(3)));
    let flapping = Flapping::new(server.path(), 2, Duration::ZERO);
    server.pool.submit(job(2, 1)).unwrap();
    while flapping.jobs() < 5 {
        match server.next() {
            PoolEvent::Joined { .. } | PoolEvent::Left { .. } => {}
            event => panic!("{event:?}"),
        }
    }
    let _driver = server.good();
    check(&server.answer(), 2, 1);
}

#[test]
fn a_lost_job_does_not_wait_for_one_that_never_comes_back() {
    let mut server = Server::new(PoolOptions::default().hold_back(Duration::ZERO));
    // This driver has answered before, and computes the next job forever.
    server.pool.submit(job(2, 1)).unwrap();
    computing(&server, 2, |mut driver| {
        driver.says([&forceready(&truth(&positions(2, 1)))[..], READY].concat());
        let _ = driver.0.read_to_end(&mut Vec::new());
    });
    check(&server.answer(), 2, 1);
    server.pool.submit(job(2, 2)).unwrap();
    assert!(
        server
            .pool
            .next(Some(Duration::from_millis(50)))
            .unwrap()
            .is_none()
    );
    assert_eq!(server.pool.running(), 1);
    server.pool.submit(job(2, 3)).unwrap();
    computing(&server, 2, drop);
    server.left();
    let _good = server.good();
    let answer = server.answer();
    check(&answer, 2, 3);
    assert_eq!(answer.attempts, 2);
}

/// A driver's messages after positions of two atoms and the STATUS after them.
fn answer_to(job: &[u8]) -> Vec<u8> {
    let places = Posdata::of(2);
    let positions = numbers(&job[places.positions(0)..places.end()]);
    [&forceready(&truth(positions.as_chunks().0))[..], READY].concat()
}

/// Answers one job, accepts the next and closes; connects again at once, until the server has gone.
fn answers_one_and_loses_the_next(path: PathBuf) {
    let serves = move || {
        let mut driver = Played(UnixStream::connect(&path)?);
        driver.0.read_exact(&mut [0; HEADER])?;
        driver.0.write_all(READY)?;
        let job = driver.hears_job(2)?;
        driver.0.write_all(&answer_to(&job))?;
        driver.hears_job(2)
    };
    thread::spawn(move || while serves().is_ok() {});
}

/// All jobs that it loses go to a driver that is slow but stays.
#[test]
fn one_that_answers_a_job_and_loses_the_next_does_not_end_a_run() {
    let mut server = Server::new(PoolOptions::default().attempts(Some(3)));
    let path = server.path();
    thread::spawn(move || {
        let mut driver = Played::connect(&path);
        driver.hears(STATUS);
        driver.says(READY);
        while let Ok(job) = driver.hears_job(2) {
            thread::sleep(Duration::from_millis(50));
            driver.says(answer_to(&job));
        }
    });
    server.joined(1);
    server.pool.submit(job(2, 0)).unwrap();
    check(&server.answer(), 2, 0);
    answers_one_and_loses_the_next(server.path());
    let jobs: Vec<_> = (1..9).map(|salt| job(2, salt)).collect();
    let limit = Some(Duration::from_secs(60));
    let answers = server.pool.evaluate(jobs, limit, |_| {}).unwrap();
    for (salt, answer) in (1..9).zip(&answers) {
        check(answer, 2, salt);
    }
}
