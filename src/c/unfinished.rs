//! The rest of forcewire_driver_serve()'s work when it returns early, with the arrays for it.

use core::ffi::c_int;

#[cfg(feature = "std")]
use forcewire::{Cell, Evaluation};

use crate::potential::forcewire_evaluation_t;

/// Kept in the handle of a driver between two calls.
#[derive(Default)]
pub struct Unfinished {
    pub task: Task,
    /// Positions that have been received, and how many had been when the task was set: a reply is
    /// for the structure that it was computed for, and for no later one.
    pub received: u64,
    of: u64,
    /// What the server has sent has been read, because the connection is to be closed.
    pub drained: bool,
    /// Taken out of the handle while a call uses them.
    #[cfg(feature = "std")]
    pub arrays: Option<std::boxed::Box<Arrays>>,
}

/// The work to do before the next message of the server.
#[derive(Clone, Copy, Default)]
pub enum Task {
    #[default]
    Nothing,
    /// To send this reply, with forces from the caller's array at this address.
    Reply {
        evaluation: forcewire_evaluation_t,
        forces: *const [f64; 3],
        natoms: usize,
        /// Of the forces, once the call that had them has returned.
        digest: Option<u64>,
    },
    /// To send the reply that is in the library's arrays.
    #[cfg(feature = "std")]
    Replies,
    /// To report that the potential returned this.
    Report(c_int),
}

/// Arrays that the library owns.
#[cfg(feature = "std")]
pub struct Arrays {
    pub cells: Vec<Cell>,
    pub positions: Vec<[f64; 3]>,
    pub forces: Vec<[f64; 3]>,
    pub evaluations: Vec<Evaluation>,
}

#[cfg(feature = "std")]
impl Arrays {
    /// Most batches are of one structure, which needs no second try.
    pub fn new() -> Self {
        Self {
            cells: vec![Cell::orthorhombic([0.0; 3])],
            positions: Vec::new(),
            forces: Vec::new(),
            evaluations: Vec::new(),
        }
    }
}

impl Unfinished {
    /// The task, unless positions have been received since it was set: then its reply was sent.
    pub fn current(&mut self) -> Task {
        if self.of != self.received {
            self.task = Task::Nothing;
        }
        self.task
    }

    /// Sets the task for the structure with this number; false if the potential has received
    /// another one meanwhile.
    pub fn set(&mut self, task: Task, of: Option<u64>) -> bool {
        let same = of == Some(self.received);
        if same {
            (self.task, self.of) = (task, self.received);
        }
        same
    }
}

/// A digest of forces (FNV-1a, a word at a time), by which a later call proves that it has the
/// same.
pub fn digest(forces: &[[f64; 3]]) -> u64 {
    forces
        .as_flattened()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |digest, force| {
            (digest ^ force.to_bits())
                .wrapping_mul(0x0000_0100_0000_01b3)
                .rotate_left(29)
        })
}
