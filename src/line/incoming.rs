//! Received bytes, until a frame is complete, and then its data until they are read.

use super::frame::{DATA, END, Header, unseal};

/// The longest frame and a few bytes of the next, rounded.
const ROOM: usize = 256;

#[derive(Debug)]
pub(super) struct Incoming {
    bytes: [u8; ROOM],
    /// How many bytes were received, and how many of them belong to finished frames.
    filled: usize,
    past: usize,
    /// How many bytes have been searched for the end of a frame.
    searched: usize,
    /// The range of the data that wait to be read.
    data: (usize, usize),
    is_last: bool,
    /// A frame without an end was dropped, so drop the rest of it too.
    skipping: bool,
    /// An empty frame has arrived, which is allowed before a frame that opens or closes.
    blank: bool,
}

/// A received frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Came {
    Damaged,
    Whole {
        header: Header,
        len: usize,
        after_blank: bool,
    },
}

impl Incoming {
    pub const fn new() -> Self {
        Self {
            bytes: [0; ROOM],
            filled: 0,
            past: 0,
            searched: 0,
            data: (0, 0),
            is_last: false,
            skipping: false,
            blank: false,
        }
    }

    /// Room for bytes of the line; empty while data wait to be read.
    pub fn space(&mut self) -> &mut [u8] {
        if !self.data().is_empty() {
            return &mut [];
        }
        self.drop_past();
        self.bytes.get_mut(self.filled..).unwrap_or_default()
    }

    pub fn received(&mut self, n: usize) {
        self.filled = self.filled.saturating_add(n).min(ROOM);
    }

    /// Whether part of a frame has arrived.
    pub fn is_midway(&self) -> bool {
        self.skipping || self.filled > self.past
    }

    /// The next frame, if it is complete. Drops data that wait.
    pub fn frame(&mut self) -> Option<Came> {
        self.drop_data();
        loop {
            self.drop_past();
            let unsearched = self.bytes.get(self.searched..self.filled)?;
            let Some(end) = unsearched.iter().position(|byte| *byte == END) else {
                self.searched = self.filled;
                if self.filled < ROOM {
                    return None;
                }
                (self.filled, self.searched) = (0, 0);
                let first = !self.skipping;
                self.skipping = true;
                return first.then_some(Came::Damaged);
            };
            let end = self.searched + end;
            self.past = end + 1;
            if end == 0 && !self.skipping {
                // Take all of them at once, so that the bytes after them are moved only once.
                let blanks = self.bytes.iter().take_while(|byte| **byte == END);
                self.past = blanks.count().min(self.filled);
            }
            self.searched = self.past;
            if self.skipping {
                self.skipping = false;
            } else if end == 0 {
                self.blank = true;
            } else {
                let after_blank = core::mem::take(&mut self.blank);
                let frame = self.bytes.get_mut(..end).and_then(unseal);
                return Some(frame.map_or(Came::Damaged, |(header, len)| Came::Whole {
                    header,
                    len,
                    after_blank,
                }));
            }
        }
    }

    /// The first byte of the frame's data.
    pub fn first(&self) -> Option<u8> {
        self.bytes.get(DATA).copied()
    }

    /// Keeps the frame's data until they are read.
    pub const fn keep(&mut self, len: usize, is_last: bool) {
        self.data = (DATA, DATA + len);
        self.is_last = is_last;
    }

    pub fn data(&self) -> &[u8] {
        self.bytes.get(self.data.0..self.data.1).unwrap_or_default()
    }

    /// Whether these data end a message.
    pub const fn is_last(&self) -> bool {
        self.is_last
    }

    pub fn consume(&mut self, n: usize) {
        self.data.0 = self.data.0.saturating_add(n).min(self.data.1);
    }

    pub const fn drop_data(&mut self) {
        self.data = (0, 0);
    }

    /// Moves the bytes after the finished frames to the front.
    fn drop_past(&mut self) {
        if self.past > 0 && self.past <= self.filled {
            // `copy_within` contains a panic.
            let mut to = 0;
            for from in self.past..self.filled {
                if let Some(byte) = self.bytes.get(from).copied()
                    && let Some(place) = self.bytes.get_mut(to)
                {
                    *place = byte;
                    to += 1;
                }
            }
            self.filled -= self.past;
            self.searched -= self.past;
            self.past = 0;
        }
    }
}
