//! forcewire with embassy on Espressif's ESP32-C3, over Wi-Fi.
//!
//! **Not tested on hardware: it links, and that is all that is known.** `mps2-an385-embassy` is the
//! same over an emulated Ethernet controller, and tested.

#![no_std]
#![no_main]

use core::net::SocketAddrV4;

use defmt::{info, unwrap, warn};
use embassy_executor::Spawner;
use embassy_net::{Config, Runner, StackResources};
use embassy_time::Timer;
use esp_backtrace as _;
use esp_hal::clock::CpuClock;
use esp_hal::ram;
use esp_hal::rng::Rng;
use esp_hal::timer::timg::TimerGroup;
use esp_println as _;
use esp_radio::wifi::sta::StationConfig;
use esp_radio::wifi::{
    self, AuthenticationMethodConfig, ControllerConfig, Interface, WifiController,
};
use forcewire::potential::LennardJones;
use static_cell::{ConstStaticCell, StaticCell};

/// i-PI's host and port, and the Wi-Fi's name and password, from the environment of the build.
const SERVER: &str = match option_env!("SERVER") {
    Some(server) => server,
    None => "192.168.1.10:31415",
};
const SSID: Option<&str> = option_env!("SSID");
const PASSWORD: Option<&str> = option_env!("PASSWORD");

const ATOMS: usize = 256;

esp_bootloader_esp_idf::esp_app_desc!();

#[embassy_executor::task]
async fn network(mut runner: Runner<'static, Interface>) -> ! {
    runner.run().await
}

/// Joins the Wi-Fi, and joins it again.
#[embassy_executor::task]
async fn radio(mut controller: WifiController<'static>) -> ! {
    loop {
        match controller.connect_async().await {
            Ok(_) => {
                info!("joined the Wi-Fi");
                let _ = controller.wait_for_disconnect_async().await;
                warn!("the Wi-Fi is gone");
            }
            Err(error) => warn!("the Wi-Fi: {}", error),
        }
        Timer::after_secs(2).await;
    }
}

#[esp_rtos::main]
async fn main(spawner: Spawner) {
    static RESOURCES: StaticCell<StackResources<2>> = StaticCell::new();
    static RINGS: ConstStaticCell<[[u8; 8192]; 2]> = ConstStaticCell::new([[0; 8192]; 2]);

    let server: SocketAddrV4 = unwrap!(SERVER.parse().ok(), "SERVER is ADDRESS:PORT");
    let p = esp_hal::init(esp_hal::Config::default().with_cpu_clock(CpuClock::max()));
    // The radio's: it takes up to 57 KiB as a station. The first is the bootloader's memory.
    esp_alloc::heap_allocator!(#[ram(reclaimed)] size: 64 * 1024);
    esp_alloc::heap_allocator!(size: 36 * 1024);
    esp_rtos::start(TimerGroup::new(p.TIMG0).timer0, p.FROM_CPU_INTR0);

    let config = ControllerConfig::default().with_initial_config(wifi::Config::Station(station()));
    let controller = unwrap!(WifiController::new(p.WIFI, config));
    spawner.spawn(unwrap!(radio(controller).ok()));

    let seed = Rng::new(); // random as long as the radio is on
    let seed = u64::from(seed.random()) << 32 | u64::from(seed.random());
    let config = Config::dhcpv4(Default::default());
    let resources = RESOURCES.init(StackResources::new());
    let (stack, runner) = embassy_net::new(Interface::station(), config, resources, seed);
    spawner.spawn(unwrap!(network(runner).ok()));
    stack.wait_config_up().await;

    // Argon, in bohr and hartree.
    let mut potential = LennardJones::<f64>::new(6.43452, 0.000379384, 16.0863);
    let rings = RINGS.take().each_mut().map(|ring| &mut ring[..]);
    forcewire_embassy::serve::<ATOMS>(stack, server, rings, &mut potential).await
}

/// The network to join; without a password it is an open one.
fn station() -> StationConfig {
    let ssid = unwrap!(SSID, "build it with SSID and PASSWORD");
    let authentication = match PASSWORD {
        Some(password) => AuthenticationMethodConfig::Wpa2Personal(unwrap!(password.try_into())),
        None => AuthenticationMethodConfig::Open,
    };
    StationConfig::default()
        .with_ssid(unwrap!(ssid.try_into()))
        .with_authentication(authentication)
}
