//! Deadlines of a driver.

use std::time::Duration;

use forcewire::{
    Awaited, Deadline, Driver, Event, Exchange, Header, Initialize, ProtocolError, Sink,
};

use crate::shims::{Peer, Role, Shim};
use crate::{DEADLINES, EVALUATION, HANDSHAKE, MESSAGE, late, late_after, over_each};
use forcewire_support::*;

/// A driver, its arrays, and its answers.
struct Fixture<S> {
    shim: S,
    driver: Driver,
    positions: [[f64; 3]; 3],
    answer: Answer,
}

fn fixture<S: Shim>(initialize: Initialize, peer: Peer) -> Fixture<S> {
    Fixture {
        shim: S::new(Role::Driver, DEADLINES, peer),
        driver: Driver::new().initialize(initialize),
        positions: [[0.0; 3]; 3],
        answer: answer(3, 2.0, b"{}"),
    }
}

impl<S: Shim> Fixture<S> {
    fn receive(&mut self) -> Result<Event, forcewire::TimedOut> {
        self.shim.run(self.driver.receive(&mut self.positions))
    }

    fn reply(&mut self) -> Result<(), forcewire::TimedOut> {
        let Answer {
            evaluation,
            forces,
            extras,
        } = &self.answer;
        self.shim.run(self.driver.reply(evaluation, forces, extras))
    }

    /// One more evaluation and EXIT follow, with the right numbers.
    #[track_caller]
    fn ends_well(mut self, said_before: &[&[u8]]) {
        assert_eq!(self.receive(), Ok(water().event()));
        assert_eq!(self.positions, water().positions.as_slice());
        assert_eq!(self.reply(), Ok(()));
        self.leaves_well(said_before);
    }

    #[track_caller]
    fn leaves_well(mut self, said_before: &[&[u8]]) {
        assert_eq!(self.receive(), Ok(Event::Exit));
        let said = [said_before.concat(), forceready(&self.answer)].concat();
        assert_eq!(self.shim.said(), said);
    }
}

fn evaluation() -> Vec<u8> {
    [&posdata(&water()), GETFORCE, EXIT].concat()
}

fn the_first_status_does_not_come<S: Shim>() {
    let peer = Peer::default().sends(25, STATUS).sends(26, evaluation());
    let mut it = fixture::<S>(Initialize::Never, peer);
    for at in [HANDSHAKE, 2 * HANDSHAKE] {
        let result = it.receive();
        late(&it.shim, at, result).says(
            Deadline::Handshake,
            Awaited::Command,
            "waited 10s for the server's first message: does it speak the i-PI protocol?",
        );
    }
    it.ends_well(&[READY]);
}

fn the_first_status_dribbles<S: Shim>() {
    let peer = Peer::default().dribbles(3, STATUS).sends(30, evaluation());
    let mut it = fixture::<S>(Initialize::Never, peer);
    let result = it.receive();
    // The byte that arrives in the same second is either received or not.
    let late = late(&it.shim, HANDSHAKE, result);
    let moved = late.0.moved;
    assert!((7..=8).contains(&moved), "{moved}");
    late.says_rest(Deadline::Handshake, None, moved, 12);
    it.ends_well(&[READY]);
}

fn init_stops_and_dribbles<S: Shim>() {
    let text = b"sigma:1.0, epsilon:0.1";
    let whole = init(4, text);
    for cut in [1, 12, 15, 20, 30] {
        let peer = Peer::default().sends(1, STATUS).sends(7, &whole[..cut]);
        // Either the text of INIT has been announced by then, or only its header.
        let (within, announced) = match cut {
            ..12 => (None, 12),
            12..20 => (Some(Header::Init), 20),
            _ => (Some(Header::Init), whole.len()),
        };
        let last = cut == 30;
        let peer = if last {
            peer.dribbles(8, &whole[cut..cut + 10])
                .sends(18, &whole[cut + 10..])
        } else {
            peer.sends(15, &whole[cut..])
        };
        let peer = peer.sends(20, STATUS).sends(20, evaluation());
        let mut it = fixture::<S>(Initialize::Once, peer);
        let result = it.receive();
        let late = late(&it.shim, 7 + MESSAGE, result);
        let moved = late.0.moved;
        assert!(
            moved == cut || last && (34..=35).contains(&moved),
            "{moved}"
        );
        late.says_rest(Deadline::Message, within, moved, announced);
        // The rest takes as long again, so it may need another wait.
        let event = loop {
            if let Ok(event) = it.receive() {
                break event;
            }
        };
        assert_eq!(event, Event::Init { replica: 4 });
        assert_eq!(it.driver.init_text(), text);
        it.ends_well(&[NEEDINIT, READY]);
    }
}

/// A text that arrives in several pieces.
fn a_long_init_stops<S: Shim>() {
    let whole = init(4, [b'x'; 2000]);
    for cut in [21, 20 + 767, 20 + 768, 20 + 1999] {
        let peer = Peer::default().sends(1, STATUS).sends(7, &whole[..cut]);
        let peer = peer.sends(15, &whole[cut..]);
        let peer = peer.sends(20, STATUS).sends(20, evaluation());
        let mut it = fixture::<S>(Initialize::Once, peer);
        let result = it.receive();
        late(&it.shim, 7 + MESSAGE, result).says_rest(
            Deadline::Message,
            Some(Header::Init),
            cut,
            2020,
        );
        assert_eq!(it.receive(), Ok(Event::Init { replica: 4 }));
        it.ends_well(&[NEEDINIT, READY]);
    }
}

fn a_batch_stops<S: Shim>() {
    let whole = posdata_batch(&[water(), water()]);
    // Header and count; two cells; positions.
    for (cut, announced) in [
        (14, 16),
        (17, 448),
        (160, 448),
        (161, 448),
        (305, 448),
        (447, 448),
    ] {
        let peer = Peer::default().sends(1, init(0, "batch_size:2"));
        let peer = peer.sends(2, &whole[..cut]).sends(9, &whole[cut..]);
        let mut shim = S::new(Role::Driver, DEADLINES, peer);
        let (mut cells, mut positions) = ([UNTOUCHED_CELL; 2], [[0.0; 3]; 6]);
        let mut driver = Driver::new();
        let mut receive = |shim: &mut S| shim.run(driver.receive_batch(&mut cells, &mut positions));
        assert_eq!(receive(&mut shim), Ok(Event::Init { replica: 0 }));
        let result = receive(&mut shim);
        late(&shim, 2 + MESSAGE, result).says_rest(
            Deadline::Message,
            Some(Header::PosData),
            cut,
            announced,
        );
        let told = receive(&mut shim);
        assert!(matches!(told, Ok(Event::Positions { structures: 2, .. })));
    }
}

/// A sink keeps nothing that could prove what has arrived, so its exchange is kept.
fn positions_for_a_sink_stop<S: Shim>() {
    #[derive(Default)]
    struct Atoms(Vec<[f64; 3]>);

    impl Sink for Atoms {
        type Real = f64;

        fn begin(&mut self, _: usize) -> bool {
            self.0.clear();
            true
        }

        fn put(&mut self, _: usize, atoms: &[[f64; 3]]) {
            self.0.extend(atoms);
        }
    }

    let whole = posdata(&atoms(40));
    for cut in [161, 160 + 767, 160 + 768, 1100] {
        for keeps in [true, false] {
            let peer = Peer::default().sends(1, &whole[..cut]);
            let mut shim = S::new(Role::Driver, DEADLINES, peer.sends(9, &whole[cut..]));
            let (mut driver, mut sink) = (Driver::new(), Atoms::default());
            let mut receive = driver.receive_into(&mut [], &mut sink);
            let result = shim.run(&mut receive);
            late(&shim, 1 + MESSAGE, result).says_rest(
                Deadline::Message,
                Some(Header::PosData),
                cut,
                whole.len(),
            );
            if !keeps {
                drop(receive);
                receive = driver.receive_into(&mut [], &mut sink);
                if cut >= 160 + 768 {
                    let error = ProtocolError::Unfinished(Header::PosData);
                    assert_eq!(receive.step().err(), Some(error));
                    continue;
                }
            }
            assert_eq!(shim.run(&mut receive), Ok(atoms(40).event()));
            drop(receive);
            assert_eq!(sink.0, atoms(40).positions);
        }
    }
}

/// Positions that have to be converted arrive in several pieces.
fn positions_of_single_precision_stop<S: Shim>() {
    let whole = posdata(&atoms(40));
    for cut in [161, 500, 160 + 767, 160 + 768, 1100] {
        let peer = Peer::default().sends(1, &whole[..cut]);
        let mut shim = S::new(Role::Driver, DEADLINES, peer.sends(9, &whole[cut..]));
        let mut positions = [[0.0_f32; 3]; 40];
        let mut driver = Driver::new();
        let result = shim.run(driver.receive(&mut positions));
        late(&shim, 1 + MESSAGE, result).says_rest(
            Deadline::Message,
            Some(Header::PosData),
            cut,
            whole.len(),
        );
        assert_eq!(
            shim.run(driver.receive(&mut positions)),
            Ok(atoms(40).event())
        );
    }
}

fn positions_stop<S: Shim>() {
    let whole = posdata(&water());
    for (cut, announced) in [(40, 160), (159, 160), (160, 232), (200, 232), (231, 232)] {
        let peer = Peer::default().sends(1, STATUS).sends(30, &whole[..cut]);
        let peer = peer.sends(39, &whole[cut..]);
        let mut it = fixture::<S>(Initialize::Never, peer.sends(39, [GETFORCE, EXIT].concat()));
        let result = it.receive();
        late(&it.shim, 30 + MESSAGE, result).says_rest(
            Deadline::Message,
            Some(Header::PosData),
            cut,
            announced,
        );
        it.ends_well(&[READY]);
    }
}

/// Single bytes from time to time are not enough, however long that continues.
fn positions_dribble<S: Shim>() {
    let whole = posdata(&water());
    let peer = Peer::default().sends(1, STATUS).sends(30, &whole[..170]);
    let peer = peer.dribbles(31, &whole[170..]);
    let mut it = fixture::<S>(
        Initialize::Never,
        peer.sends(200, [GETFORCE, EXIT].concat()),
    );
    // The rest takes 62 seconds, 13 times longer than allowed.
    let mut given_up = 0;
    let mut began = Duration::from_secs(30);
    let event = loop {
        match it.receive() {
            Ok(event) => break event,
            Err(error) => {
                given_up += 1;
                let late = late_after::<_, ()>(&it.shim, began, MESSAGE, Err(error));
                began = it.shim.now();
                let moved = late.0.moved;
                let by_then = 170 + (began.as_secs() - 30) as usize;
                assert!((by_then - 1..=by_then).contains(&moved), "{moved}");
                late.says_rest(Deadline::Message, Some(Header::PosData), moved, 232);
            }
        }
    };
    assert_eq!((event, given_up), (water().event(), 12));
    assert_eq!(it.positions, water().positions.as_slice());
    it.shim.pass(200 - it.shim.now().as_secs());
    assert_eq!(it.reply(), Ok(()));
    it.leaves_well(&[READY]);
}

/// A server may pause between two messages for any time up to the deadline.
fn the_next_message_does_not_come<S: Shim>() {
    let peer = Peer::default().sends(1, STATUS).sends(50, STATUS);
    let peer = peer.sends(105, STATUS).sends(170, evaluation());
    let mut it = fixture::<S>(Initialize::Never, peer);
    let result = it.receive();
    late(&it.shim, 105 + EVALUATION, result).says(
        Deadline::Evaluation,
        Awaited::Command,
        "waited 60s for the server's next message: is it still computing?",
    );
    it.ends_well(&[READY; 3]);
}

/// The driver's own computation does not count as the server's time.
fn forces_are_not_asked_for<S: Shim>() {
    let peer = Peer::default().sends(1, STATUS).sends(2, posdata(&water()));
    let peer = peer
        .sends(1070, STATUS)
        .sends(1071, [GETFORCE, EXIT].concat());
    let mut it = fixture::<S>(Initialize::Never, peer);
    assert_eq!(it.receive(), Ok(water().event()));
    it.shim.pass(1000 - 2);
    let result = it.reply();
    late(&it.shim, 1000 + EVALUATION, result).says(
        Deadline::Evaluation,
        Awaited::GetForce,
        "waited 60s for the server to ask for the forces",
    );
    assert_eq!(it.reply(), Ok(()));
    it.leaves_well(&[READY, HAVEDATA]);
}

fn forces_are_not_taken<S: Shim>() {
    let peer = Peer::default().sends(1, STATUS).sends(2, evaluation());
    let mut it = fixture::<S>(Initialize::Never, peer.deaf_until(2 + 2 * MESSAGE + 1));
    assert_eq!(it.receive(), Ok(water().event()));
    for at in [2 + MESSAGE, 2 + 2 * MESSAGE] {
        let result = it.reply();
        late(&it.shim, at, result).says_taken(Header::ForceReady);
    }
    assert_eq!(it.reply(), Ok(()));
    it.leaves_well(&[READY]);
}

/// An exchange without anything to wait for is never late, whatever exchange comes before or after.
#[test]
fn nothing_is_awaited_when_it_is_our_turn() {
    let mut driver = Driver::new();
    let mut positions = [[0.0; 3]; 3];
    let Answer {
        evaluation, forces, ..
    } = golden_answer();
    let reply = driver.reply(&evaluation, &forces, b"");
    assert_eq!(reply.waits_for().awaited, Awaited::Nothing);
    drop(reply);
    let mut receive = driver.receive(&mut positions);
    assert_eq!(receive.waits_for().awaited, Awaited::Command);
    let told = pour(&mut receive, &mut &*init(3, "k : 1")).0;
    assert_eq!(told, Ok(Event::Init { replica: 3 }));
    assert_eq!(receive.waits_for().awaited, Awaited::Nothing);
}

/// Every message arrives in time, but never the required one.
fn a_server_that_only_asks<S: Shim>() {
    const EXCHANGE: Duration = Duration::from_millis(100_250);
    let mut peer = Peer::default();
    for second in 1..300 {
        peer = peer.sends(second, STATUS);
    }
    let deadlines = DEADLINES.exchange(EXCHANGE);
    let mut shim = S::new(Role::Driver, deadlines, peer.sends(300, evaluation()));
    let (mut driver, mut positions) = (Driver::new(), [[0.0; 3]; 3]);
    let mut began = Duration::ZERO;
    let event = loop {
        match shim.run(driver.receive(&mut positions)) {
            Ok(event) => break event,
            Err(late) => {
                let (now, at) = (shim.now(), began + EXCHANGE);
                assert!(now >= at && now < at + 2 * S::LATE, "{now:?}, not {at:?}");
                began = now;
                assert_eq!(
                    (late.deadline, late.awaited, late.limit),
                    (Deadline::Exchange, Awaited::Command, EXCHANGE)
                );
                let text = "the exchange took longer than 100.250s and still waits for the server's next \
                            message: does it send the same again and again?";
                assert!(late.to_string().contains(text), "{late}");
            }
        }
    };
    assert_eq!((event, began.as_secs()), (water().event(), 200));
    // Another exchange has its own time.
    shim.pass(1000);
    let answer = answer(3, 2.0, b"");
    let reply = driver.reply(&answer.evaluation, &answer.forces, b"");
    assert_eq!(shim.run(reply), Ok(()));
}

over_each! {
    a_server_that_only_asks
    the_first_status_does_not_come
    the_first_status_dribbles
    init_stops_and_dribbles
    a_long_init_stops
    a_batch_stops
    positions_for_a_sink_stop
    positions_of_single_precision_stop
    positions_stop
    positions_dribble
    the_next_message_does_not_come
    forces_are_not_asked_for
    forces_are_not_taken
}
