//! The text of INIT: reading, keeping and writing it.
//!
//! i-PI 3.3.1 writes a blank and `key : value , ` for each parameter (`ipi/engine/forcefields.py`),
//! and ends with `batch_size:B` if it will send batches (`ipi/interfaces/sockets.py`,
//! `initialize`). ASE sends one NUL, others one blank.

use super::gather::Gather;

/// The pairs of key and value in the text of INIT, without surrounding blanks.
///
/// ```
/// use forcewire::Parameters;
///
/// let mut parameters = Parameters::new("  epsilon : 0.1 ,  name : argon ,  batch_size:4");
/// assert_eq!(parameters.next(), Some(("epsilon", "0.1")));
/// assert_eq!(parameters.next(), Some(("name", "argon")));
/// assert_eq!(parameters.next(), Some(("batch_size", "4")));
/// assert_eq!(parameters.next(), None);
/// ```
#[derive(Clone, Debug)]
pub struct Parameters<'a>(&'a str);

impl<'a> Parameters<'a> {
    /// Reads `text`, which the caller still owns.
    #[must_use]
    pub const fn new(text: &'a str) -> Self {
        Self(text)
    }
}

impl<'a> Iterator for Parameters<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.0.is_empty() {
            let (pair, rest) = split_once(self.0, b',').unwrap_or((self.0, ""));
            self.0 = rest;
            if let Some((key, value)) = split_once(pair, b':') {
                return Some((key.trim_ascii(), value.trim_ascii()));
            }
        }
        None
    }
}

/// Splits at the first occurrence of a byte. `str`'s own `split_once` and `trim` handle Unicode,
/// which takes 700 bytes of flash.
fn split_once(text: &str, at: u8) -> Option<(&str, &str)> {
    let before = text.bytes().position(|byte| byte == at)?;
    Some((text.get(..before)?, text.get(before + 1..)?))
}

/// The content of INIT that a driver keeps.
#[repr(C)] // as `Driver`
pub(crate) struct InitText {
    /// The number of bytes announced.
    len: usize,
    /// The number of structures per batch, parsed while the text passes through, so that the text
    /// need not be kept.
    batch_size: usize,
    replica: Option<i32>,
    /// How many bytes of [`KEY`] have matched, or one of the states after it.
    seen: u8,
    text: heapless::Vec<u8, KEPT, u16>,
}

/// How many bytes of INIT's text to keep. i-PI's own text is shorter unless the input has many
/// parameters.
const KEPT: usize = 256;

const KEY: &[u8] = b"batch_size";
/// The state for blanks after the key.
const COLON: u8 = KEY.len() as u8;
/// The state for blanks before the value.
const VALUE: u8 = COLON + 1;
const NUMBER: u8 = VALUE + 1;
/// The state for blanks after the value.
const END: u8 = NUMBER + 1;
/// The state inside another parameter.
const OTHER: u8 = END + 1;

impl InitText {
    /// The state before any INIT.
    pub(crate) const fn new() -> Self {
        Self {
            len: 0,
            batch_size: 0,
            replica: None,
            seen: 0,
            text: heapless::Vec::new(),
        }
    }

    /// An INIT for this replica, with a text of this many bytes to follow.
    pub(crate) const fn announced(replica: i32, len: usize) -> Self {
        let mut init = Self::new();
        init.replica = Some(replica);
        init.len = len;
        init
    }

    /// Processes the next bytes of the text.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.look_for_batches(byte);
            let _ = self.text.push(byte); // as long as there is room
        }
    }

    fn look_for_batches(&mut self, byte: u8) {
        let expected = KEY.get(usize::from(self.seen));
        self.seen = match (self.seen, byte) {
            (_, b',') => 0,
            (0 | COLON | VALUE | END, b' ') => self.seen,
            (NUMBER, b' ') => END,
            (VALUE | NUMBER, b'0'..=b'9') => {
                let digit = usize::from(byte - b'0');
                self.batch_size = self.batch_size.saturating_mul(10).saturating_add(digit);
                NUMBER
            }
            (COLON, b':') => {
                self.batch_size = 0;
                VALUE
            }
            (VALUE | NUMBER | END, _) => {
                self.batch_size = 0; // no number after all
                OTHER
            }
            _ if expected == Some(&byte) => self.seen + 1,
            _ => OTHER,
        }
    }

    pub(crate) const fn replica(&self) -> Option<i32> {
        self.replica
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }

    /// The number of structures per batch, if the server announced batches.
    pub(crate) const fn batch_size(&self) -> Option<usize> {
        // i-PI announces nothing for single structures (batch_size 1).
        if self.batch_size > 1 {
            Some(self.batch_size)
        } else {
            None
        }
    }

    /// The parameters, without a last one that was cut off.
    pub(crate) fn parameters(&self) -> Parameters<'_> {
        let mut text = self.text.as_slice();
        if self.len > text.len() {
            let whole = text.iter().rposition(|&byte| byte == b',').unwrap_or(0);
            text = text.get(..whole).unwrap_or_default();
        }
        let valid = text.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        Parameters::new(valid)
    }
}

/// INIT's text as a server writes it: the caller's text, then the announcement of batches in the
/// format of i-PI 3.3.1 (`DriverSocket.initialize`).
#[derive(Clone, Copy)]
pub(crate) struct Announcement<'a> {
    pub(crate) text: &'a [u8],
    /// The number of structures per batch; 1 announces nothing.
    pub(crate) batch_size: usize,
}

impl<'a> Announcement<'a> {
    /// The caller's text, or one blank if it is empty. Quantum ESPRESSO 6.7 takes the length for a
    /// set of flags, and an empty text ends every driver built on i-PI's C `readbuffer`.
    pub(crate) const fn text(self) -> &'a [u8] {
        match self.text {
            [] => b" ",
            text => text,
        }
    }

    /// The length of the whole text in bytes.
    pub(crate) fn len(self) -> usize {
        self.text().len().saturating_add(self.write(&mut []))
    }

    /// Adds the announcement; returns false if there is not enough room.
    pub(crate) fn put_batch_size(self, message: &mut Gather<'_>) -> bool {
        let room = message.reserve(self.write(&mut []));
        room.map(|room| self.write(room)).is_some()
    }

    /// Writes the announcement as far as there is room and returns its length. It begins with a
    /// comma unless the text before it is blank.
    #[inline(never)]
    fn write(self, room: &mut [u8]) -> usize {
        if self.batch_size < 2 {
            return 0;
        }
        let (mut len, mut room) = (0, room.iter_mut().rev());
        let mut put = |byte| {
            len += 1;
            if let Some(last) = room.next() {
                *last = byte;
            }
        };
        // Formatted by hand, because `core::fmt` takes 2 KB of flash.
        let mut rest = self.batch_size;
        while rest > 0 {
            put(b'0' + (rest % 10) as u8);
            rest /= 10;
        }
        BATCH_SIZE.iter().rev().for_each(|&byte| put(byte));
        if !self.text().iter().all(u8::is_ascii_whitespace) {
            put(b',');
        }
        len
    }
}

/// The text before the number of structures in an announcement.
const BATCH_SIZE: &[u8] = b" batch_size:";

#[cfg(test)]
mod tests {
    use super::*;

    fn announced(text: &[u8]) -> Option<usize> {
        let mut init = InitText::announced(0, text.len());
        for byte in text {
            init.feed(core::slice::from_ref(byte));
        }
        init.batch_size()
    }

    #[test]
    fn batch_size_is_found_where_i_pi_puts_it() {
        assert_eq!(announced(b"  batch_size:3"), Some(3));
        assert_eq!(announced(b"  sigma : 6.4 , , batch_size:128"), Some(128));
        assert_eq!(announced(b"batch_size : 16 , sigma : 6.4 "), Some(16));
    }

    #[test]
    fn nothing_else_is_taken_for_it() {
        for text in [
            &b" "[..],
            b"\0",
            b"",
            b"batch_size:1",
            b"batch_size:0",
            b"batch_size",
            b"batch_size:",
            b"batch_sizes:4",
            b"my_batch_size:4",
            b"batch size:4",
            b"batch:4",
            b"batch _size:4",
            b"batch_size:4 4",
            b"batch_size:0 4",
            b"batch_size:4x",
            b"batch_size:-4",
            b"batch_size:4.5",
            b"note : batch_size:4",
        ] {
            assert_eq!(announced(text), None, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn an_absurd_batch_size_stays_absurd() {
        assert_eq!(
            announced(b"batch_size:99999999999999999999999999"),
            Some(usize::MAX)
        );
    }
}
