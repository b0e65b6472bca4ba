//! Received bytes, read ahead so that a message costs one system call.

use std::io::{self, IoSliceMut};
use std::vec::Vec;

use super::socket::{BUFFER, copy};

/// Bytes that were read from the kernel and not served yet.
#[derive(Debug)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    filled: usize,
    served: usize,
    /// How many bytes to read ahead. The number is small once an array has arrived that is too
    /// large to be copied, because everything read ahead is copied.
    ahead: usize,
    /// The last read filled the buffer, and no array has followed.
    full: bool,
    /// Bytes in the caller's array, still to be served from there.
    placed: Placed,
}

/// Bytes that are already in the caller's array.
#[derive(Debug, Default)]
struct Placed {
    /// The array's address, used for comparison only.
    array: usize,
    len: usize,
    /// The number of bytes read ahead, which come before the array's bytes.
    before: usize,
}

/// Arrays of at least this many bytes are read directly into place if their message is expected. A
/// copy of a smaller array costs less than three slices do in the kernel.
pub(super) const AROUND: usize = 8 * 1024;

/// Arrays with at least this many bytes still to come are read directly into the caller's memory.
const DIRECT: usize = 16 * 1024;

/// Bytes to read ahead of an array: the header, counts and cells of a message.
const AHEAD: usize = 2 * 1024;

impl Inbox {
    pub(super) fn new() -> Self {
        Self {
            bytes: std::vec![0; BUFFER],
            filled: 0,
            served: 0,
            ahead: BUFFER,
            full: false,
            placed: Placed::default(),
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.served == self.filled && self.placed.len == 0
    }

    /// Serves available bytes, as many as `buffer` holds. Returns 0 if they are in another array
    /// than `buffer`; [take](Self::take_from) them out first.
    pub(super) fn serve(&mut self, buffer: &mut [u8]) -> usize {
        let mut end = self.filled;
        if self.placed.len > 0 {
            end = self.placed.before;
            let is_there = buffer.as_ptr().addr() == self.placed.array;
            if self.served == end && is_there && self.placed.len <= buffer.len() {
                return core::mem::take(&mut self.placed).len;
            }
        }
        let fresh = self.bytes.get(self.served..end);
        let n = copy(fresh.unwrap_or_default(), buffer);
        self.served += n;
        n
    }

    /// Reads when no bytes are available: into `buffer` if it is too large for a copy, and the
    /// bytes after it into this inbox. `receive` fills its slices in order and returns 0 at the end
    /// of the stream, as this method does.
    pub(super) fn fill(
        &mut self,
        buffer: &mut [u8],
        receive: impl FnOnce(&mut [IoSliceMut<'_>]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let room = buffer.len();
        if room < DIRECT {
            self.refill(|ahead| receive(&mut [IoSliceMut::new(ahead)]))?;
            return Ok(self.serve(buffer));
        }
        let mut slices = [IoSliceMut::new(buffer), IoSliceMut::new(&mut self.bytes)];
        let n = receive(&mut slices)?;
        (self.filled, self.served) = (n.saturating_sub(room), 0);
        (self.ahead, self.full) = (AHEAD, false);
        Ok(n.min(room))
    }

    /// Reads ahead when no bytes are available.
    pub(super) fn refill(
        &mut self,
        receive: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if self.full {
            self.ahead = BUFFER;
        }
        let n = receive(self.bytes.get_mut(..self.ahead).unwrap_or_default())?;
        (self.filled, self.served) = (n, 0);
        self.full = n == self.ahead;
        Ok(n)
    }

    /// Reads when no bytes are available: first this many bytes, then into `array`, then the bytes
    /// after the array.
    pub(super) fn fill_around(
        &mut self,
        before: usize,
        array: &mut [u8],
        receive: impl FnOnce(&mut [IoSliceMut<'_>]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let (at, room) = (array.as_ptr().addr(), array.len());
        let halves = self.bytes.split_at_mut_checked(before);
        let (first, last) = halves.unwrap_or_default();
        let before = first.len();
        let mut slices = [first, array, last].map(IoSliceMut::new);
        let n = receive(&mut slices)?;
        let len = n.saturating_sub(before).min(room);
        (self.filled, self.served) = (n - len, 0);
        self.placed = Placed {
            array: at,
            len,
            before,
        };
        Ok(n)
    }

    /// Takes the unserved bytes out of this array; returns false if there are none.
    #[cold]
    fn take(&mut self, array: &[u8]) -> bool {
        let Placed { len, before, .. } = core::mem::take(&mut self.placed);
        let first = self.bytes.get(self.served..before).unwrap_or_default();
        let last = self.bytes.get(before..self.filled).unwrap_or_default();
        let placed = array.get(..len).unwrap_or_default();
        let mut bytes = [first, placed, last].concat();
        (self.filled, self.served) = (bytes.len(), 0);
        bytes.resize(bytes.len().max(BUFFER), 0);
        self.bytes = bytes;
        true
    }

    /// Takes the unserved bytes out of this array; returns false if there are none.
    pub(super) fn take_from(&mut self, array: &[u8]) -> bool {
        self.placed.len > 0 && self.take(array)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel that has received these bytes.
    fn kernel(
        bytes: &mut Vec<u8>,
        asked: &mut Vec<Vec<usize>>,
        slices: &mut [IoSliceMut<'_>],
    ) -> io::Result<usize> {
        asked.push(slices.iter().map(|slice| slice.len()).collect());
        let mut moved = 0;
        for slice in slices {
            let n = slice.len().min(bytes.len());
            slice[..n].copy_from_slice(&bytes[..n]);
            bytes.drain(..n);
            moved += n;
        }
        Ok(moved)
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
                            .fill(rest, |slices| kernel(&mut bytes, &mut asked, slices))
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
                .fill(&mut buffer, |slices| kernel(&mut bytes, &mut asked, slices))
                .unwrap();
            inbox.served = inbox.filled;
        };
        for len in [DIRECT, 12, 12] {
            fill(&mut inbox, len);
        }
        assert_eq!(asked[1..], [std::vec![AHEAD], std::vec![BUFFER]]);
    }

    /// A message of 12 bytes, an array, and 12 more bytes; neighbouring bytes differ. The kernel
    /// has received `come` bytes so far.
    fn around(array: &mut [u8], come: usize) -> (Inbox, Vec<u8>) {
        let mut inbox = Inbox::new();
        let message: Vec<u8> = (0..array.len() + 24).map(|at| (at % 251) as u8).collect();
        let mut bytes = message[..come].to_vec();
        let mut asked = Vec::new();
        let n = inbox.fill_around(12, array, |slices| kernel(&mut bytes, &mut asked, slices));
        assert_eq!(n.unwrap(), come);
        assert_eq!(asked, [[12, array.len(), BUFFER - 12]]);
        (inbox, message)
    }

    #[test]
    fn an_array_that_is_expected_is_not_copied() {
        let mut array = std::vec![0; AROUND];
        for come in [5, 12, 13, AROUND, AROUND + 12, AROUND + 24] {
            let (mut inbox, message) = around(&mut array, come);
            let mut field = [0; 12];
            let first = inbox.serve(&mut field);
            assert_eq!(field[..first], message[..come.min(12)]);
            let placed = come.saturating_sub(12).min(AROUND);
            if placed > 0 {
                assert!(!inbox.is_empty());
                assert_eq!(inbox.serve(&mut array), placed);
                assert!(array[..placed] == message[12..12 + placed]);
            }
            let last = inbox.serve(&mut field);
            assert_eq!(field[..last], message[12 + placed..][..last]);
            assert_eq!(first + placed + last, come);
            assert!(inbox.is_empty());
        }
    }

    #[test]
    fn what_was_not_expected_is_taken_out_of_the_array() {
        let mut array = std::vec![0; AROUND];
        let others: [&mut [u8]; 3] = [&mut [0; 12], &mut [0; AROUND], &mut [0; 20]];
        // The array is taken before anything was served, in the middle of the bytes before it, and
        // after them.
        for (taken, other) in [0, 5, 12].into_iter().zip(others) {
            let (mut inbox, message) = around(&mut array, AROUND + 24);
            let mut served = std::vec![0; taken];
            assert_eq!(inbox.serve(&mut served), taken);
            if taken == 12 {
                // Another array, then the beginning of the right one.
                assert_eq!(inbox.serve(other), 0);
                assert_eq!(inbox.serve(&mut array[..20]), 0);
            }
            assert!(inbox.take_from(&array));
            assert!(!inbox.take_from(&array));
            array.fill(0);
            while !inbox.is_empty() {
                let n = inbox.serve(other);
                served.extend_from_slice(&other[..n]);
            }
            assert!(served == message);
            assert!(inbox.bytes.len() >= BUFFER);
        }
    }
}
