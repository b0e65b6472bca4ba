//! The i-PI socket protocol, in both roles, without an allocator or an operating system.
//!
//! A *server* sends structures to a *driver*, which returns energy, forces and virial. i-PI and ASE
//! are servers; LAMMPS, Quantum ESPRESSO, xTB and many others are drivers. With this crate,
//! firmware or a host program can be either.
//!
//! # Roles
//!
//! | to | use |
//! |---|---|
//! | compute forces with a [`Potential`] and fixed arrays | [`serve`](serve()), [`asynch::serve`] |
//! | compute forces on a host, for structures and batches of any size | [`net::serve`] |
//! | write the loop yourself, with your own arrays | [`Driver`], perhaps with [`Storage`] |
//! | take positions by the chunk, for an accelerator | [`Driver::receive_into`], [`Sink`] |
//! | give forces by the chunk | [`Driver::reply_from`], [`Source`] |
//! | ask one driver for forces | [`Server`] |
//! | ask any number of drivers, which come and go | [`net::Pool`] |
//!
//! A driver connects and a server listens. Firmware for 64 atoms, over any `embedded-io` stream
//! that is connected to a server:
//!
//! ```
//! use forcewire::{Cell, Evaluation, Potential, PotentialError, Virial};
//!
//! /// Every atom on a spring of its own, k in hartree/bohr².
//! struct Springs {
//!     k: f64,
//! }
//!
//! impl Potential for Springs {
//!     type Real = f64; // or f32, for half of the memory
//!
//!     fn evaluate(
//!         &mut self,
//!         _: &Cell,
//!         positions: &[[f64; 3]],
//!         forces: &mut [[f64; 3]],
//!     ) -> Result<Evaluation, PotentialError> {
//!         let (mut energy, mut virial) = (0.0, Virial::ZERO);
//!         for (r, force) in positions.iter().zip(forces) {
//!             *force = r.map(|x| -self.k * x);
//!             energy += r.iter().map(|x| 0.5 * self.k * x * x).sum::<f64>();
//!             virial.add_product(*r, *force);
//!         }
//!         Ok(Evaluation { energy, virial })
//!     }
//! }
//!
//! fn firmware(mut socket: impl embedded_io::Read + embedded_io::Write) {
//!     let _ = forcewire::serve::<64>(&mut socket, &mut Springs { k: 0.01 });
//! }
//! ```
//!
//! # Units
//!
//! Atomic units throughout: positions and cells in bohr, energies in hartree, forces in
//! hartree/bohr, virials in hartree and not divided by the volume. Arrays are `[[x, y, z];
//! natoms]`. The vectors of a [`Cell`] are the columns of h.
//!
//! # Life of a connection
//!
//! 1. Bring a transport: a socket of [`net::connect`], or any stream of `embedded-io`,
//!    `embedded-io-async` or smoltcp. [`Coalesced`] sends the pieces of a message together.
//! 2. Make a [`Driver`] or a [`Server`]: the state of one connection, without arrays.
//! 3. Make an [`Exchange`], such as [`Driver::receive`], which borrows the machine and your arrays.
//! 4. Run it: [`blocking::run`], [`asynch::run`], [`smoltcp::poll`]. Time limits are
//!    [`Deadlines`], with your clock.
//! 5. If it stops halfway, run the same exchange again: `run(&mut socket, &mut exchange)`. It
//!    continues at the byte where it stopped. A new exchange can continue only if its arrays still
//!    hold what has moved. Otherwise it fails with [`ProtocolError::Unfinished`],
//!    [`ReplyDue`](ProtocolError::ReplyDue) or [`AnswerDue`](ProtocolError::AnswerDue) and changes
//!    nothing.
//! 6. To give up between positions and forces, run [`Driver::drain`] before closing;
//!    [`serve`](serve()) does this itself. i-PI hangs if a driver closes with bytes unread.
//! 7. After an error that the peer caused, close, [`reset`](Driver::reset) and connect again;
//!    [`Backoff`] paces that.
//!
//! ```
//! use forcewire::{Driver, Evaluation, Event, blocking};
//!
//! fn serve<S: embedded_io::Read + embedded_io::Write>(
//!     socket: &mut S,
//!     compute: impl Fn(&[[f64; 3]], &mut [[f64; 3]]) -> Evaluation,
//! ) -> Result<(), forcewire::Error<S::Error>> {
//!     let mut driver = Driver::new();
//!     let (mut positions, mut forces) = ([[0.0; 3]; 64], [[0.0; 3]; 64]);
//!     loop {
//!         match blocking::run(socket, driver.receive(&mut positions))? {
//!             Event::Positions { natoms, .. } => {
//!                 let forces = &mut forces[..natoms];
//!                 let evaluation = compute(&positions[..natoms], forces);
//!                 blocking::run(socket, driver.reply(&evaluation, forces, b""))?;
//!             }
//!             Event::Init { .. } => {}
//!             _ => return Ok(()), // EXIT, or the server closed
//!         }
//!     }
//! }
//! ```
//!
//! # Modules
//!
//! | | feature | |
//! |---|---|---|
//! | [`blocking`] | | exchanges over a connection that blocks |
//! | [`asynch`] | `async` | the same for futures, with the same names |
//! | [`smoltcp`] | `smoltcp` | exchanges over a smoltcp socket, polled |
//! | [`line`](mod@line) | | frames with a checksum over a serial line |
//! | [`net`] | `std` | TCP and unix sockets of a host; on unix systems the pool |
//! | [`potential`] | | potentials with known answers, for tests |
//! | [`manual`] | | how it works, the protocol, sizes, speed, peers |
//!
//! Two more features enable logging: `log`, and `defmt`, which also implements `defmt::Format` for
//! events and errors. Features only add, and without any of them the crate is `no_std`.
//!
#![cfg_attr(not(feature = "async"), doc = "[`asynch`]: #modules")]
#![cfg_attr(not(feature = "async"), doc = "[`asynch::run`]: #modules")]
#![cfg_attr(not(feature = "async"), doc = "[`asynch::serve`]: #modules")]
#![cfg_attr(not(feature = "smoltcp"), doc = "[`smoltcp`]: #modules")]
#![cfg_attr(not(feature = "smoltcp"), doc = "[`smoltcp::poll`]: #modules")]
#![cfg_attr(not(feature = "std"), doc = "[`net`]: #modules")]
#![cfg_attr(not(feature = "std"), doc = "[`net::connect`]: #modules")]
#![cfg_attr(not(feature = "std"), doc = "[`net::Pool`]: #modules")]
#![cfg_attr(not(feature = "std"), doc = "[`net::serve`]: #modules")]
#![cfg_attr(feature = "std", doc = "[`net::serve`]: net::serve()")]
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

#[cfg(feature = "std")]
extern crate std;

#[cfg(feature = "async")]
pub mod asynch;
pub mod blocking;
pub mod line;
#[cfg(any(doc, doctest))]
pub mod manual;
#[cfg(feature = "std")]
pub mod net;
pub mod potential;
#[cfg(feature = "smoltcp")]
pub mod smoltcp;

mod backoff;
mod coalesce;
mod deadlines;
mod driver;
mod error;
mod exchange;
mod fmt;
mod geometry;
mod protocol;
mod serve;
mod server;

pub use backoff::Backoff;
pub use coalesce::{CoalesceError, Coalesced};
pub use deadlines::{Deadline, DeadlineTimer, Deadlines, TimedOut};
pub use driver::{
    AwaitGetForce, Chunks, Destination, Drain, Driver, Event, Initialize, Origin, Receive, Reply,
    Sink, Source, Storage,
};
pub use error::Error;
pub use exchange::{Awaited, Exchange, Step, Traffic, Wait};
pub use geometry::{Cell, Rotation, Virial};
pub use potential::{Evaluation, Potential, PotentialError};
pub use protocol::{
    Extras, ExtrasError, Header, Parameters, ProtocolError, Quantity, Scalar, Status,
};
pub use serve::blocking as serve;
pub use server::{Answer, Mode, Request, Server, ServerExchange};

/// The programs in README are compiled with the crate's own examples.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
