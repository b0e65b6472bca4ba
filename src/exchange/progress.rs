//! The progress of a message: the cursor, the counters and the scratch that both machines have.

use super::Traffic;
use crate::protocol::gather::{SCRATCH, Scratch};
#[cfg(feature = "std")]
use crate::protocol::{Scalar, layout::REAL};

/// The location of the next bytes, and how many have moved.
#[repr(C)]
pub struct Progress {
    /// How many bytes of the current slice have moved, and its length.
    pub(crate) at: usize,
    pub(crate) end: usize,
    /// How many bytes of the current message have moved.
    pub(crate) message: usize,
    /// How many numbers at the beginning of the caller's array are known to be finite. They are
    /// checked while they are in the cache. Devices, which have no cache, keep 0 here.
    #[cfg(feature = "std")]
    pub(crate) finite: usize,
    pub(crate) traffic: Traffic,
    pub(crate) scratch: Scratch,
}

impl Progress {
    /// The start of a field of this length.
    pub(crate) const fn expecting(len: usize) -> Self {
        Self {
            at: 0,
            end: len,
            message: 0,
            #[cfg(feature = "std")]
            finite: 0,
            traffic: Traffic {
                received: 0,
                sent: 0,
            },
            scratch: Scratch([0; SCRATCH]),
        }
    }

    /// Starts a field of this length, or the part of it that fits into the scratch.
    pub(crate) const fn expect(&mut self, len: usize) {
        self.expect_array(if len < SCRATCH { len } else { SCRATCH });
    }

    /// Starts a slice of the caller's memory.
    pub(crate) const fn expect_array(&mut self, len: usize) {
        self.at = 0;
        self.end = len;
        #[cfg(feature = "std")]
        {
            self.finite = 0;
        }
    }

    /// Checks the numbers that have arrived in the caller's array.
    #[cfg(feature = "std")]
    pub(crate) fn look<T: Scalar>(&mut self, numbers: &[T]) {
        let come = self.at / REAL;
        if numbers
            .get(self.finite..come)
            .is_some_and(|come| T::all_finite(come))
        {
            self.finite = come;
        }
    }

    /// The numbers of the caller's array that have not been checked yet.
    pub(crate) fn unseen<'a, T>(&self, numbers: &'a [T]) -> &'a [T] {
        #[cfg(feature = "std")]
        let numbers = numbers.get(self.finite..).unwrap_or(numbers);
        numbers
    }

    /// The contents of the scratch.
    #[inline(never)]
    pub(crate) fn field(&self) -> &[u8] {
        self.scratch.0.get(..self.end).unwrap_or_default()
    }

    /// The part of the scratch that has not moved yet.
    pub(crate) fn rest(&self) -> &[u8] {
        self.scratch.0.get(self.at..self.end).unwrap_or_default()
    }

    pub(crate) fn rest_mut(&mut self) -> &mut [u8] {
        self.scratch
            .0
            .get_mut(self.at..self.end)
            .unwrap_or_default()
    }

    /// Counts moved bytes of the slice, and returns whether it is complete.
    pub(crate) fn count(&mut self, n: usize) -> bool {
        self.at += n;
        self.message = self.message.saturating_add(n);
        self.at == self.end
    }

    /// `n`, or the rest of the slice if that is shorter.
    pub(crate) fn most(&self, n: usize) -> usize {
        n.min(self.end - self.at)
    }

    /// How many bytes had moved before this message. The number is unique among the messages of a
    /// machine.
    pub(crate) const fn mark(&self) -> u64 {
        let traffic = self.traffic.received + self.traffic.sent;
        traffic.saturating_sub(self.message as u64)
    }
}
