//! The structures of one request of the server, as jobs for drivers.

use std::collections::HashMap;

use forcewire::net::{Answered, Job, Ticket};
use forcewire::{Cell, Evaluation, Rotation};

use crate::pool::{Drivers, Outcome};
use crate::say::{Failure, say};

/// A request of the server, and the answers so far.
#[derive(Default)]
pub struct Structures {
    /// The index of each job's answer.
    waiting: HashMap<Ticket, usize>,
    answers: Vec<Option<Answered>>,
    /// The index into `answers` for each structure. i-PI fills its batches with copies of the last
    /// structure, which are not computed again.
    places: Vec<usize>,
    /// The rotation of each job, if its cell had to be rotated: ASE sends any cell, and LAMMPS
    /// misreads some.
    rotations: Vec<Option<Rotation>>,
}

impl Structures {
    /// Submits all structures to the drivers.
    pub fn submit(
        &mut self,
        drivers: &mut Drivers,
        cells: &[Cell],
        natoms: usize,
        positions: &[[f64; 3]],
        replica: i32,
    ) -> Result<(), Failure> {
        self.clear();
        let mut before = None;
        for (index, cell) in cells.iter().enumerate() {
            let atoms = index * natoms..(index + 1) * natoms;
            let positions = positions.get(atoms).unwrap_or_default();
            if before != Some((cell, positions)) {
                let number = i32::try_from(index).unwrap_or(i32::MAX);
                let (cell, rotation) = match cell.to_upper_triangular() {
                    Some((turned, rotation)) if !cell.is_upper_triangular() => {
                        (turned, Some(rotation))
                    }
                    _ => (*cell, None),
                };
                let turned = |r: &[f64; 3]| rotation.map_or(*r, |rotation| rotation.apply(*r));
                self.rotations.push(rotation);
                let job = Job::new(cell, positions.iter().map(turned).collect());
                let job = job.replica(replica.wrapping_add(number));
                self.waiting
                    .insert(drivers.submit(job)?, self.answers.len());
                self.answers.push(None);
            }
            before = Some((cell, positions));
            self.places.push(self.answers.len() - 1);
        }
        Ok(())
    }

    /// Accepts an answer, unless its job was cancelled.
    pub fn take(&mut self, outcome: Outcome) -> Result<(), Failure> {
        let place = self.waiting.remove(&outcome.ticket);
        if let Some(answer) = place.and_then(|place| self.answers.get_mut(place)) {
            let mut computed = outcome.answer.map_err(Failure::Run)?;
            if let Some(rotation) = place.and_then(|place| *self.rotations.get(place)?) {
                let forces = computed.job.forces.iter_mut();
                forces.for_each(|force| *force = rotation.undo(*force));
                let virial = &mut computed.evaluation.virial;
                *virial = rotation.undo_virial(virial);
            }
            *answer = Some(computed);
        }
        Ok(())
    }

    pub fn are_complete(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Puts a prefix before the extras of each structure.
    pub fn put_before_extras(&mut self, before: &[u8]) {
        for answer in self.answers.iter_mut().flatten() {
            answer.extras.splice(..0, before.iter().copied());
            answer.extras_sent += before.len();
        }
    }

    /// The reply to the server: energies and virials, forces, and extras.
    pub fn reply(&self) -> (Vec<Evaluation>, Vec<[f64; 3]>, Vec<&[u8]>) {
        let (mut evaluations, mut forces, mut extras) = (Vec::new(), Vec::new(), Vec::new());
        for place in &self.places {
            let Some(answer) = self.answers.get(*place).and_then(Option::as_ref) else {
                continue;
            };
            evaluations.push(answer.evaluation);
            forces.extend_from_slice(&answer.job.forces);
            if answer.extras.len() == answer.extras_sent {
                extras.push(answer.extras.as_slice());
            } else {
                // i-PI hangs on truncated JSON.
                say(format_args!(
                    "driver {} sent {} bytes of extras: too long to be passed on",
                    answer.driver, answer.extras_sent
                ));
                extras.push(b"");
            }
        }
        (evaluations, forces, extras)
    }

    /// Cancels the jobs that are not computed yet.
    pub fn cancel(&mut self, drivers: &mut Drivers) {
        for ticket in self.waiting.keys() {
            drivers.cancel(*ticket);
        }
        self.clear();
    }

    pub fn clear(&mut self) {
        self.waiting.clear();
        self.answers.clear();
        self.places.clear();
        self.rotations.clear();
    }
}
