//! An exchange that stopped in the middle of a message, and what follows it.
//!
//! Whatever follows, the numbers are right or there is a typed error; after the error the exchange
//! that began the message still completes it. Each test stops at every byte of every message.

#[path = "../common/mod.rs"]
mod common;

mod mixtures;
mod number;
mod peer;
mod positions;
mod replies;
mod requests;
