//! The conversation over one connection to a server.

use std::io::{self, ErrorKind};
use std::task::Poll;
use std::time::Duration;

use forcewire::net::Stream;
use forcewire::{
    Cell, Driver, Error, Event, Exchange, Header, Initialize, ProtocolError, blocking,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::structures::Structures;
use crate::incoming::{Growing, MOST_STRUCTURES};
use crate::meet::{KEY, Token};
use crate::pool::Drivers;
use crate::say::Failure;
use crate::trouble::explain;

/// The most bytes of extras to pass on, for all structures of a batch together.
pub const EXTRAS: usize = 64 << 20;

/// How long to wait for one side before the other gets its turn.
const TICK: Duration = Duration::from_millis(20);

/// How a connection ended.
pub enum End {
    Exit,
    /// The server closed the connection between two messages.
    Closed,
    /// The server or the network failed.
    Lost(String),
}

/// Why a conversation stops.
enum Stop {
    /// The server failed, or the network to it.
    Server(Error<io::Error>),
    /// Some other server wrote the file.
    Stranger,
    /// The drivers failed, or a signal arrived.
    Ours(Failure),
}

impl From<Error<io::Error>> for Stop {
    fn from(error: Error<io::Error>) -> Self {
        Self::Server(error)
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Ours(failure)
    }
}

pub struct Conversation<'a> {
    drivers: &'a mut Drivers,
    driver: Driver,
    /// The token that the server must present, if its file has one.
    token: Option<Token>,
    cells: Vec<Cell>,
    positions: Vec<[f64; 3]>,
    structures: Structures,
    evaluations: u64,
}

impl<'a> Conversation<'a> {
    pub fn new(drivers: &'a mut Drivers, initialize: Initialize, token: Option<Token>) -> Self {
        // A server presents its token in INIT.
        let initialize = match (initialize, &token) {
            (Initialize::Never, Some(_)) => Initialize::Once,
            (initialize, _) => initialize,
        };
        Self {
            drivers,
            driver: Driver::new().initialize(initialize),
            token,
            cells: vec![Cell::orthorhombic([0.0; 3])],
            positions: Vec::new(),
            structures: Structures::default(),
            evaluations: 0,
        }
    }

    /// How many structures the server has received forces for.
    pub const fn evaluations(&self) -> u64 {
        self.evaluations
    }

    /// Runs until the server ends the conversation or is lost.
    pub fn run(&mut self, stream: &mut Stream) -> Result<End, Failure> {
        let served = self.serve(stream);
        self.structures.cancel(self.drivers);
        if matches!(
            served,
            Err(Stop::Server(Error::Protocol(_)) | Stop::Ours(_) | Stop::Stranger)
        ) {
            // i-PI hangs if a connection is closed before its last message has been read.
            let _ = blocking::run(stream, self.driver.drain());
        }
        match served {
            Ok(End::Closed) if self.driver.traffic().received == 0 => Ok(End::Lost(format!(
                "{} closed the connection before its first message",
                stream.peer()
            ))),
            Err(Stop::Stranger) => Ok(End::Lost(format!(
                "{} is another server than the file is about, without its token",
                stream.peer()
            ))),
            Ok(end) => Ok(end),
            // Another attempt would fail in the same way.
            Err(Stop::Server(error @ Error::Protocol(ProtocolError::UnannouncedBatch))) => {
                Err(Failure::Run(explain(&error)))
            }
            Err(Stop::Server(error)) => Ok(End::Lost(explain(&error))),
            Err(Stop::Ours(failure)) => Err(failure),
        }
    }

    fn serve(&mut self, stream: &mut Stream) -> Result<End, Stop> {
        let mut replica = 0;
        let mut is_known = self.token.is_none();
        // The token that the first reply presents.
        let mut before_extras = self.token.as_ref().map(Token::before_extras);
        loop {
            let mut sink = Growing(&mut self.positions);
            let receive = self.driver.receive_into(&mut self.cells, &mut sink);
            match carry_on(self.drivers, stream, receive) {
                Ok(Event::Init { replica: named }) => {
                    replica = named;
                    if let Some(token) = &self.token {
                        is_known = token.is_among(self.driver.parameters());
                        if !is_known {
                            return Err(Stop::Stranger);
                        }
                    }
                    let text = passed_on(self.driver.init_text());
                    self.drivers.set_init(text);
                }
                // A driver that has asked for INIT accepts no positions before INIT.
                Err(Stop::Server(Error::Protocol(ProtocolError::OutOfTurn {
                    command: Header::PosData,
                    ..
                }))) if !is_known => return Err(Stop::Stranger),
                Ok(Event::Positions {
                    natoms, structures, ..
                }) => {
                    let cells = self.cells.get(..structures).unwrap_or_default();
                    let structures = &mut self.structures;
                    structures.submit(self.drivers, cells, natoms, &self.positions, replica)?;
                    if self.compute(stream)? {
                        self.reply(stream, before_extras.take())?;
                    }
                }
                Ok(Event::Exit) => return Ok(End::Exit),
                Ok(_) => return Ok(End::Closed),
                // The exchange continues once there is room.
                Err(Stop::Server(Error::Protocol(ProtocolError::TooManyStructures {
                    announced,
                    ..
                }))) if announced <= MOST_STRUCTURES => {
                    self.cells.resize(announced, Cell::orthorhombic([0.0; 3]));
                }
                Err(stop) => return Err(stop),
            }
        }
    }

    /// Waits until the drivers have answered and the server asks for the forces. Returns false if
    /// the server has gone.
    fn compute(&mut self, stream: &mut Stream) -> Result<bool, Stop> {
        let mut asked = false;
        while !(asked && self.structures.are_complete()) {
            if !asked {
                match stream.poll(self.driver.await_getforce())? {
                    Poll::Ready(None) => asked = true,
                    // The next exchange reports how the server ended.
                    Poll::Ready(Some(_)) => return Ok(false),
                    Poll::Pending => {}
                }
            }
            if self.structures.are_complete() {
                if !asked && !stream.must_poll_again() {
                    wait(stream, PollFlags::IN, TICK)?;
                }
                self.drivers.catch_up()?;
            } else if let Some(outcome) = self.drivers.turn(TICK)? {
                self.structures.take(outcome)?;
            } else if asked && has_gone(stream)? {
                let why = format!("{} has gone while drivers computed", stream.peer());
                let error = io::Error::new(ErrorKind::ConnectionReset, why);
                return Err(Error::Transport(error).into());
            }
        }
        Ok(true)
    }

    fn reply(&mut self, stream: &mut Stream, before: Option<Vec<u8>>) -> Result<(), Stop> {
        if let Some(before) = before {
            self.structures.put_before_extras(&before);
        }
        let (evaluations, forces, extras) = self.structures.reply();
        blocking::run(
            stream,
            self.driver.reply_batch(&evaluations, &forces, &extras),
        )?;
        self.evaluations += evaluations.len() as u64;
        self.structures.clear();
        Ok(())
    }
}

/// Runs an exchange with the server while serving the drivers.
fn carry_on<T: Exchange>(
    drivers: &mut Drivers,
    stream: &mut Stream,
    mut exchange: T,
) -> Result<T::Output, Stop> {
    loop {
        if let Poll::Ready(output) = stream.poll(&mut exchange)? {
            return Ok(output);
        }
        if !stream.must_poll_again() {
            wait(stream, PollFlags::IN, TICK)?;
        }
        drivers.catch_up()?;
    }
}

/// Waits for one of these events and returns those that occurred.
fn wait(stream: &Stream, flags: PollFlags, limit: Duration) -> Result<PollFlags, Stop> {
    let limit = Timespec::try_from(limit).unwrap_or_default();
    let mut fds = [PollFd::new(stream, flags)];
    match poll(&mut fds, Some(&limit)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(Error::Transport(error.into()).into()),
    }
    let [fd] = fds;
    Ok(fd.revents())
}

/// Whether the server has closed its side with nothing more to read. It has asked for forces and
/// sends nothing until it has received them.
fn has_gone(stream: &Stream) -> Result<bool, Stop> {
    #[cfg(target_os = "linux")]
    let end = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
    #[cfg(not(target_os = "linux"))]
    let end = PollFlags::HUP | PollFlags::ERR;
    Ok(wait(stream, end, Duration::ZERO)?.intersects(end))
}

/// The text of INIT without the batch size and the token, which belong to one connection.
fn passed_on(text: &[u8]) -> Vec<u8> {
    let is_size = |part: &[u8]| {
        let key = part.split(|byte| *byte == b':').next().unwrap_or_default();
        [b"batch_size", KEY.as_bytes()].contains(&key.trim_ascii())
    };
    let parts: Vec<&[u8]> = text.split(|byte| *byte == b',').collect();
    let kept: Vec<&[u8]> = parts
        .iter()
        .copied()
        .filter(|part| !is_size(part))
        .collect();
    kept.join(&b',')
}

#[cfg(test)]
mod tests {
    use super::passed_on;

    #[test]
    fn the_size_of_batches_is_not_passed_on() {
        for (text, passed) in [
            (&b"  batch_size:3"[..], &b""[..]),
            (b" k : 0.1 ,  batch_size:16", b" k : 0.1 "),
            (b"batch_size : 2 , k:1", b" k:1"),
            (b" my_batch_size:2", b" my_batch_size:2"),
            (b" meet:5f,k:1", b"k:1"),
            (b" ", b" "),
            (b"\0", b"\0"),
            (b"\xff, batch_size:2", b"\xff"),
            (b"", b""),
        ] {
            assert_eq!(passed_on(text), passed, "{}", text.escape_ascii());
        }
    }
}
