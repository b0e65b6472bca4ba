//! Recognizes complete messages with another meaning: unannounced batches, and numbers in another
//! format.
//!
//! All checks compare bits, so that a device without floating point needs no soft float for them.
//!
//! # How often the format of numbers is judged wrongly
//!
//! A big-endian server reverses both its cells and its positions: the last column of the last
//! table. In all other cases the cell or the positions are correct. Random bits are not recognized:
//! integers from 2^52 on, and big-endian integers.
//!
//! Out of 6000 structures each (`cargo test --test numbers format`):
//!
//! | Right positions that are refused | 1 atom | 2 atoms | 8 atoms | 64 atoms |
//! |---|---|---|---|---|
//! | damped oscillators along x, steps 0 to 5999 | 0 | 0 | 0 | 0 |
//! | damped oscillators in space, steps 0 to 5999 | 0 | 0 | 0 | 0 |
//! | the same along x, steps 6000 to 11999 | 0 | 5271 | 5270 | 5270 |
//! | the same in space, steps 6000 to 11999 | 5270 | 5270 | 5270 | 5269 |
//! | anywhere in a box of 1 to 100 bohr | 0 | 0 | 0 | 0 |
//! | points of a lattice of any spacing | 0 | 0 | 0 | 0 |
//! | a molecule in the xy plane, z below 1e-16 | 0 | 0 | 0 | 0 |
//! | anywhere, rounded to `f32` | 0 | 0 | 0 | 0 |
//! | multiples of 1/8 | 0 | 0 | 0 | 0 |
//! | the origin, and the last atom near it | 0 | 0 | 0 | 0 |
//!
//! | Wrong positions that are accepted | 1 atom | 2 atoms | 8 atoms | 64 atoms |
//! |---|---|---|---|---|
//! | `int64`, 0 to 9 | 166 | 0 | 0 | 0 |
//! | `int64`, -9 to 9 | 24 | 0 | 0 | 0 |
//! | `int64`, to 2^50 | 0 | 0 | 0 | 0 |
//! | pointers, 0x00007f… | 0 | 0 | 0 | 0 |
//! | pointers, 0x000055… | 0 | 0 | 0 | 0 |
//! | pairs of `uint32` to 1000 | 0 | 0 | 0 | 0 |
//! | pairs of any `uint32` | 5993 | 5984 | 5931 | 5428 |
//!
//! | Reversed positions that are accepted | 1 atom | 2 atoms | 8 atoms | 64 atoms |
//! |---|---|---|---|---|
//! | damped oscillators along x, steps 0 to 5999 | 5996 | 5993 | 5765 | 5587 |
//! | damped oscillators in space, steps 0 to 5999 | 5798 | 5768 | 5724 | 5237 |
//! | anywhere in a box of 1 to 100 bohr | 581 | 0 | 0 | 0 |
//! | points of a lattice of any spacing | 5997 | 5994 | 5992 | 366 |
//! | a molecule in the xy plane, z below 1e-16 | 5996 | 102 | 27 | 40 |
//! | anywhere, rounded to `f32` | 0 | 0 | 0 | 0 |
//! | multiples of 1/8 | 0 | 0 | 0 | 0 |
//! | `int64`, 0 to 9 | 6000 | 6000 | 6000 | 6000 |
//! | `int64`, to 2^50 | 5990 | 5980 | 5922 | 5462 |
//! | pointers, 0x00007f… | 6000 | 6000 | 6000 | 6000 |
//! | pointers, 0x000055… | 6000 | 6000 | 6000 | 6000 |
//! | pairs of `uint32` to 1000 | 6000 | 6000 | 6000 | 6000 |
//! | pairs of any `uint32` | 5995 | 5984 | 5944 | 5454 |
//!
//! | Cells | right, refused | `int64`, accepted | reversed, accepted | and 8 atoms |
//! |---|---|---|---|---|
//! | cubic, 1 to 100 bohr | 0 | 0 | 179 | 0 |
//! | orthorhombic | 0 | 0 | 14 | 0 |
//! | upper triangular | 0 | 0 | 0 | 0 |
//! | orthorhombic, with residues below 1e-16 | 0 | 0 | 35 | 0 |
//! | cubic, rounded to `f32` | 0 | 0 | 0 | 0 |
//! | orthorhombic, multiples of 1/8 | 0 | 0 | 0 | 0 |

use super::error::Quantity;
use super::layout::{REAL, take_i32};

/// Whether `frame`, read as POSDATA of one structure, can only be the beginning of a batch.
///
/// In a batch the number of atoms comes first and shifts everything by four bytes. i-PI is the only
/// server that sends batches. Its cells and their inverses are upper triangular: zeros below the
/// diagonal, and possible lengths on it. A single structure read four bytes late is noise, because
/// the exponents on its diagonal are low halves of other numbers.
pub(crate) fn is_batch(mut frame: &[u8]) -> bool {
    let counted = take_i32(&mut frame) > 0;
    let (numbers, _) = frame.as_chunks();
    let upper_triangular = UPPER_TRIANGULAR.iter().zip(numbers).all(|(kind, number)| {
        let [low, high] = halves(*number);
        match kind {
            b'0' => low | high << 1 == 0,
            b'1' => is_possible(high),
            _ => true,
        }
    });
    counted && upper_triangular
}

/// The expected kind of each number in h and its inverse: zero, a length, or anything.
const UPPER_TRIANGULAR: &[u8; 18] = b"1..01.0011..01.001";

/// The apparent format of numbers that should be lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Little-endian binary64, or too few numbers to judge.
    Reals,
    /// Big-endian binary64.
    Reversed,
    /// Integers, pointers, or two 32-bit halves in place of one number.
    Integers,
}

impl Format {
    /// Judges the format of lengths in bohr as received: the nine numbers of h, or positions from
    /// the first one on.
    ///
    /// Only the first [`JUDGED`] numbers are used. Zeros carry no information, and one number is
    /// never enough. In a cell two [witnesses](are_reversed) are enough, equal or not: most cells
    /// are cubic, and no cell shrinks to nothing. Two are also enough if all numbers are subnormal,
    /// as short numbers such as 10 or 0.5 are with their bytes reversed.
    // Returns one byte: an error would be copied here and take stack below everything else.
    #[inline(never)]
    pub(crate) fn of(sent: &[u8], quantity: Quantity) -> Self {
        let sent = sent.get(..JUDGED * REAL).unwrap_or(sent);
        let (numbers, _) = sent.as_chunks();
        let are_integers = are_integers(numbers);
        if are_reversed(numbers, are_integers || quantity == Quantity::Cell) {
            Self::Reversed
        } else if are_integers {
            Self::Integers
        } else {
            Self::Reals
        }
    }
}

/// Whether all numbers are subnormal or negative integers, and at least two are subnormal: the
/// server sent integers, pointers, or two halves in place of one number.
// A normal structure ends this loop at its first nonzero number.
#[inline(never)] // like the next one, so that each has only its own numbers on the stack
fn are_integers(numbers: &[[u8; REAL]]) -> bool {
    let mut subnormal = 0;
    for number in numbers {
        let [low, high] = halves(*number);
        if exponent(high) != 0 {
            if high <= NEGATIVE_INTEGERS {
                return false;
            }
        } else if low | high << 1 != 0 {
            subnormal += 1;
        }
    }
    subnormal >= 2
}

/// Whether all numbers are possible lengths with their bytes reversed, and enough of them are
/// witnesses.
///
/// A witness is a number that is a typical length only when reversed. Three witnesses with
/// different low halves are enough; x, -x and x / 2 count as one. If `equal_count` is true, any two
/// are enough.
// A normal structure ends this loop at its first or second nonzero number.
#[inline(never)]
fn are_reversed(numbers: &[[u8; REAL]], equal_count: bool) -> bool {
    let mut witnesses = if equal_count { 1 } else { 0 };
    // The low halves of the last two witnesses. None is zero: its reverse would be subnormal.
    let (mut last, mut last_but_one) = (0, 0);
    for number in numbers {
        let [low, high] = halves(*number);
        let reversed = low.swap_bytes();
        if !is_possible(reversed) {
            // Zeros are neutral, and so is a reversed -0.
            if low | high << 1 != 0 && (low, high) != (0x80, 0) {
                return false;
            }
        } else if is_typical(reversed)
            && !is_typical(high)
            && (equal_count || low != last && low != last_but_one)
        {
            (last, last_but_one) = (low, last);
            witnesses += 1;
        }
    }
    witnesses >= 3
}

/// The most numbers that [`Format::of`] uses: 16 atoms.
///
/// The limit is the same for positions converted in small pieces and for a whole array, so that
/// both are judged alike.
pub(crate) const JUDGED: usize = 16 * 3;

/// A number with a larger high half has the bits of a negative integer, down to about -2^51.
///
/// All these numbers are NaNs. A NaN with exactly this high half is the one that processors
/// produce, so it does not count.
const NEGATIVE_INTEGERS: u32 = 0xfff8_0000;

/// The low and the high half of a number. The high half contains the sign and the exponent.
const fn halves([a, b, c, d, e, f, g, h]: [u8; 8]) -> [u32; 2] {
    [
        u32::from_le_bytes([a, b, c, d]),
        u32::from_le_bytes([e, f, g, h]),
    ]
}

/// Whether a number with this high half can be a length or a rounding error, in bohr: 2^-64 to
/// 2^65.
fn is_possible(high: u32) -> bool {
    (1023 - 64..=1023 + 64).contains(&exponent(high))
}

/// Whether a number with this high half is a typical length, in bohr: 2^-32 to 2^33.
fn is_typical(high: u32) -> bool {
    (1023 - 32..=1023 + 32).contains(&exponent(high))
}

const fn exponent(high: u32) -> u32 {
    high << 1 >> 21
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Cell;
    use crate::protocol::ProtocolError;
    use crate::protocol::layout::{CELL, INTEGER, put_cell};

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
    fn where_possible_and_typical_end() {
        let two_to = |power: i32| (libm::exp2(power.into()).to_bits() >> 32) as u32;
        for (power, possible, typical) in [
            (-65, false, false),
            (-64, true, false),
            (-33, true, false),
            (-32, true, true),
            (0, true, true),
            (32, true, true),
            (33, true, false),
            (64, true, false),
            (65, false, false),
        ] {
            assert_eq!(is_possible(two_to(power)), possible, "2^{power}");
            assert_eq!(is_typical(two_to(power)), typical, "2^{power}");
        }
    }

    /// The verdict on numbers with these bits.
    fn judged(quantity: Quantity, numbers: &[u64]) -> Result<(), ProtocolError> {
        let mut bytes = [0; 8 * 64];
        for (number, bytes) in numbers.iter().zip(bytes.as_chunks_mut().0) {
            *bytes = number.to_le_bytes();
        }
        match Format::of(&bytes[..8 * numbers.len()], quantity) {
            Format::Reals => Ok(()),
            Format::Reversed => Err(ProtocolError::BigEndian(quantity)),
            Format::Integers => Err(ProtocolError::NotReals(quantity)),
        }
    }

    #[test]
    fn one_number_is_no_evidence() {
        use Quantity::{Cell, Positions};

        // The reverse of 4/3, 1.2 and 1.1, which are not typical in this form.
        let [a, b, c] = [4.0 / 3.0, 1.2, 1.1_f64].map(|x| x.to_bits().swap_bytes());
        let big_endian = |quantity| Err(ProtocolError::BigEndian(quantity));
        for numbers in [
            &[a][..],
            &[a, 0, 0],
            &[a, a, a],
            &[a, b, a],
            &[a, a ^ 1 << 63, a ^ 1 << 54],
        ] {
            assert_eq!(judged(Positions, numbers), Ok(()), "{numbers:x?}");
        }
        for numbers in [&[a, b, c][..], &[a, a, b, 0, a, c]] {
            assert_eq!(
                judged(Positions, numbers),
                big_endian(Positions),
                "{numbers:x?}"
            );
        }
        assert_eq!(judged(Cell, &[a]), Ok(()));
        assert_eq!(judged(Cell, &[a, a]), big_endian(Cell));
        // -0 is neutral.
        assert_eq!(judged(Cell, &[a, 0x80, a]), big_endian(Cell));
        assert_eq!(judged(Cell, &[a, 0x80]), Ok(()));
        // A number that can't be a reversed length, here 10, refutes any evidence.
        assert_eq!(judged(Cell, &[a, b, c, 10_f64.to_bits()]), Ok(()));
        // Numbers that are typical in both byte orders are no evidence.
        let either = 3_f64.to_bits() | 0xf03f;
        assert_eq!(judged(Cell, &[either, either, a]), Ok(()));
        assert_eq!(judged(Cell, &[either, a, a]), big_endian(Cell));
    }

    #[test]
    fn two_subnormal_numbers_and_no_others_are_evidence() {
        use Quantity::Positions;

        let not_reals = Err(ProtocolError::NotReals(Positions));
        let minus = |x: i64| (-x).cast_unsigned();
        for numbers in [
            &[1, 2][..],
            &[3, 3],
            &[0, 0, 5, 1 << 63, 7],
            &[1, 1 << 51 | 1],
            &[1, minus(1), 2, minus((1 << 51) - (1 << 32))],
            &[0x0000_7f12_3456_7890, 0x0000_55aa_3456_7890],
        ] {
            assert_eq!(judged(Positions, numbers), not_reals, "{numbers:x?}");
        }
        for numbers in [
            &[][..],
            &[0, 1 << 63, 0],
            &[1],
            &[0, 0, 1, 0],
            &[1, minus(2), minus(3)],
            &[1, 2, 1.5_f64.to_bits()],
            &[1, 2, f64::MIN_POSITIVE.to_bits()],
            &[1, 2, f64::NAN.to_bits()],
            &[1, 2, (-f64::NAN).to_bits()],
        ] {
            assert_eq!(judged(Positions, numbers), Ok(()), "{numbers:x?}");
        }
    }

    #[test]
    fn only_the_first_sixteen_atoms_are_judged() {
        let mut numbers = [0; 64];
        numbers[46..].fill(1);
        assert!(judged(Quantity::Positions, &numbers).is_err());
        numbers[46] = 0;
        assert!(judged(Quantity::Positions, &numbers).is_ok());
    }
}
