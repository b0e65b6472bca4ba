//! Linked cells in the caller's memory, which find the pairs of atoms that may be closer than the
//! cutoff.
//!
//! The periodic cell is divided along its vectors into boxes at least as wide as the cutoff, so an
//! atom's neighbours are in its own box and the 26 around it. Each box holds the number of its
//! first atom, and each atom holds the number of the next one in the same box:
//!
//! ```text
//! storage   [ first atom of box 0, of box 1, … | the atom after atom 0, after atom 1, … | unused ]
//! ```

use core::iter;

use super::Real;
use crate::geometry::{dot, widths};

/// How many `u32` a pair potential needs for a cost that grows linearly with this many atoms: two
/// for each.
///
/// Pass them to [`LennardJones::with_storage`](super::LennardJones::with_storage) or
/// [`SilveraGoldman::with_storage`](super::SilveraGoldman::with_storage). With less, but more than
/// one for each atom, the boxes are larger and an evaluation is slower; with even less, all pairs
/// are tried. The results are the same except for the order of summation.
///
/// ```
/// use forcewire::potential::storage_for;
///
/// const STORAGE: usize = storage_for(108);
/// assert_eq!(STORAGE, 216);
/// ```
#[must_use]
pub const fn storage_for(natoms: usize) -> usize {
    natoms.saturating_mul(2)
}

/// Atoms sorted into boxes.
pub(super) struct LinkedCells<'a> {
    boxes: [usize; 3],
    first: &'a [u32],
    next: &'a [u32],
}

impl<'a> LinkedCells<'a> {
    /// Sorts the atoms. Returns `None` if that saves nothing, because the cell is too small for the
    /// cutoff or the storage for the atoms.
    pub(super) fn new<T: Real>(
        inverse: &[[f64; 3]; 3],
        cutoff: f64,
        positions: &[[T; 3]],
        storage: &'a mut [u32],
    ) -> Option<Self> {
        let natoms = positions.len();
        let capacity = storage.len().checked_sub(natoms)?.min(natoms);
        let boxes = divide(widths(inverse), cutoff, capacity)?;
        let [na, nb, nc] = boxes;

        let (first, rest) = storage.split_at_mut_checked(na * nb * nc)?;
        let next = rest.get_mut(..natoms)?;
        first.fill(NONE);
        // Backwards, so that each list is in ascending order.
        let atoms = 0..u32::try_from(natoms).ok()?;
        for (atom, (position, after)) in atoms.zip(positions.iter().zip(&mut *next)).rev() {
            let r = position.map(T::to_f64);
            let [a, b, c] = inverse.map(|row| dot(row, r));
            let index = (place(a, na) * nb + place(b, nb)) * nc + place(c, nc);
            *after = core::mem::replace(first.get_mut(index)?, atom);
        }
        Some(Self { boxes, first, next })
    }

    /// Each atom with the atoms that may be its neighbours. Each pair occurs once.
    pub(super) fn rows(&self) -> impl Iterator<Item = (usize, impl Iterator<Item = usize>)> {
        let [na, nb, nc] = self.boxes;
        (0..na)
            .flat_map(move |a| (0..nb).flat_map(move |b| (0..nc).map(move |c| [a, b, c])))
            .flat_map(move |at| {
                self.members(at).map(move |atom| {
                    let others = HALF_OF_THE_NEIGHBOURS
                        .iter()
                        .filter_map(move |offset| self.neighbour(at, *offset))
                        .flat_map(move |neighbour| self.members(neighbour));
                    (atom, self.after(atom).chain(others))
                })
            })
    }

    /// The atoms in a box.
    fn members(&self, [a, b, c]: [usize; 3]) -> impl Iterator<Item = usize> {
        let [_, nb, nc] = self.boxes;
        let first = self.first.get((a * nb + b) * nc + c).copied();
        iter::successors(first.and_then(known), |atom| {
            self.next.get(*atom).copied().and_then(known)
        })
    }

    /// The atoms after this one in the same box.
    fn after(&self, atom: usize) -> impl Iterator<Item = usize> {
        let next = |atom: &usize| self.next.get(*atom).copied().and_then(known);
        iter::successors(next(&atom), next)
    }

    /// The box at this offset from another; `None` along a vector that is not divided.
    fn neighbour(&self, [a, b, c]: [usize; 3], [oa, ob, oc]: [Offset; 3]) -> Option<[usize; 3]> {
        let [na, nb, nc] = self.boxes;
        Some([oa.from(a, na)?, ob.from(b, nb)?, oc.from(c, nc)?])
    }
}

/// How many boxes to make along each vector, at most `capacity` in total.
///
/// Up to three boxes in a row are all neighbours of each other, so one box does the same.
fn divide(widths: [f64; 3], cutoff: f64, capacity: usize) -> Option<[usize; 3]> {
    let worthwhile = |n: usize| if n < 4 { 1 } else { n };
    // The cast saturates, and turns NaN into 0.
    let mut boxes =
        widths.map(|width| worthwhile(((width / (SLACK * cutoff)) as usize).min(capacity)));
    while boxes
        .iter()
        .fold(1, |product: usize, n| product.saturating_mul(*n))
        > capacity.max(1)
    {
        let most = boxes.iter_mut().max()?;
        *most = worthwhile(*most - 1 - *most / 16);
    }
    (boxes != [1; 3]).then_some(boxes)
}

/// The box along one of the vectors for this fractional coordinate; the atom may be several cells
/// away.
fn place(fraction: f64, boxes: usize) -> usize {
    let folded = fraction - libm::floor(fraction);
    ((folded * boxes as f64) as usize).min(boxes - 1)
}

fn known(atom: u32) -> Option<usize> {
    (atom != NONE).then_some(atom as usize)
}

#[derive(Clone, Copy)]
enum Offset {
    Back,
    Same,
    Ahead,
}

impl Offset {
    /// The place at this offset in a ring of boxes.
    fn from(self, place: usize, boxes: usize) -> Option<usize> {
        let last = boxes - 1;
        match self {
            Self::Same => Some(place),
            Self::Back | Self::Ahead if boxes == 1 => None,
            Self::Back => Some(if place == 0 { last } else { place - 1 }),
            Self::Ahead => Some(if place == last { 0 } else { place + 1 }),
        }
    }
}

/// One of each pair of opposite neighbours, so that each pair of boxes occurs once.
const HALF_OF_THE_NEIGHBOURS: [[Offset; 3]; 13] = {
    use Offset::{Ahead as P, Back as M, Same as O};
    [
        [O, O, P],
        [O, P, M],
        [O, P, O],
        [O, P, P],
        [P, M, M],
        [P, M, O],
        [P, M, P],
        [P, O, M],
        [P, O, O],
        [P, O, P],
        [P, P, M],
        [P, P, O],
        [P, P, P],
    ]
};

/// The factor by which boxes are wider than the cutoff, because separations in `f32` are rounded
/// and the boxes are not.
const SLACK: f64 = 1.001;

/// Marks the end of a list.
const NONE: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    extern crate std;

    use std::collections::BTreeSet;
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::geometry::Cell;
    use crate::potential::minimum_image::MinimumImage;

    fn atoms(cell: &Cell, natoms: usize) -> Vec<[f64; 3]> {
        let [a, b, c] = cell.vectors();
        let mut random = 7_u64;
        let mut next = || {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (random >> 40) as f64 / (1 << 24) as f64 * 3.0 - 1.0
        };
        iter::repeat_with(|| [next(), next(), next()])
            .map(|[s, t, u]| [0, 1, 2].map(|x| s * a[x] + t * b[x] + u * c[x]))
            .take(natoms)
            .collect()
    }

    /// The pairs from the boxes, and their number.
    fn pairs(
        cell: &Cell,
        cutoff: f64,
        atoms: &[[f64; 3]],
        storage: usize,
    ) -> Option<BTreeSet<(usize, usize)>> {
        let mut storage = vec![99; storage];
        let cells = LinkedCells::new(&cell.inverse().unwrap(), cutoff, atoms, &mut storage)?;
        let mut met = BTreeSet::new();
        for (i, others) in cells.rows() {
            for j in others {
                assert!(met.insert((i.min(j), i.max(j))), "a pair comes twice");
                assert_ne!(i, j);
            }
        }
        Some(met)
    }

    #[test]
    fn every_pair_within_the_cutoff_is_met_once() {
        let cells = [
            Cell::orthorhombic([12.0, 13.0, 14.0]),
            Cell::orthorhombic([16.1, -12.9, 4.0]),
            Cell::from_vectors([[12.0, 0.0, 0.0], [5.0, 13.0, 0.0], [-6.0, 4.0, 19.0]]),
            Cell::from_vectors([[1.0, 14.0, 0.0], [13.0, 0.0, 0.0], [0.5, 2.0, 25.0]]),
        ];
        for cell in cells {
            let atoms = atoms(&cell, 200);
            let inverse = cell.inverse().unwrap();
            let image = MinimumImage::new(&cell, &inverse, 3.0);
            for storage in [storage_for(200), 264, 215] {
                let met = pairs(&cell, 3.0, &atoms, storage).expect("boxes");
                for (i, from) in atoms.iter().enumerate() {
                    for (j, to) in atoms.iter().enumerate().skip(i + 1) {
                        assert!(image.separation(*from, *to).is_none() || met.contains(&(i, j)));
                    }
                }
            }
        }
    }

    #[test]
    fn pairs_to_try_grow_linearly() {
        // The density of liquid argon with the usual cutoff: 0.84 / sigma^3 and 2.5 sigma.
        let mut per_atom = Vec::new();
        for natoms in [1000_u32, 8000] {
            let cell = Cell::orthorhombic([libm::cbrt(f64::from(natoms) / 0.84); 3]);
            let natoms = natoms as usize;
            let met = pairs(&cell, 2.5, &atoms(&cell, natoms), storage_for(natoms)).unwrap();
            per_atom.push(met.len() as f64 / natoms as f64);
        }
        // 27 boxes of more than 2.5³ x 0.84 atoms, halved. All pairs would be 500 and 4000.
        assert!(
            per_atom.iter().all(|n| (170.0..280.0).contains(n)),
            "{per_atom:?}"
        );
    }

    #[test]
    fn nothing_to_win_is_none() {
        let cell = Cell::orthorhombic([10.0; 3]);
        let atoms = atoms(&cell, 100);
        assert!(pairs(&cell, 2.4, &atoms, 200).is_some());
        assert!(pairs(&cell, 2.6, &atoms, 200).is_none());
        assert!(pairs(&cell, f64::INFINITY, &atoms, 200).is_none());
        assert!(pairs(&cell, f64::NAN, &atoms, 200).is_none());
        assert!(pairs(&cell, 2.4, &atoms, 104).is_some());
        for storage in [0, 99, 100, 103] {
            assert!(pairs(&cell, 2.4, &atoms, storage).is_none());
        }
        assert!(pairs(&cell, 2.4, &[], 200).is_none());
    }

    #[test]
    fn boxes_are_no_more_than_atoms_in_a_huge_cell() {
        let [a, b, c] = divide([1e9, 1e9, 50.0], 1.0, 5000).unwrap();
        assert!(a * b * c <= 5000 && a * b * c > 3000);
        assert_eq!(divide([f64::INFINITY; 3], 1.0, 64), Some([4; 3]));
    }

    #[test]
    fn an_atom_on_a_face_has_a_place() {
        assert_eq!(place(1.0, 5), 0);
        assert_eq!(place(-1e-20, 5), 4);
        assert_eq!(place(-0.1, 5), 4);
        assert_eq!(place(7.999_999, 5), 4);
    }
}
