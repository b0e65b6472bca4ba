//! A computer at one end of the cable, with one TCP socket.

use std::cell::RefCell;
use std::rc::Rc;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

use crate::cable::{Cable, Plug};

pub const PORT: u16 = 31415;

/// The properties that differ between computers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hardware {
    pub mtu: usize,
    pub receive: usize,
    pub transmit: usize,
    /// Microseconds between two polls of the network.
    pub nap: u64,
}

pub struct Host {
    plug: Plug,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    hardware: Hardware,
    /// The time until which it sleeps.
    pub wakes: Instant,
    port: u16,
}

const fn address(end: usize) -> IpAddress {
    IpAddress::v4(10, 0, 0, 1 + end as u8)
}

impl Host {
    pub fn new(
        cable: &Rc<RefCell<Cable>>,
        end: usize,
        hardware: Hardware,
        seed: u64,
        now: Instant,
    ) -> Self {
        let mut plug = Plug {
            cable: Rc::clone(cable),
            end,
            mtu: hardware.mtu,
            now,
        };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut plug, now);
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(address(end), 24)).unwrap();
        });
        let mut socket = Socket::new(
            SocketBuffer::new(vec![0; hardware.receive]),
            SocketBuffer::new(vec![0; hardware.transmit]),
        );
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        // A peer that has restarted while the cable was cut sends nothing.
        socket.set_keep_alive(Some(Duration::from_secs(2)));
        socket.set_timeout(Some(Duration::from_secs(10)));
        let mut sockets = SocketSet::new(vec![]);
        let handle = sockets.add(socket);
        Self {
            plug,
            interface,
            sockets,
            handle,
            hardware,
            wakes: now,
            port: 49152 + (seed % 1000) as u16,
        }
    }

    pub fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    pub fn listen(&mut self) {
        self.socket().abort();
        self.socket().listen(PORT).unwrap();
    }

    /// Connects to the other end, from a port that it has not used recently.
    pub fn connect(&mut self) {
        self.port = if self.port > 65_000 {
            49152
        } else {
            self.port + 1
        };
        let socket = self.sockets.get_mut::<Socket>(self.handle);
        socket.abort();
        let peer = (address(1 - self.plug.end), PORT);
        socket
            .connect(self.interface.context(), peer, self.port)
            .unwrap();
    }

    /// Polls the network if it is awake, and sleeps afterwards.
    pub fn poll(&mut self, now: Instant) {
        self.plug.now = now;
        self.interface.poll(now, &mut self.plug, &mut self.sockets);
        self.wakes = now + Duration::from_micros(self.hardware.nap);
    }

    /// The next time at which the host acts by itself.
    pub fn due(&mut self, now: Instant) -> Option<Instant> {
        let at = self.interface.poll_at(now, &self.sockets)?;
        Some(at.max(self.wakes))
    }
}
