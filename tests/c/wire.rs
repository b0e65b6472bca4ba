//! Messages written byte by byte, and peers that send them badly.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

use crate::layout;
pub use crate::layout::{EXIT, GETFORCE, HAVEDATA, READY, STATUS};

/// No message takes longer, even if its reader is slow.
const LIMIT: Duration = Duration::from_secs(60);

/// INIT of replica 7 with a text of 3 bytes.
pub static INIT: LazyLock<Vec<u8>> = LazyLock::new(|| layout::init(7, "k:1"));

/// POSDATA of `natoms` atoms in a cube of 10 bohr; coordinate `i` is `start` + i/8.
pub fn posdata(natoms: usize, start: f64) -> Vec<u8> {
    let positions = coordinates(natoms, start);
    layout::posdata(&layout::cube(10.0), &layout::cube(0.1), &positions)
}

/// FORCEREADY with energy 1.5, the positions of [`posdata`] as forces, virial 0 and no extras.
pub fn forceready(natoms: usize, start: f64) -> Vec<u8> {
    layout::forceready(&[1.5], &coordinates(natoms, start), &[0.0; 9], &[b""])
}

/// Coordinate `i` of `natoms` atoms is `start` + i/8.
pub fn coordinates(natoms: usize, start: f64) -> Vec<f64> {
    (0..3 * natoms).map(|i| start + i as f64 / 8.0).collect()
}

/// A listener on loopback, and its port.
pub fn listen() -> (TcpListener, u16) {
    listen_at(Ipv4Addr::LOCALHOST.into())
}

pub fn listen_at(host: IpAddr) -> (TcpListener, u16) {
    let listener = TcpListener::bind((host, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

pub const IPV6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// The next connection, with time limits.
pub fn accept(listener: &TcpListener) -> TcpStream {
    // Without a limit the test would wait forever if a program fails to start.
    listener.set_nonblocking(true).unwrap();
    let mut waited = Duration::ZERO;
    let socket = loop {
        match listener.accept() {
            Ok((socket, _)) => break socket,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && waited < LIMIT => {
                thread::sleep(Duration::from_millis(1));
                waited += Duration::from_millis(1);
            }
            Err(error) => panic!("no one has connected: {error}"),
        }
    };
    socket.set_nonblocking(false).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket.set_write_timeout(Some(LIMIT)).unwrap();
    socket
}

pub fn say(peer: &mut TcpStream, bytes: &[u8]) {
    peer.write_all(bytes).unwrap();
}

pub fn hear(peer: &mut TcpStream, expected: &[u8]) {
    let mut heard = vec![0; expected.len()];
    peer.read_exact(&mut heard).unwrap();
    assert!(heard == expected, "{}", heard.escape_ascii());
}

/// Closes our side only, and reads until the other side closes, so that everything sent is read.
pub fn close(mut peer: TcpStream) -> Vec<u8> {
    let _ = peer.shutdown(std::net::Shutdown::Write); // fails if the other side has refused it and is gone
    let mut heard = Vec::new();
    let _ = peer.read_to_end(&mut heard);
    heard
}

/// Closes the connection with a reset.
pub fn reset(peer: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).unwrap();
}

/// A classic conversation of two evaluations with INIT before them, as the server sends it, and the
/// start of each message.
pub fn conversation() -> (Vec<u8>, Vec<usize>) {
    let messages = [
        STATUS,
        &INIT,
        STATUS,
        &posdata(2, 0.0),
        STATUS,
        GETFORCE,
        STATUS,
        &posdata(2, 50.0),
        STATUS,
        GETFORCE,
    ];
    let mut boundaries = vec![0];
    for message in messages {
        boundaries.push(boundaries.last().unwrap() + message.len());
    }
    (messages.concat(), boundaries)
}

/// A driver's answers to the first `len` bytes of the conversation.
pub fn answers(len: usize) -> Vec<u8> {
    let (_, boundaries) = conversation();
    let said = [
        READY,
        b"",
        READY,
        b"",
        HAVEDATA,
        &forceready(2, 0.0),
        READY,
        b"",
        HAVEDATA,
        &forceready(2, 50.0),
    ];
    let heard = boundaries.iter().skip(1).filter(|&&end| end <= len).count();
    said[..heard].concat()
}
