//! Drivers that are silent, slow, wrong or gone: each is dropped, and its job goes to another.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use forcewire::net::{Address, LeftReason, PoolEvent, PoolOptions};
use forcewire::{Deadline, Deadlines, Header, Initialize, Mode, ProtocolError, Quantity};

use crate::peers::{ODD, Server, check, computing, good, job, plausible, positions, truth};
use forcewire_support::layout::{ForceReady, HEADER, Posdata, put_integer, put_real};
use forcewire_support::{NEEDINIT, READY, STATUS, forceready, init};

const SHORT: Duration = Duration::from_millis(300);

/// A deadline before which everything else in these tests is done, even on a busy machine.
const LONG: Duration = Duration::from_secs(3);

/// Drivers that connect after a lost one don't have to wait.
fn options() -> PoolOptions {
    let deadlines = Deadlines::NONE
        .handshake(SHORT)
        .message(SHORT)
        .evaluation(2 * SHORT);
    PoolOptions::default()
        .deadlines(deadlines)
        .hold_back(Duration::ZERO)
}

/// While something is wrong with one driver, a good one continues, before the other's deadline.
fn unharmed(server: &mut Server, natoms: usize) {
    server.told.clear();
    for salt in 1..=20 {
        server.pool.submit(job(natoms, salt)).unwrap();
        let answer = server.answer();
        let salt = usize::try_from(answer.job.replica).unwrap();
        check(&answer, natoms, salt);
    }
    assert_eq!(server.told, [""; 0], "the other was waited for");
}

fn is_late(why: &LeftReason, expected: Deadline, limit: Duration) {
    match why {
        LeftReason::Late(it) => assert_eq!((it.deadline, it.limit), (expected, limit)),
        why => panic!("{why:?}"),
    }
}

#[test]
fn a_connection_that_says_nothing() {
    let deadlines = options().deadlines.handshake(LONG).message(2 * LONG);
    let mut server = Server::new(options().deadlines(deadlines));
    let mut silent = server.play();
    let good = server.good();
    server.joined(1);
    unharmed(&mut server, 2);
    let (why, requeued) = server.left();
    is_late(&why, Deadline::Handshake, LONG);
    assert_eq!(requeued, 0);
    silent.hears(STATUS);
    silent.hears_the_end();
    server.pool.close(SHORT).unwrap();
    assert_eq!(good.join().unwrap(), 20);
}

/// A driver receives a job and does this with it; then a good one takes over.
fn replaced(natoms: usize, bad: impl FnOnce(crate::peers::Played) + Send + 'static) -> LeftReason {
    let mut server = Server::new(options());
    computing(&server, natoms, bad);
    server.joined(1);
    let ticket = server.pool.submit(job(natoms, 3)).unwrap();
    let (why, requeued) = server.left();
    assert_eq!(requeued, 1);
    assert_eq!((server.pool.queued(), server.pool.running()), (1, 0));
    let good = server.good();
    let answer = server.answer();
    check(&answer, natoms, 3);
    assert_eq!((answer.ticket, answer.attempts), (ticket, 2));
    server.pool.close(SHORT).unwrap();
    assert_eq!(good.join().unwrap(), 1);
    why
}

#[test]
fn one_that_computes_for_ever() {
    let why = replaced(2, |driver| {
        thread::sleep(4 * SHORT);
        drop(driver);
    });
    is_late(&why, Deadline::Evaluation, 2 * SHORT);
}

/// The driver answers all the time but computes nothing.
#[test]
fn one_that_wants_init_again_and_again() {
    let mut server = Server::new(options());
    let mut driver = server.play();
    let asks = thread::spawn(move || {
        driver.hears(STATUS);
        driver.says(NEEDINIT);
        let init = [&init(3, " ")[..], STATUS].concat();
        let mut heard = vec![0; init.len()];
        while driver.0.read_exact(&mut heard).is_ok() && driver.0.write_all(NEEDINIT).is_ok() {
            assert_eq!(
                heard.escape_ascii().to_string(),
                init.escape_ascii().to_string()
            );
        }
    });
    server.joined(1);
    server.pool.submit(job(2, 3)).unwrap();
    let (why, requeued) = server.left();
    let error = ProtocolError::UnexpectedAnswer {
        answer: Header::NeedInit,
        to: Header::Init,
    };
    assert!(
        matches!(why, LeftReason::Protocol(it) if it == error),
        "{why}"
    );
    assert_eq!(requeued, 1);
    asks.join().unwrap();
}

#[test]
fn one_that_stalls_within_its_answer() {
    for at in [1, 12, 30, 100] {
        let why = replaced(2, move |mut driver| {
            driver.says(&plausible(2)[..at]);
            thread::sleep(4 * SHORT);
        });
        is_late(&why, Deadline::Message, SHORT);
    }
}

#[test]
fn one_that_dribbles_does_not_get_more_time_for_each_byte() {
    let why = replaced(2, |mut driver| {
        for byte in plausible(2) {
            if driver.0.write_all(&[byte]).is_err() {
                return;
            }
            thread::sleep(SHORT / 10);
        }
        panic!("no one minds");
    });
    is_late(&why, Deadline::Message, SHORT);
}

#[test]
fn one_that_is_done_and_says_nothing_more() {
    // The driver's forces count, and the pool waits for its next answer.
    let mut server = Server::new(options());
    computing(&server, 2, |mut driver| {
        driver.says(forceready(&truth(&positions(2, 3))));
        thread::sleep(4 * SHORT);
    });
    server.pool.submit(job(2, 3)).unwrap();
    check(&server.answer(), 2, 3);
    let (why, requeued) = server.left();
    is_late(&why, Deadline::Message, SHORT);
    assert_eq!(requeued, 0);
}

#[test]
fn one_that_takes_nothing_of_what_it_is_sent() {
    let natoms = 100_000;
    let mut server = Server::new(options());
    let mut deaf = server.play();
    deaf.hears(STATUS.get(..0).unwrap());
    let player = thread::spawn(move || {
        deaf.hears(STATUS);
        deaf.says(READY);
        thread::sleep(4 * SHORT);
    });
    server.joined(1);
    server.pool.submit(job(natoms, 3)).unwrap();
    let (why, requeued) = server.left();
    is_late(&why, Deadline::Message, SHORT);
    assert_eq!(requeued, 1);
    player.join().unwrap();
}

#[test]
fn one_that_leaves_at_any_byte_of_its_answer() {
    let whole = plausible(1);
    let mut server = Server::new(options());
    let mut lost = 0;
    for at in 0..whole.len() {
        let begun = whole[..at].to_vec();
        computing(&server, 1, move |mut driver| driver.says(begun));
        server.pool.submit(job(1, at)).unwrap();
        let (why, requeued) = server.left();
        assert_eq!(requeued, 1);
        lost += 1;
        let expected = match at {
            0 => ProtocolError::Unanswered(Header::GetForce),
            _ => ProtocolError::EndOfStream {
                within: (at >= 12).then_some(Header::ForceReady),
                after: at,
            },
        };
        match why {
            LeftReason::Protocol(error) => assert_eq!(error, expected),
            // The end was a reset, because not everything sent to it had been read.
            why => panic!("{why:?}"),
        }
    }
    assert_eq!(server.pool.queued(), lost);
    let _good = server.good();
    for _ in 0..lost {
        let answer = server.answer();
        let salt = usize::try_from(answer.job.replica).unwrap();
        check(&answer, 1, salt);
        // Each job was given to other drivers before, in its turn.
        assert!(answer.attempts >= 1);
    }
}

#[test]
fn one_that_answers_something_else() {
    type Check = fn(&ProtocolError) -> bool;
    let garbage = |error: &ProtocolError| matches!(error, ProtocolError::UnknownHeader(_));
    let mut wrong_atoms = plausible(2);
    let places = ForceReady::of(2);
    put_integer(&mut wrong_atoms, places.atoms(), 3);
    let mut nan = plausible(2);
    put_real(&mut nan, places.forces(0), f64::NAN);
    let mut negative = plausible(2);
    put_integer(&mut negative, places.extras(), -1);
    let answers: [(Vec<u8>, Check); 6] = [
        (b"GET / HTTP/1.1".to_vec(), garbage),
        (vec![0; 12], garbage),
        (READY.to_vec(), |error| {
            *error
                == ProtocolError::UnexpectedAnswer {
                    answer: Header::Ready,
                    to: Header::GetForce,
                }
        }),
        (wrong_atoms, |error| {
            *error
                == ProtocolError::WrongAtoms {
                    announced: 3,
                    expected: 2,
                }
        }),
        (nan, |error| {
            *error == ProtocolError::NotFinite(Quantity::Forces)
        }),
        (negative, |error| {
            *error == ProtocolError::NegativeLength(-1)
        }),
    ];
    for (answer, expected) in answers {
        let text = answer.escape_ascii().to_string();
        let why = replaced(2, move |mut driver| {
            driver.says(answer);
            thread::sleep(SHORT / 2);
        });
        match why {
            LeftReason::Protocol(error) => assert!(expected(&error), "{text}: {error:?}"),
            why => panic!("{text}: {why:?}"),
        }
    }
}

#[test]
fn one_that_speaks_without_being_asked() {
    for odd in ODD {
        let mut server = Server::new(options());
        let mut driver = server.play();
        let player = thread::spawn(move || {
            driver.hears(STATUS);
            driver.says(READY);
            thread::sleep(SHORT / 4);
            driver.says(odd);
            driver.hears_the_end();
        });
        let (why, _) = server.left();
        assert!(matches!(why, LeftReason::OutOfTurn), "{why:?}");
        player.join().unwrap();

        // A peer that never was a driver.
        let mut driver = server.play();
        let player = thread::spawn(move || {
            driver.says(odd);
            driver.hears(STATUS);
            driver.hears_the_end();
        });
        let (why, _) = server.left();
        assert!(matches!(why, LeftReason::Protocol(_)), "{why:?}");
        player.join().unwrap();
    }
}

#[test]
fn one_that_says_more_than_it_was_asked_for() {
    // READY is followed by another READY in the same piece.
    let mut server = Server::new(options());
    let mut driver = server.play();
    let player = thread::spawn(move || {
        driver.hears(STATUS);
        driver.says([READY, READY].concat());
        driver.hears_the_end();
    });
    let (why, _) = server.left();
    assert!(matches!(why, LeftReason::OutOfTurn), "{why:?}");
    player.join().unwrap();
}

#[test]
fn one_that_floods_us_keeps_no_one_waiting() {
    let deadlines = options().deadlines.message(LONG).evaluation(LONG);
    let mut server = Server::new(options().deadlines(deadlines));
    computing(&server, 2, |mut driver| {
        let mut answer = plausible(2);
        put_integer(&mut answer, ForceReady::of(2).extras(), i32::MAX);
        answer.truncate(ForceReady::of(2).end());
        driver.says(answer);
        let rubbish = vec![b'x'; 1 << 20];
        while driver.0.write_all(&rubbish).is_ok() {}
    });
    server.joined(1);
    server.pool.submit(job(2, 3)).unwrap();
    assert!(server.pool.next(Some(SHORT / 10)).unwrap().is_none());
    let good = server.good();
    server.joined(2);
    unharmed(&mut server, 2);
    loop {
        match server.next() {
            PoolEvent::Left { why, requeued, .. } => {
                assert_eq!(requeued, 1);
                assert!(matches!(why, LeftReason::Late(_)), "{why:?}");
                check(&server.answer(), 2, 3);
                break;
            }
            // A machine that reads two gigabytes in time gets its answer.
            PoolEvent::Answered(answer) => {
                assert_eq!(answer.extras_sent, i32::MAX as usize);
                break;
            }
            _ => {}
        }
    }
    drop(server.pool);
    assert!(good.join().unwrap() >= 20);
}

/// A driver that accepts batches and can't compute one of these structures: it closes.
fn can_not_compute(server: &Server, salts: &'static [usize], over: &Arc<AtomicBool>) {
    let (path, over) = (server.path(), over.clone());
    thread::spawn(move || {
        while !over.load(Ordering::Relaxed) {
            let Ok(stream) = std::os::unix::net::UnixStream::connect(&path) else {
                return;
            };
            let mut stream = forcewire::net::Stream::from_unix(
                stream,
                Address::unix("", "pool"),
                Deadlines::NONE,
            )
            .unwrap();
            let mut driver = forcewire::Driver::new().initialize(Initialize::Once);
            let mut cells = [forcewire::Cell::orthorhombic([0.0; 3]); 16];
            let mut all = vec![[0.0; 3]; 64];
            loop {
                let receive = driver.receive_batch(&mut cells, &mut all);
                let (natoms, structures) = match forcewire::blocking::run(&mut stream, receive) {
                    Ok(forcewire::Event::Positions {
                        natoms, structures, ..
                    }) => (natoms, structures),
                    Ok(forcewire::Event::Init { .. }) => continue,
                    Ok(_) => return,
                    Err(_) => break,
                };
                let chunks = || all.chunks(natoms).take(structures);
                let is_bad = |it: &[[f64; 3]]| salts.contains(&((it[0][0] * 16.0) as usize));
                if chunks().any(is_bad) {
                    break;
                }
                let answers: Vec<_> = chunks().map(truth).collect();
                let evaluations: Vec<_> = answers.iter().map(|it| it.evaluation).collect();
                let forces: Vec<_> = answers.iter().flat_map(|it| &it.forces).copied().collect();
                let extras: Vec<_> = answers.iter().map(|it| it.extras.as_slice()).collect();
                let reply = driver.reply_batch(&evaluations, &forces, &extras);
                if forcewire::blocking::run(&mut stream, reply).is_err() {
                    break;
                }
            }
        }
    });
}

#[test]
fn one_of_a_batch_takes_all_of_it_along_and_nothing_is_lost() {
    let mut server = Server::new(options().mode(Mode::Batched(4)));
    let mut driver = server.play();
    let player = thread::spawn(move || {
        driver.hears(STATUS);
        driver.says(NEEDINIT);
        driver.hears(init(0, "  batch_size:4"));
        driver.hears(STATUS);
        driver.says(READY);
        let mut message = vec![0; Posdata::batch(4, 1).end() + 2 * HEADER];
        std::io::Read::read_exact(&mut driver.0, &mut message).unwrap();
    });
    for salt in 0..6 {
        server.pool.submit(job(1, salt)).unwrap();
    }
    let (why, requeued) = server.left();
    player.join().unwrap();
    assert!(matches!(why, LeftReason::Protocol(_)), "{why:?}");
    assert_eq!((requeued, server.pool.queued()), (4, 6));
    let _good = good(&server.address, Initialize::Once);
    // First the jobs that have not lost a driver, then the others one by one.
    for salt in [4, 5, 0, 1, 2, 3] {
        let answer = server.answer();
        check(&answer, 1, salt);
        assert_eq!(answer.attempts, if salt < 4 { 2 } else { 1 });
    }
}

#[test]
fn in_a_batch_only_the_structure_that_costs_drivers_is_given_up() {
    let over = Arc::new(AtomicBool::new(false));
    for drivers in [1, 3] {
        let options = options().mode(Mode::Batched(4)).attempts(Some(2));
        let mut server = Server::new(options);
        let tickets: Vec<_> = (0..12)
            .map(|salt| server.pool.submit(job(1, salt)).unwrap())
            .collect();
        for _ in 0..drivers {
            can_not_compute(&server, &[2, 7], &over);
        }
        let (mut answered, mut given_up) = (Vec::new(), Vec::new());
        while answered.len() + given_up.len() < tickets.len() {
            match server.next() {
                PoolEvent::Answered(answer) => {
                    let salt = usize::try_from(answer.job.replica).unwrap();
                    check(&answer, 1, salt);
                    answered.push(salt);
                }
                PoolEvent::GivenUp { ticket, .. } => {
                    given_up.push(tickets.iter().position(|it| *it == ticket).unwrap());
                }
                _ => {}
            }
        }
        given_up.sort_unstable();
        assert_eq!(given_up, [2, 7]);
        assert_eq!(server.pool.counters().given_up, 2);
        over.store(true, Ordering::Relaxed);
        drop(server);
        over.store(false, Ordering::Relaxed);
    }
}

#[test]
fn a_cancelled_job_of_a_lost_driver_goes_to_no_other() {
    let mut server = Server::new(options());
    let (go, wait) = std::sync::mpsc::channel::<()>();
    computing(&server, 2, move |driver| {
        wait.recv().unwrap();
        drop(driver);
    });
    server.joined(1);
    let ticket = server.pool.submit(job(2, 3)).unwrap();
    assert!(server.pool.next(Some(Duration::ZERO)).unwrap().is_none());
    assert!(server.pool.cancel(ticket));
    go.send(()).unwrap();
    let (_, requeued) = server.left();
    assert_eq!(requeued, 0);
    assert_eq!((server.pool.queued(), server.pool.running()), (0, 0));
}

#[test]
fn a_job_that_costs_too_many_drivers_is_given_up() {
    let mut server = Server::new(options().attempts(Some(3)));
    // Each driver has answered, and was connected before the first was lost.
    for _ in 0..3 {
        computing(&server, 2, |mut driver| {
            driver.says([&forceready(&truth(&positions(2, 1)))[..], READY].concat());
            driver.hears_job(2).unwrap();
        });
    }
    server.joined(3);
    for _ in 0..3 {
        server.pool.submit(job(2, 1)).unwrap();
    }
    for _ in 0..3 {
        check(&server.answer(), 2, 1);
    }
    server.pool.submit(job(2, 3)).unwrap();
    for left in [1, 1, 0] {
        let (_, requeued) = server.left();
        assert_eq!(requeued, left);
    }
    match server.next() {
        PoolEvent::GivenUp {
            job: given,
            attempts,
            ..
        } => {
            assert_eq!(attempts, 3);
            assert_eq!(given.positions, job(2, 3).positions);
        }
        event => panic!("{event:?}"),
    }
    assert_eq!((server.pool.queued(), server.pool.running()), (0, 0));
    let loss = server.pool.counters().last_loss.clone().unwrap();
    assert_eq!(loss.jobs, 1);
}

#[test]
fn no_more_connections_than_allowed_and_the_next_gets_in_when_one_leaves() {
    let mut server = Server::new(PoolOptions::default().clients(2));
    let mut first = server.play();
    let second = server.good();
    thread::spawn(move || {
        first.hears(STATUS);
        first.says(READY);
        thread::sleep(SHORT);
    });
    let third = server.good();
    server.joined(2);
    let (why, _) = server.left();
    assert!(matches!(why, LeftReason::Closed), "{why:?}");
    assert_eq!(server.pool.drivers(), 1);
    server.joined(2);
    server.pool.submit(job(1, 1)).unwrap();
    check(&server.answer(), 1, 1);
    server.pool.close(SHORT).unwrap();
    assert_eq!(second.join().unwrap() + third.join().unwrap(), 1);
}

#[test]
fn a_reset_connection_is_a_lost_driver() {
    let mut server = Server::new(options());
    let address = server.pool.listen(&Address::tcp("127.0.0.1", 0)).unwrap();
    let stream = std::net::TcpStream::connect(address.to_string()).unwrap();
    let mut driver = stream.try_clone().unwrap();
    let player = thread::spawn(move || {
        let mut heard = [0; 12];
        std::io::Read::read_exact(&mut driver, &mut heard).unwrap();
        driver.write_all(READY).unwrap();
        // Positions arrive and are not read, so closing resets the connection.
        std::io::Read::read_exact(&mut driver, &mut heard).unwrap();
    });
    server.joined(1);
    server.pool.submit(job(2, 3)).unwrap();
    drop(stream);
    let (why, requeued) = server.left();
    player.join().unwrap();
    assert_eq!(requeued, 1);
    assert!(
        matches!(why, LeftReason::Lost(_) | LeftReason::Protocol(_)),
        "{why:?}"
    );
}
