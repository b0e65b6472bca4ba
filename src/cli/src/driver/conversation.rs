//! Conversations with servers, one after another.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use forcewire::net::{ConnectOptions, Stream, connect_with};
use forcewire::{
    Backoff, Cell, Deadline, Driver, Error, Evaluation, Event, Header, Initialize, Potential,
    ProtocolError, blocking,
};

use super::Init;
use crate::incoming::{Growing, MOST_STRUCTURES};
use crate::meet::{Target, Token};
use crate::say::{Failure, counted, say};
use crate::trouble::explain;

/// The first pause after a connection without any result.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The longest time between two reads of a server's file.
const LONGEST_LOOK: Duration = Duration::from_millis(500);

type Result<T> = std::result::Result<T, Error<io::Error>>;

pub struct Conversation {
    target: Target,
    /// The token that the server must present, if its file has one.
    token: Option<Token>,
    potential: Box<dyn Potential<Real = f64>>,
    init: Init,
    options: ConnectOptions,
    idle: Option<Duration>,
    verbose: bool,
    arrays: Arrays,
    evaluations: u64,
    computing: Duration,
}

/// How a conversation ended.
enum End {
    Exit,
    /// The server closed the connection between two messages.
    Closed,
    /// The server closed the connection before its first message.
    Unheard,
    /// Some other server wrote the file.
    Stranger,
    /// The server sends batches, and INIT, which would announce them, was not requested.
    Batches,
}

/// The arrays of an exchange. They grow with the received bytes, not with the announced count.
#[derive(Default)]
struct Arrays {
    positions: Vec<[f64; 3]>,
    cells: Vec<Cell>,
    forces: Vec<[f64; 3]>,
    results: Vec<Evaluation>,
}

impl Conversation {
    pub fn new(
        target: Target,
        potential: Box<dyn Potential<Real = f64>>,
        init: Init,
        verbose: bool,
    ) -> Self {
        Self {
            target,
            token: None,
            potential,
            init,
            options: ConnectOptions::new(),
            idle: None,
            verbose,
            arrays: Arrays::default(),
            evaluations: 0,
            computing: Duration::ZERO,
        }
    }

    /// Sets how long to wait for a server and for the rest of a message, and how long for the next
    /// message.
    pub fn limits(&mut self, patience: Duration, idle: Option<Duration>) {
        let mut deadlines = self.options.deadlines.message(patience);
        deadlines.evaluation = idle;
        self.options = self.options.connect(patience).deadlines(deadlines);
        self.idle = idle;
    }

    /// Computes for a server until it ends the conversation, then for the next server.
    pub fn run(&mut self, reconnect: bool) -> std::result::Result<(), Failure> {
        let mut initialize = match self.init {
            Init::Auto | Init::Never => Initialize::Never,
            Init::Once => Initialize::Once,
            Init::Every => Initialize::EveryStep,
        };
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        // The start of the search for a server.
        let mut start = Instant::now();
        loop {
            let before = self.evaluations;
            let failure = match self.converse(initialize) {
                Ok(End::Batches) => {
                    say(
                        "the server sends batches: connecting again to ask for INIT, which announces them",
                    );
                    initialize = Initialize::Once;
                    continue;
                }
                Ok(End::Stranger) if start.elapsed() < self.options.connect => {
                    thread::sleep(backoff.failed());
                    continue;
                }
                Ok(End::Stranger) => {
                    let server = &self.target;
                    Some(format!(
                        "where {server} should be is another, without its token"
                    ))
                }
                Ok(End::Exit) => None,
                Ok(End::Closed) => {
                    let address = &self.target;
                    say(format_args!(
                        "note: {address} closed the connection without EXIT, as ASE does"
                    ));
                    None
                }
                Ok(End::Unheard) => {
                    let address = &self.target;
                    Some(format!(
                        "{address} closed the connection before its first message: does it serve others?"
                    ))
                }
                Err(error) => Some(self.explain(error)),
            };
            match (failure, reconnect) {
                (None, false) => return Ok(()),
                (Some(text), false) => return Err(Failure::Run(text)),
                (Some(text), true) => say(text),
                (None, true) => {}
            }
            if self.evaluations > before {
                backoff.succeeded();
            }
            thread::sleep(backoff.failed());
            say("waiting for the next server");
            start = Instant::now();
            self.options = self.options.connect(Duration::MAX);
        }
    }

    /// Runs one connection.
    fn converse(&mut self, initialize: Initialize) -> Result<End> {
        let mut stream = self.connect().map_err(Error::Transport)?;
        // A server presents its token in INIT.
        let initialize = match (initialize, &self.token) {
            (Initialize::Never, Some(_)) => Initialize::Once,
            (initialize, _) => initialize,
        };
        let mut driver = Driver::new().initialize(initialize);
        if self.verbose {
            say(format_args!("connected to {}", self.target));
        }
        let start = Instant::now();
        let (before, computing) = (self.evaluations, self.computing);
        let result = self.serve(&mut stream, &mut driver);
        if let Ok(End::Stranger) | Err(Error::Protocol(_) | Error::Potential(_)) = result {
            // i-PI hangs if a connection is closed before its last message has been read.
            let _ = blocking::run(&mut stream, driver.drain());
        }
        if self.verbose {
            let traffic = driver.traffic();
            say(format_args!(
                "{} in {:.3} s, {:.3} s of it computing; {} bytes received, {} sent",
                counted(self.evaluations - before, "evaluation"),
                start.elapsed().as_secs_f64(),
                (self.computing - computing).as_secs_f64(),
                traffic.received,
                traffic.sent
            ));
        }
        match result {
            Ok(End::Closed) if driver.traffic().received == 0 => Ok(End::Unheard),
            Err(Error::Protocol(ProtocolError::UnannouncedBatch)) if self.init == Init::Auto => {
                Ok(End::Batches)
            }
            result => result,
        }
    }

    fn connect(&mut self) -> io::Result<Stream> {
        let mut silent = true;
        let limit = self.options.connect;
        let mut failed = |error: &io::Error| {
            if !std::mem::take(&mut silent) {
                return;
            }
            match limit {
                Duration::MAX => say(format_args!("{error}; trying again")),
                limit => say(format_args!(
                    "{error}; trying again for {} s",
                    limit.as_secs_f64()
                )),
            }
        };
        if let Target::Address(address) = &self.target {
            return connect_with(address, self.options, |error, _| failed(error));
        }
        let (start, mut backoff) = (Instant::now(), Backoff::new(FIRST_PAUSE, LONGEST_LOOK));
        loop {
            // Read the file on each attempt: the next server may have another address.
            let error = match self.target.connect(self.options) {
                Ok((stream, token)) => {
                    self.token = token;
                    return Ok(stream);
                }
                Err(error) => error,
            };
            let remaining = limit.saturating_sub(start.elapsed());
            if remaining.is_zero() {
                return Err(error);
            }
            failed(&error);
            thread::sleep(backoff.failed().min(remaining));
        }
    }

    /// Takes part in the conversation until the server ends it.
    fn serve(&mut self, stream: &mut Stream, driver: &mut Driver) -> Result<End> {
        self.arrays.cells.resize(1, Cell::orthorhombic([0.0; 3]));
        let mut is_known = self.token.is_none();
        // The token that the first reply presents.
        let mut before_extras = self.token.as_ref().map(Token::before_extras);
        loop {
            let Arrays {
                cells, positions, ..
            } = &mut self.arrays;
            // Most structures have the size of the previous one, so the positions are read directly
            // into place.
            let is_known_size = !positions.is_empty();
            let received = match is_known_size {
                true => blocking::run(stream, driver.receive_batch(cells, positions)),
                false => blocking::run(stream, driver.receive_into(cells, &mut Growing(positions))),
            };
            match received {
                Err(Error::Protocol(ProtocolError::TooManyAtoms { .. })) if is_known_size => {
                    positions.clear();
                }
                // A driver that has asked for INIT accepts no positions before INIT.
                Err(Error::Protocol(ProtocolError::OutOfTurn {
                    command: Header::PosData,
                    ..
                })) if !is_known => return Ok(End::Stranger),
                Ok(Event::Positions {
                    natoms, structures, ..
                }) => {
                    positions.truncate(natoms.saturating_mul(structures));
                    self.compute(natoms, structures)?;
                    let extras = before_extras.take();
                    let extras: Vec<&[u8]> = extras.iter().map(Vec::as_slice).collect();
                    let extras = extras.repeat(structures);
                    let Arrays {
                        forces, results, ..
                    } = &self.arrays;
                    blocking::run(stream, driver.reply_batch(results, forces, &extras))?;
                }
                Ok(Event::Init { replica }) => {
                    if let Some(token) = &self.token {
                        if !token.is_among(driver.parameters()) {
                            return Ok(End::Stranger);
                        }
                        is_known = true;
                    }
                    if self.verbose {
                        let text = driver.init_text().escape_ascii();
                        say(format_args!("INIT of replica {replica}: \"{text}\""));
                    }
                }
                Ok(Event::Exit) => return Ok(End::Exit),
                Ok(_) => return Ok(End::Closed),
                // The exchange continues once there is room.
                Err(Error::Protocol(ProtocolError::TooManyStructures { announced, .. }))
                    if announced <= MOST_STRUCTURES =>
                {
                    cells.resize(announced, Cell::orthorhombic([0.0; 3]));
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn compute(&mut self, natoms: usize, structures: usize) -> Result<()> {
        let start = Instant::now();
        let Arrays {
            positions,
            cells,
            forces,
            results,
        } = &mut self.arrays;
        forces.resize(positions.len(), [0.0; 3]);
        results.clear();
        let mut of_each = positions
            .chunks(natoms.max(1))
            .zip(forces.chunks_mut(natoms.max(1)));
        for cell in cells.iter().take(structures) {
            let (positions, forces) = of_each.next().unwrap_or_default();
            let result = self.potential.evaluate(cell, positions, forces);
            results.push(result.map_err(Error::Potential)?);
        }
        self.evaluations += structures as u64;
        self.computing += start.elapsed();
        if self.verbose {
            let energies: Vec<f64> = results.iter().map(|result| result.energy).collect();
            say(format_args!("{natoms} atoms, energy {energies:?} hartree"));
        }
        Ok(())
    }

    /// The error, with advice about flags.
    fn explain(&self, error: Error<io::Error>) -> String {
        match (error, self.idle) {
            (Error::TimedOut(late), Some(limit)) if late.deadline == Deadline::Evaluation => {
                let seconds = limit.as_secs_f64();
                format!("{} has sent nothing for {seconds} s (--idle)", self.target)
            }
            (error, _) => explain(&error),
        }
    }
}
