//! Every state with every message and every call, compared with tables written by hand from the
//! protocol; and every combined state of the two machines.
//!
//! ```text
//! cargo test --test states                                           as many bytes as have room
//! cargo test --release --test states -- --ignored --nocapture        byte by byte
//! tests/states/planted                                               faults that it must find
//! ```

mod again;
mod copy;
mod driver;
mod numbers;
mod server;
mod state;
mod walk;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use forcewire::{Exchange, Initialize, Mode, ProtocolError, Step};
use walk::{Fault, Found, Plan, walk};

const MODES: [Mode; 4] = [
    Mode::Classic,
    Mode::Consolidated,
    Mode::Strict,
    Mode::Batched(2),
];

const INITIALIZE: [Initialize; 3] = [Initialize::Never, Initialize::Once, Initialize::EveryStep];

/// Twelve bytes that are not a header: in lower case, out of step by a byte, zeros, blanks, another
/// protocol.
const MALFORMED: [(&str, &[u8; 12]); 5] = [
    ("lower-case", b"status      "),
    ("out-of-step", b" STATUS     "),
    ("noughts", &[0; 12]),
    ("blank", b"            "),
    ("http", b"GET / HTTP/1"),
];

/// A table: the names of its columns, and for each row its name and its cells.
fn table(text: &str) -> (Vec<&str>, Vec<(&str, Vec<&str>)>) {
    let mut rows = text.trim().lines().map(str::split_whitespace);
    let columns: Vec<_> = rows.next().expect("a first line").collect();
    let rows = rows.map(|mut words| {
        let name = words.next().expect("a row's name");
        let cells: Vec<_> = words.collect();
        assert_eq!(cells.len(), columns.len(), "{name}");
        (name, cells)
    });
    let rows = rows.collect();
    (columns, rows)
}

/// Runs an exchange on these bytes, this many at a time, until it ends or waits. The end of the
/// stream may follow the bytes.
fn hears<T: Exchange>(
    mut transfer: T,
    inbox: &mut &[u8],
    ended: bool,
    piece: usize,
) -> (Vec<u8>, Option<Result<T::Output, ProtocolError>>) {
    let mut said = Vec::new();
    loop {
        match transfer.step() {
            Err(error) => return (said, Some(Err(error))),
            Ok(Step::Done(output)) => return (said, Some(Ok(output))),
            Ok(Step::Write(slice)) => {
                let n = slice.len().min(piece);
                said.extend(&slice[..n]);
                transfer.advance(n);
            }
            Ok(Step::Read(_)) if inbox.is_empty() && !ended => return (said, None),
            Ok(Step::Read(_)) if inbox.is_empty() => transfer.end(),
            Ok(Step::Read(slice)) => {
                let (came, rest) = inbox.split_at(slice.len().min(inbox.len()).min(piece));
                slice[..came.len()].copy_from_slice(came);
                *inbox = rest;
                transfer.advance(came.len());
            }
        }
    }
}

// ---- both machines together ----

/// Walks through several plans in parallel, and prints the sum of the findings.
fn walk_all(plans: &[Plan], check: usize) -> Found {
    let next = AtomicUsize::new(0);
    let work = || {
        let (mut all, mut faults) = (Found::default(), 0);
        while let Some(&plan) = plans.get(next.fetch_add(1, Ordering::Relaxed)) {
            match walk(plan, check) {
                Ok(found) => {
                    println!("{found}  {plan:?}");
                    all.add(found);
                }
                Err(fault) => {
                    println!("{fault}  {plan:?}");
                    faults += 1;
                }
            }
        }
        (all, faults)
    };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let (mut all, mut faults) = (Found::default(), 0);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            let (found, more) = worker.join().expect("two states that are not one");
            all.add(found);
            faults += more;
        }
    });
    println!("{all}  in all");
    print!("{}", all.kinds());
    assert_eq!(faults, 0, "faults, printed above");
    all
}

fn plan(mode: Mode, initialize: Initialize) -> Plan {
    Plan {
        mode,
        initialize,
        natoms: 1,
        exits: true,
        again: true,
        room: (24, 24),
        piece: usize::MAX,
    }
}

/// From every reachable state, whatever failed on the way there, an evaluation completes after a
/// limited number of moves if nothing more fails; and no answer belongs to another request.
#[test]
fn every_state_leads_to_a_complete_evaluation() {
    // A driver that asks for INIT before every structure passes through all states of one that asks
    // less often, except for those after FORCEREADY.
    let mut plans = MODES.map(|mode| plan(mode, Initialize::EveryStep)).to_vec();
    // Positions and forces that do not fit into a machine's scratch are sent from the caller's
    // arrays.
    plans.push(Plan {
        natoms: 28,
        room: (400, 400),
        ..plan(Mode::Consolidated, Initialize::Never)
    });
    plans.push(Plan {
        natoms: 14,
        room: (400, 400),
        ..plan(Mode::Batched(2), Initialize::Once)
    });
    plans.push(plan(Mode::Strict, Initialize::Once));
    for plan in &mut plans {
        // EXIT from all states of a batch would be half of the states.
        plan.exits = !plan.batches();
    }
    if cfg!(debug_assertions) {
        // Each state takes ten times as long, so there are fewer plans and larger pieces.
        plans.truncate(5);
        for plan in &mut plans {
            plan.room = (400, 400);
        }
    }
    let found = walk_all(&plans, if cfg!(debug_assertions) { 64 } else { 16 });
    let (states, again) = if cfg!(debug_assertions) {
        (1_000, 10_000)
    } else {
        (80_000, 1_000_000)
    };
    let enough =
        found.states > states && found.made_again() > again && found.met_again > states / 8;
    assert!(enough, "{found:?}");
}

/// Walks between any two bytes, not only between messages. In one plan of each mode, callers
/// recreate exchanges in every way.
#[test]
#[ignore = "ten minutes, in release: tests/run states"]
fn every_state_byte_by_byte_leads_to_a_complete_evaluation() {
    let mut plans = Vec::new();
    for mode in MODES.into_iter().rev() {
        for initialize in INITIALIZE {
            plans.push(Plan {
                again: initialize == Initialize::EveryStep,
                exits: !matches!(mode, Mode::Batched(_)) || initialize != Initialize::EveryStep,
                room: (24, 1),
                piece: 1,
                ..plan(mode, initialize)
            });
        }
    }
    walk_all(&plans, 16);
}

/// The number of bytes that a connection must hold while the driver replies and does not read.
/// STATUS follows GETFORCE, and EXIT may follow STATUS. (TCP holds about 10^5 bytes, the smallest
/// common ring of smoltcp a few hundred.)
#[test]
fn a_connection_that_holds_two_headers_is_enough_and_less_is_not() {
    for (mode, exits, enough) in [
        (Mode::Consolidated, true, 24),
        (Mode::Consolidated, false, 12),
        (Mode::Strict, true, 12),
    ] {
        let plan = |room| Plan {
            exits,
            again: false,
            room: (room, 24),
            ..plan(mode, Initialize::Never)
        };
        let found = walk(plan(enough), 16);
        assert!(found.is_ok(), "{mode:?} {enough}: {found:?}");
        let found = walk(plan(enough - 1), 16);
        let deadlock = matches!(found, Err(Fault::Deadlock(_)));
        assert!(deadlock, "{mode:?} {enough}: {found:?}");
    }
}
