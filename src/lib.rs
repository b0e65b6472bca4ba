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
