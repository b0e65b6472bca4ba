//! What a protocol machine and its transport agree on: which bytes move next, and what they wait
//! for.

pub(crate) mod fingerprint;
mod pending;
pub(crate) mod progress;

pub use pending::{Awaited, Wait};

use core::slice;

use crate::protocol::{ProtocolError, Quantity};

/// What comes next in an [`Exchange`].
#[derive(Debug)]
pub enum Step<'a, T> {
    /// Fill this slice, or the beginning of it, with what the peer sends. Never empty.
    Read(&'a mut [u8]),
    /// Send this slice, or the beginning of it. Never empty.
    Write(&'a [u8]),
    /// The exchange has ended with this.
    Done(T),
}

/// One exchange of the conversation: slices to fill and to send, and a result.
///
/// An exchange has no transport. A shim ([`blocking::run`](crate::blocking::run), `asynch::run`,
/// `smoltcp::poll`, or your own) asks [`step`](Self::step) which slice comes next, moves as many of
/// its bytes as the transport takes, passes their number to [`advance`](Self::advance), and
/// repeats. The slices are the caller's arrays wherever those have the layout of the wire, so
/// numbers are copied once.
///
/// # Interrupted exchanges
///
/// An exchange may stop at any byte: a time-out, an error of the transport that passes, a poll that
/// returns `Pending`. Keep it, and run it again to continue. All progress is in the machine
/// ([`Driver`](crate::Driver), [`Server`](crate::Server)), so it may also be dropped and made anew;
/// in the middle of a message only with arrays that hold the same numbers, because the rest of a
/// message belongs to what has moved of it. The machine checks that, and returns
/// [`ProtocolError::Unfinished`] otherwise.
///
/// This trait is sealed.
///
/// ```
/// use forcewire::{Driver, Event, Exchange, Step};
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
    /// The result of the exchange.
    type Output;

    /// Refuses an exchange that can't go on from here, before anything waits for the peer.
    ///
    /// [`step`](Self::step) does so too. A shim whose flush may fail calls this before it flushes
    /// what an earlier exchange has written: the caller must not get a time-out where the exchange
    /// was refused.
    ///
    /// # Errors
    ///
    /// What the caller did wrong.
    fn enter(&mut self) -> Result<(), ProtocolError> {
        Ok(())
    }

    /// Returns what comes next: the same until [`advance`](Self::advance) is called.
    ///
    /// # Errors
    ///
    /// What the peer or the caller did wrong. An error of the peer is final for the connection.
    fn step(&mut self) -> Result<Step<'_, Self::Output>, ProtocolError>;

    /// Counts the first `n` bytes of the slice that [`step`](Self::step) returned as moved.
    fn advance(&mut self, n: usize);

    /// Notes that the peer has closed its side: nothing more will ever be read.
    ///
    /// Between two messages that is a clean end, and the next step returns it; inside a message the
    /// next step is [`ProtocolError::EndOfStream`].
    fn end(&mut self);

    /// Whether a message has moved in part.
    ///
    /// Only then may a write join what is already queued. Otherwise what was written is complete,
    /// and should be flushed.
    fn midway(&self) -> bool;

    /// The caller's array that leaves from where it is, if the exchange sends one: for a transport
    /// that sends a whole message in one call
    /// ([`Transport::lends`](crate::blocking::Transport::lends)).
    #[doc(hidden)]
    fn lent(&self) -> &[u8] {
        &[]
    }

    /// The layout of the message that will probably come next, if the exchange waits for one that
    /// has no deadline: bytes before the array, and bytes of the caller's [`array`](Self::array).
    /// For a transport that reads a whole message in one call.
    #[doc(hidden)]
    fn expects(&self) -> Option<(usize, usize)> {
        None
    }

    /// The caller's array, if bytes of the wire are its memory. A transport may write to it early;
    /// the exchange uses what is there only after [`advance`](Self::advance).
    #[doc(hidden)]
    fn array(&mut self) -> &mut [u8] {
        &mut []
    }

    /// What the exchange waits for, for a [`DeadlineTimer`](crate::DeadlineTimer) and for people.
    /// An exchange that has not begun returns what remains of the one before.
    fn waits_for(&self) -> Wait;
}

/// Keeps [`Exchange`] and the arrays' traits to this crate: the shims rely on what an exchange
/// promises.
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

/// An exchange can't go on. The reason is in its machine, where it is written once: an error of 16
/// bytes that many functions return is copied in each of them.
#[derive(Debug)]
pub(crate) struct Refused;

/// Refuses for this reason.
#[cold]
pub(crate) fn refuse(reason: &mut ProtocolError, error: ProtocolError) -> Result<(), Refused> {
    *reason = error;
    Err(Refused)
}

/// Refuses arrays of another length than this.
pub(crate) fn check_length(
    reason: &mut ProtocolError,
    quantity: Quantity,
    given: usize,
    expected: usize,
) -> Result<(), Refused> {
    if given == expected {
        return Ok(());
    }
    let error = ProtocolError::WrongLength {
        quantity,
        given,
        expected,
    };
    refuse(reason, error)
}

/// `*to = *from`, which would be linked as memmove: 724 bytes of flash, where memcpy is there
/// anyway.
pub(crate) fn copy<T: Copy>(to: &mut T, from: &T) {
    slice::from_mut(to).copy_from_slice(slice::from_ref(from));
}

impl<T: Exchange + ?Sized> Exchange for &mut T {
    type Output = T::Output;

    fn enter(&mut self) -> Result<(), ProtocolError> {
        (**self).enter()
    }

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

    fn lent(&self) -> &[u8] {
        (**self).lent()
    }

    fn expects(&self) -> Option<(usize, usize)> {
        (**self).expects()
    }

    fn array(&mut self) -> &mut [u8] {
        (**self).array()
    }

    fn waits_for(&self) -> Wait {
        (**self).waits_for()
    }
}
