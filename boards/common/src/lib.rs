//! The application of every board: connects to a server, computes what it asks for, says what happens.
//!
//! A board brings a network device, a clock and a way to wait ([`Board`]), and calls [`run`].

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod network;
mod options;

use defmt::{debug, error, info, warn};
use forcewire::potential::LennardJones;
use forcewire::smoltcp::ConnectionLost;
use forcewire::{Backoff, Driver, Error, Event, Initialize, Potential, Storage};
use smoltcp::phy::Device;
use smoltcp::time::{Duration, Instant};

use network::Network;
pub use options::Options;

/// What a machine has to offer.
pub trait Board: Device {
    /// The address of its network device.
    fn address(&self) -> [u8; 6];

    /// The time since it was switched on.
    fn now(&self) -> Instant;

    /// Waits until a frame may have come, or for a millisecond.
    fn wait(&mut self);
}

/// Memory of the application: room for `N` atoms of at most `B` structures, and the network's rings.
pub struct Memory<const N: usize, const B: usize, const R: usize> {
    arrays: Storage<f64, N, B>,
    neighbours: [[u32; 2]; N],
    receive: [u8; R],
    transmit: [u8; R],
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
    } = memory;
    let [sigma, epsilon, cutoff] = options.lj;
    let mut potential = LennardJones::new(sigma, epsilon, cutoff)
        .with_cutoff(options.cutoff)
        .with_storage(neighbours.as_flattened_mut());
    let mut driver = Driver::new().initialize(Initialize::Once);
    let mut rings = [smoltcp::iface::SocketStorage::EMPTY];
    let deadlines = options.deadlines;
    let mut network = Network::new(board, &mut rings, receive, transmit, deadlines);

    info!("connecting to {} port {}", options.server, options.port);
    let mut backoff = Backoff::new(PAUSES[0].into(), PAUSES[1].into());
    while network.connect(options.server, options.port, options.patience) {
        info!("connected to {} port {}", options.server, options.port);
        let (start, before) = (network.now(), driver.traffic());
        let mut work = Work::default();
        let result = serve(&mut network, &mut driver, arrays, &mut potential, &mut work);
        let after = driver.traffic();
        info!(
            "{} evaluations in {} us, {} us of it computing; {} bytes received, {} sent",
            work.evaluations,
            (network.now() - start).total_micros(),
            work.computing.total_micros(),
            after.received - before.received,
            after.sent - before.sent,
        );
        match result {
            Ok(Event::Exit) => {
                info!("the server said EXIT");
                network.close();
                return Outcome::Exit;
            }
            Ok(_) => warn!("the server closed the connection"),
            Err(error) => warn!("{}", error),
        }
        network.abort();
        driver.reset();
        if work.evaluations > 0 {
            backoff.succeeded();
            continue;
        }
        let pause = backoff.failed();
        if backoff.failures() == FAILURES {
            return Outcome::TooManyFailures;
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

/// What was done over one connection.
#[derive(Default)]
struct Work {
    evaluations: u64,
    atoms: usize,
    computing: Duration,
}

/// Computes what the server asks for; the event that ended it.
fn serve<const N: usize, const B: usize>(
    network: &mut Network<'_, impl Board>,
    driver: &mut Driver,
    arrays: &mut Storage<f64, N, B>,
    potential: &mut impl Potential<Real = f64>,
    work: &mut Work,
) -> Result<Event, Error<ConnectionLost>> {
    loop {
        match network.run(arrays.receive(driver))? {
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
                let start = network.now();
                arrays.evaluate(driver, potential)?;
                let time = network.now() - start;
                network.run(arrays.reply(driver))?;
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
