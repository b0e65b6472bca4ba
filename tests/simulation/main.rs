//! Driver and server on smoltcp at both ends of a cable that fails, in virtual time: one seed is
//! one run.
//!
//! Frames are lost, doubled, reordered and flipped; the cable is cut for a while; either side
//! restarts at any byte; rings and MTU are small, and peers are slow. After a while all faults
//! stop. Then every request must have been answered once, with forces that are right to the last
//! bit.
//!
//! ```text
//! cargo test --release --test simulation                       2000 seeds
//! FORCEWIRE_SEEDS=100000 cargo test --release --test simulation
//! # One of them, and what happens:
//! FORCEWIRE_SEED=1234 cargo test --release --test simulation -- --nocapture
//! ```

mod cable;
mod host;
use forcewire_support::layout;
mod run;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")),
    )
}

#[test]
fn every_request_is_answered_once_whatever_the_cable_does() {
    if let Some(seed) = number("FORCEWIRE_SEED") {
        let outcome = run::run(seed, true);
        println!("{outcome:#?}");
        assert_eq!(outcome.fault, None);
        return;
    }
    let seeds = number("FORCEWIRE_SEEDS").unwrap_or(2000);
    let (next, workers) = (AtomicU64::new(0), thread::available_parallelism().unwrap());
    let total = thread::scope(|scope| {
        let work = || {
            let mut total = run::Totals::default();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= seeds {
                    return total;
                }
                let outcome = run::run(seed, false);
                if let Some(fault) = &outcome.fault {
                    panic!(
                        "seed {seed}: {fault}\nrepeat it with FORCEWIRE_SEED={seed} cargo test --release --test \
                         simulation -- --nocapture"
                    );
                }
                total.add(&outcome);
            }
        };
        let workers: Vec<_> = (0..workers.get()).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .fold(run::Totals::default(), |mut all, worker| {
                all.join(worker.join().expect("the seed above"));
                all
            })
    });
    println!("{seeds} seeds: {total}");
    total.check(seeds);
}

#[test]
fn a_seed_is_the_same_run_every_time() {
    for seed in 0..20 {
        assert_eq!(run::run(seed, false), run::run(seed, false), "seed {seed}");
    }
}
