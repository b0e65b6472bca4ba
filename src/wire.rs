//! The bytes of the protocol: headers, sizes and offsets. No other file knows them.
//!
//! Integers are 4-byte signed and reals binary64, both in the peers' native order, which is little-endian
//! everywhere in practice. Atomic units throughout (i-PI 3.3.1 `ipi/interfaces/sockets.py`).

use core::cmp::Ordering;

use crate::scalar::to_wire;
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

/// Whether `frame`, read as POSDATA of one structure, can only be the beginning of a batch.
///
/// In a batch the number of atoms comes first and shifts everything by four bytes. i-PI is the only server
/// that sends batches, its cells are upper-triangular and so are their inverses: zeros below the diagonal,
/// and on it numbers of a size that cells have. A lone structure read four bytes late is noise: the
/// exponents on its diagonal are low halves of other numbers. Compares bits, because a device without
/// floating point should not need it for this.
pub(crate) fn is_batch(mut frame: &[u8]) -> bool {
    let counted = take_i32(&mut frame) > 0;
    let (numbers, _) = frame.as_chunks();
    let upper_triangular = (0..9).cycle().zip(numbers).take(18).all(|(at, number)| {
        // Without its sign.
        let bits = u64::from_le_bytes(*number) << 1;
        match (at % 3).cmp(&(at / 3)) {
            Ordering::Less => bits == 0,
            Ordering::Equal => is_sized(bits >> 1),
            Ordering::Greater => true,
        }
    });
    counted && upper_triangular
}

/// Whether lengths, in bohr, have been sent big-endian: read so, all have a size that lengths have, and as they are not
/// even 2^-256 to 2^256 holds all of them.
///
/// Noughts tell nothing. Short numbers, 10 or 0.5, are next to nothing the other way round; of others the sizes are dice,
/// and one in four passes for a length. In the right order a number of no size is rare, and dice that make lengths of
/// all the others are too. Bits, as above.
pub(crate) fn is_big_endian(lengths: &[u8]) -> bool {
    let (lengths, _) = lengths.as_chunks();
    let mut reversed = lengths.iter().map(|it| u64::from_be_bytes(*it));
    let mut sent = lengths.iter().map(|it| u64::from_le_bytes(*it));
    // The first number ends this nearly always.
    reversed.all(|bits| is_zero(bits) || is_sized(bits))
        && sent.any(|bits| !is_zero(bits) && !(1023 - 256..=1023 + 256).contains(&exponent(bits)))
}

const fn is_zero(bits: u64) -> bool {
    bits << 1 == 0
}

/// Whether a number is one of those that cells have: 2^-64 to 2^65.
fn is_sized(bits: u64) -> bool {
    (1023 - 64..=1023 + 64).contains(&exponent(bits))
}

const fn exponent(bits: u64) -> u64 {
    bits << 1 >> 53
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

    #[test]
    fn a_batch_has_atoms() {
        for (natoms, expected) in [(-1, false), (0, false), (1, true), (1000, true)] {
            let mut frame = [0; INTEGER + CELL];
            let (count, cell) = frame.split_at_mut(INTEGER);
            count.copy_from_slice(&i32::to_le_bytes(natoms));
            let one = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
            put_cell(&Cell::orthorhombic([1.0; 3]), &one, cell);
            assert_eq!(is_batch(&frame), expected, "{natoms}");
        }
    }

    #[test]
    fn sizes_that_lengths_have() {
        let two_to = |power: i32| libm::exp2(power.into());
        for (power, expected) in [
            (-65, false),
            (-64, true),
            (0, true),
            (64, true),
            (65, false),
        ] {
            assert_eq!(is_sized(two_to(power).to_bits()), expected, "2^{power}");
        }
        // Read the other way round, each of these is 1 and a bit.
        for (power, expected) in [(-257, true), (-256, false), (256, false), (257, true)] {
            let [.., low, high] = two_to(power).to_le_bytes();
            let sent = [0x3f, 0xf0, 0, 0, 0, 0, low, high];
            assert_eq!(is_big_endian(&sent), expected, "2^{power}");
        }
    }
}
