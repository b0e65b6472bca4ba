//! One TCP connection over smoltcp, with exchanges and streams that wait for it.

use core::net::Ipv4Addr;
use core::task::Poll;

use forcewire::smoltcp::{SocketError, poll_by};
use forcewire::{Backoff, DeadlineTimer, Deadlines, Driver, Error, Event, Exchange};
use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet, SocketStorage};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Cidr};
#[cfg(feature = "tls")]
use {
    embedded_io::ErrorKind, forcewire::TimedOut, forcewire::Wait, smoltcp::socket::tcp::RecvError,
};

use crate::{Board, Ethernet};

/// The address that QEMU's user network assigns to its first guest, and the gateway.
const ADDRESS: Ipv4Cidr = Ipv4Cidr::new(Ipv4Addr::new(10, 0, 2, 15), 24);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

/// The shortest and the longest pause after failed attempts to connect.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(2)];

/// How often to probe a silent server, and how long to wait for its answer.
const PROBE: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_secs(30);

/// The time limit for an attempt to connect, and for closing.
const ATTEMPT: Duration = Duration::from_secs(5);

/// The shortest and the longest sleep.
const SHORTEST_NAP: Duration = Duration::from_millis(1);
const LONGEST_NAP: Duration = Duration::from_secs(1);

/// A connection to the server.
pub trait Link {
    /// The error of a failed exchange.
    type Error: defmt::Format;

    /// The time since the board was switched on.
    fn now(&self) -> Instant;

    /// Runs an exchange to its end, unless a deadline passes.
    fn run<T: Exchange>(&mut self, transfer: T) -> Result<T::Output, Error<Self::Error>>;

    /// Answers the server while forces are computed, then sleeps until something happens, at most a
    /// second. Returns how the server ended the conversation, if it did.
    ///
    /// After GETFORCE the reply is due even if the server has closed its side: then only a lost
    /// connection is an end.
    fn attend(&mut self, driver: &mut Driver) -> Result<Option<Event>, Error<Self::Error>>;
}

/// A board's network, with the application's only socket.
pub struct Network<'a, D: Board> {
    board: D,
    interface: Interface,
    sockets: SocketSet<'a>,
    socket: SocketHandle,
    local_port: u16,
    deadlines: Deadlines,
    watch: DeadlineTimer,
    /// The longest allowed duration of the next sleep.
    nap: Duration,
    #[cfg(feature = "tls")]
    due: Option<Instant>,
}

impl<'a, D: Board> Network<'a, D> {
    pub fn new(
        mut board: D,
        storage: &'a mut [SocketStorage<'a>],
        receive: &'a mut [u8],
        transmit: &'a mut [u8],
        deadlines: Deadlines,
    ) -> Self {
        let mut config = Config::new(EthernetAddress(board.ethernet().address()).into());
        let now = board.now();
        // The seed must differ between starts, as a clock does: a local port must not be reused at
        // once.
        config.random_seed = now.total_micros().unsigned_abs();
        let mut interface = Interface::new(config, board.ethernet(), now);
        interface.update_ip_addrs(|addresses| {
            let _ = addresses.push(IpCidr::Ipv4(ADDRESS));
        });
        let _ = interface.routes_mut().add_default_ipv4_route(GATEWAY);

        let mut socket = Socket::new(SocketBuffer::new(receive), SocketBuffer::new(transmit));
        // smoltcp's defaults delay an acknowledgement by 10 ms and hold back small segments.
        socket.set_ack_delay(None);
        socket.set_nagle_enabled(false);
        // Detects a server whose host is unreachable. The host of a server that is computing
        // answers these probes.
        socket.set_keep_alive(Some(PROBE));
        socket.set_timeout(Some(SILENCE));
        let mut sockets = SocketSet::new(storage);
        let socket = sockets.add(socket);
        let local_port = 49152 + (now.total_micros() % 16384) as u16;
        Self {
            board,
            interface,
            sockets,
            socket,
            local_port,
            deadlines,
            watch: DeadlineTimer::new(deadlines),
            nap: SHORTEST_NAP,
            #[cfg(feature = "tls")]
            due: None,
        }
    }

    /// Connects, retrying until `patience` is over. Returns whether it succeeded.
    pub fn connect(&mut self, server: Ipv4Addr, port: u16, patience: Duration) -> bool {
        let start = self.now();
        let mut backoff = Backoff::new(PAUSES[0].into(), PAUSES[1].into());
        loop {
            self.local_port = self.local_port.checked_add(1).unwrap_or(49152);
            let local_port = self.local_port;
            let context = self.interface.context();
            let socket = self.sockets.get_mut::<Socket>(self.socket);
            let begun = socket.connect(context, (server, port), local_port).is_ok();
            let until = self.now() + ATTEMPT;
            while begun && self.state() == State::SynSent && self.now() < until {
                self.turn(Some(until));
            }
            if self.state() == State::Established {
                self.watch = DeadlineTimer::new(self.deadlines);
                return true;
            }
            self.abort();
            if self.now() - start >= patience {
                return false;
            }
            self.pause(backoff.failed().into());
        }
    }

    /// Waits for this long.
    pub fn pause(&mut self, time: Duration) {
        let until = self.now() + time;
        while self.now() < until {
            self.turn(Some(until));
        }
    }

    /// Closes the connection and waits until the peer has acknowledged that.
    pub fn close(&mut self) {
        self.sockets.get_mut::<Socket>(self.socket).close();
        let until = self.now() + ATTEMPT;
        let through = |state| matches!(state, State::Closed | State::TimeWait | State::FinWait2);
        while !through(self.state()) && self.now() < until {
            self.turn(Some(until));
        }
    }

    /// Closes the connection and waits for the peer to close too, which shows that it has read
    /// everything. If a reset arrived before that, the peer would read the reset first.
    pub fn part(&mut self) {
        self.close();
        let until = self.now() + ATTEMPT;
        while !matches!(self.state(), State::Closed | State::TimeWait) {
            if self.now() >= until {
                return self.abort();
            }
            self.turn(Some(until));
        }
    }

    /// Resets the connection at once.
    pub fn abort(&mut self) {
        self.sockets.get_mut::<Socket>(self.socket).abort();
        self.poll();
    }

    fn state(&self) -> State {
        self.sockets.get::<Socket>(self.socket).state()
    }

    fn poll(&mut self) -> PollResult {
        let now = self.board.now();
        self.interface
            .poll(now, self.board.ethernet(), &mut self.sockets)
    }

    /// Moves frames. If there was none, sleeps until a frame arrives, a TCP timer expires, or this
    /// moment.
    ///
    /// Each successive sleep is at most twice as long as the previous one, so an idle board sleeps,
    /// and a missed interrupt at most doubles a wait. QEMU causes missed interrupts: its user
    /// network notices only when something else wakes QEMU that the host has accepted a connection,
    /// or that a full window has room again (7.2, `net/slirp.c`).
    fn turn(&mut self, until: Option<Instant>) {
        if self.poll() != PollResult::None {
            self.nap = SHORTEST_NAP;
            return;
        }
        let now = self.now();
        let timer = self.interface.poll_at(now, &self.sockets);
        let nap = now + self.nap;
        let until = [timer, until].into_iter().flatten().fold(nap, Instant::min);
        if until > now {
            self.board.wait(until);
            self.nap = (self.nap * 2).min(LONGEST_NAP);
        }
    }
}

impl<D: Board> Link for Network<'_, D> {
    type Error = SocketError;

    fn now(&self) -> Instant {
        self.board.now()
    }

    fn run<T: Exchange>(&mut self, mut transfer: T) -> Result<T::Output, Error<SocketError>> {
        loop {
            let now = (self.now() - Instant::ZERO).into();
            let socket = self.sockets.get_mut::<Socket>(self.socket);
            if let Poll::Ready(output) = poll_by(socket, &mut transfer, &mut self.watch, now)? {
                // Send the queued bytes now; they must not wait for the next exchange.
                self.poll();
                return Ok(output);
            }
            let due = self.watch.due().map(|due| Instant::ZERO + due.into());
            self.turn(due);
        }
    }

    fn attend(&mut self, driver: &mut Driver) -> Result<Option<Event>, Error<SocketError>> {
        let now = (self.now() - Instant::ZERO).into();
        let socket = self.sockets.get_mut::<Socket>(self.socket);
        if let Poll::Ready(Some(end)) =
            poll_by(socket, driver.await_getforce(), &mut self.watch, now)?
        {
            return Ok(Some(end));
        }
        if !socket.may_send() {
            return Err(Error::Transport(SocketError::ConnectionLost));
        }
        let due = self.watch.due().map(|due| Instant::ZERO + due.into());
        self.turn(due);
        Ok(None)
    }
}

/// Access to the connection's bytes, for a layer between it and the protocol.
#[cfg(feature = "tls")]
impl<D: Board> Network<'_, D> {
    /// See [`Board::seed`].
    pub fn seed(&mut self) -> Option<[u8; 32]> {
        self.board.seed()
    }

    /// Sets how long to wait for bytes or for room.
    pub fn until(&mut self, moment: Instant) {
        self.due = Some(moment);
    }

    /// Sets the wait to the server's deadline for this.
    pub fn watch(&mut self, wait: &Wait) {
        self.watch.note((self.now() - Instant::ZERO).into(), wait);
        self.due = self.watch.due().map(|due| Instant::ZERO + due.into());
    }

    /// Fails if the server is late.
    pub fn check(&mut self) -> Result<(), TimedOut> {
        self.watch.check((self.now() - Instant::ZERO).into())
    }

    /// Receives at least one byte; 0 at the end of the stream.
    pub fn receive(&mut self, bytes: &mut [u8]) -> Result<usize, ErrorKind> {
        self.patiently(|socket| match socket.recv_slice(bytes) {
            Err(RecvError::Finished) => Ok(Some(0)),
            Err(RecvError::InvalidState) => Err(ErrorKind::ConnectionReset),
            Ok(n) => Ok((n > 0).then_some(n)),
        })
    }

    /// Queues at least one byte.
    pub fn send(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        self.patiently(|socket| match socket.send_slice(bytes) {
            Err(_) => Err(ErrorKind::ConnectionReset),
            Ok(n) => Ok((n > 0).then_some(n)),
        })
    }

    /// Sleeps until something happens.
    pub fn doze(&mut self) {
        self.turn(None);
    }

    /// Sends the queued bytes, as far as the server accepts them.
    pub fn flush(&mut self) {
        self.poll();
    }

    fn patiently<T>(
        &mut self,
        mut attempt: impl FnMut(&mut Socket<'_>) -> Result<Option<T>, ErrorKind>,
    ) -> Result<T, ErrorKind> {
        loop {
            if let Some(done) = attempt(self.sockets.get_mut(self.socket))? {
                return Ok(done);
            }
            if self.due.is_some_and(|due| self.now() >= due) {
                return Err(ErrorKind::TimedOut);
            }
            self.turn(self.due);
        }
    }
}
