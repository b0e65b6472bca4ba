//! All 2^32 values of each integer of the protocol except INIT's replica, which may have any.
//!
//! A machine is brought to the last four bytes before the check, and each value is passed to a copy
//! of it.

use forcewire::{Cell, Driver, Event, Exchange, ProtocolError, Request, Server, Step};

use crate::copy::copy;
use crate::in_parts;
use forcewire_support::*;

/// Room for this many atoms in the caller's array, and for this many bytes of extras.
const ROOM: usize = 8;
/// How many bytes the machines read at once for fields that don't go to the caller's memory.
const CHUNK: usize = 768;

const STRATA: u32 = 1_000_000 / 6;

/// How many bytes of an array arrive at once: all, or a chunk if they have to be converted.
fn at_once(bytes: usize) -> usize {
    if cfg!(target_endian = "little") {
        bytes
    } else {
        bytes.min(CHUNK)
    }
}

/// Values on both sides of every possible edge.
fn edges() -> Vec<i32> {
    let mut edges: Vec<i32> = (-200..=1000).collect();
    for power in 0..32 {
        for off in -2..=2 {
            let power = 1_i32.wrapping_shl(power);
            edges.extend([
                power.wrapping_add(off),
                power.wrapping_neg().wrapping_add(off),
            ]);
        }
    }
    edges
}

/// One value from each of this many equal strata; over all counts and lengths, a million.
fn strata(seed: u64) -> impl Iterator<Item = i32> {
    let (mut dice, width) = (Dice::new(seed), (1_u64 << 32) as f64 / f64::from(STRATA));
    (0..STRATA).map(move |stratum| {
        let at = (f64::from(stratum) + dice.below(1 << 20) as f64 / f64::from(1 << 20)) * width;
        at as u32 as i32
    })
}

/// Edges and strata, in an ordinary run of the tests.
fn some(check: impl Fn(i32)) {
    edges().into_iter().for_each(&check);
    strata(7).for_each(check);
}

/// All of them.
fn all(name: &str, check: impl Fn(i32) + Sync) {
    let parts = 1 << 10;
    let count = in_parts(parts, |part| {
        let width = (1_u64 << 32) / parts as u64;
        let first = part as u64 * width;
        (first..first + width).for_each(|value| check(value as u32 as i32));
        width
    });
    println!("{name}: {count} values");
    assert_eq!(count, 1 << 32);
}

/// Passes these bytes to an exchange, which must wait for exactly these.
fn give<T: Exchange>(transfer: &mut T, mut bytes: &[u8]) {
    while let (Ok(Step::Read(slice)), false) = (transfer.step(), bytes.is_empty()) {
        let (came, rest) = bytes.split_at(slice.len().min(bytes.len()));
        slice[..came.len()].copy_from_slice(came);
        bytes = rest;
        transfer.advance(came.len());
    }
    assert_eq!(bytes.len(), 0);
}

// ---- the driver ----

/// A driver that has received all of these bytes.
fn heard(mut driver: Driver, bytes: &[u8]) -> Driver {
    let mut positions = [[UNTOUCHED; 3]; ROOM];
    let mut cells = [UNTOUCHED_CELL; 2];
    give(&mut driver.receive_batch(&mut cells, &mut positions), bytes);
    driver
}

/// POSDATA up to its number of atoms.
fn frame() -> Vec<u8> {
    posdata(&golden())[..Posdata::of(1).atoms()].to_vec()
}

/// A driver that waits for the number of atoms of its first structure.
fn atoms_are_checked(driver: &Driver, announced: i32) {
    let mut driver = copy(driver);
    let mut positions = [[UNTOUCHED; 3]; ROOM];
    let mut receive = driver.receive(&mut positions);
    if let Ok(Step::Read(slice)) = receive.step() {
        slice.copy_from_slice(&integer(announced));
    }
    receive.advance(4);
    let came = receive.step();
    let right = match usize::try_from(announced) {
        Err(_) => matches!(came, Err(ProtocolError::NegativeAtoms(n)) if n == announced),
        Ok(0) => matches!(came, Ok(Step::Done(Event::Positions { natoms: 0, .. }))),
        Ok(n @ ..=ROOM) => matches!(came, Ok(Step::Read(slice)) if slice.len() == at_once(24 * n)),
        Ok(n) => matches!(
            came,
            Err(ProtocolError::TooManyAtoms { announced, capacity: ROOM }) if announced == n
        ),
    };
    assert!(right, "{announced} atoms");
    drop(receive);
    assert_eq!(positions[0], [UNTOUCHED; 3]);
}

/// A driver that has computed three atoms before.
fn changed_atoms_are_refused(driver: &Driver, announced: i32) {
    let mut driver = copy(driver);
    let mut positions = [[UNTOUCHED; 3]; ROOM];
    let mut receive = driver.receive(&mut positions);
    if let Ok(Step::Read(slice)) = receive.step() {
        slice.copy_from_slice(&integer(announced));
    }
    receive.advance(4);
    let came = receive.step();
    let right = match usize::try_from(announced) {
        Err(_) => matches!(came, Err(ProtocolError::NegativeAtoms(n)) if n == announced),
        Ok(3) => matches!(came, Ok(Step::Read(slice)) if slice.len() == 3 * ATOM),
        Ok(n) => matches!(
            came,
            Err(ProtocolError::AtomsChanged { announced, expected: 3 }) if announced == n
        ),
    };
    assert!(right, "{announced} atoms after 3");
}

/// A driver that waits for the number of atoms of a batch of two.
fn atoms_of_a_batch_are_checked(driver: &Driver, announced: i32) {
    let mut driver = copy(driver);
    let mut positions = [[UNTOUCHED; 3]; ROOM];
    let mut cells = [UNTOUCHED_CELL; 2];
    let mut receive = driver.receive_batch(&mut cells, &mut positions);
    if let Ok(Step::Read(slice)) = receive.step() {
        slice.copy_from_slice(&integer(announced));
    }
    receive.advance(4);
    let came = receive.step();
    let right = match usize::try_from(announced) {
        Err(_) => matches!(came, Err(ProtocolError::NegativeAtoms(n)) if n == announced),
        // The first cell comes next, no matter how many atoms were announced.
        Ok(n) if 2 * n <= ROOM => matches!(came, Ok(Step::Read(slice)) if slice.len() == CELL),
        Ok(n) => matches!(
            came,
            Err(ProtocolError::TooManyAtoms { announced, capacity: ROOM }) if announced == 2 * n
        ),
    };
    assert!(right, "{announced} atoms a structure");
}

/// A driver that waits for the length of INIT's text.
fn length_of_init_is_checked(driver: &Driver, announced: i32) {
    let mut driver = copy(driver);
    let mut positions = [[UNTOUCHED; 3]; 0];
    let mut receive = driver.receive(&mut positions);
    if let Ok(Step::Read(slice)) = receive.step() {
        slice.copy_from_slice(&integer(announced));
    }
    receive.advance(4);
    let came = receive.step();
    let right = match usize::try_from(announced) {
        Err(_) => matches!(came, Err(ProtocolError::NegativeLength(n)) if n == announced),
        Ok(0) => matches!(came, Ok(Step::Done(Event::Init { replica: -7 }))),
        Ok(n) => matches!(came, Ok(Step::Read(slice)) if slice.len() == n.min(CHUNK)),
    };
    assert!(right, "INIT of {announced} bytes");
}

fn before_atoms() -> Driver {
    heard(Driver::new(), &frame())
}

fn before_atoms_again() -> Driver {
    let mut driver = heard(
        Driver::new(),
        &[&posdata(&water())[..], GETFORCE].concat()[..Posdata::of(3).end()],
    );
    let it = answer(3, 1.0, b"");
    let (replied, _) = pour(driver.reply(&it.evaluation, &it.forces, b""), &mut {
        GETFORCE
    });
    assert_eq!(replied, Ok(()));
    heard(driver, &frame())
}

fn before_atoms_of_a_batch() -> Driver {
    let mut driver = Driver::new();
    let (init, told) = (init(0, "batch_size:2"), Ok(Event::Init { replica: 0 }));
    assert_eq!(
        pour(driver.receive(&mut [[0.0; 3]; 0]), &mut &init[..]).0,
        told
    );
    heard(driver, POSDATA)
}

fn before_length_of_init() -> Driver {
    heard(Driver::new(), &init(-7, "")[..init(0, "").len() - INTEGER])
}

// ---- the server ----

/// A server that has asked for the forces on this many atoms and received all of these bytes.
fn asked(natoms: usize, bytes: &[u8]) -> Server {
    let cell = Cell::orthorhombic([20.0; 3]);
    let positions = vec![[0.5; 3]; natoms];
    let mut forces = vec![[UNTOUCHED; 3]; natoms];
    let mut server = Server::new();
    let status = pour(server.status(), &mut { READY }).0;
    assert!(status.is_ok());
    let sent = pour(
        server.send_positions(Request::new(&cell, &positions)),
        &mut &b""[..],
    )
    .0;
    assert_eq!(sent, Ok(()));
    give(&mut server.get_forces(&mut forces, &mut [0; ROOM]), bytes);
    server
}

/// A server that waits for the number of atoms of a reply to three.
fn atoms_of_a_reply_are_checked(server: &Server, announced: i32) {
    let mut server = copy(server);
    let mut forces = [[UNTOUCHED; 3]; 3];
    let mut take = server.get_forces(&mut forces, &mut []);
    if let Ok(Step::Read(slice)) = take.step() {
        slice.copy_from_slice(&integer(announced));
    }
    take.advance(4);
    let came = take.step();
    let right = match announced {
        3 => matches!(came, Ok(Step::Read(slice)) if slice.len() == 3 * ATOM),
        _ => matches!(
            came,
            Err(ProtocolError::WrongAtoms { announced: n, expected: 3 }) if n == announced
        ),
    };
    assert!(right, "{announced} atoms for 3");
    drop(take);
    assert_eq!(forces[0], [UNTOUCHED; 3]);
}

/// A server that waits for the length of the extras of a reply without atoms.
fn length_of_extras_is_checked(server: &Server, announced: i32) {
    let mut server = copy(server);
    let mut extras = [b'#'; ROOM];
    let mut take = server.get_forces::<f64>(&mut [], &mut extras);
    if let Ok(Step::Read(slice)) = take.step() {
        slice.copy_from_slice(&integer(announced));
    }
    take.advance(4);
    let came = take.step();
    let right = match usize::try_from(announced) {
        Err(_) => matches!(came, Err(ProtocolError::NegativeLength(n)) if n == announced),
        Ok(0) => matches!(came, Ok(Step::Done(answer)) if answer.extras_sent() == 0),
        Ok(n) => matches!(came, Ok(Step::Read(slice)) if slice.len() == n.min(ROOM)),
    };
    assert!(right, "{announced} bytes of extras");
    drop(take);
    assert_eq!(extras[0], b'#');
}

fn before_atoms_of_a_reply() -> Server {
    asked(
        3,
        &forceready(&answer(3, 1.0, b""))[..ForceReady::of(3).atoms()],
    )
}

fn before_length_of_extras() -> Server {
    asked(
        0,
        &forceready(&answer(0, 1.0, b""))[..ForceReady::of(0).extras()],
    )
}

// ---- a million ----

#[test]
fn atoms_of_a_structure() {
    let driver = before_atoms();
    some(|announced| atoms_are_checked(&driver, announced));
}

#[test]
fn atoms_of_the_next_structure() {
    let driver = before_atoms_again();
    some(|announced| changed_atoms_are_refused(&driver, announced));
}

#[test]
fn atoms_of_a_batch() {
    let driver = before_atoms_of_a_batch();
    some(|announced| atoms_of_a_batch_are_checked(&driver, announced));
}

#[test]
fn length_of_init() {
    let driver = before_length_of_init();
    some(|announced| length_of_init_is_checked(&driver, announced));
}

#[test]
fn atoms_of_a_reply() {
    let server = before_atoms_of_a_reply();
    some(|announced| atoms_of_a_reply_are_checked(&server, announced));
}

#[test]
fn length_of_extras() {
    let server = before_length_of_extras();
    some(|announced| length_of_extras_is_checked(&server, announced));
}

// ---- all ----

#[test]
#[ignore = "minutes, in release: tests/run numbers"]
fn every_count_and_length() {
    let driver = before_atoms();
    all("atoms of a structure", |n| atoms_are_checked(&driver, n));
    let driver = before_atoms_again();
    all("atoms of the next structure", |n| {
        changed_atoms_are_refused(&driver, n);
    });
    let driver = before_atoms_of_a_batch();
    all("atoms of a batch", |n| {
        atoms_of_a_batch_are_checked(&driver, n)
    });
    let driver = before_length_of_init();
    all("length of INIT", |n| length_of_init_is_checked(&driver, n));
    let server = before_atoms_of_a_reply();
    all("atoms of a reply", |n| {
        atoms_of_a_reply_are_checked(&server, n)
    });
    let server = before_length_of_extras();
    all("length of extras", |n| {
        length_of_extras_is_checked(&server, n)
    });
}
