//! `forcewire relay` between a server that is written byte by byte and drivers of both kinds.
#![cfg(unix)]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Instant;

use common::*;
use rustix::process::{Resource, getrlimit, setrlimit};

const LJ: &str = "-m lj -o 6.43452,0.000379384,16";
const CUBE: [f64; 9] = [40.0, 0.0, 0.0, 0.0, 40.0, 0.0, 0.0, 0.0, 40.0];

/// Starts a relay for this server, which listens in a directory.
fn relay(place: &Place, server: &TcpListener, arguments: &str) -> Process {
    let port = server.local_addr().unwrap().port();
    let listen = place.path("ipi");
    let listen = listen.display();
    let flags = format!("relay --to 127.0.0.1:{port} --listen {listen} {arguments}");
    Process::start(&mut forcewire(&flags))
}

/// Argon atoms near their lattice points; each number gives another structure.
fn atoms(number: usize) -> Vec<[f64; 3]> {
    let shaken = |i: usize, axis| 0.4 * ((17 * number + 5 * i + axis) as f64).sin();
    let site = |i: usize| [i % 3, i / 3 % 3, i / 9].map(|x| 7.5 * x as f64);
    (0..27)
        .map(|i| [0, 1, 2].map(|axis| site(i)[axis] + shaken(i, axis)))
        .collect()
}

/// The reply to a batch without extras.
fn reply(server: &mut Server, structures: usize, natoms: usize) -> Vec<u8> {
    let mut bytes = vec![0; ForceReady::batch(structures, natoms).end()];
    server.0.read_exact(&mut bytes).unwrap();
    bytes
}

/// Requests of 16 structures, the last of which are equal, as when i-PI fills a batch.
fn requests() -> impl Iterator<Item = Vec<u8>> {
    (0..40).map(|request| {
        let last = if request % 4 == 3 { 9 } else { 15 };
        let number = |i: usize| 16 * request + i.min(last);
        let structures: Vec<_> = (0..16).map(|i| atoms(number(i))).collect();
        let mut cells = vec![CUBE; 16];
        cells
            .iter_mut()
            .for_each(|cell| cell[1] = 0.01 * request as f64);
        batch(&cells, &structures)
    })
}

/// The next driver's replies to all requests. `after` is called after each.
fn replies(listener: &TcpListener, mut after: impl FnMut(usize)) -> Vec<Vec<u8>> {
    let mut server = Server::accept(listener);
    server.says(STATUS).hears(NEEDINIT);
    server
        .says(&init(3, b"  batch_size:16"))
        .says(STATUS)
        .hears(READY);
    let replies = requests().enumerate().map(|(number, request)| {
        server.says(&[&request, GETFORCE].concat());
        let reply = reply(&mut server, 16, 27);
        server.says(STATUS).hears(READY);
        after(number);
        reply
    });
    let replies = replies.collect();
    server.says(EXIT).ended();
    replies
}

/// ASE sends any cell, but drivers like LAMMPS accept only upper triangular ones.
#[test]
fn a_cell_is_turned_for_drivers_and_forces_are_turned_back() {
    let cell = [22.0, 1.0, 2.0, 3.0, 21.0, -1.0, 2.0, -4.0, 23.0];
    let ask = |listener: &TcpListener| {
        let mut server = Server::accept(listener);
        server.says(STATUS).hears(READY);
        server.says(&posdata(cell, &atoms(1))).says(GETFORCE);
        let (energy, forces, virial) = server.hears_forces(27);
        server.says(EXIT).ended();
        [&[energy][..], &forces, &virial].concat()
    };
    let (listener, at) = listen();
    let lj = "-m lj -o 6.43452,0.000379384,10 --cutoff shifted";
    let alone = Process::start(&mut forcewire(&format!("driver {at} {lj}")));
    let expected = ask(&listener);
    assert_eq!(alone.end().status, Some(0));

    let place = Place::new();
    let relay = relay(&place, &listener, "--init never");
    let _driver = place.driver(lj);
    let numbers = ask(&listener);
    assert_eq!(relay.end().status, Some(0));
    let largest = expected.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
    assert!(expected[1..82].iter().any(|x| x.abs() > 1e-3 * largest));
    for (ours, expected) in numbers.iter().zip(&expected) {
        assert!(
            (ours - expected).abs() < 1e-12 * largest,
            "{ours} {expected}"
        );
    }
}

/// Drivers are killed and started all the time, but every bit is the same as with one driver.
#[test]
fn replies_are_those_of_one_quiet_driver_to_the_last_bit() {
    let (listener, at) = listen();
    let quiet = Process::start(&mut forcewire(&format!("driver {at} {LJ} --init once")));
    let expected = replies(&listener, |_| {});
    assert_eq!(quiet.end().status, Some(0));

    let place = Place::new();
    for flags in ["", "--batch 3", "--mode classic"] {
        let relay = relay(&place, &listener, &format!("--attempts 1000 {flags}"));
        let mut drivers: Vec<_> = (0..6).map(|_| place.driver(LJ)).collect();
        let replies = replies(&listener, |number| {
            // The oldest driver goes, while it computes or waits.
            drivers.remove(0);
            let init = ["--init never", "--init once"][number % 2];
            drivers.push(place.driver(&format!("{LJ} {init}")));
        });
        assert!(replies == expected, "{flags}");
        let ended = relay.end();
        assert_eq!(ended.status, Some(0), "{}", ended.err);
        assert!(ended.err.contains("640 evaluations for"), "{}", ended.err);
    }
}

/// A driver that is written byte by byte.
struct Driver(UnixStream);

impl Driver {
    fn connect(place: &Place) -> Self {
        let start = Instant::now();
        loop {
            match UnixStream::connect(place.path("ipi")) {
                Ok(socket) => {
                    socket.set_read_timeout(Some(PATIENCE)).unwrap();
                    return Self(socket);
                }
                Err(error) => assert!(start.elapsed() < PATIENCE, "{error}"),
            }
            std::thread::yield_now();
        }
    }

    fn says(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.write_all(bytes).unwrap();
        self
    }

    fn hears(&mut self, bytes: &[u8]) -> &mut Self {
        let mut heard = vec![0; bytes.len()];
        self.0.read_exact(&mut heard).unwrap();
        let [heard, bytes] = [&heard, bytes].map(|bytes| bytes.escape_ascii().to_string());
        assert_eq!(heard, bytes);
        self
    }

    /// Reads POSDATA of one atom at this place, and GETFORCE.
    fn hears_atom(&mut self, x: f64) -> &mut Self {
        let places = Posdata::of(1);
        let mut message = vec![0; places.end()];
        self.0.read_exact(&mut message).unwrap();
        assert_eq!(message[..HEADER], *POSDATA);
        assert_eq!(real_at(&message, places.positions(0)), x);
        self.hears(GETFORCE)
    }

    /// Replies for one atom.
    fn replies(&mut self, energy: f64, extras: &[u8]) -> &mut Self {
        self.says(&forceready(energy, extras))
    }

    fn ended(&mut self) {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty(), "{}", rest.escape_ascii());
    }
}

/// FORCEREADY with the forces 1, 2, 3, and so on.
fn forceready(energy: f64, extras: &[u8]) -> Vec<u8> {
    let virial = [1.0, 2.0, 3.0, 2.0, 4.0, 5.0, 3.0, 5.0, 6.0];
    layout::forceready(&[energy], &[1.0, 2.0, 3.0], &virial, &[extras])
}

fn atom(x: f64) -> Vec<u8> {
    posdata(CUBE, &[[x, 0.0, 0.0]])
}

#[test]
fn init_replicas_and_extras_are_passed_on() {
    let (place, (listener, _)) = (Place::new(), listen());
    let relay = relay(&place, &listener, "");
    let mut server = Server::accept(&listener);
    server.says(STATUS).hears(NEEDINIT);
    server.says(&init(-7, b" k : 0.1 ,  name : argon ,  batch_size:3"));
    server.says(STATUS).hears(READY);
    let structures = [1.0, 2.0, 2.0].map(|x| vec![[x, 0.0, 0.0]]);
    server.says(&batch(&[CUBE; 3], &structures)).says(GETFORCE);

    let mut driver = Driver::connect(&place);
    driver.hears(STATUS).says(NEEDINIT);
    driver.hears(&init(-7, b" k : 0.1 ,  name : argon "));
    driver.hears(STATUS).says(READY).hears_atom(1.0);
    driver.replies(-1.5, b"{\"dipole\": [0, 0, 1]}");
    driver.hears(STATUS).says(NEEDINIT);
    // The third structure equals the second and is not computed again.
    driver.hears(&init(-6, b" k : 0.1 ,  name : argon "));
    driver.hears(STATUS).says(READY).hears_atom(2.0);
    driver.replies(-2.5, b"{}");

    server.hears(FORCEREADY);
    assert_eq!(server.numbers(3), [-1.5, -2.5, -2.5]);
    assert_eq!(server.integer(), 1);
    assert_eq!(server.numbers(9), [1.0, 2.0, 3.0].repeat(3));
    server.numbers(27);
    for extras in [&b"{\"dipole\": [0, 0, 1]}"[..], b"{}", b"{}"] {
        assert_eq!(server.integer(), extras.len() as i32);
        server.hears(extras);
    }
    driver.hears(STATUS).says(READY);
    server.says(EXIT).ended();
    driver.hears(EXIT);
    driver.0.shutdown(Shutdown::Write).unwrap();
    driver.ended();
    assert_eq!(relay.end().status, Some(0));
}

#[test]
fn init_before_every_structure_names_its_replica() {
    let (place, (listener, _)) = (Place::new(), listen());
    let _relay = relay(&place, &listener, "--init every");
    let mut server = Server::accept(&listener);
    let mut driver = Driver::connect(&place);
    driver.hears(STATUS).says(NEEDINIT);
    for replica in [4, 2] {
        let text = format!(" bead : {replica} ");
        let init = init(replica, text.as_bytes());
        server.says(STATUS).hears(NEEDINIT).says(&init);
        server.says(&atom(1.0)).says(GETFORCE);
        driver
            .hears(&init)
            .hears(STATUS)
            .says(READY)
            .hears_atom(1.0);
        driver.replies(0.5, b"").hears(STATUS).says(NEEDINIT);
        assert_eq!(server.hears_forces(1).0, 0.5);
    }
}

#[test]
fn status_is_answered_while_drivers_compute() {
    let (place, (listener, _)) = (Place::new(), listen());
    let _relay = relay(&place, &listener, "--init never");
    let mut server = Server::accept(&listener);
    let mut driver = Driver::connect(&place);
    driver.hears(STATUS).says(READY);
    server.says(STATUS).hears(READY).says(&atom(1.0));
    driver.hears_atom(1.0);
    for _ in 0..3 {
        server.says(STATUS).hears(b"HAVEDATA    ");
    }
    driver.replies(0.5, b"");
    server.says(STATUS).hears(b"HAVEDATA    ").says(GETFORCE);
    assert_eq!(server.hears_forces(1).0, 0.5);
}

/// The relay reconnects to the server and keeps its drivers. It does not use results for the
/// previous server as answers.
#[test]
fn a_server_that_is_lost_is_connected_again() {
    let (place, (listener, _)) = (Place::new(), listen());
    let relay = relay(&place, &listener, "--init never");
    let mut driver = Driver::connect(&place);
    driver.hears(STATUS).says(READY);
    for cut in [0, 1, 2] {
        let mut server = Server::accept(&listener);
        match cut {
            // The server is lost inside a message, while the driver computes, and before the first
            // message.
            0 => {
                server.says(&atom(9.0)[..100]);
            }
            1 => {
                server.says(&atom(7.0)).says(GETFORCE);
                driver.hears_atom(7.0);
            }
            _ => {}
        }
    }
    let mut server = Server::accept(&listener);
    server
        .says(STATUS)
        .hears(READY)
        .says(&atom(1.0))
        .says(GETFORCE);
    driver
        .replies(-7.0, b"")
        .hears(STATUS)
        .says(READY)
        .hears_atom(1.0);
    driver.replies(0.5, b"");
    assert_eq!(server.hears_forces(1).0, 0.5);
    driver.hears(STATUS).says(READY);
    // ASE ends this way.
    drop(server);
    driver.hears(EXIT);
    drop(driver);
    let ended = relay.end();
    assert_eq!(ended.status, Some(0), "{}", ended.err);
    assert!(ended.err.contains("without EXIT, as ASE does"));
    assert_eq!(ended.err.matches("; connecting again").count(), 3);
}

#[test]
fn another_server_is_waited_for_if_that_is_wanted() {
    let (place, (listener, _)) = (Place::new(), listen());
    let _relay = relay(&place, &listener, "--init never --reconnect");
    // Each server has another number of atoms.
    for natoms in [1, 3, 2] {
        let driver = place.driver("-m gas");
        let mut server = Server::accept(&listener);
        server
            .says(&posdata(CUBE, &vec![[0.0; 3]; natoms]))
            .says(GETFORCE);
        server.hears_forces(natoms);
        server.says(EXIT).ended();
        assert_eq!(driver.end().status, Some(0));
    }
}

#[test]
fn a_signal_ends_both_sides() {
    for signal in ["-TERM", "-INT"] {
        let (place, (listener, _)) = (Place::new(), listen());
        let relay = relay(&place, &listener, "--init never");
        let mut server = Server::accept(&listener);
        let mut driver = Driver::connect(&place);
        driver.hears(STATUS).says(READY);
        server.says(&atom(1.0)).says(GETFORCE);
        driver.hears_atom(1.0);
        kill(&relay, signal);
        server.ended();
        driver.replies(0.5, b"");
        driver.hears(STATUS).says(READY).hears(EXIT);
        drop(driver);
        let ended = relay.end();
        assert_eq!(ended.status, Some(1), "{}", ended.err);
        assert!(ended.err.contains("interrupted"));
    }
}

/// The protocol has no message for this, so the connection ends. No bytes are left unread, which
/// would reset it.
#[test]
fn a_structure_that_nobody_can_compute_ends_it() {
    let (place, (listener, _)) = (Place::new(), listen());
    let relay = relay(&place, &listener, "--init never --attempts 1");
    let mut server = Server::accept(&listener);
    let mut driver = Driver::connect(&place);
    driver.hears(STATUS).says(READY);
    server.says(&atom(1.0)).says(GETFORCE);
    driver
        .hears_atom(1.0)
        .replies(0.5, b"")
        .hears(STATUS)
        .says(READY);
    server.hears_forces(1);
    server.says(&atom(2.0)).says(GETFORCE);
    driver.hears_atom(2.0);
    drop(driver);
    server.ended();
    let ended = relay.end();
    assert_eq!(ended.status, Some(1), "{}", ended.err);
    assert!(
        ended.err.contains("lost over one structure"),
        "{}",
        ended.err
    );
}

#[test]
fn one_silent_driver_stops_nothing() {
    for flags in ["--timeout 0.3", "--stragglers 0.1"] {
        let (place, (listener, _)) = (Place::new(), listen());
        let _relay = relay(&place, &listener, &format!("--init never {flags}"));
        let mut server = Server::accept(&listener);
        let mut silent = Driver::connect(&place);
        silent.hears(STATUS).says(READY);
        server.says(&atom(1.0)).says(GETFORCE);
        silent.hears_atom(1.0);
        let mut good = Driver::connect(&place);
        good.hears(STATUS).says(READY);
        if flags.starts_with("--stragglers") {
            // Only a driver that has answered before receives a straggler's structure, so each
            // driver computes one first.
            silent.replies(0.5, b"");
            server.hears_forces(1);
            server.says(&atom(2.0)).says(GETFORCE);
            good.hears_atom(2.0)
                .replies(0.5, b"")
                .hears(STATUS)
                .says(READY);
            server.hears_forces(1);
            silent.hears(STATUS).says(READY);
            server.says(&atom(1.0)).says(GETFORCE);
            let mut computing = silent;
            let mut idle = good;
            if !has_something(&computing) {
                (computing, idle) = (idle, computing);
            }
            computing.hears_atom(1.0);
            idle.hears_atom(1.0).replies(2.5, b"");
            assert_eq!(server.hears_forces(1).0, 2.5);
            continue;
        }
        good.hears_atom(1.0).replies(2.5, b"");
        assert_eq!(server.hears_forces(1).0, 2.5);
    }
}

/// Whether a driver receives something within a short time.
fn has_something(driver: &Driver) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let moment = Timespec {
        tv_sec: 0,
        tv_nsec: 50_000_000,
    };
    poll(&mut [PollFd::new(&driver.0, PollFlags::IN)], Some(&moment)).unwrap() > 0
}

/// i-PI uses `select`, which watches only descriptors below 1024. The default limit of a shell is
/// the same.
#[test]
fn there_may_be_more_than_1024_drivers() {
    const DRIVERS: usize = 1100;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|most| most < 2 * DRIVERS as u64) {
        eprintln!("a process may have {limit:?} descriptors here: nothing is tested");
        return;
    }
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let (place, (listener, _)) = (Place::new(), listen());
    let port = listener.local_addr().unwrap().port();
    let program = env!("CARGO_BIN_EXE_forcewire");
    let listen = place.path("ipi");
    let line = format!(
        "ulimit -Sn 1024; exec {program} relay --to 127.0.0.1:{port} --listen {} 2>/dev/null",
        listen.display()
    );
    let relay = Process::start(Command::new("sh").args(["-c", &line]));
    let mut server = Server::accept(&listener);
    let mut drivers: Vec<_> = (0..DRIVERS).map(|_| Driver::connect(&place)).collect();
    for driver in &mut drivers {
        driver.hears(STATUS).says(READY);
    }
    let text = format!("batch_size:{DRIVERS}");
    server
        .says(STATUS)
        .hears(NEEDINIT)
        .says(&init(0, text.as_bytes()));
    let structures: Vec<_> = (0..DRIVERS).map(|i| vec![[i as f64, 0.0, 0.0]]).collect();
    let cells = vec![CUBE; DRIVERS];
    server.says(&batch(&cells, &structures)).says(GETFORCE);
    // All structures are sent at once, because no driver has answered before.
    for driver in &mut drivers {
        let places = Posdata::of(1);
        let mut message = vec![0; places.end() + HEADER];
        driver.0.read_exact(&mut message).unwrap();
        let x = real_at(&message, places.positions(0));
        driver.replies(x, b"");
    }
    server.hears(FORCEREADY);
    let energies = server.numbers(DRIVERS);
    assert!((0..DRIVERS).all(|i| energies[i] == i as f64));
    kill(&relay, "-TERM");
    drop(drivers);
    let rest = server.0.read_to_end(&mut Vec::new());
    assert!(rest.is_ok() || rest.unwrap_err().kind() == ErrorKind::ConnectionReset);
    relay.end();
}
