//! Which driver gets which job: `auto` as in i-PI, `any` and `lock`.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, channel};

use forcewire::net::{Answered, DriverId, Matching, PoolOptions, Ticket};
use forcewire::{Initialize, Mode};

use crate::peers::{LIMIT, Played, Server, good, job, positions, truth};
use forcewire_support::layout::{Posdata, real_at};
use forcewire_support::{READY, forceready};

/// Drivers that answer when they are allowed to.
struct Drivers {
    server: Server,
    /// Allows the driver of this connection to answer.
    let_go: Vec<Sender<()>>,
    /// The replica that each connection received.
    given: Receiver<(usize, i32)>,
    tell: Sender<(usize, i32)>,
}

impl Drivers {
    fn new(matching: Matching) -> Self {
        let server = Server::new(PoolOptions::default().matching(matching));
        let (tell, given) = channel();
        Self {
            server,
            let_go: Vec::new(),
            given,
            tell,
        }
    }

    /// Lets one more driver join.
    fn join(&mut self) {
        let (let_go, wait) = channel();
        let (tell, index) = (self.tell.clone(), self.let_go.len());
        self.let_go.push(let_go);
        let path = self.server.path();
        std::thread::spawn(move || {
            let mut driver = Played::connect(&path);
            driver.hears(forcewire_support::STATUS);
            driver.says(READY);
            while let Ok(message) = driver.hears_job(1) {
                let salt = real_at(&message, Posdata::of(1).positions(0)) * 16.0;
                tell.send((index, salt as i32)).unwrap();
                if wait.recv().is_err() {
                    return;
                }
                let answer = forceready(&truth(&positions(1, salt as usize)));
                driver.says([&answer[..], READY].concat());
            }
        });
        self.server.joined(self.let_go.len());
    }

    fn submit(&mut self, replicas: impl IntoIterator<Item = usize>) {
        for replica in replicas {
            self.server.pool.submit(job(1, replica)).unwrap();
        }
    }

    /// The replicas that drivers have received since the last call.
    fn given(&mut self) -> Vec<(usize, i32)> {
        assert!(
            self.server
                .pool
                .next(Some(std::time::Duration::ZERO))
                .unwrap()
                .is_none()
        );
        let running = self.server.pool.running();
        let mut given: Vec<_> = (0..running)
            .map(|_| self.given.recv_timeout(LIMIT).unwrap())
            .collect();
        given.sort_unstable();
        given
    }

    /// Allows all of them to answer.
    fn answer(&mut self, given: &[(usize, i32)]) {
        for &(driver, _) in given {
            self.let_go[driver].send(()).unwrap();
            self.server.answer();
        }
        // Also handles their READY.
        crate::peers::idle(&mut self.server.pool, std::time::Duration::from_millis(100));
    }
}

#[test]
fn a_driver_gets_its_replica_again() {
    let mut drivers = Drivers::new(Matching::Auto);
    drivers.join();
    drivers.join();
    drivers.join();
    drivers.submit([5, 6, 7]);
    let first = drivers.given();
    assert_eq!(first, [(0, 5), (1, 6), (2, 7)]);
    drivers.answer(&first);
    for order in [[7, 5, 6], [6, 7, 5]] {
        drivers.submit(order);
        let given = drivers.given();
        assert_eq!(given, first);
        drivers.answer(&given);
    }
}

#[test]
fn a_new_replica_goes_to_a_fresh_driver_rather_than_to_one_that_has_stayed_with_its_own() {
    let mut drivers = Drivers::new(Matching::Auto);
    drivers.join();
    drivers.submit([1]);
    let given = drivers.given();
    drivers.answer(&given);
    drivers.join();
    drivers.submit([2]);
    let given = drivers.given();
    assert_eq!(given, [(1, 2)]);
    drivers.answer(&given);

    // Driver 0 has had replica 1 twice, and driver 1 has had replica 2 once.
    drivers.submit([1]);
    let given = drivers.given();
    assert_eq!(given, [(0, 1)]);
    drivers.answer(&given);
    drivers.submit([3]);
    let given = drivers.given();
    assert_eq!(given, [(1, 3)]);
    drivers.answer(&given);

    // No driver is idle while a job waits.
    drivers.submit([8, 9]);
    assert_eq!(drivers.given().len(), 2);
}

/// A driver has answered and not sent READY yet. Another free driver must not get its replica.
#[test]
fn a_replica_waits_a_moment_for_its_driver() {
    for (is_stalled, expected) in [(false, 0), (true, 1)] {
        let mut server = Server::new(PoolOptions::default());
        let play = |server: &Server, ready: Receiver<()>| {
            let mut driver = Played::connect(&server.path());
            std::thread::spawn(move || {
                driver.hears(forcewire_support::STATUS);
                driver.says(READY);
                while driver.hears_job(1).is_ok() {
                    driver.says(forceready(&truth(&positions(1, 7))));
                    if ready.recv().is_err() {
                        return;
                    }
                    driver.says(READY);
                }
            });
        };
        let (go, wait) = channel();
        play(&server, wait);
        server.joined(1);
        server.pool.submit(job(1, 7)).unwrap();
        let first = server.answer();
        let (other, wait) = channel();
        play(&server, wait);
        server.joined(2);
        server.pool.submit(job(1, 7)).unwrap();
        assert!(
            server
                .pool
                .next(Some(std::time::Duration::ZERO))
                .unwrap()
                .is_none()
        );
        if !is_stalled {
            go.send(()).unwrap();
        }
        let second = server.answer();
        assert_eq!(usize::from(second.driver != first.driver), expected);
        drop((go, other));
    }
}

#[test]
fn any_gives_the_oldest_to_the_first() {
    let mut drivers = Drivers::new(Matching::Any);
    drivers.join();
    drivers.join();
    drivers.submit([1, 2]);
    let given = drivers.given();
    assert_eq!(given, [(0, 1), (1, 2)]);
    drivers.answer(&given);
    drivers.submit([2, 1]);
    let given = drivers.given();
    assert_eq!(given, [(0, 2), (1, 1)]);
}

#[test]
fn locked_drivers_have_one_replica_for_good() {
    let mut drivers = Drivers::new(Matching::Locked);
    drivers.join();
    drivers.join();
    drivers.submit([1, 1, 2]);
    let given = drivers.given();
    assert_eq!(given, [(0, 1), (1, 2)]);
    drivers.answer(&given);
    // The second job of replica 1 has waited for its driver, although another one was free.
    let given = drivers.given();
    assert_eq!(given, [(0, 1)]);
    drivers.answer(&given);
    drivers.submit([3]);
    assert_eq!(drivers.given(), []);
    drivers.join();
    assert_eq!(drivers.given(), [(2, 3)]);
}

#[test]
fn jobs_are_given_in_the_order_in_which_they_were_asked_for() {
    let mut drivers = Drivers::new(Matching::Any);
    drivers.submit([4, 3, 9, 1]);
    drivers.join();
    let mut answered = Vec::new();
    while answered.len() < 4 {
        let given = drivers.given();
        answered.extend(given.iter().map(|&(_, replica)| replica));
        drivers.answer(&given);
    }
    assert_eq!(answered, [4, 3, 9, 1]);
}

#[test]
fn tickets_tell_the_order_and_drivers_keep_their_numbers() {
    let mut server = Server::new(PoolOptions::default());
    let _drivers = [server.good(), server.good()];
    server.joined(2);
    let tickets: Vec<Ticket> = (0..50)
        .map(|salt| server.pool.submit(job(1, salt)).unwrap())
        .collect();
    assert!(tickets.is_sorted());
    let answers: Vec<Answered> = (0..50).map(|_| server.answer()).collect();
    let mut by_driver: HashMap<DriverId, usize> = HashMap::new();
    for answer in &answers {
        *by_driver.entry(answer.driver).or_default() += 1;
    }
    assert_eq!(by_driver.len(), 2, "{by_driver:?}");
    assert_eq!(by_driver.values().sum::<usize>(), 50);
}

/// A driver computes as long for a batch that is not full: jobs that fill one are not spread over
/// two drivers.
#[test]
fn a_batch_is_filled_before_the_next_driver_gets_a_job() {
    for matching in [Matching::Auto, Matching::Any] {
        let options = PoolOptions::default()
            .mode(Mode::Batched(4))
            .matching(matching);
        let mut server = Server::new(options);
        let _drivers = [(); 2].map(|()| good(&server.address, Initialize::Once));
        server.joined(2);
        // Of two that are new, and of two of which one has answered.
        for _ in 0..2 {
            for salt in 0..4 {
                server.pool.submit(job(2, salt)).unwrap();
            }
            let drivers = [(); 4].map(|()| server.answer().driver);
            assert!(
                drivers.iter().all(|driver| *driver == drivers[0]),
                "{matching:?}"
            );
        }
    }
}
