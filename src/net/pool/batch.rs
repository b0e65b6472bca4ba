//! The structures of a batch.

use std::boxed::Box;
use std::vec::Vec;

use super::Task;
use crate::geometry::Cell;
use crate::server::Answer;

/// The most bytes of extras for which a batch's buffer is kept.
const SMALL: usize = 64 * 1024;

/// How many unused batches to keep.
const SPARE: usize = 64;

/// The structures of a batch in contiguous arrays.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) cells: Vec<Cell>,
    pub(super) positions: Vec<[f64; 3]>,
    pub(super) forces: Vec<[f64; 3]>,
    pub(super) answers: Vec<Answer>,
    pub(super) extras: Vec<u8>,
}

impl Batch {
    pub(super) fn fill(&mut self, tasks: &[Box<Task>]) {
        self.cells.clear();
        self.cells.extend(tasks.iter().map(|task| task.job.cell));
        self.positions.clear();
        for task in tasks {
            self.positions.extend_from_slice(&task.job.positions);
        }
        self.forces.resize(self.positions.len(), [0.0; 3]);
        self.answers.resize(tasks.len(), Answer::default());
    }

    /// Keeps the arrays for another batch, unless enough are kept already.
    pub(super) fn keep(mut self, spare: &mut Vec<Self>) {
        if spare.len() >= SPARE {
            return;
        }
        if self.extras.len() > SMALL {
            self.extras = Vec::new();
        }
        spare.push(self);
    }
}
