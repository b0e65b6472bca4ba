//! Servers that start at the same time at one unix socket.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Barrier;
use std::thread;

use forcewire::net::{Address, Pool, PoolOptions};

const SERVERS: usize = 4;

/// The total number of starts; `FORCEWIRE_STARTS=10000` for a long run.
fn starts() -> usize {
    let starts = std::env::var("FORCEWIRE_STARTS").ok();
    starts.map_or(1000, |text| text.parse().expect("a number"))
}

/// A server that listens can be reached under its name, and two never listen at once.
#[test]
fn of_servers_that_start_at_once_one_listens() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ipi_race");
    let address = Address::Unix(path.clone());
    for round in 0..starts() / SERVERS {
        // Some rounds start with the file of a killed server.
        if round % 8 == 0 {
            drop(UnixListener::bind(&path).unwrap());
        }
        let (begin, end) = (Barrier::new(SERVERS), Barrier::new(SERVERS));
        let listening: usize = thread::scope(|scope| {
            let start = || {
                let mut pool = Pool::new(PoolOptions::default()).unwrap();
                begin.wait();
                let result = pool.listen(&address);
                end.wait();
                match result {
                    Ok(_) => 1,
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::AddrInUse, "{error}");
                        0
                    }
                }
            };
            let threads: Vec<_> = (0..SERVERS).map(|_| scope.spawn(start)).collect();
            threads.into_iter().map(|it| it.join().unwrap()).sum()
        });
        assert_eq!(listening, 1, "round {round}");
        assert!(is_empty(directory.path()), "round {round}");
    }
}

/// A server that ends while others start removes no file other than its own.
#[test]
fn a_server_that_ends_leaves_the_next_one_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ipi_race");
    let address = Address::Unix(path.clone());
    let rounds = starts() / SERVERS;
    thread::scope(|scope| {
        for _ in 0..SERVERS {
            scope.spawn(|| {
                for _ in 0..rounds {
                    let mut pool = Pool::new(PoolOptions::default()).unwrap();
                    match pool.listen(&address) {
                        Ok(_) => drop(UnixStream::connect(&path).expect("this server")),
                        Err(error) => assert_eq!(error.kind(), ErrorKind::AddrInUse, "{error}"),
                    }
                }
            });
        }
    });
    assert!(is_empty(directory.path()));
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).unwrap().next().is_none()
}

/// The lock file of a killed server is not locked.
#[test]
fn a_lock_file_without_a_server_is_taken_over() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ipi_left");
    fs::write(directory.path().join("ipi_left.lock"), "").unwrap();
    let mut pool = Pool::new(PoolOptions::default()).unwrap();
    pool.listen(&Address::Unix(path)).unwrap();
    drop(pool);
    assert!(is_empty(directory.path()));
}

/// Another user may have put a link into /tmp.
#[test]
fn a_lock_file_that_is_a_link_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (path, file) = (
        directory.path().join("ipi_led"),
        directory.path().join("mine"),
    );
    fs::write(&file, "ten years of work").unwrap();
    let before = fs::metadata(&file).unwrap();
    std::os::unix::fs::symlink(&file, directory.path().join("ipi_led.lock")).unwrap();
    let mut pool = Pool::new(PoolOptions::default()).unwrap();
    pool.listen(&Address::Unix(path)).unwrap_err();
    drop(pool);
    let after = fs::metadata(&file).unwrap();
    assert_eq!((before.ino(), before.len()), (after.ino(), after.len()));
}
