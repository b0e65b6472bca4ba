//! The cell and the virial, the two matrices of the protocol, and what can be computed from them.

mod cell;

pub use cell::{Cell, Rotation, Virial};
pub(crate) use cell::{dot, widths};
