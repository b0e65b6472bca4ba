//! One connection after the other, and what is computed over each.

use core::time::Duration;

use defmt::{debug, info};
use forcewire::{Driver, Error, Event, Initialize, Storage};
use smoltcp::time::Instant;

use crate::engine::{Attended, Engine};
use crate::network::Link;
use crate::{By, Ended, Work};

/// What all connections share.
pub struct Application<'m, P: Engine, const N: usize, const B: usize> {
    driver: Driver,
    arrays: &'m mut Storage<P::Real, N, B>,
    potential: P,
}

impl<'m, P: Engine, const N: usize, const B: usize> Application<'m, P, N, B> {
    pub fn new(arrays: &'m mut Storage<P::Real, N, B>, potential: P) -> Self {
        Self {
            driver: Driver::new().initialize(Initialize::Once),
            arrays,
            potential,
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
        // i-PI hangs on a connection that is closed before all that it has sent is read.
        let gives_up = matches!(result, Err(Error::Protocol(_) | Error::Potential(_)));
        let drained = gives_up && link.run(self.driver.drain()).is_ok();
        let mut ended = work.ended(time(link), &self.driver, &result);
        if gives_up && !drained {
            ended.by = By::Loss;
        }
        ended
    }

    /// Computes what the server asks for, until the event that ends it.
    fn compute<L: Link>(
        &mut self,
        link: &mut L,
        work: &mut Work,
    ) -> Result<Event, Error<L::Error>> {
        let Self {
            driver,
            arrays,
            potential,
        } = self;
        let mut atoms = 0;
        loop {
            match link.run(arrays.receive(driver))? {
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
                    let mut attended = Attended {
                        engine: &mut *potential,
                        link: &mut *link,
                        driver: &mut *driver,
                        left: None,
                    };
                    let result = arrays.evaluate(natoms, structures, &mut attended);
                    if let Some(left) = attended.left {
                        info!("the computation was stopped");
                        return left;
                    }
                    result?;
                    let took = link.now() - start;
                    link.run(arrays.reply(driver))?;
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
