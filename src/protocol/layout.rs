//! The fields of each message: their order, their sizes and their bytes. No other file knows them.
//!
//! Integers are 4-byte signed and reals binary64, both in the peers' native order, which is
//! little-endian everywhere in practice. Atomic units throughout (i-PI 3.3.1
//! `ipi/interfaces/sockets.py`).

use super::scalar::to_wire;
use crate::geometry::{Cell, Virial};

/// Bytes of an integer.
pub(crate) const INTEGER: usize = 4;
/// Bytes of a real.
pub(crate) const REAL: usize = 8;
/// Bytes of one atom's position or force.
pub(crate) const ATOM: usize = 3 * REAL;
/// Bytes of a matrix: h, its inverse, a virial.
pub(crate) const MATRIX: usize = 9 * REAL;
/// Bytes of a cell: h and the inverse that goes with it.
pub(crate) const CELL: usize = 2 * MATRIX;
/// Bytes of POSDATA between its header and the positions: the cell, then the number of atoms.
pub(crate) const FRAME: usize = CELL + INTEGER;
/// Bytes of INIT between its header and the text: replica and length.
pub(crate) const INIT: usize = 2 * INTEGER;

/// Takes an integer from the front. Zero where the bytes have run out, which the lengths above exclude.
pub(crate) fn take_i32(bytes: &mut &[u8]) -> i32 {
    i32::from_le_bytes(take(bytes))
}

/// Takes a cell from the front, h only: peers send the inverse, its transpose, zeros or the identity behind it.
pub(crate) fn take_cell(bytes: &mut &[u8], cell: &mut Cell) {
    take_matrix(bytes, cell.h_mut());
    *bytes = bytes.get(MATRIX..).unwrap_or_default();
}

/// Takes nine reals from the front, row by row. In place: on the way through a result they would be on the stack twice.
pub(crate) fn take_matrix(bytes: &mut &[u8], rows: &mut [[f64; 3]; 3]) {
    for value in rows.as_flattened_mut() {
        *value = take_f64(bytes);
    }
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

/// Writes a virial as it is sent: the full matrix, though i-PI reads its upper triangle only.
pub(crate) fn put_virial(virial: &Virial, bytes: &mut [u8]) {
    to_wire(virial.0.as_flattened(), bytes);
}

/// Writes a cell as it is sent: h and its inverse.
pub(crate) fn put_cell(cell: &Cell, inverse: &[[f64; 3]; 3], bytes: &mut [u8]) {
    let (h, behind) = bytes.split_at_mut_checked(MATRIX).unwrap_or_default();
    to_wire(cell.h().as_flattened(), h);
    to_wire(inverse.as_flattened(), behind);
}
