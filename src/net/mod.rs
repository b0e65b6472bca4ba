//! The host's side: connections over TCP and unix sockets.
//!
//! A [`Stream`] stands between the exchanges and the operating system, so that a message costs one
//! system call. One `recv` takes everything that has arrived, one `sendmsg` sends all pieces of a
//! message, and large arrays move directly between the kernel and the caller's memory.

mod address;
mod arrays;
mod connect;
#[cfg(unix)]
mod credentials;
mod inbox;
#[cfg(unix)]
mod listener;
mod outbox;
#[cfg(unix)]
mod pool;
mod serve;
mod socket;
mod stream;
mod subnet;

pub use address::{Address, AddressError};
pub use arrays::Arrays;
pub use connect::{ConnectOptions, connect, connect_with};
#[cfg(unix)]
pub use listener::accept;
#[cfg(unix)]
pub use pool::{
    Answered, Counters, DriverId, EvaluateError, EvaluateFailure, Job, Latencies, LeftReason, Loss,
    Matching, Pool, PoolEvent, PoolOptions, Refused, Ticket,
};
pub use serve::{Calculator, serve, serve_with};
pub use stream::Stream;
pub use subnet::{Subnet, SubnetError};
