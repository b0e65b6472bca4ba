//! i-PI as the server: an unmodified `i-pi input.xml`.
//!
//! Its trajectories must be those that i-PI makes with forces from elsewhere: its built-in Lennard-Jones
//! (`fflj`), or its own Python driver.

use std::thread::sleep;
use std::time::Duration;

use crate::simulation::Messages::{Batches, Classic, Consolidated};
use crate::simulation::System::{Barostat, Cluster, Crystal, Trap};
use crate::simulation::Transport::{Tcp, Unix};
use crate::simulation::{Messages, Simulation, Transport, evaluations};

#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn classic_over_tcp() {
    one_bead_and_eight(Classic, Tcp);
}

#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn classic_over_a_unix_socket() {
    one_bead_and_eight(Classic, Unix);
}

#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn consolidated_over_tcp() {
    one_bead_and_eight(Consolidated, Tcp);
}

#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn consolidated_over_a_unix_socket() {
    one_bead_and_eight(Consolidated, Unix);
}

#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn batches_over_tcp() {
    one_bead_and_eight(Batches(4), Tcp);
}

#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn batches_over_a_unix_socket() {
    one_bead_and_eight(Batches(4), Unix);
}

/// In batches, i-PI sends one bead four times.
fn one_bead_and_eight(messages: Messages, transport: Transport) {
    for beads in [1, 8] {
        Simulation::new(Cluster, beads, 50)
            .speaking(messages)
            .over(transport)
            .agrees(&[]);
    }
}

#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn batches_that_come_out_uneven() {
    Simulation::new(Cluster, 8, 20)
        .speaking(Batches(3))
        .agrees(&[]);
}

#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn triclinic_crystal_with_its_tail() {
    for messages in [Classic, Consolidated, Batches(4)] {
        Simulation::new(Crystal, 8, 20)
            .speaking(messages)
            .agrees(&[]);
    }
}

#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn crystal_whose_cell_follows_the_virial() {
    for (messages, beads) in [(Classic, 1), (Consolidated, 1), (Batches(4), 8)] {
        Simulation::new(Barostat, beads, 20)
            .speaking(messages)
            .agrees(&[]);
    }
}

#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn springs_of_the_python_driver() {
    for beads in [1, 8] {
        Simulation::new(Trap(5), beads, 50).agrees(&[]);
    }
}

#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn messages_larger_than_every_buffer() {
    for (messages, transport) in [(Classic, Tcp), (Consolidated, Unix), (Batches(2), Tcp)] {
        Simulation::new(Trap(5000), 2, 4)
            .speaking(messages)
            .over(transport)
            .agrees(&[]);
    }
}

#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn without_init() {
    for messages in [Classic, Consolidated] {
        let said = Simulation::new(Cluster, 8, 20)
            .speaking(messages)
            .agrees(&["--init", "never"]);
        assert!(!said.contains("replica"), "{said}");
    }
}

#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn with_init_before_every_structure() {
    for (messages, exchanges) in [
        (Classic, 21 * 8),
        (Consolidated, 21 * 8),
        (Batches(4), 21 * 2),
    ] {
        let said = Simulation::new(Cluster, 8, 20)
            .speaking(messages)
            .agrees(&["--init", "every"]);
        let count = said.matches("driver: replica ").count();
        assert!(count >= exchanges, "{count} INITs with {messages:?}");
    }
}

#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn batches_that_were_not_announced_are_refused() {
    for beads in [1, 8] {
        let server = Simulation::new(Cluster, beads, 5)
            .speaking(Batches(4))
            .start();
        let (status, said) = server.driver(&["--init", "never"]).end();
        assert_eq!(status, Some(1), "{said}");
        assert!(said.contains("sends batches of structures"), "{said}");
    }
}

#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn two_drivers_share_the_beads() {
    for messages in [Classic, Consolidated, Batches(4)] {
        let simulation = Simulation::new(Trap(5), 8, 400).speaking(messages);
        let mut server = simulation.start();
        let mut first = server.driver(&["-v"]);
        server.reaches(20);
        // The second one joins late. i-PI has to wait for it, or it might be done before.
        server.process().signal("STOP");
        let mut second = server.driver(&["-v"]);
        second.says("connected");
        server.process().signal("CONT");
        server.ends_like(&simulation.reference());
        let counts = [&mut first, &mut second].map(|driver| evaluations(&driver.success()));
        assert!(counts[0] > 20 * 8 && counts[1] > 8, "{counts:?}");
        simulation.needed(counts[0] + counts[1]);
    }
}

#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn driver_waits_for_a_server_that_is_not_there_yet() {
    for transport in [Tcp, Unix] {
        let simulation = Simulation::new(Trap(5), 1, 50).over(transport);
        let mut server = simulation.prepare();
        let mut driver = server.driver(&[]);
        driver.says("trying again");
        server.launch();
        server.ends_like(&simulation.reference());
        driver.success();
    }
}

#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn driver_takes_over_from_one_that_was_killed() {
    for (messages, transport) in [(Classic, Tcp), (Consolidated, Unix), (Batches(4), Tcp)] {
        let simulation = Simulation::new(Trap(5), 8, 400)
            .speaking(messages)
            .over(transport);
        let mut server = simulation.start();
        let mut good = server.driver(&[]);
        server.reaches(20);
        let mut slow = server.driver(&["-v", "-m", "gas", "-o", "100"]);
        slow.says("replica");
        // Killed while it computes: i-PI's polling thread does not survive a driver that goes before it has
        // read everything (`recvall` catches no ConnectionResetError).
        sleep(Duration::from_millis(300));
        slow.kill();
        server.ends_like(&simulation.reference());
        good.success();
    }
}

#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn driver_that_ipi_dropped_ends_and_another_goes_on() {
    // Not classic: there one of i-PI's threads waits for the slow driver for ever, whatever `timeout` says.
    for transport in [Tcp, Unix] {
        let simulation = Simulation::new(Trap(5), 8, 50)
            .over(transport)
            .dropping_after(1.0);
        let mut server = simulation.start();
        let mut slow = server.driver(&["-m", "gas", "-o", "3"]);
        let mut good = server.driver(&[]);
        server.ends_like(&simulation.reference());
        good.success();
        // i-PI says EXIT to those that it drops. Whether the slow one hears it, or is refused its reply
        // before, depends on the transport.
        let (status, said) = slow.end();
        let refused = status == Some(1) && said.contains("lost:");
        assert!(status == Some(0) || refused, "{status:?} {said}");
    }
}

#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn driver_ends_well_when_ipi_is_asked_to_stop() {
    for messages in [Classic, Consolidated, Batches(4)] {
        let mut server = Simulation::new(Trap(5), 8, 1_000_000)
            .speaking(messages)
            .start();
        let mut driver = server.driver(&[]);
        server.reaches(20);
        server.process().signal("TERM");
        driver.success();
    }
}

#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn driver_says_that_ipi_is_gone() {
    for transport in [Tcp, Unix] {
        for messages in [Classic, Consolidated, Batches(4)] {
            let mut server = Simulation::new(Trap(5), 8, 1_000_000)
                .speaking(messages)
                .over(transport)
                .start();
            let mut driver = server.driver(&[]);
            server.reaches(20);
            server.process().kill();
            let (status, said) = driver.end();
            assert_eq!(status, Some(1), "{said}");
            // Between two messages, inside one, or with a reply that nobody had read.
            let between = said.contains("closed the connection without EXIT");
            let inside = said.contains("closed the connection inside");
            assert!(between || inside || said.contains("lost:"), "{said}");
        }
    }
}
