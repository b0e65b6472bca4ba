//! `--meet FILE`: drivers that find their server through a file, and servers that come and go.
#![cfg(unix)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use common::*;
use serde_json::Value;

const LJ: &str = "-m lj -o 6.43452,0.000379384,16 --cutoff shifted";
const ARGON: &str = "4\nLattice=\"11 0 0 1 12 0 0 2 13\" Properties=species:S:1:pos:R:3 pbc=\"T T T\"\n\
                     Ar 0 0 0\nAr 3.6 0.1 0\nAr 0 3.7 0.3\nAr 3.5 3.6 3.4\n";
const CUBE: [f64; 9] = [40.0, 0.0, 0.0, 0.0, 40.0, 0.0, 0.0, 0.0, 40.0];

/// Starts a command that finds its server through the file.
fn start(place: &Place, arguments: &str) -> Process {
    let mut command = forcewire(arguments);
    Process::start(command.current_dir(place.0.path()))
}

/// The content of the file, once it has changed.
fn meets(place: &Place, before: &str) -> String {
    let start = Instant::now();
    loop {
        match fs::read_to_string(place.path("meet")) {
            Ok(text) if text != before => return text,
            _ => assert!(start.elapsed() < PATIENCE, "there is no file"),
        }
        std::thread::yield_now();
    }
}

fn port(file: &str) -> u16 {
    let file: Value = serde_json::from_str(file).unwrap();
    file["port"].as_u64().unwrap().try_into().unwrap()
}

/// The drivers start before the server, which is killed three times and then listens on another
/// port each time.
#[test]
fn drivers_follow_a_server_that_is_killed_and_started_again() {
    let place = Place::new();
    place.write("argon.xyz", ARGON);
    let run = "md argon.xyz --steps 3000 --timestep 2 --temperature 40 -a 127.0.0.1 --meet meet";
    let quiet = start(&place, &format!("{run} --output quiet"));
    let _quiet = start(&place, &format!("driver --meet meet {LJ}"));
    assert_eq!(quiet.end().status, Some(0));
    assert!(!place.path("meet").exists());

    let driver = format!("driver --meet meet {LJ} --reconnect");
    let _drivers = [0, 1, 2].map(|_| start(&place, &driver));
    let (mut before, mut ports) = (String::new(), BTreeSet::new());
    for kills in 1..=3 {
        let server = start(&place, &format!("{run} --output run --restart"));
        before = meets(&place, &before);
        ports.insert(port(&before));
        place.wait_for_lines("run.out", 60 * kills);
        kill(&server, "-KILL");
        server.end();
    }
    let ended = start(&place, &format!("{run} --output run --restart")).end();
    assert_eq!(ended.status, Some(0), "{}", ended.err);
    assert!(ports.len() > 1, "{ports:?}");
    for file in ["out", "xyz"] {
        let [run, quiet] = ["run", "quiet"].map(|name| place.read(&format!("{name}.{file}")));
        assert!(run == quiet, "{file} differs");
    }
}

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const PRESENTED: &[u8] = b"{\"meet\":\"0123456789abcdef0123456789abcdef\"}";

/// Writes the file for a server of this test.
fn points_to(place: &Place, at: &str, token: Option<&str>) {
    let port: u16 = at.rsplit(' ').next().unwrap().parse().unwrap();
    let token = token.map_or(String::new(), |it| format!(",\"token\":\"{it}\""));
    let text = format!("{{\"host\":\"127.0.0.1\",\"port\":{port}{token}}}\n");
    place.write("new", &text);
    fs::rename(place.path("new"), place.path("meet")).unwrap();
}

fn init(text: &str) -> Vec<u8> {
    layout::init(0, text)
}

/// Reads a reply to one atom with these extras.
fn hears_forces(server: &mut Server, extras: &[u8]) {
    server.hears(FORCEREADY);
    server.numbers(1);
    assert_eq!(server.integer(), 1);
    server.numbers(12);
    assert_eq!(server.integer(), extras.len() as i32);
    server.hears(extras);
}

/// By the time a driver connects, the port may belong to another program.
#[test]
fn a_stranger_gets_no_forces() {
    let (place, (stranger, there), (listener, here)) = (Place::new(), listen(), listen());
    points_to(&place, &there, Some(TOKEN));
    let driver = start(&place, "driver --meet meet -m gas");
    let posdata = posdata(CUBE, &[[1.0; 3]]);
    let wrong = TOKEN.replace('0', "1");
    for text in [
        "",
        " ",
        &format!(" meet:{wrong}"),
        &format!(" meets:{TOKEN}"),
    ] {
        let mut server = Server::accept(&stranger);
        server.says(STATUS).hears(NEEDINIT);
        if text.is_empty() {
            // This server does not even send INIT.
            server.says(&posdata).says(GETFORCE);
        } else {
            server.says(&init(text));
        }
        server.ended();
    }
    points_to(&place, &here, Some(TOKEN));
    let mut server = Server::accept(&listener);
    server.says(STATUS).hears(NEEDINIT);
    server.says(&init(&format!(" meet:{TOKEN}, k:1")));
    server.says(STATUS).hears(READY);
    for presented in [PRESENTED, b""] {
        server.says(&posdata).says(GETFORCE);
        hears_forces(&mut server, presented);
    }
    server.says(EXIT).ended();
    assert_eq!(driver.end().status, Some(0));
}

/// For i-PI, for instance, users write the file themselves.
#[test]
fn nothing_is_presented_to_a_server_without_a_token() {
    let (place, (listener, at)) = (Place::new(), listen());
    let driver = start(&place, "driver --meet meet -m gas");
    points_to(&place, &at, None);
    let mut server = Server::accept(&listener);
    server.says(STATUS).hears(READY);
    server.says(&posdata(CUBE, &[[1.0; 3]])).says(GETFORCE);
    hears_forces(&mut server, b"");
    server.says(EXIT).ended();
    assert_eq!(driver.end().status, Some(0));
}

#[test]
fn a_server_that_does_not_come_is_not_waited_for_without_end() {
    let place = Place::new();
    let ended = start(&place, "driver --meet meet -m gas --patience 0.1").end();
    assert_eq!(ended.status, Some(1));
    let says = "meet: no server has written it yet";
    assert!(ended.err.contains(says), "{}", ended.err);
}

/// A driver that is written byte by byte. Its energy is -1.
struct Driver(TcpStream);

impl Driver {
    fn connect(file: &str) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", port(file))).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut driver = Self(socket);
        assert_eq!(&driver.hears(), STATUS);
        driver.0.write_all(READY).unwrap();
        driver
    }

    fn hears(&mut self) -> [u8; 12] {
        let mut header = [0; 12];
        self.0.read_exact(&mut header).unwrap();
        header
    }

    /// Computes one structure of one atom.
    fn computes(&mut self, extras: &[u8]) {
        let mut asked = vec![0; Posdata::of(1).end() + HEADER];
        self.0.read_exact(&mut asked).unwrap();
        let reply = layout::forceready(&[-1.0], &[0.0; 3], &[0.0; 9], &[extras]);
        self.0.write_all(&reply).unwrap();
    }
}

fn frames(count: usize) -> String {
    "1\nLattice=\"9 0 0 0 9 0 0 0 9\"\nAr 1 0 0\n".repeat(count)
}

fn values(out: &str, key: &str) -> Vec<Value> {
    let line = |line| serde_json::from_str::<Value>(line).unwrap()[key].clone();
    out.lines().map(line).collect()
}

#[test]
fn only_drivers_that_have_read_the_file_count_if_that_is_wanted() {
    let place = Place::new();
    place.write("frames.xyz", &frames(4));
    let server = start(
        &place,
        "evaluate frames.xyz -a 127.0.0.1 --meet meet --meet-only",
    );
    let mut other = Driver::connect(&meets(&place, ""));
    other.computes(b"");
    assert_eq!(&other.hears(), STATUS);
    other.0.write_all(READY).unwrap();
    assert_eq!(&other.hears(), EXIT);
    drop(other);
    let driver = start(&place, "driver --meet meet -m gas");
    let ended = server.end();
    assert_eq!(ended.status, Some(0), "{}", ended.err);
    assert!(
        ended
            .err
            .contains("driver 1 has not read the file of --meet"),
        "{}",
        ended.err
    );
    assert_eq!(values(&ended.out, "energy"), [0.0; 4]);
    assert_eq!(
        values(&ended.out, "extras"),
        [Value::Null, Value::Null, Value::Null, Value::Null]
    );
    assert_eq!(driver.end().status, Some(0));
}

/// A driver that does not count and reconnects again and again does not end the wait.
#[test]
fn drivers_that_do_not_count_do_not_keep_a_run_for_ever() {
    let place = Place::new();
    place.write("frames.xyz", &frames(4));
    let server = start(
        &place,
        "evaluate frames.xyz -a 127.0.0.1 --meet meet --meet-only --wait 2",
    );
    let port = port(&meets(&place, ""));
    let _other = start(
        &place,
        &format!("driver -a 127.0.0.1 -p {port} -m gas --reconnect"),
    );
    let ended = server.end();
    assert_eq!(ended.status, Some(1), "{}", ended.err);
    let says = "there is no driver, and none has come within 2s";
    assert!(ended.err.contains(says), "{}", ended.err);
}

/// A server, a relay and a driver, each of which finds its peer through a file.
#[test]
fn a_relay_presents_itself_on_both_sides() {
    let place = Place::new();
    place.write("frames.xyz", &frames(4));
    let relay = start(
        &place,
        "relay --to meet:first --listen 127.0.0.1:0 --meet meet --meet-only",
    );
    let driver = start(&place, "driver --meet meet -m harm3d -o 0.5");
    let server = start(
        &place,
        "evaluate frames.xyz -a 127.0.0.1 --meet first --meet-only --batch 3",
    );
    let ended = server.end();
    assert_eq!(ended.status, Some(0), "{}", ended.err);
    let energies = values(&ended.out, "energy");
    assert!(energies.len() == 4 && energies[0].as_f64().unwrap() > 0.0);
    assert_eq!(
        values(&ended.out, "extras"),
        [Value::Null, Value::Null, Value::Null, Value::Null]
    );
    let (relay, driver) = (relay.end(), driver.end());
    assert_eq!(
        (relay.status, driver.status),
        (Some(0), Some(0)),
        "{} {}",
        relay.err,
        driver.err
    );
}

/// The token precedes the extras of the first reply and does not replace them.
#[test]
fn extras_pass_a_relay_that_presents_itself() {
    let place = Place::new();
    place.write("frames.xyz", &frames(2));
    let _relay = start(
        &place,
        "relay --to meet:first --listen 127.0.0.1:0 --meet meet",
    );
    let mut driver = Driver::connect(&meets(&place, ""));
    let server = start(
        &place,
        "evaluate frames.xyz -a 127.0.0.1 --meet first --meet-only",
    );
    for extras in [&b"{\"a\":1}"[..], b"{\"a\":2}"] {
        driver.computes(extras);
        assert_eq!(&driver.hears(), STATUS);
        driver.0.write_all(READY).unwrap();
    }
    let ended = server.end();
    assert_eq!(ended.status, Some(0), "{}", ended.err);
    let expected = [1, 2].map(|a| serde_json::json!({ "a": a }));
    assert_eq!(values(&ended.out, "extras"), expected);
}
