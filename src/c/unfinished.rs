//! The remaining work of forcewire_driver_serve() when it returns early, with the arrays for it.

use core::ffi::c_int;

#[cfg(feature = "std")]
use forcewire::{Cell, Evaluation};

use crate::potential::forcewire_evaluation_t;

/// State that a driver's handle keeps between two calls.
#[derive(Default)]
pub struct Unfinished {
    pub task: Task,
    /// How many positions have been received in total, and the total when the task was set. They
    /// must agree: a reply is valid only for the structure for which it was computed.
    pub received: u64,
    of: u64,
    /// What the server sent has been read, because the connection will be closed.
    pub drained: bool,
    /// The library's arrays, taken out of the handle while a call uses them.
    #[cfg(feature = "std")]
    pub arrays: Option<std::boxed::Box<Arrays>>,
}

/// Work to do before the server's next message.
#[derive(Clone, Copy, Default)]
pub enum Task {
    #[default]
    Nothing,
    /// Send this reply, with forces from the caller's array at this address.
    Reply {
        evaluation: forcewire_evaluation_t,
        forces: *const [f64; 3],
        natoms: usize,
        /// A digest of the forces, set when the call that had them returns.
        digest: Option<u64>,
    },
    /// Send the reply in the library's arrays.
    #[cfg(feature = "std")]
    Replies,
    /// Report that the potential returned this number.
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
    /// Most batches have one structure; room for it saves a second attempt.
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
    /// Returns the task. If positions have been received since it was set, its reply was sent and
    /// there is no task.
    pub fn current(&mut self) -> Task {
        if self.of != self.received {
            self.task = Task::Nothing;
        }
        self.task
    }

    /// Sets the task for the structure with this number. Returns false if the potential itself has
    /// received another structure in the meantime.
    pub fn set(&mut self, task: Task, of: Option<u64>) -> bool {
        let same = of == Some(self.received);
        if same {
            (self.task, self.of) = (task, self.received);
        }
        same
    }
}

/// A digest of forces (FNV-1a, one word at a time). It lets a later call prove that it passes the
/// same forces.
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
