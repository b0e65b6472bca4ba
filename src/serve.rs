//! A complete driver: a connection, a potential, and arrays for a number of atoms.

use embedded_io::ErrorKind;

#[cfg(feature = "async")]
use crate::asynch;
use crate::blocking;
use crate::driver::{Driver, Event, Storage};
use crate::error::Error;
use crate::exchange::{Exchange, Step};
use crate::fmt::debug;
use crate::potential::Potential;

/// Computes what the server at the other end of `socket` asks for, until it sends EXIT or closes.
/// There is room for `N` atoms. This is a whole firmware except for the network.
///
/// The arrays are on the stack: 48 bytes per atom for a potential in `f64`, 24 in `f32`. For
/// batches and INIT, or to follow the events, keep a [`Driver`] and a [`Storage`] and write the
/// loop yourself; it has eight lines.
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
/// Returns the errors of [`blocking::run`], with the kind of the transport's error, and
/// [`Error::Potential`]. Each of them ends the conversation: close the connection. Everything that
/// the server sent with the positions has been read by then ([`Driver::drain`]), so closing does
/// not reset the connection. A program that has to survive a time-out keeps its [`Driver`].
pub fn blocking<const N: usize>(
    socket: &mut impl blocking::Transport,
    potential: &mut impl Potential,
) -> Result<(), Error<ErrorKind>> {
    let mut driver = Driver::new();
    let served = blocking_loop::<N>(socket, &mut driver, potential);
    if gives_up(&served) {
        // `blocking::run` would do this too; this loop is smaller because it has no writes and
        // flushes.
        let mut drain = driver.drain();
        let wait = drain.waits_for();
        while let Ok(Step::Read(bytes)) = drain.step() {
            match socket.read(bytes, &wait).map_err(kind) {
                Err(Error::Transport(ErrorKind::Interrupted)) => {}
                Ok(n) if n > 0 => drain.advance(n),
                // The connection has ended and can't be reset.
                _ => break,
            }
        }
    }
    served
}

fn blocking_loop<const N: usize>(
    socket: &mut impl blocking::Transport,
    driver: &mut Driver,
    potential: &mut impl Potential,
) -> Result<(), Error<ErrorKind>> {
    let mut storage = Storage::<_, N>::new();
    loop {
        match blocking::run(socket, storage.receive_once(driver)).map_err(kind)? {
            Event::Positions {
                natoms, structures, ..
            } => {
                storage.evaluate(natoms, structures, potential)?;
                blocking::run(socket, storage.reply_once(driver)).map_err(kind)?;
            }
            Event::Init { .. } => {}
            Event::Exit | Event::Closed => return Ok(()),
        }
    }
}

/// Computes what the server at the other end of `socket` asks for, until it sends EXIT or closes.
/// There is room for `N` atoms; the arrays are part of the future. See [`blocking::serve`].
///
/// # Errors
///
/// Returns the errors of [`asynch::run`], with the kind of the transport's error, and
/// [`Error::Potential`]. Everything that the server sent with the positions has been read by then,
/// as in [`blocking::serve`].
///
/// # Cancel safety
///
/// None: dropping the future drops the arrays and the state of the conversation. Where a future may
/// be dropped, keep a [`Driver`] and a [`Storage`] and [run](asynch::run) the exchanges yourself.
#[cfg(feature = "async")]
pub async fn asynch<const N: usize>(
    socket: &mut impl asynch::Transport,
    potential: &mut impl Potential,
) -> Result<(), Error<ErrorKind>> {
    let mut driver = Driver::new();
    let served = asynch_loop::<N>(socket, &mut driver, potential).await;
    if gives_up(&served) {
        let mut drain = driver.drain();
        let wait = drain.waits_for();
        let mut turn = asynch::Turn::new();
        while let Ok(Step::Read(bytes)) = drain.step() {
            turn.count().await;
            match socket.read(bytes, &wait).await.map_err(kind) {
                Err(Error::Transport(ErrorKind::Interrupted)) => {}
                Ok(n) if n > 0 => drain.advance(n),
                _ => break,
            }
        }
    }
    served
}

#[cfg(feature = "async")]
async fn asynch_loop<const N: usize>(
    socket: &mut impl asynch::Transport,
    driver: &mut Driver,
    potential: &mut impl Potential,
) -> Result<(), Error<ErrorKind>> {
    let mut storage = Storage::<_, N>::new();
    loop {
        match asynch::run(socket, storage.receive_once(driver))
            .await
            .map_err(kind)?
        {
            Event::Positions {
                natoms, structures, ..
            } => {
                storage.evaluate(natoms, structures, potential)?;
                asynch::run(socket, storage.reply_once(driver))
                    .await
                    .map_err(kind)?;
            }
            Event::Init { .. } => {}
            Event::Exit | Event::Closed => return Ok(()),
        }
    }
}

/// Replaces the transport's error with its kind.
fn kind<E: embedded_io::Error>(error: Error<E>) -> Error<ErrorKind> {
    error.map_transport(|error| error.kind())
}

/// Whether this driver ends the conversation over a connection that still works.
fn gives_up(served: &Result<(), Error<ErrorKind>>) -> bool {
    match served {
        Err(Error::Potential(error)) => {
            debug!("the potential failed: {}", error);
            true
        }
        Err(Error::Protocol(error)) => {
            debug!("giving up: {}", error);
            true
        }
        // A peer that is late or has gone sends nothing more.
        _ => false,
    }
}
