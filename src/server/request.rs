//! The structures for a driver to compute.

use crate::exchange::{Refused, check_length, refuse};
use crate::geometry::Cell;
use crate::protocol::init_text::Announcement;
use crate::protocol::{ProtocolError, Quantity, Scalar};

/// One structure or several, with the content of INIT. Borrows its data and is `Copy`.
///
/// ```
/// use forcewire::{Cell, Request};
///
/// let cell = Cell::orthorhombic([20.0; 3]);
/// let positions = [[0.0, 0.0, 0.0], [1.8, 0.0, 0.0]];
/// let request = Request::new(&cell, &positions).replica(3);
/// # let _ = request;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Request<'a, T> {
    pub(super) replica: i32,
    pub(super) text: &'a [u8],
    pub(super) cells: &'a [Cell],
    pub(super) positions: &'a [[T; 3]],
}

impl<'a, T> Request<'a, T> {
    pub(super) const NOTHING: Self = Self {
        replica: 0,
        text: b"",
        cells: &[],
        positions: &[],
    };

    /// One structure: a cell, upper triangular, and the positions of its atoms, in bohr.
    #[must_use]
    pub const fn new(cell: &'a Cell, positions: &'a [[T; 3]]) -> Self {
        Self::batch(core::slice::from_ref(cell), positions)
    }

    /// Several structures with the same number of atoms: their cells, and their positions one
    /// structure after another. At most [`Server::capacity`](super::Server::capacity) structures.
    #[must_use]
    pub const fn batch(cells: &'a [Cell], positions: &'a [[T; 3]]) -> Self {
        Self {
            replica: 0,
            text: b"",
            cells,
            positions,
        }
    }

    /// Sets the replica (bead) that INIT names. The default is 0; it may be negative, as i-PI's
    /// may.
    #[must_use]
    pub const fn replica(self, replica: i32) -> Self {
        Self { replica, ..self }
    }

    /// Sets the text of INIT for a driver that asks for it. The default is one blank, because
    /// Quantum ESPRESSO 6.7 takes the length for a set of flags, and an empty text ends every
    /// driver built on i-PI's C `readbuffer`. NWChem has room for 80 bytes and doesn't check.
    /// `batch_size` is added if batches are announced ([`Mode::Batched`](crate::Mode::Batched)).
    /// The text must not contain it. This is not checked, and a driver would expect batches that
    /// never come.
    #[must_use]
    pub const fn init(self, text: &'a [u8]) -> Self {
        Self { text, ..self }
    }

    /// The number of atoms of each structure.
    pub(super) const fn natoms(&self) -> usize {
        match self.positions.len().checked_div(self.cells.len()) {
            Some(natoms) => natoms,
            None => 0,
        }
    }

    /// The text of INIT for drivers that accept batches of this size.
    pub(super) const fn announcement(&self, batch_size: usize) -> Announcement<'a> {
        Announcement {
            text: self.text,
            batch_size,
        }
    }

    /// Checks that the structures can be sent to a driver.
    #[cfg(feature = "std")]
    pub(crate) fn check(&self, not_finite: bool) -> Result<(), ProtocolError>
    where
        T: Scalar,
    {
        let mut reason = ProtocolError::SingularCell;
        let mut checked = self.check_atoms(&mut reason, not_finite);
        let mut inverse = [[0.0; 3]; 3];
        for cell in self.cells {
            let inverted = cell.invert_upper(&mut inverse) && cell.is_thick();
            checked = checked.and_then(|()| check_cell(&mut reason, cell, inverted));
        }
        checked.map_err(|Refused| reason)
    }

    /// Checks that the atoms can be sent to a driver.
    pub(super) fn check_atoms(
        &self,
        reason: &mut ProtocolError,
        not_finite: bool,
    ) -> Result<(), Refused>
    where
        T: Scalar,
    {
        let structures = self.cells.len();
        check_length(reason, Quantity::Structures, structures, structures.max(1))?;
        let natoms = self.natoms().min(MOST_ATOMS);
        let expected = natoms.saturating_mul(structures);
        check_length(reason, Quantity::Positions, self.positions.len(), expected)?;
        if not_finite || T::all_finite(self.positions.as_flattened()) {
            Ok(())
        } else {
            refuse(reason, ProtocolError::NotFinite(Quantity::Positions))
        }
    }

    /// The cell of structure `index` of a message. A message may have more structures than the
    /// request; those are copies of the last.
    pub(super) fn cell(&self, index: usize) -> &'a Cell {
        const NONE: &Cell = &Cell::orthorhombic([0.0; 3]);
        let last = self.cells.len().saturating_sub(1);
        self.cells.get(index.min(last)).unwrap_or(NONE)
    }

    /// The structure to which number `first` of a message's positions belongs.
    pub(super) fn structure(&self, first: usize) -> usize {
        first.checked_div(self.natoms() * 3).unwrap_or(0)
    }

    /// The positions from number `first` of a message on, as many as are contiguous in memory: the
    /// rest of the request's, or of one copy.
    pub(super) fn numbers(&self, first: usize) -> &'a [T] {
        let numbers = self.positions.as_flattened();
        let each = self.natoms() * 3;
        let copies = first.saturating_sub(numbers.len());
        let from = match copies.checked_rem(each) {
            Some(rest) if first >= numbers.len() => numbers.len() - each + rest,
            _ => first,
        };
        numbers.get(from..).unwrap_or_default()
    }

    /// Like [`numbers`](Self::numbers), up to the end of their structure.
    pub(super) fn numbers_of_structure(&self, first: usize) -> &'a [T] {
        let each = self.natoms() * 3;
        let rest = each - first.checked_rem(each).unwrap_or(0);
        let numbers = self.numbers(first);
        numbers.get(..rest).unwrap_or(numbers)
    }
}

/// The most atoms of a structure that can be announced.
const MOST_ATOMS: usize = i32::MAX as usize;

/// Checks that this cell can be sent to a driver; `inverted` says whether it has an inverse.
#[inline(never)]
pub(super) fn check_cell(
    reason: &mut ProtocolError,
    cell: &Cell,
    inverted: bool,
) -> Result<(), Refused> {
    let error = if !cell.is_finite() {
        ProtocolError::NotFinite(Quantity::Cell)
    } else if !cell.is_upper_triangular() {
        ProtocolError::NotUpperTriangular
    } else if !inverted {
        ProtocolError::SingularCell
    } else {
        return Ok(());
    };
    refuse(reason, error)
}
