//! Exchanges over a connection that blocks: every `embedded-io` stream, and the host's sockets.

use core::time::Duration;

use embedded_io::{ErrorKind, Read, Write};

use crate::deadlines::{DeadlineTimer, Deadlines};
use crate::error::Error;
use crate::exchange::{Exchange, Step, Wait};

pub use crate::serve::blocking as serve;

/// A connection as [`run`] needs it.
///
/// Every stream that is [`embedded_io::Read`] and [`embedded_io::Write`] is one. Implement it
/// directly for a connection that can make use of what is waited for, as [`WithDeadlines`] and
/// `net::Stream` do.
///
/// From server to driver the connection must hold at least 24 bytes that the driver has not read,
/// and no flush may wait until the peer reads. A [`Server`](crate::Server) sends the next STATUS
/// before it reads the forces, and perhaps EXIT after that. Over a connection that holds less, it
/// and a [`Driver`](crate::Driver) may block each other for good. 12 bytes are enough for a server
/// that is [`Mode::Strict`](crate::Mode::Strict) or never leaves before it has the forces. TCP,
/// unix sockets and a UART with a buffer qualify; a pipe that hands over byte by byte does not.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no connection for `forcewire::blocking`",
    label = "neither `forcewire::blocking::Transport` nor `Read + Write` of embedded-io 0.7",
    note = "a `std::net::TcpStream` becomes one with `forcewire::net::Stream::from_tcp` (feature `std`)",
    note = "any other `std::io::Read + Write` becomes one with `FromStd` of the crate `embedded-io-adapters` 0.7",
    note = "a stream with the traits of another version of embedded-io than 0.7 does not count"
)]
pub trait Transport {
    /// What can go wrong.
    type Error: embedded_io::Error;

    /// Reads some bytes, at least one; 0 if the peer has closed its side. `wait` is what the
    /// exchange waits for, and whether the peer owes it ([`Wait::owed`]).
    ///
    /// # Errors
    ///
    /// The transport's own, of which `Interrupted` is retried by the caller; or
    /// [`Error::TimedOut`].
    fn read(&mut self, buffer: &mut [u8], wait: &Wait) -> Result<usize, Error<Self::Error>>;

    /// Takes some bytes, at least one; it may keep them until [`flush`](Self::flush), so that the
    /// pieces of a message leave together.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    fn write(&mut self, bytes: &[u8], wait: &Wait) -> Result<usize, Error<Self::Error>>;

    /// Sends what has been kept.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    fn flush(&mut self, wait: &Wait) -> Result<(), Error<Self::Error>>;

    /// Whether this array is sent by the [`flush_with`](Self::flush_with) that ends the message,
    /// after what has been written so far and before what is written after this. Until then it
    /// counts as taken.
    ///
    /// Only asked for a whole array, of which [`flush_with`](Self::flush_with) is given the memory.
    #[doc(hidden)]
    fn lends(&mut self, array: &[u8]) -> bool {
        let _ = array;
        false
    }

    /// As [`flush`](Self::flush), with the array of [`lends`](Self::lends). After an error the
    /// connection has taken what it has not sent.
    #[doc(hidden)]
    fn flush_with(&mut self, array: &[u8], wait: &Wait) -> Result<(), Error<Self::Error>> {
        let _ = array;
        self.flush(wait)
    }

    /// Whether it reads ahead and buffers writes. If not, the methods below are never called. They
    /// get no [`Wait`]: usually it does not matter, and computing it takes as long as the rest.
    #[doc(hidden)]
    const BUFFERS: bool = false;

    /// Copies bytes that were read ahead into `buffer`. Returns 0 if there are none, or if a
    /// deadline has to be looked at first.
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

    /// Sends what is buffered, as [`flush_with`](Self::flush_with), but without waiting. Returns
    /// false if something is left to send.
    #[doc(hidden)]
    fn flush_at_once(&mut self, array: &[u8]) -> Result<bool, Error<Self::Error>> {
        let _ = array;
        Ok(false)
    }

    /// Waits for a message that has no deadline and reads it in one call: `before` bytes into a
    /// buffer, the next ones into `array`, the rest into the buffer. [`serve`](Self::serve) then
    /// returns all of it in order, and does not copy what is in `array` already. 0 if the peer has
    /// closed its side, `None` if it has to be [read](Self::read) otherwise.
    #[doc(hidden)]
    fn read_ahead(
        &mut self,
        before: usize,
        array: &mut [u8],
    ) -> Result<Option<usize>, Error<Self::Error>> {
        let _ = (before, array);
        Ok(None)
    }

    /// Takes what has come into the array, and has not been served, out of it; false if there is
    /// nothing.
    #[doc(hidden)]
    fn take_from(&mut self, array: &[u8]) -> bool {
        let _ = array;
        false
    }

    /// Called when an exchange is done. A connection that limits the time of an exchange stops its
    /// clock.
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

/// A connection whose peer has [`Deadlines`], with the caller's clock.
///
/// `clock` returns monotonic time since an arbitrary fixed epoch. It is called before each read and
/// write. A connection that blocks must return an error of the kind
/// [`TimedOut`](ErrorKind::TimedOut) from time to time, every 100 ms for instance: deadlines are
/// judged then, so an exchange times out up to two such intervals late. Such an error no longer
/// ends an exchange; [`Error::TimedOut`] does, when a deadline has passed. Keep the exchange and
/// run it again over the same `WithDeadlines` to wait for as long again.
///
/// The connection is tried before the clock is judged: bytes that have arrived are never late, and
/// a limit of zero takes what is there. A peer that sends a byte more often than the connection's
/// own time-outs is noticed at twice the limit ([`DeadlineTimer::check_moving`]).
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
    /// A new connection, about which nothing is known yet.
    pub const fn new(socket: S, deadlines: Deadlines, clock: C) -> Self {
        Self {
            socket,
            clock,
            timer: DeadlineTimer::new(deadlines),
        }
    }

    /// The connection, to change it.
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.socket
    }

    /// The connection, without deadlines.
    pub fn into_inner(self) -> S {
        self.socket
    }
}

impl<S: Transport, C: FnMut() -> Duration> WithDeadlines<S, C> {
    /// Makes this call, again after each time-out of the connection, until a deadline has passed.
    fn within<T>(
        &mut self,
        wait: &Wait,
        mut call: impl FnMut(&mut S) -> Result<T, Error<S::Error>>,
    ) -> Result<T, Error<S::Error>> {
        loop {
            // Before the call: what has arrived by then is not late, however long this program was
            // stopped.
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

/// Runs an exchange to its end, moving its bytes over `socket`.
///
/// A message is flushed once, when all of it is written. Partial reads and writes go on where they
/// stopped.
///
/// # Errors
///
/// [`Error::Transport`] with the transport's error, and [`Error::TimedOut`] over a
/// [`WithDeadlines`] connection. Both may pass: keep the exchange, run `&mut exchange` instead, and
/// run it again to go on where it stopped. An exchange made anew goes on only if its arrays hold
/// the same numbers.
///
/// [`Error::WriteZero`] if a write moved nothing. [`Error::Protocol`] as the exchange says.
pub fn run<S: Transport, T: Exchange>(
    socket: &mut S,
    mut exchange: T,
) -> Result<T::Output, Error<S::Error>> {
    let result = carry(socket, &mut exchange);
    // The caller may do with the array what it likes from now on.
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
    // An earlier run may have been stopped between a write and its flush.
    let mut flushed = false;
    loop {
        // Before the step that may be the last one: an event that a step returns must not be lost
        // to an error.
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
            // Another message than was expected.
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

/// Repeats what a signal interrupted (`EINTR`), as the C loop in i-PI's `drivers/f90/sockets.c`
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

// The error of `serve` is meant for a log; a feature of embedded-io lets its `ErrorKind` be logged.
#[cfg(feature = "defmt")]
const _: fn(&Error<ErrorKind>, defmt::Formatter<'_>) = defmt::Format::format;
