//! Numbers of either type, and the contents of arrays before anything has arrived.

use forcewire::Scalar;

/// A type of numbers in arrays.
pub trait Number: Scalar {
    /// The other type.
    type Other: Number;
    /// No number in a test shares a byte with this one.
    const BLANK: Self;

    /// The number's bytes in memory.
    fn memory(self) -> Vec<u8>;
}

impl Number for f64 {
    type Other = f32;
    const BLANK: Self = Self::from_bits(0xa5a5_a5a5_a5a5_a5a5);

    fn memory(self) -> Vec<u8> {
        self.to_ne_bytes().to_vec()
    }
}

impl Number for f32 {
    type Other = f64;
    const BLANK: Self = Self::from_bits(0xa5a5_a5a5);

    fn memory(self) -> Vec<u8> {
        self.to_ne_bytes().to_vec()
    }
}

/// An array's bytes in memory.
pub fn memory<T: Number>(values: &[[T; 3]]) -> Vec<u8> {
    let numbers = values.as_flattened().iter();
    numbers.flat_map(|number| number.memory()).collect()
}

/// An array into which nothing has been received.
pub fn blank<T: Number>(natoms: usize) -> Vec<[T; 3]> {
    vec![[T::BLANK; 3]; natoms]
}

/// Numbers starting with `first`. None occurs twice, and each has many binary digits.
pub fn numbers<T: Number>(first: usize, natoms: usize) -> Vec<[T; 3]> {
    let number = |i: usize| T::from_f64(((first + i) as f64 + 0.5) / 7.0);
    let atom = |i: usize| [number(3 * i), number(3 * i + 1), number(3 * i + 2)];
    (0..natoms).map(atom).collect()
}

/// Converts numbers to the other type.
pub fn converted<T: Number, U: Number>(values: &[[T; 3]]) -> Vec<[U; 3]> {
    let convert = |atom: &[T; 3]| atom.map(|x| U::from_f64(x.to_f64()));
    values.iter().map(convert).collect()
}

/// Runs a check for both types of numbers.
macro_rules! for_both_types {
    ($check:ident) => {
        $check::<f64>();
        $check::<f32>();
    };
}
pub(crate) use for_both_types;
