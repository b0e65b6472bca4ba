//! What a protocol machine and its transport agree on: which bytes move next, and what they wait for.

pub(crate) mod fingerprint;
mod pending;
pub(crate) mod progress;

pub use pending::{Awaited, Wait};

use core::slice;

use crate::protocol::ProtocolError;

/// What has to happen next in a [`Exchange`].
#[derive(Debug)]
pub enum Step<'a, T> {
    /// Fill this slice, or the beginning of it, with what the peer sends. Never empty.
    Read(&'a mut [u8]),
    /// Send this slice, or the beginning of it. Never empty.
    Write(&'a [u8]),
    /// Nothing is left to move.
    Done(T),
}

/// One exchange of the conversation: a sequence of slices to fill and to send, and a result.
///
/// The machine has no transport. Whoever has one asks [`step`](Self::step) which slice comes next, moves
/// as many of its bytes as the transport takes, tells [`advance`](Self::advance) how many those were, and
/// repeats. The slices are the caller's own arrays wherever their memory is already laid out as the wire
/// is, so numbers are copied once.
///
/// All progress lives in the machine behind the transfer ([`Driver`](crate::Driver), [`Server`](crate::Server)).
/// Dropping a transfer loses nothing; making it again with the same arguments goes on where it stopped.
///
/// ```
/// use forcewire::{Driver, Event, Step, Exchange};
///
/// let mut driver = Driver::new();
/// let mut positions = [[0.0; 3]; 8];
/// let mut receive = driver.receive(&mut positions);
/// if let Step::Read(slice) = receive.step()? {
///     slice.copy_from_slice(b"EXIT        ");
///     receive.advance(12);
/// }
/// assert!(matches!(receive.step()?, Step::Done(Event::Exit)));
/// # Ok::<(), forcewire::ProtocolError>(())
/// ```
pub trait Exchange: Sealed {
    /// What the exchange ends with.
    type Output;

    /// Looks at what comes next. Gives the same answer until [`advance`](Self::advance) is called.
    ///
    /// # Errors
    ///
    /// What the peer or the caller did wrong. An error of the peer's is final for the connection.
    fn step(&mut self) -> Result<Step<'_, Self::Output>, ProtocolError>;

    /// Says that the first `n` bytes of the slice that [`step`](Self::step) gave have moved.
    fn advance(&mut self, n: usize);

    /// Says that the peer has closed its side: nothing more will ever be read.
    ///
    /// At a message boundary that is a clean end and the next step says so; inside a message the next
    /// step is [`ProtocolError::EndOfStream`].
    fn end(&mut self);

    /// Whether part of a message has moved and the rest of it has not.
    ///
    /// Only then may a write join what is already queued. Otherwise what was written is whole, and to be flushed.
    fn midway(&self) -> bool;

    /// What the exchange waits for, for [`DeadlineTimer`](crate::DeadlineTimer) and for people. Of an exchange that has not begun: what is
    /// left of the one before.
    fn waits_for(&self) -> Wait;
}

/// Keeps [`Exchange`] and the arrays' traits to this crate: what an exchange promises, the shims rely on.
pub trait Sealed {}

impl<T: Sealed + ?Sized> Sealed for &mut T {}

/// Bytes that a machine has moved, over all its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Traffic {
    /// From the peer.
    pub received: u64,
    /// To the peer.
    pub sent: u64,
}

/// `*to = *from`, which would be linked as memmove: 724 bytes of flash, where memcpy is there anyway.
pub(crate) fn copy<T: Copy>(to: &mut T, from: &T) {
    slice::from_mut(to).copy_from_slice(slice::from_ref(from));
}

impl<T: Exchange + ?Sized> Exchange for &mut T {
    type Output = T::Output;

    fn step(&mut self) -> Result<Step<'_, Self::Output>, ProtocolError> {
        (**self).step()
    }

    fn advance(&mut self, n: usize) {
        (**self).advance(n);
    }

    fn end(&mut self) {
        (**self).end();
    }

    fn midway(&self) -> bool {
        (**self).midway()
    }

    fn waits_for(&self) -> Wait {
        (**self).waits_for()
    }
}
