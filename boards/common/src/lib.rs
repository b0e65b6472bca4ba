//! The application of every board: connects to a server, computes forces, and logs what happens.
//!
//! A board provides a network device ([`Ethernet`]), a clock and a way to sleep ([`Board`]), and
//! calls [`run`], or [`run_with`] with its own potential, or [`run_windows`] with an accelerator.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod application;
mod attempts;
mod engine;
mod evaluator;
mod network;
mod options;
#[cfg(feature = "tls")]
mod tls;

use defmt::{error, info, warn};
use forcewire::potential::{LennardJones, Real};
use forcewire::{Scalar, Storage};
use smoltcp::phy::Device;
use smoltcp::time::Instant;

use application::Application;
pub use attempts::Attempts;
pub use engine::{Accelerator, Engine};
use evaluator::{Arrays, Evaluator, Windows};
use network::Network;
pub use options::{Options, Psk};

/// A network device that delivers Ethernet frames.
pub trait Ethernet: Device {
    /// Its hardware address.
    fn address(&self) -> [u8; 6];

    /// Acknowledges the device's interrupt, then returns whether no frame is waiting. The next
    /// frame causes an interrupt.
    fn idle(&mut self) -> bool;
}

/// A machine with a network device.
pub trait Board {
    /// The type of the network device.
    type Ethernet: Ethernet;

    /// The network device.
    fn ethernet(&mut self) -> &mut Self::Ethernet;

    /// The time since the board was switched on.
    fn now(&self) -> Instant;

    /// Sleeps until a frame arrives or an [`Engine`] is ready, at most until `until`. It may return
    /// early, which costs power.
    fn wait(&mut self, until: Instant);

    /// 32 unpredictable bytes from a hardware generator. The default is for a board without one:
    /// TLS then needs the option `seed`.
    #[cfg(feature = "tls")]
    fn seed(&mut self) -> Option<[u8; 32]> {
        None
    }
}

/// The application's memory: room for `N` atoms of at most `B` structures, and two TCP rings of `R`
/// bytes.
///
/// An atom takes 56 bytes with `T = f64`, 32 with `T = f32`.
pub struct Memory<T, const N: usize, const B: usize, const R: usize> {
    arrays: Storage<T, N, B>,
    neighbours: [[u32; 2]; N],
    buffers: Buffers<R>,
}

/// Memory for the connection alone: two TCP rings of `R` bytes.
pub struct Buffers<const R: usize> {
    receive: [u8; R],
    transmit: [u8; R],
    #[cfg(feature = "tls")]
    records: tls::Records,
}

impl<const R: usize> Buffers<R> {
    /// Unused memory; `const`, for a `static`.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            receive: [0; R],
            transmit: [0; R],
            #[cfg(feature = "tls")]
            records: tls::Records::new(),
        }
    }
}

impl<const R: usize> Default for Buffers<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Scalar, const N: usize, const B: usize, const R: usize> Memory<T, N, B, R> {
    /// Unused memory; `const`, for a `static`.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            arrays: Storage::new(),
            neighbours: [[0; 2]; N],
            buffers: Buffers::new(),
        }
    }
}

impl<T: Scalar, const N: usize, const B: usize, const R: usize> Default for Memory<T, N, B, R> {
    fn default() -> Self {
        Self::new()
    }
}

/// Why the application ended. The number is the exit status that a host sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Outcome {
    /// The server sent EXIT.
    Exit = 0,
    /// The server could not be reached within `patience`.
    NoServer = 1,
    /// The options are invalid.
    BadOptions = 2,
    /// [`Attempts::LIMIT`] connections in a row ended before the server took a reply.
    TooManyFailures = 3,
    /// The same number of failures, and the server refused TLS in the last one: it does not know
    /// this board, or not with this key.
    Refused = 4,
}

/// Serves the Lennard-Jones potential with the parameters of the option `lj`. See [`run_with`].
pub fn run<'w, T: Real, const N: usize, const B: usize, const R: usize>(
    board: impl Board,
    memory: &mut Memory<T, N, B, R>,
    arguments: impl IntoIterator<Item = &'w str>,
) -> Outcome {
    run_with(board, memory, arguments, lennard_jones)
}

/// The potential of [`run`], for [`run_with`].
pub fn lennard_jones<'m, T: Real>(
    options: &Options<'_>,
    neighbours: &'m mut [u32],
) -> LennardJones<T, &'m mut [u32]> {
    let [sigma, epsilon, cutoff] = options.lj;
    LennardJones::new(sigma, epsilon, cutoff)
        .with_cutoff(options.cutoff)
        .with_storage(neighbours)
}

/// Serves a potential until the server sends EXIT. If the server goes away, connects again as
/// [`Attempts`] allows. With an [`Engine`], STATUS is answered while the engine computes, and a
/// server that ends the conversation also ends the computation.
///
/// `arguments` are the words of [`Options::USAGE`]. `potential` is called once, with the options
/// and with memory for two numbers per atom, which pair potentials use to find neighbours.
pub fn run_with<'w, 'm, P: Engine, const N: usize, const B: usize, const R: usize>(
    board: impl Board,
    memory: &'m mut Memory<P::Real, N, B, R>,
    arguments: impl IntoIterator<Item = &'w str>,
    potential: impl FnOnce(&Options<'_>, &'m mut [u32]) -> P,
) -> Outcome {
    let Memory {
        arrays,
        neighbours,
        buffers,
    } = memory;
    serve(board, buffers, arguments, |options| Arrays {
        arrays,
        engine: potential(options, neighbours.as_flattened_mut()),
    })
}

/// The same as [`run_with`], for an accelerator: positions and forces pass through this core by
/// windows, and no array of this core holds them. `accelerator` is called once, with the options.
pub fn run_windows<'w, A: Accelerator, const R: usize>(
    board: impl Board,
    buffers: &mut Buffers<R>,
    arguments: impl IntoIterator<Item = &'w str>,
    accelerator: impl FnOnce(&Options<'_>) -> A,
) -> Outcome {
    serve(board, buffers, arguments, |options| {
        Windows::new(accelerator(options))
    })
}

fn serve<'w, E: Evaluator, const R: usize>(
    board: impl Board,
    buffers: &mut Buffers<R>,
    arguments: impl IntoIterator<Item = &'w str>,
    evaluator: impl FnOnce(&Options<'_>) -> E,
) -> Outcome {
    let options = match Options::parse(arguments) {
        Ok(options) => options,
        Err(word) => {
            error!("options are {=str}, not {=str}", Options::USAGE, word);
            return Outcome::BadOptions;
        }
    };
    let Buffers {
        receive,
        transmit,
        #[cfg(feature = "tls")]
        records,
    } = buffers;
    let mut application = Application::new(evaluator(&options));
    let mut rings = [smoltcp::iface::SocketStorage::EMPTY];
    let mut network = Network::new(board, &mut rings, receive, transmit, options.deadlines);
    #[cfg(feature = "tls")]
    let mut secret = match options.psk {
        None => None,
        Some(psk) => match options.seed.or_else(|| network.seed()) {
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
    let mut attempts = Attempts::new();
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
        application.reset();
        match attempts.ended(ended.evaluations > 0) {
            Some(pause) => network.pause(pause.into()),
            None if ended.refused => return Outcome::Refused,
            None => return Outcome::TooManyFailures,
        }
    }
    warn!(
        "no server at {} port {} for {} s",
        options.server,
        options.port,
        options.patience.secs()
    );
    Outcome::NoServer
}
