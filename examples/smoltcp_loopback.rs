//! A driver and its server over smoltcp, both in one process and without the operating system's
//! network.
//!
//! ```text
//! cargo run --example smoltcp_loopback
//! ```

use core::task::Poll;

use forcewire::smoltcp::poll;
use forcewire::{Cell, Driver, Evaluation, Request, Server};
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::phy::{Loopback, Medium};
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

fn socket() -> Socket<'static> {
    let ring = || SocketBuffer::new(vec![0; 1024]);
    let mut socket = Socket::new(ring(), ring());
    // smoltcp's defaults cost at least 10 ms per message.
    socket.set_nagle_enabled(false);
    socket.set_ack_delay(None);
    socket
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut device = Loopback::new(Medium::Ip);
    let config = Config::new(HardwareAddress::Ip);
    let mut interface = Interface::new(config, &mut device, Instant::now());
    let here = IpAddress::v4(127, 0, 0, 1);
    interface.update_ip_addrs(|addresses| addresses.push(IpCidr::new(here, 8)).unwrap());
    let mut sockets = SocketSet::new(vec![]);
    let (ours, theirs) = (sockets.add(socket()), sockets.add(socket()));
    sockets.get_mut::<Socket>(ours).listen(31415)?;
    let connecting = sockets.get_mut::<Socket>(theirs);
    connecting.connect(interface.context(), (here, 31415), 49152)?;

    let (cell, positions) = (Cell::orthorhombic([20.0; 3]), [[1.0, 2.0, 3.0]; 30]);
    let (mut server, mut forces) = (Server::new(), [[0.0; 3]; 30]);
    let request = Request::new(&cell, &positions);
    let mut asks = server.evaluate(request, &mut forces, &mut []);
    let (mut driver, mut received) = (Driver::new(), [[0.0; 3]; 30]);
    let mut computes = false;
    let answer = loop {
        interface.poll(Instant::now(), &mut device, &mut sockets);
        if let Poll::Ready(answer) = poll(sockets.get_mut(ours), &mut asks)? {
            break answer;
        }
        let socket = sockets.get_mut(theirs);
        if !computes {
            computes = poll(socket, driver.receive(&mut received))?.is_ready();
        } else {
            // The arrays don't change between two polls, so an exchange may be recreated.
            let evaluation = Evaluation {
                energy: 1.5,
                ..Evaluation::default()
            };
            computes = poll(socket, driver.reply(&evaluation, &received, b""))?.is_pending();
        }
    };
    drop(asks);
    println!(
        "energy {} hartree, first force {:?}",
        answer.evaluation.energy, forces[0]
    );
    Ok(())
}
