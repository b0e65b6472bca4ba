//! What an evaluation costs through forcewire, as a ratio to plain sockets that move the same bytes.
//!
//! `taskset -c 0 cargo bench` puts both ends on one CPU, which leaves out the time that one
//! CPU takes to wake another. Both are measured in turn in one run, because machines are noisy: the ratio
//! is the median over the turns.

use std::io::{IsTerminal, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Instant;

use forcewire::net::{Address, Patience, Stream};
use forcewire::{Driver, Evaluation, Event, Virial, blocking};

const TURNS: usize = 15;

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Classic,
    Consolidated,
}

/// A blocking stream of either kind.
trait Plain: Read + Write + Send {}
impl<T: Read + Write + Send> Plain for T {}

fn main() {
    println!(
        "{:>7} {:>5} {:>13} {:>12} {:>13} {:>7}",
        "atoms", "", "", "plain", "forcewire", "ratio"
    );
    for natoms in [1, 64, 1000, 10_000, 100_000] {
        for transport in ["tcp", "unix"] {
            for mode in [Mode::Classic, Mode::Consolidated] {
                report(natoms, transport, mode);
            }
        }
    }
}

fn report(natoms: usize, transport: &str, mode: Mode) {
    let steps = (200_000 / (natoms + 64)).max(20);
    let (mut plain, mut ours) = (Vec::new(), Vec::new());
    for turn in 0..TURNS {
        if std::io::stderr().is_terminal() {
            eprint!(
                "\r{natoms} atoms, {transport}: turn {} of {TURNS} ",
                turn + 1
            );
        }
        plain.push(measure(natoms, transport, mode, steps, |socket, _| {
            answer(socket, natoms, mode)
        }));
        ours.push(measure(natoms, transport, mode, steps, |_, stream| {
            serve(stream(), natoms)
        }));
    }
    if std::io::stderr().is_terminal() {
        eprint!("\r{:60}\r", "");
    }
    let ratio = median(
        ours.iter()
            .zip(&plain)
            .map(|(ours, plain)| ours / plain)
            .collect(),
    );
    let mode = if mode == Mode::Classic {
        "classic"
    } else {
        "consolidated"
    };
    println!(
        "{natoms:>7} {transport:>5} {mode:>13} {:>9.1} µs {:>10.1} µs {ratio:>6.2}×",
        median(plain),
        median(ours),
    );
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Microseconds an evaluation, asked by plain sockets and answered by `driver`.
fn measure(
    natoms: usize,
    transport: &str,
    mode: Mode,
    steps: usize,
    driver: impl FnOnce(&mut dyn Plain, &mut dyn FnMut() -> Stream) + Send,
) -> f64 {
    let patience = Patience::default();
    if transport == "tcp" {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let near = TcpStream::connect(listener.local_addr().expect("bound")).expect("listening");
        let (far, _) = listener.accept().expect("connected");
        for socket in [&near, &far] {
            socket.set_nodelay(true).expect("TCP");
        }
        let stream = far.try_clone().expect("descriptors");
        run(natoms, mode, steps, near, far, driver, &mut || {
            Stream::from_tcp(stream.try_clone().expect("descriptors"), patience).expect("connected")
        })
    } else {
        let (near, far) = UnixStream::pair().expect("descriptors");
        let stream = far.try_clone().expect("descriptors");
        run(natoms, mode, steps, near, far, driver, &mut || {
            let stream = stream.try_clone().expect("descriptors");
            Stream::from_unix(stream, Address::unix("", "pair"), patience).expect("connected")
        })
    }
}

fn run<S: Plain>(
    natoms: usize,
    mode: Mode,
    steps: usize,
    mut near: S,
    mut far: S,
    driver: impl FnOnce(&mut dyn Plain, &mut dyn FnMut() -> Stream) + Send,
    stream: &mut (dyn FnMut() -> Stream + Send),
) -> f64 {
    let posdata = posdata(natoms);
    let mut reply = vec![0; 100 + 24 * natoms];
    thread::scope(|scope| {
        scope.spawn(move || driver(&mut far, stream));
        let consolidated = [&posdata[..], b"GETFORCE    "].concat();
        let classic = [&posdata[..], b"STATUS      "].concat();
        let mut status = [0; 12];
        let mut start = Instant::now();
        for step in 0..steps + steps / 10 {
            if step == steps / 10 {
                start = Instant::now(); // the first tenth warms up
            }
            if mode == Mode::Classic {
                near.write_all(b"STATUS      ").expect("peer");
                near.read_exact(&mut status).expect("peer");
                near.write_all(&classic).expect("peer");
                near.read_exact(&mut status).expect("peer");
                near.write_all(b"GETFORCE    ").expect("peer");
            } else {
                near.write_all(&consolidated).expect("peer");
            }
            near.read_exact(&mut reply).expect("peer");
        }
        let time = start.elapsed().as_secs_f64();
        near.write_all(b"EXIT        ").expect("peer");
        time / steps as f64 * 1e6
    })
}

/// What any driver must do at least: read each message, write each message, and know their sizes.
fn answer(socket: &mut dyn Plain, natoms: usize, mode: Mode) {
    let mut header = [0; 12];
    // POSDATA and the header behind it.
    let mut message = vec![0; 12 + 148 + 24 * natoms + 12];
    let reply = vec![0; 100 + 24 * natoms];
    loop {
        if mode == Mode::Classic {
            socket.read_exact(&mut header).expect("peer");
            if &header == b"EXIT        " {
                return;
            }
            socket.write_all(b"READY       ").expect("peer");
            socket.read_exact(&mut message).expect("peer");
            socket.write_all(b"HAVEDATA    ").expect("peer");
            socket.read_exact(&mut header).expect("peer");
        } else {
            // The whole message, or an EXIT.
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

fn posdata(natoms: usize) -> Vec<u8> {
    let cube = [10.0_f64, 0.0, 0.0, 0.0, 10.0, 0.0, 0.0, 0.0, 10.0];
    let mut bytes = b"POSDATA     ".to_vec();
    bytes.extend(cube.iter().chain(&cube).flat_map(|x| x.to_le_bytes()));
    bytes.extend(i32::try_from(natoms).expect("few").to_le_bytes());
    bytes.extend((0..3 * natoms).flat_map(|i| (i as f64).to_le_bytes()));
    bytes
}
