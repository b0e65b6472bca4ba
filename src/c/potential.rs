//! The potential: the caller's function and its result.

use core::ffi::{c_int, c_void};

use forcewire::{Cell, Evaluation, Virial};

use crate::memory::array_mut;

/// The periodic cell, bohr. The lattice vectors a, b, c are the columns, as on the wire: h[i][j] is
/// component i of vector j, and a point with fractional coordinates s is at r = h s. A box of 10
/// bohr is {{{10, 0, 0}, {0, 10, 0}, {0, 0, 10}}} in either convention. For a triclinic cell i-PI
/// sends an upper triangle.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct forcewire_cell_t {
    pub h: [[f64; 3]; 3],
}

/// A potential's results besides the forces.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct forcewire_evaluation_t {
    /// Hartree.
    pub energy: f64,
    /// W = -dU/de of a strain e, the sum of r_i f_j, hartree: all nine numbers, not divided by the
    /// volume.
    pub virial: [[f64; 3]; 3],
}

/// Computes one structure. Positions are in bohr. Forces, hartree/bohr, and the evaluation are
/// zeros at first; the function fills them. If it returns anything but 0, forcewire_driver_serve()
/// ends with FORCEWIRE_POTENTIAL.
pub type forcewire_potential_t = Option<
    unsafe extern "C" fn(
        context: *mut c_void,
        cell: *const forcewire_cell_t,
        positions: *const [f64; 3],
        forces: *mut [f64; 3],
        natoms: usize,
        evaluation: *mut forcewire_evaluation_t,
    ) -> c_int,
>;

/// Calls the caller's potential. The error is the number that it returned.
///
/// # Safety
///
/// The caller's function is not NULL. There are `natoms` positions, and room for as many forces.
pub unsafe fn compute(
    potential: forcewire_potential_t,
    context: *mut c_void,
    cell: &forcewire_cell_t,
    positions: *const [f64; 3],
    forces: *mut [f64; 3],
    natoms: usize,
) -> Result<forcewire_evaluation_t, c_int> {
    // SAFETY: the caller keeps to the conditions above.
    if let Some(zero) = unsafe { array_mut(forces, natoms) } {
        zero.fill([0.0; 3]);
    }
    let mut evaluation = forcewire_evaluation_t {
        energy: 0.0,
        virial: [[0.0; 3]; 3],
    };
    let result = &raw mut evaluation;
    // SAFETY: the caller keeps to the conditions above.
    let code = potential
        .map(|compute| unsafe { compute(context, cell, positions, forces, natoms, result) });
    match code {
        Some(0) => Ok(evaluation),
        code => Err(code.unwrap_or(0)),
    }
}

impl From<forcewire_evaluation_t> for Evaluation {
    fn from(evaluation: forcewire_evaluation_t) -> Self {
        Self {
            energy: evaluation.energy,
            virial: Virial(evaluation.virial),
        }
    }
}

impl From<forcewire_cell_t> for Cell {
    fn from(cell: forcewire_cell_t) -> Self {
        Self::from_rows(cell.h)
    }
}
