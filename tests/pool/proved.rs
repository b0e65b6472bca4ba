//! Drivers that have answered, drivers that are new, and drivers that come back without an answer.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use forcewire::net::{Matching, PoolEvent, PoolOptions};

use crate::common::{READY, forceready};
use crate::peers::{Server, check, computing, job, positions, truth};

/// Says READY, takes a job and closes; and comes again at once, until it is dropped.
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
                let mut heard = vec![0; 12];
                if stream.read_exact(&mut heard).is_err() {
                    continue;
                }
                let _ = std::io::Write::write_all(&mut stream, READY);
                heard.resize(160 + 24 * natoms + 24, 0);
                if stream.read_exact(&mut heard).is_ok() {
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
    // It has answered, and computes the next one for ever.
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
