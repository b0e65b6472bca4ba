//! The two structures that are sent to drivers under test.

use std::fs;
use std::path::Path;

use super::wire::Structure;

/// The structure of a file or a small cluster, and the same structure with displaced atoms.
pub fn two(natoms: usize, path: Option<&Path>) -> Result<[Structure; 2], String> {
    let first = match path {
        None => cluster(natoms),
        Some(path) => read(path)?,
    };
    let mut second = first.clone();
    for (index, x) in second.positions.as_flattened_mut().iter_mut().enumerate() {
        *x += 0.05 * ((index + 1) as f64 * 1.7).sin();
    }
    Ok([first, second])
}

/// Atoms near the points of a grid, in a cell that is not quite a box.
fn cluster(natoms: usize) -> Structure {
    const SPACING: f64 = 7.0;
    let edge = (1..)
        .find(|edge: &usize| edge.pow(3) >= natoms)
        .unwrap_or(1);
    let place = |atom: usize, power: u32| {
        let grid = (atom / edge.pow(power) % edge) as f64;
        SPACING * grid + 0.3 * ((3 * atom) as f64 + f64::from(power)).sin()
    };
    let length = SPACING * (edge as f64 + 1.0);
    Structure {
        h: [[length, 1.0, 0.5], [0.0, length, 0.7], [0.0, 0.0, length]],
        positions: (0..natoms)
            .map(|atom| [0, 1, 2].map(|power| place(atom, power)))
            .collect(),
    }
}

pub fn read(path: &Path) -> Result<Structure, String> {
    let name = path.display();
    let text = fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
    let mut rows = Vec::new();
    for (line, text) in text
        .lines()
        .enumerate()
        .filter(|(_, text)| !text.trim().is_empty())
    {
        let numbers: Vec<f64> = text
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        let row = <[f64; 3]>::try_from(numbers);
        rows.push(row.map_err(|_| format!("{name}: line {} is not three numbers", line + 1))?);
    }
    let [a, b, c, positions @ ..] = &rows[..] else {
        return Err(format!("{name}: three vectors of the cell are missing"));
    };
    if positions.is_empty() {
        return Err(format!("{name}: atoms are missing"));
    }
    Ok(Structure {
        h: [0, 1, 2].map(|row| [a[row], b[row], c[row]]),
        positions: positions.to_vec(),
    })
}
