//! Arrays for a driver on a host. They grow to the size of the server's structures.

use std::vec::Vec;

use super::Calculator;
use crate::driver::{Driver, Receive, Reply};
use crate::geometry::Cell;
use crate::potential::{Evaluation, PotentialError};
use crate::protocol::{Header, ProtocolError, Scalar};

/// Arrays for a driver that grow to the size of the server's structures, unlike
/// [`Storage`](crate::Storage), whose capacity is fixed.
///
/// ```no_run
/// use forcewire::net::{self, Arrays};
/// use forcewire::potential::Harmonic;
/// use forcewire::{Driver, Error, Event, blocking};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut stream = net::connect(&"localhost:31415".parse()?)?;
/// let (mut driver, mut arrays) = (Driver::new(), Arrays::new());
/// let mut potential = Harmonic::<f64>::new(0.01);
/// loop {
///     match blocking::run(&mut stream, arrays.receive(&mut driver)) {
///         Ok(Event::Positions { natoms, structures, .. }) => {
///             arrays.evaluate(natoms, structures, &mut potential)?;
///             blocking::run(&mut stream, arrays.reply(&mut driver))?;
///         }
///         Ok(Event::Init { .. }) => {}
///         Ok(_) => return Ok(()),
///         Err(Error::Protocol(error)) if arrays.grow(&error) => {}
///         Err(error) => return Err(error.into()),
///     }
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Arrays<T> {
    cells: Vec<Cell>,
    positions: Vec<[T; 3]>,
    forces: Vec<[T; 3]>,
    evaluations: Vec<Evaluation>,
    /// The extras of all structures, concatenated, and the length of each.
    extras: Vec<u8>,
    lengths: Vec<usize>,
    /// The atoms per structure and the number of structures of the last message received.
    received: (usize, usize),
    most: (usize, usize),
}

/// The extras of each structure.
#[derive(Debug)]
pub(super) struct Texts<'a>(Vec<&'a [u8]>);

impl<T: Scalar> Arrays<T> {
    /// Returns empty arrays, which grow to ten million atoms and ten thousand structures at most.
    #[must_use]
    pub fn new() -> Self {
        Self {
            // Most batches have one structure; room for it saves a second attempt.
            cells: std::vec![Cell::orthorhombic([0.0; 3])],
            positions: Vec::new(),
            forces: Vec::new(),
            evaluations: Vec::new(),
            extras: Vec::new(),
            lengths: Vec::new(),
            received: (0, 0),
            most: (10_000_000, 10_000),
        }
    }

    /// Limits the memory to allocate: the total number of atoms over all structures, and the number
    /// of structures. A server that is out of step can announce any count.
    #[must_use]
    pub const fn at_most(mut self, natoms: usize, structures: usize) -> Self {
        self.most = (natoms, structures);
        self
    }

    /// Receives positions into these arrays with [`Driver::receive_batch`].
    pub fn receive<'a>(&'a mut self, driver: &'a mut Driver) -> Receive<'a, &'a mut [[T; 3]]> {
        // If a reply is still due, keep its structure until the reply has been sent.
        if driver.status() != Header::HaveData {
            self.evaluations.clear();
        }
        driver.receive_batch(&mut self.cells, &mut self.positions)
    }

    /// Makes room for what a server has announced, if `error` is that announcement. Returns true if
    /// there is room now: run [`receive`](Self::receive) again. Returns false for other errors,
    /// above the limit of [`at_most`](Self::at_most), and when memory runs out.
    pub fn grow(&mut self, error: &ProtocolError) -> bool {
        match *error {
            ProtocolError::TooManyAtoms { announced, .. } => {
                announced <= self.most.0 && grow(&mut self.positions, announced, [T::ZERO; 3])
            }
            ProtocolError::TooManyStructures { announced, .. } => {
                let nothing = Cell::orthorhombic([0.0; 3]);
                announced <= self.most.1 && grow(&mut self.cells, announced, nothing)
            }
            _ => false,
        }
    }

    /// Computes every structure received. `natoms` and `structures` come from
    /// [`Event::Positions`](crate::Event::Positions).
    ///
    /// # Errors
    ///
    /// The calculator's errors, and [`PotentialError::NoRoom`] if fewer structures were received.
    /// No reply can be made after an error: [drain](Driver::drain) and close the connection.
    pub fn evaluate<C>(
        &mut self,
        natoms: usize,
        structures: usize,
        calculator: &mut C,
    ) -> Result<(), PotentialError>
    where
        C: Calculator<Real = T> + ?Sized,
    {
        self.evaluations.clear();
        self.extras.clear();
        self.lengths.clear();
        let no_room = PotentialError::NoRoom { natoms, structures };
        let total = natoms.checked_mul(structures).ok_or(no_room)?;
        if structures > self.cells.len()
            || total > self.positions.len()
            || !resize(&mut self.forces, total, [T::ZERO; 3])
        {
            return Err(no_room);
        }
        for (index, cell) in self.cells.iter().take(structures).enumerate() {
            let atoms = index * natoms..(index + 1) * natoms;
            let positions = self.positions.get(atoms.clone()).unwrap_or_default();
            let forces = self.forces.get_mut(atoms).unwrap_or_default();
            let evaluation = calculator.evaluate(cell, positions, forces)?;
            self.evaluations.push(evaluation);
            let before = self.extras.len();
            calculator.extras(&mut self.extras);
            // A calculator that shortened the text has taken bytes from earlier structures.
            self.lengths.push(self.extras.len().saturating_sub(before));
        }
        Ok(())
    }

    /// Replies with the results of [`evaluate`](Self::evaluate), without extras, through
    /// [`Driver::reply_batch`].
    pub fn reply<'a>(&'a self, driver: &'a mut Driver) -> Reply<'a, &'a [[T; 3]]> {
        driver.reply_batch(&self.evaluations, &self.forces, &[])
    }

    /// Replies with the results of [`evaluate`](Self::evaluate) and these extras.
    pub(super) fn reply_with<'a>(
        &'a self,
        driver: &'a mut Driver,
        extras: &'a Texts<'a>,
    ) -> Reply<'a, &'a [[T; 3]]> {
        driver.reply_batch(&self.evaluations, &self.forces, &extras.0)
    }

    /// The extras that the calculator appended in [`Calculator::extras`].
    pub(super) fn extras(&self) -> Texts<'_> {
        let mut rest = self.extras.as_slice();
        let each = self.lengths.iter().map(|&len| {
            let (one, others) = rest.split_at_checked(len).unwrap_or((rest, &[]));
            rest = others;
            one
        });
        Texts(each.collect())
    }

    /// Records what was received, for a loop that ends before the reply has been sent.
    pub(super) const fn note(&mut self, natoms: usize, structures: usize) {
        self.received = (natoms, structures);
    }

    /// The recorded structures, unless they have been computed.
    pub(super) fn pending(&self) -> Option<(usize, usize)> {
        Some(self.received).filter(|(_, structures)| self.evaluations.len() != *structures)
    }
}

impl<T: Scalar> Default for Arrays<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Resizes an array if there is enough memory.
fn resize<T: Clone>(array: &mut Vec<T>, len: usize, value: T) -> bool {
    let more = len.saturating_sub(array.len());
    if array.try_reserve(more).is_err() {
        return false;
    }
    array.resize(len, value);
    true
}

/// Resizes an array if there is enough memory, but never shortens it.
fn grow<T: Clone>(array: &mut Vec<T>, len: usize, value: T) -> bool {
    len <= array.len() || resize(array, len, value)
}
