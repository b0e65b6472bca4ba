//! forcewire with embassy on an RP2350 with WIZnet's W5500, as on the board W5500-EVB-Pico2.
//!
//! **Not tested on hardware: it links, and that is all that is known.** `mps2-an385-embassy` is the
//! same over an emulated controller, and tested.

#![no_std]
#![no_main]

use core::net::SocketAddrV4;

use defmt::unwrap;
use defmt_rtt as _;
use embassy_executor::Spawner;
use embassy_net::{Config, StackResources};
use embassy_net_wiznet::chip::W5500;
use embassy_net_wiznet::{Device, Runner, State};
use embassy_rp::gpio::{Input, Level, Output, Pull};
use embassy_rp::peripherals::{DMA_CH0, DMA_CH1, SPI0, TRNG};
use embassy_rp::spi::{Async, Spi};
use embassy_rp::trng::{self, Trng};
use embassy_rp::{bind_interrupts, dma, otp, spi};
use embassy_time::Delay;
use embedded_hal_bus::spi::ExclusiveDevice;
use forcewire::potential::LennardJones;
use panic_probe as _;
use static_cell::{ConstStaticCell, StaticCell};

/// i-PI's host and port, from the environment of the build.
const SERVER: &str = match option_env!("SERVER") {
    Some(server) => server,
    None => "192.168.1.10:31415",
};

const ATOMS: usize = 512;

bind_interrupts!(struct Interrupts {
    DMA_IRQ_0 => dma::InterruptHandler<DMA_CH0>, dma::InterruptHandler<DMA_CH1>;
    TRNG_IRQ => trng::InterruptHandler<TRNG>;
});

type Bus = ExclusiveDevice<Spi<'static, SPI0, Async>, Output<'static>, Delay>;

#[embassy_executor::task]
async fn ethernet(runner: Runner<'static, W5500, Bus, Input<'static>, Output<'static>>) -> ! {
    runner.run().await
}

#[embassy_executor::task]
async fn network(mut runner: embassy_net::Runner<'static, Device<'static>>) -> ! {
    runner.run().await
}

#[embassy_executor::main]
async fn main(spawner: Spawner) {
    static FRAMES: StaticCell<State<8, 8>> = StaticCell::new();
    static RESOURCES: StaticCell<StackResources<2>> = StaticCell::new();
    static RINGS: ConstStaticCell<[[u8; 8192]; 2]> = ConstStaticCell::new([[0; 8192]; 2]);

    let server: SocketAddrV4 = unwrap!(SERVER.parse().ok(), "SERVER is ADDRESS:PORT");
    let p = embassy_rp::init(Default::default());
    let seed = Trng::new(p.TRNG, Interrupts, trng::Config::default()).blocking_next_u64();
    let mut config = spi::Config::default();
    config.frequency = 50_000_000; // the W5500 takes 80 MHz; this is what the clock of 150 MHz gives
    let (clock, out, input) = (p.PIN_18, p.PIN_19, p.PIN_16);
    let bus = Spi::new(
        p.SPI0, clock, out, input, p.DMA_CH0, p.DMA_CH1, Interrupts, config,
    );
    let select = Output::new(p.PIN_17, Level::High);
    let bus = unwrap!(ExclusiveDevice::new(bus, select, Delay).ok());
    let reset = Output::new(p.PIN_20, Level::High);
    let interrupt = Input::new(p.PIN_21, Pull::Up);
    let frames = FRAMES.init(State::new());
    let w5500 = embassy_net_wiznet::new(address(), frames, bus, interrupt, reset).await;
    let (device, runner) = unwrap!(w5500.ok(), "no W5500 on SPI 0");
    spawner.spawn(unwrap!(ethernet(runner).ok()));

    let config = Config::dhcpv4(Default::default());
    let resources = RESOURCES.init(StackResources::new());
    let (stack, runner) = embassy_net::new(device, config, resources, seed);
    spawner.spawn(unwrap!(network(runner).ok()));
    stack.wait_config_up().await;

    // Argon, in bohr and hartree. In f32, because the core has no double precision.
    let mut potential = LennardJones::<f32>::new(6.43452, 0.000379384, 16.0863);
    let rings = RINGS.take().each_mut().map(|ring| &mut ring[..]);
    forcewire_embassy::serve::<ATOMS>(stack, server, rings, &mut potential).await
}

/// A locally administered address, from the chip's number.
fn address() -> [u8; 6] {
    let [.., a, b, c, d, e] = unwrap!(otp::get_chipid().ok()).to_be_bytes();
    [2, a, b, c, d, e]
}
