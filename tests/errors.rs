//! The text of each error.

use std::fmt::{Debug, Display};
use std::io;
use std::time::Duration;

use forcewire::net::{Address, Subnet};
use forcewire::smoltcp::SocketError;
use forcewire::{
    Awaited, CoalesceError, Deadline, DeadlineTimer, Deadlines, Driver, Error, Exchange, Extras,
    Header, PotentialError, ProtocolError, Quantity, Server, Step,
};

/// The time-out of a server that has waited for an answer to STATUS since time 0.
fn late() -> forcewire::TimedOut {
    let mut server = Server::new();
    let mut asking = server.status();
    if let Ok(Step::Write(slice)) = asking.step() {
        let n = slice.len();
        asking.advance(n);
    }
    let deadlines = Deadlines::NONE.message(Duration::from_secs(1));
    let mut watch = DeadlineTimer::new(deadlines);
    watch.note(Duration::ZERO, &asking.waits_for());
    let late = watch.check(Duration::from_secs(2)).unwrap_err();
    assert_eq!(
        (late.deadline, late.awaited),
        (Deadline::Message, Awaited::Status)
    );
    late
}

/// `fn main() -> Result<(), E>` prints `Debug`, and so do `unwrap` and `expect`.
#[test]
fn debug_says_what_display_says() {
    fn check<E: Debug + Display>(error: E, text: &str) {
        assert_eq!(error.to_string(), text);
        assert_eq!(format!("{error:?}"), text);
        assert_eq!(format!("{error:#?}"), text);
    }
    let protocol = ProtocolError::NotFinite(Quantity::Forces);
    let text = "infinite numbers or NaN in the forces: nothing was computed from or answered with them, look at the \
                step before";
    check(protocol, text);
    check(Error::<io::Error>::Protocol(protocol), text);
    let potential = PotentialError::Failed("too hot");
    check(potential, "too hot");
    check(Error::<SocketError>::Potential(potential), "too hot");
    check(
        Error::Transport(io::Error::from_raw_os_error(104)),
        "Connection reset by peer (os error 104)",
    );
    check(
        CoalesceError::Stream(SocketError::ConnectionLost),
        "the TCP connection was reset or is not open: connect again",
    );
    let text = "waited 1s for the driver's answer to STATUS: is it still running? The connection is still good";
    check(late(), text);
    check(Error::<io::Error>::TimedOut(late()), text);
    let full = Extras::<2>::new().real("a", 1.0).unwrap_err();
    check(full, "the buffer for extras is full: give it more bytes");
    check(
        "here".parse::<Address>().unwrap_err(),
        "an address is HOST:PORT, [IPV6]:PORT or unix:NAME",
    );
    check(
        "here".parse::<Subnet>().unwrap_err(),
        "a subnet is an address, alone or with the length of its prefix: 10.0.2.0/24",
    );
    let mut driver = Driver::new();
    let refused = driver.await_getforce().step().unwrap_err();
    check(refused, "no structure waits for a reply: receive one first");
}

/// Each message says which part is unfinished and how the caller can continue.
#[test]
fn an_exchange_that_is_refused_says_what_to_do() {
    for (error, words) in [
        (
            ProtocolError::Unfinished(Header::PosData),
            ["POSDATA is unfinished", "run the exchange that began it"],
        ),
        (
            ProtocolError::ReplyDue,
            ["wait for a reply", "reply, or close"],
        ),
        (
            ProtocolError::AnswerDue,
            [
                "forces of other positions",
                "take them (get_forces), drop them (discard)",
            ],
        ),
    ] {
        let text = error.to_string();
        for word in words {
            assert!(text.contains(word), "{word:?} is not in {text:?}");
        }
        assert!(text.contains("close the connection"), "{text:?}");
    }
}

#[cfg(unix)]
#[test]
fn debug_of_a_pool_says_what_display_says() {
    use forcewire::Cell;
    use forcewire::net::{Job, Pool, PoolOptions};

    let mut pool = Pool::new(PoolOptions::default()).unwrap();
    let flat = Job::new(Cell::orthorhombic([1.0, 1.0, 0.0]), vec![[0.0; 3]]);
    let text = "the vectors of the cell lie in one plane: give a box to a system that has none";
    let refused = pool.submit(flat.clone()).unwrap_err();
    assert_eq!([refused.to_string(), format!("{refused:?}")], [text, text]);
    let error = pool.evaluate([flat], None, drop).unwrap_err();
    assert_eq!([error.to_string(), format!("{error:?}")], [text, text]);
    let job = Job::new(Cell::orthorhombic([1.0; 3]), vec![[0.0; 3]]);
    let none = Duration::from_millis(1);
    let error = pool.evaluate([job], Some(none), drop).unwrap_err();
    let text = "waited 1ms for 1 evaluations and there is no driver: start one";
    assert_eq!([error.to_string(), format!("{error:?}")], [text, text]);
}

/// The compiler's message about a stream that is not a transport names the versions of the
/// manifest.
#[test]
fn hints_name_the_versions_of_the_manifest() {
    let manifest = include_str!("../Cargo.toml");
    let version = |name: &str| {
        let line = manifest
            .lines()
            .find(|line| line.split(" = ").next() == Some(name));
        let version = line.and_then(|line| line.split('"').nth(1));
        version.unwrap_or_else(|| panic!("no {name} in Cargo.toml"))
    };
    let adapters = format!(
        "`embedded-io-adapters` {}\"",
        version("embedded-io-adapters")
    );
    for (source, name) in [
        (include_str!("../src/blocking.rs"), "embedded-io"),
        (include_str!("../src/asynch.rs"), "embedded-io-async"),
    ] {
        let label = format!("`Read + Write` of {name} {}\"", version(name));
        let note = format!("another version of {name} than {} ", version(name));
        for hint in [&label, &note, &adapters] {
            assert!(source.contains(hint), "{name}: {hint}");
        }
    }
}
