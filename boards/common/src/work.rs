//! What was done over one connection, and how it ended.

use core::time::Duration;

use defmt::{Format, info, warn};
use forcewire::{Driver, Error, Event, Header, Traffic};

/// The work done over one connection.
#[derive(Clone, Debug)]
pub struct Work {
    start: Duration,
    before: Traffic,
    evaluations: u64,
    computing: Duration,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The side that ended the connection.
    pub by: By,
    /// The server took a reply before that.
    pub replied: bool,
    /// The server refused before the protocol began. Anyone on the way could have sent that, so it
    /// counts as any other failure.
    pub refused: bool,
}

/// The side that ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The server sent EXIT: close the connection, and be done.
    Exit,
    /// This driver gives up. The server may have sent more than was read, and i-PI hangs on a
    /// connection that is closed then: [drain](Driver::drain) it, close, and wait until the server
    /// has closed too.
    Driver,
    /// The server closed, or the network failed: reset the connection.
    Loss,
}

impl Work {
    /// No work, at the beginning of a connection. `now` is the time since the board was switched
    /// on.
    #[must_use]
    pub const fn begin(now: Duration, driver: &Driver) -> Self {
        Self {
            start: now,
            before: driver.traffic(),
            evaluations: 0,
            computing: Duration::ZERO,
        }
    }

    /// Counts a reply with forces of this many structures, which took this long to compute.
    /// Returns whether the server took it: one that closed without asking for the forces did not.
    pub fn replied(&mut self, driver: &Driver, structures: usize, computing: Duration) -> bool {
        let taken = driver.status() != Header::HaveData;
        if taken {
            self.evaluations += structures as u64;
            self.computing += computing;
        }
        taken
    }

    /// Logs the work and the end of its connection.
    pub fn ended<E: Format>(
        &self,
        now: Duration,
        driver: &Driver,
        result: &Result<Event, Error<E>>,
    ) -> Ended {
        let after = driver.traffic();
        info!(
            "{} evaluations in {} us, {} us of it computing; {} bytes received, {} sent",
            self.evaluations,
            now.saturating_sub(self.start).as_micros() as u64,
            self.computing.as_micros() as u64,
            after.received - self.before.received,
            after.sent - self.before.sent,
        );
        match result {
            Ok(Event::Exit) => info!("the server said EXIT"),
            Ok(_) => warn!("the server closed the connection"),
            Err(error) => warn!("{}", error),
        }
        Ended {
            by: match result {
                Ok(Event::Exit) => By::Exit,
                Err(Error::Protocol(_) | Error::Potential(_)) => By::Driver,
                _ => By::Loss,
            },
            replied: self.evaluations > 0,
            refused: false,
        }
    }
}
