//! The smoltcp shim: two interfaces connected in one process, with rings smaller than a message and
//! of odd sizes.

use std::ops::{Deref, DerefMut};
use std::task::Poll;
use std::time::Duration;

use forcewire::smoltcp::{SocketError, poll, poll_by};
use forcewire::{
    Awaited, Deadline, DeadlineTimer, Deadlines, Driver, Error, Event, Initialize, Server, Storage,
};
use forcewire_support::network::Hosts;
use forcewire_support::*;
use smoltcp::socket::tcp::State;
use smoltcp::time::Instant;

/// A server played by hand, and a driver.
struct Pair {
    hosts: Hosts,
    /// The bytes that the server received.
    said: Vec<u8>,
}

impl Deref for Pair {
    type Target = Hosts;

    fn deref(&self) -> &Hosts {
        &self.hosts
    }
}

impl DerefMut for Pair {
    fn deref_mut(&mut self) -> &mut Hosts {
        &mut self.hosts
    }
}

impl Pair {
    /// The rings are the driver's, for receiving and for sending.
    fn new(receive: usize, transmit: usize, loses: usize) -> Self {
        Self {
            hosts: Hosts::new((65_535, 65_535), (receive, transmit), loses),
            said: Vec::new(),
        }
    }

    fn turn(&mut self) {
        self.hosts.turn();
        let socket = self.hosts.server.socket();
        while socket.can_recv() {
            let take = |bytes: &mut [u8]| (bytes.len(), bytes.to_vec());
            self.said.extend(socket.recv(take).unwrap());
        }
    }
}

/// The server's script: bytes to send, and the total number of bytes to wait for afterwards.
type Play<'a> = &'a [(&'a [u8], usize)];

/// Runs a driver through a script, with a new exchange for every poll. Returns the events and the
/// driver.
fn perform<const N: usize, const B: usize>(
    pair: &mut Pair,
    mut driver: Driver,
    answers: &[Answer],
    play: Play,
) -> (Vec<Event>, Driver) {
    let mut storage = Storage::<f64, N, B>::new();
    let evaluations: Vec<_> = answers.iter().map(|it| it.evaluation).collect();
    let forces: Vec<_> = answers.iter().flat_map(|it| it.forces.clone()).collect();
    let extras: Vec<_> = answers.iter().map(|it| it.extras.as_slice()).collect();
    let mut events = Vec::new();
    let mut replying = false;
    let (mut act, mut sent) = (0, 0);
    loop {
        pair.turn();
        if let Some((bytes, awaited)) = play.get(act) {
            sent += pair.server.socket().send_slice(&bytes[sent..]).unwrap();
            if sent == bytes.len() && pair.said.len() >= *awaited {
                (act, sent) = (act + 1, 0);
            }
        } else {
            pair.server.socket().close();
        }
        let socket = pair.driver.socket();
        if replying {
            let mut reply = driver.reply_batch(&evaluations, &forces, &extras);
            replying = poll(socket, &mut reply).unwrap().is_pending();
            continue;
        }
        if let Poll::Ready(event) = poll(socket, storage.receive(&mut driver)).unwrap() {
            events.push(event);
            match event {
                Event::Positions { .. } => replying = true,
                Event::Exit | Event::Closed => return (events, driver),
                _ => {}
            }
        }
    }
}

const RINGS: [(usize, usize); 12] = [
    (13, 13),
    (1, 12),
    (24, 24),
    (100, 13),
    (13, 100),
    (100, 100),
    (333, 24),
    (333, 333),
    (1500, 13),
    (1500, 1500),
    (4096, 4096),
    (65_535, 65_535),
];

#[test]
fn conversations_over_rings_of_every_size() {
    for (receive, transmit) in RINGS {
        for loses in [0, 7] {
            let structure = atoms(33);
            let answers = [answer(33, 1.0, b"{\"dipole\":[1.0,2.0,3.0]}")];
            let reply = forceready(&answers[0]);
            let evaluation = 24 + reply.len();
            let classic = [&posdata(&structure), STATUS].concat();
            let consolidated = [&posdata(&structure), GETFORCE].concat();
            let init = init(-1, format!("{}, k : 1 , ", " ".repeat(300)));
            let play: Play = &[
                (STATUS, 12),
                (&init, 12),
                // Classic, twice.
                (STATUS, 24),
                (&classic, 36),
                (GETFORCE, 12 + evaluation),
                (STATUS, 24 + evaluation),
                (&classic, 36 + evaluation),
                (GETFORCE, 12 + 2 * evaluation),
                // Consolidated.
                (&consolidated, 12 + 2 * evaluation + reply.len()),
                (STATUS, 24 + 2 * evaluation + reply.len()),
                (EXIT, 0),
            ];
            let mut pair = Pair::new(receive, transmit, loses);
            let driver = Driver::new().initialize(Initialize::Once);
            let (events, driver) = perform::<33, 1>(&mut pair, driver, &answers, play);
            let mut expected = vec![Event::Init { replica: -1 }];
            expected.extend([structure.event(); 3]);
            expected.push(Event::Exit);
            assert_eq!(events, expected, "{receive}, {transmit}");
            let turn = [READY, HAVEDATA, &reply].concat();
            let said = [NEEDINIT, &turn, &turn, &reply, READY].concat();
            assert!(pair.said == said, "{receive}, {transmit}");
            assert_eq!(driver.traffic().sent as usize, said.len());
            if loses == 0 {
                // The clock has not advanced: there was neither a delayed acknowledgement nor a
                // window probe.
                assert_eq!(pair.now, Instant::ZERO, "{receive}, {transmit}");
            }
            assert_answers_are_whole(&pair, reply.len());
        }
    }
}

/// No answer to STATUS, and no header of a reply, is split: i-PI reads them with one `recv(12)`.
#[track_caller]
fn assert_answers_are_whole(pair: &Pair, reply: usize) {
    let first = pair.driver.end.segments[0].0;
    let mut at = 0;
    while at < pair.said.len() {
        let word = &pair.said[at..at + 12];
        let inside = at + 1..at + 12;
        for (sequence, len) in &pair.driver.end.segments {
            let begin = sequence.wrapping_sub(first) as usize;
            for cut in [begin, begin + len] {
                assert!(!inside.contains(&cut), "{} is cut", word.escape_ascii());
            }
        }
        at += if word == FORCEREADY { reply } else { 12 };
    }
}

/// The places at which the end of the ring could split an answer, in a ring full of answers.
#[test]
fn an_answer_to_status_is_one_segment_wherever_the_ring_ends() {
    for transmit in 12..=40 {
        let mut pair = Pair::new(333, transmit, 0);
        // First a part of a reply, which advances the ring, then STATUS one by one and all at once.
        let answers = [answer(1, 1.0, &vec![b'x'; transmit])];
        let reply = forceready(&answers[0]);
        let ask = [&posdata(&golden()), GETFORCE].concat();
        let questions = STATUS.repeat(20);
        let mut play: Vec<(&[u8], usize)> = vec![(&ask, reply.len())];
        play.extend((1..=20).map(|n| (STATUS, reply.len() + 12 * n)));
        play.push((&questions, reply.len() + 40 * 12));
        let (events, _) = perform::<1, 1>(&mut pair, Driver::new(), &answers, &play);
        assert_eq!(events, [golden().event(), Event::Closed]);
        assert_eq!(pair.said, [reply.clone(), READY.repeat(40)].concat());
        assert_answers_are_whole(&pair, reply.len());
    }
}

#[test]
fn batches_over_rings_of_every_size() {
    for (receive, transmit) in RINGS {
        let mut pair = Pair::new(receive, transmit, 0);
        let batch = [atoms(20), water(), atoms(20)].map(|mut it| {
            it.positions.resize(20, [0.5; 3]);
            it
        });
        let answers: Vec<_> = (0..3).map(|i| answer(20, i as f64, b"{}")).collect();
        let reply = forceready_batch(&answers);
        let ask = [&posdata_batch(&batch), GETFORCE].concat();
        let play: Play = &[
            (STATUS, 12),
            (&hex(GOLDEN_INIT), 12),
            (&ask, 12 + reply.len()),
            (&ask, 12 + 2 * reply.len()),
        ];
        let driver = Driver::new().initialize(Initialize::Once);
        let (events, _) = perform::<60, 3>(&mut pair, driver, &answers, play);
        let positions = Event::Positions {
            natoms: 20,
            structures: 3,
            cell: batch[0].cell(),
        };
        let init = Event::Init { replica: 0 };
        assert_eq!(events, [init, positions, positions, Event::Closed]);
        assert!(pair.said == [NEEDINIT, &reply, &reply].concat());
        assert_answers_are_whole(&pair, reply.len());
    }
}

/// There is room in the server's ring, and ours is larger than a message, so nothing has to wait.
#[test]
fn a_reply_leaves_in_full_segments() {
    let mut pair = Pair::new(8192, 8192, 0);
    let answers = [answer(100, 1.0, b"{}")];
    let reply = forceready(&answers[0]);
    let ask = [&posdata(&atoms(100)), GETFORCE].concat();
    let play: Play = &[(&ask, reply.len())];
    perform::<100, 1>(&mut pair, Driver::new(), &answers, play);
    let sizes: Vec<_> = pair.driver.end.segments.iter().map(|it| it.1).collect();
    assert_eq!(sizes, [1460, 100 + 2400 + 2 - 1460]);
}

#[test]
fn a_server_that_resets_the_connection() {
    let mut pair = Pair::new(100, 100, 0);
    let mut driver = Driver::new();
    let mut positions = [[0.0; 3]; 3];
    let pending = poll(pair.driver.socket(), driver.receive(&mut positions));
    assert_eq!(pending, Ok(Poll::Pending));
    pair.server.socket().abort();
    for _ in 0..3 {
        pair.turn();
    }
    let lost = poll(pair.driver.socket(), driver.receive(&mut positions));
    assert_eq!(lost, Err(Error::Transport(SocketError::ConnectionLost)));
    assert!(
        SocketError::ConnectionLost
            .to_string()
            .contains("connect again")
    );

    // The same driver on another connection.
    driver.reset();
    pair.server.socket().listen(31415).unwrap();
    pair.connect();
    let play: Play = &[(STATUS, 12), (EXIT, 0)];
    let (events, _) = perform::<1, 1>(&mut pair, driver, &[], play);
    assert_eq!(events, [Event::Exit]);
    assert_eq!(pair.said, READY);
}

/// A message that waits for room in the ring stops waiting when the connection is lost.
#[test]
fn a_connection_that_is_reset_with_an_answer_in_the_ring() {
    let mut pair = Pair::new(100, 23, 0);
    let mut driver = Driver::new();
    let mut positions = [[0.0; 3]; 3];
    pair.server.socket().send_slice(&STATUS.repeat(2)).unwrap();
    pair.turn();
    pair.turn();
    // READY is in the ring, and a second one will follow it.
    let pending = poll(pair.driver.socket(), driver.receive(&mut positions));
    assert_eq!(pending, Ok(Poll::Pending));
    assert_eq!(pair.driver.socket().send_queue(), 12);
    pair.server.socket().abort();
    for _ in 0..3 {
        pair.turn();
    }
    assert_eq!(pair.driver.socket().send_queue(), 12);
    let lost = poll(pair.driver.socket(), driver.receive(&mut positions));
    assert_eq!(lost, Err(Error::Transport(SocketError::ConnectionLost)));
}

#[test]
fn a_socket_that_was_never_connected() {
    let mut pair = Pair::new(100, 100, 0);
    pair.driver.socket().abort();
    let mut driver = Driver::new();
    let lost = poll(
        pair.driver.socket(),
        &mut driver.receive(&mut [[0.0; 3]; 1]),
    );
    assert_eq!(lost, Err(Error::Transport(SocketError::ConnectionLost)));
}

/// A ring of 30 bytes has room for two answers before its end, but not for one that would cross the
/// end.
#[test]
fn an_answer_that_would_cross_the_rings_end_waits() {
    for (ring, queued, sizes) in [
        (23, 12, vec![12, 12, 12]),
        (30, 24, vec![24, 12]),
        (36, 36, vec![36]),
        (100, 36, vec![36]),
    ] {
        let mut pair = Pair::new(100, ring, 0);
        let mut driver = Driver::new();
        let mut positions = [[0.0; 3]; 1];
        pair.server.socket().send_slice(&STATUS.repeat(3)).unwrap();
        pair.turn();
        // Any number of polls without a turn of the interface.
        for _ in 0..5 {
            let pending = poll(pair.driver.socket(), &mut driver.receive(&mut positions));
            assert_eq!(pending, Ok(Poll::Pending));
            assert_eq!(pair.driver.socket().send_queue(), queued);
        }
        for _ in 0..20 {
            pair.turn();
            let _ = poll(pair.driver.socket(), &mut driver.receive(&mut positions));
        }
        assert_eq!(pair.said, READY.repeat(3));
        let segments = &pair.driver.end.segments;
        assert_eq!(segments.iter().map(|it| it.1).collect::<Vec<_>>(), sizes);
    }
}

/// The peer delays acknowledgements by up to 40 ms, as Linux does. READY does not wait for them.
#[test]
fn ready_does_not_wait_until_the_reply_is_acknowledged() {
    let mut pair = Pair::new(1500, 1500, 0);
    let delay = smoltcp::time::Duration::from_millis(40);
    pair.server.socket().set_ack_delay(Some(delay));
    let answers = [answer(27, 1.0, b"{}")];
    let reply = forceready(&answers[0]);
    let ask = [&posdata(&atoms(27)), GETFORCE, STATUS].concat();
    pair.server.socket().send_slice(&ask).unwrap();
    let (mut driver, mut positions) = (Driver::new(), [[0.0; 3]; 27]);
    let mut replied = false;
    // No time passes.
    for _ in 0..20 {
        let now = pair.now;
        pair.turn_until(Some(now));
        let socket = pair.driver.socket();
        match poll(socket, &mut driver.receive(&mut positions)).unwrap() {
            Poll::Pending => continue,
            Poll::Ready(event) => assert_eq!(event, atoms(27).event()),
        }
        let mut reply = driver.reply(&answers[0].evaluation, &answers[0].forces, b"{}");
        replied |= poll(socket, &mut reply).unwrap().is_ready();
    }
    assert!(replied && pair.now == Instant::ZERO);
    let mut said = Vec::new();
    let take = |bytes: &mut [u8]| {
        said.extend_from_slice(bytes);
        (bytes.len(), ())
    };
    pair.server.socket().recv(take).unwrap();
    assert_eq!(said, [&reply, READY].concat());
}

/// A connection that is being established does not count as lost.
#[test]
fn a_connection_that_is_being_made_is_waited_for() {
    let mut pair = Pair::new(100, 100, 0);
    pair.server.socket().abort();
    pair.driver.socket().abort();
    for _ in 0..3 {
        pair.turn();
    }
    let (mut driver, mut server) = (Driver::new(), Server::new());
    let mut positions = [[0.0; 3]; 1];
    let deadlines = Deadlines::NONE.handshake(Duration::from_secs(1));
    let mut timers = [DeadlineTimer::new(deadlines); 2];
    let mut states = Vec::new();
    let mut poll_both = |hosts: &mut Hosts, at: u64| {
        let now = Duration::from_secs(at);
        states.extend([hosts.server.socket().state(), hosts.driver.socket().state()]);
        let socket = hosts.server.socket();
        let asks = poll_by(socket, &mut server.status(), &mut timers[0], now);
        let socket = hosts.driver.socket();
        let receive = &mut driver.receive(&mut positions);
        let hears = poll_by(socket, receive, &mut timers[1], now);
        assert_eq!(hears, Ok(Poll::Pending));
        (asks.unwrap(), timers[0].due(), timers[1].due())
    };
    pair.server.socket().listen(31415).unwrap();
    pair.driver.connect();
    for at in 0..1000 {
        assert_eq!(poll_both(&mut pair, at), (Poll::Pending, None, None));
    }
    let mut polls = 0;
    while poll_both(&mut pair, 1000).0.is_pending() {
        pair.hosts.turn();
        polls += 1;
        assert!(polls < 100);
    }
    for state in [State::Listen, State::SynReceived, State::SynSent] {
        assert!(states.contains(&state), "{state} was never seen");
    }
}

#[test]
fn a_ring_that_holds_no_header_is_refused() {
    let mut pair = Pair::new(100, 11, 0);
    let mut driver = Driver::new();
    let refused = poll(
        pair.driver.socket(),
        &mut driver.receive(&mut [[0.0; 3]; 1]),
    );
    assert_eq!(refused, Err(Error::Transport(SocketError::RingTooSmall)));
    let text = SocketError::RingTooSmall.to_string();
    assert!(text.contains("larger buffer"), "{text}");
}

/// Queued bytes count as sent only once the peer has acknowledged them.
#[test]
fn a_peer_that_takes_nothing_is_late() {
    let mut pair = Pair::new(100, 100, 0);
    // The peer's window is 8 bytes, and nothing reads from it.
    pair.hosts = Hosts::new((8, 100), (100, 100), 0);
    let limit = Duration::from_secs(10);
    let mut timer = DeadlineTimer::new(Deadlines::NONE.message(limit));
    let mut driver = Driver::new();
    let mut positions = [[0.0; 3]; 1];
    let mut receive = driver.receive(&mut positions);
    pair.server.socket().send_slice(STATUS).unwrap();
    let mut begun = None;
    let late = loop {
        pair.hosts.turn_until(Some(pair.hosts.now));
        let now = (pair.hosts.now - Instant::ZERO).into();
        let socket = pair.hosts.driver.socket();
        if let Err(late) = poll_by(socket, &mut receive, &mut timer, now) {
            break late;
        }
        if socket.send_queue() > 0 {
            let begun = *begun.get_or_insert(now);
            assert_eq!(timer.due(), Some(begun + limit));
            pair.hosts.now += smoltcp::time::Duration::from_millis(100);
        }
    };
    let Error::TimedOut(late) = late else {
        panic!("{late:?}");
    };
    assert_eq!(
        (late.deadline, late.awaited, late.limit),
        (Deadline::Message, Awaited::Taken, limit)
    );
}

/// One call reads at most the contents of the ring, however much arrives.
#[test]
fn a_flood_ends_with_the_ring() {
    let mut pair = Pair::new(1200, 4096, 0);
    let mut driver = Driver::new();
    let mut positions = [[0.0; 3]; 1];
    for calls in 1..=10 {
        while pair.server.socket().can_send() {
            pair.server.socket().send_slice(STATUS).unwrap();
        }
        for _ in 0..10 {
            pair.turn();
        }
        let pending = poll(pair.driver.socket(), driver.receive(&mut positions));
        assert_eq!(pending, Ok(Poll::Pending));
        let traffic = driver.traffic();
        assert!(traffic.received <= calls * 1200, "{traffic:?}");
        assert!(!pair.driver.socket().can_recv(), "it could go on");
    }
}
