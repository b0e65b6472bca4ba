//! `serve::<64>`, then a server.
//!
//! `blocking` and `server` in one image, which a relay needs.

#![no_std]
#![no_main]

use forcewire::{Cell, Error, Request, Server, blocking};
use images::{Echo, Fault, Wire, may_panic, unforeseen};

#[unsafe(no_mangle)]
extern "C" fn image() -> u32 {
    let served = forcewire::serve::<64>(&mut Wire, &mut Echo).is_ok();
    (served && ask().is_ok()).into()
}

fn ask() -> Result<(), Error<Fault>> {
    let mut server = Server::new();
    let cell = Cell::orthorhombic([unforeseen().into(); 3]);
    let mut positions = [[0.0; 3]; 64];
    let mut forces = [[0.0; 3]; 64];
    while unforeseen() > 0 {
        let request = Request::new(&cell, &positions);
        blocking::run(&mut Wire, server.evaluate(request, &mut forces, &mut []))?;
        may_panic(&mut forces);
        for (position, force) in positions.iter_mut().zip(&forces) {
            *position = *force;
        }
    }
    blocking::run(&mut Wire, server.exit())
}
