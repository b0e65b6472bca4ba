//! Serves one connection after another, and reports how each ended.

use core::ops::ControlFlow;

use defmt::{debug, info, warn};
use forcewire::{Driver, Error, Event, Header, Initialize};
use smoltcp::time::Duration;

use crate::evaluator::Evaluator;
use crate::network::Link;

/// The common data of all connections.
pub struct Application<E> {
    driver: Driver,
    evaluator: E,
}

/// How a connection ended.
#[derive(Default)]
pub struct Ended {
    /// The number of evaluations whose reply the server received.
    pub evaluations: u64,
    /// The server sent EXIT.
    pub exit: bool,
    /// This driver ended the connection after reading what the server had sent.
    pub gave_up: bool,
    /// The server refused the connection before the protocol began. Anyone on the network could
    /// have sent that, so it counts like any other failure.
    pub refused: bool,
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
        let (start, before) = (link.now(), self.driver.traffic());
        let mut work = Work::default();
        let result = self.compute(link, &mut work);
        // i-PI hangs if a connection is closed with bytes unread.
        let gave_up = matches!(result, Err(Error::Protocol(_) | Error::Potential(_)))
            && link.run(self.driver.drain()).is_ok();
        let after = self.driver.traffic();
        info!(
            "{} evaluations in {} us, {} us of it computing; {} bytes received, {} sent",
            work.evaluations,
            (link.now() - start).total_micros(),
            work.computing.total_micros(),
            after.received - before.received,
            after.sent - before.sent,
        );
        match &result {
            Ok(Event::Exit) => info!("the server said EXIT"),
            Ok(_) => warn!("the server closed the connection"),
            Err(error) => warn!("{}", error),
        }
        Ended {
            evaluations: work.evaluations,
            exit: matches!(result, Ok(Event::Exit)),
            gave_up,
            refused: false,
        }
    }

    /// Computes what the server asks for, until an event ends the conversation.
    fn compute<L: Link>(
        &mut self,
        link: &mut L,
        work: &mut Work,
    ) -> Result<Event, Error<L::Error>> {
        let Self { driver, evaluator } = self;
        loop {
            match link.run(evaluator.receive(driver))? {
                Event::Positions {
                    natoms, structures, ..
                } => {
                    if work.atoms != natoms {
                        match structures {
                            1 => info!("{} atoms", natoms),
                            _ => info!("{} atoms, {} structures at a time", natoms, structures),
                        }
                        work.atoms = natoms;
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
                    let time = link.now() - start;
                    link.run(evaluator.reply(driver))?;
                    if driver.status() == Header::HaveData {
                        // The server closed without asking for the forces; the next exchange
                        // reports that.
                        continue;
                    }
                    work.evaluations += structures as u64;
                    work.computing += time;
                    debug!(
                        "evaluation {}: {} us",
                        work.evaluations,
                        time.total_micros()
                    );
                }
                Event::Init { replica } => info!("replica {}", replica),
                end => return Ok(end),
            }
        }
    }
}

/// The work done over one connection.
#[derive(Default)]
struct Work {
    evaluations: u64,
    atoms: usize,
    computing: Duration,
}
