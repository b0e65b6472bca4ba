//! Potentials during whose evaluation the application can do something else.

use core::ops::ControlFlow;

use forcewire::potential::Real;
use forcewire::{Cell, Evaluation, Potential, PotentialError, Sink, Source};

/// Something that computes forces from the arrays of this core, here or on another core.
///
/// Every [`Potential`] is an engine that does not call `meanwhile`.
pub trait Engine {
    /// How positions and forces are stored.
    type Real: Real;

    /// [`Potential::evaluate`], elsewhere: calls `meanwhile` again and again until the forces are
    /// there, or until it breaks. None if it did; then nothing uses the arrays any more, and
    /// `forces` may hold anything.
    ///
    /// `meanwhile` sleeps until something happens on the network, up to a second. So an engine that
    /// is ready must interrupt this core, with an interrupt that the board's
    /// [`wait`](crate::Board::wait) lets through.
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

/// Something that computes forces in its own memory, which holds more atoms than this core:
/// positions pass to it through its [`Sink`], forces come back through its [`Source`].
///
/// It takes one structure at a time.
pub trait Accelerator: Sink + Source {
    /// [`Engine::evaluate`], of the positions that it was given last.
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
