//! Drivers at the other end: good ones, and ones that a test plays byte by byte.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use forcewire::net::{Address, Answered, Job, LeftReason, Pool, PoolEvent, PoolOptions, connect};
use forcewire::{Cell, Driver, Evaluation, Event, Initialize, Virial, blocking};
use tempfile::TempDir;

use forcewire_support::layout::{HEADER, Posdata};
use forcewire_support::{Answer, FORCEREADY, HAVEDATA, READY, STATUS, forceready};

/// Longer than anything in these tests takes, even on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(30);

pub const CELL: Cell = Cell::orthorhombic([20.0, 21.0, 22.0]);

/// A pool that listens on a new unix socket.
pub struct Server {
    pub pool: Pool,
    pub address: Address,
    /// Descriptions of events other than answers.
    pub told: Vec<String>,
    directory: TempDir,
}

impl Server {
    pub fn new(options: PoolOptions) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut pool = Pool::new(options).unwrap();
        let address = Address::Unix(directory.path().join("pool"));
        let address = pool.listen(&address).unwrap();
        Self {
            pool,
            address,
            told: Vec::new(),
            directory,
        }
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("pool")
    }

    /// The next event; fails if there is none.
    pub fn next(&mut self) -> PoolEvent {
        let event = self.pool.next(Some(LIMIT)).unwrap();
        event.unwrap_or_else(|| panic!("nothing happens; until now:\n{}", self.told.join("\n")))
    }

    /// Waits until this many drivers have joined.
    pub fn joined(&mut self, count: usize) {
        while self.pool.drivers() < count {
            match self.next() {
                PoolEvent::Joined { .. } => {}
                event => panic!("{event:?}"),
            }
        }
    }

    /// Waits for an answer; meanwhile other drivers may leave and join.
    pub fn answer(&mut self) -> Answered {
        loop {
            match self.next() {
                PoolEvent::Answered(answer) => return answer,
                PoolEvent::Left { why, requeued, .. } => {
                    self.told.push(format!("{why}; {requeued}"))
                }
                PoolEvent::Joined { driver, .. } => self.told.push(format!("{driver} joined")),
                event => panic!("{event:?}"),
            }
        }
    }

    /// Waits until a driver leaves. Returns the reason and how many jobs it had.
    pub fn left(&mut self) -> (LeftReason, usize) {
        loop {
            match self.next() {
                PoolEvent::Left { why, requeued, .. } => return (why, requeued),
                PoolEvent::Joined { .. } => {}
                event => panic!("{event:?}"),
            }
        }
    }

    /// A driver played by the test.
    pub fn play(&self) -> Played {
        Played::connect(&self.path())
    }

    /// A driver that computes until it receives EXIT.
    pub fn good(&self) -> JoinHandle<usize> {
        good(&self.address, Initialize::Never)
    }
}

/// Polls the pool while something else happens. Only harmless events are allowed.
pub fn idle(pool: &mut Pool, time: Duration) {
    let start = Instant::now();
    while let Some(left) = time.checked_sub(start.elapsed()) {
        match pool.next(Some(left)).unwrap() {
            None | Some(PoolEvent::Joined { .. }) => {}
            Some(event) => panic!("{event:?}"),
        }
    }
}

/// Positions that are unique to a job.
pub fn positions(natoms: usize, salt: usize) -> Vec<[f64; 3]> {
    (0..natoms)
        .map(|i| [salt as f64 / 16.0, i as f64 / 3.0, (salt % 7) as f64 - 3.0])
        .collect()
}

pub fn job(natoms: usize, salt: usize) -> Job {
    Job::new(CELL, positions(natoms, salt)).replica(i32::try_from(salt).unwrap())
}

/// A correct driver's answer for these positions.
pub fn truth(positions: &[[f64; 3]]) -> Answer {
    let forces: Vec<_> = positions
        .iter()
        .map(|&[x, y, z]| [-x, 0.5 * z, y - x])
        .collect();
    let mut virial = Virial::ZERO;
    for (r, f) in positions.iter().zip(&forces) {
        virial.add_product(*r, *f);
    }
    let energy = positions.iter().map(|[x, y, z]| x + 2.0 * y - z * x).sum();
    Answer {
        evaluation: Evaluation { energy, virial },
        extras: format!("{{\"energy\":{energy:?}}}").into_bytes(),
        forces,
    }
}

/// Checks that an answer belongs to its job, in every number.
pub fn check(answer: &Answered, natoms: usize, salt: usize) {
    let positions = positions(natoms, salt);
    let truth = truth(&positions);
    assert_eq!(answer.job.positions, positions);
    assert_eq!(answer.job.replica, i32::try_from(salt).unwrap());
    assert_eq!(answer.evaluation, truth.evaluation);
    assert_eq!(answer.job.forces, truth.forces);
    assert_eq!(answer.extras, truth.extras);
    assert_eq!(answer.extras_sent, truth.extras.len());
}

/// A driver that computes until it receives EXIT, and returns the number of structures.
pub fn good(address: &Address, initialize: Initialize) -> JoinHandle<usize> {
    let address = address.clone();
    thread::spawn(move || {
        let mut stream = connect(&address).unwrap();
        let mut driver = Driver::new().initialize(initialize).allow_changing_atoms();
        let mut cells = [Cell::orthorhombic([0.0; 3]); 16];
        let mut positions = vec![[0.0; 3]; 4096];
        let mut count = 0;
        loop {
            let receive = driver.receive_batch(&mut cells, &mut positions);
            match blocking::run(&mut stream, receive).unwrap() {
                Event::Positions {
                    natoms, structures, ..
                } => {
                    let chunks = positions.chunks(natoms).take(structures);
                    let answers: Vec<_> = chunks.map(truth).collect();
                    let evaluations: Vec<_> = answers.iter().map(|it| it.evaluation).collect();
                    let forces: Vec<_> =
                        answers.iter().flat_map(|it| &it.forces).copied().collect();
                    let extras: Vec<_> = answers.iter().map(|it| it.extras.as_slice()).collect();
                    let reply = driver.reply_batch(&evaluations, &forces, &extras);
                    blocking::run(&mut stream, reply).unwrap();
                    count += structures;
                }
                Event::Exit => return count,
                Event::Init { .. } => {}
                event => panic!("{event:?}"),
            }
        }
    })
}

/// A driver played by the test.
pub struct Played(pub UnixStream);

impl Played {
    pub fn connect(path: &std::path::Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        Self(stream)
    }

    /// Reads these bytes and no others.
    pub fn hears(&mut self, bytes: impl AsRef<[u8]>) {
        let mut heard = vec![0; bytes.as_ref().len()];
        self.0.read_exact(&mut heard).unwrap();
        assert_eq!(
            heard.escape_ascii().to_string(),
            bytes.as_ref().escape_ascii().to_string()
        );
    }

    pub fn says(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).unwrap();
    }

    /// Reads POSDATA of this many atoms, then GETFORCE and STATUS.
    pub fn hears_job(&mut self, natoms: usize) -> io::Result<Vec<u8>> {
        let mut message = vec![0; Posdata::of(natoms).end() + 2 * HEADER];
        self.0.read_exact(&mut message)?;
        Ok(message)
    }

    /// Reads the end of the stream.
    pub fn hears_the_end(&mut self) {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).unwrap();
        assert_eq!(rest.escape_ascii().to_string(), "");
    }
}

/// Plays a driver that sends READY, receives positions of this many atoms in consolidated messages,
/// and continues with `go_on`.
pub fn computing(server: &Server, natoms: usize, go_on: impl FnOnce(Played) + Send + 'static) {
    let mut driver = server.play();
    thread::spawn(move || {
        driver.hears(STATUS);
        driver.says(READY);
        driver.hears_job(natoms).unwrap();
        go_on(driver);
    });
}

/// FORCEREADY of a plausible answer.
pub fn plausible(natoms: usize) -> Vec<u8> {
    forceready(&truth(&positions(natoms, 0)))
}

/// Messages from drivers that were not asked.
pub const ODD: &[&[u8]] = &[
    HAVEDATA,
    FORCEREADY,
    b"GET / HTTP/1.1\r\n",
    b"\0\0\0\0\0\0\0\0\0\0\0\0",
];
