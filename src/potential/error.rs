//! Why a potential could not be evaluated.

use core::fmt;

use crate::fmt::debug_as_display;

/// A potential could not be evaluated. The contents of the forces are then meaningless.
///
/// ```
/// use forcewire::potential::{Morse, Potential, PotentialError};
/// use forcewire::Cell;
///
/// let error = Morse::<f64>::default()
///     .evaluate(&Cell::orthorhombic([50.0; 3]), &[[0.0; 3]; 2], &mut [[0.0; 3]; 2])
///     .unwrap_err();
/// assert_eq!(error, PotentialError::WrongAtomCount { expected: 1, actual: 2 });
/// assert_eq!(error.to_string(), "the potential is for 1 atom(s) and was given 2");
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PotentialError {
    /// The slices of positions and forces are of different lengths.
    LengthMismatch,
    /// The potential is defined for a different number of atoms.
    WrongAtomCount {
        /// The number that it is defined for.
        expected: usize,
        /// The number that was passed.
        actual: usize,
    },
    /// The cell's vectors lie in one plane or are not finite; a periodic potential needs a volume.
    SingularCell,
    /// A position is infinite or NaN.
    PositionNotFinite,
    /// The energy or the virial is infinite or NaN: usually because of two atoms in the same place,
    /// otherwise because a parameter is NaN.
    ResultNotFinite,
    /// A [`Storage`](crate::Storage) was asked to evaluate more than it holds.
    NoRoom {
        /// The number of atoms of each structure.
        natoms: usize,
        /// The number of structures.
        structures: usize,
    },
    /// Another reason, as a sentence for the log.
    ///
    /// ```
    /// use forcewire::PotentialError;
    ///
    /// let error = PotentialError::Failed("the accelerator did not answer in 100 ms, reset it");
    /// assert_eq!(error.to_string(), "the accelerator did not answer in 100 ms, reset it");
    /// ```
    Failed(&'static str),
}

impl fmt::Display for PotentialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LengthMismatch => {
                f.write_str("positions and forces are of different lengths, pass one force an atom")
            }
            Self::WrongAtomCount { expected, actual } => {
                write!(
                    f,
                    "the potential is for {expected} atom(s) and was given {actual}"
                )
            }
            Self::SingularCell => {
                f.write_str("the cell has no volume, check the order of its nine numbers")
            }
            Self::PositionNotFinite => {
                f.write_str("a position is infinite or NaN, shorten the time step")
            }
            Self::ResultNotFinite => f.write_str(
                "the energy or the virial is infinite or NaN, look for atoms in the same place",
            ),
            Self::NoRoom { natoms, structures } => write!(
                f,
                "the storage has no room for {structures} structure(s) of {natoms} atom(s), pass the numbers of \
                 Event::Positions"
            ),
            Self::Failed(reason) => f.write_str(reason),
        }
    }
}

debug_as_display!(PotentialError);

impl core::error::Error for PotentialError {}

#[cfg(feature = "defmt")]
impl defmt::Format for PotentialError {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "{}", defmt::Display2Format(self));
    }
}
