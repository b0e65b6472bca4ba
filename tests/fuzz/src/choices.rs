//! A fuzzer's bytes as decisions, and the bytes on their way to a machine.

use forcewire::{Exchange, ProtocolError, Step};

/// Decisions, taken from the front of the bytes. After the last byte every decision is 0.
#[derive(Clone, Copy, Debug)]
pub struct Choices<'a>(pub &'a [u8]);

impl Choices<'_> {
    pub fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        first
    }

    pub fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n
    }

    pub fn bit(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    pub fn of<T: Copy, const N: usize>(&mut self, these: [T; N]) -> T {
        these[self.below(N)]
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The bytes that a machine receives and sends, and their division into pieces.
#[derive(Debug)]
pub struct Wire<'a> {
    pub inbox: &'a [u8],
    /// Whether the stream ends after the inbox.
    pub ended: bool,
    pub said: Vec<u8>,
}

impl<'a> Wire<'a> {
    pub fn new(inbox: &'a [u8]) -> Self {
        Self {
            inbox,
            ended: true,
            said: Vec::new(),
        }
    }

    /// Moves one piece of at most `most` bytes. Returns the result of the exchange, or how many
    /// bytes have moved.
    pub fn move_some<T: Exchange>(
        &mut self,
        transfer: &mut T,
        most: usize,
    ) -> Result<usize, Result<T::Output, ProtocolError>> {
        let n = match transfer.step() {
            Err(error) => return Err(Err(error)),
            Ok(Step::Done(output)) => return Err(Ok(output)),
            Ok(Step::Write(slice)) => {
                assert!(!slice.is_empty());
                let n = slice.len().min(most);
                self.said.extend_from_slice(&slice[..n]);
                assert!(self.said.len() < 1 << 20, "it goes on for ever");
                n
            }
            Ok(Step::Read(slice)) => {
                assert!(!slice.is_empty());
                let n = slice.len().min(most).min(self.inbox.len());
                let (came, rest) = self.inbox.split_at(n);
                slice[..n].copy_from_slice(came);
                if n > 0 {
                    self.inbox = rest;
                } else if self.inbox.is_empty() && self.ended {
                    transfer.end();
                    return Ok(1);
                }
                n
            }
        };
        transfer.advance(n);
        Ok(n)
    }

    /// Runs an exchange to its end, or until it waits for bytes that don't arrive.
    pub fn run<T: Exchange>(
        &mut self,
        mut transfer: T,
    ) -> Option<Result<T::Output, ProtocolError>> {
        loop {
            match self.move_some(&mut transfer, usize::MAX) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(over) => return Some(over),
            }
        }
    }
}
