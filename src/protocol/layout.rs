//! The fields of each message: their order, their sizes and their bytes. No other file knows them.
//!
//! Integers are 4-byte signed and reals binary64, both in the peers' native order, which is
//! little-endian everywhere in practice. Atomic units throughout (`src/manual/protocol.md`, section
//! 1; i-PI 3.3.1 `ipi/interfaces/sockets.py`).
//!
//! ```text
//! INIT         header  replica  length  text
//! POSDATA      header  cell  atoms  positions
//!   of a batch header  atoms  cell…  positions
//! FORCEREADY   header  energy…  atoms  forces  virial…  (length  extras)…
//! ```
//!
//! "…" repeats a field for each structure of a batch. All other messages are only a header.

use super::header::Header;
use super::scalar::{from_wire, to_wire};
use crate::geometry::{Cell, Virial};

/// The size of an integer in bytes.
pub(crate) const INTEGER: usize = 4;
/// The size of a real in bytes.
pub(crate) const REAL: usize = 8;
/// The size of one atom's position or force in bytes.
pub(crate) const ATOM: usize = 3 * REAL;
/// The size of a matrix in bytes: h, its inverse, or a virial.
pub(crate) const MATRIX: usize = 9 * REAL;
/// The size of a cell in bytes: h and its inverse.
pub(crate) const CELL: usize = 2 * MATRIX;

/// A part of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Header,
    /// The replica of INIT.
    Replica,
    /// The length of INIT's text, and the text itself.
    TextLength,
    Text,
    /// h and its inverse.
    Cell,
    /// The number of atoms of each structure.
    Atoms,
    /// The positions of all structures.
    Positions,
    Energy,
    /// The forces on the atoms of all structures.
    Forces,
    Virial,
    /// The length of the extras, and the extras themselves.
    ExtrasLength,
    Extras,
    /// The message is complete.
    End,
}

/// The place of the next byte in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) field: Field,
    /// How much of the field is complete: structures, numbers of positions or forces, or bytes of
    /// INIT's text.
    pub(crate) index: usize,
}

impl Place {
    pub(crate) const HEADER: Self = Self::start(Field::Header);
    pub(crate) const END: Self = Self::start(Field::End);

    /// The beginning of a field.
    pub(crate) const fn start(field: Field) -> Self {
        Self { field, index: 0 }
    }

    /// The same field, further along: `index` is complete.
    pub(crate) const fn at(self, index: usize) -> Self {
        Self {
            field: self.field,
            index,
        }
    }

    /// The field that follows in a message with this many structures. POSDATA of a batch of at
    /// least two has its own order (i-PI 3.3.1 `dispatch_send_batch`). FORCEREADY of a batch of one
    /// is the same as without batches.
    pub(crate) const fn next(self, message: Header, structures: usize) -> Self {
        let batch = structures > 1;
        let again = self.index + 1 < structures;
        Self::start(match (message, self.field) {
            (_, Field::Cell | Field::Energy | Field::Virial) if again => {
                return self.at(self.index + 1);
            }
            (_, Field::ExtrasLength) => {
                return Self {
                    field: Field::Extras,
                    index: self.index,
                };
            }
            (_, Field::Extras) if again => {
                return Self {
                    field: Field::ExtrasLength,
                    index: self.index + 1,
                };
            }

            (Header::Init, Field::Header) => Field::Replica,
            (_, Field::Replica) => Field::TextLength,
            (_, Field::TextLength) => Field::Text,

            (Header::PosData, Field::Header) if batch => Field::Atoms,
            (Header::PosData, Field::Atoms) if batch => Field::Cell,
            (_, Field::Cell) if batch => Field::Positions,
            (Header::PosData, Field::Header) => Field::Cell,
            (_, Field::Cell) => Field::Atoms,
            (Header::PosData, Field::Atoms) => Field::Positions,

            (Header::ForceReady, Field::Header) => Field::Energy,
            (_, Field::Energy) => Field::Atoms,
            (_, Field::Atoms) => Field::Forces,
            (_, Field::Forces) => Field::Virial,
            (_, Field::Virial) => Field::ExtrasLength,
            _ => Field::End,
        })
    }

    /// How many bytes a reader reads at once from here: a field of fixed length, and the count
    /// after it if there is one. 0 for fields whose length was announced.
    pub(crate) const fn fixed(self, structures: usize) -> usize {
        let last = self.index + 1 >= structures;
        match self.field {
            Field::Atoms | Field::ExtrasLength => INTEGER,
            Field::Replica => INTEGER + INTEGER,
            Field::Cell if structures > 1 => CELL,
            Field::Cell => CELL + INTEGER,
            Field::Energy if last => REAL + INTEGER,
            Field::Energy => REAL,
            Field::Virial if last => MATRIX + INTEGER,
            Field::Virial => MATRIX,
            _ => 0,
        }
    }
}

/// Takes an integer from the front. Returns zero if the bytes run out, which the lengths above
/// exclude.
pub(crate) fn take_i32(bytes: &mut &[u8]) -> i32 {
    i32::from_le_bytes(take(bytes))
}

/// Takes a cell from the front and uses only h: after it peers send the inverse, its transpose,
/// zeros or the identity.
pub(crate) fn take_cell(bytes: &mut &[u8], cell: &mut Cell) {
    take_matrix(bytes, cell.h_mut());
    *bytes = bytes.get(MATRIX..).unwrap_or_default();
}

/// Takes nine reals from the front, row by row. They are written in place, because a returned
/// matrix would be on the stack twice.
pub(crate) fn take_matrix(bytes: &mut &[u8], rows: &mut [[f64; 3]; 3]) {
    from_wire(bytes, rows.as_flattened_mut());
    *bytes = bytes.get(MATRIX..).unwrap_or_default();
}

fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let Some((head, tail)) = bytes.split_first_chunk() else {
        return [0; N];
    };
    *bytes = tail;
    *head
}

/// Takes a real from the front.
pub(crate) fn take_f64(bytes: &mut &[u8]) -> f64 {
    f64::from_le_bytes(take(bytes))
}

/// The bytes of a number of atoms or bytes. Numbers that don't fit have been refused before.
pub(crate) fn length(len: usize) -> [u8; INTEGER] {
    i32::try_from(len).unwrap_or(i32::MAX).to_le_bytes()
}

/// Writes a virial in the format of the wire: the full matrix, although i-PI reads only its upper
/// triangle.
pub(crate) fn put_virial(virial: &Virial, bytes: &mut [u8]) {
    to_wire(virial.0.as_flattened(), bytes);
}

/// Writes a cell in the format of the wire: h and its inverse.
pub(crate) fn put_cell(cell: &Cell, inverse: &[[f64; 3]; 3], bytes: &mut [u8]) {
    let (h, after) = bytes.split_at_mut_checked(MATRIX).unwrap_or_default();
    to_wire(cell.h().as_flattened(), h);
    to_wire(inverse.as_flattened(), after);
}

#[cfg(test)]
mod tests {
    use super::{Field, Place};
    use crate::protocol::Header as Message;
    use Field::*;

    /// The fields of each message, copied by hand from i-PI 3.3.1 (`ipi/interfaces/sockets.py`,
    /// `dispatch_send`, `dispatch_send_batch`, `get_driver_message`).
    #[test]
    fn messages_have_their_fields_in_this_order() {
        let batch = [
            Header,
            Energy,
            Energy,
            Atoms,
            Forces,
            Virial,
            Virial,
            ExtrasLength,
            Extras,
            ExtrasLength,
            Extras,
        ];
        for (message, structures, fields) in [
            (Message::Init, 1, &[Header, Replica, TextLength, Text][..]),
            (Message::PosData, 1, &[Header, Cell, Atoms, Positions]),
            (Message::PosData, 2, &[Header, Atoms, Cell, Cell, Positions]),
            (
                Message::ForceReady,
                1,
                &[Header, Energy, Atoms, Forces, Virial, ExtrasLength, Extras],
            ),
            (Message::ForceReady, 2, &batch),
            (Message::Status, 1, &[Header]),
            (Message::GetForce, 3, &[Header]),
        ] {
            let mut place = Place::HEADER;
            for &field in fields {
                assert_eq!(place.field, field, "{message:?} of {structures}");
                place = place.next(message, structures);
            }
            assert_eq!(place, Place::END, "{message:?} of {structures}");
        }
    }

    #[test]
    fn a_count_is_read_with_the_field_before_it() {
        for (structures, field, index, expected) in [
            (1, Cell, 0, 148),
            (2, Atoms, 0, 4),
            (2, Cell, 1, 144),
            (1, Replica, 0, 8),
            (1, Energy, 0, 12),
            (2, Energy, 0, 8),
            (2, Energy, 1, 12),
            (2, Virial, 1, 76),
            (2, ExtrasLength, 1, 4),
            (2, Extras, 0, 0),
        ] {
            let place = Place { field, index };
            assert_eq!(place.fixed(structures), expected, "{place:?}");
        }
    }
}
