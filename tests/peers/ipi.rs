//! i-PI as the server: an unmodified `i-pi input.xml`.
//!
//! Trajectories must equal those that i-PI makes with forces from another source: its built-in
//! Lennard-Jones (`fflj`), or its own Python driver.

use std::net::TcpStream;
use std::thread::sleep;
use std::time::Duration;

use embedded_io_adapters::std::FromStd;
use forcewire::{Cell, Evaluation, Potential, PotentialError, serve};

use crate::simulation::Messages::{Batches, Classic, Consolidated};
use crate::simulation::System::{Barostat, Cluster, Crystal, Trap};
use crate::simulation::Transport::{Tcp, Unix};
use crate::simulation::{Messages, Server, Simulation, Transport, evaluations};

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

/// In batches, i-PI sends a single bead four times.
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
        assert!(!said.contains("INIT of replica"), "{said}");
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
        let count = said.matches("forcewire: INIT of replica ").count();
        assert!(count >= exchanges, "{count} INITs with {messages:?}");
    }
}

#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn batches_that_were_not_announced_are_refused() {
    for beads in [1, 8] {
        let simulation = Simulation::new(Trap(5000), beads, 2).speaking(Batches(4));
        let mut server = simulation.start();
        let (status, said) = server.driver(&["--init", "never"]).end();
        assert_eq!(status, Some(1), "{said}");
        assert!(said.contains("the server sends batches"), "{said}");
        // i-PI continues with a driver that asks for INIT.
        let mut good = server.driver(&[]);
        server.ends_like(&simulation.reference());
        good.success();
    }
}

/// i-PI does not survive a reset, which a connection closed with GETFORCE unread causes. The
/// messages are larger than what a driver's stream reads ahead.
#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn driver_takes_over_from_one_whose_potential_failed() {
    for messages in [Classic, Consolidated, Batches(2)] {
        for transport in [Tcp, Unix] {
            let simulation = Simulation::new(Trap(5000), 2, 4)
                .speaking(messages)
                .over(transport);
            let mut server = simulation.start();
            // A potential for one atom.
            let (status, said) = server.driver(&["-m", "morse", "-o", "1,1,1"]).end();
            assert_eq!(status, Some(1), "{said}");
            assert!(said.contains("for 1 atom(s) and was given 5000"), "{said}");
            let mut good = server.driver(&[]);
            server.ends_like(&simulation.reference());
            good.success();
        }
    }
}

/// The same test for `serve` over a plain socket, which reads nothing ahead.
#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn driver_takes_over_from_firmware_that_gave_up() {
    use forcewire::potential::{IdealGas, Morse};
    use forcewire::{Error, ProtocolError, Quantity};

    fn one<const N: usize>(
        server: &Server,
        mut potential: impl Potential,
    ) -> Error<embedded_io::ErrorKind> {
        let socket = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
        // An i-PI that hangs accepts connections and sends nothing.
        socket
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        serve::<N>(&mut FromStd::new(socket), &mut potential).unwrap_err()
    }
    for (messages, atoms) in [(Classic, 5), (Consolidated, 5), (Batches(4), 5)] {
        let simulation = Simulation::new(Trap(atoms), 8, 20).speaking(messages);
        let mut server = simulation.start();
        let errors = [
            // The potential fails, there is no room, and forces are NaN.
            one::<64>(&server, Morse::<f64>::default()),
            one::<4>(&server, IdealGas::<f64>::new()),
            one::<64>(&server, Nan),
        ];
        let mut expected = [
            PotentialError::WrongAtomCount {
                expected: 1,
                actual: atoms,
            }
            .into(),
            ProtocolError::TooManyAtoms {
                announced: atoms,
                capacity: 4,
            }
            .into(),
            ProtocolError::NotFinite(Quantity::Forces).into(),
        ];
        if let Batches(_) = messages {
            // The driver does not ask for INIT.
            expected = [ProtocolError::UnannouncedBatch.into(); 3];
        }
        assert_eq!(errors, expected, "{messages:?}");
        let mut good = server.driver(&[]);
        server.ends_like(&simulation.reference());
        good.success();
    }
}

/// A potential whose forces are NaN.
struct Nan;

impl Potential for Nan {
    type Real = f64;

    fn evaluate(
        &mut self,
        _: &Cell,
        _: &[[f64; 3]],
        forces: &mut [[f64; 3]],
    ) -> Result<Evaluation, PotentialError> {
        forces.fill([f64::NAN; 3]);
        Ok(Evaluation::default())
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
        // The second driver joins late. i-PI has to be stopped meanwhile, or it might finish
        // before.
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
        slow.says("INIT of replica");
        // Killed while it computes: i-PI's polling thread does not survive a driver that goes
        // before it has read everything (`recvall` catches no ConnectionResetError).
        sleep(Duration::from_millis(300));
        slow.kill();
        server.ends_like(&simulation.reference());
        good.success();
    }
}

#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn driver_that_ipi_dropped_ends_and_another_goes_on() {
    // Not in classic conversations: there one of i-PI's threads waits for the slow driver forever,
    // whatever `timeout` is.
    for transport in [Tcp, Unix] {
        let simulation = Simulation::new(Trap(5), 8, 50)
            .over(transport)
            .dropping_after(1.0);
        let mut server = simulation.start();
        let mut slow = server.driver(&["-m", "gas", "-o", "3"]);
        let mut good = server.driver(&[]);
        server.ends_like(&simulation.reference());
        good.success();
        // i-PI sends EXIT to drivers that it drops. The transport decides whether the slow one
        // receives it, or fails to send its reply first.
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
            // The server was killed between two messages, inside one, or with a reply unread.
            let between = said.contains("closed the connection without EXIT");
            assert_eq!(status, Some(i32::from(!between)), "{said}");
            let inside = said.contains("closed the connection inside");
            assert!(between || inside || said.contains("lost:"), "{said}");
        }
    }
}
