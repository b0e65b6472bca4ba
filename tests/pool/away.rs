//! Time in which the pool polled no sockets, and bytes that arrived during it.

use std::io::Read;
use std::process::Command;
use std::thread;
use std::time::Duration;

use forcewire::net::PoolOptions;
use forcewire::{Deadlines, Mode};

use crate::peers::{Server, check, computing, job, positions, truth};
use forcewire_support::layout::Posdata;
use forcewire_support::{EXIT, GETFORCE, HAVEDATA, NEEDINIT, READY, STATUS, forceready, init};

const SHORT: Duration = Duration::from_millis(300);

fn options() -> PoolOptions {
    let deadlines = Deadlines::NONE
        .handshake(SHORT)
        .message(SHORT)
        .evaluation(2 * SHORT);
    PoolOptions::default().deadlines(deadlines)
}

/// An answer larger than a socket's buffers: its driver can send the rest only while the pool
/// reads.
fn large() -> Vec<u8> {
    let mut answer = truth(&positions(2, 3));
    answer.extras = vec![b' '; 4 << 20];
    [&forceready(&answer)[..], READY].concat()
}

#[test]
fn a_caller_that_stays_away_has_its_answers_all_the_same() {
    for absence in [2 * SHORT + SHORT / 2, 8 * SHORT] {
        let mut server = Server::new(options().extras(8 << 20));
        computing(&server, 2, |mut driver| {
            driver.says(large());
            driver.hears(EXIT);
        });
        server.joined(1);
        server.pool.submit(job(2, 3)).unwrap();
        assert!(server.pool.next(Some(Duration::ZERO)).unwrap().is_none());
        thread::sleep(absence);
        let answer = server.answer();
        assert_eq!(server.told, [""; 0]);
        assert_eq!(answer.extras_sent, 4 << 20);
    }
}

#[test]
#[cfg_attr(
    target_endian = "big",
    ignore = "an emulated program can't start itself"
)]
fn a_process_that_was_stopped_has_its_answers_all_the_same() {
    const CHILD: &str = "FORCEWIRE_STOPPED";
    if std::env::var_os(CHILD).is_none() {
        // In a separate process, so that no other test is stopped.
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["away::a_process_that_was_stopped", "--nocapture"])
            .env(CHILD, "1")
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    // Most of this time is for the driver, even on a busy machine.
    let limit = Duration::from_secs(3);
    let deadlines = Deadlines::NONE.message(limit).evaluation(limit);
    let options = PoolOptions::default().deadlines(deadlines);
    let mut server = Server::new(options.extras(8 << 20));
    // The driver is stopped together with the pool, before it has read the end of the answer.
    let script = format!(
        "sleep 0.2; kill -STOP {0}; sleep 4; kill -CONT {0}",
        std::process::id()
    );
    computing(&server, 2, move |mut driver| {
        let mut stopper = Command::new("sh").args(["-c", &script]).spawn().unwrap();
        stopper.wait().unwrap();
        driver.says(large());
        driver.hears(EXIT);
    });
    server.joined(1);
    server.pool.submit(job(2, 3)).unwrap();
    assert_eq!(server.answer().extras_sent, 4 << 20);
    assert_eq!(server.told, [""; 0]);
}

#[test]
fn what_comes_while_a_send_is_blocked_is_not_lost() {
    let natoms = 100_000;
    let mut server = Server::new(PoolOptions::default().mode(Mode::Strict));
    let mut driver = server.play();
    let player = thread::spawn(move || {
        driver.hears(STATUS);
        // Before it has received a position.
        driver.says([READY, HAVEDATA].concat());
        thread::sleep(SHORT / 3);
        let mut message = vec![0; Posdata::of(natoms).end()];
        driver.0.read_exact(&mut message).unwrap();
        driver.hears([STATUS, GETFORCE].concat());
        driver.says(forceready(&truth(&positions(natoms, 3))));
        driver
    });
    server.pool.submit(job(natoms, 3)).unwrap();
    check(&server.answer(), natoms, 3);
    player.join().unwrap();

    let mut server = Server::new(PoolOptions::default());
    let mut driver = server.play();
    let player = thread::spawn(move || {
        driver.hears(STATUS);
        driver.says(NEEDINIT);
        driver.hears([&init(3, " ")[..], STATUS].concat());
        driver.says([READY, &forceready(&truth(&positions(natoms, 3)))[..100]].concat());
        thread::sleep(SHORT / 3);
        driver.hears_job(natoms).unwrap();
        driver.says([&forceready(&truth(&positions(natoms, 3)))[100..], READY].concat());
        driver
    });
    server.pool.submit(job(natoms, 3)).unwrap();
    check(&server.answer(), natoms, 3);
    player.join().unwrap();
}
