//! forcewire for C and Fortran.
//!
//! `forcewire.h` is generated from this crate's functions and their comments, which are written for its readers; a
//! test compares it. `forcewire.f90` stands on the header.
//!
//! ```text
//! sockets.rs     open_socket, readbuffer, writebuffer: i-PI's sockets.c again (std)
//! driver.rs      the API of both roles
//! server.rs
//! handle.rs      what the caller's memory holds
//! link.rs        the caller's recv and send, or a socket
//! host.rs        connecting, accepting (std)
//! status.rs      what calls return, and why
//! ```
//!
//! Without `std` nothing here allocates, and what goes into an image of firmware is checked to reach no panic.

#![cfg_attr(not(feature = "std"), no_std)]
#![deny(unsafe_op_in_unsafe_fn)]
#![deny(unused_must_use)]
#![warn(clippy::undocumented_unsafe_blocks)]
// The names are those of the header, and what callers must keep to is written there.
#![allow(non_camel_case_types, clippy::missing_safety_doc)]

mod driver;
mod handle;
#[cfg(feature = "std")]
mod host;
mod link;
mod memory;
mod server;
#[cfg(feature = "std")]
mod sockets;
mod status;

#[cfg(not(feature = "std"))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    unsafe extern "C" {
        /// Is defined nowhere: firmware from which a panic can be reached does not link.
        fn forcewire_panic_is_reachable() -> !;
    }
    // SAFETY: it is never called, there being no such function.
    unsafe { forcewire_panic_is_reachable() }
}
