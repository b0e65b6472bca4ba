//! Positions from a server. Memory grows with the received bytes, not with the announced count.

use forcewire::Sink;

/// The most atoms and structures of one exchange: a stream that is out of step can announce any
/// number.
pub const MOST_ATOMS: usize = 10_000_000;
pub const MOST_STRUCTURES: usize = 10_000;

/// An array that grows with the received bytes.
pub struct Growing<'a>(pub &'a mut Vec<[f64; 3]>);

impl Sink for Growing<'_> {
    type Real = f64;

    fn begin(&mut self, natoms: usize) -> bool {
        self.0.clear();
        natoms <= MOST_ATOMS
    }

    fn put(&mut self, _: usize, atoms: &[[f64; 3]]) {
        self.0.extend_from_slice(atoms);
    }
}
