//! forcewire with embassy on Arm's MPS2 with a Cortex-M3 (AN385), as QEMU emulates it.
//!
//! `serve` connects, computes and connects again; `heartbeat` logs what was served, and the board's
//! tasks move frames. An evaluation is not interrupted: the others wait for as long as it takes.

#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use defmt::info;
use embassy_net::Stack;
use embassy_time::{Instant, Timer};
use forcewire::asynch::{Timer as _, Transport, WithDeadlines, run};
use forcewire::{Driver, Error, Event, Initialize, Potential, Storage};
use forcewire_boards::{Attempts, By, Outcome, Work, lennard_jones};
use forcewire_cortex_m::{end, entry};
use forcewire_embassy::{Clock, abort, close, connect, leave, pause, socket};
use forcewire_semihosted::{arguments, options};
use static_cell::ConstStaticCell;

/// Atoms, structures of a batch, and bytes of each ring of TCP; the receiving one fits the
/// LAN9118's FIFO.
const ATOMS: usize = 4096;
const STRUCTURES: usize = 64;
const RING: usize = 7168;

type Arrays = Storage<f64, ATOMS, STRUCTURES>;

static ARRAYS: ConstStaticCell<Arrays> = ConstStaticCell::new(Storage::new());
static NEIGHBOURS: ConstStaticCell<[[u32; 2]; ATOMS]> = ConstStaticCell::new([[0; 2]; ATOMS]);
static RINGS: ConstStaticCell<[[u8; RING]; 2]> = ConstStaticCell::new([[0; RING]; 2]);

/// Evaluations whose reply the server took.
static SERVED: AtomicU32 = AtomicU32::new(0);

#[entry]
fn main() -> ! {
    mps2_an385_embassy::run(|spawner, stack| {
        spawner.spawn(serve(stack).unwrap());
        spawner.spawn(heartbeat().unwrap());
    })
}

#[embassy_executor::task]
async fn heartbeat() -> ! {
    loop {
        Timer::after_secs(1).await;
        info!("evaluations served: {}", SERVED.load(Relaxed));
    }
}

#[embassy_executor::task]
async fn serve(stack: Stack<'static>) -> ! {
    let (words, arrays) = (arguments(), ARRAYS.take());
    let options = options(&words);
    let mut potential = lennard_jones(&options, NEIGHBOURS.take().as_flattened_mut());
    let mut driver = Driver::new().initialize(Initialize::Once);
    let mut socket = socket(stack, RINGS.take());
    let mut attempts = Attempts::new();
    let outcome = loop {
        if !connect(&mut socket, options.address(), options.patience.into()).await {
            break Outcome::NoServer;
        }
        let mut work = Work::begin(Clock.now(), &driver);
        let mut link = WithDeadlines::new(&mut socket, options.deadlines, Clock);
        let result = compute(&mut link, &mut driver, arrays, &mut potential, &mut work).await;
        let ended = work.ended(Clock.now(), &driver, &result);
        match ended.by {
            By::Exit => close(&mut socket).await,
            By::Driver => {
                let _ = run(&mut link, driver.drain()).await;
                leave(&mut socket).await;
            }
            By::Loss => abort(&mut socket).await,
        }
        driver.reset();
        match attempts.next(ended) {
            Ok(time) => pause(time).await,
            Err(outcome) => break outcome,
        }
    };
    end(outcome)
}

/// Computes what the server asks for, until the event that ends it.
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
                if work.replied(driver, structures, time.into()) {
                    SERVED.fetch_add(structures as u32, Relaxed);
                }
            }
            Event::Init { replica } => info!("replica {}", replica),
            end => return Ok(end),
        }
    }
}
