//! The models of i-PI's driver, under the same names.

use std::time::Duration;

use clap::ValueEnum;
use forcewire::potential::{Harmonic, Harmonic1d, IdealGas, Morse};
use forcewire::{Cell, Evaluation, Potential, PotentialError};

use super::images::{Form, Images};
use crate::number::real;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Model {
    Gas,
    Harm,
    Harm3d,
    Morse,
    Lj,
    Sg,
}

/// The treatment of the cutoff in lj and sg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AtCutoff {
    /// Add the mean contribution from beyond the cutoff
    Tail,
    /// Like tail, with a cutoff that scales with the volume relative to the first structure, as in
    /// i-PI's driver: results depend on the structures sent before
    Ipi,
    /// Truncate the energy at the cutoff, as LAMMPS does
    Truncated,
    /// Shift the energy of a pair to 0 at the cutoff, as ASE does
    Shifted,
}

/// Builds the model from its parameters.
pub fn model(
    model: Model,
    parameters: Option<&str>,
    cutoff: Option<AtCutoff>,
) -> Result<Box<dyn Potential<Real = f64>>, String> {
    let name = model
        .to_possible_value()
        .map_or_else(String::new, |model| model.get_name().to_owned());
    let has_cutoff = matches!(model, Model::Lj | Model::Sg);
    if cutoff.is_some() && !has_cutoff {
        return Err(format!("--cutoff is for -m lj and sg, not for -m {name}"));
    }
    let words = parameters
        .unwrap_or_default()
        .split([',', ' ', '\t'])
        .filter(|word| !word.is_empty());
    let numbers = words
        .map(|text| match text {
            "inf" if has_cutoff => Ok(f64::INFINITY),
            _ => real(text).ok_or_else(|| format!("-o takes numbers, not {text:?}")),
        })
        .collect::<Result<Vec<f64>, _>>()?;
    let numbers = numbers.as_slice();
    let takes = |needed: &str| {
        let given = numbers.len();
        Err(format!(
            "-m {name} takes {needed}, and -o gives {given} numbers"
        ))
    };
    let more_than_zero = |what: &str, number: f64| match number > 0.0 {
        true => Ok(()),
        false => Err(format!(
            "{what} of -m {name} must be more than 0, not {number}"
        )),
    };
    let at_cutoff = cutoff.unwrap_or(AtCutoff::Tail);
    Ok(match (model, numbers) {
        (Model::Gas, []) => Box::new(IdealGas::new()),
        (Model::Gas, &[seconds]) => {
            let delay = Duration::try_from_secs_f64(seconds)
                .map_err(|_| format!("-m gas takes seconds of delay, not {seconds}"))?;
            Box::new(Delayed(IdealGas::new(), delay))
        }
        (Model::Gas, _) => return takes("-o DELAY or no parameters"),
        (Model::Harm, &[k]) => Box::new(Harmonic1d::new(k)),
        (Model::Harm3d, &[k]) => Box::new(Harmonic::new(k)),
        (Model::Harm | Model::Harm3d, _) => return takes("-o K"),
        (Model::Morse, []) => Box::new(Morse::default()),
        (Model::Morse, &[r0, depth, a]) => {
            more_than_zero("R0", r0)?;
            more_than_zero("D", depth)?;
            more_than_zero("A", a)?;
            Box::new(Morse::new(r0, depth, a))
        }
        (Model::Morse, _) => return takes("-o R0,D,A or no parameters"),
        (Model::Lj, &[sigma, epsilon, cutoff]) => {
            more_than_zero("SIGMA", sigma)?;
            more_than_zero("EPSILON", epsilon)?;
            more_than_zero("CUTOFF", cutoff)?;
            if sigma.is_infinite() || epsilon.is_infinite() {
                return Err("only the CUTOFF of -m lj may be inf".into());
            }
            Box::new(Images::new(
                Form::LennardJones { sigma, epsilon },
                cutoff,
                at_cutoff,
            ))
        }
        (Model::Lj, _) => return takes("-o SIGMA,EPSILON,CUTOFF"),
        (Model::Sg, &[cutoff]) => {
            more_than_zero("CUTOFF", cutoff)?;
            Box::new(Images::new(Form::SilveraGoldman, cutoff, at_cutoff))
        }
        (Model::Sg, _) => return takes("-o CUTOFF"),
    })
}

/// A potential that waits before it computes.
struct Delayed<P>(P, Duration);

impl<P: Potential> Potential for Delayed<P> {
    type Real = P::Real;

    fn evaluate(
        &mut self,
        cell: &Cell,
        positions: &[[P::Real; 3]],
        forces: &mut [[P::Real; 3]],
    ) -> Result<Evaluation, PotentialError> {
        std::thread::sleep(self.1);
        self.0.evaluate(cell, positions, forces)
    }
}
