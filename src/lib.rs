#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![deny(unused_must_use)]

#[cfg(feature = "std")]
extern crate std;

#[cfg(feature = "async")]
pub mod asynch;
pub mod blocking;
#[cfg(feature = "std")]
pub mod net;
pub mod potential;
#[cfg(feature = "smoltcp")]
pub mod smoltcp;

mod backoff;
mod cell;
mod deadlines;
mod driver;
mod error;
mod extras;
mod fmt;
mod gathered;
mod message;
mod parameters;
mod scalar;
mod server;
mod status;
mod storage;
mod transfer;
mod wire;

pub use backoff::Backoff;
pub use blocking::serve;
pub use cell::{Cell, Rotation, Virial};
pub use deadlines::{Awaited, Deadline, Deadlines, TimedOut, Wait, Watch};
pub use driver::{Attend, Driver, Event, Initialize, Receive, Reply};
pub use error::{Error, ProtocolError, Quantity};
pub use extras::{Extras, ExtrasError};
pub use gathered::{Gathered, GatheredError};
pub use parameters::Parameters;
pub use potential::{Evaluation, Potential, PotentialError};
pub use scalar::Scalar;
pub use server::{Answer, Exchange, Mode, Request, Server};
pub use status::Status;
pub use storage::Storage;
pub use transfer::{Step, Traffic, Transfer};
pub use wire::Header;
