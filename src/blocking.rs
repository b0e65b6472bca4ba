//! Exchanges over a connection that blocks: every `embedded-io` stream, and the host's sockets.

use embedded_io::{ErrorKind, Read, Write};

use crate::{Driver, Error, Event, Potential, Step, Storage, Transfer};

/// A connection as [`run`] needs it.
///
/// Every stream that is [`embedded_io::Read`] and [`embedded_io::Write`] is one. Implement it directly for
/// a connection that can make use of `owed`, as `net::Stream` does.
pub trait Transport {
    /// What can go wrong.
    type Error: embedded_io::Error;

    /// Reads some bytes, at least one; 0 if the peer has closed its side. `owed` tells that the
    /// peer is late if it stays silent ([`Transfer::owed`]).
    ///
    /// # Errors
    ///
    /// The transport's own. `Interrupted` is retried by the caller.
    fn read(&mut self, buffer: &mut [u8], owed: bool) -> Result<usize, Self::Error>;

    /// Takes some bytes, at least one; it may keep them until [`flush`](Self::flush), so that the pieces
    /// of a message leave together.
    ///
    /// # Errors
    ///
    /// The transport's own. `Interrupted` is retried by the caller.
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error>;

    /// Sends what has been kept.
    ///
    /// # Errors
    ///
    /// The transport's own. `Interrupted` is retried by the caller.
    fn flush(&mut self) -> Result<(), Self::Error>;
}

impl<S: Read + Write> Transport for S {
    type Error = S::Error;

    fn read(&mut self, buffer: &mut [u8], _: bool) -> Result<usize, Self::Error> {
        Read::read(self, buffer)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error> {
        Write::write(self, bytes)
    }

    fn flush(&mut self) -> Result<(), Self::Error> {
        Write::flush(self)
    }
}

/// Carries an exchange through, moving its bytes over `socket`.
///
/// A message is flushed once, when all of it is written. Partial reads and writes go on where they
/// stopped.
///
/// # Errors
///
/// [`Error::Transport`] with the transport's error; after one that passes (a time-out) the exchange can be
/// made again with the same arguments and goes on. [`Error::WriteZero`] if a write moved nothing.
/// [`Error::Protocol`] as the exchange says.
pub fn run<S: Transport, T: Transfer>(
    socket: &mut S,
    mut transfer: T,
) -> Result<T::Output, Error<S::Error>> {
    // An earlier run may have been stopped between a write and its flush. Before the first step, because an event
    // that it gives must not be lost to an error.
    retry(|| socket.flush())?;
    let mut flushed = true;
    loop {
        // Before the step that may be the last one, for the same reason.
        if !flushed && !transfer.midway() {
            retry(|| socket.flush())?;
            flushed = true;
        }
        let owed = transfer.owed();
        match transfer.step()? {
            Step::Write(bytes) => {
                match retry(|| socket.write(bytes))? {
                    0 => return Err(Error::WriteZero),
                    n => transfer.advance(n),
                }
                flushed = false;
            }
            Step::Read(bytes) => match retry(|| socket.read(bytes, owed))? {
                0 => transfer.end(),
                n => transfer.advance(n),
            },
            Step::Done(output) => return Ok(output),
        }
    }
}

/// Repeats what a signal interrupted (`EINTR`), as the C loop in i-PI's `drivers/f90/sockets.c` does not.
fn retry<T, E: embedded_io::Error>(mut call: impl FnMut() -> Result<T, E>) -> Result<T, Error<E>> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result.map_err(Error::Transport),
        }
    }
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
/// As [`run`], with the kind of the transport's error, and [`Error::Potential`].
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
