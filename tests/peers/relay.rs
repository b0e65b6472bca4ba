//! `forcewire relay` between i-PI and drivers that come and go.

use std::collections::VecDeque;

use crate::simulation::Messages::{Batches, Classic, Consolidated};
use crate::simulation::Simulation;
use crate::simulation::System::Crystal;
use crate::simulation::Transport::{Tcp, Unix};

const DRIVERS: usize = 32;
const STEPS: usize = 400;

/// The run is the same bit for bit, and so is every number: the energies depend on the positions of
/// all beads.
#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn drivers_are_killed_and_the_trajectory_is_that_of_one_quiet_driver() {
    for (messages, transport) in [(Batches(16), Tcp), (Batches(16), Unix), (Consolidated, Tcp)] {
        let simulation = Simulation::new(Crystal, 16, STEPS)
            .speaking(messages)
            .over(transport);
        let mut server = simulation.start();
        let mut quiet = server.driver(&[]);
        server.process().success();
        quiet.success();
        let expected = server.trajectory();
        assert_eq!(expected.len(), STEPS + 1);

        let mut server = simulation.start();
        let mut relay = server.relay(&["--attempts", "1000"]);
        let driver = |server: &crate::simulation::Server, number: usize| {
            let init = ["never", "once", "every"][number % 3];
            server.driver_of_relay(&["--init", init])
        };
        let mut drivers: VecDeque<_> = (0..DRIVERS).map(|i| driver(&server, i)).collect();
        for step in (10..STEPS - 10).step_by(10) {
            server.reaches(step);
            for number in 0..4 {
                // The driver may be idle, computing, or in the middle of a message.
                drivers.pop_front().unwrap().kill();
                drivers.push_back(driver(&server, number));
            }
        }
        server.process().success();
        let said = relay.success();
        assert!(said.contains("sent EXIT"), "{said}");
        assert!(server.trajectory() == expected, "{said}");
        let lost = said.matches(" left: ").count();
        assert!(lost > STEPS / 10, "{lost} drivers were lost");
    }
}

/// i-PI that is asked to stop sends EXIT, and the drivers receive it.
#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn exit_of_ipi_reaches_the_drivers() {
    for messages in [Classic, Consolidated, Batches(4)] {
        let mut server = Simulation::new(Crystal, 8, 1_000_000)
            .speaking(messages)
            .start();
        let mut relay = server.relay(&[]);
        let mut drivers = [0, 1, 2].map(|_| server.driver_of_relay(&[]));
        server.reaches(20);
        server.process().signal("TERM");
        relay.success();
        for driver in &mut drivers {
            driver.success();
        }
    }
}
