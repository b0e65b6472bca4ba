//! A digest of the caller's arrays. With it a new exchange proves that it continues the interrupted
//! one.

/// A 64-bit digest of the numbers and texts of an exchange.
///
/// Addresses prove nothing: freed memory is often allocated again at the same address, and a
/// program that moves its atoms does so within one array. The arrays must still hold everything
/// that has moved. Therefore the fingerprint is computed when an exchange is dropped in the middle
/// of a message, and again from the arrays of the next exchange. There is no such cost for an
/// exchange that is kept or that ends.
///
/// Two lanes of 32 bits, with one multiplication each. On a Cortex-M0 that is a single instruction,
/// whereas a 64-bit multiplication would be a call. The digest guards against mistakes, not against
/// an attacker: the caller owns both arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(u32, u32);

impl Fingerprint {
    pub(crate) const fn new() -> Self {
        Self(0x811c_9dc5, 0x9e37_79b9)
    }

    /// Adds a number.
    pub(crate) const fn word(&mut self, word: u32) {
        self.0 = (self.0 ^ word).wrapping_mul(0x0100_0193).rotate_left(13);
        self.1 = (self.1.rotate_left(5) ^ word).wrapping_mul(0x85eb_ca6b);
    }

    /// Adds bytes and their number.
    #[inline(never)]
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        for word in words {
            self.word(u32::from_le_bytes(*word));
        }
        for &byte in rest {
            self.word(byte.into());
        }
        self.word(bytes.len() as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pieces: &[&[u8]]) -> Fingerprint {
        let mut fingerprint = Fingerprint::new();
        for piece in pieces {
            fingerprint.bytes(piece);
        }
        fingerprint
    }

    #[test]
    fn every_bit_and_every_length_counts() {
        let array = [0_u8; 96];
        let mut seen = std::vec![of(&[&array])];
        for bit in 0..8 * array.len() {
            let mut other = array;
            other[bit / 8] ^= 1 << (bit % 8);
            seen.push(of(&[&other]));
        }
        for len in 0..array.len() {
            seen.push(of(&[&array[..len]]));
            seen.push(of(&[&array[..len], &array[len..]]));
        }
        let count = seen.len();
        seen.sort_by_key(|digest| (digest.0, digest.1));
        seen.dedup();
        assert_eq!(seen.len(), count);
    }

    #[test]
    fn the_order_counts() {
        assert_ne!(
            of(&[&[1, 0, 0, 0, 2, 0, 0, 0]]),
            of(&[&[2, 0, 0, 0, 1, 0, 0, 0]])
        );
    }
}
