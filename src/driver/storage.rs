//! Ready-made arrays of fixed capacity for a driver.

use super::reply::ExtrasOf;
use super::windows::Kept;
use super::{Driver, Receive, Reply};
use crate::geometry::Cell;
use crate::potential::{Evaluation, Potential, PotentialError};
use crate::protocol::{Header, Scalar};

/// Room for `N` atoms in at most `B` structures. Never allocates.
///
/// The size is `N` times 48 bytes (24 for `f32`) plus `B` times 152. It can be a `static`, because
/// [`new`](Self::new) is `const`.
///
/// ```
/// use forcewire::potential::Harmonic;
/// use forcewire::{Driver, Event, Storage, blocking};
///
/// # fn serve(
/// #     mut socket: impl embedded_io::Read + embedded_io::Write,
/// # ) -> Result<(), Box<dyn std::error::Error>> {
/// let mut driver = Driver::new();
/// let mut storage = Storage::<f32, 64>::new();
/// let mut potential = Harmonic::new(0.01);
/// loop {
///     match blocking::run(&mut socket, storage.receive(&mut driver)).map_err(|_| "receive")? {
///         Event::Positions { natoms, structures, .. } => {
///             storage.evaluate(natoms, structures, &mut potential)?;
///             blocking::run(&mut socket, storage.reply(&mut driver)).map_err(|_| "reply")?;
///         }
///         Event::Init { .. } => {}
///         _ => return Ok(()),
///     }
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Storage<T, const N: usize, const B: usize = 1> {
    cells: [Cell; B],
    positions: [[T; 3]; N],
    /// The forces, as long as the structures of this exchange need.
    forces: heapless::Vec<[T; 3], N>,
    evaluations: heapless::Vec<Evaluation, B>,
    /// Which of the driver's structures the evaluations belong to.
    of: u32,
}

impl<T: Scalar, const N: usize, const B: usize> Storage<T, N, B> {
    /// Makes an empty storage.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            cells: [Cell::orthorhombic([0.0; 3]); B],
            positions: [[T::ZERO; 3]; N],
            forces: heapless::Vec::new(),
            evaluations: heapless::Vec::new(),
            of: 0,
        }
    }

    /// Receives positions into this storage with [`Driver::receive_batch`], and drops earlier
    /// evaluations.
    pub fn receive<'a>(&'a mut self, driver: &'a mut Driver) -> Receive<'a, &'a mut [[T; 3]]> {
        // If a reply is still due, keep its evaluations until the reply has been sent.
        if driver.status() != Header::HaveData {
            self.evaluations.clear();
            self.of = driver.taken.wrapping_add(1);
        }
        driver.receive_batch(&mut self.cells, &mut self.positions)
    }

    /// The same as [`receive`](Self::receive), for a program that never recreates an exchange.
    pub(crate) fn receive_once<'a>(
        &'a mut self,
        driver: &'a mut Driver,
    ) -> Receive<'a, Kept<&'a mut [[T; 3]]>> {
        self.evaluations.clear();
        Receive::new(driver, &mut self.cells, Kept(&mut self.positions))
    }

    /// Evaluates the potential for every structure received. `natoms` and `structures` come from
    /// [`Event::Positions`](crate::Event::Positions).
    ///
    /// The driver is not borrowed: an interrupt, another task or another core can run
    /// [`Driver::await_getforce`].
    ///
    /// # Errors
    ///
    /// The potential's errors, and [`PotentialError::NoRoom`] if the storage holds fewer atoms or
    /// structures. No reply can be made after an error: [drain](Driver::drain) and close the
    /// connection.
    pub fn evaluate<P>(
        &mut self,
        natoms: usize,
        structures: usize,
        potential: &mut P,
    ) -> Result<(), PotentialError>
    where
        P: Potential<Real = T> + ?Sized,
    {
        self.evaluations.clear();
        let total = natoms.checked_mul(structures);
        let fits = total.is_some_and(|total| self.forces.resize(total, [T::ZERO; 3]).is_ok());
        if !fits || structures > B {
            return Err(PotentialError::NoRoom { natoms, structures });
        }
        for (index, cell) in self.cells.iter().take(structures).enumerate() {
            let atoms = index * natoms..(index + 1) * natoms;
            let positions = self.positions.get(atoms.clone()).unwrap_or_default();
            let forces = self.forces.get_mut(atoms).unwrap_or_default();
            let evaluation = potential.evaluate(cell, positions, forces)?;
            let _ = self.evaluations.push(evaluation);
        }
        Ok(())
    }

    /// Replies with the results of [`evaluate`](Self::evaluate), without extras, through
    /// [`Driver::reply_batch`]. If the driver has received other positions into other arrays since,
    /// there are no evaluations to send ([`WrongLength`](crate::ProtocolError::WrongLength)).
    pub fn reply<'a>(&'a self, driver: &'a mut Driver) -> Reply<'a, &'a [[T; 3]]> {
        let evaluations = if driver.taken == self.of {
            self.evaluations.as_slice()
        } else {
            &[]
        };
        driver.reply_batch(evaluations, &self.forces, &[])
    }

    /// The same as [`reply`](Self::reply), for a program that never recreates an exchange.
    pub(crate) fn reply_once<'a>(
        &'a self,
        driver: &'a mut Driver,
    ) -> Reply<'a, Kept<&'a [[T; 3]]>> {
        let forces = Kept(self.forces.as_slice());
        Reply::new(driver, &self.evaluations, forces, ExtrasOf::Each(&[]))
    }
}

impl<T: Scalar, const N: usize, const B: usize> Default for Storage<T, N, B> {
    fn default() -> Self {
        Self::new()
    }
}
