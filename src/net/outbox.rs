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
        if self.fits(bytes) {
            return Ok(self.keep(bytes));
        }
        loop {
            if let Some(n) = self.push(socket, bytes)? {
                return Ok(n);
            }
        }
    }

    /// Sends what is kept.
    pub(super) fn flush(&mut self, socket: &Socket) -> io::Result<()> {
        while !self.is_empty() {
            self.push(socket, &[])?;
        }
        Ok(())
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether these are few enough to be copied.
    pub(super) const fn fits(&self, bytes: &[u8]) -> bool {
        self.bytes.len() + bytes.len() <= BUFFER
    }

    pub(super) fn keep(&mut self, bytes: &[u8]) -> usize {
        append(bytes, &mut self.bytes);
        bytes.len()
    }

    /// Sends what is kept and these bytes behind it, in one call that may take some of it; how many of these it took, if
    /// it came to them.
    pub(super) fn push(&mut self, socket: &Socket, bytes: &[u8]) -> io::Result<Option<usize>> {
        let kept = self.kept();
        let before = kept.len();
        let n = if bytes.is_empty() {
            match socket.write(kept)? {
                0 => return Err(ErrorKind::WriteZero.into()),
                n => n,
            }
        } else {
            socket.write_vectored(&[IoSlice::new(kept), IoSlice::new(bytes)])?
        };
        self.left(n.min(before));
        Ok((n > before || n == 0).then_some(n.saturating_sub(before)))
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
