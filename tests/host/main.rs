//! Reaching a server and being one, on hosts that are set up in every way: name spaces of the
//! kernel have the hosts files, addresses and ports that this machine has not.

#![cfg(unix)]

mod connecting;
#[path = "../common/layout.rs"]
mod layout;
mod listening;
mod name_space;
mod serving;
mod starting;
mod streams;
