//! Names for the wrong factors that mistakes in units, signs and sums produce.

use super::series::Series;
use crate::check::report::Fault;

/// Whether two factors are equal within the error of finite differences.
pub fn is(factor: f64, other: f64) -> bool {
    (factor / other - 1.0).abs() < 5e-3
}

const ELECTRONVOLT: f64 = 27.211386;
const ANGSTROM: f64 = 0.52917721;

/// Units of energy, in hartree.
const ENERGIES: [(f64, &str); 4] = [
    (ELECTRONVOLT, "electronvolts (27.2114 a hartree)"),
    (2.0, "rydberg (2 a hartree, 13.6057 eV each)"),
    (627.5095, "kcal/mol (627.51 a hartree)"),
    (2625.4996, "kJ/mol (2625.5 a hartree)"),
];

/// Units of a force, in hartree/bohr.
const FORCES: [(f64, &str); 6] = [
    (
        ELECTRONVOLT / ANGSTROM,
        "eV/angstrom (51.42 a hartree/bohr)",
    ),
    (2.0, "rydberg/bohr (2 a hartree/bohr)"),
    (2.0 / ANGSTROM, "rydberg/angstrom"),
    (ELECTRONVOLT, "eV/bohr (27.2114 a hartree/bohr)"),
    (627.5095 / ANGSTROM, "kcal/mol/angstrom"),
    (2625.4996 / ANGSTROM, "kJ/mol/angstrom"),
];

/// Judges energies that are too small by this factor, because forces and virial agree with each
/// other.
pub fn energy(scale: f64, series: &Series) -> Fault {
    let factor = 1.0 / scale;
    let natoms = series.natoms() as f64;
    let size = factor.abs();
    if natoms > 1.0 && is(scale, natoms) {
        return Fault::new(
            "energy per atom",
            format!(
                "forces and virial agree, but the energy is {natoms} times too small, the energy of one atom: \
                 send the energy of all {natoms} atoms"
            ),
        );
    }
    if is(scale, -1.0) {
        return Fault::new(
            "sign",
            "forces and virial agree, but the energy has the other sign",
        );
    }
    if is(size, 13.605693) {
        return Fault::new(
            "unit",
            "the energy is 13.6057 times forces and virial: it is in eV, and they are in rydberg; all are in \
             hartree and bohr",
        );
    }
    match ENERGIES.iter().find(|(unit, _)| is(size, *unit)) {
        Some((_, unit)) => Fault::new(
            "unit",
            format!("the energy is in {unit}, forces and virial are not: send hartree"),
        ),
        None => Fault::new(
            "unit",
            format!(
                "the energy is {factor:.6} times what forces and virial say: look for a factor or a part of the \
                 energy that only one of them has"
            ),
        ),
    }
}

/// Judges forces that are wrong by this factor.
pub fn force(factor: f64) -> Fault {
    let size = factor.abs();
    let sign = match factor < 0.0 {
        true => ", and have the sign of a gradient",
        false => "",
    };
    if is(factor, -1.0) {
        return Fault::new(
            "gradient",
            "forces have the wrong sign, as gradients do: atoms run uphill; send -dU/dr",
        );
    }
    if is(size, 1.0 / ANGSTROM) {
        return Fault::new(
            "unit",
            format!(
                "forces are 1.8897 times the energy's slope, energy per angstrom instead of per bohr{sign}: energy \
                 and forces are in eV and eV/angstrom, or positions are taken for angstrom; positions come in bohr, \
                 send hartree and hartree/bohr"
            ),
        );
    }
    if is(size, ANGSTROM) {
        return Fault::new(
            "unit",
            format!(
                "forces are 0.529 times the energy's slope{sign}: lengths were converted twice, or the wrong way; \
                 positions come in bohr, send hartree/bohr"
            ),
        );
    }
    match FORCES.iter().find(|(unit, _)| is(size, *unit)) {
        Some((_, unit)) => Fault::new(
            "unit",
            format!("forces are in {unit}{sign}: send hartree/bohr"),
        ),
        None => Fault::new(
            "unit",
            format!(
                "forces are {factor:.6} times the energy's slope in all directions: look for a factor that only \
                 one of them has (27.2114 eV a hartree, 0.529177 angstrom a bohr)"
            ),
        ),
    }
}

/// Judges a virial that is wrong by this factor.
pub fn virial(factor: f64, series: &Series) -> Fault {
    let volume = series.volume();
    let (size, sign) = (factor.abs(), factor < 0.0);
    let also = match sign {
        true => ", with the sign of a stress",
        false => "",
    };
    if is(factor, -1.0) {
        return Fault::new(
            "virial's sign",
            "the virial has the wrong sign: cells shrink where they should grow; send -dU/d(strain), which is \
             positive where atoms repel each other",
        );
    }
    let cubic = ELECTRONVOLT / ANGSTROM.powi(3);
    let stresses = [
        (1.0, "hartree/bohr^3"),
        (cubic, "eV/angstrom^3"),
        (29421.02, "GPa"),
        (294210.2, "kbar"),
        (2.0, "rydberg/bohr^3"),
        (ELECTRONVOLT, "eV/bohr^3"),
    ];
    if let Some((_, unit)) = stresses.iter().find(|(unit, _)| is(size * volume, *unit)) {
        return Fault::new(
            "stress",
            format!(
                "the virial is a stress in {unit}{also}: multiply by the volume, {volume:.1} bohr^3, and send hartree"
            ),
        );
    }
    match ENERGIES.iter().find(|(unit, _)| is(size, *unit)) {
        Some((_, unit)) => Fault::new(
            "virial's unit",
            format!("the virial is in {unit}{also}: send hartree"),
        ),
        None => Fault::new(
            "virial's unit",
            format!(
                "the virial is {factor:.6} times what the energy says in all elements (the volume is {volume:.1} \
                 bohr^3): send -dU/d(strain) in hartree"
            ),
        ),
    }
}
