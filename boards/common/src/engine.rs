//! Potentials during whose evaluation the application can do something else.

use core::ops::ControlFlow;

use forcewire::potential::Real;
use forcewire::{Cell, Driver, Error, Evaluation, Event, Potential, PotentialError};

use crate::network::Link;

/// Something that computes forces, on this core or elsewhere: another core, an FPGA.
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

/// An engine and the connection that it serves while computing, as the potential that storage
/// evaluates.
pub(crate) struct Attended<'a, E, L: Link> {
    pub engine: &'a mut E,
    pub link: &'a mut L,
    pub driver: &'a mut Driver,
    /// How the server left, if it did; there are no forces then.
    pub left: Option<Result<Event, Error<L::Error>>>,
}

impl<E: Engine, L: Link> Potential for Attended<'_, E, L> {
    type Real = E::Real;

    fn evaluate(
        &mut self,
        cell: &Cell,
        positions: &[[E::Real; 3]],
        forces: &mut [[E::Real; 3]],
    ) -> Result<Evaluation, PotentialError> {
        let mut meanwhile = || {
            self.left = self.link.attend(self.driver).transpose();
            match self.left {
                None => ControlFlow::Continue(()),
                Some(_) => ControlFlow::Break(()),
            }
        };
        let evaluation = self
            .engine
            .evaluate(cell, positions, forces, &mut meanwhile)?;
        evaluation.ok_or(PotentialError::Failed("no one waits for the forces"))
    }
}
