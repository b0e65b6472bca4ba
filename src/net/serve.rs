//! A complete driver on a host.

use std::io;
use std::vec::Vec;

use super::{Arrays, Stream};
use crate::blocking::run;
use crate::driver::{Driver, Event, Initialize};
use crate::error::Error;
use crate::geometry::Cell;
use crate::potential::{Evaluation, Potential, PotentialError};
use crate::protocol::{Header, Scalar};

/// The potential of a driver on a host, which may use INIT and extras. Every [`Potential`]
/// implements it without them.
///
/// ```
/// use forcewire::net::Calculator;
/// use forcewire::{Cell, Driver, Evaluation, PotentialError, Virial};
///
/// /// A spring on each atom, whose strength is in the text of INIT: `k:0.01`.
/// struct Springs {
///     k: f64,
///     length: f64,
/// }
///
/// impl Calculator for Springs {
///     type Real = f64;
///
///     fn initialize(&mut self, driver: &Driver) -> Result<(), PotentialError> {
///         let k = driver.parameters().find(|(key, _)| *key == "k");
///         self.k = k.and_then(|(_, k)| k.parse().ok()).ok_or(PotentialError::Failed("no k"))?;
///         Ok(())
///     }
///
///     fn evaluate(
///         &mut self,
///         _: &Cell,
///         positions: &[[f64; 3]],
///         forces: &mut [[f64; 3]],
///     ) -> Result<Evaluation, PotentialError> {
///         let (mut energy, mut virial) = (0.0, Virial::ZERO);
///         for (r, force) in positions.iter().zip(forces) {
///             *force = r.map(|x| -self.k * x);
///             energy += r.iter().map(|x| 0.5 * self.k * x * x).sum::<f64>();
///             virial.add_product(*r, *force);
///         }
///         self.length = (2.0 * energy / self.k).sqrt();
///         Ok(Evaluation { energy, virial })
///     }
///
///     fn extras(&mut self, extras: &mut Vec<u8>) {
///         extras.extend(format!("{{\"length\": {}}}", self.length).into_bytes());
///     }
/// }
/// ```
pub trait Calculator {
    /// The type of positions and forces.
    type Real: Scalar;

    /// Handles INIT: see [`Driver::replica`], [`Driver::init_text`] and [`Driver::parameters`].
    ///
    /// # Errors
    ///
    /// An error if the text makes no sense; [`serve`] then ends with this error.
    fn initialize(&mut self, driver: &Driver) -> Result<(), PotentialError> {
        let _ = driver;
        Ok(())
    }

    /// Computes one structure, like [`Potential::evaluate`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Potential::evaluate`].
    fn evaluate(
        &mut self,
        cell: &Cell,
        positions: &[[Self::Real; 3]],
        forces: &mut [[Self::Real; 3]],
    ) -> Result<Evaluation, PotentialError>;

    /// Appends the extras of the structure computed last to the extras of the batch's earlier
    /// structures. [`Extras`](crate::Extras) writes a format that i-PI can read.
    fn extras(&mut self, extras: &mut Vec<u8>) {
        let _ = extras;
    }
}

impl<P: Potential + ?Sized> Calculator for P
where
    P::Real: Scalar,
{
    type Real = P::Real;

    fn evaluate(
        &mut self,
        cell: &Cell,
        positions: &[[Self::Real; 3]],
        forces: &mut [[Self::Real; 3]],
    ) -> Result<Evaluation, PotentialError> {
        Potential::evaluate(self, cell, positions, forces)
    }
}

/// Computes what the server asks for until the end: [`Event::Exit`], or [`Event::Closed`] if the
/// server only closes the connection. Structures and batches may be of any size.
///
/// ```no_run
/// use forcewire::net;
/// use forcewire::potential::Harmonic;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut stream = net::connect(&"localhost:31415".parse()?)?;
/// net::serve(&mut stream, &mut Harmonic::<f64>::new(0.01))?;
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// Returns the errors of [`blocking::run`](run), and [`Error::Potential`]. Close the connection
/// after an error: everything that the server sent with the positions has been read
/// ([`Driver::drain`]), so closing does not reset it. After [`Error::TimedOut`] or a temporary
/// error of the transport, [`serve_with`] can continue.
pub fn serve<C: Calculator + ?Sized>(
    stream: &mut Stream,
    calculator: &mut C,
) -> Result<Event, Error<io::Error>> {
    // Servers send batches only to drivers that ask for INIT.
    let mut driver = Driver::new().initialize(Initialize::Once);
    serve_with(stream, &mut driver, &mut Arrays::new(), calculator)
}

/// [`serve`] for a [`Driver`] with options. It can also continue after a time-out: a call with the
/// same driver and arrays continues where the last one stopped and computes no structure twice.
///
/// # Errors
///
/// Returns the errors of [`serve`].
pub fn serve_with<C: Calculator + ?Sized>(
    stream: &mut Stream,
    driver: &mut Driver,
    arrays: &mut Arrays<C::Real>,
    calculator: &mut C,
) -> Result<Event, Error<io::Error>> {
    let served = serve_until(stream, driver, arrays, calculator);
    if let Err(Error::Protocol(_) | Error::Potential(_)) = served {
        // i-PI hangs if a connection is closed with bytes unread.
        let _ = run(stream, driver.drain());
    }
    served
}

fn serve_until<C: Calculator + ?Sized>(
    stream: &mut Stream,
    driver: &mut Driver,
    arrays: &mut Arrays<C::Real>,
    calculator: &mut C,
) -> Result<Event, Error<io::Error>> {
    loop {
        if driver.status() == Header::HaveData {
            if let Some((natoms, structures)) = arrays.pending() {
                arrays.evaluate(natoms, structures, calculator)?;
            }
            let extras = arrays.extras();
            run(stream, arrays.reply_with(driver, &extras))?;
        }
        match run(stream, arrays.receive(driver)) {
            Ok(Event::Positions {
                natoms, structures, ..
            }) => arrays.note(natoms, structures),
            Ok(Event::Init { .. }) => calculator.initialize(driver)?,
            Ok(end @ (Event::Exit | Event::Closed)) => return Ok(end),
            // No byte of the array has been read yet: the exchange continues once there is room.
            Err(Error::Protocol(error)) if arrays.grow(&error) => {}
            Err(error) => return Err(error),
        }
    }
}
