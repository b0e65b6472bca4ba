//! forcewire with embassy on Arm's MPS2 with a Cortex-M3 (AN385), emulated by QEMU.
//!
//! Four tasks share the core: `serve` connects, computes and connects again, `network` moves
//! frames, `heartbeat` logs the number of evaluations, `wake_qemu` helps the emulator. An
//! evaluation is not interrupted; the other tasks wait until it ends.

#![no_std]
#![no_main]

mod connection;
mod ethernet;
mod executor;
mod time;
mod vectors;

use core::net::Ipv4Addr;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use connection::{Clock, abort, close, connect, part, pause};
use defmt::{Display2Format, error, info, unwrap, warn};
use embassy_net::tcp::TcpSocket;
use embassy_net::{Config, Ipv4Cidr, Runner, Stack, StackResources, StaticConfigV4};
use embassy_time::{Duration, Instant, Timer, with_timeout};
use ethernet::{FRAME, Wire};
use forcewire::asynch::{Transport, WithDeadlines, run};
use forcewire::{Driver, Error, Event, Header, Initialize, Potential, Storage};
use forcewire_boards::{Attempts, Options, Outcome, lennard_jones};
use forcewire_cortex_m::{entry, stack};
use forcewire_mps2::Map;
use forcewire_semihosted::end;
use semihosting::experimental::env;
use static_cell::{ConstStaticCell, StaticCell};

/// The numbers of atoms and of structures in a batch, and the bytes of each TCP ring. The receiving
/// one fits into the LAN9118's FIFO.
const ATOMS: usize = 4096;
const STRUCTURES: usize = 64;
const RING: usize = 7168;

type Arrays = Storage<f64, ATOMS, STRUCTURES>;

/// The number of evaluations whose reply the server received.
static SERVED: AtomicU32 = AtomicU32::new(0);

#[entry]
fn main() -> ! {
    static WIRE: StaticCell<Wire> = StaticCell::new();
    static RESOURCES: StaticCell<StackResources<1>> = StaticCell::new();
    forcewire_cortex_m::start();
    // Safety: this is that machine, and this is the only call.
    let machine = unwrap!(unsafe { forcewire_mps2::machine(&Map::AN385) });
    time::start(machine.alarm);
    // The address that QEMU's user network assigns to its first guest, and the gateway.
    let config = Config::ipv4_static(StaticConfigV4 {
        address: Ipv4Cidr::new(Ipv4Addr::new(10, 0, 2, 15), 24),
        gateway: Some(Ipv4Addr::new(10, 0, 2, 2)),
        dns_servers: Default::default(),
    });
    let wire = WIRE.init(Wire(machine.ethernet));
    let resources = RESOURCES.init(StackResources::new());
    // The seed must differ between starts, as a clock does: a local port must not be reused at
    // once.
    let seed = Instant::now().as_micros();
    let (stack, runner) = embassy_net::new(wire, config, resources, seed);
    executor::run(|spawner| {
        spawner.spawn(network(runner).unwrap());
        spawner.spawn(serve(stack).unwrap());
        spawner.spawn(heartbeat().unwrap());
        spawner.spawn(wake_qemu().unwrap());
    })
}

#[embassy_executor::task]
async fn network(mut runner: Runner<'static, &'static mut Wire>) -> ! {
    runner.run().await
}

#[embassy_executor::task]
async fn heartbeat() -> ! {
    loop {
        Timer::after_secs(1).await;
        info!("evaluations served: {}", SERVED.load(Relaxed));
    }
}

/// Wakes QEMU, whose user network notices only when something else wakes QEMU that the host has
/// accepted a connection, or that a full window has room again (7.2, `net/slirp.c`). The task runs
/// soon after a frame, then half as often each time. Hardware needs no such task.
#[embassy_executor::task]
async fn wake_qemu() -> ! {
    let (shortest, longest) = (Duration::from_millis(1), Duration::from_secs(1));
    let mut nap = shortest;
    loop {
        nap = match with_timeout(nap, FRAME.wait()).await {
            Ok(()) => shortest,
            Err(_) => longest.min(nap * 2),
        };
    }
}

#[embassy_executor::task]
async fn serve(stack: Stack<'static>) -> ! {
    static ARRAYS: ConstStaticCell<Arrays> = ConstStaticCell::new(Storage::new());
    static NEIGHBOURS: ConstStaticCell<[[u32; 2]; ATOMS]> = ConstStaticCell::new([[0; 2]; ATOMS]);
    static RINGS: ConstStaticCell<[[u8; RING]; 2]> = ConstStaticCell::new([[0; RING]; 2]);

    let Ok(arguments) = env::args::<512>() else {
        end(Outcome::BadOptions)
    };
    // The first word is the image's name.
    let options = match Options::parse((&arguments).skip(1).flatten()) {
        Ok(options) => options,
        Err(word) => {
            error!("options are {=str}, not {=str}", Options::USAGE, word);
            end(Outcome::BadOptions)
        }
    };
    let arrays = ARRAYS.take();
    let mut potential = lennard_jones(&options, NEIGHBOURS.take().as_flattened_mut());
    let mut driver = Driver::new().initialize(Initialize::Once);
    let [receive, transmit] = RINGS.take();
    let mut socket = TcpSocket::new(stack, receive, transmit);
    socket.set_nagle_enabled(false);
    // Detects a server whose host is unreachable. The host of a server that is computing answers
    // these probes.
    socket.set_keep_alive(Some(Duration::from_secs(10)));
    socket.set_timeout(Some(Duration::from_secs(30)));

    info!("connecting to {} port {}", options.server, options.port);
    let mut attempts = Attempts::new();
    let outcome = loop {
        if !connect(&mut socket, &options).await {
            warn!("no server at {} port {}", options.server, options.port);
            break Outcome::NoServer;
        }
        info!("connected to {} port {}", options.server, options.port);
        let (start, before, mut work) = (Instant::now(), driver.traffic(), Work::default());
        let mut link = WithDeadlines::new(&mut socket, options.deadlines, Clock);
        let result = compute(&mut link, &mut driver, arrays, &mut potential, &mut work).await;
        let traffic = driver.traffic();
        info!(
            "{} evaluations in {} us, {} us of it computing; {} bytes received, {} sent",
            work.evaluations,
            start.elapsed().as_micros(),
            work.computing.as_micros(),
            traffic.received - before.received,
            traffic.sent - before.sent,
        );
        match result {
            Ok(Event::Exit) => {
                info!("the server said EXIT");
                close(&mut socket).await;
                break Outcome::Exit;
            }
            Ok(_) => warn!("the server closed the connection"),
            Err(error) => {
                warn!("{}", Display2Format(&error));
                if let Error::Protocol(_) | Error::Potential(_) = error {
                    // i-PI hangs if a connection is closed with bytes unread.
                    let _ = run(&mut link, driver.drain()).await;
                    part(&mut socket).await;
                }
            }
        }
        abort(&mut socket).await;
        driver.reset();
        match attempts.ended(work.evaluations > 0) {
            Some(time) => pause(time).await,
            None => break Outcome::TooManyFailures,
        }
    };
    info!("{} bytes of stack used", stack::used());
    end(outcome)
}

/// Computes what the server asks for, until an event ends the conversation.
async fn compute<S: Transport>(
    link: &mut S,
    driver: &mut Driver,
    arrays: &mut Arrays,
    potential: &mut impl Potential<Real = f64>,
    work: &mut Work,
) -> Result<Event, Error<S::Error>> {
    loop {
        match run(link, arrays.receive(driver)).await? {
            Event::Positions {
                natoms, structures, ..
            } => {
                let start = Instant::now();
                arrays.evaluate(natoms, structures, potential)?;
                let time = start.elapsed();
                run(link, arrays.reply(driver)).await?;
                // A server that has closed without asking for the forces has not received them.
                if driver.status() != Header::HaveData {
                    work.evaluations += structures as u32;
                    work.computing += time;
                    SERVED.fetch_add(structures as u32, Relaxed);
                }
            }
            Event::Init { replica } => info!("replica {}", replica),
            end => return Ok(end),
        }
    }
}

/// The work done over one connection.
#[derive(Default)]
struct Work {
    evaluations: u32,
    computing: Duration,
}
