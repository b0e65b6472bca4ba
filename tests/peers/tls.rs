//! TLS 1.3 with a pre-shared key: `examples/tls.rs` and stunnel in front of an unmodified i-PI.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::process::{Process, debian};
use crate::simulation::System::Trap;
use crate::simulation::{SPRING, Simulation, free_port};
use forcewire_support::programs;

const KEY: &str = "5f0c1b7e2a9d4c3381f6e0a7b5d29c48";
const SIMULATION: Simulation = Simulation::new(Trap(40), 1, 20);

/// Starts stunnel in front of a port, and returns its own port. It knows one driver, `water`, and
/// its key.
fn stunnel(directory: &Path, port: u16) -> (Process, u16) {
    let accept = free_port();
    let keys = directory.join("keys");
    fs::write(&keys, format!("water:{KEY}\n")).unwrap();
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o600)).unwrap();
    let configuration = directory.join("stunnel.conf");
    let text = format!(
        "foreground = yes\npid =\n[i-pi]\naccept = 127.0.0.1:{accept}\nconnect = 127.0.0.1:{port}\n\
         ciphers = PSK\nsslVersionMin = TLSv1.3\nPSKsecrets = {}\n",
        keys.display()
    );
    fs::write(&configuration, text).unwrap();
    let mut stunnel = Process::start(debian("stunnel4").arg(configuration), "stunnel", directory);
    stunnel.says("Configuration successful");
    (stunnel, accept)
}

/// The driver with its own key.
fn driver(directory: &Path, port: u16, identity: &str, key: &str) -> Process {
    let path = directory.join("key");
    fs::write(&path, key).unwrap();
    let mut command = programs::tls();
    command
        .args(["-a", "127.0.0.1", "-p", &port.to_string()])
        .args(["--identity", identity, "--key"])
        .arg(path)
        .args(["-o", &SPRING.to_string(), "--patience", "2"]);
    Process::start(&mut command, "tls", directory)
}

#[test]
#[ignore = "needs i-PI 3.3.1 and stunnel: tests/peers/README.md"]
fn a_simulation_behind_tls_is_that_without_to_the_last_bit() {
    let mut plain = SIMULATION.start();
    let mut driver_of_ours = plain.driver(&[]);
    plain.process().success();
    driver_of_ours.success();

    let mut server = SIMULATION.start();
    let (_stunnel, port) = stunnel(server.directory(), server.port());
    let mut driver = driver(server.directory(), port, "water", KEY);
    server.process().success();
    assert_eq!(driver.success(), "tls: 21 evaluations\n");
    assert_eq!(server.trajectory(), plain.trajectory());
    assert_eq!(server.trajectory().len(), 21);
}

/// i-PI receives nothing from drivers without the key, and continues with one that has it.
#[test]
#[ignore = "needs i-PI 3.3.1 and stunnel: tests/peers/README.md"]
fn who_has_not_the_key_is_kept_out() {
    let mut server = SIMULATION.start();
    let (_stunnel, port) = stunnel(server.directory(), server.port());
    let wrong = KEY.replace('5', "6");
    for (identity, key) in [("water", wrong.as_str()), ("argon", KEY)] {
        let (status, said) = driver(server.directory(), port, identity, key).end();
        assert_eq!(status, Some(1), "{said}");
        let words = format!("tls: no TLS with 127.0.0.1:{port}: ");
        assert!(
            said.starts_with(&words) && said.contains(&format!("does it know {identity:?}")),
            "{said}"
        );
    }
    let mut driver = driver(server.directory(), port, "water", KEY);
    let said = server.process().success();
    driver.success();
    assert_eq!(
        said.matches("Client asked for connection").count(),
        1,
        "{said}"
    );
}

/// i-PI waits for a driver's TLS handshake without a limit, as it does for messages; the driver has
/// a limit.
#[test]
#[ignore = "needs i-PI 3.3.1: tests/peers/README.md"]
fn a_server_without_tls_is_told_apart() {
    let server = SIMULATION.start();
    let (status, said) = driver(server.directory(), server.port(), "water", KEY).end();
    assert_eq!(status, Some(1), "{said}");
    assert!(said.starts_with("tls: no TLS with 127.0.0.1:"), "{said}");
}

#[test]
#[ignore = "with the other peers' tests"]
fn a_handshake_that_stalls_has_an_end() {
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut driver = driver(directory.path(), port, "water", KEY);
    let _stalls = listener.accept().unwrap();
    let (status, said) = driver.end();
    assert_eq!(status, Some(1), "{said}");
    assert!(said.starts_with("tls: no TLS with 127.0.0.1:"), "{said}");
}
