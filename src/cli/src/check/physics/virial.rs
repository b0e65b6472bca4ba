//! Compares the virial with differences of the energy under strain.

use forcewire::Cell;

use super::factors;
use super::forces;
use super::series::{Series, distance, lag, largest, scale, sizes};
use crate::check::report::Fault;

/// The verdict on the virial.
#[derive(Debug, Default)]
pub struct Judged {
    pub fault: Option<Fault>,
    pub note: Option<String>,
    /// Dividing the virial by this number makes it equal the energy's slope.
    pub scale: Option<f64>,
}

pub fn judge(series: &Series, forces: &forces::Judged, tolerance: f64) -> Judged {
    let (slope, mean) = (series.strains(), series.virial());
    let sent = &series.first().virial[..];
    // Pairs cancel in the virial, but their errors don't.
    let length = largest(series.structure.h.as_flattened());
    let pull = largest(&series.differences()) * length;
    let size = largest(&slope).max(series.change_of_virial());
    let limit = 2.0 * tolerance * size + 0.1 * tolerance * pull + 1e-7;
    let near = |a: &[f64], b: &[f64]| distance(a, b) <= limit;
    let fault = |name, sentence: String| Judged {
        fault: Some(Fault::new(name, sentence)),
        ..Judged::default()
    };
    let is_right = near(&slope, &mean);
    if !is_right && let Some(note) = external(forces) {
        return Judged {
            note: Some(note),
            ..Judged::default()
        };
    }
    if let Some(sentence) = late(series) {
        return fault("earlier virial", sentence);
    }
    if is_right {
        return Judged {
            scale: Some(1.0),
            ..Judged::default()
        };
    }
    let turned = transposed(sent);
    if near(&slope, &turned) {
        return fault(
            "virial transposed",
            "the virial is transposed: send it row by row".into(),
        );
    }
    if largest(sent) == 0.0 {
        return fault(
            "no virial",
            format!(
                "the virial is zero, and the energy depends on the cell (up to {:.3e} hartree): send \
                 -dU/d(strain), or keep the volume constant",
                largest(&slope)
            ),
        );
    }
    let (factor, rest) = scale(&mean, &slope);
    if rest <= 2.0 * tolerance * largest(&mean) {
        return Judged {
            fault: (!factors::is(factor, 1.0)).then(|| factors::virial(factor, series)),
            scale: Some(factor),
            note: None,
        };
    }
    if let Some(note) = corrected(&mean, &slope, &near) {
        return Judged {
            note: Some(note),
            scale: Some(1.0),
            ..Judged::default()
        };
    }
    if let Some(judged) = half(sent, &slope, &near) {
        return judged;
    }
    if let Some(judged) = cell(series, forces, &slope, &near) {
        return judged;
    }
    let farthest = |from: &[f64]| {
        let apart = |at: &usize| (from[*at] - sent[*at]).abs();
        let worst = (0..9).max_by(|a, b| apart(a).total_cmp(&apart(b)));
        worst.unwrap_or_default()
    };
    let of_molecule = |forces: &Vec<f64>| {
        let virial = of_positions(series, forces);
        near(&virial, sent) || near(&virial, &turned)
    };
    if forces.forces.as_ref().is_some_and(of_molecule) {
        return fault(
            "virial of a molecule",
            "the virial is the sum of positions times forces, which is right for a molecule: in a periodic cell \
             pairs interact through its faces; sum their distances times their forces, or send -dU/d(strain)"
                .into(),
        );
    }
    if distance(sent, &turned) > limit {
        let at = farthest(&turned);
        return fault(
            "virial not symmetric",
            format!(
                "the virial is not symmetric ({:.3e} and {:.3e} hartree across the diagonal), and no turn of the cell \
                 changes the energy: something is added to one half only",
                sent[at], turned[at]
            ),
        );
    }
    let at = farthest(&slope);
    let element = ["xx", "xy", "xz", "yx", "yy", "yz", "zx", "zy", "zz"][at];
    fault(
        "virial",
        format!(
            "the virial is not the energy's slope under strain: {element} was sent as {:.6e}, and differences give \
             {:.6e} hartree; a part of the energy is missing, or the cell is not the one that was sent",
            sent[at], slope[at]
        ),
    )
}

/// Finds a virial that belongs to the previous structure. It looks right where it hardly changes,
/// and lags under strain.
fn late(series: &Series) -> Option<String> {
    let energy = series.first().energy;
    if !lag(&series.curvatures_of_strains(), energy) || largest(&series.first().virial) == 0.0 {
        return None;
    }
    let curvatures = series.with_virials_earlier().curvatures_of_strains();
    // The last virial was never sent.
    let (_, known) = curvatures.split_last()?;
    let (curvature, apart) = sizes(known);
    (apart < 0.05 * curvature).then(|| {
        "the virial belongs to the structure before, energy and forces do not: send the virial of this step".into()
    })
}

/// Finds a pressure that is no slope of the energy. A tail correction for a fixed cutoff depends on
/// the volume, and so does the number of pairs that a strain moves across the cutoff; the energies
/// of a small strain don't show these pairs.
fn corrected(mean: &[f64], slope: &[f64], near: &dyn Fn(&[f64], &[f64]) -> bool) -> Option<String> {
    let apart: Vec<_> = mean.iter().zip(slope).map(|(a, b)| a - b).collect();
    let pressure = (apart[0] + apart[4] + apart[8]) / 3.0;
    let diagonal = (0..9).map(|at| if at % 4 == 0 { pressure } else { 0.0 });
    let is_one = near(&diagonal.collect::<Vec<_>>(), &apart);
    (is_one && pressure.abs() <= 0.1 * largest(slope)).then(|| {
        format!(
            "the diagonal of the virial has {pressure:.3e} hartree that the energy has not: a correction for what is \
             beyond a fixed cutoff, or for a fixed basis"
        )
    })
}

/// The sum of forces times positions, which is the part of the virial that is due to atoms.
fn of_positions(series: &Series, forces: &[f64]) -> Vec<f64> {
    let mut atoms = vec![0.0; 9];
    for (f, r) in forces
        .as_chunks::<3>()
        .0
        .iter()
        .zip(&series.structure.positions)
    {
        for at in 0..9 {
            atoms[at] += f[at / 3] * r[at % 3];
        }
    }
    atoms
}

/// Finds a virial that was sent only in part.
fn half(sent: &[f64], slope: &[f64], near: &dyn Fn(&[f64], &[f64]) -> bool) -> Option<Judged> {
    let only = |wanted: fn(usize, usize) -> bool| {
        let part = slope
            .iter()
            .enumerate()
            .map(|(at, x)| match wanted(at / 3, at % 3) {
                true => *x,
                false => 0.0,
            });
        near(&part.collect::<Vec<_>>(), sent)
    };
    let (name, sentence) = if only(|row, column| row <= column) || only(|row, column| row >= column)
    {
        (
            "half a virial",
            "one half of the virial is zero: servers that average the halves, as ASE's, get half of it; send the \
             whole symmetric matrix",
        )
    } else if only(|row, column| row == column) {
        (
            "half a virial",
            "only the diagonal of the virial is sent: a triclinic cell shears; send the whole symmetric matrix",
        )
    } else {
        return None;
    };
    Some(Judged {
        fault: Some(Fault::new(name, sentence)),
        ..Judged::default()
    })
}

/// Finds energies that belong to a cell other than the one sent. The virial is right for the cell
/// that the driver used, so each hypothesis predicts how the energy changes.
fn cell(
    series: &Series,
    forces: &forces::Judged,
    slope: &[f64],
    near: &dyn Fn(&[f64], &[f64]) -> bool,
) -> Option<Judged> {
    let forces = forces.forces.as_ref()?;
    let (sent, h) = (&series.first().virial, &series.structure.h);
    // The part of the virial from the displacement of atoms, and the part from the cell vectors.
    let atoms = of_positions(series, forces);
    let vectors: Vec<_> = sent.iter().zip(&atoms).map(|(a, b)| a - b).collect();
    let with = |part: &dyn Fn(usize) -> f64| -> Vec<f64> {
        atoms
            .iter()
            .enumerate()
            .map(|(at, x)| x + part(at))
            .collect()
    };
    let fault = |name, sentence: &str| {
        Some(Judged {
            fault: Some(Fault::new(name, sentence)),
            ..Judged::default()
        })
    };
    if near(slope, &with(&|_| 0.0)) {
        return fault(
            "earlier cell",
            "the energy does not follow the cell, the virial does: the first cell is used in all steps; read the \
             cell of each POSDATA",
        );
    }
    let before = |at: usize| match at {
        0 => 0.0,
        _ => vectors[at - 1],
    };
    if near(slope, &with(&|at| -0.5 * (before(at) + vectors[at]))) {
        return fault(
            "earlier cell",
            "the energy belongs to the cell of the step before: use the cell that came with these positions",
        );
    }
    // The driver's cell is a = hᵀ. The part from its vectors is -dU/da aᵀ, and a strain changes a
    // by hᵀεᵀ.
    let a = [0, 1, 2].map(|row| [0, 1, 2].map(|column| h[column][row]));
    let inverse = Cell::from_rows(a).inverse()?;
    let pull = |i: usize, k: usize| {
        (0..3)
            .map(|j| vectors[3 * i + j] * inverse[k][j])
            .sum::<f64>()
    };
    let part = |at: usize| {
        let (k, l) = (at / 3, at % 3);
        (0..3).map(|i| pull(i, k) * a[i][l]).sum::<f64>()
    };
    if near(slope, &with(&part)) {
        return fault(
            "transposed cell",
            "energy and virial are those of the transposed cell, wrong only where the cell is not a box: the nine \
             numbers are h row by row, its columns are the vectors (a Fortran array that is read in has to be \
             transposed)",
        );
    }
    // Elements below the diagonal are zero with servers that rotate the cell, as i-PI does.
    let upper = |at: &usize| *at / 3 <= *at % 3;
    let chosen: Vec<_> = (0..9).filter(upper).collect();
    let pick = |numbers: &[f64]| -> Vec<f64> { chosen.iter().map(|at| numbers[*at]).collect() };
    near(&pick(slope), &pick(sent)).then(|| Judged {
        note: Some(
            "cells that are not upper triangular are not understood, which i-PI never sends".into(),
        ),
        scale: Some(1.0),
        fault: None,
    })
}

/// Finds an energy that depends on absolute positions: there is no agreed virial of an external
/// field.
fn external(forces: &forces::Judged) -> Option<String> {
    let forces = forces.forces.as_ref()?;
    let mut net = [0.0; 3];
    for f in forces.as_chunks::<3>().0 {
        (0..3).for_each(|axis| net[axis] += f[axis]);
    }
    (largest(&net) > 1e-3 * largest(forces)).then(|| {
        "the virial is not judged: forces do not add up to zero, so there is an external field"
            .into()
    })
}

fn transposed(matrix: &[f64]) -> Vec<f64> {
    (0..9).map(|at| matrix[3 * (at % 3) + at / 3]).collect()
}
