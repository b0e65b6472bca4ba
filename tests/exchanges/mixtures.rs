//! Numbers of two requests never mix in one message, and forces never answer positions other than
//! those from which they were computed.
//!
//! Each test is a mixture that an earlier version produced. The tests use only machines and arrays,
//! so that they can be run with that version.

use forcewire::{Cell, Driver, Header, Initialize, Mode, ProtocolError, Quantity, Request, Server};

use forcewire_support::*;

/// A server whose driver is ready.
fn ready(mode: Mode) -> Server {
    let mut server = Server::new().mode(mode);
    let (status, sent) = pour(server.status(), &mut &*READY);
    assert_eq!((status.is_ok(), sent.as_slice()), (true, STATUS));
    server
}

/// A server whose driver needs INIT.
fn needs_init() -> Server {
    let mut server = Server::new();
    let (status, _) = pour(server.status(), &mut &*NEEDINIT);
    assert!(status.is_ok());
    server
}

/// A driver that has received these structures, of three atoms each, and has been asked for their
/// forces.
fn asked(structures: &[Structure]) -> Driver {
    let (init, posdata, initialize) = match structures {
        [structure] => (vec![], posdata(structure), Initialize::Never),
        _ => {
            let init = init(0, format!("batch_size:{}", structures.len()));
            (init, posdata_batch(structures), Initialize::Once)
        }
    };
    let mut driver = Driver::new().initialize(initialize);
    let all = [init, posdata].concat();
    let mut inbox = all.as_slice();
    while !inbox.is_empty() {
        let (mut cells, mut positions) = ([UNTOUCHED_CELL; 2], [[UNTOUCHED; 3]; 6]);
        let receive = driver.receive_batch(&mut cells, &mut positions);
        assert!(pour(receive, &mut inbox).0.is_ok());
    }
    driver
}

/// The positions of another system than [`water`], of the same size.
fn other() -> Structure {
    cube(vec![[5.5, 6.5, 7.5], [8.5, 9.5, 10.5], [11.5, 12.5, 13.5]])
}

// ---- a driver's mixtures ----

#[test]
fn half_of_the_positions_in_each_of_two_arrays() {
    // None of these numbers shares a byte with the untouched array.
    let number = |i: usize| (i as f64 + 0.5) / 7.0;
    let structure = cube((0..3).map(|i| [i, i + 3, i + 6].map(number)).collect());
    let message = posdata(&structure);
    for half in 161..message.len() {
        let mut driver = Driver::new();
        let (mut first, mut second) = ([[UNTOUCHED; 3]; 3], [[UNTOUCHED; 3]; 3]);
        let mut inbox = message.as_slice();
        pour_at_most(driver.receive(&mut first), &mut inbox, half);
        let (result, _) = pour(driver.receive(&mut second), &mut inbox);
        if first == [[UNTOUCHED; 3]; 3] {
            // A big-endian machine converts the first numbers once all three atoms have arrived.
            assert_eq!(result, Ok(structure.event()), "{half}");
            assert_eq!(second, *structure.positions, "{half}");
            continue;
        }
        let error = ProtocolError::Unfinished(Header::PosData);
        assert_eq!(result, Err(error), "{half}");
        assert_eq!(second, [[UNTOUCHED; 3]; 3], "{half}");
        let (result, _) = pour(driver.receive(&mut first), &mut inbox);
        assert_eq!(result, Ok(structure.event()), "{half}");
        assert_eq!(first, *structure.positions, "{half}");
    }
}

#[test]
fn a_batch_cut_inside_its_cells() {
    let batch = [water(), golden_cell(other())];
    let message = posdata_batch(&batch);
    // Inside the second cell, and after it.
    for cut in [160, 161, 300, 304] {
        let mut driver = Driver::new().initialize(Initialize::Once);
        let init = init(0, "batch_size:2");
        assert!(
            pour(driver.receive::<f64>(&mut []), &mut init.as_slice())
                .0
                .is_ok()
        );
        let mut inbox = message.as_slice();
        let (mut cells, mut positions) = ([UNTOUCHED_CELL; 2], [[UNTOUCHED; 3]; 6]);
        pour_at_most(
            driver.receive_batch(&mut cells, &mut positions),
            &mut inbox,
            cut,
        );
        let (mut others, mut unused) = ([UNTOUCHED_CELL; 2], [[UNTOUCHED; 3]; 6]);
        let again = driver.receive_batch(&mut others, &mut unused);
        let error = ProtocolError::Unfinished(Header::PosData);
        assert_eq!(pour(again, &mut inbox).0, Err(error), "{cut}");
        assert_eq!(others, [UNTOUCHED_CELL; 2], "{cut}");
        let again = driver.receive_batch(&mut cells, &mut positions);
        assert!(pour(again, &mut inbox).0.is_ok(), "{cut}");
        assert_eq!(cells, batch.each_ref().map(Structure::cell), "{cut}");
        let expected = [water().positions, other().positions].concat();
        assert_eq!(positions, *expected, "{cut}");
    }
}

/// These atoms in a triclinic cell.
fn golden_cell(structure: Structure) -> Structure {
    Structure {
        positions: structure.positions,
        ..golden()
    }
}

#[test]
fn positions_are_not_returned_again_into_an_array_that_is_too_short() {
    let mut driver = Driver::new();
    let (mut first, mut shorter) = ([[0.0; 3]; 3], [[0.0; 3]; 1]);
    let message = posdata(&water());
    let (result, _) = pour(driver.receive(&mut first), &mut message.as_slice());
    assert_eq!(result, Ok(water().event()));
    for _ in 0..2 {
        let (result, _) = pour(driver.receive(&mut shorter), &mut &b""[..]);
        assert_eq!(result, Err(ProtocolError::ReplyDue));
    }
    let answer = answer(3, 1.0, b"");
    let reply = driver.reply(&answer.evaluation, &answer.forces, b"");
    let (result, sent) = pour(reply, &mut &*GETFORCE);
    assert_eq!((result, sent), (Ok(()), forceready(&answer)));
}

#[test]
fn nan_in_a_reply_that_is_made_anew_before_its_first_byte() {
    let right = answer(3, 1.0, b"{}");
    for moved in 0..=12 {
        let mut driver = asked(&[water()]);
        let reply = driver.reply(&right.evaluation, &right.forces, &right.extras);
        let mut inbox = GETFORCE;
        pour_at_most(reply, &mut inbox, moved);
        let mut wrong = right.clone();
        wrong.forces[1][1] = f64::NAN;
        let reply = driver.reply(&wrong.evaluation, &wrong.forces, &wrong.extras);
        let error = ProtocolError::NotFinite(Quantity::Forces);
        assert_eq!(
            pour(reply, &mut inbox),
            (Err(error), vec![]),
            "{moved} bytes"
        );
        let reply = driver.reply(&right.evaluation, &right.forces, &right.extras);
        let sent = (Ok(()), forceready(&right));
        assert_eq!(pour(reply, &mut inbox), sent, "{moved} bytes");
    }
}

#[test]
fn nan_in_a_reply_that_is_made_anew_after_its_first_byte() {
    let right = answer(3, 1.0, b"{}");
    let message = forceready(&right);
    for left in 1..message.len() {
        for number in 0..4 {
            let mut driver = asked(&[water()]);
            let reply = driver.reply(&right.evaluation, &right.forces, &right.extras);
            let mut inbox = GETFORCE;
            let mut sent = pour_at_most(reply, &mut inbox, 12 + left);
            let mut wrong = right.clone();
            match number {
                0 => wrong.evaluation.energy = f64::NAN,
                1 => wrong.evaluation.virial.0[2][2] = f64::INFINITY,
                2 => wrong.forces[0][0] = f64::NAN,
                _ => wrong.forces[2][2] = f64::NEG_INFINITY,
            }
            let reply = driver.reply(&wrong.evaluation, &wrong.forces, &wrong.extras);
            let error = ProtocolError::Unfinished(Header::ForceReady);
            assert_eq!(pour(reply, &mut inbox), (Err(error), vec![]), "{left}");
            let reply = driver.reply(&right.evaluation, &right.forces, &right.extras);
            let (result, rest) = pour(reply, &mut inbox);
            sent.extend(rest);
            assert_eq!((result, &sent), (Ok(()), &message), "{left}");
        }
    }
}

#[test]
fn a_reply_begun_with_some_forces_is_not_continued_with_others() {
    // With 3 atoms everything is in the machine when the first byte is sent; 100 atoms are sent
    // from their array.
    for natoms in [3, 100] {
        let (a, b) = (answer(natoms, 1.0, b"{}"), answer(natoms, 2.0, b"{}"));
        let message = forceready(&a);
        for left in 1..message.len() {
            let mut driver = Driver::new();
            let mut positions = vec![[0.0; 3]; natoms];
            let posdata = posdata(&atoms(natoms));
            let (event, _) = pour(driver.receive(&mut positions), &mut posdata.as_slice());
            assert!(event.is_ok());
            let mut inbox = GETFORCE;
            let reply = driver.reply(&a.evaluation, &a.forces, &a.extras);
            let mut sent = pour_at_most(reply, &mut inbox, 12 + left);
            let reply = driver.reply(&b.evaluation, &b.forces, &b.extras);
            let error = ProtocolError::Unfinished(Header::ForceReady);
            assert_eq!(pour(reply, &mut inbox), (Err(error), vec![]), "{left}");
            let reply = driver.reply(&a.evaluation, &a.forces, &a.extras);
            let (result, rest) = pour(reply, &mut inbox);
            sent.extend(rest);
            assert!((result, &sent) == (Ok(()), &message), "{left}");
        }
    }
}

// ---- a server's mixtures ----

/// The messages of a ready driver for an evaluation, and the bytes of both sides together.
fn evaluation(mode: Mode, answer: &Answer) -> (Vec<u8>, usize) {
    let (sent, answer) = (posdata(&water()).len() + GETFORCE.len(), forceready(answer));
    match mode {
        Mode::Consolidated => {
            let all = sent + STATUS.len() + answer.len();
            (answer, all)
        }
        _ => {
            let all = sent + 2 * STATUS.len() + HAVEDATA.len() + answer.len();
            ([HAVEDATA, &answer].concat(), all)
        }
    }
}

fn evaluate_b_after_a(mode: Mode, in_the_same_array: bool) {
    let answer = answer(3, 1.0, b"{}");
    let (replies, all) = evaluation(mode, &answer);
    for moved in 1..all {
        let mut server = ready(mode);
        let (cell, mut positions) = (water().cell(), water().positions);
        let (mut forces, mut extras) = ([[UNTOUCHED; 3]; 3], [0; 8]);
        let mut inbox = replies.as_slice();
        let a = Request::new(&cell, &positions);
        let evaluate = server.evaluate(a, &mut forces, &mut extras);
        pour_at_most(evaluate, &mut inbox, moved);
        let before = inbox.len();
        let others = other().positions;
        if in_the_same_array {
            positions.copy_from_slice(&others);
        }
        let b = if in_the_same_array {
            Request::new(&cell, &positions)
        } else {
            Request::new(&cell, &others)
        };
        let (mut forces_of_b, mut extras_of_b) = ([[UNTOUCHED; 3]; 3], [0; 8]);
        let evaluate = server.evaluate(b, &mut forces_of_b, &mut extras_of_b);
        let (result, sent) = pour(evaluate, &mut inbox);
        assert_eq!(result, Err(ProtocolError::AnswerDue), "{moved}");
        assert_eq!((sent.len(), inbox.len()), (0, before), "{moved}");
        assert_eq!(forces_of_b, [[UNTOUCHED; 3]; 3], "{moved}");
        // The answer to A, for a caller that still wants it.
        let (result, _) = pour(server.get_forces(&mut forces, &mut extras), &mut inbox);
        assert_eq!(
            result.map(|got| got.evaluation.energy),
            Ok(answer.evaluation.energy)
        );
        assert_eq!(forces, *answer.forces, "{moved}");
    }
}

#[test]
fn evaluate_b_after_evaluate_a_in_a_classic_conversation() {
    evaluate_b_after_a(Mode::Classic, false);
}

#[test]
fn evaluate_b_after_evaluate_a_in_a_consolidated_conversation() {
    evaluate_b_after_a(Mode::Consolidated, false);
}

#[test]
fn evaluate_b_in_the_array_of_a_in_a_classic_conversation() {
    evaluate_b_after_a(Mode::Classic, true);
}

#[test]
fn evaluate_b_in_the_array_of_a_in_a_consolidated_conversation() {
    evaluate_b_after_a(Mode::Consolidated, true);
}

#[test]
fn two_send_positions() {
    for mode in [Mode::Classic, Mode::Consolidated, Mode::Strict] {
        let status = match mode {
            Mode::Consolidated => [GETFORCE, STATUS].concat(),
            _ => STATUS.to_vec(),
        };
        let all = [posdata(&water()), status].concat();
        let cell = water().cell();
        let (a, b) = (water().positions, other().positions);
        for left in 1..=all.len() {
            let mut server = ready(mode);
            let send = server.send_positions(Request::new(&cell, &a));
            let mut sent = pour_at_most(send, &mut &b""[..], left);
            let send = server.send_positions(Request::new(&cell, &b));
            let error = ProtocolError::Unfinished(Header::PosData);
            assert_eq!(pour(send, &mut &b""[..]), (Err(error), vec![]), "{left}");
            let send = server.send_positions(Request::new(&cell, &a));
            let (result, rest) = pour(send, &mut &b""[..]);
            sent.extend(rest);
            assert_eq!((result, &sent), (Ok(()), &all), "{left}");
            // The exchange has ended, so another one would need another message.
            for positions in [&a, &b] {
                let send = server.send_positions(Request::new(&cell, positions));
                let error = ProtocolError::InvalidStatus {
                    command: Header::PosData,
                    status: forcewire::Status::UP | forcewire::Status::BUSY,
                };
                assert_eq!(pour(send, &mut &b""[..]), (Err(error), vec![]));
            }
        }
    }
}

#[test]
fn initialize_with_another_replica_or_text() {
    let all = [&init(7, "k : 7"), STATUS].concat();
    for left in 1..=all.len() {
        for (replica, text) in [(3, "k : 7"), (7, "k : 3"), (7, "k : 77"), (7, "")] {
            let mut server = needs_init();
            let mut sent = pour_at_most(server.initialize(7, b"k : 7"), &mut &b""[..], left);
            let initialize = server.initialize(replica, text.as_bytes());
            let error = ProtocolError::Unfinished(Header::Init);
            assert_eq!(
                pour(initialize, &mut &b""[..]),
                (Err(error), vec![]),
                "{left}"
            );
            let (result, rest) = pour(server.initialize(7, b"k : 7"), &mut &b""[..]);
            sent.extend(rest);
            assert_eq!((result, &sent), (Ok(()), &all), "{left}");
        }
    }
}

/// INIT names the replica of the request, even in the middle of INIT.
#[test]
fn evaluate_for_another_replica_in_the_middle_of_init() {
    let all = [&init(7, "k : 7"), STATUS].concat();
    let (cell, positions): (Cell, _) = (water().cell(), water().positions);
    for left in 1..all.len() {
        let mut server = needs_init();
        let request = Request::new(&cell, &positions).init(b"k : 7");
        let (mut forces, mut extras) = ([[0.0; 3]; 3], []);
        let evaluate = server.evaluate(request.replica(7), &mut forces, &mut extras);
        let mut sent = pour_at_most(evaluate, &mut &b""[..], left);
        let evaluate = server.evaluate(request.replica(3), &mut forces, &mut extras);
        let error = ProtocolError::Unfinished(Header::Init);
        assert_eq!(pour(evaluate, &mut &b""[..]).0, Err(error), "{left}");
        let evaluate = server.evaluate(request.replica(7), &mut forces, &mut extras);
        sent.extend(pour_at_most(evaluate, &mut &b""[..], all.len() - left));
        assert_eq!(sent, all, "{left}");
    }
}

/// A longer buffer would seem to hold extras that were dropped before.
#[test]
fn extras_in_a_buffer_that_grows() {
    let answer = answer(3, 1.0, br#"{"dipole":[1.0,2.0,3.0]}"#);
    let (replies, all) = evaluation(Mode::Consolidated, &answer);
    for left in 1..24 {
        let (cell, positions) = (water().cell(), water().positions);
        let request = Request::new(&cell, &positions);
        let mut server = ready(Mode::Consolidated);
        let (mut forces, mut short, mut long) = ([[0.0; 3]; 3], [b'#'; 11], [b'#'; 64]);
        let mut inbox = replies.as_slice();
        let evaluate = server.evaluate(request, &mut forces, &mut short);
        pour_at_most(evaluate, &mut inbox, all - left);
        long[..11].copy_from_slice(&short);
        let (result, _) = pour(server.get_forces(&mut forces, &mut long), &mut inbox);
        let unfinished = ProtocolError::Unfinished(Header::ForceReady);
        assert_eq!(result, Err(unfinished), "{left}");
        let evaluate = server.evaluate(request, &mut forces, &mut short);
        let (result, _) = pour(evaluate, &mut inbox);
        assert_eq!(result.map(|got| got.extras_sent()), Ok(24), "{left}");
        assert_eq!(short, answer.extras[..11], "{left}");
    }
}

/// The content of INIT belongs to the positions that follow.
#[test]
fn positions_after_the_init_of_another_replica() {
    let text = b"model A";
    let asked = [init(3, "model A"), STATUS.to_vec(), posdata(&water())].concat();
    let answer = [READY, &forceready(&answer(3, 1.0, b""))].concat();
    let all = asked.len() + GETFORCE.len() + STATUS.len() + answer.len();
    for moved in 1..all {
        for (replica, other) in [(7, &text[..]), (3, b"model B")] {
            let (cell, positions) = (water().cell(), water().positions);
            let request = Request::new(&cell, &positions);
            let mut server = needs_init();
            let mut forces = [[0.0; 3]; 3];
            let mut inbox = answer.as_slice();
            let first = request.replica(3).init(text);
            let evaluate = server.evaluate(first, &mut forces, &mut []);
            let mut sent = pour_at_most(evaluate, &mut inbox, moved);
            let second = request.replica(replica).init(other);
            let evaluate = server.evaluate(second, &mut forces, &mut []);
            let (result, said) = pour(evaluate, &mut inbox);
            let refused = matches!(
                result,
                Err(ProtocolError::Unfinished(_) | ProtocolError::AnswerDue)
            );
            assert!(refused && said.is_empty(), "{moved} {result:?}");
            let evaluate = server.evaluate(first, &mut forces, &mut []);
            let (result, rest) = pour(evaluate, &mut inbox);
            assert_eq!(
                result.map(|got| got.evaluation.energy),
                Ok(-1.25),
                "{moved}"
            );
            sent.extend(rest);
            assert!(sent.starts_with(&asked), "{moved}");
        }
    }
}

/// After an evaluation that stopped between INIT and POSDATA, `send_positions` can send the
/// positions too.
#[test]
fn send_positions_after_the_init_of_another_replica() {
    let (cell, positions) = (water().cell(), water().positions);
    let request = Request::new(&cell, &positions).init(b"model A");
    let asked = init(3, "model A").len() + STATUS.len();
    let mut server = needs_init();
    let mut forces = [[0.0; 3]; 3];
    let evaluate = server.evaluate(request.replica(3), &mut forces, &mut []);
    pour_at_most(evaluate, &mut &b""[..], asked);
    pour(server.status(), &mut &*READY).0.unwrap();
    let (result, said) = pour(server.send_positions(request.replica(5)), &mut &b""[..]);
    assert_eq!(
        (result, said.len()),
        (Err(ProtocolError::Unfinished(Header::Init)), 0)
    );
    let (result, said) = pour(server.send_positions(request.replica(3)), &mut &b""[..]);
    assert_eq!(result, Ok(()));
    assert!(said.starts_with(&posdata(&water())));
}

/// If the arguments of `evaluate` are wrong, it fails before asking the driver for anything.
#[test]
fn a_wrong_request_is_refused_before_status_and_init() {
    let (cell, positions) = (water().cell(), water().positions);
    let nan = [[f64::NAN; 3]; 3];
    let flat = Cell::orthorhombic([20.0, 20.0, 0.0]);
    let length = |quantity, given, expected| ProtocolError::WrongLength {
        quantity,
        given,
        expected,
    };
    let wrong = [
        (
            Request::new(&cell, &positions),
            2,
            length(Quantity::Forces, 2, 3),
        ),
        (
            Request::new(&cell, &nan),
            3,
            ProtocolError::NotFinite(Quantity::Positions),
        ),
        (
            Request::new(&flat, &positions),
            3,
            ProtocolError::SingularCell,
        ),
    ];
    for mode in [
        Mode::Classic,
        Mode::Consolidated,
        Mode::Strict,
        Mode::Batched(2),
    ] {
        for (request, room, error) in &wrong {
            let mut forces = [[0.0; 3]; 3];
            for mut server in [Server::new(), needs_init()] {
                server = server.mode(mode);
                let evaluate = server.evaluate(*request, &mut forces[..*room], &mut []);
                assert_eq!(
                    pour(evaluate, &mut &*READY),
                    (Err(*error), vec![]),
                    "{mode:?}"
                );
            }
        }
    }
}

/// An evaluation keeps the messages of the mode in which it began.
#[test]
fn a_mode_that_changes_in_the_middle() {
    let answer = answer(3, 1.0, b"");
    let modes = [Mode::Classic, Mode::Consolidated, Mode::Strict];
    for mode in modes {
        let (replies, all) = evaluation(mode, &answer);
        let moves = 1..all - STATUS.len();
        for (moved, other) in moves.flat_map(|moved| modes.map(|other| (moved, other))) {
            let (cell, positions) = (water().cell(), water().positions);
            let request = Request::new(&cell, &positions);
            let mut server = ready(mode);
            let mut forces = [[0.0; 3]; 3];
            let mut inbox = replies.as_slice();
            let evaluate = server.evaluate(request, &mut forces, &mut []);
            pour_at_most(evaluate, &mut inbox, moved);
            server = server.mode(other);
            let evaluate = server.evaluate(request, &mut forces, &mut []);
            let (result, _) = pour(evaluate, &mut inbox);
            let energy = result.map(|got| got.evaluation.energy);
            assert_eq!(
                energy,
                Ok(answer.evaluation.energy),
                "{mode:?} {other:?} {moved}"
            );
        }
    }
}
