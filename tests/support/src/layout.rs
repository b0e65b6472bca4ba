//! The bytes of every message, written by hand: the only place in the tests that knows them.
//!
//! The layouts follow i-PI 3.3.1 (`ipi/interfaces/sockets.py`); `conversations.rs` compares them
//! with bytes written by i-PI itself. Nothing here uses the library.
//!
//! To corrupt a message, take a correct one and change it at an offset from [`Posdata`] or
//! [`ForceReady`].

pub const STATUS: &[u8] = b"STATUS      ";
pub const INIT: &[u8] = b"INIT        ";
pub const POSDATA: &[u8] = b"POSDATA     ";
pub const GETFORCE: &[u8] = b"GETFORCE    ";
pub const EXIT: &[u8] = b"EXIT        ";
pub const NEEDINIT: &[u8] = b"NEEDINIT    ";
pub const READY: &[u8] = b"READY       ";
pub const HAVEDATA: &[u8] = b"HAVEDATA    ";
pub const FORCEREADY: &[u8] = b"FORCEREADY  ";

/// All headers: the server's, then the driver's.
pub const WORDS: [&[u8]; 9] = [
    STATUS, INIT, POSDATA, GETFORCE, EXIT, NEEDINIT, READY, HAVEDATA, FORCEREADY,
];

/// The sizes of a header, an integer and a real, in bytes.
pub const HEADER: usize = 12;
pub const INTEGER: usize = 4;
pub const REAL: usize = 8;
/// The sizes of an atom's position or force, of a matrix, and of h with its inverse, in bytes.
pub const ATOM: usize = 3 * REAL;
pub const MATRIX: usize = 9 * REAL;
pub const CELL: usize = 2 * MATRIX;

/// The offsets of the parts of POSDATA.
#[derive(Clone, Copy, Debug)]
pub struct Posdata {
    structures: usize,
    natoms: usize,
}

impl Posdata {
    pub const fn of(natoms: usize) -> Self {
        Self::batch(1, natoms)
    }

    /// A batch of this many structures with this many atoms each.
    pub const fn batch(structures: usize, natoms: usize) -> Self {
        Self { structures, natoms }
    }

    /// The number of atoms, which comes first in a batch.
    pub const fn atoms(self) -> usize {
        match self.structures {
            1 => HEADER + CELL,
            _ => HEADER,
        }
    }

    /// h of a structure; its inverse follows, then the next structure's h.
    pub const fn cell(self, structure: usize) -> usize {
        let first = match self.structures {
            1 => HEADER,
            _ => HEADER + INTEGER,
        };
        first + structure * CELL
    }

    /// The positions of a structure.
    pub const fn positions(self, structure: usize) -> usize {
        HEADER + INTEGER + self.structures * CELL + structure * self.natoms * ATOM
    }

    pub const fn end(self) -> usize {
        self.positions(self.structures)
    }
}

/// Splits POSDATA as ASE and LAMMPS 2021 send it, with one call for each piece: the header, h, its
/// inverse, the number of atoms, the positions.
pub fn pieces(posdata: &[u8]) -> Vec<&[u8]> {
    let places = Posdata::of(0);
    let ends = [
        places.cell(0),
        places.cell(0) + MATRIX,
        places.atoms(),
        places.positions(0),
        posdata.len(),
    ];
    let mut begin = 0;
    let piece = |end| &posdata[std::mem::replace(&mut begin, end)..end];
    ends.map(piece).to_vec()
}

/// The offsets of the parts of FORCEREADY.
#[derive(Clone, Copy, Debug)]
pub struct ForceReady {
    structures: usize,
    natoms: usize,
}

impl ForceReady {
    pub const fn of(natoms: usize) -> Self {
        Self::batch(1, natoms)
    }

    /// A batch of this many structures with this many atoms each.
    pub const fn batch(structures: usize, natoms: usize) -> Self {
        Self { structures, natoms }
    }

    pub const fn energy(self, structure: usize) -> usize {
        HEADER + structure * REAL
    }

    /// The number of atoms.
    pub const fn atoms(self) -> usize {
        self.energy(self.structures)
    }

    /// The forces on a structure.
    pub const fn forces(self, structure: usize) -> usize {
        self.atoms() + INTEGER + structure * self.natoms * ATOM
    }

    pub const fn virial(self, structure: usize) -> usize {
        self.forces(self.structures) + structure * MATRIX
    }

    /// The length of the first structure's extras; the extras follow.
    pub const fn extras(self) -> usize {
        self.virial(self.structures)
    }

    /// The end of a reply without extras.
    pub const fn end(self) -> usize {
        self.extras() + self.structures * INTEGER
    }
}

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

/// Overwrites the integer at this offset in a message.
pub fn put_integer(message: &mut [u8], at: usize, value: i32) {
    message[at..at + INTEGER].copy_from_slice(&integer(value));
}

/// Overwrites the real at this offset in a message.
pub fn put_real(message: &mut [u8], at: usize, value: f64) {
    message[at..at + REAL].copy_from_slice(&value.to_le_bytes());
}

/// The integer at this offset in a message.
pub fn integer_at(message: &[u8], at: usize) -> i32 {
    i32::from_le_bytes(*message[at..].first_chunk().expect("an integer"))
}

/// The real at this offset in a message.
pub fn real_at(message: &[u8], at: usize) -> f64 {
    f64::from_le_bytes(*message[at..].first_chunk().expect("a real"))
}

/// The bytes as reals.
pub fn numbers(bytes: &[u8]) -> Vec<f64> {
    let (numbers, []) = bytes.as_chunks() else {
        panic!("half a number");
    };
    numbers.iter().map(|it| f64::from_le_bytes(*it)).collect()
}

fn length(len: usize) -> [u8; 4] {
    integer(i32::try_from(len).expect("a length of the protocol"))
}

pub fn init(replica: i32, text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    [INIT, &integer(replica)[..], &length(text.len()), text].concat()
}

/// POSDATA of one structure: h and its inverse row by row, then x, y, z of each atom.
pub fn posdata(h: &[f64; 9], inverse: &[f64; 9], positions: &[f64]) -> Vec<u8> {
    [
        POSDATA,
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
        POSDATA,
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
        FORCEREADY,
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
