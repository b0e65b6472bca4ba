//! A whole driver on a host.

use std::io;
use std::vec::Vec;

use super::{Arrays, Stream};
use crate::blocking::run;
use crate::driver::{Driver, Event, Initialize};
use crate::error::Error;
use crate::geometry::Cell;
use crate::potential::{Evaluation, Potential, PotentialError};
use crate::protocol::{Header, Scalar};

/// The potential of a driver on a host, with its use of INIT and extras. Every [`Potential`] is one
/// that has neither.
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
    /// Type of positions and forces.
    type Real: Scalar;

    /// Takes note of INIT: [`Driver::replica`], [`Driver::init_text`], [`Driver::parameters`].
    ///
    /// # Errors
    ///
    /// The text makes no sense: [`serve`] ends with this.
    fn initialize(&mut self, driver: &Driver) -> Result<(), PotentialError> {
        let _ = driver;
        Ok(())
    }

    /// Computes one structure, as [`Potential::evaluate`].
    ///
    /// # Errors
    ///
    /// As there.
    fn evaluate(
        &mut self,
        cell: &Cell,
        positions: &[[Self::Real; 3]],
        forces: &mut [[Self::Real; 3]],
    ) -> Result<Evaluation, PotentialError>;

    /// Appends the extras of the structure that was computed just now to those of the structures
    /// before it in the same batch. [`Extras`](crate::Extras) writes what i-PI can read.
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

/// Computes what the server asks for until it ends that: [`Event::Exit`], or [`Event::Closed`] if
/// it only closes the connection. Structures and batches may be of any size.
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
/// As [`blocking::run`](run), and [`Error::Potential`]. Close the connection: what the server has
/// sent with the positions has been read ([`Driver::drain`]), so closing does not reset it. After
/// [`Error::TimedOut`] or an error of the transport that passes, [`serve_with`] goes on.
pub fn serve<C: Calculator + ?Sized>(
    stream: &mut Stream,
    calculator: &mut C,
) -> Result<Event, Error<io::Error>> {
    // A driver that asks for INIT is one that can be sent batches.
    let mut driver = Driver::new().initialize(Initialize::Once);
    serve_with(stream, &mut driver, &mut Arrays::new(), calculator)
}

/// [`serve`] for a [`Driver`] with options, and to continue after a time-out: with the same driver
/// and arrays the same call goes on where it stopped, and computes no structure twice.
///
/// # Errors
///
/// As [`serve`].
pub fn serve_with<C: Calculator + ?Sized>(
    stream: &mut Stream,
    driver: &mut Driver,
    arrays: &mut Arrays<C::Real>,
    calculator: &mut C,
) -> Result<Event, Error<io::Error>> {
    let served = serve_until(stream, driver, arrays, calculator);
    if let Err(Error::Protocol(_) | Error::Potential(_)) = served {
        // i-PI hangs on a connection that is closed with bytes unread.
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
            // No byte of the array has come yet: the exchange goes on once there is room.
            Err(Error::Protocol(error)) if arrays.grow(&error) => {}
            Err(error) => return Err(error),
        }
    }
}
