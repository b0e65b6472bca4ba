//! A frame as it is sent to drivers: the protocol has three cell vectors, and can't mark directions
//! as not periodic.

use forcewire::{Cell, Rotation};

use crate::units::Units;
use crate::xyz::Frame;

/// The length of the cell along directions that are not periodic, bohr.
pub const EDGE: f64 = 1000.0;

/// How to send directions that are not periodic.
#[derive(Clone, Copy, Debug)]
pub struct Vacuum {
    /// The length of the cell along them, bohr, if the user has chosen one. Otherwise it is
    /// [`EDGE`], or more if the structure is longer than half of that.
    pub edge: Option<f64>,
    /// Send the Lattice as it is, ignoring pbc.
    pub as_periodic: bool,
}

/// The cell that is sent (bohr, upper triangular), and the rotation into it.
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
            let edge = vacuum.edge.unwrap_or_else(|| {
                let extent = extent(&frame.positions) * scale;
                if extent > 0.5 * EDGE {
                    EDGE + extent
                } else {
                    EDGE
                }
            });
            let periodic: Vec<_> = scaled
                .iter()
                .zip(frame.pbc)
                .filter(|(_, is_periodic)| *is_periodic)
                .map(|(v, _)| *v)
                .collect();
            let filled = completed(&periodic, edge)?;
            let (kept, added) = filled.split_at(periodic.len());
            let (mut kept, mut added) = (kept.iter(), added.iter());
            let mut vectors = [[0.0; 3]; 3];
            for (vector, periodic) in vectors.iter_mut().zip(frame.pbc) {
                *vector = *if periodic { kept.next() } else { added.next() }?;
            }
            // LAMMPS accepts right-handed cells only.
            if Cell::from_vectors(vectors).determinant() < 0.0 {
                let added = frame.pbc.iter().position(|periodic| !periodic)?;
                vectors[added] = vectors[added].map(|x| -x);
            }
            Cell::from_vectors(vectors)
        };
        let (cell, rotation) = cell.to_upper_triangular()?;
        Some(Self { cell, rotation })
    }

    /// The positions to send, bohr.
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

/// Extends up to three vectors to three, with vectors of this length that are orthogonal to the
/// given ones and to each other. `None` if the given ones are linearly dependent.
pub fn completed(given: &[[f64; 3]], length: f64) -> Option<[[f64; 3]; 3]> {
    let unit = |v: [f64; 3]| v.map(|x| x / norm(v));
    let long = |v: [f64; 3]| unit(v).map(|x| x * length);
    let vectors = match *given {
        [] => [[length, 0.0, 0.0], [0.0, length, 0.0], [0.0, 0.0, length]],
        [a] => {
            // The axis that forms the largest angle with a.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(lattice: [[f64; 3]; 3], pbc: [bool; 3], positions: &[[f64; 3]]) -> Frame {
        Frame {
            line: 1,
            species: vec!["Ar".into(); positions.len()],
            positions: positions.to_vec(),
            lattice,
            pbc,
            masses: None,
            motion: None,
            info: Vec::new(),
            others: (String::new(), Vec::new()),
        }
    }

    fn sent(frame: &Frame, edge: Option<f64>, as_periodic: bool) -> Cell {
        let vacuum = Vacuum { edge, as_periodic };
        let sent = Sent::new(frame, Units::Bohr, vacuum).unwrap();
        assert!(sent.cell.is_upper_triangular() && sent.cell.determinant() > 0.0);
        sent.cell
    }

    #[test]
    fn directions_that_are_not_periodic_are_long_and_at_right_angles() {
        let lattice = [[4.0, 0.0, 0.0], [1.0, 5.0, 0.0], [2.0, 3.0, 20.0]];
        for (pbc, edges) in [
            ([false; 3], [1000.0; 3]),
            ([true, false, false], [4.0, 1000.0, 1000.0]),
            ([true, true, false], [4.0, 5.0, 1000.0]),
            ([true, false, true], [4.0, 1000.0, 409_f64.sqrt()]),
            ([true; 3], [4.0, 5.0, 20.0]),
        ] {
            let cell = sent(&frame(lattice, pbc, &[[0.0; 3]]), None, false);
            let widths = cell.widths().unwrap();
            for axis in (0..3).filter(|axis| !pbc[*axis]) {
                assert!(
                    (widths[axis] - edges[axis]).abs() < 1e-9,
                    "{pbc:?}: {widths:?}"
                );
            }
            for (axis, vector) in cell
                .vectors()
                .iter()
                .enumerate()
                .filter(|(axis, _)| pbc[*axis])
            {
                let length = lattice[axis].iter().map(|x| x * x).sum::<f64>();
                let sent = vector.iter().map(|x| x * x).sum::<f64>();
                assert!((length - sent).abs() < 1e-9, "{pbc:?}: {cell:?}");
            }
        }
        let open = frame(lattice, [false; 3], &[[0.0; 3]]);
        assert_eq!(
            sent(&open, Some(30.0), false),
            Cell::orthorhombic([30.0; 3])
        );
        assert_eq!(sent(&open, Some(30.0), true), Cell::from_vectors(lattice));
    }

    #[test]
    fn a_long_structure_never_meets_its_image() {
        let positions = [[0.0; 3], [0.0, 0.0, 900.0]];
        let long = frame([[0.0; 3]; 3], [false; 3], &positions);
        assert_eq!(sent(&long, None, false), Cell::orthorhombic([1900.0; 3]));
        assert_eq!(
            sent(&long, Some(910.0), false),
            Cell::orthorhombic([910.0; 3])
        );
    }
}
