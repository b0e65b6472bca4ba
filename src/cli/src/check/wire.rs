//! The protocol's bytes, written by hand: the kit has to send messages that a state machine never
//! would.

use forcewire::{Cell, Header};

/// The offsets of the parts of POSDATA, header included.
pub const CELL: usize = 12;
pub const COUNT: usize = CELL + 2 * MATRIX;
pub const POSITIONS: usize = COUNT + 4;
/// The offsets of the parts of FORCEREADY.
pub const ENERGY: usize = 12;
pub const FORCES: usize = ENERGY + 8 + 4;
/// The sizes of nine reals and of one atom.
pub const MATRIX: usize = 72;
pub const ATOM: usize = 24;

/// A structure: the cell's vectors are the columns of `h`; bohr.
#[derive(Clone, Debug, PartialEq)]
pub struct Structure {
    pub h: [[f64; 3]; 3],
    pub positions: Vec<[f64; 3]>,
}

/// An answer: hartree, hartree/bohr, hartree.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub energy: f64,
    pub forces: Vec<f64>,
    pub virial: Vec<f64>,
    pub extras: Vec<u8>,
}

pub fn header(header: Header) -> &'static [u8] {
    header.bytes()
}

pub fn init(length: i32, text: &[u8]) -> Vec<u8> {
    let mut bytes = header(Header::Init).to_vec();
    bytes.extend(0i32.to_le_bytes());
    bytes.extend(length.to_le_bytes());
    bytes.extend(text);
    bytes
}

/// A correct POSDATA.
pub fn posdata(structure: &Structure) -> Vec<u8> {
    let inverse = Cell::from_rows(structure.h).inverse().unwrap_or_default();
    let mut bytes = header(Header::PosData).to_vec();
    bytes.extend(reals(structure.h.as_flattened()));
    bytes.extend(reals(inverse.as_flattened()));
    bytes.extend((structure.positions.len() as i32).to_le_bytes());
    bytes.extend(reals(structure.positions.as_flattened()));
    bytes
}

/// The message with other bytes at one place.
pub fn with(mut message: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    message[at..at + bytes.len()].copy_from_slice(bytes);
    message
}

/// A correct FORCEREADY for an answer with these extras.
pub fn forceready(answer: &Answer) -> Vec<u8> {
    let mut bytes = header(Header::ForceReady).to_vec();
    bytes.extend(answer.energy.to_le_bytes());
    bytes.extend(((answer.forces.len() / 3) as i32).to_le_bytes());
    bytes.extend(reals(&answer.forces));
    bytes.extend(reals(&answer.virial));
    bytes.extend((answer.extras.len() as i32).to_le_bytes());
    bytes.extend(&answer.extras);
    bytes
}

/// Springs between the atoms and the origin, which the kit's own drivers compute.
pub fn springs(structure: &Structure) -> Answer {
    let mut answer = Answer {
        energy: 0.0,
        forces: Vec::new(),
        virial: vec![0.0; 9],
        extras: Vec::new(),
    };
    for r in &structure.positions {
        for (row, x) in r.iter().enumerate() {
            answer.energy += 0.5 * SPRING * x * x;
            answer.forces.push(-SPRING * x);
            for (column, y) in r.iter().enumerate() {
                answer.virial[3 * row + column] -= SPRING * x * y;
            }
        }
    }
    answer
}

/// Hartree/bohr², soft enough for any time step.
const SPRING: f64 = 1e-4;

pub fn reals(numbers: &[f64]) -> Vec<u8> {
    numbers.iter().flat_map(|x| x.to_le_bytes()).collect()
}

pub fn numbers(bytes: &[u8]) -> Vec<f64> {
    let (chunks, _) = bytes.as_chunks();
    chunks
        .iter()
        .map(|bytes| f64::from_le_bytes(*bytes))
        .collect()
}

pub fn integer(bytes: &[u8]) -> i32 {
    bytes.try_into().map_or(0, i32::from_le_bytes)
}

/// Random bytes, always the same (Knuth's 64-bit generator).
pub fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

pub const HTTP: &[u8] =
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n";
