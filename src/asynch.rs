//! Exchanges over an `embedded-io-async` stream. The twins of [`blocking`](crate::blocking).

use embedded_io_async::{ErrorKind, Read, Write};

use crate::{Driver, Error, Event, Potential, Step, Storage, Transfer};

/// Carries an exchange through, moving its bytes over `socket`.
///
/// # Errors
///
/// As [`blocking::run`](crate::blocking::run).
///
/// # Cancel safety
///
/// The future may be dropped at every await, provided that dropping the stream's own `read` and `write`
/// loses no bytes: make the exchange again with the same arguments to go on.
pub async fn run<S: Read + Write, T: Transfer>(
    socket: &mut S,
    mut transfer: T,
) -> Result<T::Output, Error<S::Error>> {
    // An earlier run may have been dropped between a write and its flush. Before the first step, because an event
    // that it gives must not be lost.
    while passing(socket.flush().await)?.is_none() {}
    let mut flushed = true;
    loop {
        // Before the step that may be the last one, for the same reason.
        if !flushed && !transfer.midway() {
            flushed = passing(socket.flush().await)?.is_some();
            continue;
        }
        match transfer.step()? {
            Step::Write(bytes) => {
                match passing(socket.write(bytes).await)? {
                    Some(0) => return Err(Error::WriteZero),
                    moved => transfer.advance(moved.unwrap_or(0)),
                }
                flushed = false;
            }
            Step::Read(bytes) => match passing(socket.read(bytes).await)? {
                Some(0) => transfer.end(),
                moved => transfer.advance(moved.unwrap_or(0)),
            },
            Step::Done(output) => return Ok(output),
        }
    }
}

/// Nothing, instead of an interruption that is worth another try.
fn passing<T, E: embedded_io_async::Error>(result: Result<T, E>) -> Result<Option<T>, Error<E>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(None),
        Err(error) => Err(Error::Transport(error)),
    }
}

/// Computes what the server at the other end of `socket` asks for until it says EXIT or closes, with room
/// for `N` atoms. See [`blocking::serve`](crate::blocking::serve); the arrays live in the future.
///
/// # Errors
///
/// As [`run`], with the kind of the transport's error, and [`Error::Potential`].
///
/// # Cancel safety
///
/// None: the arrays and the state of the conversation go with the future. Keep a [`Driver`] and a
/// [`Storage`] and [`run`] the exchanges where a future may be dropped.
pub async fn serve<const N: usize>(
    socket: &mut (impl Read + Write),
    potential: &mut impl Potential,
) -> Result<(), Error<ErrorKind>> {
    let kind =
        |error: Error<_>| error.map_transport(|error| embedded_io_async::Error::kind(&error));
    let mut driver = Driver::new();
    let mut storage = Storage::<_, N>::new();
    loop {
        match run(socket, storage.receive(&mut driver))
            .await
            .map_err(kind)?
        {
            Event::Positions { .. } => {
                storage.evaluate(&driver, potential)?;
                run(socket, storage.reply(&mut driver))
                    .await
                    .map_err(kind)?;
            }
            Event::Init { .. } => {}
            Event::Exit | Event::Closed => return Ok(()),
        }
    }
}
