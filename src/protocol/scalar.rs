//! The reals of the wire (little-endian binary64) and of memory: `f64` or `f32`, in either byte
//! order.

use super::layout::REAL;
use crate::geometry::are_finite;
use core::fmt::Debug;
use core::ops::{Add, AddAssign, Div, Mul, Neg, Sub, SubAssign};

/// A real number as the caller stores it: `f64`, or `f32` to halve the memory.
///
/// An `f64` on a little-endian CPU is laid out in memory as it is on the wire and is never
/// converted: the transport reads into and writes from the caller's array. All other arrays are
/// converted in chunks.
///
/// This trait is sealed.
pub trait Scalar:
    sealed::Sealed
    + Copy
    + Debug
    + Default
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + 'static
{
    /// Zero.
    const ZERO: Self;
    /// One.
    const ONE: Self;

    /// Whether numbers of this type have the same bytes in memory as on the wire.
    #[doc(hidden)]
    const IS_WIRE: bool;

    /// The nearest number of this type; a finite `f64` beyond the range of `f32` becomes infinite.
    fn from_f64(value: f64) -> Self;

    /// The same number as an `f64`, exactly.
    fn to_f64(self) -> f64;

    /// Whether all numbers are finite.
    #[doc(hidden)]
    fn all_finite(values: &[Self]) -> bool;

    /// The array as bytes of the wire, if its memory has that layout.
    #[doc(hidden)]
    fn as_wire(values: &[Self]) -> Option<&[u8]>;

    /// The array as bytes of the wire, to be filled, if its memory has that layout.
    #[doc(hidden)]
    fn as_wire_mut(values: &mut [Self]) -> Option<&mut [u8]>;
}

impl Scalar for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const IS_WIRE: bool = cfg!(target_endian = "little");

    fn from_f64(value: f64) -> Self {
        value
    }

    fn to_f64(self) -> f64 {
        self
    }

    fn all_finite(values: &[Self]) -> bool {
        are_finite(values)
    }

    fn as_wire(values: &[Self]) -> Option<&[u8]> {
        Self::IS_WIRE.then(|| bytemuck::must_cast_slice(values))
    }

    fn as_wire_mut(values: &mut [Self]) -> Option<&mut [u8]> {
        Self::IS_WIRE.then(|| bytemuck::must_cast_slice_mut(values))
    }
}

impl Scalar for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const IS_WIRE: bool = false;

    #[allow(clippy::cast_possible_truncation)] // rounding is what is asked for
    fn from_f64(value: f64) -> Self {
        value as Self
    }

    fn to_f64(self) -> f64 {
        self.into()
    }

    fn all_finite(values: &[Self]) -> bool {
        // The same test as in `are_finite`.
        let carries = values.iter().fold(0, |carries, value| {
            let exponent = value.to_bits() & Self::INFINITY.to_bits();
            carries | (exponent + (1 << (Self::MANTISSA_DIGITS - 1)))
        });
        carries >> 31 == 0
    }

    fn as_wire(_: &[Self]) -> Option<&[u8]> {
        None
    }

    fn as_wire_mut(_: &mut [Self]) -> Option<&mut [u8]> {
        None
    }
}

/// Converts bytes of the wire into numbers, as many as the shorter of the two holds.
pub(crate) fn from_wire<T: Scalar>(wire: &[u8], values: &mut [T]) {
    for (bytes, value) in wire.as_chunks().0.iter().zip(values) {
        *value = T::from_f64(f64::from_le_bytes(*bytes));
    }
}

/// Converts numbers into bytes of the wire, as many as the shorter of the two holds.
pub(crate) fn to_wire<T: Scalar>(values: &[T], wire: &mut [u8]) {
    for (value, bytes) in values.iter().zip(wire.as_chunks_mut().0) {
        *bytes = value.to_f64().to_le_bytes();
    }
}

/// The bytes of numbers in memory.
pub(crate) fn as_memory<T: Scalar>(values: &[T]) -> &[u8] {
    bytemuck::must_cast_slice(values)
}

/// Memory for this many numbers at the beginning of `bytes`; empty if `bytes` is too short or not
/// aligned.
pub(crate) fn in_place<T: Scalar>(bytes: &mut [u8], len: usize) -> &mut [T] {
    let bytes = bytes.get_mut(..len * size_of::<T>()).unwrap_or_default();
    bytemuck::try_cast_slice_mut(bytes).unwrap_or_default()
}

/// Converts bytes of the wire into numbers in the same memory.
pub(crate) fn from_wire_in_place<T: Scalar>(bytes: &mut [u8]) -> &mut [T] {
    let len = bytes.len() / REAL;
    for index in 0..len {
        let (at, to) = (index * REAL, index * size_of::<T>());
        let wire = bytes.get(at..).and_then(<[u8]>::first_chunk);
        let value = T::from_f64(f64::from_le_bytes(*wire.unwrap_or(&[0; REAL])));
        put(bytes, to, bytemuck::bytes_of(&value));
    }
    in_place(bytes, len)
}

/// Converts the first `len` numbers in this memory into bytes of the wire.
pub(crate) fn to_wire_in_place<T: Scalar>(bytes: &mut [u8], len: usize) {
    for index in (0..len).rev() {
        let value = in_place::<T>(bytes, index + 1).last().copied();
        let value = value.unwrap_or(T::ZERO).to_f64();
        put(bytes, index * REAL, &value.to_le_bytes());
    }
}

fn put(bytes: &mut [u8], at: usize, from: &[u8]) {
    let room = bytes.get_mut(at..).unwrap_or_default();
    for (to, byte) in room.iter_mut().zip(from) {
        *to = *byte;
    }
}

mod sealed {
    pub trait Sealed: bytemuck::Pod {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_is_little_endian_binary64() {
        let mut wire = [0; 16];
        to_wire(&[-2.25_f32, 1.5], &mut wire);
        assert_eq!(
            wire,
            [0, 0, 0, 0, 0, 0, 2, 0xc0, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f]
        );

        let mut single = [0.0_f32; 2];
        from_wire(&wire, &mut single);
        assert_eq!(single, [-2.25, 1.5]);

        let mut double = [0.0_f64; 2];
        from_wire(&wire, &mut double);
        assert_eq!(double, [-2.25, 1.5]);
    }

    #[test]
    fn a_double_too_large_for_single_precision_is_not_finite() {
        let mut single = [0.0_f32];
        from_wire(&1e300_f64.to_le_bytes(), &mut single);
        assert!(!f32::all_finite(&single));
    }

    #[test]
    fn one_number_that_is_not_finite_is_found() {
        assert!(f64::all_finite(&[
            f64::MAX,
            f64::MIN,
            0.0,
            -0.0,
            f64::MIN_POSITIVE,
            5e-324,
            1.0
        ]));
        assert!(f32::all_finite(&[
            f32::MAX,
            f32::MIN,
            0.0,
            -0.0,
            f32::MIN_POSITIVE,
            1e-45,
            1.0
        ]));
        for odd in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN, -f64::NAN] {
            assert!(!f64::all_finite(&[1.0, odd, -1.0]));
            assert!(!f64::all_finite(&[odd, odd]));
            let odd = f32::from_f64(odd);
            assert!(!f32::all_finite(&[1.0, odd, -1.0]));
            assert!(!f32::all_finite(&[odd, odd]));
        }
    }
}
