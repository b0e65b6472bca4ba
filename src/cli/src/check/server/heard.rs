//! Faults in a server's messages.

use forcewire::Cell;

use crate::check::report::Fault;
use crate::check::wire::{self, MATRIX};

/// More atoms than any server in a test has.
const MANY: i32 = 10_000_000;

/// Number formats that make the rest of the message unreadable. `bytes` begins after POSDATA's
/// header and may be cut off: a message in float32 is shorter than its reader expects.
pub fn format(bytes: &[u8]) -> Option<Fault> {
    let count = |at: usize| Some(wire::integer(bytes.get(at..at + 4)?));
    let plausible = |count: Option<i32>| count.is_some_and(|count| (1..MANY).contains(&count));
    let announced = count(2 * MATRIX);
    if plausible(announced) || announced == Some(0) {
        return None;
    }
    let swapped = announced.map(i32::swap_bytes);
    if plausible(swapped) {
        return Some(Fault::new(
            "byte order",
            format!(
                "POSDATA is big-endian: it announces {} atoms, {} the other way round; all numbers of the protocol \
                 are little-endian",
                announced.unwrap_or_default(),
                swapped.unwrap_or_default()
            ),
        ));
    }
    plausible(count(MATRIX)).then(|| {
        Fault::new(
            "float32",
            "POSDATA has its number of atoms where float32 numbers would end: cell and positions are float64",
        )
    })
}

/// Faults of a structure: cell, inverse cell, count and positions as they are on the wire.
pub fn structure(key: &[u8]) -> Vec<Fault> {
    let (Some(frame), Some(positions)) = (key.get(..2 * MATRIX), key.get(2 * MATRIX + 4..)) else {
        return Vec::new();
    };
    let (frame, positions) = (wire::numbers(frame), wire::numbers(positions));
    let (h, inverse) = frame.split_at(9);
    let faults = [
        integers("cell", h),
        integers("positions", &positions),
        triangle(h),
        inverted(h, inverse),
        angstrom(h, &positions),
    ];
    faults.into_iter().flatten().collect()
}

/// Finds integers, which look like tiny numbers when they are read as doubles.
fn integers(what: &str, numbers: &[f64]) -> Option<Fault> {
    let mut set = numbers.iter().filter(|x| **x != 0.0).peekable();
    let tiny = |x: &f64| x.abs() < 1e-290 || x.to_bits() >= 0xffff_ffff_0000_0000;
    (set.peek().is_some() && set.all(tiny)).then(|| {
        Fault::new(
            "int64",
            format!(
                "the {what} consist of integers: an array of whole numbers was sent as it is, convert it to float64"
            ),
        )
    })
}

fn triangle(h: &[f64]) -> Option<Fault> {
    let zero = |at: [usize; 3]| at.iter().all(|at| h[*at] == 0.0);
    (zero([1, 2, 5]) && !zero([3, 6, 7])).then(|| {
        Fault::new(
            "transposed cell",
            "the cell is lower triangular, its rows are the vectors: the nine numbers are h row by row, whose \
             columns are the vectors (LAMMPS takes no notice of those below the diagonal)",
        )
    })
}

fn inverted(h: &[f64], inverse: &[f64]) -> Option<Fault> {
    let matrix = |m: &[f64]| [0, 1, 2].map(|row| [0, 1, 2].map(|column| m[3 * row + column]));
    let right = Cell::from_rows(matrix(h)).inverse()?;
    let size = right
        .as_flattened()
        .iter()
        .fold(0.0f64, |size, x| size.max(x.abs()));
    let near = |m: &[[f64; 3]; 3]| {
        let both = m.as_flattened().iter().zip(inverse);
        both.into_iter().all(|(a, b)| (a - b).abs() <= 1e-6 * size)
    };
    if near(&right) {
        return None;
    }
    let turned = [0, 1, 2].map(|row| [0, 1, 2].map(|column| right[column][row]));
    let one = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    let what = match () {
        () if near(&turned) => "transposed",
        () if near(&[[0.0; 3]; 3]) => "zero",
        () if near(&one) => "the unit matrix",
        () => "not the inverse of the cell that comes with it",
    };
    Some(Fault::new(
        "inverse cell",
        format!(
            "the inverse cell is {what}: drivers that use it, as old Fortran ones, fold atoms to wrong places"
        ),
    ))
}

/// No two nuclei are as close as this in bohr, but in angstrom they often are.
const CLOSEST: f64 = 1.2;

fn angstrom(h: &[f64], positions: &[f64]) -> Option<Fault> {
    const SOME: usize = 200; // the others look like them
    let atoms = positions.as_chunks::<3>().0;
    let atoms = &atoms[..atoms.len().min(SOME)];
    let images =
        (0..27).map(|image| [image % 3, image / 3 % 3, image / 9].map(|n| f64::from(n) - 1.0));
    let shifts: Vec<[f64; 3]> = images
        .map(|n| [0, 1, 2].map(|row| (0..3).map(|column| h[3 * row + column] * n[column]).sum()))
        .collect();
    let mut nearest = f64::INFINITY;
    for (index, a) in atoms.iter().enumerate() {
        for b in &atoms[..index] {
            for shift in &shifts {
                let square: f64 = (0..3).map(|x| (a[x] - b[x] + shift[x]).powi(2)).sum();
                nearest = nearest.min(square.sqrt());
            }
        }
    }
    (nearest > 0.0 && nearest < CLOSEST).then(|| {
        Fault::new(
            "angstrom",
            format!(
                "two atoms are {nearest:.3} bohr apart, closer than any two nuclei: positions and cell seem to be in \
                 angstrom, send bohr (1.8897 an angstrom)"
            ),
        )
    })
}

/// How the first structure differs from the expected one, in bohr.
pub fn expected(key: &[u8], right: &wire::Structure) -> Option<Fault> {
    let h = wire::numbers(key.get(..MATRIX)?);
    let positions = wire::numbers(key.get(2 * MATRIX + 4..)?);
    let should = right.positions.as_flattened();
    if positions.len() != should.len() {
        let (sent, natoms) = (positions.len() / 3, should.len() / 3);
        return Some(Fault::new(
            "structure",
            format!("the first structure has {sent} atoms, --structure has {natoms}"),
        ));
    }
    let near = |a: &[f64], b: &[f64], factor: f64| {
        let size = b.iter().fold(1.0f64, |size, x| size.max(x.abs()));
        a.iter()
            .zip(b)
            .all(|(a, b)| (a - factor * b).abs() <= 1e-4 * factor * size)
    };
    let all = |factor| near(&h, right.h.as_flattened(), factor) && near(&positions, should, factor);
    if all(1.0) {
        return None;
    }
    if all(0.529177) {
        return Some(Fault::new(
            "angstrom",
            "cell and positions are those of --structure in angstrom: send bohr (1.8897 an angstrom)",
        ));
    }
    let what = match near(&positions, should, 1.0) {
        true => "the cell of the first structure is not that of --structure",
        false => {
            "the first structure is not that of --structure: other positions, or another order of the atoms"
        }
    };
    Some(Fault::new("structure", what))
}
