//! The C firmware's line against the library's.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use embedded_io::{ErrorType, Read, Write};
use forcewire::line::{Fault, Line, LineError};

use crate::world::Damage;

const PATIENCE: Duration = Duration::from_secs(10);

/// The values of `line.h`.
const DAMAGED: i32 = -102;
const LOST: i32 = -103;
const CUT: i32 = -104;
const REPORTED: i32 = -107;

/// Compiles the firmware's line for this host.
fn firmware() -> PathBuf {
    static PROGRAM: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    let compile = || {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let board = root.join("boards/mps2-an385-c");
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("line-firmware");
        let flags = "-std=c11 -D_POSIX_C_SOURCE=200809L -O1 -g -Wall -Wextra -Werror \
                     -fsanitize=undefined -fno-sanitize-recover";
        let status = Command::new("cc")
            .args(flags.split_whitespace())
            .arg("-I")
            .arg(&board)
            .arg("-I")
            .arg(root.join("src/c"))
            .arg(root.join("tests/line/firmware.c"))
            .arg(board.join("line.c"))
            .arg("-o")
            .arg(&program)
            .status()
            .expect("a C compiler is needed");
        assert!(status.success());
        program
    };
    PROGRAM.get_or_init(compile).clone()
}

/// The host's end, which can damage both directions.
struct End {
    socket: UnixStream,
    to_board: Wire,
    to_host: Wire,
    ready: Vec<u8>,
}

#[derive(Default)]
struct Wire {
    moved: usize,
    damage: Option<(usize, Damage)>,
}

impl Wire {
    fn carry(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut carried = Vec::new();
        for &byte in bytes {
            match self.damage.filter(|(at, _)| *at == self.moved) {
                Some((_, Damage::Flip(bit))) => carried.push(byte ^ 1 << bit),
                Some((_, Damage::Lost)) => {}
                Some((_, Damage::Doubled)) => carried.extend([byte, byte]),
                _ => carried.push(byte),
            }
            self.moved += 1;
        }
        carried
    }
}

impl ErrorType for End {
    type Error = std::io::Error;
}

impl Read for End {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, std::io::Error> {
        while self.ready.is_empty() {
            let mut bytes = [0; 256];
            let n = match self.socket.read(&mut bytes) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    return Err(std::io::ErrorKind::TimedOut.into());
                }
                result => result?,
            };
            if n == 0 {
                return Ok(0);
            }
            self.ready = self.to_host.carry(&bytes[..n]);
        }
        let n = buffer.len().min(self.ready.len());
        buffer[..n].copy_from_slice(&self.ready[..n]);
        self.ready.drain(..n);
        Ok(n)
    }
}

impl Write for End {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, std::io::Error> {
        let carried = self.to_board.carry(bytes);
        self.socket.write_all(&carried)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), std::io::Error> {
        Ok(())
    }
}

struct Board<C> {
    line: Line<End, C>,
    child: Child,
    says: BufReader<ChildStderr>,
}

/// Starts the firmware and opens a connection.
fn board() -> Board<impl FnMut() -> Duration> {
    let (socket, other) = UnixStream::pair().unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let output = other.try_clone().unwrap();
    let mut child = Command::new(firmware())
        .stdin(Stdio::from(OwnedFd::from(other)))
        .stdout(Stdio::from(OwnedFd::from(output)))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let says = BufReader::new(child.stderr.take().unwrap());
    let end = End {
        socket,
        to_board: Wire::default(),
        to_host: Wire::default(),
        ready: Vec::new(),
    };
    let start = Instant::now();
    let mut line = Line::host(end, move || start.elapsed());
    line.accept(PATIENCE).unwrap();
    Board { line, child, says }
}

impl<C: FnMut() -> Duration> Board<C> {
    /// Sends a message and reads the answer.
    fn ask(&mut self, message: &[u8]) -> Result<Vec<u8>, LineError<std::io::ErrorKind>> {
        let kind = |error| match error {
            LineError::Fault(fault) => LineError::Fault(fault),
            other => panic!("{other}"),
        };
        let length = (message.len() as u32).to_le_bytes();
        let mut rest: &[u8] = &[&length, message].concat();
        while !rest.is_empty() {
            let n = self.line.write(rest).map_err(kind)?;
            rest = &rest[n..];
        }
        self.line.flush().map_err(kind)?;
        let mut answer = Vec::new();
        let end = Instant::now() + PATIENCE;
        while answer.len() < message.len() {
            let mut buffer = [0; 100];
            match self.line.read(&mut buffer) {
                Ok(0) => return Err(Fault::NotOpen.into()),
                Ok(n) => answer.extend(buffer[..n].iter().map(|byte| !byte)),
                Err(error)
                    if embedded_io::Error::kind(&error) == embedded_io::ErrorKind::TimedOut =>
                {
                    assert!(Instant::now() < end, "no end within the limit");
                }
                Err(error) => return Err(kind(error)),
            }
        }
        Ok(answer)
    }

    /// How the board's connection has ended.
    fn ended(&mut self) -> i32 {
        let mut line = String::new();
        self.says.read_line(&mut line).unwrap();
        line.trim().parse().unwrap()
    }
}

impl<C> Drop for Board<C> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn messages_of_any_length_are_answered() {
    let mut board = board();
    for length in (1..20).chain(230..250).chain([479, 480, 481, 5000, 65_535]) {
        let message: Vec<u8> = (0..length).map(|i: u32| ((i * i) >> 3) as u8).collect();
        assert_eq!(board.ask(&message).unwrap(), message, "{length} bytes");
    }
    assert_eq!(board.ask(b"").unwrap(), b"");
    assert_eq!(board.ended(), 1);
    assert_eq!(board.child.wait().unwrap().code(), Some(0));
}

#[test]
fn an_idle_board_answers_probes() {
    let mut board = board();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(4) {
        let error = board.line.read(&mut [0; 1]).unwrap_err();
        assert!(matches!(error, LineError::Stream(_)), "{error}");
    }
    assert_eq!(board.ask(b"still there").unwrap(), b"still there");
    // OPEN, answers to probes, and the message.
    assert!(board.line.get_mut().to_host.moved >= 10 + 2 * 9 + 20);
}

#[test]
fn damage_ends_the_connection_on_both_sides_and_the_board_opens_another() {
    let message: Vec<u8> = (0..=255).collect();
    let frames = {
        let mut board = board();
        let opened = [
            board.line.get_mut().to_board.moved,
            board.line.get_mut().to_host.moved,
        ];
        board.ask(&message).unwrap();
        let end = board.line.get_mut();
        [opened[0]..end.to_board.moved, opened[1]..end.to_host.moved]
    };
    for (is_to_host, range) in [false, true].into_iter().zip(frames) {
        let end = range.end;
        for at in range {
            // The end of the last frame is noticed by a time limit.
            let is_slow = at + 1 == end;
            let damages = [Damage::Flip(at as u8 % 8), Damage::Lost, Damage::Doubled];
            for damage in damages {
                if is_slow && matches!(damage, Damage::Doubled) {
                    continue; // is no damage before the next frame
                }
                let mut board = board();
                let line = board.line.get_mut();
                match is_to_host {
                    true => line.to_host.damage = Some((at, damage)),
                    false => line.to_board.damage = Some((at, damage)),
                }
                let place = format!("{damage:?} at {at}, to the host: {is_to_host}");
                let fault = board.ask(&message).expect_err(&place);
                let code = board.ended();
                if is_to_host {
                    let found = [Fault::Damaged, Fault::Lost, Fault::Cut].map(LineError::Fault);
                    assert!(found.contains(&fault), "{place}: {fault}");
                    assert_eq!(code, REPORTED, "{place}");
                } else {
                    // The board opens a new connection at once, so CLOSE and OPEN may arrive
                    // together.
                    let found = [Fault::Reported, Fault::Restarted].map(LineError::Fault);
                    assert!(found.contains(&fault), "{place}: {fault}");
                    assert!([DAMAGED, LOST, CUT].contains(&code), "{place}: {code}");
                }
                board.line.accept(PATIENCE).unwrap();
                assert_eq!(board.ask(&message).unwrap(), message, "{place}");
            }
        }
    }
}
