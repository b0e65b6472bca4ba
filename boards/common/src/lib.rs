//! The application of every board: connects to a server, computes what it asks for, says what happens.
//!
//! A board brings a network device, a clock and a way to wait ([`Board`]), and calls [`run`].

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod network;
mod options;
#[cfg(feature = "tls")]
mod tls;

use defmt::{debug, error, info, warn};
use forcewire::potential::LennardJones;
use forcewire::{Backoff, Driver, Error, Event, Initialize, Potential, Storage};
use smoltcp::phy::Device;
use smoltcp::time::{Duration, Instant};

use network::{Link, Network};
pub use options::{Options, Psk};

/// What a machine has to offer.
pub trait Board: Device {
    /// The address of its network device.
    fn address(&self) -> [u8; 6];

    /// The time since it was switched on.
    fn now(&self) -> Instant;

    /// Waits until a frame may have come, or for a millisecond.
    fn wait(&mut self);

    /// 32 bytes that no one can foresee, asked for once: a generator of random numbers starts from them. Hardware has
    /// a source of such; without them there is no TLS.
    #[cfg(feature = "tls")]
    fn seed(&mut self) -> Option<[u8; 32]>;
}

/// Memory of the application: room for `N` atoms of at most `B` structures, and the network's rings.
pub struct Memory<const N: usize, const B: usize, const R: usize> {
    arrays: Storage<f64, N, B>,
    neighbours: [[u32; 2]; N],
    receive: [u8; R],
    transmit: [u8; R],
    #[cfg(feature = "tls")]
    records: tls::Records,
}

impl<const N: usize, const B: usize, const R: usize> Memory<N, B, R> {
    /// Unused memory; `const`, so that it can be a `static`.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            arrays: Storage::new(),
            neighbours: [[0; 2]; N],
            receive: [0; R],
            transmit: [0; R],
            #[cfg(feature = "tls")]
            records: tls::Records::new(),
        }
    }
}

impl<const N: usize, const B: usize, const R: usize> Default for Memory<N, B, R> {
    fn default() -> Self {
        Self::new()
    }
}

/// Why the application ended; its number is the status that a host sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Outcome {
    /// The server said EXIT.
    Exit = 0,
    /// The server could not be reached for as long as patience lasted.
    NoServer = 1,
    /// The options make no sense.
    BadOptions = 2,
    /// Connection after connection failed without an evaluation in between.
    TooManyFailures = 3,
    /// The same, the last time because the server refused TLS: it does not know us, or not with this key.
    Refused = 4,
}

/// Connections in a row that may end without an evaluation, even if the server closes them in good order: one that
/// wants nothing five times wants nothing. And the pauses after them, from the first to the longest.
const FAILURES: u32 = 5;
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(800)];

/// Serves the forces of Lennard-Jones's potential until the server says EXIT, connecting again whenever it
/// goes away or drops the connection.
///
/// `arguments` are the words of [`Options::USAGE`].
pub fn run<'w, const N: usize, const B: usize, const R: usize>(
    board: impl Board,
    memory: &mut Memory<N, B, R>,
    arguments: impl IntoIterator<Item = &'w str>,
) -> Outcome {
    let options = match Options::parse(arguments) {
        Ok(options) => options,
        Err(word) => {
            error!("options are {=str}, not {=str}", Options::USAGE, word);
            return Outcome::BadOptions;
        }
    };
    let Memory {
        arrays,
        neighbours,
        receive,
        transmit,
        #[cfg(feature = "tls")]
        records,
    } = memory;
    let [sigma, epsilon, cutoff] = options.lj;
    let mut application = Application {
        driver: Driver::new().initialize(Initialize::Once),
        arrays,
        potential: LennardJones::new(sigma, epsilon, cutoff)
            .with_cutoff(options.cutoff)
            .with_storage(neighbours.as_flattened_mut()),
    };
    let mut rings = [smoltcp::iface::SocketStorage::EMPTY];
    let deadlines = options.deadlines;
    let mut network = Network::new(board, &mut rings, receive, transmit, deadlines);
    #[cfg(feature = "tls")]
    let mut secret = match options.psk {
        None => None,
        Some(psk) => match network.seed() {
            Some(seed) => Some(tls::Secret::new(psk, seed, options.patience, records)),
            None => {
                error!(
                    "no TLS without random numbers, and the board has nothing to make them from"
                );
                return Outcome::BadOptions;
            }
        },
    };

    info!("connecting to {} port {}", options.server, options.port);
    let mut backoff = Backoff::new(PAUSES[0].into(), PAUSES[1].into());
    while network.connect(options.server, options.port, options.patience) {
        info!("connected to {} port {}", options.server, options.port);
        #[cfg(feature = "tls")]
        let ended = match &mut secret {
            None => application.serve(&mut network),
            Some(secret) => tls::over(&mut network, secret, |tls| application.serve(tls)),
        };
        #[cfg(not(feature = "tls"))]
        let ended = application.serve(&mut network);

        if ended.exit {
            network.close();
            return Outcome::Exit;
        }
        if ended.gave_up {
            network.part();
        } else {
            network.abort();
        }
        application.driver.reset();
        if ended.evaluations > 0 {
            backoff.succeeded();
            continue;
        }
        let pause = backoff.failed();
        if backoff.failures() == FAILURES {
            return match ended.refused {
                true => Outcome::Refused,
                false => Outcome::TooManyFailures,
            };
        }
        network.pause(pause.into());
    }
    warn!(
        "no server at {} port {} for {} s",
        options.server,
        options.port,
        options.patience.secs()
    );
    Outcome::NoServer
}

/// What is the same for all connections.
struct Application<'m, P, const N: usize, const B: usize> {
    driver: Driver,
    arrays: &'m mut Storage<f64, N, B>,
    potential: P,
}

/// How a connection ended.
#[derive(Default)]
struct Ended {
    evaluations: u64,
    exit: bool,
    /// This driver has ended it, and has read what the server had sent.
    gave_up: bool,
    /// The server said no before a word of the protocol was spoken. Anyone between us could have said that, so it is
    /// believed as late as other failures are.
    refused: bool,
}

impl<P: Potential<Real = f64>, const N: usize, const B: usize> Application<'_, P, N, B> {
    /// Serves one connection and says what came of it.
    fn serve(&mut self, link: &mut impl Link) -> Ended {
        let (start, before) = (link.now(), self.driver.traffic());
        let mut work = Work::default();
        let result = self.compute(link, &mut work);
        // i-PI hangs on a connection that is closed before all that it has sent is read.
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

    /// Computes what the server asks for; the event that ended it.
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
        loop {
            match link.run(arrays.receive(driver))? {
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
                    arrays.evaluate(natoms, structures, potential)?;
                    let time = link.now() - start;
                    link.run(arrays.reply(driver))?;
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

/// What was done over one connection.
#[derive(Default)]
struct Work {
    evaluations: u64,
    atoms: usize,
    computing: Duration,
}
