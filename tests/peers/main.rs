//! Both roles with real peers, started as their users start them: `forcewire driver` with i-PI or
//! ASE, `net::Pool` with other programs' drivers. `table.rs` lists them.
//!
//! The tests need these peers, so `cargo test` ignores them. With the peers installed:
//!
//! ```text
//! tests/peers/install DIRECTORY
//! FORCEWIRE_PEERS=DIRECTORY cargo test --test peers -- --ignored --skip drivers::codes
//! ```
//!
//! Everything stays on this host (127.0.0.1 and unix sockets) and ends with its test.

#![cfg(unix)]

mod ase;
mod drivers;
mod front;
mod ipi;
use forcewire_support::page;
use forcewire_support::process;
mod reference;
mod relay;
mod simulation;
mod table;
mod tls;
