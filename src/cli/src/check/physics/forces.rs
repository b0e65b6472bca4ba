//! Forces against differences of the energy.

use super::factors;
use super::series::{Series, distance, largest, scale};
use crate::check::report::Fault;

/// The fault of a driver that answers one step late, as a whole.
pub const LATE: &str = "earlier step";

/// What forces are.
#[derive(Debug, Default)]
pub struct Judged {
    pub fault: Option<Fault>,
    pub note: Option<String>,
    /// By what they have to be divided to be the energy's slope.
    pub scale: Option<f64>,
    /// The forces on all atoms as the energy has them, if that is known.
    pub forces: Option<Vec<f64>>,
}

/// Below this, in hartree/bohr, slopes can't be told from lack of convergence.
const FLOOR: f64 = 1e-7;

pub fn judge(series: &Series, tolerance: f64) -> Judged {
    let slope = series.differences();
    let sent = &series.first().forces;
    let moved = series.of_moved(sent);
    let near = |a: &[f64], b: &[f64]| distance(a, b) <= tolerance * largest(a) + FLOOR;
    let right = |forces: Vec<f64>| Judged {
        scale: Some(1.0),
        forces: Some(forces),
        ..Judged::default()
    };
    let fault = |name, sentence: String| Judged {
        fault: Some(Fault::new(name, sentence)),
        ..Judged::default()
    };

    if near(&slope, &moved) {
        let mut judged = right(sent.clone());
        if let Some(sentence) = late_forces(series) {
            judged.fault = Some(Fault::new(LATE, sentence));
        }
        return judged;
    }
    if largest(&moved) == 0.0 {
        return fault(
            "no forces",
            format!(
                "forces are zero, and the energy changes by up to {:.3e} hartree/bohr: send -dU/dr",
                largest(&slope)
            ),
        );
    }
    if let Some(sentence) = late_forces(series) {
        return fault(LATE, sentence);
    }
    let earlier = series.earlier();
    let late = earlier.of_moved(&earlier.first().forces);
    if near(&earlier.differences(), &late) {
        return fault(
            LATE,
            "each answer belongs to the structure before: compute after POSDATA and send what that gave".into(),
        );
    }
    let (factor, rest) = scale(&moved, &slope);
    if rest <= tolerance * largest(&moved) + FLOOR {
        return Judged {
            fault: Some(factors::force(factor)),
            scale: Some(factor),
            forces: Some(sent.iter().map(|x| x / factor).collect()),
            note: None,
        };
    }
    let natoms = series.natoms();
    let untransposed: Vec<_> = (0..3 * natoms)
        .map(|at| sent[at % 3 * natoms + at / 3])
        .collect();
    if near(&slope, &series.of_moved(&untransposed)) {
        let sentence = "forces are sent with all x first, then all y: send x, y and z of an atom together \
                        (an array (3, natoms) in Fortran, (natoms, 3) in C and Python)";
        return Judged {
            forces: Some(untransposed),
            ..fault("order", sentence.into())
        };
    }
    if let Some((sentence, forces)) = permuted(series, &slope, tolerance) {
        return Judged {
            forces,
            ..fault("permuted atoms", sentence)
        };
    }
    scattered(series, &slope, &moved, tolerance)
}

/// Forces that are right where they are measured, and lag as atoms move.
fn late_forces(series: &Series) -> Option<String> {
    let size = |curvatures: &[[f64; 2]]| {
        let energies: Vec<_> = curvatures.iter().map(|it| it[0]).collect();
        let apart: Vec<_> = curvatures.iter().map(|it| it[0] - it[1]).collect();
        (largest(&energies), largest(&apart))
    };
    let (curvature, apart) = size(&series.curvatures());
    // The energy's digits must be enough for a second difference.
    if curvature <= 1e-10 * series.first().energy.abs() || apart < 0.2 * curvature {
        return None;
    }
    let first = &series.first().forces;
    if series.answers.iter().all(|it| it.forces == *first) {
        return Some("forces stay those of the first step while the energy changes: compute them in each step".into());
    }
    let earlier = series.with_forces_earlier();
    let (_, apart) = size(&earlier.curvatures());
    let slope = series.differences();
    let moved = earlier.of_moved(&earlier.first().forces);
    let agrees = distance(&slope, &moved) <= 0.02 * largest(&slope);
    (agrees && apart < 0.05 * curvature).then(|| {
        "forces belong to the structure before, the energy does not: send the forces of this step".into()
    })
}

/// Forces on one atom that another one should have.
fn permuted(series: &Series, slope: &[f64], tolerance: f64) -> Option<(String, Option<Vec<f64>>)> {
    let sent = series.first().forces.as_chunks::<3>().0;
    let limit = tolerance * largest(slope) + FLOOR;
    let mut places = Vec::new();
    for (&atom, right) in series.moved.iter().zip(slope.as_chunks::<3>().0) {
        let found = sent.iter().position(|it| distance(it, right) <= limit)?;
        places.push((atom, found));
    }
    let (atom, found) = places.iter().find(|(atom, found)| atom != found)?;
    let all = places.len() == sent.len();
    let forces = all.then(|| places.iter().flat_map(|&(_, found)| sent[found]).collect());
    let sentence = format!(
        "forces are those of other atoms: atom {found} has the force of atom {atom} (counted from 0); send them in \
         the order of the positions, undo any sorting by species"
    );
    Some((sentence, forces))
}

/// Neither right nor wrong in a way that is known.
fn scattered(series: &Series, slope: &[f64], moved: &[f64], tolerance: f64) -> Judged {
    let curvatures = series.curvatures();
    let step = series.steps.length;
    let limit = tolerance * largest(slope) + FLOOR;
    let off = |at: &usize| (slope[*at] - moved[*at]).abs() > limit;
    // An energy that jumps or scatters shows in the second difference, too; a wrong slope does not.
    let rough = |at: &usize| {
        let [energies, forces] = curvatures[*at];
        (energies - forces).abs() > 0.1 * step * (slope[*at] - moved[*at]).abs()
    };
    let outliers: Vec<_> = (0..slope.len()).filter(off).collect();
    let rough = outliers.iter().filter(|it| rough(it)).count();
    if rough == outliers.len() && outliers.len() * 4 <= slope.len() {
        let note = format!(
            "the energy jumps where {} of {} coordinates move, as at a cutoff; the others are right",
            outliers.len(),
            slope.len()
        );
        return Judged {
            note: Some(note),
            scale: Some(1.0),
            forces: Some(series.first().forces.clone()),
            fault: None,
        };
    }
    if 2 * rough > outliers.len() {
        let scatter = curvatures.iter().map(|[a, b]| (a - b).abs());
        let scatter = scatter.fold(0.0, f64::max);
        return Judged {
            fault: Some(Fault::new(
                "noise",
                format!(
                    "the energy scatters by about {scatter:.1e} hartree between neighbouring structures, more than \
                     forces explain: converge it further, in double precision, and always begin from the same guess \
                     (--single allows for float32)"
                ),
            )),
            ..Judged::default()
        };
    }
    let worst = outliers.into_iter().max_by(|a, b| {
        (slope[*a] - moved[*a])
            .abs()
            .total_cmp(&(slope[*b] - moved[*b]).abs())
    });
    let at = worst.unwrap_or_default();
    let (atom, axis) = (series.moved[at / 3], ["x", "y", "z"][at % 3]);
    Judged {
        fault: Some(Fault::new(
            "gradient",
            format!(
                "forces are not the energy's slope: on atom {atom}, {axis}, {:.6e} was sent and differences give \
                 {:.6e} hartree/bohr; a part of the energy has no forces, or they are of another structure",
                moved[at], slope[at]
            ),
        )),
        ..Judged::default()
    }
}
