//! Deadlines of a server.

use std::time::Duration;

use forcewire::{
    Awaited, Cell, Deadline, Deadlines, Exchange, Header, Mode, ProtocolError, Request, Server,
    Status, TimedOut,
};

use crate::shims::{Peer, Role, Shim};
use crate::{DEADLINES, EVALUATION, HANDSHAKE, MESSAGE, late, late_after, over_each};
use forcewire_support::*;

/// A server, its arrays, and the numbers that it should receive.
struct Fixture<S> {
    shim: S,
    server: Server,
    cell: Cell,
    positions: Vec<[f64; 3]>,
    forces: [[f64; 3]; 3],
    extras: [u8; 8],
}

fn fixture<S: Shim>(mode: Mode, peer: Peer) -> Fixture<S> {
    within(DEADLINES, mode, peer)
}

fn within<S: Shim>(deadlines: Deadlines, mode: Mode, peer: Peer) -> Fixture<S> {
    Fixture {
        shim: S::new(Role::Server, deadlines, peer),
        server: Server::new().mode(mode),
        cell: water().cell(),
        positions: water().positions,
        forces: [[0.0; 3]; 3],
        extras: [0; 8],
    }
}

/// The driver's bytes in the second `salt`.
fn reply(salt: f64) -> Vec<u8> {
    forceready(&answer(3, salt, b"{}"))
}

impl<S: Shim> Fixture<S> {
    fn evaluate(&mut self) -> Result<forcewire::Answer, TimedOut> {
        let request = Request::new(&self.cell, &self.positions);
        let evaluate = self
            .server
            .evaluate(request, &mut self.forces, &mut self.extras);
        self.shim.run(evaluate)
    }

    /// The evaluation ends with these numbers.
    #[track_caller]
    fn gets(&mut self, salt: f64) {
        let (got, expected) = (self.evaluate().unwrap(), answer(3, salt, b"{}"));
        assert_eq!(got.evaluation, expected.evaluation);
        assert_eq!(got.extras(&self.extras), b"{}");
        assert_eq!(self.forces, expected.forces.as_slice());
    }

    /// EXIT is sent and the driver closes. In total the server has sent these bytes.
    #[track_caller]
    fn ends_well(mut self, said: &[&[u8]]) {
        assert_eq!(self.shim.run(self.server.exit()), Ok(()));
        let expected = [said.concat(), EXIT.to_vec()].concat();
        assert_eq!(self.shim.said(), expected);
    }
}

fn request() -> Vec<u8> {
    [&posdata(&water()), GETFORCE, STATUS].concat()
}

const FIRST: &str =
    "waited 10s for the driver's answer to the first STATUS: does it speak the i-PI protocol?";

fn the_first_answer_does_not_come<S: Shim>() {
    for mode in [Mode::Classic, Mode::Consolidated, Mode::Strict] {
        let peer = Peer::default().sends(13, READY).closes(14);
        let mut it = fixture::<S>(mode, peer);
        // Whichever exchange asks.
        let result = it.evaluate();
        late(&it.shim, HANDSHAKE, result).says(Deadline::Handshake, Awaited::Status, FIRST);
        assert_eq!(
            it.shim.run(it.server.status()),
            Ok(Status::UP | Status::READY)
        );
        it.ends_well(&[STATUS]);
    }
}

/// Even then another message can be sent.
fn the_first_answer_never_comes<S: Shim>() {
    let mut it = fixture::<S>(Mode::Consolidated, Peer::default().closes(12));
    let result = it.shim.run(it.server.status());
    late(&it.shim, HANDSHAKE, result).says(Deadline::Handshake, Awaited::Status, FIRST);
    it.ends_well(&[STATUS]);
}

fn init_is_not_taken<S: Shim>() {
    let peer = Peer::default().sends(2, NEEDINIT).sends(10, READY);
    let peer = peer.sends(11, reply(1.0)).sends(11, READY).closes(15);
    let mut it = fixture::<S>(Mode::Consolidated, peer);
    let result = it.evaluate();
    late(&it.shim, 2 + MESSAGE, result).says(
        Deadline::Message,
        Awaited::Init,
        "waited 5s for the driver to take INIT: is it still running?",
    );
    it.gets(1.0);
    it.ends_well(&[STATUS, &init(0, " "), STATUS, &request()]);
}

/// The driver takes longer than allowed, twice. Each time the limit starts from the beginning.
fn forces_do_not_come<S: Shim>() {
    let ready = [reply(1.0).as_slice(), READY].concat();
    let peer = Peer::default().sends(1, READY).sends(130, ready);
    let peer = peer.sends(195, reply(2.0)).sends(195, READY).closes(198);
    let mut it = fixture::<S>(Mode::Consolidated, peer);
    for at in [1 + EVALUATION, 1 + 2 * EVALUATION] {
        let result = it.evaluate();
        let late = late(&it.shim, at, result);
        late.says(
            Deadline::Evaluation,
            Awaited::Forces,
            "waited 60s for the driver's forces: is it still computing?",
        );
    }
    it.gets(1.0);
    let result = it.evaluate();
    late(&it.shim, 130 + EVALUATION, result).says(Deadline::Evaluation, Awaited::Forces, "forces");
    it.gets(2.0);
    it.ends_well(&[STATUS, &request(), &request()]);
}

/// The time runs from the positions to the last byte of the forces, no matter what is sent in
/// between.
fn forces_do_not_come_after_havedata<S: Shim>() {
    for (mode, ahead) in [(Mode::Classic, STATUS), (Mode::Strict, &b""[..])] {
        let peer = Peer::default().sends(1, READY).sends(40, HAVEDATA);
        let peer = peer.sends(70, reply(1.0)).closes(74);
        let mut it = fixture::<S>(mode, peer);
        let result = it.evaluate();
        late(&it.shim, 1 + EVALUATION, result).says(
            Deadline::Evaluation,
            Awaited::Forces,
            "forces",
        );
        it.gets(1.0);
        it.ends_well(&[STATUS, &posdata(&water()), STATUS, GETFORCE, ahead]);
    }
}

/// The time for the forces starts with the positions, even if another call asks for them much
/// later.
fn forces_do_not_come_after_positions<S: Shim>() {
    for mode in [Mode::Classic, Mode::Consolidated] {
        let peer = Peer::default().sends(1, READY);
        let mut it = fixture::<S>(mode, peer);
        assert!(it.shim.run(it.server.status()).is_ok());
        let request = Request::new(&it.cell, &it.positions);
        assert_eq!(it.shim.run(it.server.send_positions(request)), Ok(()));
        it.shim.pass(20);
        let result = it
            .shim
            .run(it.server.get_forces(&mut it.forces, &mut it.extras));
        late(&it.shim, 1 + EVALUATION, result).says(
            Deadline::Evaluation,
            Awaited::Forces,
            "forces",
        );
    }
}

/// A server that gives up a driver sends EXIT to it.
fn forces_never_come<S: Shim>() {
    let peer = Peer::default().sends(1, READY).closes(64);
    let mut it = fixture::<S>(Mode::Consolidated, peer);
    let result = it.evaluate();
    late(&it.shim, 1 + EVALUATION, result).says(Deadline::Evaluation, Awaited::Forces, "forces");
    it.server.mark_timed_out();
    assert!(it.server.last_status().contains(Status::TIMEOUT));
    it.ends_well(&[STATUS, &request()]);
}

fn forces_stop<S: Shim>() {
    let whole = reply(1.0);
    // Header, energy and count; forces; virial and length; extras of two bytes.
    for (cut, announced) in [
        (3, 12),
        (12, 172),
        (30, 172),
        (100, 172),
        (171, 172),
        (173, 174),
    ] {
        let peer = Peer::default().sends(1, READY).sends(30, &whole[..cut]);
        let peer = peer.sends(38, &whole[cut..]).sends(38, READY).closes(40);
        let mut it = fixture::<S>(Mode::Consolidated, peer);
        let result = it.evaluate();
        late(&it.shim, 30 + MESSAGE, result).says_rest(
            Deadline::Message,
            (cut >= 12).then_some(Header::ForceReady),
            cut,
            announced,
        );
        it.gets(1.0);
        it.ends_well(&[STATUS, &request()]);
    }
}

/// A server that gives up a driver in the middle of its answer can still send EXIT.
fn forces_stop_for_ever<S: Shim>() {
    let peer = Peer::default()
        .sends(1, READY)
        .sends(30, &reply(1.0)[..100]);
    let mut it = fixture::<S>(Mode::Consolidated, peer.closes(36));
    let result = it.evaluate();
    late(&it.shim, 30 + MESSAGE, result).says_rest(
        Deadline::Message,
        Some(Header::ForceReady),
        100,
        172,
    );
    it.ends_well(&[STATUS, &request()]);
}

/// Nothing waits for the driver's later bytes.
fn it_goes_on_and_does_not_close<S: Shim>() {
    let whole = reply(1.0);
    let peer = Peer::default().sends(1, READY).sends(30, &whole[..100]);
    let peer = peer.sends(37, &whole[100..120]).closes(44);
    let mut it = fixture::<S>(Mode::Consolidated, peer);
    assert!(it.evaluate().is_err());
    let result = it.shim.run(it.server.exit());
    let text = "waited 5s for the driver to close the connection after EXIT";
    late(&it.shim, 30 + 2 * MESSAGE, result).says(Deadline::Message, Awaited::Close, text);
    assert_eq!(it.shim.run(it.server.exit()), Ok(()));
}

/// Extras of a batch report only their own lengths, including those that don't fit.
fn extras_of_a_batch_stop<S: Shim>() {
    let answers = [answer(3, 1.0, b"0123456789"), answer(3, 2.0, b"abcdef")];
    let whole = forceready_batch(&answers);
    // 4 + 10 and 4 + 6 bytes follow the virials; the first length is read with the virials.
    let first = whole.len() - 24;
    for cut in [
        first - 30,
        first + 2,
        first + 6,
        first + 13,
        first + 15,
        first + 20,
    ] {
        let peer = Peer::default().sends(1, NEEDINIT).sends(2, READY);
        let peer = peer.sends(30, &whole[..cut]).sends(38, &whole[cut..]);
        let mut it = fixture::<S>(Mode::Batched(2), peer.sends(38, READY).closes(40));
        let (cells, positions) = ([it.cell; 2], it.positions.repeat(2));
        let request = Request::batch(&cells, &positions);
        let (mut told, mut forces) = ([forcewire::Answer::default(); 2], [[0.0; 3]; 6]);
        let mut evaluate = |it: &mut Fixture<S>| {
            let extras = &mut it.extras;
            let server = &mut it.server;
            it.shim
                .run(server.evaluate_batch(request, &mut told, &mut forces, extras))
        };
        let result = evaluate(&mut it);
        let late = late(&it.shim, 30 + MESSAGE, result);
        if cut < first + 4 {
            late.says_rest(Deadline::Message, Some(Header::ForceReady), cut, first + 8);
        } else {
            late.says_open(Header::ForceReady, cut);
        }
        evaluate(&mut it).unwrap();
        assert_eq!(told[1].evaluation.energy, answers[1].evaluation.energy);
        assert_eq!(told[0].extras(&it.extras), b"01234567");
    }
}

/// Single bytes from time to time are too slow for the message, but not for the evaluation.
fn forces_dribble<S: Shim>() {
    let whole = reply(1.0);
    for (from, at, deadline) in [
        (30, 30 + MESSAGE, Deadline::Message),
        (58, 1 + EVALUATION, Deadline::Evaluation),
    ] {
        let peer = Peer::default().sends(1, READY).sends(from, &whole[..50]);
        let peer = peer.dribbles(from + 1, &whole[50..60]);
        let peer = peer.sends(from + 11, [&whole[60..], READY].concat());
        let mut it = fixture::<S>(Mode::Consolidated, peer.closes(90));
        let result = it.evaluate();
        let late = late(&it.shim, at, result);
        let (moved, by_then) = (late.0.moved, 50 + (at - from) as usize);
        assert!((by_then - 1..=by_then).contains(&moved), "{moved}");
        late.says_rest(deadline, Some(Header::ForceReady), moved, 172);
        while let Err(late) = it.evaluate() {
            assert!(late.is_midway());
        }
        let expected = answer(3, 1.0, b"{}");
        assert_eq!(it.forces, expected.forces.as_slice());
        // Some time must remain for EXIT.
        it.shim.pass(89 - it.shim.now().as_secs());
        it.ends_well(&[STATUS, &request()]);
    }
}

/// The answer to the STATUS after GETFORCE is missing, an hour after the last call.
fn it_is_not_ready_again<S: Shim>() {
    let peer = Peer::default().sends(1, READY).sends(2, reply(1.0));
    let peer = peer.sends(3608, READY).sends(3611, reply(2.0));
    let mut it = fixture::<S>(Mode::Consolidated, peer.sends(3611, READY).closes(3612));
    it.gets(1.0);
    it.shim.pass(3600 - 2);
    let result = it.evaluate();
    late(&it.shim, 3600 + MESSAGE, result).says(
        Deadline::Message,
        Awaited::Status,
        "waited 5s for the driver's answer to STATUS: is it still running?",
    );
    it.gets(2.0);
    it.ends_well(&[STATUS, &request(), &request()]);
}

fn it_does_not_close<S: Shim>() {
    let peer = Peer::default().sends(1, READY).closes(8);
    let mut it = fixture::<S>(Mode::Consolidated, peer);
    assert_eq!(
        it.shim.run(it.server.status()),
        Ok(Status::UP | Status::READY)
    );
    let result = it.shim.run(it.server.exit());
    late(&it.shim, 1 + MESSAGE, result).says(
        Deadline::Message,
        Awaited::Close,
        "waited 5s for the driver to close the connection after EXIT",
    );
    // EXIT is not sent a second time.
    it.ends_well(&[STATUS]);
}

fn positions_are_not_taken<S: Shim>() {
    let peer = Peer::default().sends(1, READY).deaf_until(2 * MESSAGE + 2);
    let peer = peer.sends(13, reply(1.0)).sends(13, READY).closes(16);
    let mut it = fixture::<S>(Mode::Consolidated, peer);
    for at in [1 + MESSAGE, 1 + 2 * MESSAGE] {
        let result = it.evaluate();
        late(&it.shim, at, result).says_taken(Header::PosData);
    }
    it.gets(1.0);
    it.ends_well(&[STATUS, &request()]);
}

/// The limit is the usual one for a driver that computes nothing because it does not read.
fn positions_are_never_taken<S: Shim>() {
    let mut deadlines = DEADLINES;
    deadlines.message = None;
    let peer = Peer::default().sends(1, READY).deaf_until(1000);
    let mut it = within::<S>(deadlines, Mode::Consolidated, peer);
    let result = it.evaluate();
    let late = late(&it.shim, 1 + EVALUATION, result).0;
    assert_eq!(
        (late.deadline, late.awaited, late.within),
        (Deadline::Evaluation, Awaited::Taken, Some(Header::PosData))
    );
}

/// Bytes that have arrived are never late, no matter how long nothing read them.
fn forces_that_came_while_nobody_looked<S: Shim>() {
    let peer = Peer::default().sends(1, READY).sends(500, reply(1.0));
    let peer = peer.sends(500, READY).closes(2100);
    let mut it = fixture::<S>(Mode::Consolidated, peer);
    assert!(it.shim.run(it.server.status()).is_ok());
    let request = Request::new(&it.cell, &it.positions);
    assert_eq!(it.shim.run(it.server.send_positions(request)), Ok(()));
    it.shim.pass(1000);
    let got = it
        .shim
        .run(it.server.get_forces(&mut it.forces, &mut it.extras));
    assert_eq!(
        got.map(|it| it.evaluation.energy),
        Ok(answer(3, 1.0, b"{}").evaluation.energy)
    );
    assert_eq!(it.shim.now().as_secs(), 1001);
}

/// A repeated call has its full limit, at any later time.
fn forces_are_waited_for_again_much_later<S: Shim>() {
    let peer = Peer::default().sends(1, READY);
    let peer = peer.sends(1100, reply(1.0)).sends(1100, READY).closes(1102);
    let mut it = fixture::<S>(Mode::Consolidated, peer);
    let result = it.evaluate();
    late(&it.shim, 1 + EVALUATION, result).says(Deadline::Evaluation, Awaited::Forces, "forces");
    it.shim.pass(1000 - it.shim.now().as_secs());
    let began = it.shim.now();
    let result = it.evaluate();
    late_after(&it.shim, began, EVALUATION, result).says(
        Deadline::Evaluation,
        Awaited::Forces,
        "forces",
    );
    it.gets(1.0);
    it.ends_well(&[STATUS, &request()]);
}

/// After a request is given up, its forces have the same limit as if they were wanted.
fn forces_that_are_discarded_do_not_come<S: Shim>() {
    for mode in [Mode::Classic, Mode::Consolidated] {
        let peer = Peer::default().sends(1, READY);
        let peer = match mode {
            Mode::Classic => peer.sends(150, HAVEDATA),
            _ => peer,
        };
        let peer = peer.sends(151, reply(1.0)).sends(151, READY);
        let peer = match mode {
            Mode::Classic => peer.sends(160, HAVEDATA),
            _ => peer,
        };
        let peer = peer.sends(160, reply(2.0)).sends(160, READY);
        let mut fixture = fixture::<S>(mode, peer.closes(162));
        let result = fixture.evaluate();
        let says = "forces";
        late(&fixture.shim, 1 + EVALUATION, result).says(
            Deadline::Evaluation,
            Awaited::Forces,
            says,
        );
        // The next request can't be made yet, and no time passes.
        fixture.positions[1][1] += 1.0;
        let request = Request::new(&fixture.cell, &fixture.positions);
        let (forces, extras) = (&mut fixture.forces, &mut fixture.extras);
        let mut evaluate = fixture.server.evaluate(request, forces, extras);
        assert_eq!(evaluate.step().err(), Some(ProtocolError::AnswerDue));
        drop(evaluate);
        let result = fixture.shim.run(fixture.server.discard());
        late(&fixture.shim, 1 + 2 * EVALUATION, result).says(
            Deadline::Evaluation,
            Awaited::Forces,
            says,
        );
        assert_eq!(fixture.shim.run(fixture.server.discard()), Ok(()));
        fixture.gets(2.0);
        assert_eq!(fixture.shim.run(fixture.server.exit()), Ok(()));
    }
}

/// With limits of zero, available bytes are still received, and bytes are sent.
fn limits_of_zero_take_what_is_there<S: Shim>() {
    let zero = Duration::ZERO;
    let deadlines = Deadlines::NONE
        .message(zero)
        .evaluation(zero)
        .exchange(zero);
    let peer = Peer::default().sends(0, READY).sends(5, reply(1.0));
    let mut it = within::<S>(deadlines, Mode::Strict, peer.closes(9));
    let mut calls = 0;
    let status = loop {
        match it.shim.run(it.server.status()) {
            Ok(status) => break status,
            Err(late) => assert_eq!(late.limit, zero),
        }
        calls += 1;
        assert!(calls < 10, "the answer is there");
    };
    assert_eq!(status, Status::UP | Status::READY);
    assert!(it.evaluate().is_err());
    assert!(
        it.shim.now() < Duration::from_secs(1),
        "{:?}",
        it.shim.now()
    );
}

over_each! {
    forces_that_came_while_nobody_looked
    forces_are_waited_for_again_much_later
    forces_that_are_discarded_do_not_come
    limits_of_zero_take_what_is_there
    the_first_answer_does_not_come
    the_first_answer_never_comes
    init_is_not_taken
    forces_do_not_come
    forces_do_not_come_after_havedata
    forces_do_not_come_after_positions
    forces_never_come
    forces_stop
    forces_stop_for_ever
    it_goes_on_and_does_not_close
    extras_of_a_batch_stop
    forces_dribble
    it_is_not_ready_again
    it_does_not_close
    positions_are_not_taken
    positions_are_never_taken
}
