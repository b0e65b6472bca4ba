//! Servers on hosts whose names resolve to addresses that they don't have, or to the same address
//! twice.

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use forcewire::net::{Address, Pool, PoolEvent, PoolOptions, connect};

use crate::name_space::inside;

fn pool() -> Pool {
    Pool::new(PoolOptions::default()).unwrap()
}

/// Listens at this address, and is reached there.
fn is_reached(address: &str) -> Address {
    let mut pool = pool();
    let bound = pool.listen(&address.parse().unwrap()).unwrap();
    let Address::Tcp { host, port } = address.parse().unwrap() else {
        unreachable!()
    };
    let reached = match (bound.clone(), port) {
        (Address::Tcp { port, .. }, 0) => Address::tcp(host, port),
        _ => address.parse().unwrap(),
    };
    drop(connect(&reached).unwrap());
    bound
}

#[test]
fn a_name_with_an_address_that_this_host_has_not() {
    let setup = "sysctl -q -w net.ipv6.conf.all.disable_ipv6=1; \
        printf '::1 localhost\\n10.9.8.7 localhost\\n127.0.0.1 localhost\\n' > $HOSTS";
    if inside(
        "listening::a_name_with_an_address_that_this_host_has_not",
        setup,
    ) {
        is_reached("localhost:31415");
        is_reached("localhost:0");
    }
}

#[test]
fn a_name_that_is_twice_in_the_hosts_file() {
    let setup = "printf '127.0.0.1 localhost\\n::1 localhost\\n127.0.0.1 localhost\\n\
        ::ffff:127.0.0.1 localhost\\n' > $HOSTS";
    if inside("listening::a_name_that_is_twice_in_the_hosts_file", setup) {
        is_reached("localhost:31415");
    }
}

#[test]
fn a_name_that_is_every_address() {
    let setup = "printf ':: every\\n0.0.0.0 every\\n' > $HOSTS";
    if inside("listening::a_name_that_is_every_address", setup) {
        is_reached("every:31415");
    }
}

/// Otherwise drivers would reach the other server at one address and this one at the other.
#[test]
fn a_name_of_which_another_server_has_an_address() {
    let setup = "printf '127.0.0.1 localhost\\n::1 localhost\\n' > $HOSTS";
    let test = "listening::a_name_of_which_another_server_has_an_address";
    if inside(test, setup) {
        for host in ["127.0.0.1", "::1"] {
            let _theirs = TcpListener::bind((host, 31415)).unwrap();
            let error = pool()
                .listen(&Address::tcp("localhost", 31415))
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInUse, "{host}");
        }
    }
}

#[test]
fn a_link_local_address() {
    let setup = "ip -6 address add fe80::7/64 dev lo nodad";
    if inside("listening::a_link_local_address", setup) {
        let bound = is_reached("[fe80::7%lo]:31415");
        assert_eq!(bound.to_string(), "[fe80::7%1]:31415");
        // A driver accepts the address that a server prints.
        is_reached(&bound.to_string());
    }
}

/// `::` accepts IPv4 too, and such drivers have an IPv4-mapped address.
#[test]
fn a_mapped_driver_is_in_its_subnet() {
    if inside("listening::a_mapped_driver_is_in_its_subnet", "") {
        for (allowed, joins) in [
            ("127.0.0.0/8", true),
            ("::ffff:127.0.0.0/104", true),
            ("10.0.0.0/8", false),
        ] {
            let options = PoolOptions::default().allow(vec![allowed.parse().unwrap()]);
            let mut pool = Pool::new(options).unwrap();
            pool.listen(&Address::tcp("::", 31415)).unwrap();
            let _driver = TcpStream::connect("127.0.0.1:31415").unwrap();
            let event = pool.next(Some(Duration::from_millis(200))).unwrap();
            match event {
                None => assert!(joins, "{allowed}"),
                Some(PoolEvent::Left { peer, .. }) => {
                    assert!(!joins, "{allowed}");
                    assert!(peer.starts_with("127.0.0.1:"), "{peer}");
                }
                Some(event) => panic!("{event:?}"),
            }
        }
    }
}
