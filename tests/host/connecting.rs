//! Drivers that search for their server.

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use forcewire::net::{Address, ConnectOptions, connect_with};
use forcewire::{Deadlines, Driver, Error, Event, blocking};

use crate::name_space::{add_host, inside};

/// Much longer than a test takes.
const LONG: ConnectOptions = ConnectOptions::new().connect(Duration::from_secs(20));
const SHORT: ConnectOptions = ConnectOptions::new().connect(Duration::from_millis(300));

/// The driver finds a server that starts after two failed attempts.
fn is_found_when_it_starts(address: &Address, listener: impl Into<SocketAddr>) {
    let at = listener.into();
    let (mut failures, mut server) = (0, None);
    let connected = connect_with(address, LONG, |_, _| {
        failures += 1;
        if failures == 2 {
            server = Some(TcpListener::bind(at).unwrap());
        }
    });
    connected.unwrap();
    assert!(failures >= 2, "{failures}");
}

/// Docker's hosts file with a kernel whose IPv6 is switched off: `::1` never becomes available.
#[test]
fn waits_for_its_server_when_only_ipv4_is_there() {
    let setup = "sysctl -q -w net.ipv6.conf.all.disable_ipv6=1; \
        printf '::1 localhost\\n127.0.0.1 localhost\\n' > $HOSTS";
    if inside(
        "connecting::waits_for_its_server_when_only_ipv4_is_there",
        setup,
    ) {
        is_found_when_it_starts(&Address::tcp("localhost", 31415), ([127, 0, 0, 1], 31415));
    }
}

/// An address that this host gets later, for instance from a DHCP server.
#[test]
fn waits_for_an_address_that_cannot_be_had_yet() {
    let setup = "sysctl -q -w net.ipv6.conf.all.disable_ipv6=1";
    if inside(
        "connecting::waits_for_an_address_that_cannot_be_had_yet",
        setup,
    ) {
        let mut failures = 0;
        let error = connect_with(&Address::tcp("::1", 31415), SHORT, |error, _| {
            assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
            failures += 1;
        });
        assert!(failures > 1, "{failures}: {error:?}");
    }
}

/// There is a network, but its name server can't be reached: `EAI_AGAIN`.
#[test]
fn waits_for_a_name_server() {
    let setup = "echo 'nameserver 127.0.0.1' > /mnt/resolv; \
        mount --bind /mnt/resolv /etc/resolv.conf";
    if inside("connecting::waits_for_a_name_server", setup) {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::tcp("compute.test", server.local_addr().unwrap().port());
        let mut failures = 0;
        connect_with(&address, LONG, |_, _| {
            failures += 1;
            if failures == 2 {
                add_host("127.0.0.1 compute.test");
            }
        })
        .unwrap();
        assert!(failures >= 2, "{failures}");
    }
}

/// The system picks the port of a connecting socket from this range. Here the range has one port,
/// which is also the server's.
#[test]
fn never_connects_to_itself() {
    let setup = "echo 31415 31415 > /proc/sys/net/ipv4/ip_local_port_range";
    if inside("connecting::never_connects_to_itself", setup) {
        for host in ["127.0.0.1", "::1"] {
            let error = connect_with(&Address::tcp(host, 31415), SHORT, |_, _| {}).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{host}");
        }
    }
}

#[test]
fn a_link_local_address_keeps_its_scope() {
    let setup = "ip -6 address add fe80::7/64 dev lo nodad";
    if inside("connecting::a_link_local_address_keeps_its_scope", setup) {
        let address: Address = "[fe80::7%lo]:31415".parse().unwrap();
        thread::scope(|scope| {
            let server = scope.spawn(|| forcewire::net::accept(&address, LONG).unwrap());
            let driver = connect_with(&address, LONG, |_, _| {}).unwrap();
            assert_eq!(driver.peer(), &address);
            // The interface is given by its number.
            let peer = server.join().unwrap().peer().to_string();
            assert!(peer.starts_with("[fe80::7%1]:"), "{peer}");
        });
    }
}

/// A server that does not accept, and drivers that fill its queue.
#[test]
fn a_full_queue_is_waited_for_as_long_as_was_said() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ipi_full");
    let server = UnixListener::bind(&path).unwrap();
    let address = Address::Unix(path);
    let mut queue = Vec::new();
    loop {
        match mio_connect(&address) {
            Ok(socket) => queue.push(socket),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    let start = Instant::now();
    let error = connect_with(&address, SHORT, |_, _| {}).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert!(error.to_string().contains("its queue is full"), "{error}");
    let late = start.elapsed() - SHORT.connect;
    assert!(late < Duration::from_millis(500), "{late:?} too late");

    // There is room once the server accepts again.
    thread::scope(|scope| {
        let waiting = scope.spawn(|| connect_with(&address, LONG, |_, _| {}));
        thread::sleep(Duration::from_millis(50));
        server.accept().unwrap();
        waiting.join().unwrap().unwrap();
    });
}

/// Connects without waiting.
fn mio_connect(address: &Address) -> std::io::Result<rustix::fd::OwnedFd> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    let Address::Unix(path) = address else {
        unreachable!()
    };
    let (family, flags) = (AddressFamily::UNIX, SocketFlags::NONBLOCK);
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// The connection is reset as soon as it was made, as by a server with enough drivers. The first
/// message reports it.
#[test]
fn a_server_that_drops_its_driver_at_once_is_there() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::from(server.local_addr().unwrap());
    const TIMES: usize = 1000;
    thread::spawn(move || {
        for _ in 0..TIMES {
            let (socket, _) = server.accept().unwrap();
            let now = Some(Duration::ZERO);
            socket2::SockRef::from(&socket).set_linger(now).unwrap();
        }
    });
    for _ in 0..TIMES {
        let once = LONG.connect(Duration::ZERO);
        let mut stream = connect_with(&address, once, |_, _| {}).unwrap();
        match blocking::run(&mut stream, Driver::new().receive(&mut [[0.0; 3]; 1])) {
            Err(Error::Transport(error)) if error.kind() == ErrorKind::ConnectionReset => {}
            // The reset arrived before the socket was read.
            Ok(Event::Closed) => {}
            result => panic!("{result:?}"),
        }
    }
}

#[test]
fn a_name_that_does_not_exist_is_refused_at_once() {
    let address = Address::tcp("no such host", 31415);
    let error = connect_with(&address, LONG, |error, _| panic!("{error}")).unwrap_err();
    assert!(error.to_string().contains("no connection to"), "{error}");
}

#[test]
fn a_symbolic_link_is_not_followed() {
    let directory = tempfile::tempdir().unwrap();
    let (path, link) = (
        directory.path().join("server"),
        directory.path().join("link"),
    );
    let _server = UnixListener::bind(&path).unwrap();
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let error = connect_with(&Address::Unix(link), LONG, |error, _| panic!("{error}")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(fs::symlink_metadata(&path).is_ok());
}

/// A server whose host is switched off sends nothing more, but never closes the connection. Only
/// its silence shows this, and a server that computes is silent too.
#[test]
fn a_server_whose_host_is_gone_is_given_up() {
    if inside("connecting::a_server_whose_host_is_gone_is_given_up", "") {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::from(server.local_addr().unwrap());
        let options = LONG
            .deadlines(Deadlines::NONE)
            .keep_alive(Some(Duration::from_secs(2)));
        let mut stream = connect_with(&address, options, |_, _| {}).unwrap();
        let _silent = server.accept().unwrap();
        let mut receive = || blocking::run(&mut stream, Driver::new().receive(&mut [[0.0; 3]; 1]));
        let cut = Command::new("ip")
            .args(["link", "set", "lo", "down"])
            .status();
        assert!(cut.unwrap().success());
        match receive().unwrap_err() {
            Error::Transport(error) => assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}"),
            error => panic!("{error}"),
        }
    }
}
