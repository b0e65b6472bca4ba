//! `examples/driver.rs` against real peers: i-PI 3.3.1 and ASE 3.29, as their users start them.
//!
//! They need the peers, so `cargo test` leaves them out and says so. With them:
//!
//! ```text
//! tests/peers/install DIRECTORY
//! FORCEWIRE_PEERS=DIRECTORY cargo test --test peers -- --ignored
//! ```
//!
//! Everything stays on this host (127.0.0.1 and unix sockets) and ends with its test.

#![cfg(unix)]

mod ase;
#[path = "../common/example.rs"]
mod example;
mod ipi;
mod process;
mod simulation;
