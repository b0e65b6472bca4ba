//! Calls and answers out of turn: each state with each call, each request with each answer.

use forcewire::{Answer, Exchange, Header, Mode, ProtocolError, Request, Server, Status, Step};

use super::{
    MODES, at_ready, at_work, busy, computes, has_data, needs_init, out_of_the_array, positions,
    reads, ready, request, run, server,
};
use forcewire_support::server::{Call, script};
use forcewire_support::*;

const CALLS: [(Call, Header); 6] = [
    (Call::Status, Header::Status),
    (Call::Initialize, Header::Init),
    (Call::Send, Header::PosData),
    (Call::Forces, Header::GetForce),
    (Call::Evaluate, Header::PosData),
    (Call::Exit, Header::Exit),
];

/// A server whose driver has sent NEEDINIT.
fn at_needs_init(mode: Mode) -> Server {
    let mut server = server(mode);
    script(&mut server, Split::Whole)
        .asks()
        .says(STATUS)
        .hears(NEEDINIT)
        .learns(needs_init());
    server
}

/// A server that has asked and has no answer yet.
fn at_asked(mode: Mode) -> Server {
    let mut server = server(mode);
    script(&mut server, Split::Whole)
        .asks()
        .says(STATUS)
        .drops();
    server
}

/// A server whose driver has sent HAVEDATA.
fn at_has_data(mode: Mode) -> Server {
    let mut server = at_work(mode, false);
    script(&mut server, Split::Whole)
        .asks()
        .hears(HAVEDATA)
        .learns(has_data());
    server
}

/// A server that has sent EXIT; its driver has or has not closed the connection.
fn at_the_end(mode: Mode, closed: bool) -> Server {
    let mut server = at_ready(server(mode));
    let script = script(&mut server, Split::Whole).exits().says(EXIT);
    if closed {
        script.hears_the_end().ends();
    } else {
        script.drops();
    }
    server
}

/// The effect of a call: it sends these bytes and waits, ends at once (`learns` for a status), or
/// is refused.
#[derive(Clone, PartialEq)]
enum Does {
    Says(Vec<u8>),
    Ends(Status),
    Refuses,
    /// The call is refused because the driver owes forces for a request that this call has not
    /// sent.
    Due,
}

#[test]
fn each_call_in_each_state() {
    use Does::{Due, Ends, Refuses, Says};

    for mode in MODES {
        let asks = || Says(STATUS.to_vec());
        let waits = || Says(vec![]);
        let exits = || Says(EXIT.to_vec());
        let inits = || Says([&init(0, " "), STATUS].concat());
        let sends = || Says(positions(mode, &golden()));
        let requests = || Says(request(mode));
        let gone = Status::DISCONNECTED;
        // In strict mode something else would have to follow the STATUS.
        let again = |status| match mode {
            Mode::Strict => Ends(status),
            _ => asks(),
        };
        // A server, its status, and the effects of asking, initializing, sending, receiving forces,
        // evaluating, and exiting.
        type Row = (fn(Mode) -> Server, Status, [Does; 6]);
        let mut table: Vec<Row> = vec![
            (
                server,
                Status::UP,
                [asks(), Refuses, Refuses, Refuses, asks(), exits()],
            ),
            (
                at_asked,
                busy(),
                [waits(), Refuses, Refuses, Refuses, waits(), exits()],
            ),
            (
                at_needs_init,
                needs_init(),
                [
                    again(needs_init()),
                    inits(),
                    Refuses,
                    Refuses,
                    inits(),
                    exits(),
                ],
            ),
            (
                |mode| at_ready(server(mode)),
                ready(),
                [again(ready()), Refuses, sends(), Refuses, sends(), exits()],
            ),
            (
                |mode| at_work(mode, true),
                busy(),
                [Ends(busy()), Refuses, Refuses, waits(), Due, exits()],
            ),
            (
                |mode| at_the_end(mode, false),
                gone,
                [Ends(gone), Refuses, Refuses, Refuses, Refuses, waits()],
            ),
            (
                |mode| at_the_end(mode, true),
                gone,
                [Ends(gone), Refuses, Refuses, Refuses, Refuses, Ends(gone)],
            ),
        ];
        if mode != Mode::Consolidated {
            table.push((
                |mode| at_work(mode, false),
                busy(),
                [waits(), Refuses, Refuses, waits(), Due, exits()],
            ));
            table.push((
                at_has_data,
                has_data(),
                [Ends(has_data()), Refuses, Refuses, requests(), Due, exits()],
            ));
        }
        for (server, status, row) in table {
            for ((call, command), does) in CALLS.into_iter().zip(&row) {
                let mut server = server(mode);
                let mut script = script(&mut server, Split::Bytes)
                    .knows(status)
                    .has_sent(&golden());
                let (mut call, mut does) = (call, does);
                if matches!(does, Refuses | Due) {
                    // The server is unchanged: EXIT can still be sent.
                    script = script
                        .calls(call)
                        .refuses(match does {
                            Due => ProtocolError::AnswerDue,
                            _ => ProtocolError::InvalidStatus { command, status },
                        })
                        .says_nothing()
                        .knows(status);
                    (call, does) = (Call::Exit, &row[5]);
                }
                script = script.calls(call);
                match (does, call) {
                    (Says(bytes), Call::Initialize | Call::Send) => script.says(bytes).ends(),
                    (Says(bytes), _) => script.says(bytes).drops(),
                    (Ends(status), Call::Status) => script.learns(*status),
                    _ => script.ends(),
                };
            }
        }
    }
    let invalid = |command, status| ProtocolError::InvalidStatus { command, status };
    reads(
        invalid(Header::PosData, needs_init()),
        &[
            "POSDATA is out of turn",
            "\"up, needs init\"",
            "do what it needs first",
        ],
    );
    reads(
        invalid(Header::Init, Status::DISCONNECTED),
        &[
            "INIT can't be sent",
            "told EXIT or has gone",
            "reset the server",
        ],
    );
}

/// A refused call prevents neither the right one nor one that uses what has already arrived.
#[test]
fn the_right_call_after_each_wrong_one() {
    for mode in MODES {
        at_every_split(|split| {
            let refused = |command, status| ProtocolError::InvalidStatus { command, status };
            let mut server = at_needs_init(mode);
            let script = script(&mut server, split)
                .has_sent(&golden())
                .takes()
                .refuses(refused(Header::GetForce, needs_init()))
                .sends(&golden())
                .refuses(refused(Header::PosData, needs_init()))
                .initializes()
                .says([&init(0, " "), STATUS].concat())
                .ends()
                .initializes()
                .refuses(refused(Header::Init, busy()))
                .hears(READY)
                // An answer that waits in the receive buffer is not known yet.
                .sends(&golden())
                .refuses(refused(Header::PosData, busy()))
                .asks()
                .learns(ready())
                .takes()
                .refuses(refused(Header::GetForce, ready()))
                .evaluates(&golden());
            computes(script, mode, &golden(), &golden_answer());
        });
    }
}

// ---- after another exchange has begun ----

/// After half of a message was sent, only its own exchange can send the rest.
#[test]
fn half_a_message_is_finished_by_its_own_exchange() {
    let structure = atoms(40);
    let (cell, mode) = (structure.cell(), Mode::Classic);
    let all = positions(mode, &structure);
    let text = [b'x'; 1000];
    // For POSDATA and INIT: inside the first collected piece, in the array or the text, and at the
    // end.
    for moved in [
        1,
        159,
        160,
        161,
        700,
        all.len() - 13,
        all.len() - 12,
        all.len() - 1,
    ] {
        let in_scratch = moved >= out_of_the_array(&all, 12);
        for (call, command) in CALLS {
            let mut server = at_ready(server(mode));
            let request = Request::new(&cell, &structure.positions);
            pour_some(server.send_positions(request), &mut &b""[..], moved);
            let script = script(&mut server, Split::Anew(1)).has_sent(&structure);
            match call {
                Call::Send => script.calls(call).says(&all[moved..]).ends(),
                // The positions are the same, so the forces will be the same.
                Call::Evaluate => script.calls(call).says(&all[moved..]).drops(),
                // The rest is in the machine and is sent first by any exchange that may follow.
                Call::Status | Call::Forces if in_scratch => {
                    script.calls(call).says(&all[moved..]).drops()
                }
                Call::Exit if in_scratch => script
                    .calls(call)
                    .says([&all[moved..], EXIT].concat())
                    .drops(),
                _ => script
                    .calls(call)
                    .refuses(match call {
                        Call::Initialize => ProtocolError::InvalidStatus {
                            command,
                            status: ready(),
                        },
                        _ => ProtocolError::Unfinished(Header::PosData),
                    })
                    .evaluates(&structure)
                    .says(&all[moved..])
                    .hears([HAVEDATA, &forceready(&answer(40, 1.0, b""))].concat())
                    .says(super::request(mode))
                    .gets(&answer(40, 1.0, b"")),
            };
        }
    }
    let all = [&init(0, text), STATUS].concat();
    for moved in [1, 20, 767, 768, 900, 1019] {
        for (call, command) in CALLS {
            let mut server = at_needs_init(mode);
            pour_some(server.initialize(0, &text), &mut &b""[..], moved);
            let in_scratch = moved >= 768;
            let script = script(&mut server, Split::Anew(1))
                .with_text(text)
                .has_sent(&golden());
            match call {
                Call::Initialize => script.calls(call).says(&all[moved..]).ends(),
                Call::Evaluate => script.calls(call).says(&all[moved..]).drops(),
                Call::Status if in_scratch => script.calls(call).says(&all[moved..]).drops(),
                Call::Exit if in_scratch => script
                    .calls(call)
                    .says([&all[moved..], EXIT].concat())
                    .drops(),
                _ => script
                    .calls(call)
                    .refuses(match call {
                        Call::Status | Call::Exit | Call::Forces if !in_scratch => {
                            ProtocolError::Unfinished(Header::Init)
                        }
                        _ => ProtocolError::InvalidStatus {
                            command,
                            status: needs_init(),
                        },
                    })
                    .initializes()
                    .says(&all[moved..])
                    .ends(),
            };
        }
    }
}

/// Half of EXIT was sent: only its rest can follow.
#[test]
fn half_of_exit_is_followed_by_the_rest() {
    for moved in 1..12 {
        for (call, command) in CALLS {
            let mut server = at_ready(server(Mode::Consolidated));
            pour_some(server.exit(), &mut &b""[..], moved);
            let script = script(&mut server, Split::Anew(1)).has_sent(&golden());
            let script = match call {
                Call::Exit => script.exits().says(&EXIT[moved..]).drops(),
                Call::Status => script
                    .asks()
                    .says(&EXIT[moved..])
                    .learns(Status::DISCONNECTED)
                    .exits()
                    .says_nothing()
                    .drops(),
                _ => script
                    .calls(call)
                    .refuses(ProtocolError::InvalidStatus {
                        command,
                        status: ready(),
                    })
                    .exits()
                    .says(&EXIT[moved..])
                    .drops(),
            };
            script.exits().hears_the_end().ends();
        }
    }
}

/// Another call does not treat what `evaluate` has sent as its own.
#[test]
fn what_evaluate_has_done_is_not_done_by_another_call() {
    for mode in MODES {
        at_every_split(|split| {
            let refused = |command, status| ProtocolError::InvalidStatus { command, status };
            let mut server = server(mode);
            script(&mut server, split)
                .evaluates(&golden())
                .says(STATUS)
                .hears(NEEDINIT)
                .says([&init(0, " "), STATUS].concat())
                .initializes()
                .refuses(refused(Header::Init, busy()))
                .evaluates(&golden())
                .hears(READY)
                .says(positions(mode, &golden()))
                .sends(&golden())
                .refuses(refused(Header::PosData, busy()));
        });
    }
}

/// Any call that may request an answer can receive the rest of a half-received one.
#[test]
fn half_an_answer_is_waited_for_by_its_own_exchange() {
    let reply = hex(GOLDEN_FORCEREADY);
    for came in [1, 11, 12, 20, 24, 30, 47, 48, 100, 124, 125] {
        for (call, command) in CALLS {
            let mut server = at_work(Mode::Consolidated, true);
            let script = script(&mut server, Split::Anew(3))
                .has_sent(&golden())
                .takes()
                .hears(&reply[..came])
                .drops()
                .knows(busy());
            let script = match call {
                Call::Exit => {
                    script.exits().says(EXIT).hears_the_end().ends();
                    continue;
                }
                Call::Status => script.asks().learns(busy()),
                Call::Forces => script.takes().waits(),
                Call::Evaluate => script.calls(call).refuses(ProtocolError::AnswerDue),
                _ => script.calls(call).refuses(ProtocolError::InvalidStatus {
                    command,
                    status: busy(),
                }),
            };
            script.takes().hears(&reply[came..]).gets(&golden_answer());
        }
    }
}

/// An exchange that has moved nothing has not begun, and no other exchange sends its bytes.
#[test]
fn an_exchange_that_moved_nothing_leaves_no_trace() {
    for mode in MODES {
        let mut server = at_ready(server(mode));
        let structure = atoms(2);
        let cell = structure.cell();
        let mut looked = server.send_positions(Request::new(&cell, &structure.positions));
        assert!(matches!(looked.step(), Ok(Step::Write(_))));
        looked.advance(0);
        drop(looked);
        assert_eq!((server.last_status(), server.natoms()), (ready(), 0));
        // Another system with another number of atoms.
        let answer = answer(3, 1.0, b"");
        let script = script(&mut server, Split::Whole).evaluates(&water());
        computes(script, mode, &water(), &answer);
    }
}

/// `send_positions` reports positions that were sent, even if forces have been requested since,
/// into an array of another length.
#[test]
fn a_refusal_does_not_forget_what_has_been_sent() {
    for mode in MODES {
        let mut server = at_ready(server(mode));
        let structure = golden();
        let (cell, positions) = (structure.cell(), structure.positions.as_slice());
        let mut send = server.send_positions(Request::new(&cell, positions));
        while server_writes(&mut send) {}
        drop(send);
        let is_refused = |step: Result<Step<'_, Answer>, ProtocolError>| {
            assert!(
                matches!(step, Err(ProtocolError::WrongLength { .. })),
                "{mode:?}"
            );
        };
        is_refused(server.get_forces::<f64>(&mut [], &mut []).step());
        let request = Request::new(&cell, positions);
        is_refused(server.evaluate(request, &mut [], &mut []).step());
        let mut send = server.send_positions(Request::new(&cell, positions));
        assert!(matches!(send.step(), Ok(Step::Done(()))), "{mode:?}");
    }
}

/// If nothing is owed, there is nothing to drop, even in the middle of STATUS, of INIT and of their
/// answers.
#[test]
fn discard_does_nothing_if_nothing_is_owed() {
    for mode in MODES {
        for (asked, moved) in [(&b""[..], 0), (b"", 5), (b"NEEDI", 12)] {
            let mut server = server(mode);
            let mut status = server.status();
            for _ in 0..moved {
                server_writes(&mut status);
            }
            for byte in asked {
                if let Ok(Step::Read(slice)) = status.step() {
                    slice[0] = *byte;
                    status.advance(1);
                }
            }
            let midway = status.midway();
            drop(status);
            let before = server.traffic();
            assert!(
                matches!(server.discard().step(), Ok(Step::Done(()))),
                "{mode:?} {moved}"
            );
            assert_eq!(server.traffic(), before);
            assert_eq!(server.status().midway(), midway);
        }
        let mut server = at_needs_init(mode);
        assert!(server_writes(&mut server.initialize(0, b" ")));
        assert!(
            matches!(server.discard().step(), Ok(Step::Done(()))),
            "{mode:?}"
        );
        assert!(server.status().midway());
    }
}

/// `discard` does not continue INIT either, because it does not have the text.
#[test]
fn discard_leaves_the_text_of_init_to_the_exchange_that_has_it() {
    for mode in MODES {
        let text = vec![b'k'; 2000];
        let mut server = at_needs_init(mode);
        let mut said: Vec<u8> = vec![];
        loop {
            let mut initialize = server.initialize(7, &text);
            match initialize.step() {
                Ok(Step::Write(bytes)) => {
                    said.extend(bytes);
                    let n = bytes.len();
                    initialize.advance(n);
                }
                Ok(Step::Done(())) => break,
                other => panic!("{other:?}"),
            }
            drop(initialize);
            assert!(matches!(server.discard().step(), Ok(Step::Done(()))));
        }
        assert!(said.windows(2000).any(|bytes| bytes == text), "{mode:?}");
    }
}

/// Advances a write that is not complete by one byte.
fn server_writes(exchange: &mut impl Exchange) -> bool {
    let writes = matches!(exchange.step(), Ok(Step::Write(_)));
    exchange.advance(usize::from(writes));
    writes && exchange.midway()
}

// ---- answers ----

const HEADERS: [(Header, &[u8]); 9] = [
    (Header::Status, STATUS),
    (Header::Init, INIT),
    (Header::PosData, POSDATA),
    (Header::GetForce, GETFORCE),
    (Header::Exit, EXIT),
    (Header::NeedInit, NEEDINIT),
    (Header::Ready, READY),
    (Header::HaveData, HAVEDATA),
    (Header::ForceReady, FORCEREADY),
];

/// An open request, the allowed calls and the allowed answers.
type Question = (
    fn(Mode) -> Server,
    Header,
    &'static [Call],
    &'static [Header],
);

const QUESTIONS: [Question; 3] = [
    (
        at_asked,
        Header::Status,
        &[Call::Status, Call::Evaluate],
        &[Header::Ready, Header::NeedInit],
    ),
    (
        |mode| at_work(mode, false),
        Header::Status,
        &[Call::Status, Call::Forces],
        &[Header::HaveData],
    ),
    (
        |mode| at_work(mode, true),
        Header::GetForce,
        &[Call::Forces],
        &[Header::ForceReady],
    ),
];

#[test]
fn each_answer_to_each_question() {
    for mode in MODES {
        for (at, to, calls, answers) in QUESTIONS {
            for (answer, bytes) in HEADERS {
                for call in calls.iter().filter(|_| mode != Mode::Consolidated) {
                    at_every_split(|split| {
                        let mut server = at(mode);
                        let script = script(&mut server, split)
                            .has_sent(&golden())
                            .calls(*call)
                            .hears(bytes);
                        if answers.contains(&answer) {
                            script.goes_on();
                        } else {
                            let error = ProtocolError::UnexpectedAnswer { answer, to };
                            script
                                .refuses(error)
                                .knows(Status::DISCONNECTED)
                                // The error is final for every call.
                                .asks()
                                .refuses(error)
                                .evaluates(&golden())
                                .refuses(error)
                                .exits()
                                .refuses(error)
                                .reconnects()
                                .asks()
                                .says(STATUS);
                        }
                    });
                }
            }
        }
    }
    let error = |answer, to| ProtocolError::UnexpectedAnswer { answer, to };
    reads(
        error(Header::Ready, Header::GetForce),
        &[
            "answered GETFORCE with READY",
            "lost its data",
            "connect again",
        ],
    );
}

#[test]
fn an_unknown_answer() {
    let odd: [&[u8; 12]; 8] = [
        b"ready       ",
        b" READY      ",
        b"READYY      ",
        b"READ        ",
        b"HTTP/1.1 200",
        b"            ",
        &[0; 12],
        &[0xff; 12],
    ];
    for header in odd {
        for (at, _, calls, _) in QUESTIONS {
            for call in calls {
                at_every_split(|split| {
                    let mut server = at(Mode::Classic);
                    script(&mut server, split)
                        .has_sent(&golden())
                        .calls(*call)
                        .hears(header)
                        .refuses(ProtocolError::UnknownHeader(*header))
                        .knows(Status::DISCONNECTED);
                });
            }
        }
    }
    reads(
        ProtocolError::UnknownHeader(*b"HTTP/1.1 200"),
        &["\"HTTP/1.1 200\"", "does it speak that"],
    );
}

/// A driver that sends HAVEDATA before it has received anything has data of another conversation.
#[test]
fn data_of_another_conversation() {
    let mut server = Server::new();
    let result = run(server.status(), HAVEDATA);
    let error = ProtocolError::UnexpectedAnswer {
        answer: Header::HaveData,
        to: Header::Status,
    };
    assert_eq!(result, Err(error));
}
