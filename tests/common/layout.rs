//! The bytes of every message, written by hand: the only place in the tests that knows them.
//!
//! The layouts follow i-PI 3.3.1 (`ipi/interfaces/sockets.py`); `conversations.rs` compares them
//! with bytes written by i-PI itself. Nothing here uses the library.

#![allow(dead_code)] // each test file uses its part

pub const STATUS: &[u8] = b"STATUS      ";
pub const GETFORCE: &[u8] = b"GETFORCE    ";
pub const EXIT: &[u8] = b"EXIT        ";
pub const NEEDINIT: &[u8] = b"NEEDINIT    ";
pub const READY: &[u8] = b"READY       ";
pub const HAVEDATA: &[u8] = b"HAVEDATA    ";

/// A cube of 10 bohr: h, or its inverse if `edge` is 0.1.
pub const fn cube(edge: f64) -> [f64; 9] {
    [edge, 0.0, 0.0, 0.0, edge, 0.0, 0.0, 0.0, edge]
}

/// The bytes of reals from a little-endian peer.
pub fn reals(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// The bytes of an integer from a little-endian peer.
pub fn integer(value: i32) -> [u8; 4] {
    value.to_le_bytes()
}

fn length(len: usize) -> [u8; 4] {
    integer(i32::try_from(len).expect("a length of the protocol"))
}

pub fn init(replica: i32, text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    let header = b"INIT        ";
    [header, &integer(replica)[..], &length(text.len()), text].concat()
}

/// POSDATA of one structure: h and its inverse row by row, then x, y, z of each atom.
pub fn posdata(h: &[f64; 9], inverse: &[f64; 9], positions: &[f64]) -> Vec<u8> {
    [
        b"POSDATA     ",
        &reals(h)[..],
        &reals(inverse),
        &length(positions.len() / 3),
        &reals(positions),
    ]
    .concat()
}

/// POSDATA of a batch: the number of atoms comes first.
pub fn posdata_batch(cells: &[[[f64; 9]; 2]], positions: &[f64]) -> Vec<u8> {
    let natoms = positions.len() / 3 / cells.len();
    [
        b"POSDATA     ",
        &length(natoms)[..],
        &reals(cells.as_flattened().as_flattened()),
        &reals(positions),
    ]
    .concat()
}

/// FORCEREADY: for each structure an energy, a virial (nine numbers) and extras, and the forces of
/// all.
pub fn forceready(
    energies: &[f64],
    forces: &[f64],
    virials: &[f64],
    extras: &[impl AsRef<[u8]>],
) -> Vec<u8> {
    let natoms = forces.len() / 3 / energies.len();
    let mut bytes = [
        b"FORCEREADY  ",
        &reals(energies)[..],
        &length(natoms),
        &reals(forces),
        &reals(virials),
    ]
    .concat();
    for extras in extras {
        bytes.extend(length(extras.as_ref().len()));
        bytes.extend(extras.as_ref());
    }
    bytes
}
