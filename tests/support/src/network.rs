//! Two smoltcp interfaces connected in one process, with a virtual clock.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, Device, DeviceCapabilities, Medium};
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, IpProtocol, Ipv4Packet, TcpPacket};

/// The frames in transit in one direction.
#[derive(Clone, Default)]
pub struct Line(Rc<RefCell<VecDeque<Vec<u8>>>>);

/// One end of a cable.
pub struct End {
    hears: Line,
    says: Line,
    /// One in this many frames is lost; none if 0.
    loses: usize,
    sent: usize,
    /// The sent segments: sequence number and bytes of payload.
    pub segments: Vec<(i32, usize)>,
}

pub struct Received(Vec<u8>);
pub struct Sending<'a>(&'a mut End);

impl phy::RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl phy::TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        let end = self.0;
        let ip = Ipv4Packet::new_checked(&frame[..]).unwrap();
        assert_eq!(ip.next_header(), IpProtocol::Tcp);
        let tcp = TcpPacket::new_checked(ip.payload()).unwrap();
        if !tcp.payload().is_empty() {
            end.segments.push((tcp.seq_number().0, tcp.payload().len()));
        }
        end.sent += 1;
        if end.loses == 0 || !end.sent.is_multiple_of(end.loses) {
            end.says.0.borrow_mut().push_back(frame);
        }
        result
    }
}

impl Device for End {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Sending<'_>)> {
        let frame = self.hears.0.borrow_mut().pop_front()?;
        Some((Received(frame), Sending(self)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        Some(Sending(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = 1500;
        capabilities
    }
}

/// An interface with one socket.
pub struct Host {
    pub end: End,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
}

impl Host {
    fn new(address: [u8; 4], end: End, receive: usize, transmit: usize) -> Self {
        let mut end = end;
        let config = Config::new(HardwareAddress::Ip);
        let mut interface = Interface::new(config, &mut end, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            let [a, b, c, d] = address;
            let address = IpCidr::new(IpAddress::v4(a, b, c, d), 24);
            addresses.push(address).unwrap();
        });
        let mut socket = Socket::new(
            SocketBuffer::new(vec![0; receive]),
            SocketBuffer::new(vec![0; transmit]),
        );
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        let mut sockets = SocketSet::new(vec![]);
        let handle = sockets.add(socket);
        Self {
            end,
            interface,
            sockets,
            handle,
        }
    }

    pub fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    pub fn connect(&mut self) {
        let socket = self.sockets.get_mut::<Socket>(self.handle);
        let peer = (IpAddress::v4(10, 0, 0, 1), 31415);
        socket
            .connect(self.interface.context(), peer, 50000)
            .unwrap();
    }

    fn poll(&mut self, now: Instant) {
        self.interface.poll(now, &mut self.end, &mut self.sockets);
    }
}

/// A server that listens, a driver that connects to it, and the cable between them.
pub struct Hosts {
    pub server: Host,
    pub driver: Host,
    pub now: Instant,
    turns: usize,
}

impl Hosts {
    /// The rings have these sizes for receiving and sending. One in this many frames is lost; none
    /// if 0.
    pub fn new(server: (usize, usize), driver: (usize, usize), loses: usize) -> Self {
        let (there, back) = (Line::default(), Line::default());
        let end = |hears: &Line, says: &Line| End {
            hears: hears.clone(),
            says: says.clone(),
            loses,
            sent: 0,
            segments: Vec::new(),
        };
        let mut hosts = Self {
            server: Host::new([10, 0, 0, 1], end(&back, &there), server.0, server.1),
            driver: Host::new([10, 0, 0, 2], end(&there, &back), driver.0, driver.1),
            now: Instant::ZERO,
            turns: 0,
        };
        hosts.server.socket().listen(31415).unwrap();
        hosts.connect();
        hosts
    }

    pub fn connect(&mut self) {
        self.driver.connect();
        while !(self.server.socket().may_send() && self.driver.socket().may_recv()) {
            self.turn();
        }
    }

    /// Advances the clock to the next work of an interface, then polls both.
    pub fn turn(&mut self) {
        self.turn_until(None);
    }

    /// Like [`turn`](Self::turn), but at most up to this time if there is one.
    pub fn turn_until(&mut self, latest: Option<Instant>) {
        let Self { server, driver, .. } = self;
        let in_flight = |host: &Host| !host.end.hears.0.borrow().is_empty();
        if !in_flight(server) && !in_flight(driver) {
            let delay = |host: &mut Host| host.interface.poll_delay(self.now, &host.sockets);
            let delays = [delay(server), delay(driver)];
            let next = delays.into_iter().flatten().min().map(|it| self.now + it);
            self.now = next.into_iter().chain(latest).min().unwrap_or(self.now);
        }
        server.poll(self.now);
        driver.poll(self.now);
        self.turns += 1;
        assert!(
            self.turns < 100_000,
            "nothing moves any more, at {}",
            self.now
        );
    }
}
