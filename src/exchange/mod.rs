//! The interface between a protocol machine and its transport: the bytes that move next, and what
//! they wait for.

pub(crate) mod fingerprint;
mod pending;
pub(crate) mod progress;

pub use pending::{Awaited, Wait};

use core::slice;

use crate::protocol::{ProtocolError, Quantity};

/// The next step of an [`Exchange`].
#[derive(Debug)]
pub enum Step<'a, T> {
    /// Read from the peer into this slice, or into its beginning. Never empty.
    Read(&'a mut [u8]),
    /// Send this slice, or the beginning of it. Never empty.
    Write(&'a [u8]),
    /// The exchange has ended with this result.
    Done(T),
}

/// One exchange of the conversation: slices to fill and to send, and a result.
///
/// An exchange has no transport. A shim ([`blocking::run`](crate::blocking::run), `asynch::run`,
/// `smoltcp::poll`, or your own) asks [`step`](Self::step) which slice comes next, moves as many of
/// its bytes as the transport takes, passes their number to [`advance`](Self::advance), and
/// repeats. Where the caller's arrays have the layout of the wire, the slices are those arrays, so
/// numbers are copied once.
///
/// # Interrupted exchanges
///
/// An exchange may stop at any byte, because of a time-out, a temporary error of the transport, or
/// a poll that returns `Pending`. Keep it, and run it again to continue. All progress is in the
/// machine ([`Driver`](crate::Driver), [`Server`](crate::Server)), so the exchange may also be
/// dropped and recreated. In the middle of a message the new one needs arrays with the same
/// numbers, because the rest of the message belongs to the part that has moved. The machine checks
/// that and otherwise returns [`ProtocolError::Unfinished`].
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

    /// Refuses an exchange that can't continue from here, before anything waits for the peer.
    ///
    /// [`step`](Self::step) does this too. A shim whose flush may fail calls this method before it
    /// flushes the bytes of an earlier exchange: a refused exchange must not be reported as a
    /// time-out.
    ///
    /// # Errors
    ///
    /// A mistake of the caller.
    fn enter(&mut self) -> Result<(), ProtocolError> {
        Ok(())
    }

    /// Returns the next step, which stays the same until [`advance`](Self::advance) is called.
    ///
    /// # Errors
    ///
    /// A fault of the peer or a mistake of the caller. A fault of the peer is final for the
    /// connection.
    fn step(&mut self) -> Result<Step<'_, Self::Output>, ProtocolError>;

    /// Counts the first `n` bytes of the slice that [`step`](Self::step) returned as moved.
    fn advance(&mut self, n: usize);

    /// Records that the peer has closed its side: no more bytes will arrive.
    ///
    /// Between two messages that is a clean end, and the next step returns it; inside a message the
    /// next step is [`ProtocolError::EndOfStream`].
    fn end(&mut self);

    /// Whether part of a message has moved.
    ///
    /// If so, a write may join the bytes that are already queued. Otherwise the queued bytes are
    /// complete and should be flushed.
    fn midway(&self) -> bool;

    /// The caller's array that is sent without a copy, if the exchange has one. For a transport
    /// that sends a whole message in one call
    /// ([`Transport::lends`](crate::blocking::Transport::lends)).
    #[doc(hidden)]
    fn lent(&self) -> &[u8] {
        &[]
    }

    /// The layout of the message that will probably arrive next, if the exchange waits for one
    /// without a deadline: how many bytes come before the array, and how many belong to the
    /// caller's [`array`](Self::array). For a transport that reads a whole message in one call.
    #[doc(hidden)]
    fn expects(&self) -> Option<(usize, usize)> {
        None
    }

    /// The caller's array, if its memory has the layout of the wire. A transport may write to it
    /// early; the exchange uses the contents only after [`advance`](Self::advance).
    #[doc(hidden)]
    fn array(&mut self) -> &mut [u8] {
        &mut []
    }

    /// What the exchange waits for, for a [`DeadlineTimer`](crate::DeadlineTimer) and for messages.
    /// An exchange that has not begun returns the wait that remains of the previous one.
    fn waits_for(&self) -> Wait;
}

/// Keeps implementations of [`Exchange`] and of the arrays' traits inside this crate: the shims
/// rely on their guarantees.
pub trait Sealed {}

impl<T: Sealed + ?Sized> Sealed for &mut T {}

/// How many bytes a machine has moved, over all its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Traffic {
    /// From the peer.
    pub received: u64,
    /// To the peer.
    pub sent: u64,
}

/// An exchange can't continue. The reason is written once, in its machine: many functions return
/// this, and each would copy an error of 16 bytes.
#[derive(Debug)]
pub(crate) struct Refused;

/// Refuses with this error.
#[cold]
pub(crate) fn refuse(reason: &mut ProtocolError, error: ProtocolError) -> Result<(), Refused> {
    *reason = error;
    Err(Refused)
}

/// Refuses arrays that don't have this length.
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

/// `*to = *from` without memmove, which would add 724 bytes of flash; memcpy is linked anyway.
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
