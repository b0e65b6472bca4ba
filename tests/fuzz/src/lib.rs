//! The fuzz targets: how each uses its input. `cargo test` runs them on the corpora without a
//! fuzzer (`tests/corpora.rs`).
//!
//! A machine is compared with a model of it in `model`: the protocol read from a slice with all
//! bytes of a connection, without interruptions.

mod choices;
mod driver;
mod framing;
use forcewire_support::layout;
mod line;
mod model;
mod pair;
mod server;
mod splits;
mod texts;

pub use driver::{driver_bytes, driver_operations};
pub use line::line;
pub use pair::pair;
pub use server::{server_bytes, server_operations};
pub use splits::splits;
pub use texts::{extras, parameters};

/// A target: its name and its function.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: [Target; 9] = [
    ("driver_bytes", driver_bytes),
    ("driver_operations", driver_operations),
    ("server_bytes", server_bytes),
    ("server_operations", server_operations),
    ("pair", pair),
    ("splits", splits),
    ("parameters", parameters),
    ("extras", extras),
    ("line", line),
];
