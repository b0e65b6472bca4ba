//! forcewire for C and Fortran.
//!
//! `forcewire.h` is generated from this crate's functions and their doc comments, which are written
//! for readers of the header. A test compares it. `forcewire.f90` is built on the header.
//!
//! A file uses only files below it:
//!
//! ```text
//! serve.rs                forcewire_driver_serve: the driver's loop
//! host.rs                 connect, accept, adopt (std)
//! driver.rs | server.rs   the calls of each role
//! handle.rs               handles: their memory, and what the library keeps in it
//! unfinished.rs           what the driver's loop still has to do
//! potential.rs            what is computed, and the caller's function
//! link.rs                 the connection of a handle: the caller's functions, or a socket
//! status.rs               what calls return, and why
//! memory.rs               the caller's pointers
//! guard.rs                the border to C, which no panic crosses
//!
//! sockets.rs              open_socket, readbuffer, writebuffer: i-PI's sockets.c again (std)
//! ```
//!
//! Without `std` nothing in this crate allocates, and a test checks that no panic can be reached in
//! a firmware image.

#![cfg_attr(not(feature = "std"), no_std)]
#![deny(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]
// The names are the same as in the header, which also documents the safety conditions.
#![allow(non_camel_case_types, clippy::missing_safety_doc)]

mod driver;
mod guard;
mod handle;
#[cfg(feature = "std")]
mod host;
mod link;
mod memory;
mod potential;
mod serve;
mod server;
#[cfg(feature = "std")]
mod sockets;
mod status;
mod unfinished;

#[cfg(not(feature = "std"))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    unsafe extern "C" {
        /// No object defines this symbol: firmware from which a panic can be reached does not link.
        fn forcewire_panic_is_reachable() -> !;
    }
    // SAFETY: the call is never reached, because the function does not exist.
    unsafe { forcewire_panic_is_reachable() }
}
