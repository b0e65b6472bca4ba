//! Messages that arrive whole and mean something else: batches that were not announced, and numbers
//! whose bytes are in the wrong order.

use core::cmp::Ordering;

use super::layout::take_i32;

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
    use crate::geometry::Cell;
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
