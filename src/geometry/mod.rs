//! Geometry of a periodic structure: cell, rotation, virial and minimum image.
//!
//! The files use each other in one direction:
//!
//! ```text
//! matrix <- virial <- rotation <- upper_triangular
//! matrix <- cell <- upper_triangular
//! matrix, real, cell <- minimum_image
//! ```

mod cell;
mod matrix;
mod minimum_image;
mod real;
mod rotation;
mod upper_triangular;
mod virial;

pub use cell::Cell;
pub(crate) use cell::widths;
pub(crate) use matrix::{are_finite, dot};
pub(crate) use minimum_image::MinimumImage;
pub use real::Real;
pub use rotation::Rotation;
pub use virial::Virial;
