//! The limits that a caller sets.

use core::time::Duration;

/// How long to wait for a peer. `None` waits without a limit.
///
/// ```
/// use core::time::Duration;
/// use forcewire::Deadlines;
///
/// let minute = Duration::from_secs(60);
/// let deadlines = Deadlines::default().evaluation(10 * minute).exchange(15 * minute);
/// assert_eq!(deadlines.message, Some(minute));
/// assert_eq!(Deadlines::NONE.message(minute).handshake, None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Deadlines {
    /// From the connection to the peer's first header: a server's first STATUS, or a driver's
    /// answer to it. Until then no other deadline runs. If this is `None`, the others run from the
    /// start.
    pub handshake: Option<Duration>,
    /// For each message from its first byte to its last, in both directions; and for answers that
    /// need no computation: READY after STATUS, the STATUS after INIT, the end of the connection
    /// after EXIT.
    pub message: Option<Duration>,
    /// For the peer's computation. A server waits this long from the first byte of positions to the
    /// last byte of their forces, a driver from one message of its server to the next. The time in
    /// which a driver itself computes does not count.
    pub evaluation: Option<Duration>,
    /// For one exchange as a whole, from its first wait until it is done. No other deadline ends an
    /// exchange whose peer keeps sending valid messages but never the required one: a driver that
    /// answers each STATUS with NEEDINIT, or a server that sends only STATUS.
    ///
    /// A driver's [`receive`](crate::Driver::receive) is one exchange even if the server computes
    /// for a long time between two structures, so its limit must include that time. No time passes
    /// while [`await_getforce`](crate::Driver::await_getforce) has nothing to do.
    pub exchange: Option<Duration>,
}

impl Deadlines {
    /// No limit at all.
    pub const NONE: Self = Self {
        handshake: None,
        message: None,
        evaluation: None,
        exchange: None,
    };

    /// Sets [`handshake`](Self#structfield.handshake).
    #[must_use]
    pub const fn handshake(self, limit: Duration) -> Self {
        Self {
            handshake: Some(limit),
            ..self
        }
    }

    /// Sets [`message`](Self#structfield.message).
    #[must_use]
    pub const fn message(self, limit: Duration) -> Self {
        Self {
            message: Some(limit),
            ..self
        }
    }

    /// Sets [`evaluation`](Self#structfield.evaluation).
    #[must_use]
    pub const fn evaluation(self, limit: Duration) -> Self {
        Self {
            evaluation: Some(limit),
            ..self
        }
    }

    /// Sets [`exchange`](Self#structfield.exchange).
    #[must_use]
    pub const fn exchange(self, limit: Duration) -> Self {
        Self {
            exchange: Some(limit),
            ..self
        }
    }
}

impl Default for Deadlines {
    /// Ten seconds for a handshake, a minute for a message, no limit for a computation or for a
    /// whole exchange.
    fn default() -> Self {
        Self::NONE
            .handshake(Duration::from_secs(10))
            .message(Duration::from_secs(60))
    }
}

/// One of the [`Deadlines`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Deadline {
    /// [`Deadlines::handshake`](Deadlines#structfield.handshake).
    Handshake,
    /// [`Deadlines::message`](Deadlines#structfield.message).
    Message,
    /// [`Deadlines::evaluation`](Deadlines#structfield.evaluation).
    Evaluation,
    /// [`Deadlines::exchange`](Deadlines#structfield.exchange).
    Exchange,
}
