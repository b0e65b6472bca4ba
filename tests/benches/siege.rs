//! One good driver among 64 bad ones: the share of its throughput that remains, and the memory that
//! they cost.
//!
//! `cargo bench --bench siege` takes half a minute; `-- 600` runs for 600 seconds, with a row every
//! half minute. It fails if the good driver keeps less than 90 %. FORCEWIRE_OVERWRITE=1 writes the
//! table into the manual.

use forcewire_support::page;
mod plain;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use forcewire::net::{Address, Job, LeftReason, Pool, PoolEvent, PoolOptions};
use forcewire::{Cell, Deadlines};

use page::Table;
use plain::layout::*;
use plain::{clear, median, no_forces, progress};

const ATOMS: usize = 64;
const BAD: usize = 64;
/// Turns without and with the bad drivers alternate; this is the length of a turn, and their number
/// in a row of the table.
const TURN: Duration = Duration::from_secs(1);
const TURNS: u32 = 15;
/// The pause before a bad driver comes back. They run on the same CPUs, where connecting costs more
/// than their bad behaviour.
const PAUSE: Duration = Duration::from_millis(100);

/// What a bad driver does with its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Bad {
    Idle,
    /// Sends READY, accepts positions and never answers.
    HalfOpen,
    Garbage,
    /// Answers, much later.
    Slow,
    Http,
    /// Answers a byte at a time.
    Dribbling,
    /// Announces another number of atoms.
    Lying,
    /// Closes in the middle of its answer.
    Leaving,
    /// Asks for INIT again and again.
    NeverInitialized,
    /// Receives a job and closes.
    Flapping,
    /// Connects and closes.
    Knocking,
    /// Announces more extras than any driver has, and sends them.
    Flooding,
}

const KINDS: [Bad; 12] = [
    Bad::Idle,
    Bad::HalfOpen,
    Bad::Garbage,
    Bad::Slow,
    Bad::Http,
    Bad::Dribbling,
    Bad::Lying,
    Bad::Leaving,
    Bad::NeverInitialized,
    Bad::Flapping,
    Bad::Knocking,
    Bad::Flooding,
];

impl Bad {
    /// Runs one connection until either side ends it.
    fn connect(self, path: &Path) -> std::io::Result<()> {
        let mut stream = UnixStream::connect(path)?;
        let mut message = vec![0; 12];
        match self {
            Self::Idle => {}
            Self::Knocking => return Ok(()),
            Self::NeverInitialized => {
                message.resize(1024, 0);
                while stream.read(&mut message)? > 0 {
                    stream.write_all(NEEDINIT)?;
                }
                return Ok(());
            }
            Self::Garbage => stream.write_all(&[0x5a; 100])?,
            Self::Http => stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")?,
            _ => {
                stream.read_exact(&mut message)?;
                stream.write_all(READY)?;
                message.resize(Posdata::of(ATOMS).end() + 2 * HEADER, 0);
                loop {
                    stream.read_exact(&mut message)?;
                    let mut answer = no_forces(ATOMS, 1);
                    match self {
                        Self::Slow => {
                            thread::sleep(Duration::from_millis(100));
                            stream.write_all(&answer)?;
                            stream.write_all(READY)?;
                            continue;
                        }
                        Self::Dribbling => {
                            for byte in &answer {
                                stream.write_all(&[*byte])?;
                                thread::sleep(Duration::from_millis(20));
                            }
                        }
                        Self::Lying => {
                            answer[ForceReady::of(ATOMS).atoms()] += 1;
                            stream.write_all(&answer)?;
                        }
                        Self::Flapping => return Ok(()),
                        Self::Flooding => {
                            put_integer(&mut answer, ForceReady::of(ATOMS).extras(), i32::MAX);
                            stream.write_all(&answer)?;
                            // Sends at the speed of a slow network until the server closes.
                            let extras = [b' '; 10_000];
                            loop {
                                stream.write_all(&extras)?;
                                thread::sleep(Duration::from_millis(10));
                            }
                        }
                        Self::Leaving => {
                            stream.write_all(&answer[..1000])?;
                            return Ok(());
                        }
                        _ => {}
                    }
                    break;
                }
            }
        }
        stream.read_to_end(&mut message)?;
        Ok(())
    }
}

/// The good driver costs nothing and is always ready.
fn good(path: &Path, answered: &AtomicU64) {
    let mut stream = UnixStream::connect(path).expect("the pool");
    let mut message = vec![0; Posdata::of(ATOMS).end() + 2 * HEADER];
    let answer = [&no_forces(ATOMS, 1)[..], READY].concat();
    stream.read_exact(&mut message[..12]).expect("the pool");
    stream.write_all(READY).expect("the pool");
    while stream.read_exact(&mut message).is_ok() && stream.write_all(&answer).is_ok() {
        answered.fetch_add(1, Ordering::Relaxed);
    }
}

fn main() {
    let seconds = std::env::args().find_map(|argument| argument.parse().ok());
    let total = Duration::from_secs(seconds.unwrap_or(30));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("pool");
    let limit = Duration::from_secs(2);
    let mut pool = Pool::new(
        PoolOptions::default().deadlines(
            Deadlines::NONE
                .handshake(limit)
                .message(limit)
                .evaluation(limit),
        ),
    )
    .expect("descriptors");
    pool.listen(&Address::Unix(path.clone()))
        .expect("a unix socket");
    let (siege, over, answered) = (
        AtomicBool::new(false),
        AtomicBool::new(false),
        AtomicU64::new(0),
    );
    let mut table = Table::new("src/manual/speed.md", "siege");
    table.line(format!(
        "one good driver, {BAD} bad ones now and then, {ATOMS} atoms over a unix socket"
    ));
    table.line(format!(
        "{:>6} {:>12} {:>12} {:>7} {:>9} {:>9} {:>12}",
        "s", "alone", "besieged", "ratio", "memory", "files", "bad drivers"
    ));
    thread::scope(|scope| {
        scope.spawn(|| good(&path, &answered));
        for index in 0..BAD {
            let (path, siege, over) = (&path, &siege, &over);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    if siege.load(Ordering::Relaxed) {
                        let _ = KINDS[index % KINDS.len()].connect(path);
                    }
                    thread::sleep(PAUSE);
                }
            });
        }
        for replica in 0..2 * BAD as i32 {
            let cell = Cell::orthorhombic([20.0; 3]);
            let job = Job::new(cell, vec![[1.0; 3]; ATOMS]).replica(replica);
            pool.submit(job).expect("a good job");
        }
        let start = Instant::now();
        let (mut dropped, mut reasons) = (0, BTreeMap::new());
        let mut all = Vec::new();
        while start.elapsed() < total {
            let (mut alone, mut besieged) = (Vec::new(), Vec::new());
            for turn in 0..TURNS {
                for (rates, on) in [(&mut alone, false), (&mut besieged, true)] {
                    siege.store(on, Ordering::Relaxed);
                    let before = answered.load(Ordering::Relaxed);
                    let begun = Instant::now();
                    while begun.elapsed() < TURN {
                        match pool.next(Some(TURN)).expect("sockets") {
                            Some(PoolEvent::Answered(answer)) => {
                                pool.submit(answer.job).expect("a good job");
                            }
                            Some(PoolEvent::Left { why, .. }) => {
                                dropped += 1;
                                *reasons.entry(kind(&why)).or_insert(0) += 1;
                            }
                            _ => {}
                        }
                    }
                    let answers = answered.load(Ordering::Relaxed) - before;
                    rates.push(answers as f64 / begun.elapsed().as_secs_f64());
                }
                progress(&format!("turn {} of {TURNS}", turn + 1));
            }
            clear();
            let ratios = besieged
                .iter()
                .zip(&alone)
                .map(|(with, without)| with / without);
            let ratio = median(ratios.collect());
            all.push(ratio);
            table.line(format!(
                "{:>6.0} {:>10.0}/s {:>10.0}/s {:>6.2}× {:>6} kB {:>9} {dropped:>12}",
                start.elapsed().as_secs_f64(),
                median(alone.clone()),
                median(besieged.clone()),
                ratio,
                resident(),
                fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
            ));
        }
        for (reason, count) in reasons {
            table.line(format!("{count:>8}  {reason}"));
        }
        let counters = pool.counters();
        table.line(format!(
            "{} evaluations, half of them within {:?} and 99 % within {:?}; {} requeued",
            counters.evaluations,
            counters.latencies.quantile(0.5).unwrap_or_default(),
            counters.latencies.quantile(0.99).unwrap_or_default(),
            counters.requeued
        ));
        if let Some(loss) = &counters.last_loss {
            let [driver, jobs] = [loss.driver.to_string(), loss.jobs.to_string()];
            table.line(format!(
                "the last loss: driver {driver}, {jobs} jobs, {}",
                loss.why
            ));
        }
        over.store(true, Ordering::Relaxed);
        drop(pool);
        let ratio = median(all);
        assert!(
            ratio >= 0.9,
            "the good driver keeps {ratio:.2} of its throughput"
        );
    });
    table.end();
}

/// The reason without its numbers.
fn kind(why: &LeftReason) -> String {
    let text = why.to_string();
    let end = text.find([':', '"', ',']).unwrap_or(text.len());
    text[..end].to_owned()
}

/// The memory of this process, including its 65 drivers.
fn resident() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.map_or("?".into(), |line| {
        line.trim().trim_end_matches(" kB").to_owned()
    })
}
