//! An exchange that stopped in the middle of a message, and what follows it.
//!
//! Afterwards the numbers are right or there is a typed error, and after the error the exchange
//! that began the message can still complete it. Each test stops at every byte of every message.

mod mixtures;
mod number;
mod peer;
mod positions;
mod replies;
mod requests;
