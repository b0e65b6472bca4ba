//! The C programs compared with the crate: they work, and they refuse the same. Otherwise their
//! sizes would prove nothing.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::thread;

use forcewire::{
    Answer, Cell, Driver, Error, Evaluation, Event, Initialize, Mode, Potential, PotentialError,
    ProtocolError, Request, Server, Virial, blocking,
};
use forcewire_support::layout::{
    self,
    EXIT, FORCEREADY, ForceReady, GETFORCE, HAVEDATA, HEADER, INIT, INTEGER, NEEDINIT, POSDATA,
    Posdata, READY, STATUS, integer, put_integer, reals,
};

/// The C programs; None if they can't be compiled here.
static HOST: LazyLock<Option<&Path>> = LazyLock::new(|| {
    let (here, path) = (
        env!("CARGO_MANIFEST_DIR"),
        concat!(env!("CARGO_TARGET_TMPDIR"), "/host"),
    );
    let compile = |flags: &[&str]| {
        Command::new("cc")
            .current_dir(here)
            .args([
                "-std=c11",
                "-O1",
                "-g",
                "-Wall",
                "-Wextra",
                "-ffp-contract=off",
            ])
            .args(flags)
            .args([
                "host.c",
                "driver.c",
                "driver_full.c",
                "server.c",
                "-o",
                path,
            ])
            .output()
    };
    if let Err(error) = Command::new("cc").arg("--version").output() {
        // Not `eprintln`, whose output is hidden if a test succeeds.
        let _ = writeln!(io::stderr(), "SKIPPED: the C programs, cc: {error}");
        return None;
    }
    let strict = ["-fsanitize=address,undefined", "-fno-sanitize-recover"];
    if !compile(&strict).unwrap().status.success() {
        let plain = compile(&[]).unwrap();
        assert!(
            plain.status.success(),
            "{}",
            String::from_utf8_lossy(&plain.stderr)
        );
        let _ = writeln!(
            io::stderr(),
            "the C programs were compiled without sanitizers, which this compiler does not have"
        );
    }
    Some(Path::new(path))
});

/// Starts a C program with these arguments; None if there is none.
fn start(arguments: &str) -> Option<(Child, Socket)> {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let child = Command::new((*HOST)?)
        .args(arguments.split_whitespace())
        .env("ASAN_OPTIONS", "detect_leaks=0") // a program's memory ends with it
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    Some((child, Socket(ours)))
}

/// The lines that a C program has printed.
fn printed(child: Child) -> Vec<String> {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(Into::into).collect()
}

struct Socket(UnixStream);

impl embedded_io::ErrorType for Socket {
    type Error = io::Error;
}

impl embedded_io::Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl embedded_io::Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The C programs' potential, operation by operation.
struct Springs;

impl Potential for Springs {
    type Real = f64;

    fn evaluate(
        &mut self,
        _: &Cell,
        positions: &[[f64; 3]],
        forces: &mut [[f64; 3]],
    ) -> Result<Evaluation, PotentialError> {
        let (mut energy, mut virial) = (0.0, Virial::ZERO);
        for (r, force) in positions.iter().zip(forces) {
            for i in 0..3 {
                force[i] = -0.1 * r[i];
                energy += 0.05 * (r[i] * r[i]);
                for j in 0..3 {
                    virial.0[i][j] -= 0.1 * (r[i] * r[j]);
                }
            }
        }
        Ok(Evaluation { energy, virial })
    }
}

fn springs(positions: &[[f64; 3]]) -> (Evaluation, Vec<[f64; 3]>) {
    let mut forces = vec![[0.0; 3]; positions.len()];
    let cell = Cell::orthorhombic([20.0; 3]);
    let evaluation = Springs.evaluate(&cell, positions, &mut forces).unwrap();
    (evaluation, forces)
}

/// The positions that the C server sends.
fn positions(atoms: usize, step: usize) -> Vec<[f64; 3]> {
    let number = |i: usize| i as f64 / 7.0 - step as f64;
    (0..atoms)
        .map(|i| [number(3 * i), number(3 * i + 1), number(3 * i + 2)])
        .collect()
}

/// The cells that the C server sends.
const CELLS: [Cell; 4] = [
    Cell::from_rows([[10.0, 1.0, 2.0], [0.0, 9.0, 3.0], [0.0, 0.0, 8.0]]),
    Cell::from_rows([[11.0, 0.0, 0.0], [0.0, 11.0, 0.0], [0.0, 0.0, 11.0]]),
    Cell::from_rows([[7.0, -2.0, 0.5], [0.0, 9.0, 3.0], [0.0, 0.0, 8.0]]),
    Cell::from_rows([[3.0, 1.0, 1.0], [0.0, 3.0, 1.0], [0.0, 0.0, 3.0]]),
];

const EXTRAS: &[u8] = b"{\"dipole\":1}";
const PIECES: [usize; 3] = [1, 7, 4096];

#[test]
fn a_driver_in_c_works_for_the_server() {
    for (mode, natoms) in [
        (Mode::Classic, 1),
        (Mode::Consolidated, 27),
        (Mode::Strict, 28),
    ] {
        for piece in PIECES {
            let Some((child, mut socket)) = start(&format!("driver {piece} 28")) else {
                return;
            };
            let mut server = Server::new().mode(mode);
            let mut forces = vec![[0.0; 3]; natoms];
            for step in 0..3 {
                let positions = positions(natoms, step);
                let request = Request::new(&CELLS[0], &positions).replica(1);
                let evaluate = server.evaluate(request, &mut forces, &mut []);
                let answer = blocking::run(&mut socket, evaluate).unwrap();
                let (expected, expected_forces) = springs(&positions);
                assert_eq!(answer.evaluation, expected);
                assert_eq!(forces, expected_forces);
            }
            blocking::run(&mut socket, server.exit()).unwrap();
            assert_eq!(printed(child), ["Exit"]);
        }
    }
}

#[test]
fn a_driver_with_batches_in_c_works_for_the_server() {
    // The part of the text that the driver keeps ends within c; the batch is announced after that.
    let text = format!("a : 1 , b:two , c:{}", ".".repeat(250));
    let modes = [
        (Mode::Batched(3), 3, 1),
        (Mode::Batched(3), 2, 2),
        (Mode::Consolidated, 1, 2),
        (Mode::Classic, 1, 0),
    ];
    for (mode, structures, initialize) in modes {
        for piece in PIECES {
            let arguments = format!("full {piece} 30 3 {initialize}");
            let Some((child, mut socket)) = start(&arguments) else {
                return;
            };
            let mut server = Server::new().mode(mode);
            let mut forces = vec![[0.0; 3]; 10 * structures];
            let (mut answers, mut extras) = (vec![Answer::default(); structures], [0; 5]);
            for step in 0..3 {
                let positions = positions(10 * structures, step);
                let request = Request::batch(&CELLS[..structures], &positions)
                    .init(text.as_bytes())
                    .replica(-7);
                let evaluate =
                    server.evaluate_batch(request, &mut answers, &mut forces, &mut extras);
                blocking::run(&mut socket, evaluate).unwrap();
                let each = positions.chunks(10).zip(forces.chunks(10)).zip(&answers);
                for (index, ((positions, forces), answer)) in each.enumerate() {
                    let (expected, expected_forces) = springs(positions);
                    assert_eq!(answer.evaluation, expected);
                    assert_eq!(forces, expected_forces);
                    assert_eq!(answer.extras_sent(), 3 * index);
                    let kept = answer.extras(&extras);
                    assert_eq!(kept, &EXTRAS[..kept.len()]);
                }
            }
            blocking::run(&mut socket, server.exit()).unwrap();
            let mut expected = vec!["Init -7 a=1 b=two"; [0, 1, 3][initialize]];
            expected.push("Exit");
            assert_eq!(printed(child), expected);
        }
    }
}

/// A driver for the server in C, in a thread.
fn serve(mut socket: Socket, initialize: Initialize) {
    let mut driver = Driver::new().initialize(initialize);
    let (mut cells, mut positions) = ([Cell::orthorhombic([0.0; 3]); 4], [[0.0; 3]; 64]);
    let mut step = 0;
    loop {
        let receive = driver.receive_batch(&mut cells, &mut positions);
        match blocking::run(&mut socket, receive).unwrap() {
            Event::Positions {
                natoms, structures, ..
            } => {
                // Atoms and cells come from the server; copies follow the last structure.
                let sent = self::positions(64, step);
                assert_eq!(positions[..natoms], sent[..natoms]);
                assert_eq!(cells[0], CELLS[0]);
                let computed: Vec<_> = positions[..natoms * structures]
                    .chunks(natoms)
                    .map(springs)
                    .collect();
                let evaluations: Vec<_> = computed.iter().map(|(it, _)| *it).collect();
                let forces: Vec<_> = computed.iter().flat_map(|(_, it)| it.clone()).collect();
                let extras: Vec<_> = (0..structures).map(|index| &EXTRAS[..3 * index]).collect();
                let reply = driver.reply_batch(&evaluations, &forces, &extras);
                blocking::run(&mut socket, reply).unwrap();
                step += 1;
            }
            Event::Init { replica } => {
                assert_eq!(replica, -3);
                assert_eq!(driver.parameters().next(), Some(("k", "1")));
            }
            end => return assert_eq!(end, Event::Exit),
        }
    }
}

/// An answer in host.c's format.
fn answer(extras: &[u8], sent: usize, evaluation: &Evaluation, forces: &[[f64; 3]]) -> String {
    let numbers = [evaluation.energy];
    let numbers = numbers
        .iter()
        .chain(evaluation.virial.0.as_flattened())
        .chain(forces.as_flattened());
    let numbers: Vec<_> = numbers.map(|x| format!("{:016x}", x.to_bits())).collect();
    format!(
        "Answer {}/{sent} {}",
        String::from_utf8_lossy(extras),
        numbers.join(" ")
    )
}

#[test]
fn a_server_in_c_works_with_the_driver() {
    use Initialize::{EveryStep, Never, Once};

    for (mode, batch, structures, natoms, initialize) in [
        (0, 1, 1, 1, Never),
        (0, 1, 1, 27, EveryStep),
        (1, 1, 1, 40, Once),
        (2, 1, 1, 5, Never),
        (0, 3, 3, 9, Once),
        (0, 3, 2, 9, EveryStep),
    ] {
        for piece in PIECES {
            let arguments = format!("server {piece} {mode} {batch} {structures} {natoms} 3 5");
            let Some((child, socket)) = start(&arguments) else {
                return;
            };
            let driver = thread::spawn(move || serve(socket, initialize));
            let mut expected = vec![];
            for step in 0..3 {
                for (index, positions) in positions(structures * natoms, step)
                    .chunks(natoms)
                    .enumerate()
                {
                    let (evaluation, forces) = springs(positions);
                    let extras = &EXTRAS[..[0, 3, 2][index]];
                    expected.push(answer(extras, 3 * index, &evaluation, &forces));
                }
            }
            expected.push("Ok".into());
            assert_eq!(printed(child), expected, "{arguments}");
            driver.join().unwrap();
        }
    }
}

/// All bytes that a peer sends, available at once, and the bytes sent to it.
struct Recorded<'a> {
    received: &'a [u8],
    sent: Vec<u8>,
}

impl<'a> Recorded<'a> {
    fn new(received: &'a [u8]) -> Self {
        let sent = vec![];
        Self { received, sent }
    }
}

impl embedded_io::ErrorType for Recorded<'_> {
    type Error = io::Error;
}

impl embedded_io::Read for Recorded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Read::read(&mut self.received, buffer)
    }
}

impl embedded_io::Write for Recorded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(&mut self.sent, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The name of an error's variant, as the C programs print it.
fn name<E: std::fmt::Display>(error: Error<E>) -> String {
    macro_rules! names {
        ($($variant:ident)*) => {
            match error {
                Error::Transport(_) => "Transport".into(),
                Error::Potential(_) => "Potential".into(),
                $(Error::Protocol(ProtocolError::$variant { .. }) => stringify!($variant).into(),)*
                error => error.to_string(),
            }
        };
    }
    // IPI_ERRORS of ipi.h.
    names!(
        EndOfStream UnknownHeader OutOfTurn NegativeAtoms AtomsChanged TooManyAtoms TooManyStructures
        UnannouncedBatch BigEndian NegativeLength NotFinite NothingToReplyTo WrongLength TextTooLong
        InvalidStatus UnexpectedAnswer Unanswered WrongAtoms SingularCell NotUpperTriangular
    )
}

/// The output of a C program that receives these bytes, and the bytes that it sends.
fn outcome(arguments: &str, bytes: &[u8]) -> Option<(Vec<String>, Vec<u8>)> {
    let (child, mut socket) = start(arguments)?;
    // The program may have ended before it has read everything; then reading ends with an error as
    // well.
    let _ = socket.0.write_all(bytes);
    socket.0.shutdown(std::net::Shutdown::Write).unwrap();
    let mut sent = vec![];
    let _ = socket.0.read_to_end(&mut sent);
    Some((printed(child), sent))
}

/// Like [`outcome`], without the output of a driver before it ends.
fn ending(arguments: &str, bytes: &[u8]) -> Option<(String, Vec<u8>)> {
    let (mut printed, sent) = outcome(arguments, bytes)?;
    Some((printed.pop().unwrap(), sent))
}

/// The end of a Rust driver that receives these bytes, with room for 4 atoms, and the bytes that it
/// sends.
fn rust_ending(initialize: Initialize, structures: usize, bytes: &[u8]) -> (String, Vec<u8>) {
    let mut driver = Driver::new().initialize(initialize);
    let mut recorded = Recorded::new(bytes);
    let ending = match drive(&mut driver, &mut recorded, structures) {
        Ok(end) => format!("{end:?}"),
        Err(error) => name(error),
    };
    (ending, recorded.sent)
}

/// Does the same as the C programs.
fn drive<S: blocking::Transport>(
    driver: &mut Driver,
    socket: &mut S,
    structures: usize,
) -> Result<Event, Error<S::Error>> {
    let (mut cells, mut positions) = (vec![CELLS[0]; structures], [[0.0; 3]; 4]);
    loop {
        match blocking::run(socket, driver.receive_batch(&mut cells, &mut positions))? {
            Event::Positions {
                natoms, structures, ..
            } => {
                let (mut evaluations, mut forces) = (vec![], vec![]);
                for index in 0..structures {
                    let (evaluation, computed) = springs(&positions[index * natoms..][..natoms]);
                    evaluations.push(evaluation);
                    forces.extend(computed);
                }
                let extras: Vec<_> = (0..structures).map(|index| &EXTRAS[..3 * index]).collect();
                blocking::run(socket, driver.reply_batch(&evaluations, &forces, &extras))?;
            }
            Event::Init { .. } => {}
            end => return Ok(end),
        }
    }
}

fn bytes(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

const H: [f64; 18] = [
    10.0, 1.0, 2.0, 0.0, 9.0, 3.0, 0.0, 0.0, 8.0, 0.1, -0.01, -0.02, 0.0, 0.11, -0.04, 0.0, 0.0,
    0.125,
];

fn posdata(h: [f64; 18], natoms: i32, positions: &[f64]) -> Vec<u8> {
    let (h, inverse) = (h[..9].try_into().unwrap(), h[9..].try_into().unwrap());
    let mut message = layout::posdata(h, inverse, positions);
    put_integer(&mut message, Posdata::of(0).atoms(), natoms);
    message
}

fn init(len: i32, text: &[u8]) -> Vec<u8> {
    let mut message = layout::init(1, text);
    put_integer(&mut message, HEADER + INTEGER, len);
    message
}

#[test]
fn drivers_in_c_refuse_what_the_driver_refuses() {
    let (status, getforce, exit) = (STATUS, GETFORCE, EXIT);
    let atom = [1.5, -2.25, 0.125];
    let good = posdata(H, 1, &atom);
    let with = |at: usize, value: f64| {
        let mut h = H;
        h[at] = value;
        posdata(h, 1, &atom)
    };
    let swapped = |values: &[f64]| -> Vec<f64> {
        values
            .iter()
            .map(|x| f64::from_bits(x.to_bits().swap_bytes()))
            .collect()
    };
    let odd = [0.1, 0.2, 0.3];
    let mut swapped_h = [0.0; 18];
    swapped_h.copy_from_slice(&swapped(&H.map(|x| x / 3.0)));
    let cell = H.as_chunks().0.try_into().unwrap();
    let batch = layout::posdata_batch(&[cell; 2], &[0.0; 12]);
    let conversations = [
        bytes(&[status, exit]),
        bytes(&[status]),
        bytes(&[
            status, &good, status, getforce, status, &good, getforce, exit,
        ]),
        bytes(&[b"EXIT\0\0\0\0\0\0\0\0"]),
        bytes(&[b"EXIT \0 \0 \0 \0"]),
        bytes(&[b"BYE         "]),
        bytes(&[b"exit        "]),
        bytes(&[b"STAT"]),
        bytes(&[status, getforce]),
        bytes(&[&good, &good]),
        bytes(&[READY]),
        bytes(&[FORCEREADY]),
        bytes(&[&init(3, b"k:1"), &init(0, b""), exit]),
        bytes(&[&good, &init(1, b" "), getforce, exit]),
        init(-1, b""),
        init(i32::MIN, b""),
        init(9, b"k:1"),
        bytes(&[INIT, &[0]]),
        good[..13].to_vec(),
        good[..160].to_vec(),
        good[..183].to_vec(),
        with(4, f64::NAN),
        with(0, f64::INFINITY),
        with(17, f64::NAN),
        posdata(H, -1, &atom),
        posdata(H, i32::MIN, &atom),
        posdata(H, 5, &[0.5; 15]),
        posdata(H, i32::MAX, &atom),
        posdata(H, 4, &[0.5; 12]),
        posdata(H, 0, &[]),
        bytes(&[&good, getforce, &posdata(H, 2, &[0.5; 6])]),
        bytes(&[&posdata(H, 0, &[]), getforce, &good]),
        posdata(H, 1, &[f64::NAN, 0.0, 0.0]),
        posdata(H, 1, &[0.0, 0.0, f64::NEG_INFINITY]),
        posdata(H, 1, &swapped(&odd)),
        posdata(swapped_h, 1, &atom),
        batch.clone(),
    ];
    for bytes in &conversations {
        let expected = rust_ending(Initialize::Never, 1, bytes);
        let show = bytes.escape_ascii();
        for program in ["driver 5 4", "full 5 4 1 0"] {
            let Some(ending) = ending(program, bytes) else {
                return;
            };
            assert_eq!(ending, expected, "{program}: {show}");
        }
    }

    // Batches for drivers that have asked for INIT.
    let announced = |size: i32| {
        let text = format!(" a : b , batch_size : {size} ");
        init(text.len() as i32, text.as_bytes())
    };
    let cells = |second: f64| bytes(&[&reals(&H), &reals(&[second; 1]), &reals(&H[1..])]);
    let begun = |natoms: i32| bytes(&[POSDATA, &integer(natoms)]);
    for bytes in [
        bytes(&[&announced(2), &batch]),
        bytes(&[&announced(2), &batch, getforce, &announced(1), &good]),
        bytes(&[
            &announced(2),
            &begun(1),
            &cells(10.0),
            &reals(&atom),
            &reals(&atom),
        ]),
        bytes(&[
            &announced(2),
            &begun(1),
            &cells(f64::NAN),
            &reals(&atom),
            &reals(&atom),
        ]),
        bytes(&[
            &announced(2),
            &begun(1),
            &cells(10.0),
            &reals(&atom),
            &reals(&[f64::NAN; 3]),
        ]),
        bytes(&[&announced(2), &begun(-1)]),
        bytes(&[&announced(2), &begun(3), &reals(&H)]),
        bytes(&[&announced(3), &begun(1), &reals(&H)]),
        bytes(&[&announced(3), &begun(2), &reals(&H)]),
        bytes(&[&announced(2), &begun(1), &cells(10.0), &reals(&atom)]),
        bytes(&[&announced(-2), &good]),
        bytes(&[&announced(1), &good]),
        good.clone(),
    ] {
        let expected = rust_ending(Initialize::Once, 2, &bytes);
        let Some(ending) = ending("full 5 4 2 1", &bytes) else {
            return;
        };
        assert_eq!(ending, expected, "{}", bytes.escape_ascii());
    }
}

#[test]
fn a_server_in_c_refuses_what_the_server_refuses() {
    let (ready, need_init) = (READY, NEEDINIT);
    let forceready = |energy: f64, natoms: i32, force: f64, virial: [f64; 9], len: i32| {
        let mut message = layout::forceready(&[energy], &[force; 6], &virial, &[b""]);
        put_integer(&mut message, ForceReady::of(2).atoms(), natoms);
        put_integer(&mut message, ForceReady::of(2).extras(), len);
        message
    };
    let full = [1.0, 2.0, 3.0, 2.0, 4.0, 5.0, 3.0, 5.0, 6.0];
    let upper = [1.0, 2.0, 3.0, 0.0, 4.0, 5.0, 0.0, -0.0, 6.0];
    let lower = [1.0, 0.0, 0.0, 2.0, 4.0, 0.0, 3.0, 5.0, 6.0];
    let uneven = [1.0, 2.0, 3.0, 2.5, 4.0, 5.0, 3.0, 4.1, 6.0];
    let good = forceready(-0.5, 2, 0.25, full, 0);
    let mut broken = full;
    broken[5] = f64::NAN;
    for bytes in [
        bytes(&[ready, &good]),
        bytes(&[ready, &forceready(-0.5, 2, 0.25, upper, 2), b"{}"]),
        bytes(&[ready, &forceready(-0.5, 2, 0.25, lower, 9), b"{\"a\":0.5}"]),
        bytes(&[
            ready,
            &forceready(-0.5, 2, 0.25, uneven, 2000),
            &[b'x'; 2000],
        ]),
        bytes(&[need_init, ready, &good]),
        bytes(&[]),
        bytes(&[b"REA"]),
        bytes(&[ready]),
        bytes(&[need_init]),
        bytes(&[ready, b"FORCE"]),
        bytes(&[ready, &good[..14]]),
        bytes(&[ready, &good[..60]]),
        bytes(&[ready, &good[..good.len() - 1]]),
        bytes(&[b"READX       "]),
        bytes(&[HAVEDATA]),
        bytes(&[STATUS]),
        bytes(&[ready, ready]),
        bytes(&[ready, HAVEDATA]),
        bytes(&[ready, &forceready(f64::NAN, 2, 0.25, full, 0)]),
        bytes(&[ready, &forceready(-0.5, 2, f64::INFINITY, full, 0)]),
        bytes(&[ready, &forceready(-0.5, 2, 0.25, broken, 0)]),
        bytes(&[ready, &forceready(-0.5, 1, 0.25, full, 0)]),
        bytes(&[ready, &forceready(-0.5, -2, 0.25, full, 0)]),
        bytes(&[ready, &forceready(-0.5, 2, 0.25, full, -1)]),
        bytes(&[ready, &forceready(-0.5, 2, 0.25, full, 3), b"{}"]),
    ] {
        let mut server = Server::new();
        let mut recorded = Recorded::new(&bytes);
        let (mut forces, mut extras) = ([[0.0; 3]; 2], [0; 5]);
        let positions = positions(2, 0);
        let request = Request::new(&CELLS[0], &positions).init(b"k:1").replica(-3);
        let evaluate = server.evaluate(request, &mut forces, &mut extras);
        let expected = match blocking::run(&mut recorded, evaluate) {
            Ok(answer) => {
                let evaluation = answer.evaluation;
                blocking::run(&mut recorded, server.exit()).unwrap();
                let kept = answer.extras(&extras);
                let answer = self::answer(kept, answer.extras_sent(), &evaluation, &forces);
                vec![answer, "Ok".into()]
            }
            Err(error) => vec![name(error)],
        };
        let Some(outcome) = outcome("server 5 0 1 1 2 1 5", &bytes) else {
            return;
        };
        assert_eq!(
            outcome,
            (expected, recorded.sent),
            "{}",
            bytes.escape_ascii()
        );
    }
}
