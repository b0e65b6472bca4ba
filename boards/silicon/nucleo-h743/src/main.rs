//! forcewire with embassy on ST's NUCLEO-H743ZI: a Cortex-M7 that computes `f64` in hardware.
//!
//! **Not tested on hardware: it has only been linked.** `mps2-an385-embassy` is the same program
//! with an emulated controller, and is tested.

#![no_std]
#![no_main]

use core::net::SocketAddrV4;

use defmt::unwrap;
use defmt_rtt as _;
use embassy_executor::Spawner;
use embassy_net::{Config, Runner, StackResources};
use embassy_stm32::eth::{Ethernet, GenericPhy, PacketQueue, Sma};
use embassy_stm32::peripherals::{ETH, ETH_SMA, RNG};
use embassy_stm32::rng::Rng;
use embassy_stm32::{bind_interrupts, eth, rcc, rng, uid};
use forcewire::potential::LennardJones;
use panic_probe as _;
use static_cell::{ConstStaticCell, StaticCell};

/// i-PI's host and port, from the build's environment.
const SERVER: &str = match option_env!("SERVER") {
    Some(server) => server,
    None => "192.168.1.10:31415",
};

const ATOMS: usize = 1024;

bind_interrupts!(struct Interrupts {
    ETH => eth::InterruptHandler;
    RNG => rng::InterruptHandler<RNG>;
});

type Device = Ethernet<'static, ETH, GenericPhy<Sma<'static, ETH_SMA>>>;

#[embassy_executor::task]
async fn network(mut runner: Runner<'static, Device>) -> ! {
    runner.run().await
}

#[embassy_executor::main]
async fn main(spawner: Spawner) {
    static PACKETS: StaticCell<PacketQueue<4, 4>> = StaticCell::new();
    static RESOURCES: StaticCell<StackResources<2>> = StaticCell::new();
    static RINGS: ConstStaticCell<[[u8; 8192]; 2]> = ConstStaticCell::new([[0; 8192]; 2]);

    let server: SocketAddrV4 = unwrap!(SERVER.parse().ok(), "SERVER is ADDRESS:PORT");
    let p = embassy_stm32::init(clocks());
    let mut seed = [0; 8];
    Rng::new(p.RNG, Interrupts).fill_bytes(&mut seed);
    let device = Ethernet::new(
        PACKETS.init(PacketQueue::new()),
        p.ETH,
        Interrupts,
        p.PA1,  // reference clock
        p.PA7,  // carrier sense
        p.PC4,  // receive 0
        p.PC5,  // receive 1
        p.PG13, // transmit 0
        p.PB13, // transmit 1
        p.PG11, // transmit enable
        address(),
        p.ETH_SMA,
        p.PA2, // management data
        p.PC1, // management clock
    );
    let config = Config::dhcpv4(Default::default());
    let resources = RESOURCES.init(StackResources::new());
    let (stack, runner) = embassy_net::new(device, config, resources, u64::from_le_bytes(seed));
    spawner.spawn(unwrap!(network(runner).ok()));
    stack.wait_config_up().await;

    // Argon's parameters, in bohr and hartree.
    let mut potential = LennardJones::<f64>::new(6.43452, 0.000379384, 16.0863);
    let rings = RINGS.take().each_mut().map(|ring| &mut ring[..]);
    forcewire_embassy::serve::<ATOMS>(stack, server, rings, &mut potential).await
}

/// 400 MHz from the internal oscillator; the bus of the Ethernet controller runs at 200 MHz.
fn clocks() -> embassy_stm32::Config {
    let mut config = embassy_stm32::Config::default();
    config.rcc.hsi48 = Some(Default::default()); // for random numbers
    config.rcc.pll1 = Some(rcc::Pll {
        source: rcc::PllSource::HSI,
        prediv: rcc::PllPreDiv::DIV4,
        mul: rcc::PllMul::MUL50,
        fracn: None,
        divp: Some(rcc::PllDiv::DIV2),
        divq: None,
        divr: None,
    });
    config.rcc.sys = rcc::Sysclk::PLL1_P;
    config.rcc.ahb_pre = rcc::AHBPrescaler::DIV2;
    config.rcc.apb1_pre = rcc::APBPrescaler::DIV2;
    config.rcc.apb2_pre = rcc::APBPrescaler::DIV2;
    config.rcc.apb3_pre = rcc::APBPrescaler::DIV2;
    config.rcc.apb4_pre = rcc::APBPrescaler::DIV2;
    config.rcc.voltage_scale = rcc::VoltageScale::Scale1;
    config
}

/// A locally administered address, derived from the chip's serial number.
fn address() -> [u8; 6] {
    let [a, b, c, d, e, ..] = uid::uid();
    [2, a, b, c, d, e]
}
