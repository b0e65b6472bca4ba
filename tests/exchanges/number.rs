//! Numbers of either type, and what arrays hold before anything has come.

use forcewire::Scalar;

/// A type of numbers in arrays.
pub trait Number: Scalar {
    /// The other one.
    type Other: Number;
    /// No number of a test has a byte of this one.
    const BLANK: Self;

    /// The bytes that it has in memory.
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

/// The bytes that an array has in memory.
pub fn memory<T: Number>(values: &[[T; 3]]) -> Vec<u8> {
    let numbers = values.as_flattened().iter();
    numbers.flat_map(|number| number.memory()).collect()
}

/// An array that nothing has come into.
pub fn blank<T: Number>(natoms: usize) -> Vec<[T; 3]> {
    vec![[T::BLANK; 3]; natoms]
}

/// Numbers from number `first` on; none occurs twice, and none is short in binary.
pub fn numbers<T: Number>(first: usize, natoms: usize) -> Vec<[T; 3]> {
    let number = |i: usize| T::from_f64(((first + i) as f64 + 0.5) / 7.0);
    let atom = |i: usize| [number(3 * i), number(3 * i + 1), number(3 * i + 2)];
    (0..natoms).map(atom).collect()
}

/// The same as numbers of another type.
pub fn converted<T: Number, U: Number>(values: &[[T; 3]]) -> Vec<[U; 3]> {
    let convert = |atom: &[T; 3]| atom.map(|x| U::from_f64(x.to_f64()));
    values.iter().map(convert).collect()
}

/// Checks something for numbers of both types.
macro_rules! for_both_types {
    ($check:ident) => {
        $check::<f64>();
        $check::<f32>();
    };
}
pub(crate) use for_both_types;
