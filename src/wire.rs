//! The bytes of the protocol: headers, sizes and offsets. No other file knows them.
//!
//! Integers are 4-byte signed and reals binary64, both in the peers' native order, which is little-endian
//! everywhere in practice. Atomic units throughout (i-PI 3.3.1 `ipi/interfaces/sockets.py`).

use crate::{Cell, Virial};

/// Bytes of a header.
pub(crate) const HEADER: usize = 12;
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

/// The first twelve bytes of every message: upper-case ASCII, padded with blanks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Header {
    /// Server: what state are you in?
    Status,
    /// Server: the replica that you will compute, and a text of parameters.
    Init,
    /// Server: a cell and positions.
    PosData,
    /// Server: send the forces.
    GetForce,
    /// Server: that was all.
    Exit,
    /// Driver's answer to STATUS: send INIT first.
    NeedInit,
    /// Driver's answer to STATUS: send positions.
    Ready,
    /// Driver's answer to STATUS: ask for the forces.
    HaveData,
    /// Driver: energy, forces, virial and extras.
    ForceReady,
}

impl Header {
    const ALL: [Self; 9] = [
        Self::Status,
        Self::Init,
        Self::PosData,
        Self::GetForce,
        Self::Exit,
        Self::NeedInit,
        Self::Ready,
        Self::HaveData,
        Self::ForceReady,
    ];

    /// The header as it is sent.
    #[must_use]
    pub const fn bytes(self) -> &'static [u8; HEADER] {
        match self {
            Self::Status => b"STATUS      ",
            Self::Init => b"INIT        ",
            Self::PosData => b"POSDATA     ",
            Self::GetForce => b"GETFORCE    ",
            Self::Exit => b"EXIT        ",
            Self::NeedInit => b"NEEDINIT    ",
            Self::Ready => b"READY       ",
            Self::HaveData => b"HAVEDATA    ",
            Self::ForceReady => b"FORCEREADY  ",
        }
    }

    /// The word without its padding.
    #[must_use]
    pub fn name(self) -> &'static str {
        core::str::from_utf8(self.bytes())
            .unwrap_or_default()
            .trim_end()
    }

    /// Reads a header; trailing blanks and NULs (C drivers pad with them) are all the same.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|header| word(bytes) == word(header.bytes()))
    }
}

/// A header without its padding.
pub(crate) fn word(bytes: &[u8]) -> &[u8] {
    let padding = bytes
        .iter()
        .rev()
        .take_while(|&&byte| byte == b' ' || byte == 0)
        .count();
    bytes.get(..bytes.len() - padding).unwrap_or_default()
}

/// Takes an integer from the front. Zero where the bytes have run out, which the lengths above exclude.
pub(crate) fn take_i32(bytes: &mut &[u8]) -> i32 {
    i32::from_le_bytes(take(bytes))
}

/// Takes a cell from the front, h only: peers send the inverse, its transpose, zeros or the identity behind it.
pub(crate) fn take_cell(bytes: &mut &[u8]) -> Cell {
    let h = take_matrix(bytes);
    *bytes = bytes.get(MATRIX..).unwrap_or_default();
    Cell::from_rows(h)
}

/// Takes nine reals from the front, row by row.
pub(crate) fn take_matrix(bytes: &mut &[u8]) -> [[f64; 3]; 3] {
    core::array::from_fn(|_| core::array::from_fn(|_| f64::from_le_bytes(take(bytes))))
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

/// A virial as it is sent: the full matrix, though i-PI reads its upper triangle only.
pub(crate) fn virial(virial: &Virial) -> [u8; MATRIX] {
    matrix(&virial.0)
}

/// A cell as it is sent: h and its true inverse.
pub(crate) fn cell(cell: &Cell) -> [u8; CELL] {
    let mut bytes = [0; CELL];
    let (h, inverse) = bytes.split_at_mut(MATRIX);
    h.copy_from_slice(&matrix(cell.h()));
    inverse.copy_from_slice(&matrix(&cell.inverse().unwrap_or_default()));
    bytes
}

/// Nine reals as they are sent, row by row.
pub(crate) fn matrix(rows: &[[f64; 3]; 3]) -> [u8; MATRIX] {
    let mut bytes = [0; MATRIX];
    crate::scalar::to_wire(rows.as_flattened(), &mut bytes);
    bytes
}

/// Whether `frame`, read as POSDATA of one structure, can only be the beginning of a batch.
///
/// In a batch the number of atoms comes first and shifts everything by four bytes. i-PI is the only server
/// that sends batches, its cells are upper-triangular and so are their inverses: zeros below the diagonal,
/// and on it numbers of a size that cells have. A lone structure read four bytes late is noise: the
/// exponents on its diagonal are low halves of other numbers. Compares bits, because a device without
/// floating point should not need it for this.
pub(crate) fn is_batch(mut frame: &[u8]) -> bool {
    let counted = take_i32(&mut frame) > 0;
    let upper_triangular = |matrix: [[f64; 3]; 3]| {
        let [[xx, _, _], [yx, yy, _], [zx, zy, zz]] = matrix.map(|row| row.map(f64::to_bits));
        let zero = |bits: u64| bits << 1 == 0;
        let sized = |bits: u64| {
            let exponent = bits << 1 >> 53;
            (1023 - 64..=1023 + 64).contains(&exponent)
        };
        zero(yx) && zero(zx) && zero(zy) && sized(xx) && sized(yy) && sized(zz)
    };
    counted
        && upper_triangular(take_matrix(&mut frame))
        && upper_triangular(take_matrix(&mut frame))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_twelve_bytes_and_are_known_again() {
        for header in Header::ALL {
            assert_eq!(Header::parse(header.bytes()), Some(header));
        }
        assert_eq!(Header::ForceReady.name(), "FORCEREADY");
    }

    #[test]
    fn padding_may_be_nuls_and_nothing_else_may_differ() {
        assert_eq!(Header::parse(b"EXIT\0\0\0\0\0\0\0\0"), Some(Header::Exit));
        assert_eq!(Header::parse(b"EXIT \0      "), Some(Header::Exit));
        assert_eq!(Header::parse(b"exit        "), None);
        assert_eq!(Header::parse(b" EXIT       "), None);
        assert_eq!(Header::parse(b"EXITS       "), None);
        assert_eq!(Header::parse(&[0; 12]), None);
        assert_eq!(Header::parse(b"            "), None);
    }
}
