//! `forcewire bridge` between boards on pseudo-terminals and a server on a TCP port.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use embedded_io::{Error as _, ErrorKind, ErrorType, Read, Write};
use forcewire::line::{Fault, Line, LineError};
use forcewire::net::Stream;
use forcewire::potential::Harmonic;
use forcewire::{Cell, Deadlines, Error, Request, Server, blocking, serve};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::{pty, termios};

use forcewire_support::programs;
use forcewire_support::{EXIT, READY, STATUS};

const PATIENCE: Duration = Duration::from_secs(20);

/// The board's side of a pseudo-terminal, which times out every 50 ms.
struct Uart(File);

impl ErrorType for Uart {
    type Error = io::Error;
}

impl Read for Uart {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, io::Error> {
        let time = Timespec {
            tv_sec: 0,
            tv_nsec: 50_000_000,
        };
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        if poll(&mut fds, Some(&time))? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        io::Read::read(&mut self.0, buffer)
    }
}

impl Write for Uart {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, io::Error> {
        io::Write::write(&mut self.0, bytes)
    }

    fn flush(&mut self) -> Result<(), io::Error> {
        Ok(())
    }
}

/// A board, the name of its device, and that device: a terminal without an open end would be lost.
struct Board<C> {
    line: Line<Uart, C>,
    device: String,
    _device: OwnedFd,
}

fn board() -> Board<impl FnMut() -> Duration> {
    let terminal = pty::openpt(pty::OpenptFlags::RDWR | pty::OpenptFlags::NOCTTY).unwrap();
    pty::grantpt(&terminal).unwrap();
    pty::unlockpt(&terminal).unwrap();
    let device = pty::ptsname(&terminal, Vec::new()).unwrap();
    let device = device.into_string().unwrap();
    let end = rustix::fs::open(
        device.as_str(),
        rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY,
        rustix::fs::Mode::empty(),
    )
    .unwrap();
    // The terminal must not echo before the bridge is there.
    let mut settings = termios::tcgetattr(&end).unwrap();
    settings.make_raw();
    termios::tcsetattr(&end, termios::OptionalActions::Now, &settings).unwrap();
    let start = Instant::now();
    Board {
        line: Line::board(Uart(terminal.into()), move || start.elapsed()),
        device,
        _device: end,
    }
}

struct Bridge(Child);

impl Bridge {
    fn start(server: &TcpListener, devices: &[&str]) -> Self {
        let address = server.local_addr().unwrap().to_string();
        Self(bridge(&address, devices).spawn().unwrap())
    }
}

fn bridge(address: &str, devices: &[&str]) -> Command {
    let mut command = programs::bridge();
    for device in devices {
        command.args(["--serial", device]);
    }
    command.args(["--to", address]);
    command
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// Asks the first driver that connects for one evaluation, and closes.
fn ask(peer: TcpStream, force: f64) {
    let mut socket = Stream::from_tcp(peer, Deadlines::default()).unwrap();
    let mut server = Server::new();
    let (cell, positions, mut forces) = (
        Cell::orthorhombic([20.0; 3]),
        [[1.0, 2.0, 3.0]; 64],
        [[0.0; 3]; 64],
    );
    for _ in 0..3 {
        let request = Request::new(&cell, &positions);
        let evaluate = server.evaluate(request, &mut forces, &mut []);
        blocking::run(&mut socket, evaluate).unwrap();
        assert_eq!(forces, positions.map(|r| r.map(|x| -force * x)));
    }
    blocking::run(&mut socket, server.exit()).unwrap();
}

fn read<S: Read>(line: &mut S, buffer: &mut [u8]) -> Result<usize, S::Error> {
    loop {
        match line.read(buffer) {
            Err(error) if error.kind() == ErrorKind::TimedOut => {}
            result => return result,
        }
    }
}

#[test]
fn boards_on_two_lines_serve_one_server() {
    let listener = listen();
    let mut boards = [board(), board()];
    let [a, b] = &boards;
    let _bridge = Bridge::start(&listener, &[&a.device, &b.device]);
    thread::scope(|scope| {
        for board in &mut boards {
            scope.spawn(|| {
                board.line.open(PATIENCE).unwrap();
                let start = Instant::now();
                let clock = move || start.elapsed();
                let deadlines = Deadlines::default();
                let mut line = blocking::WithDeadlines::new(&mut board.line, deadlines, clock);
                serve::<64>(&mut line, &mut Harmonic::<f64>::new(0.5)).unwrap();
                board.line.close().unwrap();
            });
        }
        for _ in 0..2 {
            let (peer, _) = listener.accept().unwrap();
            scope.spawn(|| ask(peer, 0.5));
        }
    });
}

#[test]
fn a_server_that_closes_is_connected_again_when_the_board_asks() {
    let listener = listen();
    let mut board = board();
    let _bridge = Bridge::start(&listener, &[&board.device]);
    let mut buffer = [0; 12];
    for _ in 0..3 {
        let opened = thread::scope(|scope| {
            let peer = scope.spawn(|| listener.accept().unwrap().0);
            board.line.open(PATIENCE).unwrap();
            peer.join().unwrap()
        });
        let mut peer = opened;
        io::Write::write_all(&mut peer, STATUS).unwrap();
        assert_eq!(read(&mut board.line, &mut buffer).unwrap(), 12);
        // A message written in two parts is sent in one piece.
        board.line.write(&READY[..5]).unwrap();
        board.line.write(&READY[5..]).unwrap();
        board.line.flush().unwrap();
        assert_eq!(io::Read::read(&mut peer, &mut buffer).unwrap(), 12);
        assert_eq!(buffer, READY);
        io::Write::write_all(&mut peer, EXIT).unwrap();
        drop(peer);
        assert_eq!(read(&mut board.line, &mut buffer).unwrap(), 12);
        assert_eq!(read(&mut board.line, &mut buffer).unwrap(), 0);
    }
}

/// Servers that follow one another on ports chosen by the system.
#[test]
fn a_server_is_found_where_its_file_says() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("meet");
    std::fs::write(directory.path().join("one.xyz"), "1\n\nAr 1 0 0\n").unwrap();
    let mut board = board();
    let to = format!("meet:{}", file.display());
    let _bridge = Bridge(bridge(&to, &[&board.device]).spawn().unwrap());
    for force in [0.5, 0.25] {
        let mut server = programs::evaluate();
        server.args(["one.xyz", "--units", "bohr", "-a", "127.0.0.1", "--meet"]);
        server.arg(&file).current_dir(directory.path());
        let server = server.stdout(Stdio::piped()).spawn().unwrap();
        board.line.open(PATIENCE).unwrap();
        let start = Instant::now();
        let clock = move || start.elapsed();
        let mut line = blocking::WithDeadlines::new(&mut board.line, Deadlines::default(), clock);
        serve::<1>(&mut line, &mut Harmonic::<f64>::new(force)).unwrap();
        board.line.close().unwrap();
        let output = server.wait_with_output().unwrap();
        let out = String::from_utf8(output.stdout).unwrap();
        let energy = format!("\"energy\":{}", 0.5 * force);
        assert!(output.status.success() && out.contains(&energy), "{out}");
    }
}

/// The lines that a bridge writes to standard error.
fn said(bridge: &mut Bridge) -> impl Iterator<Item = String> {
    let said = BufReader::new(bridge.0.stderr.take().unwrap());
    said.lines().map(Result::unwrap)
}

#[test]
fn a_device_is_of_one_bridge() {
    let listener = listen();
    let address = listener.local_addr().unwrap().to_string();
    let mut board = board();
    let _bridge = Bridge::start(&listener, &[&board.device]);
    board.line.open(PATIENCE).unwrap();
    let (mut peer, _) = listener.accept().unwrap();

    let mut second = bridge(&address, &[&board.device]);
    let mut second = Bridge(second.stderr(Stdio::piped()).spawn().unwrap());
    let refused = said(&mut second).next().unwrap();
    assert!(refused.contains("another program uses it"), "{refused}");
    // The first bridge continues.
    io::Write::write_all(&mut peer, STATUS).unwrap();
    let mut buffer = [0; 12];
    assert_eq!(read(&mut board.line, &mut buffer).unwrap(), 12);
    assert_eq!(buffer, STATUS);
}

#[test]
fn a_connection_that_a_board_ends_by_opening_another_has_a_reason() {
    let listener = listen();
    let address = listener.local_addr().unwrap().to_string();
    let mut board = board();
    let mut bridge = bridge(&address, &[&board.device]);
    let mut bridge = Bridge(bridge.stderr(Stdio::piped()).spawn().unwrap());
    for _ in 0..2 {
        board.line.open(PATIENCE).unwrap();
    }
    let reason = said(&mut bridge).next().unwrap();
    assert!(reason.contains("has started again"), "{reason}");
}

#[test]
fn a_board_that_closes_hangs_up() {
    let listener = listen();
    let mut board = board();
    let _bridge = Bridge::start(&listener, &[&board.device]);
    board.line.open(PATIENCE).unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    board.line.write(READY).unwrap();
    board.line.flush().unwrap();
    board.line.close().unwrap();
    let mut came = Vec::new();
    io::Read::read_to_end(&mut peer, &mut came).unwrap();
    assert_eq!(came, READY);
}

#[test]
fn a_bridge_that_starts_again_ends_the_connection() {
    let listener = listen();
    let mut board = board();
    let bridge = Bridge::start(&listener, &[&board.device]);
    board.line.open(PATIENCE).unwrap();
    drop(bridge);
    let _bridge = Bridge::start(&listener, &[&board.device]);
    match read(&mut board.line, &mut [0; 1]) {
        Err(LineError::Fault(Fault::Reported)) => {}
        other => panic!("{other:?}"),
    }
    board.line.open(PATIENCE).unwrap();
}

#[test]
fn a_cut_message_of_the_server_is_an_error_for_the_driver() {
    let listener = listen();
    let mut board = board();
    let _bridge = Bridge::start(&listener, &[&board.device]);
    board.line.open(PATIENCE).unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    io::Write::write_all(&mut peer, &STATUS[..5]).unwrap();
    drop(peer);
    let start = Instant::now();
    let clock = move || start.elapsed();
    let mut line = blocking::WithDeadlines::new(&mut board.line, Deadlines::NONE, clock);
    let served = serve::<1>(&mut line, &mut Harmonic::<f64>::new(0.5));
    assert!(matches!(served, Err(Error::Protocol(_))), "{served:?}");
}

/// Anyone may put a link into /tmp, or listen there.
#[test]
fn a_unix_server_is_connected_and_a_link_to_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let (path, link) = (
        directory.path().join("ipi_a"),
        directory.path().join("link"),
    );
    let listener = UnixListener::bind(&path).unwrap();
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let mut board = board();

    let mut command = bridge(link.to_str().unwrap(), &[&board.device]);
    let child = command.arg("-v").stderr(Stdio::piped()).spawn().unwrap();
    let mut refusing = Bridge(child);
    let opened = board.line.open(Duration::from_secs(1));
    assert!(opened.is_err());
    let said = BufReader::new(refusing.0.stderr.take().unwrap());
    let refused = |line: io::Result<String>| line.unwrap().contains("it is a symbolic link");
    assert!(said.lines().any(refused));
    drop(refusing);
    listener.set_nonblocking(true).unwrap();
    let nobody = listener.accept().unwrap_err();
    assert_eq!(nobody.kind(), io::ErrorKind::WouldBlock);

    let child = bridge(path.to_str().unwrap(), &[&board.device]).spawn();
    let _bridge = Bridge(child.unwrap());
    board.line.open(PATIENCE).unwrap();
    listener.accept().unwrap();
}

/// There is no reason to wait for a name that can't become a line.
#[test]
fn what_is_no_serial_line_ends_a_bridge() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let output = bridge("localhost:1", &["/dev/null", file.path().to_str().unwrap()]).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.matches("it is no serial line").count(), 2, "{said}");
}

#[test]
fn a_command_is_a_line_and_its_status_the_bridges() {
    let listener = listen();
    let address = listener.local_addr().unwrap().to_string();
    let mut command = bridge(&address, &[]);
    let status = command.args(["sh", "-c", "exit 7"]).status().unwrap();
    assert_eq!(status.code(), Some(7));
    for nonsense in [&["--to", "nowhere"][..], &["--to", "h:1"], &["true"]] {
        let output = programs::bridge().args(nonsense).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{nonsense:?}");
    }
}
