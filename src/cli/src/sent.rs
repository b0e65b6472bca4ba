//! A frame as drivers get it: the protocol has a cell of three vectors, and no word for directions
//! that are not periodic.

use forcewire::{Cell, Rotation};

use crate::units::Units;
use crate::xyz::Frame;

/// What is done about directions that are not periodic.
#[derive(Clone, Copy, Debug)]
pub struct Vacuum {
    /// The length of the cell along them, bohr. A structure longer than half of it gets more.
    pub edge: f64,
    /// Send the Lattice as it is, whatever pbc says.
    pub as_periodic: bool,
}

/// The cell that is sent, bohr, upper triangular, and what turns the atoms into it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sent {
    pub cell: Cell,
    pub rotation: Rotation,
}

impl Sent {
    pub fn new(frame: &Frame, units: Units, vacuum: Vacuum) -> Option<Self> {
        let scale = units.in_bohr();
        let scaled = frame.lattice.map(|vector| vector.map(|x| x * scale));
        let whole = Cell::from_vectors(scaled);
        let cell = if frame.pbc == [true; 3] || vacuum.as_periodic && whole.inverse().is_some() {
            whole
        } else {
            let edge = vacuum.edge;
            let extent = extent(&frame.positions) * scale;
            let edge = if extent > 0.5 * edge {
                edge + extent
            } else {
                edge
            };
            let periodic: Vec<_> = scaled
                .iter()
                .zip(frame.pbc)
                .filter(|(_, it)| *it)
                .map(|(v, _)| *v)
                .collect();
            let filled = completed(&periodic, edge)?;
            let (kept, added) = filled.split_at(periodic.len());
            let (mut kept, mut added) = (kept.iter(), added.iter());
            let mut vectors = [[0.0; 3]; 3];
            for (vector, periodic) in vectors.iter_mut().zip(frame.pbc) {
                *vector = *if periodic { kept.next() } else { added.next() }?;
            }
            // LAMMPS takes right-handed cells only.
            if Cell::from_vectors(vectors).determinant() < 0.0 {
                let added = frame.pbc.iter().position(|periodic| !periodic)?;
                vectors[added] = vectors[added].map(|x| -x);
            }
            Cell::from_vectors(vectors)
        };
        let (cell, rotation) = cell.to_upper_triangular()?;
        Some(Self { cell, rotation })
    }

    /// Positions as they are sent, bohr.
    pub fn positions(&self, frame: &Frame, units: Units) -> Vec<[f64; 3]> {
        let scale = units.in_bohr();
        let positions = frame.positions.iter();
        positions
            .map(|r| self.rotation.apply(r.map(|x| x * scale)))
            .collect()
    }
}

/// The diagonal of the box around all positions.
pub fn extent(positions: &[[f64; 3]]) -> f64 {
    let edges = [0, 1, 2].map(|axis| {
        let along = positions.iter().map(|r| r[axis]);
        let (low, high) = along.fold((f64::MAX, f64::MIN), |(low, high), x| {
            (low.min(x), high.max(x))
        });
        (high - low).max(0.0)
    });
    norm(edges)
}

/// Up to three vectors, and as many more of this length, at right angles to them and to each other,
/// as there are to three. `None` if those that are given depend on each other.
pub fn completed(given: &[[f64; 3]], length: f64) -> Option<[[f64; 3]; 3]> {
    let unit = |v: [f64; 3]| v.map(|x| x / norm(v));
    let long = |v: [f64; 3]| unit(v).map(|x| x * length);
    let vectors = match *given {
        [] => [[length, 0.0, 0.0], [0.0, length, 0.0], [0.0, 0.0, length]],
        [a] => {
            // The axis that is farthest from a.
            let mut axis = [0.0; 3];
            let smallest = (0..3).min_by(|&i, &j| a[i].abs().total_cmp(&a[j].abs()))?;
            axis[smallest] = 1.0;
            let b = cross(unit(a), axis);
            [a, long(b), long(cross(unit(a), unit(b)))]
        }
        [a, b] => [a, b, long(cross(unit(a), unit(b)))],
        [a, b, c] => [a, b, c],
        _ => return None,
    };
    Cell::from_vectors(vectors).inverse().map(|_| vectors)
}

fn cross([ax, ay, az]: [f64; 3], [bx, by, bz]: [f64; 3]) -> [f64; 3] {
    [ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx]
}

fn norm([x, y, z]: [f64; 3]) -> f64 {
    (x * x + y * y + z * z).sqrt()
}
