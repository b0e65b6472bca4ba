//! Eight drivers on a bad day: killed, stalled, closed at any byte, replaced, and sending garbage.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use forcewire::net::{Job, PoolEvent, PoolOptions, Ticket};
use forcewire::{Deadlines, Mode};

use crate::peers::{CELL, LIMIT, Server, truth};
use forcewire_support::layout::{
    ForceReady, HEADER, INTEGER, Posdata, REAL, integer_at, numbers, put_integer, put_real,
};
use forcewire_support::{
    Answer, Dice, EXIT, GETFORCE, HAVEDATA, INIT, NEEDINIT, POSDATA, READY, STATUS, forceready,
    forceready_batch,
};

/// Fixed seeds, so that a day can be repeated: `FORCEWIRE_SEED=3 cargo test --test pool bad_day`.
const SEEDS: [u64; 5] = [1, 2, 3, 5, 8];
const REQUESTS: usize = 20_000;
const DRIVERS: usize = 8;
const NATOMS: usize = 3;

/// The faults of a driver; each has its counter.
const FAULTS: [&str; 7] = [
    "killed before it answers",
    "closed within its answer",
    "stalled before it answers",
    "stalled within its answer",
    "garbage",
    "wrong number of atoms",
    "not a number",
];

#[derive(Default)]
struct Count {
    faults: [AtomicUsize; FAULTS.len()],
    connections: AtomicUsize,
}

/// A driver that keeps to the protocol until the dice decide otherwise. It is written by hand,
/// because `Driver` can't make such errors.
struct Bad<'a> {
    stream: UnixStream,
    dice: &'a mut Dice,
    count: &'a Count,
    batch: usize,
}

/// The connection is over.
struct Over;

impl Bad<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> Result<(), Over> {
        self.stream.read_exact(bytes).map_err(|_| Over)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Over> {
        self.stream.write_all(bytes).map_err(|_| Over)
    }

    fn number(&mut self) -> Result<usize, Over> {
        let mut bytes = [0; INTEGER];
        self.read(&mut bytes)?;
        Ok(usize::try_from(integer_at(&bytes, 0)).unwrap())
    }

    /// Serves until it receives EXIT, or something has gone wrong.
    fn serve(&mut self) -> Result<(), Over> {
        let mut answers: Vec<Answer> = Vec::new();
        // A driver asks for INIT once, or never does.
        let mut initialized = self.dice.below(2) == 0;
        let mut header = [0; HEADER];
        loop {
            self.read(&mut header)?;
            match &header[..] {
                STATUS if !initialized => self.write(NEEDINIT)?,
                STATUS if answers.is_empty() => self.write(READY)?,
                STATUS => self.write(HAVEDATA)?,
                INIT => {
                    self.number()?;
                    let mut text = vec![0; self.number()?];
                    self.read(&mut text)?;
                    let text = String::from_utf8(text).unwrap();
                    if let Some((_, size)) = text.split_once("batch_size:") {
                        self.batch = size.parse().unwrap();
                    }
                    initialized = true;
                }
                POSDATA => {
                    let places = Posdata::batch(self.batch, NATOMS);
                    let mut message = vec![0; places.end()];
                    self.read(&mut message[HEADER..])?;
                    assert_eq!(integer_at(&message, places.atoms()), NATOMS as i32);
                    let positions = numbers(&message[places.positions(0)..]);
                    let positions = positions.as_chunks().0;
                    answers = positions.chunks(NATOMS).map(truth).collect();
                }
                GETFORCE => {
                    let answers = std::mem::take(&mut answers);
                    if self.dice.below(200) == 0 {
                        return self.fail(&answers);
                    }
                    self.write(&self.bytes(&answers))?;
                }
                EXIT => return Ok(()),
                _ => panic!("{}", header.escape_ascii()),
            }
        }
    }

    fn bytes(&self, answers: &[Answer]) -> Vec<u8> {
        match answers {
            [answer] => forceready(answer),
            answers => forceready_batch(answers),
        }
    }

    /// Commits one of the faults.
    fn fail(&mut self, answers: &[Answer]) -> Result<(), Over> {
        let mut bytes = self.bytes(answers);
        let fault = self.dice.below(FAULTS.len());
        self.count.faults[fault].fetch_add(1, Ordering::Relaxed);
        let begun = 1 + self.dice.below(bytes.len() - 1);
        let places = ForceReady::batch(self.batch, NATOMS);
        match FAULTS[fault] {
            "killed before it answers" => {}
            "closed within its answer" => self.write(&bytes[..begun])?,
            "stalled before it answers" => self.stall(),
            "stalled within its answer" => {
                self.write(&bytes[..begun])?;
                self.stall();
            }
            "garbage" => {
                bytes.fill_with(|| self.dice.below(256) as u8);
                self.write(&bytes)?;
                self.stall();
            }
            "wrong number of atoms" => {
                put_integer(&mut bytes, places.atoms(), NATOMS as i32 + 1);
                self.write(&bytes)?;
                self.stall();
            }
            "not a number" => {
                let at = places.forces(0) + REAL * self.dice.below(3 * NATOMS);
                put_real(&mut bytes, at, f64::NAN);
                self.write(&bytes)?;
                self.stall();
            }
            _ => unreachable!(),
        }
        Err(Over)
    }

    /// Stalls until the server closes the connection.
    fn stall(&mut self) {
        let _ = self.stream.read_to_end(&mut Vec::new());
    }
}

/// Runs one driver after another, until the server has gone.
fn replace(path: &Path, seed: u64, count: &Count, over: &AtomicBool) {
    let mut dice = Dice::new(seed);
    while !over.load(Ordering::Relaxed) {
        let Ok(stream) = UnixStream::connect(path) else {
            return;
        };
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        count.connections.fetch_add(1, Ordering::Relaxed);
        let mut driver = Bad {
            stream,
            dice: &mut dice,
            count,
            batch: 1,
        };
        if let Ok(()) = driver.serve() {
            return;
        }
    }
}

fn positions(salt: usize) -> Vec<[f64; 3]> {
    (0..NATOMS)
        .map(|i| [salt as f64 / 8.0, i as f64 - 1.0, (salt % 11) as f64])
        .collect()
}

/// One day. Every request is answered once, with its own numbers.
fn day(seed: u64, mode: Mode) {
    let deadlines = Deadlines::NONE
        .handshake(LIMIT)
        .message(Duration::from_millis(250))
        .evaluation(Duration::from_millis(250));
    let mut server = Server::new(PoolOptions::default().mode(mode).deadlines(deadlines));
    let count = Arc::new(Count::default());
    let over = Arc::new(AtomicBool::new(false));
    let drivers: Vec<_> = (0..DRIVERS as u64)
        .map(|driver| {
            let (path, count, over) = (server.path(), Arc::clone(&count), Arc::clone(&over));
            thread::spawn(move || replace(&path, seed * 1000 + driver, &count, &over))
        })
        .collect();

    let mut asked: BTreeMap<Ticket, usize> = BTreeMap::new();
    let mut results = vec![None; REQUESTS];
    let mut lost = 0;
    let (mut submitted, mut answered) = (0, 0);
    while answered < REQUESTS {
        // Beads of a ring polymer: there are always a few more than drivers.
        while submitted < REQUESTS && asked.len() < 32 {
            let job = Job::new(CELL, positions(submitted)).replica((submitted % 32) as i32);
            asked.insert(server.pool.submit(job).unwrap(), submitted);
            submitted += 1;
        }
        match server.next() {
            PoolEvent::Answered(answer) => {
                let salt = asked
                    .remove(&answer.ticket)
                    .expect("asked, and not answered yet");
                let truth = truth(&positions(salt));
                assert_eq!(answer.job.positions, positions(salt));
                assert_eq!(answer.job.forces, truth.forces);
                assert_eq!(answer.evaluation, truth.evaluation);
                assert_eq!(answer.extras, truth.extras);
                lost += answer.attempts as usize - 1;
                results[salt] = Some(answer.evaluation.energy);
                answered += 1;
            }
            PoolEvent::Left { .. } | PoolEvent::Joined { .. } => {}
            event => panic!("{event:?}"),
        }
    }
    assert!(results.iter().all(Option::is_some));
    assert_eq!((server.pool.queued(), server.pool.running()), (0, 0));
    over.store(true, Ordering::Relaxed);
    assert_eq!(server.pool.close(LIMIT).unwrap(), 0);
    for driver in drivers {
        driver.join().unwrap();
    }
    // Nothing was lost without a reason, and there were enough faults.
    let faults: Vec<_> = count
        .faults
        .iter()
        .map(|it| it.load(Ordering::Relaxed))
        .collect();
    assert!(lost >= faults.iter().sum::<usize>() / 2);
    assert!(faults.iter().sum::<usize>() >= DRIVERS, "{faults:?}");
    assert!(count.connections.load(Ordering::Relaxed) >= DRIVERS);
}

/// The number of open descriptors of this process.
fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

/// In a separate process, in which no other test opens descriptors.
#[test]
#[cfg_attr(
    target_endian = "big",
    ignore = "an emulated process can't start itself, and holds more than it knows"
)]
fn bad_day() {
    if std::env::var_os("FORCEWIRE_BAD_DAY").is_none() {
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["bad_day::bad_day", "--exact", "--nocapture"])
            .env("FORCEWIRE_BAD_DAY", "1")
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    let seeds = std::env::var("FORCEWIRE_SEED").map_or_else(
        |_| SEEDS.to_vec(),
        |seed| vec![seed.parse().expect("FORCEWIRE_SEED is a number")],
    );
    let (open, running) = (descriptors(), threads());
    for (index, seed) in seeds.into_iter().enumerate() {
        let modes = [
            Mode::Consolidated,
            Mode::Classic,
            Mode::Batched(4),
            Mode::Strict,
            Mode::Consolidated,
        ];
        let mode = modes[index % modes.len()];
        eprintln!("seed {seed}, {mode:?}: {REQUESTS} requests, {DRIVERS} drivers");
        day(seed, mode);
        assert_eq!((descriptors(), threads()), (open, running), "seed {seed}");
    }
}
