//! Received bytes, read ahead of what is asked for, so that a message costs one call.

use std::io::{self, IoSliceMut};
use std::vec::Vec;

use super::socket::{BUFFER, copy};

/// Bytes that came from the kernel and have not been asked for yet.
#[derive(Debug)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    filled: usize,
    served: usize,
    /// How many to read ahead. Few once arrays have come that are too large to be copied, because
    /// all that is read ahead is.
    ahead: usize,
    /// The last read ahead was as large as it could be, and no array has followed.
    full: bool,
}

/// An array of this many bytes that are still to come is read into the caller's memory.
const DIRECT: usize = 16 * 1024;

/// Bytes that are read ahead of an array: the header, counts and cells of a message.
const AHEAD: usize = 2 * 1024;

impl Inbox {
    pub(super) fn new() -> Self {
        Self {
            bytes: std::vec![0; BUFFER],
            filled: 0,
            served: 0,
            ahead: BUFFER,
            full: false,
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.served == self.filled
    }

    /// Serves what is here, as much as `buffer` holds.
    pub(super) fn serve(&mut self, buffer: &mut [u8]) -> usize {
        let fresh = self.bytes.get(self.served..self.filled);
        let n = copy(fresh.unwrap_or_default(), buffer);
        self.served += n;
        n
    }

    /// Reads when nothing is here: into `buffer` what is too much to be copied, and what comes
    /// after it into this. `receive` fills its slices one after the other, and returns 0 at the end
    /// of the stream, as this does.
    pub(super) fn fill(
        &mut self,
        buffer: &mut [u8],
        receive: impl FnOnce(&mut [IoSliceMut<'_>]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let room = buffer.len();
        if room < DIRECT {
            if self.full {
                self.ahead = BUFFER;
            }
            let ahead = self.bytes.get_mut(..self.ahead).unwrap_or_default();
            let n = receive(&mut [IoSliceMut::new(ahead)])?;
            (self.filled, self.served) = (n, 0);
            self.full = n == self.ahead;
            return Ok(self.serve(buffer));
        }
        let mut slices = [IoSliceMut::new(buffer), IoSliceMut::new(&mut self.bytes)];
        let n = receive(&mut slices)?;
        (self.filled, self.served) = (n.saturating_sub(room), 0);
        (self.ahead, self.full) = (AHEAD, false);
        Ok(n.min(room))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel that has these bytes.
    fn kernel(
        bytes: &mut Vec<u8>,
        asked: &mut Vec<Vec<usize>>,
        slices: &mut [IoSliceMut<'_>],
    ) -> usize {
        asked.push(slices.iter().map(|slice| slice.len()).collect());
        let mut moved = 0;
        for slice in slices {
            let n = slice.len().min(bytes.len());
            slice[..n].copy_from_slice(&bytes[..n]);
            bytes.drain(..n);
            moved += n;
        }
        moved
    }

    #[test]
    fn bytes_come_in_order_and_arrays_directly() {
        let mut inbox = Inbox::new();
        let (mut bytes, mut asked, mut heard) = (Vec::new(), Vec::new(), Vec::new());
        let large = 3 * BUFFER;
        let message: Vec<u8> = (0..large + 24).map(|at| (at % 251) as u8).collect();
        for _ in 0..2 {
            bytes.extend_from_slice(&message);
            for field in [12, large, 12] {
                let mut buffer = std::vec![0; field];
                let mut at = 0;
                while at < field {
                    let rest = &mut buffer[at..];
                    at += match inbox.is_empty() {
                        false => inbox.serve(rest),
                        true => inbox
                            .fill(rest, |slices| Ok(kernel(&mut bytes, &mut asked, slices)))
                            .unwrap(),
                    };
                }
                heard.extend(buffer);
            }
        }
        assert!(heard == [&message[..], &message].concat());
        let rest = large - (BUFFER - 12);
        let next = large - (AHEAD - 12);
        let expected = [
            std::vec![BUFFER],
            std::vec![rest, BUFFER],
            std::vec![AHEAD],
            std::vec![next, BUFFER],
        ];
        assert_eq!(asked, expected);
    }

    #[test]
    fn small_messages_are_read_ahead_again_after_a_large_one() {
        let mut inbox = Inbox::new();
        let (mut bytes, mut asked) = (std::vec![0; 10 * BUFFER], Vec::new());
        let mut fill = |inbox: &mut Inbox, len| {
            let mut buffer = std::vec![0; len];
            inbox
                .fill(&mut buffer, |slices| {
                    Ok(kernel(&mut bytes, &mut asked, slices))
                })
                .unwrap();
            inbox.served = inbox.filled;
        };
        for len in [DIRECT, 12, 12] {
            fill(&mut inbox, len);
        }
        assert_eq!(asked[1..], [std::vec![AHEAD], std::vec![BUFFER]]);
    }
}
