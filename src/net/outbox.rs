//! What is on its way out: small pieces gathered until a message is whole.

use std::io::{self, ErrorKind, IoSlice};
use std::vec::Vec;

use super::socket::{BUFFER, Socket, append};

/// Bytes that have been taken and have not left yet.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    /// What of them has left.
    sent: usize,
}

impl Outbox {
    /// Takes some bytes, at least one: keeps them, or sends them behind what is kept when they are too many to be
    /// copied.
    pub(super) fn write(&mut self, socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() <= BUFFER {
            append(bytes, &mut self.bytes);
            return Ok(bytes.len());
        }
        loop {
            let kept = self.kept();
            let before = kept.len();
            let n = socket.write_vectored(&[IoSlice::new(kept), IoSlice::new(bytes)])?;
            self.left(n.min(before));
            if n > before || n == 0 {
                return Ok(n.saturating_sub(before));
            }
        }
    }

    /// Sends what is kept.
    pub(super) fn flush(&mut self, socket: &Socket) -> io::Result<()> {
        while !self.bytes.is_empty() {
            match socket.write(self.kept())? {
                0 => return Err(ErrorKind::WriteZero.into()),
                n => self.left(n),
            }
        }
        Ok(())
    }

    fn kept(&self) -> &[u8] {
        self.bytes.get(self.sent..).unwrap_or_default()
    }

    /// Counts bytes that have left.
    fn left(&mut self, n: usize) {
        self.sent += n;
        if self.sent >= self.bytes.len() {
            self.bytes.clear();
            self.sent = 0;
        }
    }
}
