//! The atoms at the start of a run.

use super::Arguments;
use super::integrator::{Atoms, maxwell_boltzmann};
use crate::elements;
use crate::say::{Failure, say};
use crate::units::{ANGSTROM, BOLTZMANN, DALTON, FEMTOSECOND, Units, ase_momentum};
use crate::xyz::{Frame, Motion};

/// The frame in Å.
pub fn in_angstrom(mut frame: Frame, units: Units) -> Frame {
    let scale = units.in_angstrom();
    for vector in frame.positions.iter_mut().chain(&mut frame.lattice) {
        *vector = vector.map(|x| x * scale);
    }
    frame
}

/// The initial atoms.
pub fn atoms(frame: &Frame, arguments: &Arguments) -> Result<Atoms, Failure> {
    let daltons = match &frame.masses {
        Some(masses) => masses.clone(),
        None => {
            let masses = frame.species.iter().map(|species| {
                elements::mass(species).ok_or_else(|| {
                    format!("{species:?} is no element: name one, or give the file a column masses:R:1, in daltons")
                })
            });
            masses.collect::<Result<_, _>>()?
        }
    };
    let masses: Vec<_> = daltons.iter().map(|mass| mass * DALTON).collect();
    let per_mass = |momenta: &[[f64; 3]], unit: f64| {
        let momenta = momenta.iter().zip(&masses);
        momenta
            .map(|(p, mass)| p.map(|x| x * unit / mass))
            .collect()
    };
    let given: Option<Vec<_>> = match &frame.motion {
        Some(Motion::Momenta(momenta)) => Some(per_mass(momenta, ase_momentum())),
        Some(Motion::Velocities(velocities)) => {
            say("the file's velocities are taken for Å/fs");
            let unit = ANGSTROM / FEMTOSECOND;
            Some(velocities.iter().map(|v| v.map(|x| x * unit)).collect())
        }
        None => None,
    };
    let is_drawn = arguments.temperature.is_some() && arguments.langevin.is_none();
    let velocities = match given {
        Some(velocities) if !is_drawn => velocities,
        given => {
            if given.is_some() {
                say("velocities are drawn anew for --temperature; those of the file are not used");
            }
            let thermal = BOLTZMANN * arguments.temperature.unwrap_or(0.0);
            maxwell_boltzmann(&masses, thermal, arguments.seed)
        }
    };
    Ok(Atoms {
        positions: frame
            .positions
            .iter()
            .map(|r| r.map(|x| x * ANGSTROM))
            .collect(),
        forces: vec![[0.0; 3]; masses.len()],
        masses,
        velocities,
    })
}
