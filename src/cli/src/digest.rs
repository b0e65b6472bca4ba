//! A digest of a result's input, by which `--resume` and `--restart` recognize their own results.

use crc::{CRC_64_XZ, Crc};

use crate::sent::Vacuum;
use crate::units::Units;
use crate::xyz::{Frame, Motion};

const CRC: Crc<u64> = Crc::<u64>::new(&CRC_64_XZ);

/// Returns the digest of a frame's atoms, its cell, and the flags that change what is sent to
/// drivers. It guards against mistakes, not against intent.
pub fn digest(frame: &Frame, units: Units, vacuum: Vacuum) -> String {
    let mut digest = CRC.digest();
    let mut add = |bytes: &[u8]| {
        // The length separates neighbouring fields.
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

/// Returns the checksum of a text that is written to a file.
pub fn checksum(text: &[u8]) -> String {
    shown(CRC.checksum(text))
}

/// Formats the digest so that ASE does not read it as a number.
fn shown(digest: u64) -> String {
    format!("crc64-{digest:016x}")
}

/// The bytes of numbers, with -0 as 0.
fn bytes(numbers: &[f64]) -> Vec<u8> {
    let numbers = numbers.iter().map(|x| x + 0.0);
    numbers.flat_map(f64::to_le_bytes).collect()
}
