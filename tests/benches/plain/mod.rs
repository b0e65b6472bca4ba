//! Plain sockets, against which both roles are measured.

#![allow(dead_code)] // each bench uses its part

pub use forcewire_support::layout;

use std::io::{self, IsTerminal, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

use forcewire::net::{Address, ConnectOptions, Stream};

/// A blocking socket of either kind.
pub enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// The same connection as users of forcewire have it.
    pub fn stream(self) -> Stream {
        let deadlines = ConnectOptions::new().deadlines;
        match self {
            Self::Tcp(socket) => Stream::from_tcp(socket, deadlines),
            Self::Unix(socket) => Stream::from_unix(socket, Address::unix("", "pair"), deadlines),
        }
        .expect("connected")
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.read(buffer),
            Self::Unix(socket) => socket.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.write(bytes),
            Self::Unix(socket) => socket.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Both ends of a connection: "tcp" or "unix".
pub fn pair(transport: &str) -> (Socket, Socket) {
    if transport == "tcp" {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let near = TcpStream::connect(listener.local_addr().expect("bound")).expect("listening");
        let (far, _) = listener.accept().expect("connected");
        for socket in [&near, &far] {
            socket.set_nodelay(true).expect("TCP");
        }
        (Socket::Tcp(near), Socket::Tcp(far))
    } else {
        let (near, far) = UnixStream::pair().expect("descriptors");
        (Socket::Unix(near), Socket::Unix(far))
    }
}

/// A driver that reads messages of known lengths and sends an answer to each.
pub fn answer(mut socket: Socket, handshake: &[(usize, &[u8])], evaluation: &[(usize, &[u8])]) {
    let lengths = handshake.iter().chain(evaluation).map(|(len, _)| *len);
    let mut message = vec![0; lengths.max().unwrap_or(0)];
    for (len, answer) in handshake.iter().chain(evaluation.iter().cycle()) {
        // One read is usually enough. The last message is an EXIT, or the end of the stream.
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

/// Microseconds of CPU time per step, of both ends together; the first tenth of the steps is a
/// warm-up. On one CPU this equals the elapsed time, apart from other programs.
pub fn timed(steps: usize, mut step: impl FnMut()) -> f64 {
    for _ in 0..steps / 10 {
        step();
    }
    let start = cpu_time();
    for _ in 0..steps {
        step();
    }
    (cpu_time() - start) / steps as f64 * 1e6
}

/// The CPU time of all threads of this process, in seconds.
fn cpu_time() -> f64 {
    use rustix::time::{ClockId, clock_gettime};

    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Raises the limit on descriptors to the highest that this process may set.
pub fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).expect("a limit of our own");
}

/// The median ratio of ours to plain, turn by turn.
pub fn ratio(ours: &[f64], plain: &[f64]) -> f64 {
    median(
        ours.iter()
            .zip(plain)
            .map(|(ours, plain)| ours / plain)
            .collect(),
    )
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Prints what is being measured, if a person may be waiting.
pub fn progress(text: &str) {
    if io::stderr().is_terminal() {
        eprint!("\r{text} ");
    }
}

pub fn clear() {
    if io::stderr().is_terminal() {
        eprint!("\r{:60}\r", "");
    }
}

/// POSDATA of atoms in a cube of 10 bohr; coordinate `i` is `i`.
pub fn atoms(natoms: usize) -> Vec<u8> {
    let positions: Vec<_> = (0..3 * natoms).map(|i| i as f64).collect();
    layout::posdata(&layout::cube(10.0), &layout::cube(0.1), &positions)
}

/// FORCEREADY of this many structures, with zeros and without extras.
pub fn no_forces(natoms: usize, structures: usize) -> Vec<u8> {
    layout::forceready(
        &vec![0.0; structures],
        &vec![0.0; 3 * natoms * structures],
        &vec![0.0; 9 * structures],
        &vec![b""; structures],
    )
}
