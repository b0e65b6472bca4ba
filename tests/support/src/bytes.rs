//! Structures and answers, and their messages.

use forcewire::{Cell, Evaluation, Event, Virial};

use super::layout;
pub use super::layout::*;

/// POSDATA of [`golden`], written by i-PI 3.3.1.
pub const GOLDEN_POSDATA: &str = "504f534441544120202020200000000000002440000000000000f03f0000000000000040000000000000\
    0000000000000000224000000000000008400000000000000000000000000000000000000000000020409a9999999999b93f176cc116\
    6cc186bf56555555555595bf00000000000000001cc7711cc771bc3f555555555555a5bf000000000000000000000000000000000000\
    00000000c03f01000000000000000000f83f00000000000002c0000000000000c03f";

/// FORCEREADY of [`golden_answer`], written by i-PI 3.3.1.
pub const GOLDEN_FORCEREADY: &str = "464f52434552454144592020000000000000e0bf01000000000000000000d03f000000000000c0bf\
    0000000000000040000000000000f03f0000000000000040000000000000084000000000000000400000000000001040000000000000\
    1440000000000000084000000000000014400000000000001840020000007b7d";

/// INIT of replica 0 with the text `  batch_size:3`, written by i-PI 3.3.1.
pub const GOLDEN_INIT: &str =
    "494e49542020202020202020000000000e000000202062617463685f73697a653a33";

/// POSDATA of [`golden_batch`], written by hand after i-PI's source: header, number of atoms, cells
/// with their inverses, positions. 2.0 and 0.5 end with 0040 and e03f, 4.0 and 0.25 with 1040 and
/// d03f.
pub const GOLDEN_BATCH: &str = "504f53444154412020202020\
    01000000\
    000000000000004000000000000000000000000000000000\
    000000000000000000000000000000400000000000000000\
    000000000000000000000000000000000000000000000040\
    000000000000e03f00000000000000000000000000000000\
    0000000000000000000000000000e03f0000000000000000\
    00000000000000000000000000000000000000000000e03f\
    000000000000104000000000000000000000000000000000\
    000000000000000000000000000010400000000000000000\
    000000000000000000000000000000000000000000001040\
    000000000000d03f00000000000000000000000000000000\
    0000000000000000000000000000d03f0000000000000000\
    00000000000000000000000000000000000000000000d03f\
    000000000000f83f00000000000000000000000000000000\
    000000000000000000000000000002c00000000000000000";

/// Converts hexadecimal digits to bytes.
pub fn hex(digits: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap() as u8;
    let (pairs, []) = digits.as_bytes().as_chunks::<2>() else {
        panic!("half a byte")
    };
    pairs
        .iter()
        .map(|&[high, low]| digit(high) << 4 | digit(low))
        .collect()
}

/// A structure in the form in which a server sends it.
#[derive(Clone, Debug)]
pub struct Structure {
    /// The cell row by row: `ax bx cx ay by cy az bz cz`.
    pub h: [f64; 9],
    pub inverse: [f64; 9],
    pub positions: Vec<[f64; 3]>,
}

impl Structure {
    pub fn cell(&self) -> Cell {
        let [ax, bx, cx, ay, by, cy, az, bz, cz] = self.h;
        Cell::from_rows([[ax, bx, cx], [ay, by, cy], [az, bz, cz]])
    }

    /// The event for a single structure.
    pub fn event(&self) -> Event {
        Event::Positions {
            natoms: self.positions.len(),
            structures: 1,
            cell: self.cell(),
        }
    }
}

/// One atom in a triclinic cell, with the inverse computed by i-PI.
pub fn golden() -> Structure {
    Structure {
        h: [10.0, 1.0, 2.0, 0.0, 9.0, 3.0, 0.0, 0.0, 8.0],
        #[rustfmt::skip]
        inverse: [
            0.1, -0.011111111111111112, -0.020833333333333336,
            0.0, 0.1111111111111111, -0.041666666666666664,
            0.0, 0.0, 0.125,
        ],
        positions: vec![[1.5, -2.25, 0.125]],
    }
}

/// Two structures, each with one atom in a cube.
pub fn golden_batch() -> [Structure; 2] {
    [(2.0, [1.5, 0.0, 0.0]), (4.0, [0.0, -2.25, 0.0])].map(|(edge, position)| Structure {
        h: layout::cube(edge),
        inverse: layout::cube(1.0 / edge),
        positions: vec![position],
    })
}

/// Three atoms in a cube.
pub fn water() -> Structure {
    cube(vec![[0.0, 0.0, 0.2], [0.0, 1.43, -0.9], [0.1, -1.43, -0.9]])
}

/// Any number of atoms in a cube. No number occurs twice, and each has many binary digits.
pub fn atoms(natoms: usize) -> Structure {
    let number = |i: usize| (i as f64 - 7.0) / 7.0;
    cube(
        (0..natoms)
            .map(|i| [number(3 * i), number(3 * i + 1), number(3 * i + 2)])
            .collect(),
    )
}

/// These atoms in a cube of 20 bohr.
pub fn cube(positions: Vec<[f64; 3]>) -> Structure {
    Structure {
        h: [20.0, 0.0, 0.0, 0.0, 20.0, 0.0, 0.0, 0.0, 20.0],
        inverse: [0.05, 0.0, 0.0, 0.0, 0.05, 0.0, 0.0, 0.0, 0.05],
        positions,
    }
}

pub fn posdata(structure: &Structure) -> Vec<u8> {
    let positions = structure.positions.as_flattened();
    layout::posdata(&structure.h, &structure.inverse, positions)
}

pub fn posdata_batch(structures: &[Structure]) -> Vec<u8> {
    let cells: Vec<_> = structures.iter().map(|it| [it.h, it.inverse]).collect();
    let positions: Vec<_> = structures
        .iter()
        .map(|it| it.positions.as_slice())
        .collect();
    layout::posdata_batch(&cells, positions.concat().as_flattened())
}

/// A driver's answer for one structure.
#[derive(Clone, Debug)]
pub struct Answer {
    pub evaluation: Evaluation,
    pub forces: Vec<[f64; 3]>,
    pub extras: Vec<u8>,
}

/// The answer of [`GOLDEN_FORCEREADY`].
pub fn golden_answer() -> Answer {
    Answer {
        evaluation: Evaluation {
            energy: -0.5,
            virial: Virial([[1.0, 2.0, 3.0], [2.0, 4.0, 5.0], [3.0, 5.0, 6.0]]),
        },
        forces: vec![[0.25, -0.125, 2.0]],
        extras: b"{}".to_vec(),
    }
}

/// An answer for any number of atoms; a different `salt` gives a different answer.
pub fn answer(natoms: usize, salt: f64, extras: &[u8]) -> Answer {
    let number = |i: usize| salt - i as f64 / 3.0;
    Answer {
        evaluation: Evaluation {
            energy: salt * -1.25,
            virial: Virial([[salt, 0.1, 0.2], [0.1, -salt, 0.3], [0.2, 0.3, 0.7]]),
        },
        forces: (0..natoms)
            .map(|i| [number(3 * i), number(3 * i + 1), number(3 * i + 2)])
            .collect(),
        extras: extras.to_vec(),
    }
}

pub fn forceready(answer: &Answer) -> Vec<u8> {
    forceready_batch(std::slice::from_ref(answer))
}

pub fn forceready_batch(answers: &[Answer]) -> Vec<u8> {
    let energies: Vec<_> = answers.iter().map(|it| it.evaluation.energy).collect();
    let forces: Vec<_> = answers.iter().map(|it| it.forces.as_slice()).collect();
    let virials: Vec<_> = answers.iter().map(|it| it.evaluation.virial.0).collect();
    let extras: Vec<_> = answers.iter().map(|it| it.extras.as_slice()).collect();
    layout::forceready(
        &energies,
        forces.concat().as_flattened(),
        virials.as_flattened().as_flattened(),
        &extras,
    )
}
