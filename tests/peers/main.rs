//! Both sides against real peers, as their users start them: `forcewire driver` and i-PI or ASE,
//! `net::Pool` and other programs' drivers. `table.rs` has the list.
//!
//! They need the peers, so `cargo test` ignores them. With them:
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
#[path = "../common/example.rs"]
mod example;
mod front;
mod ipi;
#[path = "../common/page.rs"]
mod page;
mod process;
mod reference;
mod relay;
mod simulation;
mod table;
mod tls;
