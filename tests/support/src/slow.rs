//! An asynchronous stream that is never ready at once, and futures that are dropped before it is.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use embedded_io_async::{ErrorType, Read, Write};

use super::wire::{Dice, Split};

/// A stream whose first poll is always pending; no bytes move before it is ready.
pub struct Slow {
    pub inbox: VecDeque<u8>,
    pub outbox: Vec<u8>,
    /// The number of bytes that were written and not flushed.
    pub kept: usize,
    split: Split,
    dice: Dice,
    /// Whether the stream has been polled before, for a read, a write and a flush.
    asked: [bool; 3],
    /// The number of reads after the end; too many of them mean an endless loop.
    idle: usize,
}

impl Slow {
    pub fn new(inbox: &[u8], split: Split) -> Self {
        Self {
            inbox: inbox.iter().copied().collect(),
            outbox: Vec::new(),
            kept: 0,
            split,
            dice: Dice::new(3),
            asked: [false; 3],
            idle: 0,
        }
    }

    async fn ready(&mut self, to: usize) {
        poll_fn(|context| {
            self.asked[to] = !self.asked[to];
            if self.asked[to] {
                context.waker().wake_by_ref();
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
    }

    fn piece(&mut self, most: usize) -> usize {
        match self.split {
            Split::Whole => most,
            Split::Bytes => most.min(1),
            Split::Random(_) | Split::Anew(_) => most.min(1 + self.dice.below(40)),
        }
    }
}

impl ErrorType for Slow {
    type Error = Infallible;
}

impl Read for Slow {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Infallible> {
        assert_eq!(self.kept, 0, "waits for a peer that waits for a flush");
        self.ready(0).await;
        let n = self.piece(buffer.len().min(self.inbox.len()));
        self.idle += usize::from(n == 0);
        assert!(self.idle < 100);
        for (byte, heard) in buffer.iter_mut().zip(self.inbox.drain(..n)) {
            *byte = heard;
        }
        Ok(n)
    }
}

impl Write for Slow {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        self.ready(1).await;
        let n = self.piece(bytes.len());
        self.outbox.extend(&bytes[..n]);
        self.kept += n;
        Ok(n)
    }

    async fn flush(&mut self) -> Result<(), Infallible> {
        self.ready(2).await;
        self.kept = 0;
        Ok(())
    }
}

/// Polls a future this many times. Returns None if that was not enough; the future is dropped.
pub fn polled<T>(future: impl Future<Output = T>, times: usize) -> Option<T> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..times {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
    }
    None
}
