//! The cost of an evaluation through forcewire, as a ratio to plain sockets that move the same
//! bytes.
//!
//! `taskset -c 0 cargo bench --bench driver` runs both ends on one CPU, which excludes the time
//! that one CPU takes to wake another. Both programs are measured alternately in one run, by the
//! CPU time of both ends, because machines are noisy: the ratio is the median over the turns.
//! FORCEWIRE_OVERWRITE=1 writes the table into the manual.

use forcewire_support::page;
mod plain;

use std::io::{Read, Write};
use std::thread;

use forcewire::net::Stream;
use forcewire::{Driver, Evaluation, Event, Virial, blocking};

use page::Table;
use plain::layout::*;
use plain::{Socket, atoms, clear, median, pair, progress, ratio, timed};

const TURNS: usize = 15;

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Classic,
    Consolidated,
}

fn main() {
    let mut table = Table::new("src/manual/speed.md", "driver");
    table.line(format!(
        "{:>7} {:>5} {:>13} {:>12} {:>13} {:>7}",
        "atoms", "", "", "plain", "forcewire", "ratio"
    ));
    for natoms in [1, 64, 512, 1000, 4096, 10_000, 100_000] {
        for transport in ["tcp", "unix"] {
            for mode in [Mode::Classic, Mode::Consolidated] {
                table.line(row(natoms, transport, mode));
            }
        }
    }
    table.end();
}

fn row(natoms: usize, transport: &str, mode: Mode) -> String {
    let steps = (200_000 / (natoms + 64)).max(20);
    let (mut plain, mut ours) = (Vec::new(), Vec::new());
    for turn in 0..TURNS {
        progress(&format!(
            "{natoms} atoms, {transport}: turn {} of {TURNS}",
            turn + 1
        ));
        plain.push(measure(natoms, transport, mode, steps, |socket| {
            answer(socket, natoms, mode)
        }));
        ours.push(measure(natoms, transport, mode, steps, |socket| {
            serve(socket.stream(), natoms)
        }));
    }
    clear();
    let ratio = ratio(&ours, &plain);
    let mode = if mode == Mode::Classic {
        "classic"
    } else {
        "consolidated"
    };
    format!(
        "{natoms:>7} {transport:>5} {mode:>13} {:>9.1} µs {:>10.1} µs {ratio:>6.2}×",
        median(plain),
        median(ours),
    )
}

/// Microseconds per evaluation requested by plain sockets and answered by `driver`.
fn measure(
    natoms: usize,
    transport: &str,
    mode: Mode,
    steps: usize,
    driver: impl FnOnce(Socket) + Send,
) -> f64 {
    let (mut near, far) = pair(transport);
    let posdata = atoms(natoms);
    let mut reply = vec![0; ForceReady::of(natoms).end()];
    thread::scope(|scope| {
        scope.spawn(move || driver(far));
        let consolidated = [&posdata[..], GETFORCE].concat();
        let classic = [&posdata[..], STATUS].concat();
        let mut status = [0; 12];
        let time = timed(steps, || {
            if mode == Mode::Classic {
                near.write_all(STATUS).expect("peer");
                near.read_exact(&mut status).expect("peer");
                near.write_all(&classic).expect("peer");
                near.read_exact(&mut status).expect("peer");
                near.write_all(GETFORCE).expect("peer");
            } else {
                near.write_all(&consolidated).expect("peer");
            }
            near.read_exact(&mut reply).expect("peer");
        });
        near.write_all(EXIT).expect("peer");
        time
    })
}

/// The least work that any driver must do: read each message, write each message, and know their
/// sizes.
fn answer(mut socket: Socket, natoms: usize, mode: Mode) {
    let mut header = [0; 12];
    // POSDATA and the header after it.
    let mut message = vec![0; Posdata::of(natoms).end() + HEADER];
    let reply = vec![0; ForceReady::of(natoms).end()];
    loop {
        if mode == Mode::Classic {
            socket.read_exact(&mut header).expect("peer");
            if header == EXIT {
                return;
            }
            socket.write_all(READY).expect("peer");
            socket.read_exact(&mut message).expect("peer");
            socket.write_all(HAVEDATA).expect("peer");
            socket.read_exact(&mut header).expect("peer");
        } else {
            // Read the whole message, or an EXIT.
            let have = socket.read(&mut message).expect("peer");
            if message.starts_with(b"EXIT") {
                return;
            }
            socket.read_exact(&mut message[have..]).expect("peer");
        }
        socket.write_all(&reply).expect("peer");
    }
}

fn serve(mut stream: Stream, natoms: usize) {
    let mut driver = Driver::new();
    let mut positions = vec![[0.0_f64; 3]; natoms];
    let evaluation = Evaluation {
        energy: 0.0,
        virial: Virial::default(),
    };
    while let Event::Positions { .. } =
        blocking::run(&mut stream, driver.receive(&mut positions)).expect("peer")
    {
        blocking::run(&mut stream, driver.reply(&evaluation, &positions, b"")).expect("peer");
    }
}
