//! A digest of what a result was computed from, by which `--resume` and `--restart` know their own.

use crc::{CRC_64_XZ, Crc};

use crate::sent::Vacuum;
use crate::units::Units;
use crate::xyz::{Frame, Motion};

const CRC: Crc<u64> = Crc::<u64>::new(&CRC_64_XZ);

/// Of the atoms of a frame, its cell, and the flags that change what drivers are sent of it. It
/// guards against mistakes, not against intent.
pub fn digest(frame: &Frame, units: Units, vacuum: Vacuum) -> String {
    let mut digest = CRC.digest();
    let mut add = |bytes: &[u8]| {
        // The length keeps neighbours apart.
        digest.update(&bytes.len().to_le_bytes());
        digest.update(bytes);
    };
    for species in &frame.species {
        add(species.as_bytes());
    }
    add(&bytes(frame.positions.as_flattened()));
    add(&bytes(frame.lattice.as_flattened()));
    add(&frame.pbc.map(u8::from));
    add(&bytes(&[units.in_bohr()]));
    if frame.pbc != [true; 3] {
        add(&bytes(vacuum.edge.as_slice()));
        add(&[u8::from(vacuum.as_periodic)]);
    }
    add(&bytes(frame.masses.as_deref().unwrap_or_default()));
    match &frame.motion {
        None => add(b""),
        Some(Motion::Momenta(all)) => add(&[b"momenta", &*bytes(all.as_flattened())].concat()),
        Some(Motion::Velocities(all)) => {
            add(&[b"velocities", &*bytes(all.as_flattened())].concat())
        }
    }
    shown(digest.finalize())
}

/// Of a text that is written to a file.
pub fn checksum(text: &[u8]) -> String {
    shown(CRC.checksum(text))
}

/// As no number, for which ASE would take some.
fn shown(digest: u64) -> String {
    format!("crc64-{digest:016x}")
}

/// The same for 0 and -0.
fn bytes(numbers: &[f64]) -> Vec<u8> {
    let numbers = numbers.iter().map(|x| x + 0.0);
    numbers.flat_map(f64::to_le_bytes).collect()
}
