//! What an evaluation costs whoever asks for it, beside plain sockets that move the same bytes.
//!
//! The driver at the other end costs nothing: it knows how many bytes come and answers with bytes that it has. First
//! one driver and [`Server`], then many and [`Pool`]. `taskset -c 0 cargo bench --bench server` puts both ends on one
//! CPU; the ratio is the median over the turns. FORCEWIRE_OVERWRITE=1 writes the tables into the manual.

#[path = "../common/page.rs"]
mod page;
mod plain;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;

use forcewire::net::{Address, Job, Pool, PoolEvent, PoolOptions};
use forcewire::{Cell, Mode, Request, Server, blocking};

use page::Table;
use plain::{Socket, clear, forceready, median, pair, posdata, progress, ratio, timed};

const TURNS: usize = 15;

fn main() {
    let mut table = Table::new("src/manual/speed.md", "server");
    table.line("one driver, time an evaluation");
    table.line(format!(
        "{:>7} {:>5} {:>13} {:>12} {:>13} {:>7}",
        "atoms", "", "", "plain", "forcewire", "ratio"
    ));
    for natoms in [1, 64, 512, 1000, 4096, 10_000, 100_000] {
        for transport in ["tcp", "unix"] {
            for mode in [Mode::Classic, Mode::Consolidated] {
                table.line(one(natoms, transport, mode));
            }
        }
    }
    table.line("");
    table.line("a pool, 64 atoms over unix sockets, evaluations a second");
    table.line(format!(
        "{:>7} {:>13} {:>12} {:>13} {:>7}",
        "drivers", "", "plain", "forcewire", "ratio"
    ));
    for drivers in [1, 8, 64] {
        table.line(many(drivers, Mode::Consolidated));
    }
    table.line(many(8, Mode::Batched(16)));
    table.end();
}

/// The driver: reads messages of known lengths and answers each with what there is to say.
fn answer(mut socket: Socket, handshake: &[(usize, &[u8])], evaluation: &[(usize, &[u8])]) {
    let mut message = vec![0; 1 << 20];
    for (len, answer) in handshake.iter().chain(evaluation.iter().cycle()) {
        // In one read as a rule; the last is an EXIT, or the end.
        let mut have = 0;
        while have < *len {
            match socket.read(&mut message[have..*len]) {
                Ok(0) | Err(_) => return,
                Ok(n) => have += n,
            }
        }
        if socket.write_all(answer).is_err() {
            return;
        }
    }
}

/// What such a driver hears and says in each evaluation; the STATUS behind GETFORCE is answered behind the forces.
fn exchanges(natoms: usize, mode: Mode, last: &[u8]) -> Vec<(usize, &[u8])> {
    let posdata = 164 + 24 * natoms;
    match mode {
        Mode::Classic => vec![(posdata + 8, b"HAVEDATA    "), (24, last)],
        _ => vec![(posdata + 20, last)],
    }
}

fn one(natoms: usize, transport: &str, mode: Mode) -> String {
    let steps = (200_000 / (natoms + 64)).max(20);
    let (mut plain, mut ours) = (Vec::new(), Vec::new());
    for turn in 0..TURNS {
        progress(&format!(
            "{natoms} atoms, {transport}: turn {} of {TURNS}",
            turn + 1
        ));
        plain.push(against(natoms, transport, mode, |mut socket| {
            socket.write_all(b"STATUS      ").expect("peer");
            socket.read_exact(&mut [0; 12]).expect("peer");
            let posdata = posdata(natoms);
            let messages: Vec<Vec<u8>> = match mode {
                Mode::Classic => vec![
                    [&posdata[..], b"STATUS      "].concat(),
                    b"GETFORCE    STATUS      ".to_vec(),
                ],
                _ => vec![[&posdata[..], b"GETFORCE    STATUS      "].concat()],
            };
            let mut answers = [[0; 12].to_vec(), vec![0; 100 + 24 * natoms + 12]];
            let first = answers.len() - messages.len();
            timed(steps, || {
                for (message, answer) in messages.iter().zip(&mut answers[first..]) {
                    socket.write_all(message).expect("peer");
                    socket.read_exact(answer).expect("peer");
                }
            })
        }));
        ours.push(against(natoms, transport, mode, |socket| {
            let mut stream = socket.stream();
            let mut server = Server::new().mode(mode);
            let cell = Cell::orthorhombic([10.0; 3]);
            let positions: Vec<_> = (0..natoms).map(|i| [i as f64; 3]).collect();
            let (mut forces, mut extras) = (vec![[0.0; 3]; natoms], [0; 64]);
            let request = Request::new(&cell, &positions);
            timed(steps, || {
                let evaluate = server.evaluate(request, &mut forces, &mut extras);
                blocking::run(&mut stream, evaluate).expect("peer");
            })
        }));
    }
    clear();
    let mode = if mode == Mode::Classic {
        "classic"
    } else {
        "consolidated"
    };
    format!(
        "{natoms:>7} {transport:>5} {mode:>13} {:>9.1} µs {:>10.1} µs {:>6.2}×",
        median(plain.clone()),
        median(ours.clone()),
        ratio(&ours, &plain),
    )
}

/// Runs the asking side against such a driver.
fn against(natoms: usize, transport: &str, mode: Mode, ask: impl FnOnce(Socket) -> f64) -> f64 {
    let (near, far) = pair(transport);
    thread::scope(|scope| {
        scope.spawn(move || {
            let last = [&forceready(natoms, 1)[..], b"READY       "].concat();
            answer(
                far,
                &[(12, b"READY       ")],
                &exchanges(natoms, mode, &last),
            );
        });
        ask(near)
    })
}

const ATOMS: usize = 64;

fn many(drivers: usize, mode: Mode) -> String {
    let batch = if let Mode::Batched(size) = mode {
        size
    } else {
        1
    };
    let steps = 4000 / drivers;
    let last = [&forceready(ATOMS, batch)[..], b"READY       "].concat();
    let (len, handshake): (usize, &[(usize, &[u8])]) = match mode {
        Mode::Batched(_) => (
            12 + 4 + batch * (144 + 24 * ATOMS) + 24,
            // INIT's text is two blanks and batch_size:16.
            &[(12, b"NEEDINIT    "), (20 + 15 + 12, b"READY       ")],
        ),
        _ => (184 + 24 * ATOMS, &[(12, b"READY       ")]),
    };
    let (mut plain, mut ours) = (Vec::new(), Vec::new());
    for turn in 0..TURNS {
        progress(&format!("{drivers} drivers: turn {} of {TURNS}", turn + 1));
        plain.push(thread::scope(|scope| {
            let mut sockets = Vec::new();
            for _ in 0..drivers {
                let (near, far) = pair("unix");
                let last = &last;
                scope.spawn(move || answer(far, &[], &[(len, last)]));
                sockets.push(near);
            }
            let (message, mut reply) = (vec![0; len], vec![0; last.len()]);
            timed(steps, || {
                for socket in &mut sockets {
                    socket.write_all(&message).expect("peer");
                }
                for socket in &mut sockets {
                    socket.read_exact(&mut reply).expect("peer");
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
            // Half as many again wait for whoever is done first.
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
