//! Units of people and files, in atomic ones: CODATA 2022.

/// Å in bohr.
pub const ANGSTROM: f64 = 1.0 / 0.529177210544;

/// fs in atomic units of time.
pub const FEMTOSECOND: f64 = 1.0 / 0.024188843265864;

/// The dalton in masses of the electron.
pub const DALTON: f64 = 1822.888486283;

/// Boltzmann's constant, hartree/K.
pub const BOLTZMANN: f64 = 1.380649e-23 / 4.3597447222060e-18;

/// What lengths of a file are measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Units {
    Angstrom,
    Bohr,
}

impl Units {
    pub const fn in_bohr(self) -> f64 {
        match self {
            Self::Angstrom => ANGSTROM,
            Self::Bohr => 1.0,
        }
    }
}
