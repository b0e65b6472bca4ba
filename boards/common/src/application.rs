//! Serves one connection after another, and reports how each ended.

use core::ops::ControlFlow;
use core::time::Duration;

use defmt::{debug, info};
use forcewire::{Driver, Error, Event, Initialize};
use smoltcp::time::Instant;

use crate::evaluator::Evaluator;
use crate::network::Link;
use crate::{By, Ended, Work};

/// The common data of all connections.
pub struct Application<E> {
    driver: Driver,
    evaluator: E,
}

impl<E: Evaluator> Application<E> {
    pub fn new(evaluator: E) -> Self {
        Self {
            driver: Driver::new().initialize(Initialize::Once),
            evaluator,
        }
    }

    /// Prepares for the next connection.
    pub fn reset(&mut self) {
        self.driver.reset();
    }

    /// Serves one connection to its end.
    pub fn serve(&mut self, link: &mut impl Link) -> Ended {
        let mut work = Work::begin(time(link), &self.driver);
        let result = self.compute(link, &mut work);
        // i-PI hangs if a connection is closed with bytes unread.
        let gives_up = matches!(result, Err(Error::Protocol(_) | Error::Potential(_)));
        let drained = gives_up && link.run(self.driver.drain()).is_ok();
        let mut ended = work.ended(time(link), &self.driver, &result);
        if gives_up && !drained {
            ended.by = By::Loss;
        }
        ended
    }

    /// Computes what the server asks for, until an event ends the conversation.
    fn compute<L: Link>(
        &mut self,
        link: &mut L,
        work: &mut Work,
    ) -> Result<Event, Error<L::Error>> {
        let Self { driver, evaluator } = self;
        let mut atoms = 0;
        loop {
            match link.run(evaluator.receive(driver))? {
                Event::Positions {
                    natoms, structures, ..
                } => {
                    if atoms != natoms {
                        match structures {
                            1 => info!("{} atoms", natoms),
                            _ => info!("{} atoms, {} structures at a time", natoms, structures),
                        }
                        atoms = natoms;
                    }
                    let start = link.now();
                    // How the server ended the conversation, if it did; then there are no forces.
                    let mut left = None;
                    let result = evaluator.evaluate(natoms, structures, &mut || {
                        left = link.attend(driver).transpose();
                        match left {
                            None => ControlFlow::Continue(()),
                            Some(_) => ControlFlow::Break(()),
                        }
                    });
                    if let Some(left) = left {
                        info!("the computation was stopped");
                        return left;
                    }
                    result?;
                    let took = link.now() - start;
                    link.run(evaluator.reply(driver))?;
                    if work.replied(driver, structures, took.into()) {
                        debug!("computed in {} us", took.total_micros());
                    }
                }
                Event::Init { replica } => info!("replica {}", replica),
                end => return Ok(end),
            }
        }
    }
}

/// The time since the board was switched on.
fn time(link: &impl Link) -> Duration {
    (link.now() - Instant::ZERO).into()
}
