//! The smoltcp shim.
//!
//! A driver over the stand-in socket in ../smoltcp.

#![no_std]
#![no_main]

use core::task::Poll;

use forcewire::{Driver, Event, Storage, smoltcp::poll};
use images::{Echo, unforeseen};
use smoltcp::socket::tcp::Socket;

#[unsafe(no_mangle)]
extern "C" fn image() -> u32 {
    let mut socket = Socket::new();
    let mut driver = Driver::new();
    let mut storage = Storage::<f64, 64>::new();
    loop {
        match poll(&mut socket, storage.receive(&mut driver)) {
            Ok(Poll::Ready(Event::Positions {
                natoms, structures, ..
            })) => {
                let _ = storage.evaluate(natoms, structures, &mut Echo);
                while let Ok(Poll::Pending) = poll(&mut socket, storage.reply(&mut driver)) {}
            }
            Ok(Poll::Ready(_)) => return unforeseen(),
            Ok(Poll::Pending) => {}
            Err(_) => driver.reset(),
        }
    }
}
