//! Lines with their numbers and any line ending.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

/// The lines of a source, ended by LF, CR LF or CR, as in Python's text mode.
pub struct Lines {
    source: BufReader<Box<dyn Read + Send>>,
    /// Whether the source is a file, in which reading ahead never has to wait.
    is_file: bool,
    /// The number of the last line, counted from 1.
    pub number: usize,
    /// The byte offset of the end of the last line.
    pub offset: u64,
    /// Whether the last line has a line ending, instead of ending with the file.
    pub has_end: bool,
    /// Whether the last line ended with CR, so an LF after it is part of that line ending.
    after_cr: bool,
}

impl Lines {
    pub fn file(file: File) -> Self {
        let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
        Self::new(Box::new(file), is_file)
    }

    pub fn stream(source: Box<dyn Read + Send>) -> Self {
        Self::new(source, false)
    }

    fn new(source: Box<dyn Read + Send>, is_file: bool) -> Self {
        let source = BufReader::with_capacity(1 << 16, source);
        Self {
            source,
            is_file,
            number: 0,
            offset: 0,
            has_end: true,
            after_cr: false,
        }
    }

    /// The next line without its ending. A byte order mark at the start is dropped.
    pub fn next(&mut self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        let mut ended = false;
        while !ended {
            let bytes = match self.source.fill_buf() {
                Ok([]) if line.is_empty() => return Ok(None),
                Ok([]) => break,
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if std::mem::take(&mut self.after_cr) && bytes.starts_with(b"\n") {
                self.source.consume(1);
                self.offset += 1;
                continue;
            }
            let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            line.extend_from_slice(&bytes[..end.unwrap_or(bytes.len())]);
            ended = end.is_some();
            self.after_cr = end.is_some_and(|end| bytes[end] == b'\r');
            let used = end.map_or(bytes.len(), |end| end + 1);
            self.source.consume(used);
            self.offset += used as u64;
        }
        self.number += 1;
        self.has_end = ended;
        // A comment may be in any encoding.
        let mut text = String::from_utf8_lossy(&line).into_owned();
        if self.number == 1 && text.starts_with('\u{feff}') {
            text.remove(0);
        }
        Ok(Some(text))
    }

    /// Whether the source has ended.
    pub fn at_end(&mut self) -> bool {
        self.source.fill_buf().is_ok_and(<[u8]>::is_empty)
    }

    /// Whether the next line begins with this text, as far as the source can be read without
    /// waiting.
    pub fn next_begins_with(&mut self, start: &[u8]) -> io::Result<bool> {
        let bytes = match self.is_file {
            true => self.source.fill_buf()?,
            false => self.source.buffer(),
        };
        let bytes = match bytes {
            [b'\n', rest @ ..] if self.after_cr => rest,
            bytes => bytes,
        };
        Ok(bytes.trim_ascii_start().starts_with(start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[u8]) -> Vec<String> {
        let mut lines = Lines::stream(Box::new(io::Cursor::new(text.to_vec())));
        std::iter::from_fn(|| lines.next().unwrap()).collect()
    }

    #[test]
    fn lines_end_in_three_ways() {
        for text in ["a\n\nb", "a\r\n\r\nb\r\n", "a\r\rb\r", "\u{feff}a\n\nb\n"] {
            assert_eq!(lines(text.as_bytes()), ["a", "", "b"], "{text:?}");
        }
        assert!(lines(b"").is_empty());
        assert_eq!(lines(b"\xff\n"), ["\u{fffd}"]);
    }
}
