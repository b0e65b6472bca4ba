//! Complete drivers on a host: growing arrays, batches, INIT, extras, and time-outs in between.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use forcewire::net::{Address, Arrays, Calculator, Stream, serve, serve_with};
use forcewire::{
    Cell, Deadlines, Driver, Error, Evaluation, Event, Initialize, PotentialError, ProtocolError,
    Virial,
};

use crate::layout::{self, EXIT, GETFORCE, NEEDINIT, STATUS};

/// A potential whose forces are the positions, and whose energy and extras are the number of the
/// evaluation.
#[derive(Default)]
struct Echo {
    text: Vec<u8>,
    count: usize,
    fails: bool,
}

impl Calculator for Echo {
    type Real = f64;

    fn initialize(&mut self, driver: &Driver) -> Result<(), PotentialError> {
        self.text = driver.init_text().to_vec();
        Ok(())
    }

    fn evaluate(
        &mut self,
        _: &Cell,
        positions: &[[f64; 3]],
        forces: &mut [[f64; 3]],
    ) -> Result<Evaluation, PotentialError> {
        if self.fails {
            return Err(PotentialError::Failed("it was told to"));
        }
        self.count += 1;
        forces.copy_from_slice(positions);
        let (energy, virial) = (self.count as f64, Virial::ZERO);
        Ok(Evaluation { energy, virial })
    }

    fn extras(&mut self, extras: &mut Vec<u8>) {
        extras.extend("x".repeat(self.count).bytes());
    }
}

fn pair(deadlines: Deadlines) -> (Stream, UnixStream) {
    let (ours, peer) = UnixStream::pair().unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let name = Address::Unix("pair".into());
    (Stream::from_unix(ours, name, deadlines).unwrap(), peer)
}

fn hear(peer: &mut UnixStream, expected: &[u8]) {
    let mut heard = vec![0; expected.len()];
    peer.read_exact(&mut heard).unwrap();
    assert!(heard == expected, "{}", heard.escape_ascii());
}

fn eighths(natoms: usize, from: f64) -> Vec<f64> {
    (0..3 * natoms).map(|i| from + i as f64 / 8.0).collect()
}

fn posdata(natoms: usize) -> Vec<u8> {
    let positions = eighths(natoms, 0.0);
    layout::posdata(&layout::cube(10.0), &layout::cube(0.1), &positions)
}

#[test]
fn structures_of_any_size_with_extras() {
    let (mut stream, mut peer) = pair(Deadlines::NONE);
    let mut echo = Echo::default();
    thread::scope(|scope| {
        scope.spawn(move || {
            peer.write_all(STATUS).unwrap();
            hear(&mut peer, NEEDINIT);
            peer.write_all(&layout::init(7, "k:1")).unwrap();
            for (count, natoms) in [1, 64, 20_000].into_iter().enumerate() {
                peer.write_all(&[&posdata(natoms), GETFORCE].concat())
                    .unwrap();
                let (energy, extras) = (count as f64 + 1.0, "x".repeat(count + 1));
                let forces = eighths(natoms, 0.0);
                hear(
                    &mut peer,
                    &layout::forceready(&[energy], &forces, &[0.0; 9], &[extras.as_bytes()]),
                );
            }
            peer.write_all(EXIT).unwrap();
        });
        let mut driver = Driver::new()
            .initialize(Initialize::Once)
            .allow_changing_atoms();
        let mut arrays = Arrays::new();
        let end = serve_with(&mut stream, &mut driver, &mut arrays, &mut echo).unwrap();
        assert_eq!((end, echo.count), (Event::Exit, 3));
        assert_eq!(echo.text, b"k:1");
    });
}

#[test]
fn batches() {
    let (mut stream, mut peer) = pair(Deadlines::NONE);
    let mut echo = Echo::default();
    thread::scope(|scope| {
        scope.spawn(move || {
            peer.write_all(STATUS).unwrap();
            hear(&mut peer, NEEDINIT);
            peer.write_all(&layout::init(7, "batch_size:3")).unwrap();
            let positions = eighths(2, 0.0).repeat(3);
            let cells = [[layout::cube(10.0), layout::cube(0.1)]; 3];
            let message = layout::posdata_batch(&cells, &positions);
            peer.write_all(&[&message, GETFORCE].concat()).unwrap();
            let forces = eighths(2, 0.0).repeat(3);
            let extras: [&[u8]; 3] = [b"x", b"xx", b"xxx"];
            let expected = layout::forceready(&[1.0, 2.0, 3.0], &forces, &[0.0; 27], &extras);
            hear(&mut peer, &expected);
            // The server closes without EXIT.
        });
        let end = serve(&mut stream, &mut echo).unwrap();
        assert_eq!((end, echo.count), (Event::Closed, 3));
    });
}

/// A server that is out of step can announce any count, which must not take all memory.
#[test]
fn more_atoms_than_were_allowed() {
    let (mut stream, mut peer) = pair(Deadlines::NONE);
    peer.write_all(&[&posdata(9), GETFORCE].concat()).unwrap();
    let (mut driver, mut arrays) = (Driver::new(), Arrays::new().at_most(8, 1));
    let result = serve_with(&mut stream, &mut driver, &mut arrays, &mut Echo::default());
    let error = result.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Protocol(ProtocolError::TooManyAtoms { announced: 9, .. })
        ),
        "{error}"
    );
}

/// Everything that the server sent with the positions has been read. Otherwise closing would reset
/// the connection, and i-PI would hang.
#[test]
fn a_calculator_that_fails_ends_the_loop() {
    let (mut stream, mut peer) = pair(Deadlines::NONE);
    let mut echo = Echo {
        fails: true,
        ..Echo::default()
    };
    let init = layout::init(7, "");
    let messages = [STATUS, &init, &posdata(2), GETFORCE].concat();
    peer.write_all(&messages).unwrap();
    let error = serve(&mut stream, &mut echo).unwrap_err();
    assert!(matches!(error, Error::Potential(_)), "{error}");
    drop(stream);
    let mut heard = Vec::new();
    peer.read_to_end(&mut heard).unwrap();
    assert!(heard == NEEDINIT, "{}", heard.escape_ascii());
}

/// After a time-out the same call continues where it stopped, even in the middle of a reply, and
/// computes nothing twice.
#[test]
fn a_time_out_anywhere_costs_no_evaluation() {
    const ATOMS: usize = 50_000;
    let limit = Duration::from_millis(20);
    let (mut stream, mut peer) = pair(Deadlines::NONE.message(limit).evaluation(limit));
    let mut echo = Echo::default();
    thread::scope(|scope| {
        scope.spawn(move || {
            for count in 0..2 {
                thread::sleep(3 * limit);
                let message = [&posdata(ATOMS), GETFORCE].concat();
                let (one, other) = message.split_at(1000);
                peer.write_all(one).unwrap();
                thread::sleep(3 * limit);
                peer.write_all(other).unwrap();
                // The whole reply does not fit into the kernel's buffers.
                thread::sleep(10 * limit);
                let extras = "x".repeat(count + 1);
                let forces = eighths(ATOMS, 0.0);
                let reply = layout::forceready(
                    &[count as f64 + 1.0],
                    &forces,
                    &[0.0; 9],
                    &[extras.as_bytes()],
                );
                hear(&mut peer, &reply);
            }
            peer.write_all(EXIT).unwrap();
        });
        let (mut driver, mut arrays) = (Driver::new(), Arrays::new());
        let mut late = 0;
        let end = loop {
            match serve_with(&mut stream, &mut driver, &mut arrays, &mut echo) {
                Err(Error::TimedOut(_)) => late += 1,
                result => break result.unwrap(),
            }
        };
        assert_eq!((end, echo.count), (Event::Exit, 2));
        assert!(late >= 4, "{late}");
    });
}
