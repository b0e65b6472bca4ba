//! Common units in atomic units: CODATA 2022.

/// Å in bohr.
pub const ANGSTROM: f64 = 1.0 / 0.529177210544;

/// fs in atomic units of time.
pub const FEMTOSECOND: f64 = 1.0 / 0.024188843265864;

/// The dalton in electron masses.
pub const DALTON: f64 = 1822.888486283;

/// eV in hartree.
pub const ELECTRONVOLT: f64 = 1.0 / 27.211386245981;

/// Boltzmann's constant, hartree/K.
pub const BOLTZMANN: f64 = 1.380649e-23 / 4.3597447222060e-18;

/// ASE's unit of momentum, √(dalton eV), in atomic units.
pub fn ase_momentum() -> f64 {
    (DALTON * ELECTRONVOLT).sqrt()
}

/// The unit of lengths in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
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

    /// The unit in Å. It is exactly 1 for Å, so numbers of a file are written unchanged.
    pub const fn in_angstrom(self) -> f64 {
        match self {
            Self::Angstrom => 1.0,
            Self::Bohr => 1.0 / ANGSTROM,
        }
    }
}
