//! Geometry of a periodic structure: cell, rotation and virial.
//!
//! The files use each other in one direction:
//!
//! ```text
//! matrix <- virial <- rotation <- upper_triangular
//! matrix <- cell <- upper_triangular
//! ```

mod cell;
mod matrix;
mod rotation;
mod upper_triangular;
mod virial;

pub use cell::Cell;
pub(crate) use cell::widths;
pub(crate) use matrix::{are_finite, dot};
pub use rotation::Rotation;
pub use virial::Virial;
