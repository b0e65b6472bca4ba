//! Compares forces with differences of the energy.

use super::factors;
use super::series::{Series, distance, lag, largest, scale, sizes};
use crate::check::report::Fault;
use crate::check::wire::Answer;

/// The name of the fault of a driver whose whole answers are one step late.
pub const LATE: &str = "earlier step";

/// The verdict on the forces.
#[derive(Debug, Default)]
pub struct Judged {
    pub fault: Option<Fault>,
    pub note: Option<String>,
    /// Dividing the forces by this number makes them equal the energy's slope.
    pub scale: Option<f64>,
    /// The forces on all atoms according to the energy, if known.
    pub forces: Option<Vec<f64>>,
}

/// Slopes below this value, in hartree/bohr, can't be distinguished from poor convergence.
const FLOOR: f64 = 1e-7;

pub fn judge(series: &Series, tolerance: f64) -> Judged {
    let slope = series.differences();
    let (first, sent) = (&series.first().forces, series.forces());
    // Near an equilibrium forces are small, but their error is as large as elsewhere.
    let change = series.change_of_forces();
    let near = |a: &[f64], b: &[f64]| distance(a, b) <= tolerance * largest(a).max(change) + FLOOR;
    let right = |forces: Vec<f64>| Judged {
        scale: Some(1.0),
        forces: Some(forces),
        ..Judged::default()
    };
    let fault = |name, sentence: String| Judged {
        fault: Some(Fault::new(name, sentence)),
        ..Judged::default()
    };

    if let Some(sentence) = turned(series) {
        return fault("gradient", sentence);
    }
    if near(&slope, &sent) {
        let mut judged = right(first.clone());
        if let Some(sentence) = late_forces(series) {
            judged.fault = Some(Fault::new(LATE, sentence));
        } else if let Some(factor) = factor_of_changes(series, &slope) {
            return scaled(first, factor);
        }
        return judged;
    }
    if largest(&sent) == 0.0 {
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
    let earlier = series.with_energies_earlier();
    if near(&earlier.differences(), &earlier.forces())
        && !lag(&earlier.curvatures(), earlier.first().energy)
    {
        return fault(
            LATE,
            "the energy belongs to the structure before, the forces do not: send the energy of this step".into(),
        );
    }
    let earlier = series.earlier();
    if near(&earlier.differences(), &earlier.forces()) {
        return fault(
            LATE,
            "each answer belongs to the structure before: compute after POSDATA and send what that gave".into(),
        );
    }
    let (factor, rest) = scale(&sent, &slope);
    if rest <= tolerance * largest(&sent).max(change) + FLOOR {
        return scaled(first, factor);
    }
    let natoms = series.natoms();
    let of_atoms = |at: usize| at % 3 * natoms + at / 3;
    if near(&slope, &series.forces_by(|forces, at| forces[of_atoms(at)])) {
        let sentence = "forces are sent with all x first, then all y: send x, y and z of an atom together \
                        (an array (3, natoms) in Fortran, (natoms, 3) in C and Python)";
        return Judged {
            forces: Some((0..3 * natoms).map(|at| first[of_atoms(at)]).collect()),
            ..fault("order", sentence.into())
        };
    }
    for (axes, names) in AXES {
        let of_axes = |at: usize| at - at % 3 + axes[at % 3];
        if near(&slope, &series.forces_by(|forces, at| forces[of_axes(at)])) {
            return Judged {
                forces: Some((0..3 * natoms).map(|at| first[of_axes(at)]).collect()),
                ..fault(
                    "order",
                    format!("the forces on each atom are sent as {names}: send x, y, z"),
                )
            };
        }
    }
    let limit = tolerance * largest(&slope).max(change) + FLOOR;
    if let Some((sentence, forces)) = permuted(series, &slope, limit) {
        return Judged {
            forces,
            ..fault("permuted atoms", sentence)
        };
    }
    scattered(series, &slope, &sent, limit)
}

/// The order of x, y and z in the sent array, and its description.
const AXES: [([usize; 3], &str); 5] = [
    ([0, 2, 1], "x, z, y"),
    ([1, 0, 2], "y, x, z"),
    ([2, 1, 0], "z, y, x"),
    ([2, 0, 1], "y, z, x"),
    ([1, 2, 0], "z, x, y"),
];

/// Judges forces that are too large by this factor.
fn scaled(first: &[f64], factor: f64) -> Judged {
    Judged {
        fault: Some(factors::force(factor)),
        scale: Some(factor),
        forces: Some(first.iter().map(|x| x / factor).collect()),
        note: None,
    }
}

/// Finds some answers whose forces are the structure's forces times a number, for instance -1. A
/// small step can't cause that, unless the forces themselves are small.
fn turned(series: &Series) -> Option<String> {
    let first = &series.first().forces;
    let others = series.answers.get(1..).unwrap_or_default();
    // The effect of a step according to the energies.
    let (curvature, _) = sizes(&series.curvatures());
    let length = largest(series.structure.h.as_flattened());
    let farthest = series.steps.length.max(series.steps.strain * length);
    let usual = curvature / series.steps.length.powi(2) * farthest;
    let size = largest(first);
    let factor = |answer: &Answer| {
        let (factor, rest) = scale(&answer.forces, first);
        let by = (factor - 1.0).abs() * size;
        // If a step moves two atoms out of each other's range, their forces shrink in proportion.
        let may_be = factor < 0.0 || series.natoms() > 2;
        (may_be && by > 3.0 * usual && rest <= 0.1 * by).then_some(factor)
    };
    let factors: Vec<_> = others.iter().filter_map(factor).collect();
    let (count, all) = (factors.len(), series.answers.len());
    let is = match *factors.first()? {
        factor if factors::is(factor, -1.0) => "have the other sign than".into(),
        factor => format!("are {factor:.3} times"),
    };
    Some(format!(
        "forces of {count} of {all} neighbouring structures {is} those of the others: is something kept from one \
         step to the next?"
    ))
}

/// How many times too fast forces change, for forces too small to judge directly. It may be a unit,
/// for instance.
fn factor_of_changes(series: &Series, slope: &[f64]) -> Option<f64> {
    if largest(slope) > series.change_of_forces() {
        return None;
    }
    let curvatures = series.curvatures();
    let (energies, forces): (Vec<_>, Vec<_>) =
        curvatures.iter().map(|pair| (pair[0], pair[1])).unzip();
    let (factor, rest) = scale(&forces, &energies);
    let is_other = lag(&curvatures, series.first().energy) && !factors::is(factor, 1.0);
    (is_other && rest <= 0.01 * largest(&forces)).then_some(factor)
}

/// Finds forces that are right at the structure itself but lag as atoms move.
fn late_forces(series: &Series) -> Option<String> {
    if !lag(&series.curvatures(), series.first().energy) {
        return None;
    }
    let first = &series.first().forces;
    if series.answers.iter().all(|answer| answer.forces == *first) {
        return Some("forces stay those of the first step while the energy changes: compute them in each step".into());
    }
    let earlier = series.with_forces_earlier();
    let (curvature, apart) = sizes(&earlier.curvatures());
    let slope = series.differences();
    let agrees = distance(&slope, &earlier.forces()) <= 0.02 * largest(&slope);
    (agrees && apart < 0.05 * curvature).then(|| {
        "forces belong to the structure before, the energy does not: send the forces of this step".into()
    })
}

/// Finds forces on one atom that belong to another.
fn permuted(series: &Series, slope: &[f64], limit: f64) -> Option<(String, Option<Vec<f64>>)> {
    let sent = series.first().forces.as_chunks::<3>().0;
    let mut places = Vec::new();
    for (&atom, right) in series.moved.iter().zip(slope.as_chunks::<3>().0) {
        let found = sent
            .iter()
            .position(|force| distance(force, right) <= limit)?;
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

/// Describes forces that are wrong in no known way.
fn scattered(series: &Series, slope: &[f64], moved: &[f64], limit: f64) -> Judged {
    let curvatures = series.curvatures();
    let step = series.steps.length;
    let off = |at: &usize| (slope[*at] - moved[*at]).abs() > limit;
    // A jump or noise in the energy also shows in the second difference; a wrong slope does not.
    let rough = |at: &usize| {
        let [energies, forces] = curvatures[*at];
        (energies - forces).abs() > 0.1 * step * (slope[*at] - moved[*at]).abs()
    };
    let outliers: Vec<_> = (0..slope.len()).filter(off).collect();
    let rough = outliers.iter().filter(|outlier| rough(outlier)).count();
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
