//! The cost of an evaluation for a [`Server`], relative to plain sockets that move the same bytes.
//!
//! The driver at the other end costs nothing: it knows how many bytes arrive and sends prepared
//! answers. `taskset -c 0 cargo bench --bench server` runs both ends on one CPU; the ratio is the
//! median over the turns. FORCEWIRE_OVERWRITE=1 writes the table into the manual.

use forcewire_support::page;
mod plain;

use std::io::{Read, Write};
use std::thread;

use forcewire::{Cell, Mode, Request, Server, blocking};

use page::Table;
use plain::layout::*;
use plain::{Socket, answer, atoms, clear, median, no_forces, pair, progress, ratio, timed};

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
    table.end();
}

/// The messages of such a driver in each evaluation; the STATUS after GETFORCE is answered after
/// the forces.
fn exchanges(natoms: usize, mode: Mode, last: &[u8]) -> Vec<(usize, &[u8])> {
    let posdata = Posdata::of(natoms).end();
    match mode {
        Mode::Classic => vec![(posdata + HEADER, HAVEDATA), (2 * HEADER, last)],
        _ => vec![(posdata + 2 * HEADER, last)],
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
            socket.write_all(STATUS).expect("peer");
            socket.read_exact(&mut [0; 12]).expect("peer");
            let posdata = atoms(natoms);
            let messages: Vec<Vec<u8>> = match mode {
                Mode::Classic => vec![[&posdata[..], STATUS].concat(), [GETFORCE, STATUS].concat()],
                _ => vec![[&posdata[..], b"GETFORCE    STATUS      "].concat()],
            };
            let mut answers = [
                [0; HEADER].to_vec(),
                vec![0; ForceReady::of(natoms).end() + HEADER],
            ];
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

/// Runs the server's side against such a driver.
fn against(natoms: usize, transport: &str, mode: Mode, ask: impl FnOnce(Socket) -> f64) -> f64 {
    let (near, far) = pair(transport);
    thread::scope(|scope| {
        scope.spawn(move || {
            let last = [&no_forces(natoms, 1)[..], READY].concat();
            answer(far, &[(HEADER, READY)], &exchanges(natoms, mode, &last));
        });
        ask(near)
    })
}
