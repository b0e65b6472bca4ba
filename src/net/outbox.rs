//! Bytes to send: the pieces of a message, collected until it is complete.

use std::io::{self, ErrorKind, IoSlice};
use std::vec::Vec;

use super::socket::{BUFFER, Socket, append};

/// Bytes that were accepted and not sent yet.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    /// An array that is not copied: it stays in the caller's memory and is passed to each call that
    /// sends.
    lent: Option<Lent>,
    /// The number of bytes sent so far, including bytes of the array.
    sent: usize,
}

#[derive(Clone, Copy, Debug)]
struct Lent {
    /// The number of bytes to send before it.
    at: usize,
    len: usize,
}

/// Arrays of at least this many bytes are lent, smaller ones are copied. A copy of those costs less
/// than a third slice does in the kernel.
const LENT: usize = 4 * 1024;

impl Outbox {
    /// Accepts at least one byte: keeps the bytes, or sends them after the kept ones if they are
    /// too many to be copied.
    pub(super) fn write(&mut self, socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
        if self.fits(bytes) {
            return Ok(self.keep(bytes));
        }
        loop {
            if let Some(n) = self.push(socket, bytes, true)? {
                return Ok(n);
            }
        }
    }

    /// Sends the kept bytes and the lent array.
    pub(super) fn flush(&mut self, socket: &Socket, array: &[u8]) -> io::Result<()> {
        while !self.is_empty() {
            self.send(socket, array, true)?;
        }
        Ok(())
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.lent.is_none()
    }

    /// Whether these bytes are few enough to be copied, or have to be because a lent array must be
    /// sent first.
    pub(super) const fn fits(&self, bytes: &[u8]) -> bool {
        self.lent.is_some() || self.bytes.len() + bytes.len() <= BUFFER
    }

    /// Keeps these bytes, unless there are enough of them to be [lent](Self::lend) or sent at once.
    pub(super) fn keeps(&mut self, bytes: &[u8]) -> bool {
        let keeps = bytes.len() < LENT && self.fits(bytes);
        if keeps {
            append(bytes, &mut self.bytes);
        }
        keeps
    }

    pub(super) fn keep(&mut self, bytes: &[u8]) -> usize {
        append(bytes, &mut self.bytes);
        bytes.len()
    }

    /// Registers an array as the next thing to send, if it is large enough.
    pub(super) fn lend(&mut self, array: &[u8]) -> bool {
        if array.len() < LENT || self.lent.is_some() || self.sent > 0 {
            return false;
        }
        self.lent = Some(Lent {
            at: self.bytes.len(),
            len: array.len(),
        });
        true
    }

    /// Sends the kept bytes and then these, in one call that may send only a part. Returns how many
    /// of these were sent, if any.
    pub(super) fn push(
        &mut self,
        socket: &Socket,
        bytes: &[u8],
        waits: bool,
    ) -> io::Result<Option<usize>> {
        let kept = self.bytes.get(self.sent..).unwrap_or_default();
        let before = kept.len();
        let n = socket.send(&[IoSlice::new(kept), IoSlice::new(bytes)], waits)?;
        self.count_sent(n.min(before));
        Ok((n > before || n == 0).then_some(n.saturating_sub(before)))
    }

    /// Sends the kept bytes and the lent array, in one call that may send only a part.
    pub(super) fn send(&mut self, socket: &Socket, array: &[u8], waits: bool) -> io::Result<()> {
        let pieces = self.pieces(array)?.map(IoSlice::new);
        match socket.send(&pieces, waits)? {
            0 => Err(ErrorKind::WriteZero.into()),
            n => {
                self.count_sent(n);
                Ok(())
            }
        }
    }

    /// Copies the unsent part of the lent array: the caller may change the array afterwards.
    #[cold]
    pub(super) fn take_over(&mut self, array: &[u8]) {
        if self.lent.is_some()
            && let Ok(pieces) = self.pieces(array)
        {
            self.bytes = pieces.concat();
            (self.lent, self.sent) = (None, 0);
        }
    }

    /// The unsent bytes.
    fn pieces<'a>(&'a self, array: &'a [u8]) -> io::Result<[&'a [u8]; 3]> {
        let (at, len) = self.lent.map_or((0, 0), |lent| (lent.at, lent.len));
        let array = match self.lent {
            Some(_) if array.len() != len => {
                return Err(io::Error::other("the array of a message is missing"));
            }
            Some(_) => array,
            None => &[],
        };
        let (before, after) = self.bytes.split_at_checked(at).unwrap_or_default();
        let mut sent = self.sent;
        Ok([before, array, after].map(|piece| {
            let n = sent.min(piece.len());
            sent -= n;
            piece.get(n..).unwrap_or_default()
        }))
    }

    /// Counts sent bytes.
    fn count_sent(&mut self, n: usize) {
        self.sent += n;
        if self.sent >= self.bytes.len() + self.lent.map_or(0, |lent| lent.len) {
            self.bytes.clear();
            (self.lent, self.sent) = (None, 0);
        }
    }
}
