//! A job and its outcome, as stored in the mailbox.

use core::fmt::{self, Display, Write};

use forcewire::potential::{Cutoff, LennardJones};
use forcewire::{Cell, Evaluation, Potential, PotentialError, Virial};

/// Parameters of the Lennard-Jones potential, in bohr and hartree.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Parameters {
    lj: [f64; 3],
    cutoff: u32,
}

/// The treatments of the cutoff, by number.
const CUTOFFS: [Cutoff; 3] = [Cutoff::Truncated, Cutoff::Shifted, Cutoff::Tail];

impl Parameters {
    /// σ, ε and the cutoff, and the treatment of the cutoff.
    #[must_use]
    pub fn new(lj: [f64; 3], at_cutoff: Cutoff) -> Self {
        let number = CUTOFFS.iter().position(|cutoff| *cutoff == at_cutoff);
        Self {
            lj,
            cutoff: number.unwrap_or(CUTOFFS.len()) as u32,
        }
    }
}

/// An evaluation for core 1. Positions, forces and boxes stay in core 0's memory.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Job {
    parameters: Parameters,
    pub(crate) cell: [[f64; 3]; 3],
    natoms: usize,
    positions: *const [f64; 3],
    forces: *mut [f64; 3],
    /// Memory for the potential, and its length.
    boxes: *mut u32,
    numbers: usize,
}

impl Job {
    /// A job for these arrays. None if positions and forces differ in length.
    #[must_use]
    pub fn new(
        parameters: Parameters,
        cell: &Cell,
        positions: &[[f64; 3]],
        forces: &mut [[f64; 3]],
        boxes: &mut [u32],
    ) -> Option<Self> {
        (positions.len() == forces.len()).then_some(Self {
            parameters,
            cell: *cell.h(),
            natoms: positions.len(),
            positions: positions.as_ptr(),
            forces: forces.as_mut_ptr(),
            boxes: boxes.as_mut_ptr(),
            numbers: boxes.len(),
        })
    }

    /// Computes the forces.
    ///
    /// # Errors
    ///
    /// Returns the potential's errors.
    ///
    /// # Safety
    ///
    /// The arrays of the job must still exist, and nothing else may use them.
    pub unsafe fn run(&self) -> Result<Evaluation, PotentialError> {
        // Safety: the caller ensures this; the lengths were set by `new`.
        let (positions, forces, boxes) = unsafe {
            (
                core::slice::from_raw_parts(self.positions, self.natoms),
                core::slice::from_raw_parts_mut(self.forces, self.natoms),
                core::slice::from_raw_parts_mut(self.boxes, self.numbers),
            )
        };
        let [sigma, epsilon, cutoff] = self.parameters.lj;
        let at_cutoff = CUTOFFS.get(self.parameters.cutoff as usize);
        LennardJones::new(sigma, epsilon, cutoff)
            .with_cutoff(at_cutoff.copied().unwrap_or_default())
            .with_storage(boxes)
            .evaluate(&Cell::from_rows(self.cell), positions, forces)
    }
}

/// The outcome of a job: energy and virial, or the reason for a failure.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    energy: f64,
    virial: [[f64; 3]; 3],
    /// The reason for a failure; empty after a success.
    failure: Text,
}

impl Outcome {
    /// Energy and virial.
    #[must_use]
    pub const fn success(evaluation: &Evaluation) -> Self {
        Self {
            energy: evaluation.energy,
            virial: evaluation.virial.0,
            failure: Text::EMPTY,
        }
    }

    /// A failure with a reason, which must not be empty and is cut off after 100 bytes.
    #[must_use]
    pub fn failure(reason: impl Display) -> Self {
        let mut failure = Text::EMPTY;
        // The only possible error is that the text is cut off.
        let _ = write!(failure, "{reason}");
        Self {
            energy: 0.0,
            virial: [[0.0; 3]; 3],
            failure,
        }
    }

    /// Energy and virial.
    ///
    /// # Errors
    ///
    /// The reason for a failure.
    pub fn evaluation(&self) -> Result<Evaluation, &str> {
        match self.failure.as_str() {
            "" => Ok(Evaluation {
                energy: self.energy,
                virial: Virial(self.virial),
            }),
            reason => Err(reason),
        }
    }
}

/// A short text for the log.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Text {
    len: u32,
    bytes: [u8; 100],
}

impl Text {
    const EMPTY: Self = Self {
        len: 0,
        bytes: [0; 100],
    };

    fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..self.len as usize);
        let text = bytes.map(str::from_utf8);
        text.and_then(Result::ok).unwrap_or("no text")
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.get_mut(self.len as usize..).unwrap_or_default();
        let fits = text.floor_char_boundary(room.len());
        for (byte, place) in text.bytes().take(fits).zip(room) {
            *place = byte;
            self.len += 1;
        }
        if fits == text.len() {
            Ok(())
        } else {
            Err(fmt::Error)
        }
    }
}
