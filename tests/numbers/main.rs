//! All numbers from a peer on which a decision depends: counts, lengths, headers, numbers that are
//! not finite, and numbers in another format.
//!
//! ```text
//! cargo test --test numbers        edges, and a million between them
//! tests/run numbers                all of them
//! ```

#[path = "../states/copy.rs"]
mod copy;

mod cells;
mod counts;
mod format;
mod headers;
mod reals;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Does work in parts on all CPUs.
fn in_parts(parts: usize, part: impl Fn(usize) -> u64 + Sync) -> u64 {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut count = 0;
        loop {
            match next.fetch_add(1, Ordering::Relaxed) {
                index if index < parts => count += part(index),
                _ => return count,
            }
        }
    };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let counts = workers
            .into_iter()
            .map(|it| it.join().expect("the number above"));
        counts.sum()
    })
}
