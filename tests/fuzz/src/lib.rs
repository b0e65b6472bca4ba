//! The fuzz targets: what each does with its input. `cargo test` does the same with the corpora
//! (`tests/corpora.rs`), without a fuzzer.
//!
//! A machine is held against a model of it in `model`: the protocol read from a slice that holds
//! all of a connection, with nothing that could be interrupted.

mod choices;
mod driver;
mod framing;
#[path = "../../common/layout.rs"]
mod layout;
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

/// A target: its name, and what it does.
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
