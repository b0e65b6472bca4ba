//! One TCP connection over smoltcp, which interrupts serve while a task computes or waits.

use core::future::poll_fn;
use core::net::Ipv4Addr;
use core::task::{Poll, Waker};

use forcewire::smoltcp::{SocketError, poll, poll_by};
use forcewire::{Backoff, DeadlineTimer, Deadlines, Driver, Error, Exchange, Header};
use forcewire_boards::{Ethernet, Options};
use forcewire_cortex_m::{Alarm, clock};
use lm3s6965evb::{Stellaris, Timer};
use rtic::Mutex;
use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet, SocketStorage};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Cidr};

use crate::RING;

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

/// The time between two polls of the network if no frame arrives. QEMU's user network notices only
/// when something else wakes QEMU that the host has accepted a connection, or that a full window
/// has room again (7.2, `net/slirp.c`).
const SHORTEST_NAP: Duration = Duration::from_millis(1);
const LONGEST_NAP: Duration = Duration::from_secs(1);

/// An alarm that is not set.
const NEVER: Instant = Instant::from_micros_const(i64::MAX);

/// The time since the board was switched on.
pub fn now() -> Instant {
    // There are 12.5 ticks in a microsecond.
    Instant::from_micros((clock::ticks() * 2 / 25) as i64)
}

/// The resource that the interrupts and the task share.
pub struct Network {
    ethernet: Stellaris,
    alarm: Timer,
    /// The time of the next alarm.
    next: Instant,
    nap: Duration,
    interface: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
    local_port: u16,
    deadlines: DeadlineTimer,
    /// The waker of the task, if it waits.
    task: Option<Waker>,
}

// Safety: there is only one core, and there are no other pointers to the registers.
unsafe impl Send for Network {}

impl Network {
    pub fn new(
        mut ethernet: Stellaris,
        alarm: Timer,
        storage: &'static mut [SocketStorage<'static>],
        [receive, transmit]: &'static mut [[u8; RING]; 2],
    ) -> Self {
        let mut config = Config::new(EthernetAddress(ethernet.address()).into());
        let now = now();
        // The seed must differ between starts, as a clock does: a local port must not be reused at
        // once.
        config.random_seed = now.total_micros().unsigned_abs();
        let mut interface = Interface::new(config, &mut ethernet, now);
        interface.update_ip_addrs(|addresses| {
            let _ = addresses.push(IpCidr::Ipv4(ADDRESS));
        });
        let _ = interface.routes_mut().add_default_ipv4_route(GATEWAY);

        let mut socket = Socket::new(
            SocketBuffer::new(&mut receive[..]),
            SocketBuffer::new(&mut transmit[..]),
        );
        // smoltcp's defaults delay an acknowledgement by 10 ms and hold back small segments.
        socket.set_ack_delay(None);
        socket.set_nagle_enabled(false);
        // Detects a server whose host is unreachable. The host of a server that is computing
        // answers these probes.
        socket.set_keep_alive(Some(PROBE));
        socket.set_timeout(Some(SILENCE));
        let mut sockets = SocketSet::new(storage);
        let socket = sockets.add(socket);
        Self {
            ethernet,
            alarm,
            next: NEVER,
            nap: SHORTEST_NAP,
            interface,
            sockets,
            socket,
            local_port: 49152 + (now.total_micros() % 16384) as u16,
            deadlines: DeadlineTimer::new(Deadlines::NONE),
            task: None,
        }
    }

    /// Handles the interrupts of frames and of the alarm: moves frames, answers STATUS if the task
    /// computes, and wakes the task if it waits.
    pub fn turn(&mut self, driver: &mut Driver) {
        self.ethernet.idle(); // acknowledges its interrupt; setting the alarm anew does the same
        self.next = NEVER;
        self.nap = (self.nap * 2).min(LONGEST_NAP);
        self.move_frames();
        if driver.status() == Header::HaveData {
            // An error occurs again when the task replies.
            let _ = poll(self.socket(), driver.await_getforce());
            self.move_frames();
        }
        self.wake_at(now() + self.nap);
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    /// Advances an exchange as far as possible now.
    pub fn run<T: Exchange>(&mut self, exchange: T) -> Poll<Result<T::Output, Error<SocketError>>> {
        let now = (now() - Instant::ZERO).into();
        let socket = self.sockets.get_mut(self.socket);
        let polled = poll_by(socket, exchange, &mut self.deadlines, now);
        // Send the queued bytes now; they must not wait for the next turn.
        self.move_frames();
        match polled {
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Ok(Poll::Pending) => {
                if let Some(due) = self.deadlines.due() {
                    self.wake_at(Instant::ZERO + due.into());
                }
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Ready after this time.
    pub fn passed(&mut self, moment: Instant) -> Poll<()> {
        if now() >= moment {
            return Poll::Ready(());
        }
        self.wake_at(moment);
        Poll::Pending
    }

    /// Starts to connect.
    fn begin(&mut self, options: &Options<'_>) {
        self.local_port = self.local_port.checked_add(1).unwrap_or(49152);
        self.deadlines = DeadlineTimer::new(options.deadlines);
        let (remote, local_port) = ((options.server, options.port), self.local_port);
        let socket = self.sockets.get_mut::<Socket>(self.socket);
        // This fails only if the options hold no valid address; then the attempt fails at once.
        let _ = socket.connect(self.interface.context(), remote, local_port);
        self.move_frames();
    }

    /// Resets the connection at once.
    pub fn abort(&mut self) {
        self.socket().abort();
        self.move_frames();
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.socket)
    }

    /// Sets the alarm to this time, unless it is set to an earlier one.
    fn wake_at(&mut self, moment: Instant) {
        let now = now();
        if moment < self.next {
            self.next = moment;
            let left = moment.max(now) - now;
            self.alarm.set(left.total_micros() as u32);
        }
    }

    /// Moves frames in both directions, and sets the alarm for TCP's timers.
    fn move_frames(&mut self) {
        let (now, device) = (now(), &mut self.ethernet);
        let moved = self.interface.poll(now, device, &mut self.sockets);
        if moved != PollResult::None {
            self.nap = SHORTEST_NAP;
            self.wake_at(now + SHORTEST_NAP);
        }
        if let Some(timer) = self.interface.poll_at(now, &self.sockets) {
            self.wake_at(timer);
        }
    }
}

/// Waits until `ready` is, which is checked after every turn.
pub async fn until<T>(
    network: &mut impl Mutex<T = Network>,
    mut ready: impl FnMut(&mut Network) -> Poll<T>,
) -> T {
    poll_fn(|context| {
        network.lock(|network| {
            network.task = Some(context.waker().clone());
            ready(network)
        })
    })
    .await
}

/// Connects, retrying until `patience` is over. Returns whether it succeeded.
pub async fn connect(network: &mut impl Mutex<T = Network>, options: &Options<'_>) -> bool {
    let start = now();
    let mut backoff = Backoff::new(PAUSES[0].into(), PAUSES[1].into());
    loop {
        let end = now() + ATTEMPT;
        network.lock(|network| network.begin(options));
        let state = until(network, |network| match network.socket().state() {
            State::SynSent => network.passed(end).map(|()| State::SynSent),
            state => Poll::Ready(state),
        });
        if state.await == State::Established {
            return true;
        }
        network.lock(Network::abort);
        if now() - start >= options.patience {
            return false;
        }
        pause(network, backoff.failed().into()).await;
    }
}

/// Waits for this long.
pub async fn pause(network: &mut impl Mutex<T = Network>, time: Duration) {
    let end = now() + time;
    until(network, |network| network.passed(end)).await;
}

/// Closes the connection and waits until the peer has acknowledged that.
pub async fn close(network: &mut impl Mutex<T = Network>) {
    let acknowledged = [State::Closed, State::TimeWait, State::FinWait2];
    close_until(network, &acknowledged).await;
}

/// Closes the connection and waits for the peer to close too, which shows that it has read
/// everything. If a reset arrived before that, the peer would read the reset first.
pub async fn part(network: &mut impl Mutex<T = Network>) {
    close_until(network, &[State::Closed, State::TimeWait]).await;
}

async fn close_until(network: &mut impl Mutex<T = Network>, states: &[State]) {
    let end = now() + ATTEMPT;
    network.lock(|network| {
        network.socket().close();
        network.move_frames();
    });
    until(network, |network| {
        if states.contains(&network.socket().state()) {
            return Poll::Ready(());
        }
        network.passed(end)
    })
    .await;
}
