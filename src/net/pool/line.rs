//! A connection as an exchange uses it, and the budget of one turn.

use std::io::{self, ErrorKind};
use std::vec::Vec;

use super::LeftReason;
use super::batch::Batch;
use crate::blocking::Transport;
use crate::error::Error;
use crate::exchange::Wait;
use crate::net::outbox::Outbox;
use crate::net::socket::{BUFFER, Socket, copy};

/// The budget of a driver's turn. A turn ends when one of these is used up, so that no driver keeps
/// the others waiting.
#[derive(Debug)]
pub(super) struct Turn {
    /// The remaining exchanges.
    pub(super) messages: usize,
    /// The remaining system calls, in both directions.
    calls: usize,
    /// The remaining bytes, in both directions.
    bytes: usize,
}

impl Turn {
    pub(super) const fn new() -> Self {
        Self {
            messages: 16,
            calls: 64,
            bytes: 1024 * 1024,
        }
    }

    pub(super) const fn is_over(&self) -> bool {
        self.messages == 0 || self.calls == 0 || self.bytes == 0
    }

    const fn count(&mut self, bytes: usize) {
        self.calls = self.calls.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// Memory for the driver whose turn it is, so that waiting drivers need none.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Bytes from the kernel: how many there are, and how many have been served.
    input: Vec<u8>,
    filled: usize,
    served: usize,
    pub(super) output: Outbox,
    /// Arrays for batches.
    pub(super) spare: Vec<Batch>,
}

impl Shared {
    /// Bytes that were read and not served.
    pub(super) fn rest(&self) -> &[u8] {
        self.input.get(self.served..self.filled).unwrap_or_default()
    }

    /// Serves available bytes, as many as `buffer` holds.
    fn serve(&mut self, buffer: &mut [u8]) -> usize {
        let n = copy(self.rest(), buffer);
        self.served += n;
        n
    }

    pub(super) fn fill(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if self.input.is_empty() {
            self.input.resize(BUFFER, 0);
        }
        self.served = 0;
        self.filled = 0;
        self.filled = read(&mut self.input)?;
        Ok(self.filled)
    }

    /// Clears the buffer once everything has been served or stored elsewhere.
    pub(super) const fn clear(&mut self) {
        self.served = self.filled;
    }
}

/// The connection as an exchange uses it: a transport that never waits.
pub(super) struct Line<'a> {
    pub(super) socket: &'a Socket,
    pub(super) outbox: &'a mut Outbox,
    pub(super) shared: &'a mut Shared,
    pub(super) turn: &'a mut Turn,
    pub(super) drained: &'a mut bool,
    pub(super) closing: bool,
    pub(super) blocked: &'a mut bool,
}

impl Line<'_> {
    /// Reads available bytes, if there are any.
    pub(super) fn receive(&mut self, buffer: &mut [u8], owed: bool) -> io::Result<usize> {
        if self.shared.rest().is_empty() {
            if *self.drained && owed {
                // A peer without TCP_NODELAY waits for the acknowledgement, see `Stream`.
                self.socket.acknowledge_at_once();
            }
            if buffer.len() >= BUFFER {
                return self.try_read(buffer.len(), |line| line.socket.read(buffer));
            }
            self.refill()?;
        }
        Ok(self.shared.serve(buffer))
    }

    /// Reads ahead.
    fn refill(&mut self) -> io::Result<usize> {
        self.try_read(BUFFER, |line| {
            line.shared.fill(|room| line.socket.read(room))
        })
    }

    /// Reads with a call that has this much `room`, unless the turn is over or no bytes are
    /// available.
    fn try_read(
        &mut self,
        room: usize,
        call: impl FnOnce(&mut Self) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if *self.drained || self.turn.is_over() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let result = call(self);
        // If the call returned less than there was room for, no more bytes are available, except
        // perhaps the end of the stream.
        *self.drained = match &result {
            Ok(n) => *n < room && !self.closing,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        };
        self.turn.count(*result.as_ref().unwrap_or(&0));
        result
    }

    /// Sends, unless the turn is over. `call` returns how many bytes it sent.
    fn send(
        &mut self,
        call: impl FnOnce(&mut Self) -> io::Result<usize>,
    ) -> Result<usize, Error<io::Error>> {
        if self.turn.is_over() {
            return Err(Error::Transport(ErrorKind::WouldBlock.into()));
        }
        let result = call(self);
        if let Err(error) = &result {
            *self.blocked = error.kind() == ErrorKind::WouldBlock;
        }
        self.turn.count(*result.as_ref().unwrap_or(&0));
        result.map_err(Error::Transport)
    }
}

impl Transport for Line<'_> {
    type Error = io::Error;

    fn read(&mut self, buffer: &mut [u8], wait: &Wait) -> Result<usize, Error<io::Error>> {
        let result = self.receive(buffer, wait.owed());
        result.map_err(Error::Transport)
    }

    fn write(&mut self, bytes: &[u8], _: &Wait) -> Result<usize, Error<io::Error>> {
        if self.outbox.fits(bytes) {
            return Ok(self.outbox.keep(bytes));
        }
        self.send(|line| line.outbox.write(line.socket, bytes))
    }

    fn flush(&mut self, wait: &Wait) -> Result<(), Error<io::Error>> {
        self.flush_with(&[], wait)
    }

    const BUFFERS: bool = true;

    fn serve(&mut self, buffer: &mut [u8]) -> usize {
        self.shared.serve(buffer)
    }

    fn keep(&mut self, bytes: &[u8]) -> bool {
        self.outbox.keeps(bytes)
    }

    fn flush_at_once(&mut self, array: &[u8]) -> Result<bool, Error<io::Error>> {
        if self.outbox.is_empty() {
            return Ok(true);
        }
        let flush = |line: &mut Self| line.outbox.flush(line.socket, array).map(|()| 0);
        let sent = self.send(flush);
        if sent.is_err() {
            self.outbox.take_over(array);
        }
        sent.map(|_| true)
    }

    fn read_ahead(&mut self, _: usize, _: &mut [u8]) -> Result<Option<usize>, Error<io::Error>> {
        self.refill().map(Some).map_err(Error::Transport)
    }

    fn lends(&mut self, array: &[u8]) -> bool {
        self.outbox.lend(array)
    }

    fn flush_with(&mut self, array: &[u8], _: &Wait) -> Result<(), Error<io::Error>> {
        self.flush_at_once(array).map(|_| ())
    }
}

/// The result of an exchange, or `None` if the driver or the kernel has to act first.
pub(super) fn progress<T>(result: Result<T, Error<io::Error>>) -> Result<Option<T>, LeftReason> {
    match result {
        Ok(output) => Ok(Some(output)),
        Err(Error::Transport(error)) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(Error::Transport(error)) => Err(LeftReason::Lost(error)),
        Err(Error::Protocol(error)) => Err(LeftReason::Protocol(error)),
        Err(Error::TimedOut(late)) => Err(LeftReason::Late(late)),
        Err(Error::WriteZero | Error::Potential(_)) => {
            Err(LeftReason::Lost(ErrorKind::WriteZero.into()))
        }
    }
}
