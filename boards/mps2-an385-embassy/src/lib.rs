//! The MPS2 with a Cortex-M3 (AN385) for programs with embassy: time, interrupts, executor and
//! network.

#![no_std]
#![warn(missing_docs)]

mod ethernet;
mod executor;
mod time;
mod vectors;

use core::net::Ipv4Addr;

use defmt::unwrap;
use embassy_executor::Spawner;
use embassy_net::{Config, Ipv4Cidr, Runner, Stack, StackResources, StaticConfigV4};
use embassy_time::{Duration, Instant, with_timeout};
use ethernet::{FRAME, Wire};
use forcewire_mps2::Map;
use static_cell::StaticCell;

/// Starts the machine, and runs the tasks that `spawn` starts. Never returns.
pub fn run(spawn: impl FnOnce(Spawner, Stack<'static>)) -> ! {
    static WIRE: StaticCell<Wire> = StaticCell::new();
    static RESOURCES: StaticCell<StackResources<1>> = StaticCell::new();
    forcewire_cortex_m::start();
    // Safety: this is that machine, and it is taken once.
    let machine = unwrap!(unsafe { forcewire_mps2::machine(&Map::AN385) });
    time::start(machine.alarm);
    // The address that QEMU's user network gives its first guest, and its gateway.
    let config = Config::ipv4_static(StaticConfigV4 {
        address: Ipv4Cidr::new(Ipv4Addr::new(10, 0, 2, 15), 24),
        gateway: Some(Ipv4Addr::new(10, 0, 2, 2)),
        dns_servers: Default::default(),
    });
    let wire = WIRE.init(Wire(machine.ethernet));
    let resources = RESOURCES.init(StackResources::new());
    // Differs from start to start as much as a clock does: local ports must not repeat at once.
    let seed = Instant::now().as_micros();
    let (stack, runner) = embassy_net::new(wire, config, resources, seed);
    executor::run(|spawner| {
        spawner.spawn(network(runner).unwrap());
        spawner.spawn(wake_qemu().unwrap());
        spawn(spawner, stack);
    })
}

#[embassy_executor::task]
async fn network(mut runner: Runner<'static, &'static mut Wire>) -> ! {
    runner.run().await
}

/// Wakes QEMU, whose user network notices that the host has accepted a connection, or that there is
/// room in a full window, when something else wakes it (7.2, `net/slirp.c`). Soon after a frame,
/// then each time half as often. Hardware needs no such task.
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
