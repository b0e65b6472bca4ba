//! A serial line and its connection to the server; each line has one thread.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use forcewire::Backoff;
use forcewire::line::{Framing, Role, State};
use forcewire::net::ConnectOptions;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::meet::Target;
use crate::say::say;

pub struct Options {
    pub server: Target,
    /// How long a board may be silent.
    pub limit: Option<Duration>,
    pub is_verbose: bool,
}

/// How often the time limits are checked.
const TICK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};
/// A longer message is sent in pieces, which is safe: i-PI reads only a header with a single
/// `recv`.
const WHOLE: usize = 65_536;
/// The most bytes to buffer for the server; more bytes wait on the line.
const MOST: usize = 1 << 20;
/// The first pause between two attempts to connect to the server.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

pub struct Bridge<'a> {
    name: &'a str,
    options: &'a Options,
    line: File,
    framing: Framing,
    /// The state that was reported last.
    state: State,
    session: u8,
    server: Option<File>,
    /// Bytes from the board; the first `ready` of them may be sent.
    to_server: Vec<u8>,
    ready: usize,
    /// Bytes from the server.
    to_board: Vec<u8>,
    backoff: Backoff,
    next_attempt: Instant,
    start: Instant,
}

impl<'a> Bridge<'a> {
    pub fn new(name: &'a str, line: OwnedFd, options: &'a Options) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&line, true)?;
        let mut framing = Framing::new(Role::Host);
        framing.set_silence(options.limit);
        let now = Instant::now();
        Ok(Self {
            name,
            options,
            line: line.into(),
            state: framing.state(),
            session: framing.session(),
            framing,
            server: None,
            to_server: Vec::new(),
            ready: 0,
            to_board: Vec::new(),
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
            next_attempt: now,
            start: now,
        })
    }

    /// Moves bytes until the line ends.
    pub fn run(&mut self) -> io::Result<()> {
        loop {
            self.follow();
            self.fill();
            let (line, server) = self.wait()?;
            if line.intersects(PollFlags::OUT) {
                self.write_line()?;
            }
            if line.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                if !self.read_line()? {
                    return Ok(());
                }
            } else {
                self.framing.elapsed(self.start.elapsed());
            }
            if server.intersects(PollFlags::OUT) {
                self.write_server();
            }
            if server.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                self.read_server();
            }
        }
    }

    /// Acts on the state of the line.
    fn follow(&mut self) {
        let state = self.framing.state();
        let is_another = self.framing.session() != self.session;
        if state != State::Open || is_another {
            // If a board opens its next connection at once, no state in between shows that the last
            // one has ended.
            if is_another
                && !matches!(self.state, State::Failed(_))
                && let Some(fault) = self.framing.last_fault()
            {
                say(format_args!("{}: {fault}", self.name));
            }
            self.session = self.framing.session();
            if state == State::Closed {
                // Send the board's last bytes, as many as the server takes without waiting.
                self.write_server();
            }
            self.hang_up();
        }
        if state != self.state {
            self.state = state;
            match state {
                State::Failed(fault) => say(format_args!("{}: {fault}", self.name)),
                _ => self.say(&format!("{state:?}")),
            }
        }
        if state == State::Opening && Instant::now() >= self.next_attempt {
            match self.connect() {
                Ok(server) if rustix::io::ioctl_fionbio(&server, true).is_ok() => {
                    self.server = Some(server.into());
                    self.framing.accept(self.start.elapsed());
                    self.backoff.succeeded();
                    return;
                }
                Ok(_) => {}
                Err(error) => self.say(&error.to_string()),
            }
            self.next_attempt = Instant::now() + self.backoff.failed();
        }
    }

    /// Makes one attempt to connect to the server. The board itself handles the token of the file.
    fn connect(&self) -> io::Result<OwnedFd> {
        let (stream, _) = self.options.server.connect(ConnectOptions::new())?;
        Ok(stream.into())
    }

    /// Closes the connection and drops the bytes in transit.
    fn hang_up(&mut self) {
        self.server = None;
        self.to_server.clear();
        self.to_board.clear();
        self.ready = 0;
    }

    /// Passes bytes from the server to the line, as far as there is room.
    fn fill(&mut self) {
        while !self.to_board.is_empty() {
            match self.framing.put(&self.to_board) {
                0 => return,
                n => drop(self.to_board.drain(..n)),
            }
        }
        self.framing.end_message();
    }

    /// Waits until bytes can move, or for one tick.
    fn wait(&mut self) -> io::Result<(PollFlags, PollFlags)> {
        let mut line = PollFlags::empty();
        line.set(PollFlags::IN, self.to_server.len() < MOST);
        line.set(PollFlags::OUT, !self.framing.outgoing().is_empty());
        let mut server = PollFlags::empty();
        server.set(PollFlags::IN, self.to_board.is_empty());
        server.set(PollFlags::OUT, self.ready > 0);
        // A socket whose server has gone is always ready, so poll it only while there is room for
        // its bytes.
        let server_fd = self
            .server
            .as_ref()
            .filter(|_| !server.is_empty())
            .map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), server));
        let mut fds = vec![PollFd::new(&self.line, line)];
        fds.extend(server_fd);
        match poll(&mut fds, Some(&TICK)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let came = |i: usize| fds.get(i).map_or(PollFlags::empty(), PollFd::revents);
        Ok((came(0), came(1)))
    }

    /// Reads from the line; returns whether the line still exists.
    fn read_line(&mut self) -> io::Result<bool> {
        let n = match self.line.read(self.framing.space()) {
            Ok(0) => return Ok(false),
            Ok(n) => n,
            Err(error) if passes(&error) => return Ok(true),
            Err(error) if has_gone(&error) => return Ok(false),
            Err(error) => return Err(error),
        };
        self.framing.received(n, self.start.elapsed());
        // `follow` drops data of an old connection together with that connection.
        while !self.framing.data().is_empty() {
            self.to_server.extend_from_slice(self.framing.data());
            if self.framing.is_last() || self.to_server.len() > WHOLE {
                self.ready = self.to_server.len();
            }
            self.framing.consume(usize::MAX);
        }
        Ok(true)
    }

    fn write_line(&mut self) -> io::Result<()> {
        match self.line.write(self.framing.outgoing()) {
            Ok(n) => self.framing.sent(n),
            Err(error) if passes(&error) => {}
            // A read will report that the server has gone.
            Err(error) if has_gone(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn read_server(&mut self) {
        let mut bytes = [0; WHOLE];
        let Some(server) = &mut self.server else {
            return;
        };
        match server.read(&mut bytes) {
            Ok(n) if n > 0 => self
                .to_board
                .extend_from_slice(bytes.get(..n).unwrap_or_default()),
            Err(error) if passes(&error) => {}
            _ => self.framing.close(),
        }
    }

    fn write_server(&mut self) {
        let Some(server) = &mut self.server else {
            return;
        };
        match server.write(self.to_server.get(..self.ready).unwrap_or_default()) {
            Ok(n) => {
                self.to_server.drain(..n);
                self.ready -= n;
            }
            Err(error) if passes(&error) => {}
            Err(_) => self.framing.close(),
        }
    }

    fn say(&self, text: &str) {
        if self.options.is_verbose {
            say(format_args!("{}: {text}", self.name));
        }
    }
}

/// Whether the call may be repeated.
fn passes(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::TimedOut
    )
}

/// Whether the other end of a socket or a pty is closed.
fn has_gone(error: &io::Error) -> bool {
    let is_io = rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::IO);
    is_io
        || matches!(
            error.kind(),
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
        )
}
