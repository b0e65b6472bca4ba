//! Frames of extended XYZ files, as `ase.io.read` reads them.
//!
//! The format is described at <https://github.com/libAtoms/extxyz>.
//!
//! ```text
//! read.rs       frames of a file, one by one
//! columns.rs    Properties, and an atom's line
//! comment.rs    key=value pairs; Lattice and pbc
//! lines.rs      lines with their numbers, whatever ends them
//! write.rs      frames that ASE can read
//! ```
//!
//! Errors name the line. Where ASE guesses, drops or misreads, this reader refuses; `tests/xyz`
//! lists these cases with ASE's results.

mod columns;
mod comment;
mod lines;
mod read;
#[cfg(test)]
mod table;
mod write;

pub use lines::Lines;
pub use read::{Frame, Frames, Motion};
pub use write::Writer;
