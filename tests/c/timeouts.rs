//! A time-out at every byte of every message, after which the call is repeated: it continues with
//! the right numbers, or is refused with a typed error.

use std::cell::Cell;
use std::net::TcpStream;
use std::process::Command;
use std::thread;

use tempfile::tempdir;

use crate::ends::{OK, OUT_OF_TURN, ends};
use crate::layout::{self, ATOM, CELL, HEADER, INTEGER, NEEDINIT, integer_at, numbers};
use crate::process::Process;
use crate::tools::{Watch, program};
use crate::wire::{
    EXIT, GETFORCE, HAVEDATA, INIT, READY, STATUS, accept, close, coordinates, forceready, listen,
    posdata, say,
};

/// The server's messages, and the driver's answers.
struct Conversation {
    says: Vec<u8>,
    hears: Vec<u8>,
}

impl Conversation {
    fn new(turns: &[(&[u8], &[u8])]) -> Self {
        let says = turns.iter().flat_map(|(says, _)| says.to_vec()).collect();
        let hears = turns.iter().flat_map(|(_, hears)| hears.to_vec()).collect();
        Self { says, hears }
    }

    fn classic(first_answer: &[u8]) -> Self {
        let (one, other) = (posdata(2, 1.0), posdata(2, 50.0));
        let (to_one, to_other) = (forceready(2, 1.0), forceready(2, 50.0));
        Self::new(&[
            (STATUS, first_answer),
            (&INIT, b""),
            (STATUS, READY),
            (&one, b""),
            (STATUS, HAVEDATA),
            (GETFORCE, &to_one),
            (STATUS, READY),
            (&other, b""),
            (STATUS, HAVEDATA),
            (GETFORCE, &to_other),
            (EXIT, b""),
        ])
    }

    fn consolidated(first_answer: &[u8]) -> Self {
        let (one, other) = (posdata(2, 1.0), posdata(2, 50.0));
        let (to_one, to_other) = (forceready(2, 1.0), forceready(2, 50.0));
        Self::new(&[
            (STATUS, first_answer),
            (&INIT, b""),
            (&one, b""),
            (GETFORCE, &to_one),
            (STATUS, READY),
            (&other, b""),
            (GETFORCE, &to_other),
            (STATUS, READY),
            (EXIT, b""),
        ])
    }

    /// i-PI 3.3.1 with `batch_size` 2: one number of atoms, cells, positions; energies, forces,
    /// virials, extras.
    fn batched() -> Self {
        let init = layout::init(7, "  batch_size:2");
        let both = |start| [coordinates(2, start), coordinates(2, start + 10.0)].concat();
        let cells = [[layout::cube(10.0), layout::cube(0.1)]; 2];
        let batch = |start| layout::posdata_batch(&cells, &both(start));
        let answers = |start| layout::forceready(&[1.5; 2], &both(start), &[0.0; 18], &[b""; 2]);
        Self::new(&[
            (STATUS, NEEDINIT),
            (&init, b""),
            (&batch(1.0), b""),
            (GETFORCE, &answers(1.0)),
            (STATUS, READY),
            (&batch(50.0), b""),
            (GETFORCE, &answers(50.0)),
            (EXIT, b""),
        ])
    }

    fn len(&self) -> usize {
        self.says.len() + self.hears.len()
    }
}

/// The language of the program that times out.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Language {
    C,
    Fortran,
}

use Language::{C, Fortran};

impl Language {
    fn program(self) -> Command {
        let sources: &[&str] = match self {
            C => &["tests/c/timeouts.c"],
            Fortran => &[
                "src/c/forcewire.f90",
                "tests/c/timeouts.f90",
                "tests/c/interrupt.c",
            ],
        };
        program(Watch::None, sources, &[])
    }
}

/// The ends of all connections.
fn start(
    language: Language,
    role: &str,
    how: &str,
    times: usize,
    mut peer: impl FnMut(usize, TcpStream),
) -> Vec<(usize, i32, String)> {
    let (listener, port) = listen();
    let directory = tempdir().unwrap();
    let mut command = language.program();
    command.args([role, how, &port.to_string(), &times.to_string()]);
    // Freed memory must not keep its contents by luck.
    command.env("MALLOC_PERTURB_", "85");
    let mut process = Process::start(&mut command, "program", directory.path());
    for n in 0..times {
        peer(n, accept(&listener));
    }
    let ends = ends(&process.success());
    assert_eq!(ends.len(), times);
    ends
}

/// Before byte `n` the driver may have sent one of several beginnings. At the end it has sent
/// everything, correctly.
fn drives(language: Language, how: &str, conversation: &Conversation, structures: usize) {
    let times = conversation.len() + 1;
    let ends = start(language, "driver", how, times, |n, mut server| {
        say(&mut server, &conversation.says);
        let heard = close(server);
        assert!(
            heard == conversation.hears,
            "{how}, byte {n}: {}",
            heard.escape_ascii()
        );
    });
    for (n, (evaluations, status, text)) in ends.into_iter().enumerate() {
        assert_eq!(
            (evaluations, status),
            (structures, OK),
            "{how}, byte {n}: {text}"
        );
        assert_eq!(
            text == "no time-out",
            n == times - 1,
            "{how}, byte {n}: {text}"
        );
    }
}

#[test]
fn a_driver_goes_on_at_every_byte() {
    drives(C, "serve", &Conversation::classic(NEEDINIT), 2);
    drives(C, "serve", &Conversation::consolidated(NEEDINIT), 2);
    drives(C, "serve", &Conversation::batched(), 4);
    for how in ["arrays", "steps"] {
        drives(C, how, &Conversation::classic(READY), 2);
        drives(C, how, &Conversation::consolidated(READY), 2);
    }
}

#[test]
fn a_driver_in_fortran_goes_on_at_every_byte() {
    drives(Fortran, "serve", &Conversation::classic(NEEDINIT), 2);
    drives(Fortran, "serve", &Conversation::consolidated(NEEDINIT), 2);
    drives(Fortran, "serve", &Conversation::batched(), 4);
    drives(Fortran, "steps", &Conversation::classic(READY), 2);
    drives(Fortran, "steps", &Conversation::consolidated(READY), 2);
}

/// The message is complete, and still buffered by the caller's functions.
#[test]
fn a_driver_goes_on_at_every_flush() {
    for how in ["serve", "arrays", "steps"] {
        let first = if how == "serve" { NEEDINIT } else { READY };
        let conversation = Conversation::classic(first);
        let how = format!("{how}-flush");
        // More than the number of flushes; the last few are never reached.
        let ends = start(C, "driver", &how, 40, |n, mut server| {
            say(&mut server, &conversation.says);
            let heard = close(server);
            assert!(
                heard == conversation.hears,
                "{how}, flush {n}: {}",
                heard.escape_ascii()
            );
        });
        for (n, (evaluations, status, text)) in ends.iter().enumerate() {
            assert_eq!((*evaluations, *status), (2, OK), "{how}, flush {n}: {text}");
        }
        assert_eq!(ends.last().unwrap().2, "no time-out");
    }
}

/// The reply of `timeouts.c` with other arrays: an energy of -1, and forces of -1, -2 and so on.
fn other_reply() -> Vec<u8> {
    let forces = [-1.0, -2.0, -3.0, -4.0, -5.0, -6.0];
    layout::forceready(&[-1.0], &forces, &[0.0; 9], &[b""])
}

fn replace(bytes: &[u8], part: &[u8], by: &[u8]) -> Vec<u8> {
    let at = bytes.windows(part.len()).position(|it| it == part).unwrap();
    [&bytes[..at], by, &bytes[at + part.len()..]].concat()
}

/// With other arrays, no wrong answer is ever sent.
#[test]
fn a_driver_does_not_take_other_arrays_for_the_same() {
    for how in ["serve", "arrays", "steps"] {
        let first = if how == "serve" { NEEDINIT } else { READY };
        for conversation in [
            Conversation::classic(first),
            Conversation::consolidated(first),
        ] {
            let how = format!("{how}-other");
            let times = conversation.len() + 1;
            // If no byte of a reply was sent, a repeated call with other numbers makes another
            // reply.
            let mut allowed = vec![conversation.hears.clone()];
            if how.starts_with("steps") {
                let replies = [1.0, 50.0].map(|start| forceready(2, start));
                allowed.extend(replies.map(|it| replace(&conversation.hears, &it, &other_reply())));
            }
            let ends = start(C, "driver", &how, times, |n, mut server| {
                say(&mut server, &conversation.says);
                let heard = close(server);
                let right = allowed.iter().any(|it| it.starts_with(&heard));
                assert!(right, "{how}, byte {n}: {}", heard.escape_ascii());
            });
            for (n, (evaluations, status, text)) in ends.into_iter().enumerate() {
                let went_on = (evaluations, status) == (2, OK);
                let refused = status == OUT_OF_TURN && evaluations <= 2;
                assert!(
                    went_on || refused,
                    "{how}, byte {n}: {evaluations} {status} {text}"
                );
            }
        }
    }
}

/// A driver written by hand, whose forces are the positions.
fn answer(mut peer: TcpStream, needs_init: bool) {
    use std::io::{Read, Write};

    let mut needs_init = needs_init;
    let mut computed: Option<Vec<u8>> = None;
    loop {
        let mut header = [0; HEADER];
        if peer.read_exact(&mut header).is_err() {
            return;
        }
        let reply = match header.as_slice() {
            STATUS if computed.is_some() => HAVEDATA.to_vec(),
            STATUS if needs_init => NEEDINIT.to_vec(),
            STATUS => READY.to_vec(),
            layout::INIT => {
                let mut numbers = [0; 2 * INTEGER];
                if peer.read_exact(&mut numbers).is_err() {
                    return;
                }
                let len = integer_at(&numbers, INTEGER);
                if peer.read_exact(&mut vec![0; len as usize]).is_err() {
                    return;
                }
                needs_init = false;
                continue;
            }
            layout::POSDATA => {
                let mut frame = [0; CELL + INTEGER];
                if peer.read_exact(&mut frame).is_err() {
                    return;
                }
                let natoms = integer_at(&frame, CELL);
                let mut positions = vec![0; natoms as usize * ATOM];
                if peer.read_exact(&mut positions).is_err() {
                    return;
                }
                computed = Some(positions);
                continue;
            }
            GETFORCE => {
                let forces = numbers(&computed.take().unwrap());
                layout::forceready(&[1.5], &forces, &[0.0; 9], &[b"{\"extra\":1}"])
            }
            EXIT => return,
            _ => panic!("{}", header.escape_ascii()),
        };
        if peer.write_all(&reply).is_err() {
            return;
        }
    }
}

/// More than all bytes of two evaluations in the longest way.
const BYTES: usize = 1300;
/// More than the number of flushes in them.
const FLUSHES: usize = 40;

fn asks(language: Language, how: &str, times: usize, check: impl Fn(usize, usize, i32, &str)) {
    for needs_init in [false, true] {
        let ends = start(language, "server", how, times, |_, peer| {
            thread::spawn(move || answer(peer, needs_init));
        });
        assert_eq!(ends.last().unwrap().2, "no time-out", "{how}");
        for (n, (evaluations, status, text)) in ends.iter().enumerate() {
            check(n, *evaluations, *status, text);
        }
    }
}

#[test]
fn a_server_goes_on_at_every_byte() {
    for how in ["evaluate", "classic", "steps"] {
        asks(C, how, BYTES, |n, evaluations, status, text| {
            assert_eq!((evaluations, status), (2, OK), "{how}, byte {n}: {text}");
        });
    }
}

#[test]
fn a_server_in_fortran_goes_on_at_every_byte() {
    for how in ["evaluate", "classic", "steps"] {
        asks(Fortran, how, BYTES, |n, evaluations, status, text| {
            assert_eq!((evaluations, status), (2, OK), "{how}, byte {n}: {text}");
        });
    }
}

#[test]
fn a_server_goes_on_at_every_flush() {
    for how in ["evaluate-flush", "classic-flush", "steps-flush"] {
        asks(C, how, FLUSHES, |n, evaluations, status, text| {
            assert_eq!((evaluations, status), (2, OK), "{how}, flush {n}: {text}");
            // At least the flushes after STATUS, positions and GETFORCE of two structures.
            assert!(n >= 4 || text != "no time-out", "{how}, flush {n}");
        });
    }
}

/// After a time-out the answer to a structure is dropped, and the next structure gets its own.
#[test]
fn a_server_discards_an_answer() {
    let all_is_well = |n, evaluations, status, text: &str| {
        assert_eq!((evaluations, status), (2, OK), "byte {n}: {text}");
    };
    asks(C, "evaluate-discard", BYTES, all_is_well);
    asks(C, "classic-discard", BYTES, all_is_well);
    asks(Fortran, "discard", BYTES, all_is_well);
}

/// Another structure after a time-out gets its own answer, or none.
#[test]
fn a_server_does_not_take_an_answer_for_that_of_another_structure() {
    let runs = [
        (C, "evaluate-other"),
        (C, "classic-other"),
        (Fortran, "other"),
    ];
    for (language, how) in runs {
        let refusals = Cell::new(0);
        asks(language, how, BYTES, |n, evaluations, status, text| {
            let went_on = (evaluations, status) == (2, OK);
            let refused = status == OUT_OF_TURN && evaluations < 2;
            assert!(
                went_on || refused,
                "{language:?}, {how}, byte {n}: {evaluations} {status} {text}"
            );
            refusals.set(refusals.get() + usize::from(refused));
        });
        assert!(refusals.get() > 0, "{language:?}, {how}");
    }
}
