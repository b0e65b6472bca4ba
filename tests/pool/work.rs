//! Every job is answered: in every mode, over both kinds of sockets, by any number of drivers.

use std::collections::HashMap;
use std::time::Duration;

use forcewire::net::{Address, EvaluateFailure, Job, PoolEvent, PoolOptions};
use forcewire::{Cell, Initialize, Mode, ProtocolError, Quantity};

use crate::peers::{CELL, LIMIT, Server, check, good, idle, job, positions, truth};
use forcewire_support::layout::{Posdata, real_at};
use forcewire_support::{EXIT, GETFORCE, HAVEDATA, NEEDINIT, READY, STATUS, forceready, init};

const MODES: [Mode; 5] = [
    Mode::Classic,
    Mode::Consolidated,
    Mode::Strict,
    Mode::Batched(4),
    Mode::Batched(1),
];

/// Submits jobs of two atoms and checks their answers.
fn answers(server: &mut Server, jobs: usize) {
    let mut asked = HashMap::new();
    for salt in 0..jobs {
        asked.insert(server.pool.submit(job(2, salt)).unwrap(), salt);
    }
    for _ in 0..jobs {
        let answer = server.answer();
        let salt = asked.remove(&answer.ticket).expect("one answer for each");
        check(&answer, 2, salt);
        assert_eq!(answer.attempts, 1);
        assert!(answer.took < LIMIT);
    }
    assert_eq!((server.pool.queued(), server.pool.running()), (0, 0));
}

#[test]
fn every_mode_and_every_need_of_init() {
    for mode in MODES {
        for initialize in [Initialize::Never, Initialize::Once, Initialize::EveryStep] {
            let mut server = Server::new(PoolOptions::default().mode(mode));
            let driver = good(&server.address, initialize);
            answers(&mut server, 33);
            assert_eq!(server.pool.close(LIMIT).unwrap(), 0);
            let computed = driver.join().unwrap();
            match (mode, initialize) {
                // The last of nine batches has one structure and three copies.
                (Mode::Batched(4), Initialize::Once | Initialize::EveryStep) => {
                    assert_eq!(computed, 36);
                }
                _ => assert_eq!(computed, 33),
            }
        }
    }
}

#[test]
fn many_drivers_over_tcp_and_a_unix_socket_at_once() {
    let mut server = Server::new(PoolOptions::default());
    let tcp = server.pool.listen(&"127.0.0.1:0".parse().unwrap()).unwrap();
    let unix = server.address.clone();
    let drivers: Vec<_> = [&tcp, &unix, &tcp, &unix, &unix]
        .map(|address| good(address, Initialize::Once))
        .into();
    server.joined(5);
    answers(&mut server, 500);
    assert_eq!(server.pool.close(LIMIT).unwrap(), 0);
    let computed: Vec<_> = drivers.into_iter().map(|it| it.join().unwrap()).collect();
    assert_eq!(computed.iter().sum::<usize>(), 500);
    assert!(computed.iter().all(|&count| count > 0), "{computed:?}");
}

#[test]
fn large_arrays_go_both_ways() {
    // More than a socket's buffers hold.
    let natoms = 40_000;
    for address in ["unix", "127.0.0.1:0"] {
        let mut server = Server::new(PoolOptions::default());
        if address != "unix" {
            server.address = server.pool.listen(&address.parse().unwrap()).unwrap();
        }
        let address = server.address.clone();
        let driver = std::thread::spawn(move || {
            let mut stream = forcewire::net::connect(&address).unwrap();
            let mut driver = forcewire::Driver::new();
            let mut positions = vec![[0.0; 3]; natoms];
            while let forcewire::Event::Positions { .. } =
                forcewire::blocking::run(&mut stream, driver.receive(&mut positions)).unwrap()
            {
                let truth = truth(&positions);
                let reply = driver.reply(&truth.evaluation, &truth.forces, &truth.extras);
                forcewire::blocking::run(&mut stream, reply).unwrap();
            }
        });
        for salt in 0..3 {
            server.pool.submit(job(natoms, salt)).unwrap();
        }
        for salt in 0..3 {
            check(&server.answer(), natoms, salt);
        }
        server.pool.close(LIMIT).unwrap();
        driver.join().unwrap();
    }
}

#[test]
fn a_strict_driver_hears_four_commands_and_nothing_else() {
    let mut server = Server::new(PoolOptions::default().mode(Mode::Strict));
    let mut driver = server.play();
    let path = server.path();
    let player = std::thread::spawn(move || {
        for salt in 0..3 {
            driver.hears(STATUS);
            driver.says(READY);
            driver.hears(forcewire_support::posdata(&structure(salt)));
            driver.hears(STATUS);
            driver.says(HAVEDATA);
            driver.hears(GETFORCE);
            driver.says(forceready(&truth(&positions(2, salt))));
        }
        driver.hears(EXIT);
        drop(driver);
    });
    // A driver receives nothing while there is no work for it.
    idle(&mut server.pool, Duration::from_millis(50));
    answers(&mut server, 3);
    idle(&mut server.pool, Duration::from_millis(50));
    assert_eq!(server.pool.close(LIMIT).unwrap(), 0);
    player.join().unwrap();
    assert!(!path.exists());
}

/// The structure of a job, as the peer's code would send it.
fn structure(salt: usize) -> forcewire_support::Structure {
    let [x, y, z] = [20.0, 21.0, 22.0];
    forcewire_support::Structure {
        h: [x, 0.0, 0.0, 0.0, y, 0.0, 0.0, 0.0, z],
        inverse: [1.0 / x, 0.0, 0.0, 0.0, 1.0 / y, 0.0, 0.0, 0.0, 1.0 / z],
        positions: positions(2, salt),
    }
}

/// In a relay, the server may send INIT after drivers have joined.
#[test]
fn the_text_of_init_may_come_after_the_drivers() {
    let mut server = Server::new(PoolOptions::default());
    let mut driver = server.play();
    let player = std::thread::spawn(move || {
        driver.hears(STATUS);
        driver.says(NEEDINIT);
        for (replica, text) in [(7, &b"k:1"[..]), (8, b"k:2")] {
            driver.hears(init(replica, text));
            driver.hears(STATUS);
            driver.says(READY);
            let salt = usize::try_from(replica).unwrap();
            driver.hears(forcewire_support::posdata(&structure(salt)));
            driver.hears([GETFORCE, STATUS].concat());
            driver.says([&forceready(&truth(&positions(2, salt)))[..], NEEDINIT].concat());
        }
        driver.hears(EXIT);
    });
    server.joined(1);
    for (salt, text) in [(7, "k:1"), (8, "k:2")] {
        server.pool.set_init(text.into());
        server.pool.submit(job(2, salt)).unwrap();
        check(&server.answer(), 2, salt);
    }
    server.pool.close(LIMIT).unwrap();
    player.join().unwrap();
}

#[test]
fn init_carries_the_replica_and_the_text() {
    for (text, sent) in [(&b""[..], &b" "[..]), (b"sigma : 3 ", b"sigma : 3 ")] {
        let mut server = Server::new(PoolOptions::default().init(text.into()));
        let mut driver = server.play();
        let player = std::thread::spawn(move || {
            driver.hears(STATUS);
            driver.says(NEEDINIT);
            driver.hears(init(7, sent));
            driver.hears(STATUS);
            driver.says(READY);
            driver.hears(forcewire_support::posdata(&structure(7)));
            driver.hears([GETFORCE, STATUS].concat());
            driver.says([&forceready(&truth(&positions(2, 7)))[..], READY].concat());
            driver.hears(EXIT);
        });
        server.pool.submit(job(2, 7)).unwrap();
        check(&server.answer(), 2, 7);
        server.pool.close(LIMIT).unwrap();
        player.join().unwrap();
    }
}

#[test]
fn atoms_are_folded_when_asked() {
    let mut server = Server::new(PoolOptions::default().fold(true));
    let driver = server.good();
    let mut far = job(1, 0);
    far.positions = vec![[50.0, -1.0, 21.5]];
    server.pool.submit(far.clone()).unwrap();
    let answer = server.answer();
    assert_eq!(answer.job.positions, far.positions);
    assert_eq!(answer.job.forces, truth(&[[10.0, 20.0, 21.5]]).forces);
    server.pool.close(LIMIT).unwrap();
    assert_eq!(driver.join().unwrap(), 1);
}

#[test]
fn extras_are_kept_up_to_a_limit() {
    let mut server = Server::new(PoolOptions::default().extras(4));
    let _driver = server.good();
    for salt in 0..2 {
        server.pool.submit(job(2, salt)).unwrap();
        let answer = server.answer();
        let truth = truth(&positions(2, salt));
        assert_eq!(answer.extras, &truth.extras[..4]);
        assert_eq!(answer.extras_sent, truth.extras.len());
        assert_eq!(answer.job.forces, truth.forces);
    }
}

#[test]
fn what_no_driver_can_compute_comes_back_at_once() {
    let mut server = Server::new(PoolOptions::default());
    server.pool.submit(job(2, 0)).unwrap();
    let nan = Job::new(CELL, vec![[f64::NAN; 3]; 2]);
    let flat = Job::new(Cell::orthorhombic([1.0, 1.0, 0.0]), positions(2, 1));
    // The inverse of this cell is finite, but consists of rounding errors.
    let thin = Cell::from_rows([[9.0, 9.0, 0.0], [0.0, 1e-16, 0.0], [0.0, 0.0, 9.0]]);
    let thin = Job::new(thin, positions(2, 1));
    let lower = Cell::from_rows([[9.0, 0.0, 0.0], [1.0, 9.0, 0.0], [0.0, 0.0, 9.0]]);
    let lower = Job::new(lower, positions(2, 1));
    let larger = job(3, 1);
    for (job, why) in [
        (nan, ProtocolError::NotFinite(Quantity::Positions)),
        (flat, ProtocolError::SingularCell),
        (thin, ProtocolError::SingularCell),
        (lower, ProtocolError::NotUpperTriangular),
        (
            larger,
            ProtocolError::AtomsChanged {
                announced: 3,
                expected: 2,
            },
        ),
    ] {
        let text = format!("{job:?}");
        let refused = server.pool.submit(job).unwrap_err();
        assert_eq!(refused.why, why);
        assert_eq!(format!("{:?}", refused.job), text);
    }
    assert_eq!(server.pool.queued(), 1);
}

#[test]
fn numbers_of_atoms_may_differ_when_allowed() {
    for mode in [Mode::Consolidated, Mode::Batched(3)] {
        let mut server = Server::new(PoolOptions::default().mode(mode).allow_changing_atoms(true));
        let _driver = good(&server.address, Initialize::Once);
        let mut asked = HashMap::new();
        for salt in 0..20 {
            let natoms = 1 + salt / 2 % 3;
            let ticket = server.pool.submit(job(natoms, salt)).unwrap();
            asked.insert(ticket, (natoms, salt));
        }
        for _ in 0..20 {
            let answer = server.answer();
            let (natoms, salt) = asked.remove(&answer.ticket).unwrap();
            check(&answer, natoms, salt);
        }
    }
}

#[test]
fn waiting_ends_in_time_when_nothing_happens() {
    let mut server = Server::new(PoolOptions::default());
    assert!(server.pool.next(Some(Duration::ZERO)).unwrap().is_none());
    let short = Duration::from_millis(20);
    let start = std::time::Instant::now();
    assert!(server.pool.next(Some(short)).unwrap().is_none());
    assert!(start.elapsed() >= short);
}

/// Raises the limit on descriptors to the highest that this process may set.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).unwrap();
}

/// This many drivers connect, each answers once, and all receive EXIT.
fn drivers_that_answer_once(path: &std::path::Path, count: usize) {
    let mut drivers: Vec<_> = (0..count)
        .map(|_| crate::peers::Played::connect(path))
        .collect();
    for driver in &mut drivers {
        driver.hears(STATUS);
        driver.says(READY);
    }
    for driver in &mut drivers {
        let message = driver.hears_job(2).unwrap();
        let salt = real_at(&message, Posdata::of(2).positions(0)) * 16.0;
        let answer = forceready(&truth(&positions(2, salt as usize)));
        driver.says([&answer[..], READY].concat());
    }
    for mut driver in drivers {
        driver.hears(EXIT);
    }
}

#[test]
fn more_drivers_than_a_set_of_descriptors_holds() {
    // select(2) ends at 1024 descriptors; each driver here takes two.
    raise_descriptors();
    let count = 1100;
    let mut server = Server::new(PoolOptions::default());
    let path = server.path();
    let drivers = std::thread::spawn(move || drivers_that_answer_once(&path, count));
    server.joined(count);
    answers(&mut server, count);
    assert_eq!(server.pool.close(LIMIT).unwrap(), 0);
    drivers.join().unwrap();
}

#[test]
#[ignore = "takes 10 000 descriptors in each of two processes"]
fn ten_thousand_drivers_answer_once() {
    const PATH: &str = "FORCEWIRE_TEN_THOUSAND";
    let count = 10_000;
    raise_descriptors();
    if let Some(path) = std::env::var_os(PATH) {
        return drivers_that_answer_once(path.as_ref(), count);
    }
    let mut server = Server::new(PoolOptions::default().clients(count));
    let mut drivers = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["ten_thousand_drivers_answer_once", "--ignored"])
        .env(PATH, server.path())
        .spawn()
        .unwrap();
    let start = std::time::Instant::now();
    server.joined(count);
    let joined = start.elapsed();
    answers(&mut server, count);
    let answered = start.elapsed() - joined;
    assert_eq!(server.pool.close(LIMIT).unwrap(), 0);
    assert!(drivers.wait().unwrap().success());
    eprintln!("{count} drivers joined within {joined:?} and answered within {answered:?}");
}

#[test]
fn a_pool_tells_who_has_joined_and_who_has_left() {
    let mut server = Server::new(PoolOptions::default());
    let tcp = server.pool.listen(&Address::tcp("127.0.0.1", 0)).unwrap();
    let stream = std::net::TcpStream::connect(tcp.to_string()).unwrap();
    let local = stream.local_addr().unwrap().to_string();
    let mut driver = stream.try_clone().unwrap();
    let player = std::thread::spawn(move || {
        let mut heard = [0; 12];
        std::io::Read::read_exact(&mut driver, &mut heard).unwrap();
        std::io::Write::write_all(&mut driver, READY).unwrap();
    });
    let joined = match server.next() {
        PoolEvent::Joined { driver, peer } => (driver, peer),
        event => panic!("{event:?}"),
    };
    assert_eq!(joined.1, local);
    player.join().unwrap();
    drop(stream);
    match server.next() {
        PoolEvent::Left {
            driver, peer, why, ..
        } => {
            assert_eq!((driver, peer), joined);
            assert_eq!(why.to_string(), "it closed the connection");
        }
        event => panic!("{event:?}"),
    }
    assert_eq!(server.pool.drivers(), 0);
}

#[test]
fn answers_come_in_the_order_of_the_jobs() {
    let mut server = Server::new(PoolOptions::default());
    let drivers: Vec<_> = (0..3).map(|_| server.good()).collect();
    server.joined(3);
    // A job that was submitted before and is not one of these.
    let other = server.pool.submit(job(2, 1000)).unwrap();
    let mut told = Vec::new();
    let jobs = (0..100).rev().map(|salt| job(2, salt));
    let answers = server
        .pool
        .evaluate(jobs, Some(LIMIT), |event| told.push(event))
        .unwrap();
    assert_eq!(answers.len(), 100);
    for (answer, salt) in answers.iter().zip((0..100).rev()) {
        check(answer, 2, salt);
    }
    let is_other =
        |event: &PoolEvent| matches!(event, PoolEvent::Answered(it) if it.ticket == other);
    assert_eq!(told.iter().filter(|it| is_other(it)).count(), 1);
    assert_eq!(
        server.pool.evaluate([], None, drop).unwrap(),
        [],
        "nothing is computed at once"
    );
    server.pool.close(LIMIT).unwrap();
    let computed = drivers.into_iter().map(|it| it.join().unwrap());
    assert_eq!(computed.sum::<usize>(), 101);
}

#[test]
fn evaluations_without_a_driver_end_with_patience() {
    let mut server = Server::new(PoolOptions::default());
    let short = Duration::from_millis(20);
    let jobs = [job(2, 1), job(2, 2)];
    let error = server.pool.evaluate(jobs, Some(short), drop).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("2 evaluations") && text.contains("start one"),
        "{text}"
    );
    assert_eq!(server.pool.queued(), 0);
    assert_eq!(error.jobs, [job(2, 1), job(2, 2)]);

    let jobs = [job(2, 1), job(3, 2), job(2, 4)];
    let error = server.pool.evaluate(jobs, None, drop).unwrap_err();
    assert!(error.to_string().contains("3 atoms after 2"), "{error}");
    assert_eq!(server.pool.queued(), 0);
    assert_eq!(error.jobs, [job(2, 1), job(2, 4)]);
    let EvaluateFailure::Refused(refused) = error.why else {
        panic!("{error}")
    };
    assert_eq!(*refused.job, job(3, 2));
}

#[test]
fn late_evaluations_give_back_answers_and_jobs() {
    let mut server = Server::new(PoolOptions::default());
    crate::peers::computing(&server, 2, |mut driver| {
        driver.says([&forceready(&truth(&positions(2, 1)))[..], READY].concat());
        // The second driver takes too long.
        let _ = std::io::Read::read_to_end(&mut driver.0, &mut Vec::new());
    });
    server.joined(1);
    let jobs = (1..=3).map(|salt| job(2, salt));
    let short = Duration::from_millis(300);
    let error = server.pool.evaluate(jobs, Some(short), drop).unwrap_err();
    assert_eq!(error.answered.len(), 1);
    check(&error.answered[0], 2, 1);
    let positions: Vec<_> = error.jobs.iter().map(|job| &job.positions).collect();
    assert_eq!(positions, [&job(2, 2).positions, &job(2, 3).positions]);
    assert_eq!((server.pool.queued(), server.pool.running()), (0, 1));
}

#[test]
fn a_cancelled_job_has_no_answer() {
    let mut server = Server::new(PoolOptions::default());
    let (go, wait) = std::sync::mpsc::channel::<()>();
    crate::peers::computing(&server, 2, move |mut driver| {
        wait.recv().unwrap();
        driver.says([&forceready(&truth(&positions(2, 1)))[..], READY].concat());
        driver.hears_job(2).unwrap();
        driver.says([&forceready(&truth(&positions(2, 3)))[..], READY].concat());
        driver.hears(EXIT);
    });
    server.joined(1);
    let tickets: Vec<_> = (1..=3)
        .map(|salt| server.pool.submit(job(2, salt)).unwrap())
        .collect();
    assert!(server.pool.next(Some(Duration::ZERO)).unwrap().is_none());
    assert_eq!((server.pool.queued(), server.pool.running()), (2, 1));
    assert!(server.pool.cancel(tickets[0]), "it is being computed");
    assert!(server.pool.cancel(tickets[1]), "it waits");
    assert!(!server.pool.cancel(tickets[1]), "it is gone");
    go.send(()).unwrap();
    let answer = server.answer();
    assert_eq!(answer.ticket, tickets[2]);
    check(&answer, 2, 3);
    assert!(!server.pool.cancel(tickets[2]), "it has been answered");
    assert_eq!((server.pool.queued(), server.pool.running()), (0, 0));
    assert_eq!(server.pool.close(LIMIT).unwrap(), 0);
}
