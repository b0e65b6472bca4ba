//! The cost of an evaluation with a [`Pool`], relative to plain sockets that move the same bytes.
//!
//! The drivers cost nothing: they know how many bytes arrive and send prepared answers.
//! `taskset -c 0 cargo bench --bench pool` runs both ends on one CPU; the ratio is the median over
//! the turns. `-- 8` measures only 8 drivers, `-- 16` batches of 16. FORCEWIRE_OVERWRITE=1 writes
//! the table into the manual.

use forcewire_support::page;
mod plain;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;

use forcewire::net::{Address, Job, Pool, PoolEvent, PoolOptions};
use forcewire::{Cell, Mode};

use page::Table;
use plain::layout::*;
use plain::{Socket, answer, clear, median, no_forces, pair, progress, ratio, timed};

const TURNS: usize = 15;
const ATOMS: usize = 64;

fn main() {
    plain::raise_descriptors();
    let only: Option<usize> = std::env::args().find_map(|argument| argument.parse().ok());
    let mut table = Table::new("src/manual/speed.md", "pool");
    table.line(format!(
        "{:>7} {:>13} {:>12} {:>13} {:>7}     evaluations a second, {ATOMS} atoms, unix",
        "drivers", "", "plain", "forcewire", "ratio"
    ));
    for (drivers, mode, turns) in [
        (1, Mode::Consolidated, TURNS),
        (8, Mode::Consolidated, TURNS),
        (64, Mode::Consolidated, TURNS),
        (1024, Mode::Consolidated, 3),
        (8, Mode::Batched(16), TURNS),
    ] {
        let name = match mode {
            Mode::Batched(size) => size,
            _ => drivers,
        };
        if only.is_none_or(|only| only == name) {
            table.line(many(drivers, mode, turns));
        }
    }
    if only.is_none() {
        table.end();
    }
}

fn many(drivers: usize, mode: Mode, turns: usize) -> String {
    let batch = if let Mode::Batched(size) = mode {
        size
    } else {
        1
    };
    let steps = (4000 / drivers).max(20);
    let last = [&no_forces(ATOMS, batch)[..], READY].concat();
    let len = Posdata::batch(batch, ATOMS).end() + 2 * HEADER;
    let initialize = init(0, "  batch_size:16").len() + HEADER;
    let handshake: &[(usize, &[u8])] = match mode {
        Mode::Batched(_) => &[(HEADER, NEEDINIT), (initialize, READY)],
        _ => &[(HEADER, READY)],
    };
    let (mut plain, mut ours) = (Vec::new(), Vec::new());
    for turn in 0..turns {
        progress(&format!("{drivers} drivers: turn {} of {turns}", turn + 1));
        plain.push(thread::scope(|scope| {
            let mut sockets = Vec::new();
            for _ in 0..drivers {
                let (near, far) = pair("unix");
                let last = &last;
                scope.spawn(move || answer(far, &[], &[(len, last)]));
                // Other structures than those of the other drivers.
                sockets.push((near, vec![0; len], vec![0; last.len()]));
            }
            timed(steps, || {
                for (socket, message, _) in &mut sockets {
                    socket.write_all(message).expect("peer");
                }
                for (socket, _, reply) in &mut sockets {
                    socket.read_exact(reply).expect("peer");
                }
            })
        }));
        ours.push(thread::scope(|scope| {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let path = directory.path().join("pool");
            let options = PoolOptions::default().mode(mode);
            let mut pool = Pool::new(options).expect("descriptors");
            pool.listen(&Address::Unix(path.clone()))
                .expect("a unix socket");
            for _ in 0..drivers {
                let socket = UnixStream::connect(&path).expect("listening");
                let last = &last;
                scope.spawn(move || answer(Socket::Unix(socket), handshake, &[(len, last)]));
            }
            while pool.drivers() < drivers {
                pool.next(None).expect("drivers");
            }
            let positions: Vec<_> = (0..ATOMS).map(|i| [i as f64; 3]).collect();
            let job = Job::new(Cell::orthorhombic([10.0; 3]), positions);
            // 1.5 times as many jobs as drivers, so that some always wait for the first free
            // driver.
            for _ in 0..drivers * batch * 3 / 2 {
                pool.submit(job.clone()).expect("a good job");
            }
            timed(steps, || {
                for _ in 0..drivers * batch {
                    loop {
                        match pool.next(None).expect("drivers") {
                            Some(PoolEvent::Answered(answer)) => {
                                pool.submit(answer.job).expect("a good job");
                                break;
                            }
                            Some(PoolEvent::Joined { .. }) => {}
                            event => panic!("{event:?}"),
                        }
                    }
                }
            })
        }));
    }
    clear();
    let what = match mode {
        Mode::Batched(size) => format!("batches of {size}"),
        _ => "consolidated".into(),
    };
    let rate = |time: &[f64]| (drivers * batch) as f64 * 1e6 / median(time.to_vec());
    format!(
        "{drivers:>7} {what:>13} {:>12.0} {:>13.0} {:>6.2}×",
        rate(&plain),
        rate(&ours),
        1.0 / ratio(&ours, &plain),
    )
}
