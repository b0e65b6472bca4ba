//! The places of positions and forces: the arrays of this core, or an accelerator's memory.

use core::ops::ControlFlow;

use forcewire::{Cell, Driver, Evaluation, Event, Exchange, Potential, PotentialError, Storage};

use crate::engine::{Accelerator, Engine};

/// Takes positions, evaluates them and gives forces, on behalf of the application.
pub trait Evaluator {
    /// The exchange that takes positions.
    fn receive<'a>(&'a mut self, driver: &'a mut Driver) -> impl Exchange<Output = Event>;

    /// Evaluates the received structures. Returns an error if `meanwhile` breaks.
    fn evaluate(
        &mut self,
        natoms: usize,
        structures: usize,
        meanwhile: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<(), PotentialError>;

    /// The exchange that sends forces.
    fn reply<'a>(&'a mut self, driver: &'a mut Driver) -> impl Exchange<Output = ()>;
}

/// The error of an evaluation after a break.
const UNWANTED: PotentialError = PotentialError::Failed("no one waits for the forces");

/// Arrays of this core, and an engine that works on them.
pub struct Arrays<'m, E: Engine, const N: usize, const B: usize> {
    pub arrays: &'m mut Storage<E::Real, N, B>,
    pub engine: E,
}

impl<E: Engine, const N: usize, const B: usize> Evaluator for Arrays<'_, E, N, B> {
    fn receive<'a>(&'a mut self, driver: &'a mut Driver) -> impl Exchange<Output = Event> {
        self.arrays.receive(driver)
    }

    #[inline(never)] // potentials have large frames, which nothing else should be part of
    fn evaluate(
        &mut self,
        natoms: usize,
        structures: usize,
        meanwhile: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<(), PotentialError> {
        let engine = &mut self.engine;
        let mut attended = Attended { engine, meanwhile };
        self.arrays.evaluate(natoms, structures, &mut attended)
    }

    fn reply<'a>(&'a mut self, driver: &'a mut Driver) -> impl Exchange<Output = ()> {
        self.arrays.reply(driver)
    }
}

/// An engine and the work to do while it computes, as a potential for the storage.
struct Attended<'a, E> {
    engine: &'a mut E,
    meanwhile: &'a mut dyn FnMut() -> ControlFlow<()>,
}

impl<E: Engine> Potential for Attended<'_, E> {
    type Real = E::Real;

    fn evaluate(
        &mut self,
        cell: &Cell,
        positions: &[[E::Real; 3]],
        forces: &mut [[E::Real; 3]],
    ) -> Result<Evaluation, PotentialError> {
        self.engine
            .evaluate(cell, positions, forces, self.meanwhile)?
            .ok_or(UNWANTED)
    }
}

/// An accelerator, and the part of its structure that this core keeps.
pub struct Windows<A> {
    cell: [Cell; 1],
    evaluation: [Evaluation; 1],
    accelerator: A,
}

impl<A> Windows<A> {
    pub fn new(accelerator: A) -> Self {
        Self {
            cell: [Cell::orthorhombic([0.0; 3])],
            evaluation: [Evaluation::default()],
            accelerator,
        }
    }
}

impl<A: Accelerator> Evaluator for Windows<A> {
    fn receive<'a>(&'a mut self, driver: &'a mut Driver) -> impl Exchange<Output = Event> {
        driver.receive_into(&mut self.cell, &mut self.accelerator)
    }

    fn evaluate(
        &mut self,
        _: usize,
        _: usize,
        meanwhile: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<(), PotentialError> {
        let [cell] = &self.cell;
        let evaluation = self.accelerator.evaluate(cell, meanwhile)?;
        self.evaluation = [evaluation.ok_or(UNWANTED)?];
        Ok(())
    }

    fn reply<'a>(&'a mut self, driver: &'a mut Driver) -> impl Exchange<Output = ()> {
        driver.reply_from(&self.evaluation, &mut self.accelerator, &[])
    }
}
