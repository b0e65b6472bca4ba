//! Server and driver, each on a smoltcp socket, with rings smaller than a message and of odd sizes.

use std::task::Poll;

use forcewire::smoltcp::{SocketError, poll};
use forcewire::{
    Answer, Cell, Driver, Error, Event, Header, Initialize, Mode, ProtocolError, Request, Server,
};
use smoltcp::time::Instant;

use super::{MODES, at_ready};
use forcewire_support::network::Hosts;
use forcewire_support::*;

/// The rings of server and driver, for receiving and for sending.
const RINGS: [[(usize, usize); 2]; 8] = [
    [(13, 13), (13, 13)],
    [(1, 12), (1, 12)],
    [(24, 24), (100, 13)],
    [(100, 13), (333, 24)],
    [(333, 333), (13, 100)],
    [(1500, 13), (1500, 1500)],
    [(4096, 4096), (4096, 4096)],
    [(65_535, 65_535), (65_535, 65_535)],
];

/// The request of an evaluation, and the driver's answer.
struct Work {
    structures: Vec<Structure>,
    answers: Vec<forcewire_support::Answer>,
}

fn work(natoms: usize, count: usize) -> Work {
    let mut structures = vec![atoms(natoms); count];
    for (i, it) in structures.iter_mut().enumerate() {
        it.positions.iter_mut().for_each(|it| it[0] += i as f64);
    }
    Work {
        structures,
        answers: (0..count)
            .map(|i| answer(natoms, i as f64, b"{\"dipole\":[1.0,2.0,3.0]}"))
            .collect(),
    }
}

/// Evaluates this many times and sends EXIT, with a new exchange for every poll.
fn perform(hosts: &mut Hosts, server: &mut Server, driver: &mut Driver, work: &Work, times: usize) {
    let cells: Vec<Cell> = work.structures.iter().map(Structure::cell).collect();
    let positions = work.structures.iter().flat_map(|it| it.positions.clone());
    let positions: Vec<_> = positions.collect();
    let count = cells.len();
    let evaluations: Vec<_> = work.answers.iter().map(|it| it.evaluation).collect();
    let computed: Vec<_> = work
        .answers
        .iter()
        .flat_map(|it| it.forces.clone())
        .collect();
    let texts: Vec<_> = work.answers.iter().map(|it| it.extras.as_slice()).collect();

    let mut got = vec![Answer::default(); count];
    let (mut forces, mut extras) = (vec![[0.0; 3]; positions.len()], [0; 64]);
    let (mut given_cells, mut given) = (vec![UNTOUCHED_CELL; count], positions.clone());
    let (mut done, mut replying, mut left) = (0, false, false);
    loop {
        hosts.turn();
        let socket = hosts.server.socket();
        if done < times {
            let request = Request::batch(&cells, &positions);
            let evaluate = server.evaluate_batch(request, &mut got, &mut forces, &mut extras);
            if poll(socket, evaluate).unwrap().is_ready() {
                for (got, expected) in got.iter().zip(&work.answers) {
                    assert_eq!(got.evaluation, expected.evaluation);
                    assert_eq!(got.extras(&extras), expected.extras);
                }
                assert_eq!(forces, computed);
                forces.fill([UNTOUCHED; 3]);
                done += 1;
            }
        } else if poll(socket, server.exit()).unwrap().is_ready() {
            assert!(left);
            return;
        }
        let socket = hosts.driver.socket();
        if replying {
            let mut reply = driver.reply_batch(&evaluations, &computed, &texts);
            replying = poll(socket, &mut reply).unwrap().is_pending();
        } else if !left {
            let receive = driver.receive_batch(&mut given_cells, &mut given);
            match poll(socket, receive).unwrap() {
                Poll::Ready(Event::Positions { structures, .. }) => {
                    assert_eq!((structures, &given), (count, &positions));
                    replying = true;
                }
                Poll::Ready(Event::Exit) => {
                    left = true;
                    socket.close();
                }
                Poll::Ready(Event::Init { .. }) | Poll::Pending => {}
                Poll::Ready(event) => panic!("{event:?}"),
            }
        }
    }
}

#[test]
fn conversations_over_rings_of_every_size() {
    for [near, far] in RINGS {
        for mode in MODES.into_iter().chain([Mode::Batched(2)]) {
            for (when, loses) in [(Initialize::Once, 7), (Initialize::EveryStep, 0)] {
                // If each turn moves one byte, use few atoms.
                let natoms = if near.0 < 20 { 2 } else { 33 };
                let work = work(natoms, if mode == Mode::Batched(2) { 2 } else { 1 });
                let mut hosts = Hosts::new(near, far, loses);
                let mut server = Server::new().mode(mode);
                let mut driver = Driver::new().initialize(when);
                perform(&mut hosts, &mut server, &mut driver, &work, 2);
                assert_eq!(server.traffic().sent, driver.traffic().received);
                if loses == 0 {
                    // The clock has not advanced: there was neither a delayed acknowledgement nor a
                    // window probe.
                    assert_eq!(hosts.now, Instant::ZERO, "{near:?}, {far:?}, {mode:?}");
                }
            }
        }
    }
}

/// i-PI's Python driver needs whole headers: the first bytes of a message are one segment, wherever
/// the ring ends.
#[test]
fn a_header_is_never_cut() {
    for transmit in 12..=40 {
        let work = work(1, 1);
        let mut hosts = Hosts::new((100, transmit), (100, 100), 0);
        let mut server = Server::new().mode(Mode::Strict);
        let mut driver = Driver::new();
        perform(&mut hosts, &mut server, &mut driver, &work, 4);
        // STATUS; POSDATA with the STATUS after it; GETFORCE; and so on, then EXIT.
        let segments = &hosts.server.end.segments;
        let first = segments[0].0;
        let mut begins = 0;
        for _ in 0..4 {
            for len in [12, 184 + 12, 12] {
                let whole = |(sequence, n): &(i32, usize)| {
                    sequence.wrapping_sub(first) == begins && *n >= 12
                };
                assert!(segments.iter().any(whole), "{transmit}: {begins}");
                begins += len;
            }
        }
    }
}

#[test]
fn positions_leave_in_full_segments() {
    let mut hosts = Hosts::new((8192, 8192), (8192, 8192), 0);
    let mut server = Server::new();
    let mut driver = Driver::new();
    perform(&mut hosts, &mut server, &mut driver, &work(100, 1), 1);
    let sizes: Vec<_> = hosts.server.end.segments.iter().map(|it| it.1).collect();
    assert_eq!(sizes, [12, 1460, 160 + 2400 + 24 - 1460, 12]);
}

#[test]
fn a_driver_that_closes_inside_an_answer() {
    let reply = hex(GOLDEN_FORCEREADY);
    for end in [0, 1, 11, 12, 13, 24, 50, 125] {
        let mut hosts = Hosts::new((100, 100), (100, 300), 0);
        hosts.driver.socket().send_slice(READY).unwrap();
        hosts.driver.socket().send_slice(&reply[..end]).unwrap();
        hosts.driver.socket().close();
        let mut server = Server::new();
        let (cell, positions) = (golden().cell(), golden().positions);
        let (mut forces, mut extras) = ([[0.0; 3]], [0; 2]);
        let error = loop {
            hosts.turn();
            while hosts.driver.socket().can_recv() {
                hosts
                    .driver
                    .socket()
                    .recv(|bytes| (bytes.len(), ()))
                    .unwrap();
            }
            let request = Request::new(&cell, &positions);
            let mut evaluate = server.evaluate(request, &mut forces, &mut extras);
            match poll(hosts.server.socket(), &mut evaluate) {
                Ok(Poll::Pending) => {}
                Ok(Poll::Ready(answer)) => panic!("{answer:?}"),
                Err(error) => break error,
            }
        };
        let expected = match end {
            0 => ProtocolError::Unanswered(Header::GetForce),
            end => ProtocolError::EndOfStream {
                within: (end >= 12).then_some(Header::ForceReady),
                after: end,
            },
        };
        assert_eq!(error, Error::Protocol(expected));
    }
}

#[test]
fn another_driver_on_the_same_machine() {
    let mut hosts = Hosts::new((100, 100), (100, 100), 0);
    let mut server = Server::new();
    let pending = poll(hosts.server.socket(), server.status());
    assert_eq!(pending, Ok(Poll::Pending));
    hosts.driver.socket().abort();
    for _ in 0..3 {
        hosts.turn();
    }
    let lost = Err(Error::Transport(SocketError::ConnectionLost));
    assert_eq!(poll(hosts.server.socket(), server.status()), lost);

    server.reset();
    hosts.server.socket().abort();
    hosts.server.socket().listen(31415).unwrap();
    hosts.connect();
    perform(&mut hosts, &mut server, &mut Driver::new(), &work(3, 1), 2);
}

/// EXIT would cross the end of a ring of 23 bytes, so it waits until STATUS has been acknowledged.
#[test]
fn a_message_that_would_cross_the_rings_end_waits() {
    let mut hosts = Hosts::new((100, 23), (100, 100), 0);
    let mut server = at_ready(Server::new());
    let asking = poll(hosts.server.socket(), server.status());
    assert_eq!(asking, Ok(Poll::Pending));
    assert_eq!(hosts.server.socket().send_queue(), 12);
    // EXIT could follow at once, but does not join it.
    for _ in 0..3 {
        let exiting = poll(hosts.server.socket(), server.exit());
        assert_eq!(exiting, Ok(Poll::Pending));
        assert_eq!(hosts.server.socket().send_queue(), 12);
    }
    for _ in 0..5 {
        hosts.turn();
        let _ = poll(hosts.server.socket(), server.exit());
    }
    let sizes: Vec<_> = hosts.server.end.segments.iter().map(|it| it.1).collect();
    assert_eq!(sizes, [12, 12]);
}
