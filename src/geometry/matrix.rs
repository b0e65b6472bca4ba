//! Vectors of three numbers and 3 × 3 matrices, stored by rows.

use core::ops::{Add, Mul};

/// The scalar product of two vectors, summed from x to z.
pub(crate) fn dot<T>([ax, ay, az]: [T; 3], [bx, by, bz]: [T; 3]) -> T
where
    T: Add<Output = T> + Mul<Output = T>,
{
    ax * bx + ay * by + az * bz
}

/// The vector product a × b.
pub(super) fn cross([ax, ay, az]: [f64; 3], [bx, by, bz]: [f64; 3]) -> [f64; 3] {
    [ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx]
}

/// The vector divided by its largest component, and the absolute value of that component.
///
/// The quotients of a zero vector are NaN.
pub(super) fn scaled(vector: [f64; 3]) -> ([f64; 3], f64) {
    let largest = vector
        .iter()
        .fold(0.0, |largest: f64, x| largest.max(x.abs()));
    (vector.map(|x| x / largest), largest)
}

/// The vector divided by its length.
pub(super) fn unit(vector: [f64; 3]) -> [f64; 3] {
    let (vector, _) = scaled(vector);
    let length = libm::sqrt(dot(vector, vector));
    vector.map(|x| x / length)
}

/// The matrix with rows and columns exchanged.
pub(super) const fn transposed(m: [[f64; 3]; 3]) -> [[f64; 3]; 3] {
    let [[xx, xy, xz], [yx, yy, yz], [zx, zy, zz]] = m;
    [[xx, yx, zx], [xy, yy, zy], [xz, yz, zz]]
}

/// Whether all nine numbers are finite.
pub(super) fn is_finite(matrix: &[[f64; 3]; 3]) -> bool {
    are_finite(matrix.as_flattened())
}

/// Whether no number is infinite or NaN.
// Not inlined: one function for all arrays, and its callers don't hold its numbers on the stack
// while they call soft float.
#[inline(never)]
pub(crate) fn are_finite(numbers: &[f64]) -> bool {
    #[cfg(feature = "std")]
    if numbers.len() >= FEW && sum(numbers).is_finite() {
        return true;
    }
    let carries = numbers
        .iter()
        .fold(0, |carries, number| carries | carry(*number));
    carries >> 31 == 0
}

/// How many numbers to add before each is checked.
#[cfg(feature = "std")]
const FEW: usize = 32;

/// A sum that is finite only if all numbers are: infinities and NaN persist in sums. It takes one
/// addition per vector register.
#[cfg(feature = "std")]
fn sum(numbers: &[f64]) -> f64 {
    match numbers.len() < MANY {
        true => sum_by::<16>(numbers),
        // Vectors of four numbers, on CPUs that have them.
        false => pulp::Arch::new().dispatch(Sum(numbers)),
    }
}

/// The array length from which the CPU's features are worth checking.
#[cfg(feature = "std")]
const MANY: usize = 512;

#[cfg(feature = "std")]
struct Sum<'a>(&'a [f64]);

#[cfg(feature = "std")]
impl pulp::NullaryFnOnce for Sum<'_> {
    type Output = f64;

    #[inline(always)]
    fn call(self) -> f64 {
        sum_by::<32>(self.0)
    }
}

/// In blocks of 16 KiB from the end: the numbers that arrived last are still in the cache, and
/// those that will be sent first are there afterwards.
#[cfg(feature = "std")]
#[inline(always)]
fn sum_by<const LANES: usize>(numbers: &[f64]) -> f64 {
    let mut sums = [0.0; LANES];
    let mut all = 0.0;
    for numbers in numbers.rchunks(2048) {
        let (vectors, rest) = numbers.as_chunks::<LANES>();
        for numbers in vectors {
            for (sum, number) in sums.iter_mut().zip(numbers) {
                *sum += number;
            }
        }
        all += rest.iter().sum::<f64>();
    }
    all + sums.iter().sum::<f64>()
}

/// An exponent of all ones, and no other, carries into the sign when one is added to it. These are
/// three integer operations without a branch: vectors on a host, no soft float on a device.
#[inline(always)]
const fn carry(number: f64) -> u32 {
    let high = (number.to_bits() >> 32) as u32;
    (high & 0x7ff0_0000) + (1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_vectors() {
        let (a, b) = ([1.0, 2.0, 3.0], [4.0, -5.0, 6.0]);
        assert_eq!(dot(a, b), 12.0);
        assert_eq!(cross(a, b), [27.0, 6.0, -13.0]);
        assert_eq!(cross(b, a), [-27.0, -6.0, 13.0]);
    }

    #[test]
    fn a_vector_of_any_size_has_a_direction() {
        for size in [1e-300, 1.0, 1e300] {
            assert_eq!(unit([3.0 * size, 0.0, 0.0]), [1.0, 0.0, 0.0]);
            for (x, expected) in unit([0.0, -3.0 * size, 4.0 * size])
                .iter()
                .zip([0.0, -0.6, 0.8])
            {
                assert!((x - expected).abs() < 1e-15, "{size}");
            }
        }
        assert!(unit([0.0; 3]).iter().all(|x| x.is_nan()));
    }

    #[test]
    fn numbers_whose_sum_is_too_large_are_finite() {
        for len in [FEW, MANY, MANY + 1] {
            let mut numbers = std::vec![f64::MAX; len];
            assert!(are_finite(&numbers), "{len}");
            numbers[len / 2] = f64::NEG_INFINITY;
            assert!(!are_finite(&numbers), "{len}");
        }
    }

    #[test]
    fn one_of_many_numbers_that_is_not_finite_is_found_wherever_it_is() {
        for len in [FEW - 1, FEW, FEW + 1, MANY - 1, MANY, MANY + 15, 2048 + 33] {
            let mut numbers: std::vec::Vec<_> = (0..len).map(|i| i as f64 - 100.0).collect();
            assert!(are_finite(&numbers), "{len}");
            for at in 0..len {
                for odd in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
                    let number = core::mem::replace(&mut numbers[at], odd);
                    assert!(!are_finite(&numbers), "{odd} at {at} of {len}");
                    numbers[at] = number;
                }
            }
        }
    }

    #[test]
    fn one_number_that_is_not_finite_is_found_wherever_it_is() {
        let matrix = [
            [f64::MAX, -1.0, 0.0],
            [0.0, f64::MIN, 5e-324],
            [1.0, -0.0, 2.0],
        ];
        assert!(is_finite(&matrix));
        for at in 0..9 {
            for odd in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
                let mut matrix = matrix;
                matrix.as_flattened_mut()[at] = odd;
                assert!(!is_finite(&matrix), "{odd} at {at}");
            }
        }
    }
}
