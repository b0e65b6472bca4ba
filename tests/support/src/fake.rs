//! A blocking stream that counts its calls, moves any number of bytes and fails on demand.

use std::collections::VecDeque;
use std::fmt;

use embedded_io::{ErrorKind, ErrorType, Read, Write};

use super::wire::{Dice, Split};

/// A call that our side made on the stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    Wrote(Vec<u8>),
    Flushed,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Failure(pub ErrorKind);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl core::error::Error for Failure {}

impl embedded_io::Error for Failure {
    fn kind(&self) -> ErrorKind {
        self.0
    }
}

/// A stream whose peer has already sent everything.
pub struct Fake {
    pub inbox: VecDeque<u8>,
    pub calls: Vec<Call>,
    split: Split,
    dice: Dice,
    /// If set, a call fails with this error before every read, write and flush that succeeds.
    pub before_each: Option<ErrorKind>,
    pub failed: [bool; 3],
    pub takes_nothing: bool,
    /// The number of calls that moved nothing; too many of them mean an endless loop.
    idle: usize,
}

impl Fake {
    pub fn new(inbox: &[u8]) -> Self {
        Self {
            inbox: inbox.iter().copied().collect(),
            calls: Vec::new(),
            split: Split::Whole,
            dice: Dice::new(1),
            before_each: None,
            failed: [false; 3],
            takes_nothing: false,
            idle: 0,
        }
    }

    pub fn split(self, split: Split) -> Self {
        Self { split, ..self }
    }

    pub fn fails_before_each(self, kind: ErrorKind) -> Self {
        Self {
            before_each: Some(kind),
            ..self
        }
    }

    fn fail(&mut self, call: usize) -> Result<(), Failure> {
        self.failed[call] = !self.failed[call];
        match self.before_each {
            Some(kind) if self.failed[call] => Err(Failure(kind)),
            _ => Ok(()),
        }
    }

    fn piece(&mut self, most: usize) -> usize {
        match self.split {
            Split::Whole => most,
            Split::Bytes => most.min(1),
            Split::Random(_) | Split::Anew(_) => most.min(1 + self.dice.below(40)),
        }
    }

    /// All bytes that were written.
    pub fn said(&self) -> Vec<u8> {
        let written = self.calls.iter().filter_map(|call| match call {
            Call::Wrote(bytes) => Some(bytes.as_slice()),
            Call::Flushed => None,
        });
        written.collect::<Vec<_>>().concat()
    }

    /// Whether some written bytes were not flushed.
    pub fn owes(&self) -> bool {
        matches!(self.calls.last(), Some(Call::Wrote(_)))
    }
}

impl ErrorType for Fake {
    type Error = Failure;
}

impl Read for Fake {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        assert!(!buffer.is_empty());
        assert!(!self.owes(), "waits for a peer that waits for a flush");
        self.fail(0)?;
        let n = self.piece(buffer.len().min(self.inbox.len()));
        self.idle += usize::from(n == 0);
        assert!(self.idle < 100);
        for (byte, heard) in buffer.iter_mut().zip(self.inbox.drain(..n)) {
            *byte = heard;
        }
        Ok(n)
    }
}

impl Write for Fake {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        assert!(!bytes.is_empty());
        self.fail(1)?;
        if self.takes_nothing {
            self.idle += 1;
            assert!(self.idle < 100);
            return Ok(0);
        }
        let n = self.piece(bytes.len());
        self.calls.push(Call::Wrote(bytes[..n].to_vec()));
        Ok(n)
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.fail(2)?;
        // A flush of nothing is not counted.
        if self.owes() {
            self.calls.push(Call::Flushed);
        }
        Ok(())
    }
}
