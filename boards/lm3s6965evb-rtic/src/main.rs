//! forcewire with RTIC on TI's LM3S6965, a Cortex-M3 with 64 KiB of memory, as QEMU emulates it.
//!
//! `serve` connects, computes and connects again. The interrupts of the network and of the timer
//! are tasks of a higher priority: while `serve` computes they move frames and answer STATUS.

#![no_std]
#![no_main]

mod network;

use defmt::info;
use forcewire::smoltcp::SocketError;
use forcewire::{Driver, Error, Event, Potential, Storage};
use forcewire_boards::Work;
use network::{Network, run, time};
use rtic::Mutex;

/// Atoms, and bytes of each ring of TCP.
const ATOMS: usize = 256;
const RING: usize = 4096;

type Arrays = Storage<f64, ATOMS>;

#[rtic::app(device = lm3s6965, dispatchers = [UART0])]
mod app {
    use forcewire::{Driver, Initialize, Storage};
    use forcewire_boards::{Attempts, By, Outcome, Work, lennard_jones};
    use forcewire_cortex_m::end;
    use forcewire_semihosted::{arguments, options};
    use smoltcp::iface::SocketStorage;

    use crate::network::{Network, close, connect, part, pause, run, time};
    use crate::{ATOMS, Arrays, RING, compute};

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
        let network = Network::new(context.local.sockets, context.local.rings);
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

        let words = arguments();
        let options = options(&words);
        let mut potential = lennard_jones(&options, neighbours.as_flattened_mut());
        let mut attempts = Attempts::new();
        let outcome = loop {
            if !connect(network, &options).await {
                break Outcome::NoServer;
            }
            let mut work = driver.lock(|driver| Work::begin(time(), driver));
            let result = compute(network, driver, arrays, &mut potential, &mut work).await;
            let ended = driver.lock(|driver| work.ended(time(), driver, &result));
            match ended.by {
                By::Exit => close(network).await,
                By::Driver => {
                    let _ = run(network, driver, |driver, network| {
                        network.run(driver.drain())
                    })
                    .await;
                    part(network).await;
                }
                By::Loss => {}
            }
            network.lock(Network::abort);
            driver.lock(Driver::reset);
            match attempts.next(ended) {
                Ok(time) => pause(network, time.into()).await,
                Err(outcome) => break outcome,
            }
        };
        end(outcome)
    }
}

/// Computes what the server asks for, until the event that ends it.
async fn compute(
    network: &mut impl Mutex<T = Network>,
    driver: &mut impl Mutex<T = Driver>,
    arrays: &mut Arrays,
    potential: &mut impl Potential<Real = f64>,
    work: &mut Work,
) -> Result<Event, Error<SocketError>> {
    loop {
        match run(network, driver, |driver, network| {
            network.run(arrays.receive(driver))
        })
        .await?
        {
            Event::Positions {
                natoms, structures, ..
            } => {
                let start = time();
                // Neither resource is locked: here the interrupts have their turn.
                arrays.evaluate(natoms, structures, potential)?;
                let took = time() - start;
                run(network, driver, |driver, network| {
                    network.run(arrays.reply(driver))
                })
                .await?;
                driver.lock(|driver| work.replied(driver, structures, took));
            }
            Event::Init { replica } => info!("replica {}", replica),
            end => return Ok(end),
        }
    }
}
