//! Exchanges over a blocking connection: any `embedded-io` stream, or the host's sockets.

use core::time::Duration;

use embedded_io::{ErrorKind, Read, Write};

use crate::deadlines::{DeadlineTimer, Deadlines};
use crate::error::Error;
use crate::exchange::{Exchange, Step, Wait};

pub use crate::serve::blocking as serve;

/// A connection for [`run`].
///
/// Every stream that is [`embedded_io::Read`] and [`embedded_io::Write`] implements it. Implement
/// it directly for a connection that makes use of what the exchange waits for, as [`WithDeadlines`]
/// and `net::Stream` do.
///
/// From server to driver the connection must hold at least 24 bytes that the driver has not read,
/// and no flush may wait until the peer reads. A [`Server`](crate::Server) sends the next STATUS
/// before it reads the forces, and perhaps EXIT after that. If the connection holds less, server
/// and [`Driver`](crate::Driver) may block each other forever. 12 bytes are enough for a server in
/// [`Mode::Strict`](crate::Mode::Strict), or one that never exits before it has the forces. TCP,
/// unix sockets and a UART with a buffer qualify; a pipe that passes single bytes does not.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no connection for `forcewire::blocking`",
    label = "neither `forcewire::blocking::Transport` nor `Read + Write` of embedded-io 0.7",
    note = "a `std::net::TcpStream` becomes one with `forcewire::net::Stream::from_tcp` (feature `std`)",
    note = "any other `std::io::Read + Write` becomes one with `FromStd` of the crate `embedded-io-adapters` 0.7",
    note = "a stream with the traits of another version of embedded-io than 0.7 does not count"
)]
pub trait Transport {
    /// The transport's error.
    type Error: embedded_io::Error;

    /// Reads at least one byte; returns 0 if the peer has closed its side. `wait` names the bytes
    /// that the exchange waits for, and whether the peer owes them ([`Wait::owed`]).
    ///
    /// # Errors
    ///
    /// The transport's own error, or [`Error::TimedOut`]. The caller retries after `Interrupted`.
    fn read(&mut self, buffer: &mut [u8], wait: &Wait) -> Result<usize, Error<Self::Error>>;

    /// Accepts at least one byte. The connection may keep bytes until [`flush`](Self::flush), so
    /// that the pieces of a message are sent together.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`read`](Self::read).
    fn write(&mut self, bytes: &[u8], wait: &Wait) -> Result<usize, Error<Self::Error>>;

    /// Sends the bytes that were kept.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`read`](Self::read).
    fn flush(&mut self, wait: &Wait) -> Result<(), Error<Self::Error>>;

    /// Whether the [`flush_with`](Self::flush_with) at the end of the message will send this array,
    /// after the bytes written so far and before those written later. If so, the array counts as
    /// accepted.
    ///
    /// Called only with a whole array, whose memory is passed to [`flush_with`](Self::flush_with)
    /// later.
    #[doc(hidden)]
    fn lends(&mut self, array: &[u8]) -> bool {
        let _ = array;
        false
    }

    /// Like [`flush`](Self::flush), with the array accepted by [`lends`](Self::lends). After an
    /// error the connection must have copied the unsent rest.
    #[doc(hidden)]
    fn flush_with(&mut self, array: &[u8], wait: &Wait) -> Result<(), Error<Self::Error>> {
        let _ = array;
        self.flush(wait)
    }

    /// Whether the connection reads ahead and buffers writes. If not, the methods below are never
    /// called. They get no [`Wait`], which they rarely need: computing it takes as long as the rest
    /// of the call.
    #[doc(hidden)]
    const BUFFERS: bool = false;

    /// Copies bytes that were read ahead into `buffer`. Returns 0 if there are none, or if a
    /// deadline has to be checked first.
    #[doc(hidden)]
    fn serve(&mut self, buffer: &mut [u8]) -> usize {
        let _ = buffer;
        0
    }

    /// Buffers these bytes until the flush. Returns false if they are too many to be copied.
    #[doc(hidden)]
    fn keep(&mut self, bytes: &[u8]) -> bool {
        let _ = bytes;
        false
    }

    /// Sends the buffered bytes like [`flush_with`](Self::flush_with), but without waiting. Returns
    /// false if some bytes remain to be sent.
    #[doc(hidden)]
    fn flush_at_once(&mut self, array: &[u8]) -> Result<bool, Error<Self::Error>> {
        let _ = array;
        Ok(false)
    }

    /// Waits for a message without a deadline and reads it in one call: `before` bytes into a
    /// buffer, the next ones into `array`, the rest into the buffer. [`serve`](Self::serve) then
    /// returns all of it in order without copying the part in `array`. Returns 0 if the peer has
    /// closed its side, and `None` if the message must be [read](Self::read) in the usual way.
    #[doc(hidden)]
    fn read_ahead(
        &mut self,
        before: usize,
        array: &mut [u8],
    ) -> Result<Option<usize>, Error<Self::Error>> {
        let _ = (before, array);
        Ok(None)
    }

    /// Moves received and unserved bytes out of the array; false if there are none.
    #[doc(hidden)]
    fn take_from(&mut self, array: &[u8]) -> bool {
        let _ = array;
        false
    }

    /// Called at the end of an exchange. A connection with a limit for exchanges stops its clock.
    fn exchange_done(&mut self) {}
}

impl<S: Read + Write> Transport for S {
    type Error = S::Error;

    fn read(&mut self, buffer: &mut [u8], _: &Wait) -> Result<usize, Error<Self::Error>> {
        Read::read(self, buffer).map_err(Error::Transport)
    }

    fn write(&mut self, bytes: &[u8], _: &Wait) -> Result<usize, Error<Self::Error>> {
        Write::write(self, bytes).map_err(Error::Transport)
    }

    fn flush(&mut self, _: &Wait) -> Result<(), Error<Self::Error>> {
        Write::flush(self).map_err(Error::Transport)
    }
}

/// A connection with [`Deadlines`] for its peer, and the caller's clock.
///
/// `clock` returns monotonic time since an arbitrary fixed epoch. It is called before each read and
/// write. A connection that blocks must return an error of the kind
/// [`TimedOut`](ErrorKind::TimedOut) from time to time, for instance every 100 ms. Deadlines are
/// checked then, so an exchange may time out late by up to two such intervals. Such an error no
/// longer ends an exchange; [`Error::TimedOut`] does, once a deadline has passed. Keep the exchange
/// and run it again over the same `WithDeadlines` to wait for the full time once more.
///
/// The connection is tried before the clock is read: bytes that have arrived are never late, and a
/// limit of zero takes the available bytes. A peer that keeps sending bytes more often than the
/// connection times out is noticed after twice the limit ([`DeadlineTimer::check_moving`]).
///
/// ```
/// use core::time::Duration;
/// use forcewire::blocking::WithDeadlines;
/// use forcewire::potential::Harmonic;
/// use forcewire::{Deadlines, Error, serve};
///
/// /// `socket` times out every 100 ms; `milliseconds` is the board's counter.
/// fn firmware<S: embedded_io::Read + embedded_io::Write>(
///     socket: S,
///     milliseconds: impl Fn() -> u64,
/// ) {
///     let clock = || Duration::from_millis(milliseconds());
///     let mut socket = WithDeadlines::new(socket, Deadlines::default(), clock);
///     match serve::<64>(&mut socket, &mut Harmonic::<f64>::new(0.01)) {
///         Err(Error::TimedOut(late)) => { /* log it, and connect again */ }
///         _ => {}
///     }
/// }
/// ```
#[derive(Debug)]
pub struct WithDeadlines<S, C> {
    socket: S,
    clock: C,
    timer: DeadlineTimer,
}

impl<S, C: FnMut() -> Duration> WithDeadlines<S, C> {
    /// Wraps a new connection.
    pub const fn new(socket: S, deadlines: Deadlines, clock: C) -> Self {
        Self {
            socket,
            clock,
            timer: DeadlineTimer::new(deadlines),
        }
    }

    /// The connection, mutable.
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.socket
    }

    /// Returns the connection.
    pub fn into_inner(self) -> S {
        self.socket
    }
}

impl<S: Transport, C: FnMut() -> Duration> WithDeadlines<S, C> {
    /// Repeats this call after each time-out of the connection, until a deadline has passed.
    fn within<T>(
        &mut self,
        wait: &Wait,
        mut call: impl FnMut(&mut S) -> Result<T, Error<S::Error>>,
    ) -> Result<T, Error<S::Error>> {
        loop {
            // The time before the call counts: bytes that had arrived by then are not late, however
            // long this program was stopped.
            let now = (self.clock)();
            self.timer.note(now, wait);
            self.timer.check_moving(now)?;
            match call(&mut self.socket) {
                Err(error) if is(&error, ErrorKind::TimedOut) => self.timer.check(now)?,
                result => return result,
            }
        }
    }
}

impl<S: Transport, C: FnMut() -> Duration> Transport for WithDeadlines<S, C> {
    type Error = S::Error;

    fn read(&mut self, buffer: &mut [u8], wait: &Wait) -> Result<usize, Error<Self::Error>> {
        self.within(wait, |socket| socket.read(buffer, wait))
    }

    fn write(&mut self, bytes: &[u8], wait: &Wait) -> Result<usize, Error<Self::Error>> {
        self.within(wait, |socket| socket.write(bytes, wait))
    }

    fn flush(&mut self, wait: &Wait) -> Result<(), Error<Self::Error>> {
        self.timer.note_flush((self.clock)(), wait);
        match self.socket.flush(wait) {
            Err(error) if is(&error, ErrorKind::TimedOut) => {
                self.within(wait, |socket| socket.flush(wait))
            }
            result => result,
        }
    }

    fn exchange_done(&mut self) {
        self.timer.end_exchange();
        self.socket.exchange_done();
    }
}

/// Runs an exchange to its end over `socket`.
///
/// A message is flushed once, when it is complete. Partial reads and writes continue where they
/// stopped.
///
/// # Errors
///
/// [`Error::Transport`] with the transport's error, and [`Error::TimedOut`] over a
/// [`WithDeadlines`] connection. The exchange can continue after both: pass `&mut exchange`, keep
/// the exchange, and run it again. A new exchange can continue only if its arrays hold the same
/// numbers.
///
/// [`Error::WriteZero`] if a write moved nothing. [`Error::Protocol`] as documented for the
/// exchange.
pub fn run<S: Transport, T: Exchange>(
    socket: &mut S,
    mut exchange: T,
) -> Result<T::Output, Error<S::Error>> {
    let result = carry(socket, &mut exchange);
    // The caller may change the array from now on.
    if S::BUFFERS {
        socket.take_from(exchange.array());
    }
    result
}

#[inline(always)]
fn carry<S: Transport, T: Exchange>(
    socket: &mut S,
    exchange: &mut T,
) -> Result<T::Output, Error<S::Error>> {
    if let Err(error) = exchange.enter() {
        socket.exchange_done();
        return Err(error.into());
    }
    // An earlier run may have stopped between a write and its flush.
    let mut flushed = false;
    loop {
        // Flush before the step that may be the last one: an error must not replace an event that a
        // step returns.
        if !flushed && !exchange.midway() {
            if !(S::BUFFERS && retry(|| socket.flush_at_once(exchange.lent()))?) {
                let wait = exchange.waits_for().taken();
                retry(|| socket.flush_with(exchange.lent(), &wait))?;
            }
            flushed = true;
        }
        if S::BUFFERS {
            match exchange.step() {
                Ok(Step::Read(bytes)) => match socket.serve(bytes) {
                    0 => {}
                    n => {
                        exchange.advance(n);
                        continue;
                    }
                },
                Ok(Step::Write(bytes)) if socket.keep(bytes) => {
                    let n = bytes.len();
                    exchange.advance(n);
                    flushed = false;
                    continue;
                }
                Ok(Step::Write(_)) => {}
                Ok(Step::Done(output)) => {
                    socket.exchange_done();
                    return Ok(output);
                }
                Err(error) => {
                    socket.exchange_done();
                    return Err(error.into());
                }
            }
        }
        if S::BUFFERS {
            // The message is not the expected one.
            if socket.take_from(exchange.array()) {
                continue;
            }
            if let Some((before, len)) = exchange.expects() {
                let array = exchange.array().get_mut(..len).unwrap_or_default();
                match retry(|| socket.read_ahead(before, array))? {
                    None => {}
                    Some(0) => {
                        exchange.end();
                        continue;
                    }
                    Some(_) => continue,
                }
            }
        }
        let wait = exchange.waits_for();
        let lent = core::ptr::from_ref(exchange.lent());
        match exchange.step() {
            Ok(Step::Write(bytes)) if core::ptr::eq(bytes, lent) && socket.lends(bytes) => {
                let n = bytes.len();
                exchange.advance(n);
                flushed = false;
            }
            Ok(Step::Write(bytes)) => {
                let wait = wait.taken();
                match retry(|| socket.write(bytes, &wait))? {
                    0 => return Err(Error::WriteZero),
                    n => exchange.advance(n),
                }
                flushed = false;
            }
            Ok(Step::Read(bytes)) => match retry(|| socket.read(bytes, &wait))? {
                0 => exchange.end(),
                n => exchange.advance(n),
            },
            Ok(Step::Done(output)) => {
                socket.exchange_done();
                return Ok(output);
            }
            Err(error) => {
                socket.exchange_done();
                return Err(error.into());
            }
        }
    }
}

/// Repeats a call that a signal interrupted (`EINTR`). The C loop in i-PI's `drivers/f90/sockets.c`
/// does not.
#[inline(always)]
fn retry<T, E: embedded_io::Error>(
    mut call: impl FnMut() -> Result<T, Error<E>>,
) -> Result<T, Error<E>> {
    loop {
        match call() {
            Err(error) if is(&error, ErrorKind::Interrupted) => {}
            result => return result,
        }
    }
}

/// Whether this is the transport's own error, of this kind.
fn is<E: embedded_io::Error>(error: &Error<E>, kind: ErrorKind) -> bool {
    matches!(error, Error::Transport(error) if error.kind() == kind)
}

// The error of `serve` is meant for a log; a feature of embedded-io allows its `ErrorKind` to be
// logged.
#[cfg(feature = "defmt")]
const _: fn(&Error<ErrorKind>, defmt::Formatter<'_>) = defmt::Format::format;
