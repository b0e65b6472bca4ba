//! Force engines that let the application do other work during an evaluation.

use core::ops::ControlFlow;

use forcewire::potential::Real;
use forcewire::{Cell, Evaluation, Potential, PotentialError, Sink, Source};

/// A source of forces that works on the arrays of this core: this core itself, or another.
///
/// Every [`Potential`] is an engine that does not call `meanwhile`.
pub trait Engine {
    /// The type of positions and forces.
    type Real: Real;

    /// Like [`Potential::evaluate`], but calls `meanwhile` repeatedly until the forces are there or
    /// `meanwhile` breaks. Returns None after a break; then nothing uses the arrays any more, and
    /// the contents of `forces` are undefined.
    ///
    /// `meanwhile` sleeps until something happens on the network, at most a second. An engine that
    /// has finished must therefore interrupt this core, with an interrupt that ends the board's
    /// [`wait`](crate::Board::wait).
    ///
    /// # Errors
    ///
    /// [`PotentialError`] if there are no forces.
    fn evaluate(
        &mut self,
        cell: &Cell,
        positions: &[[Self::Real; 3]],
        forces: &mut [[Self::Real; 3]],
        meanwhile: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Option<Evaluation>, PotentialError>;
}

impl<P: Potential> Engine for P {
    type Real = P::Real;

    fn evaluate(
        &mut self,
        cell: &Cell,
        positions: &[[P::Real; 3]],
        forces: &mut [[P::Real; 3]],
        _: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Option<Evaluation>, PotentialError> {
        Potential::evaluate(self, cell, positions, forces).map(Some)
    }
}

/// A source of forces with its own memory, such as an FPGA. That memory may hold more atoms than
/// this core's: positions pass to it through [`Sink`], and forces come back through [`Source`].
///
/// It takes one structure at a time.
pub trait Accelerator: Sink + Source {
    /// Evaluates the positions that [`Sink::put`] was given last. Otherwise the same as
    /// [`Engine::evaluate`].
    ///
    /// # Errors
    ///
    /// [`PotentialError`] if there are no forces.
    fn evaluate(
        &mut self,
        cell: &Cell,
        meanwhile: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Option<Evaluation>, PotentialError>;
}
