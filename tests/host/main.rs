//! Connecting to a server and being one, on hosts set up in various ways. Kernel name spaces
//! provide hosts files, addresses and ports that this machine does not have.

#![cfg(unix)]

mod connecting;
use forcewire_support::layout;
mod listening;
mod name_space;
mod serving;
mod starting;
mod streams;
