//! Force engines that let the application do other work during an evaluation.

use core::ops::ControlFlow;

use forcewire::potential::Real;
use forcewire::{Cell, Driver, Error, Evaluation, Event, Potential, PotentialError};

use crate::network::Link;

/// A source of forces: this core, another core, an FPGA.
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

/// An engine and the connection to serve while it computes, as a potential for the storage.
pub(crate) struct Attended<'a, E, L: Link> {
    pub engine: &'a mut E,
    pub link: &'a mut L,
    pub driver: &'a mut Driver,
    /// How the server ended the conversation, if it did; then there are no forces.
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
