//! The text of INIT: what the server tells a driver that asked for it.
//!
//! i-PI 3.3.1 writes `key : value , ` for each parameter behind a blank (`ipi/engine/forcefields.py`) and
//! ends with `batch_size:B` when it is going to send batches (`ipi/interfaces/sockets.py`, `initialize`).
//! ASE sends one NUL, others one blank.

/// The pairs of key and value in the text of INIT, without the blanks around them.
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
    /// Reads `text`, which stays the caller's.
    #[must_use]
    pub const fn new(text: &'a str) -> Self {
        Self(text)
    }
}

impl<'a> Iterator for Parameters<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.0.is_empty() {
            let (pair, rest) = self.0.split_once(',').unwrap_or((self.0, ""));
            self.0 = rest;
            if let Some((key, value)) = pair.split_once(':') {
                return Some((key.trim(), value.trim()));
            }
        }
        None
    }
}

/// Finds `batch_size` in the text as it passes by, so that the text need not be kept to be understood.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchSize {
    seen: Seen,
    size: usize,
}

#[derive(Clone, Copy, Debug)]
enum Seen {
    /// Blanks before a key, or this many of the key's letters.
    Key(usize),
    /// Blanks before a value.
    Value,
    Number,
    /// Blanks behind the value.
    End,
    Other,
}

const KEY: &[u8] = b"batch_size";

impl BatchSize {
    pub(crate) const fn new() -> Self {
        Self {
            seen: Seen::Key(0),
            size: 0,
        }
    }

    pub(crate) fn feed(&mut self, text: &[u8]) {
        for &byte in text {
            self.seen = match (self.seen, byte) {
                (_, b',') | (Seen::Key(0), b' ') => Seen::Key(0),
                (Seen::Key(at), _) if KEY.get(at) == Some(&byte) => Seen::Key(at + 1),
                (Seen::Key(at), b' ') if at == KEY.len() => Seen::Key(at),
                (Seen::Key(at), b':') if at == KEY.len() => {
                    self.size = 0;
                    Seen::Value
                }
                (Seen::Value, b' ') => Seen::Value,
                (Seen::Number | Seen::End, b' ') => Seen::End,
                (Seen::Value | Seen::Number, b'0'..=b'9') => {
                    let digit = usize::from(byte - b'0');
                    self.size = self.size.saturating_mul(10).saturating_add(digit);
                    Seen::Number
                }
                (Seen::Value | Seen::Number | Seen::End, _) => {
                    self.size = 0; // no number after all
                    Seen::Other
                }
                _ => Seen::Other,
            }
        }
    }

    /// Structures a batch, if the server announced that it sends batches.
    pub(crate) const fn announced(&self) -> Option<usize> {
        // i-PI announces nothing for single structures (batch_size 1).
        if self.size > 1 { Some(self.size) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announced(text: &[u8]) -> Option<usize> {
        let mut size = BatchSize::new();
        for byte in text {
            size.feed(core::slice::from_ref(byte));
        }
        size.announced()
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
