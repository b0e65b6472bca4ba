//! The separation of two atoms in a periodic cell.

use super::Real;
use crate::geometry::{Cell, dot, widths};

/// Separations by the minimum image convention, up to a cutoff.
///
/// The image is found by rounding fractional coordinates, r − h round(h⁻¹ r), as in i-PI's Fortran
/// driver (`distance.f90`). It is the nearest image if the nearest one is closer than half the
/// smallest width of the cell. With a longer cutoff exactly one image of each pair counts, the same
/// as in that driver.
pub(crate) struct MinimumImage<T> {
    shape: Shape<T>,
    cutoff: T,
    cutoff_squared: T,
}

enum Shape<T> {
    /// The edges along x, y and z.
    Orthorhombic([Edge<T>; 3]),
    /// Any other cell.
    Triclinic {
        vectors: [[T; 3]; 3],
        inverse: [[T; 3]; 3],
        /// The square of half the smallest width. Shorter separations need no image.
        nearest_squared: T,
    },
}

/// An edge of an orthorhombic cell: its length, 1 / length, and half its absolute length.
#[derive(Clone, Copy)]
struct Edge<T> {
    length: T,
    inverse: T,
    half: T,
}

impl<T: Real> MinimumImage<T> {
    /// Prepares for this cell, whose `inverse` the caller has computed; `cutoff` in bohr.
    pub(crate) fn new(cell: &Cell, inverse: &[[f64; 3]; 3], cutoff: f64) -> Self {
        Self {
            shape: Shape::new(cell, inverse),
            cutoff: T::from_f64(cutoff),
            cutoff_squared: T::from_f64(cutoff * cutoff),
        }
    }

    /// `to − from` by the minimum image, in bohr, and its square; `None` beyond the cutoff.
    ///
    /// An evaluation spends most of its time here. A far pair returns as early as possible, and a
    /// near pair in the same image needs no rounding.
    #[inline]
    pub(crate) fn separation(
        &self,
        [fx, fy, fz]: [T; 3],
        [tx, ty, tz]: [T; 3],
    ) -> Option<([T; 3], T)> {
        let direct = [tx - fx, ty - fy, tz - fz];
        let (separation, squared) = match &self.shape {
            Shape::Orthorhombic(edges) => {
                let ([mut x, mut y, mut z], [ex, ey, ez]) = (direct, edges);
                for (d, edge) in [(&mut x, ex), (&mut y, ey), (&mut z, ez)] {
                    if d.abs() >= edge.half {
                        *d -= (*d * edge.inverse).round() * edge.length;
                    }
                    // Agrees with the test of the square below, because rounding is monotonic.
                    if d.abs() >= self.cutoff {
                        return None;
                    }
                }
                ([x, y, z], dot([x, y, z], [x, y, z]))
            }
            Shape::Triclinic {
                vectors,
                inverse,
                nearest_squared,
            } => {
                let squared = dot(direct, direct);
                if squared < *nearest_squared {
                    (direct, squared)
                } else {
                    let mut image = direct;
                    for (row, vector) in inverse.iter().zip(vectors) {
                        let cells = dot(*row, direct).round();
                        if cells != T::ZERO {
                            for (d, v) in image.iter_mut().zip(vector) {
                                *d -= cells * *v;
                            }
                        }
                    }
                    (image, dot(image, image))
                }
            }
        };
        // `>=` and not `!(<)`: a pair at NaN must contribute to the sum.
        if squared >= self.cutoff_squared {
            None
        } else {
            Some((separation, squared))
        }
    }
}

impl<T: Real> Shape<T> {
    fn new(cell: &Cell, inverse: &[[f64; 3]; 3]) -> Self {
        let [[xx, xy, xz], [yx, yy, yz], [zx, zy, zz]] = *cell.h();
        if [xy, xz, yx, yz, zx, zy] == [0.0; 6] {
            return Self::Orthorhombic([xx, yy, zz].map(|length| Edge {
                length: T::from_f64(length),
                inverse: T::from_f64(1.0 / length),
                half: T::from_f64(0.5 * length.abs()),
            }));
        }
        let narrowest = widths(inverse).into_iter().fold(f64::INFINITY, f64::min);
        Self::Triclinic {
            vectors: cell.vectors().map(|vector| vector.map(T::from_f64)),
            inverse: inverse.map(|row| row.map(T::from_f64)),
            // A little less than 0.25, so that rounding can't put an atom beyond the face.
            nearest_squared: T::from_f64(0.2499 * narrowest * narrowest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The square of the shortest of 4913 separations.
    fn nearest(cell: &Cell, from: [f64; 3], to: [f64; 3]) -> f64 {
        let [a, b, c] = cell.vectors();
        let mut best = f64::INFINITY;
        for i in -8..=8 {
            for j in -8..=8 {
                for k in -8..=8 {
                    let d = [0, 1, 2].map(|x| {
                        to[x] - from[x]
                            + f64::from(i) * a[x]
                            + f64::from(j) * b[x]
                            + f64::from(k) * c[x]
                    });
                    best = best.min(dot(d, d));
                }
            }
        }
        best
    }

    #[test]
    fn finds_the_nearest_image_up_to_half_the_smallest_width() {
        let cells = [
            Cell::orthorhombic([9.0, 7.0, 11.0]),
            Cell::orthorhombic([9.0, -7.0, 11.0]),
            Cell::from_vectors([[9.0, 0.0, 0.0], [4.0, 8.0, 0.0], [-4.0, 3.5, 7.0]]),
            Cell::from_vectors([[9.0, 0.0, 2.0], [0.0, 8.0, 3.0], [0.0, 0.0, 7.0]]),
            Cell::from_vectors([[0.0, 8.0, 1.0], [9.0, 0.5, 0.0], [1.0, 2.0, 7.0]]),
            Cell::from_vectors([[9.0, 0.0, 0.0], [21.0, 8.0, 0.0], [-14.0, 13.0, 7.0]]),
        ];
        let mut random = 1_u64;
        let mut next = || {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (random >> 40) as f64 / (1 << 24) as f64 * 20.0 - 10.0
        };
        for cell in cells {
            let [a, b, c] = cell.vectors();
            let inverse = cell.inverse().unwrap();
            let cutoff = 0.5 * widths(&inverse).into_iter().fold(f64::INFINITY, f64::min);
            let image = MinimumImage::new(&cell, &inverse, cutoff);
            let mut within = 0;
            for _ in 0..200 {
                // Near each other, but in different cells.
                let from = [next(), next(), next()];
                let to =
                    [0, 1, 2].map(|x| from[x] + 0.15 * cutoff * next() + a[x] - 2.0 * b[x] + c[x]);
                let expected = nearest(&cell, from, to);
                match image.separation(from, to) {
                    Some((d, squared)) => {
                        within += 1;
                        assert_eq!(squared, dot(d, d));
                        assert!((squared - expected).abs() < 1e-12 * (1.0 + expected));
                    }
                    None => assert!(expected >= cutoff * cutoff - 1e-12),
                }
            }
            assert!(within > 20);
        }
    }

    #[test]
    fn cutoff_itself_is_out() {
        let cell = Cell::orthorhombic([9.0; 3]);
        let image = MinimumImage::new(&cell, &cell.inverse().unwrap(), 3.0);
        assert!(image.separation([0.0; 3], [3.0, 0.0, 0.0]).is_none());
        assert!(image.separation([0.0; 3], [2.9999, 0.0, 0.0]).is_some());
        assert!(image.separation([0.0; 3], [2.0, 1.0, 2.0]).is_none());
        assert!(image.separation([0.0; 3], [2.0, 1.0, 1.9]).is_some());
    }
}
