//! A server over smoltcp.
//!
//! This server keeps its exchanges between polls. The socket is the stand-in in ../smoltcp.

#![no_std]
#![no_main]

use core::task::Poll;

use forcewire::{Cell, Request, Server, smoltcp::poll};
use images::{may_panic, unforeseen};
use smoltcp::socket::tcp::Socket;

#[unsafe(no_mangle)]
extern "C" fn image() -> u32 {
    let mut socket = Socket::new();
    let mut server = Server::new();
    let cell = Cell::orthorhombic([unforeseen().into(); 3]);
    let mut positions = [[0.0; 3]; 64];
    let mut forces = [[0.0; 3]; 64];
    loop {
        let request = Request::new(&cell, &positions);
        let mut evaluate = server.evaluate(request, &mut forces, &mut []);
        let polled = loop {
            match poll(&mut socket, &mut evaluate) {
                Ok(Poll::Pending) if unforeseen() > 0 => {}
                polled => break polled,
            }
        };
        drop(evaluate);
        match polled {
            Ok(Poll::Ready(_)) => {
                may_panic(&mut forces);
                for (position, force) in positions.iter_mut().zip(&forces) {
                    *position = *force;
                }
            }
            Ok(Poll::Pending) => {
                let mut exit = server.exit();
                while let Ok(Poll::Pending) = poll(&mut socket, &mut exit) {}
                return unforeseen();
            }
            Err(_) => server.reset(),
        }
    }
}
