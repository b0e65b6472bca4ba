//! The structures of one request of the server, as jobs for drivers.

use std::collections::HashMap;

use forcewire::net::{Answered, Job, Ticket};
use forcewire::{Cell, Evaluation};

use crate::pool::{Drivers, Outcome};
use crate::say::{Failure, say};

/// A request, and what is known of it.
#[derive(Default)]
pub struct Structures {
    /// The index of each job's answer.
    waiting: HashMap<Ticket, usize>,
    answers: Vec<Option<Answered>>,
    /// The place in `answers` of each structure. One that is the same as the one before it, as i-PI
    /// fills up its batches with, is not computed again.
    places: Vec<usize>,
}

impl Structures {
    /// Gives all of them to the drivers.
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
                let job = Job::new(*cell, positions.to_vec());
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

    /// Takes an answer, unless it is one that nobody waits for.
    pub fn take(&mut self, outcome: Outcome) -> Result<(), Failure> {
        let place = self.waiting.remove(&outcome.ticket);
        if let Some(answer) = place.and_then(|place| self.answers.get_mut(place)) {
            *answer = Some(outcome.answer.map_err(Failure::Run)?);
        }
        Ok(())
    }

    pub fn are_complete(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Has the extras of each begin with this.
    pub fn put_before_extras(&mut self, before: &[u8]) {
        for answer in self.answers.iter_mut().flatten() {
            answer.extras.splice(..0, before.iter().copied());
            answer.extras_sent += before.len();
        }
    }

    /// What the server is sent: energies and virials, forces, and extras.
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
                // i-PI hangs on JSON that is cut.
                say(format_args!(
                    "driver {} sent {} bytes of extras: too long to be passed on",
                    answer.driver, answer.extras_sent
                ));
                extras.push(b"");
            }
        }
        (evaluations, forces, extras)
    }

    /// Takes back what is not computed yet.
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
    }
}
