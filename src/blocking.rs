//! Exchanges over a connection that blocks: every `embedded-io` stream, and the host's sockets.

use core::time::Duration;

use embedded_io::{ErrorKind, Read, Write};

use crate::{
    DeadlineTimer, Deadlines, Driver, Error, Event, Exchange, Potential, Step, Storage, TimedOut,
    Wait,
};

/// A connection as [`run`] needs it.
///
/// Every stream that is [`embedded_io::Read`] and [`embedded_io::Write`] is one. Implement it directly for
/// a connection that can make use of what is waited for, as [`WithDeadlines`] and `net::Stream` do.
pub trait Transport {
    /// What can go wrong.
    type Error: embedded_io::Error;

    /// Reads some bytes, at least one; 0 if the peer has closed its side. `wait` tells what for, and whether the
    /// peer is late if it stays silent ([`Wait::owed`]).
    ///
    /// # Errors
    ///
    /// The transport's own, of which `Interrupted` is retried by the caller; or [`Error::TimedOut`].
    fn read(&mut self, buffer: &mut [u8], wait: &Wait) -> Result<usize, Error<Self::Error>>;

    /// Takes some bytes, at least one; it may keep them until [`flush`](Self::flush), so that the pieces
    /// of a message leave together.
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

/// A connection whose peer has [`Deadlines`], on a clock of the caller's.
///
/// The clock is a function: the time since any moment that stays the same. It is asked before each call of the connection
/// and after each of its time-outs: a connection that blocks must return an error of the kind
/// [`TimedOut`](ErrorKind::TimedOut) from time to time, every 100 ms for instance, or nothing can be noticed
/// meanwhile. Such an error no longer ends an exchange; [`Error::TimedOut`] does, when a deadline has passed. The
/// exchange can be made again over the same `WithDeadlines`, to wait as long once more.
///
/// ```
/// use core::time::Duration;
/// use forcewire::blocking::WithDeadlines;
/// use forcewire::potential::Harmonic;
/// use forcewire::{Deadlines, Error, serve};
///
/// /// `socket` times out every 100 ms; `milliseconds` is a counter of the board's.
/// fn firmware<S: embedded_io::Read + embedded_io::Write>(socket: S, milliseconds: impl Fn() -> u64) {
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
    watch: DeadlineTimer,
}

impl<S, C: FnMut() -> Duration> WithDeadlines<S, C> {
    /// A new connection, about which nothing is known yet.
    pub const fn new(socket: S, deadlines: Deadlines, clock: C) -> Self {
        Self {
            socket,
            clock,
            watch: DeadlineTimer::new(deadlines),
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

    fn look(&mut self, wait: &Wait) -> Result<(), TimedOut> {
        let now = (self.clock)();
        self.watch.note(now, wait);
        self.watch.check(now)
    }
}

impl<S: Transport, C: FnMut() -> Duration> Transport for WithDeadlines<S, C> {
    type Error = S::Error;

    fn read(&mut self, buffer: &mut [u8], wait: &Wait) -> Result<usize, Error<Self::Error>> {
        loop {
            self.look(wait)?;
            match self.socket.read(buffer, wait) {
                Err(error) if is(&error, ErrorKind::TimedOut) => {}
                result => return result,
            }
        }
    }

    fn write(&mut self, bytes: &[u8], wait: &Wait) -> Result<usize, Error<Self::Error>> {
        loop {
            self.look(wait)?;
            match self.socket.write(bytes, wait) {
                Err(error) if is(&error, ErrorKind::TimedOut) => {}
                result => return result,
            }
        }
    }

    fn flush(&mut self, wait: &Wait) -> Result<(), Error<Self::Error>> {
        let mut wait = *wait;
        loop {
            self.look(&wait)?;
            match self.socket.flush(&wait) {
                // Something is kept, of an exchange before this one.
                Err(error) if is(&error, ErrorKind::TimedOut) => wait = wait.taken(),
                result => return result,
            }
        }
    }
}

/// Carries an exchange through, moving its bytes over `socket`.
///
/// A message is flushed once, when all of it is written. Partial reads and writes go on where they
/// stopped.
///
/// # Errors
///
/// [`Error::Transport`] with the transport's error; after one that passes the exchange can be
/// made again with the same arguments and goes on. [`Error::TimedOut`] over a [`WithDeadlines`] connection, which passes too.
/// [`Error::WriteZero`] if a write moved nothing. [`Error::Protocol`] as the exchange says.
pub fn run<S: Transport, T: Exchange>(
    socket: &mut S,
    mut transfer: T,
) -> Result<T::Output, Error<S::Error>> {
    // An earlier run may have been stopped between a write and its flush. Before the first step, because an event
    // that it gives must not be lost to an error.
    let wait = transfer.waits_for();
    retry(|| socket.flush(&wait))?;
    let mut flushed = true;
    loop {
        // Before the step that may be the last one, for the same reason.
        if !flushed && !transfer.midway() {
            let wait = transfer.waits_for().taken();
            retry(|| socket.flush(&wait))?;
            flushed = true;
        }
        let wait = transfer.waits_for();
        match transfer.step()? {
            Step::Write(bytes) => {
                let wait = wait.taken();
                match retry(|| socket.write(bytes, &wait))? {
                    0 => return Err(Error::WriteZero),
                    n => transfer.advance(n),
                }
                flushed = false;
            }
            Step::Read(bytes) => match retry(|| socket.read(bytes, &wait))? {
                0 => transfer.end(),
                n => transfer.advance(n),
            },
            Step::Done(output) => return Ok(output),
        }
    }
}

/// Repeats what a signal interrupted (`EINTR`), as the C loop in i-PI's `drivers/f90/sockets.c` does not.
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

/// Whether it is an error of the transport's, of this kind.
fn is<E: embedded_io::Error>(error: &Error<E>, kind: ErrorKind) -> bool {
    matches!(error, Error::Transport(error) if error.kind() == kind)
}

/// Computes what the server at the other end of `socket` asks for until it says EXIT or closes, with room
/// for `N` atoms: the whole firmware but its network.
///
/// The arrays live on the stack, 48 bytes an atom for a potential in `f64`, 24 for one in `f32`. For
/// batches and INIT, or to see what happens, keep a [`Driver`] and a [`Storage`] and write the loop out;
/// it is eight lines.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # #[cfg(feature = "std")] {
/// use forcewire::potential::Harmonic;
///
/// let mut socket = forcewire::net::connect(&"127.0.0.1:31415".parse()?)?;
/// forcewire::serve::<64>(&mut socket, &mut Harmonic::<f64>::new(0.01))?;
/// # }
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// As [`run`], with the kind of the transport's error, and [`Error::Potential`]. The conversation is over with each of
/// them; one that is to survive a time-out keeps its [`Driver`].
pub fn serve<const N: usize>(
    socket: &mut impl Transport,
    potential: &mut impl Potential,
) -> Result<(), Error<ErrorKind>> {
    let kind = |error: Error<_>| error.map_transport(|error| embedded_io::Error::kind(&error));
    let mut driver = Driver::new();
    let mut storage = Storage::<_, N>::new();
    loop {
        match run(socket, storage.receive(&mut driver)).map_err(kind)? {
            Event::Positions { .. } => {
                storage.evaluate(&driver, potential)?;
                run(socket, storage.reply(&mut driver)).map_err(kind)?;
            }
            Event::Init { .. } => {}
            Event::Exit | Event::Closed => return Ok(()),
        }
    }
}

// The error of `serve` is made to be logged; embedded-io's own feature makes its `ErrorKind` one that can be.
#[cfg(feature = "defmt")]
const _: fn(&Error<ErrorKind>, defmt::Formatter<'_>) = defmt::Format::format;
