//! The server machine, with a conversation's bytes split in every way.
//!
//! The driver's bytes and the expected ones are written by hand (`support`). The order of messages
//! follows i-PI 3.3.1 (`ipi/interfaces/sockets.py`: `DriverSocket`, `dispatch`, `dispatch_send`,
//! `dispatch_send_batch`) and its drivers.

mod batches;
mod blocking;
mod both;
mod cancellation;
mod conversations;
mod ends;
mod extras;
mod initialize;
mod noise;
mod numbers;
mod refusals;
mod rings;
mod steps;
mod turns;

use forcewire::{Exchange, Mode, ProtocolError, Scalar, Server, Status};
use forcewire_support::server::{Script, script};
use forcewire_support::*;

/// Every mode for a driver that does not ask for INIT, or asks for INIT without batches.
const MODES: [Mode; 3] = [Mode::Classic, Mode::Consolidated, Mode::Strict];

fn busy() -> Status {
    Status::UP | Status::BUSY
}

fn ready() -> Status {
    Status::UP | Status::READY
}

fn needs_init() -> Status {
    Status::UP | Status::NEEDS_INIT
}

fn has_data() -> Status {
    Status::UP | Status::HAS_DATA
}

fn server(mode: Mode) -> Server {
    Server::new().mode(mode)
}

/// A server whose driver is ready.
fn at_ready(mut server: Server) -> Server {
    script(&mut server, Split::Whole)
        .asks()
        .says(STATUS)
        .hears(READY)
        .learns(ready());
    server
}

/// A server whose driver knows a batch of this size and is ready.
fn told(size: usize) -> Server {
    let mut server = server(Mode::Batched(size));
    script(&mut server, Split::Whole)
        .asks()
        .says(STATUS)
        .hears(NEEDINIT)
        .learns(needs_init())
        .initializes()
        .says([&init(0, format!("  batch_size:{size}")), STATUS].concat())
        .ends()
        .asks()
        .hears(READY)
        .learns(ready());
    server
}

/// A server whose driver computes [`one`], or has been asked for its forces if `asked` is true.
fn at_work(mode: Mode, asked: bool) -> Server {
    let mut server = at_ready(server(mode));
    let mut script = script(&mut server, Split::Whole)
        .sends(&golden())
        .says(positions(mode, &golden()))
        .ends();
    if asked && mode != Mode::Consolidated {
        script = script
            .hears(HAVEDATA)
            .has_sent(&golden())
            .takes()
            .says(request(mode))
            .drops();
    }
    drop(script);
    server
}

/// A structure as it is sent from an array of this type.
fn rounded<T: Scalar>(mut structure: Structure) -> Structure {
    for x in structure.positions.as_flattened_mut() {
        *x = T::from_f64(*x).to_f64();
    }
    structure
}

/// The bytes sent with the positions: i-PI also sends STATUS after GETFORCE.
fn positions(mode: Mode, structure: &Structure) -> Vec<u8> {
    let behind = match mode {
        Mode::Classic | Mode::Strict => STATUS.to_vec(),
        _ => [GETFORCE, STATUS].concat(),
    };
    [posdata(structure), behind].concat()
}

/// For POSDATA with more than 32 atoms: the number of bytes after which the server no longer needs
/// the caller's array, because its scratch holds the rest. `behind` bytes follow the positions.
fn out_of_the_array(all: &[u8], behind: usize) -> usize {
    if cfg!(target_endian = "big") {
        // Numbers that have to be reversed go through the scratch in whole atoms: 160 bytes and 25
        // atoms, then 32 atoms at a time.
        all.len() - (all.len() - 760) % 768
    } else {
        all.len() - behind
    }
}

/// The bytes sent at once when the driver has data.
fn request(mode: Mode) -> Vec<u8> {
    match mode {
        Mode::Strict => GETFORCE.to_vec(),
        _ => [GETFORCE, STATUS].concat(),
    }
}

/// The rest of an evaluation, after the driver has sent READY.
#[track_caller]
fn computes<'s, T: Scalar>(
    script: Script<'s, T>,
    mode: Mode,
    structure: &Structure,
    answer: &Answer,
) -> Script<'s, T> {
    let script = script.says(positions(mode, structure));
    let script = match mode {
        Mode::Classic | Mode::Strict => script.hears(HAVEDATA).says(request(mode)),
        _ => script,
    };
    script.hears(forceready(answer)).gets(answer)
}

/// The result of an exchange that receives these bytes and then the end.
fn run<T: Exchange>(transfer: T, mut inbox: &[u8]) -> Result<T::Output, ProtocolError> {
    pour(transfer, &mut inbox).0
}

/// Checks the text that users read.
#[track_caller]
fn reads(error: ProtocolError, words: &[&str]) {
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text:?}");
    }
}

/// A board has at most 64 KiB.
#[test]
fn a_server_is_no_larger_than_a_driver_may_be() {
    let size = size_of::<Server>();
    assert!(size <= 1248, "{size} bytes");
}
