//! forcewire with RTIC on TI's LM3S6965, a Cortex-M3 with 64 KiB of memory, emulated by QEMU.
//!
//! `serve` connects, computes and connects again. The interrupts of network and timer are tasks
//! with a higher priority, which move frames and answer STATUS while `serve` computes.

#![no_std]
#![no_main]

mod network;

use defmt::info;
use forcewire::smoltcp::SocketError;
use forcewire::{Driver, Error, Event, Header, Potential, Storage};
use network::{Network, now, until};
use rtic::Mutex;
use smoltcp::time::Duration;

/// The number of atoms, and the bytes of each TCP ring.
const ATOMS: usize = 256;
const RING: usize = 4096;

type Arrays = Storage<f64, ATOMS>;

#[rtic::app(device = lm3s6965, dispatchers = [UART0])]
mod app {
    use defmt::{error, info, warn};
    use forcewire::{Driver, Error, Event, Initialize, Storage};
    use forcewire_boards::{Attempts, Options, Outcome, lennard_jones};
    use forcewire_cortex_m::stack;
    use forcewire_semihosted::end;
    use semihosting::experimental::env;
    use smoltcp::iface::SocketStorage;

    use crate::network::{Network, close, connect, now, part, pause, until};
    use crate::{ATOMS, Arrays, RING, Work, compute};

    #[shared]
    struct Shared {
        network: Network,
        driver: Driver,
    }

    #[local]
    struct Local {}

    #[init(local = [
        rings: [[u8; RING]; 2] = [[0; RING]; 2],
        sockets: [SocketStorage<'static>; 1] = [SocketStorage::EMPTY],
    ])]
    fn init(mut context: init::Context) -> (Shared, Local) {
        forcewire_cortex_m::start_with(&mut context.core);
        // Safety: this is that machine, and this is the only call.
        let Some(machine) = (unsafe { lm3s6965evb::machine() }) else {
            end(Outcome::NoServer)
        };
        let network = Network::new(
            machine.ethernet,
            machine.alarm,
            context.local.sockets,
            context.local.rings,
        );
        let driver = Driver::new().initialize(Initialize::Once);
        let _ = serve::spawn(); // fails only while it runs
        (Shared { network, driver }, Local {})
    }

    #[idle]
    fn idle(_: idle::Context) -> ! {
        loop {
            cortex_m::asm::wfi();
        }
    }

    #[task(binds = ETHERNET, priority = 2, shared = [network, driver])]
    fn frame(context: frame::Context) {
        (context.shared.network, context.shared.driver).lock(Network::turn);
    }

    #[task(binds = TIMER_0A, priority = 2, shared = [network, driver])]
    fn alarm(context: alarm::Context) {
        (context.shared.network, context.shared.driver).lock(Network::turn);
    }

    #[task(priority = 1, shared = [network, driver], local = [
        arrays: Arrays = Storage::new(),
        neighbours: [[u32; 2]; ATOMS] = [[0; 2]; ATOMS],
    ])]
    async fn serve(mut context: serve::Context) {
        let (arrays, neighbours) = (context.local.arrays, context.local.neighbours);
        let network = &mut context.shared.network;
        let driver = &mut context.shared.driver;

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
        let mut potential = lennard_jones(&options, neighbours.as_flattened_mut());
        info!("connecting to {} port {}", options.server, options.port);
        let mut attempts = Attempts::new();
        let outcome = loop {
            if !connect(network, &options).await {
                warn!("no server at {} port {}", options.server, options.port);
                break Outcome::NoServer;
            }
            info!("connected to {} port {}", options.server, options.port);
            let (start, before) = (now(), driver.lock(|driver| driver.traffic()));
            let mut work = Work::default();
            let result = compute(network, driver, arrays, &mut potential, &mut work).await;
            let after = driver.lock(|driver| driver.traffic());
            info!(
                "{} evaluations in {} us, {} us of it computing; {} bytes received, {} sent",
                work.evaluations,
                (now() - start).total_micros(),
                work.computing.total_micros(),
                after.received - before.received,
                after.sent - before.sent,
            );
            match result {
                Ok(Event::Exit) => {
                    info!("the server said EXIT");
                    close(network).await;
                    break Outcome::Exit;
                }
                Ok(_) => warn!("the server closed the connection"),
                Err(error) => {
                    warn!("{}", error);
                    if let Error::Protocol(_) | Error::Potential(_) = error {
                        // i-PI hangs if a connection is closed with bytes unread.
                        let drained = until(network, |network| {
                            driver.lock(|driver| network.run(driver.drain()))
                        });
                        let _ = drained.await;
                        part(network).await;
                    }
                }
            }
            network.lock(Network::abort);
            driver.lock(Driver::reset);
            match attempts.ended(work.evaluations > 0) {
                Some(time) => pause(network, time.into()).await,
                None => break Outcome::TooManyFailures,
            }
        };
        info!("{} bytes of stack used", stack::used());
        end(outcome)
    }
}

/// Computes what the server asks for, until an event ends the conversation.
async fn compute(
    network: &mut impl Mutex<T = Network>,
    driver: &mut impl Mutex<T = Driver>,
    arrays: &mut Arrays,
    potential: &mut impl Potential<Real = f64>,
    work: &mut Work,
) -> Result<Event, Error<SocketError>> {
    loop {
        let received = until(network, |network| {
            driver.lock(|driver| network.run(arrays.receive(driver)))
        });
        match received.await? {
            Event::Positions {
                natoms, structures, ..
            } => {
                let start = now();
                // Neither resource is locked here, so the interrupts can run.
                arrays.evaluate(natoms, structures, potential)?;
                let time = now() - start;
                let replied = until(network, |network| {
                    driver.lock(|driver| network.run(arrays.reply(driver)))
                });
                replied.await?;
                // A server that has closed without asking for the forces has not received them.
                if driver.lock(|driver| driver.status()) != Header::HaveData {
                    work.evaluations += structures;
                    work.computing += time;
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
    evaluations: usize,
    computing: Duration,
}
