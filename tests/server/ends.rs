//! The driver closes the connection: at no place is an incomplete answer accepted.

use forcewire::{Exchange, Header, Mode, ProtocolError, Request, Server, Status};

use super::{MODES, at_ready, at_work, positions, reads, request, run, server};
use forcewire_support::server::{Call, script};
use forcewire_support::*;

/// The error for an end after this many bytes of a conversation: inside an answer, or in place of
/// an answer to this request.
fn expected(answers: &[(Header, usize)], end: usize) -> ProtocolError {
    let mut after = end;
    for (asked, len) in answers {
        if after < *len {
            return match (after, asked) {
                (0, asked) => ProtocolError::Unanswered(*asked),
                (12.., Header::GetForce) => ProtocolError::EndOfStream {
                    within: Some(Header::ForceReady),
                    after,
                },
                _ => ProtocolError::EndOfStream {
                    within: None,
                    after,
                },
            };
        }
        after -= len;
    }
    unreachable!("{end} is behind the end")
}

#[test]
fn the_stream_ends_at_each_byte_of_a_conversation() {
    for mode in MODES {
        let answer = answer(33, 1.0, b"{\"dipole\": [1, 2, 3]}");
        let reply = forceready(&answer);
        let have_data = if mode == Mode::Consolidated {
            &b""[..]
        } else {
            HAVEDATA
        };
        let heard = [NEEDINIT, READY, have_data, &reply].concat();
        let answers = [
            (Header::Status, 12),
            (Header::Status, 12),
            (Header::Status, have_data.len()),
            (Header::GetForce, reply.len()),
        ];
        let structure = atoms(33);
        for end in 0..heard.len() {
            for split in [Split::Whole, Split::Anew(end as u64)] {
                let mut server = server(mode);
                let mut script = script(&mut server, split)
                    .evaluates(&structure)
                    .says(STATUS)
                    .hears(&heard[..end]);
                let turns = [
                    (12, [&init(0, " "), STATUS].concat()),
                    (24, positions(mode, &structure)),
                    (36, request(mode)),
                ];
                let turns = turns
                    .iter()
                    .take(if have_data.is_empty() { 2 } else { 3 })
                    .filter(|(at, _)| end >= *at);
                script = script.says(turns.map(|it| it.1.as_slice()).collect::<Vec<_>>().concat());
                script
                    .waits()
                    .hears_the_end()
                    .refuses(expected(&answers, end));
            }
        }
    }
    reads(
        ProtocolError::EndOfStream {
            within: Some(Header::ForceReady),
            after: 17,
        },
        &["closed", "inside FORCEREADY", "17 bytes", "connect again"],
    );
    reads(
        ProtocolError::Unanswered(Header::GetForce),
        &["closed", "instead of answering GETFORCE", "its own output"],
    );
}

#[test]
fn the_stream_ends_at_each_byte_of_a_batch() {
    let batch = [golden(), golden()];
    let answers: Vec<_> = [&b"{}"[..], b"long", b""]
        .iter()
        .map(|extras| answer(1, 1.0, extras))
        .collect();
    let reply = forceready_batch(&answers);
    for end in 0..reply.len() {
        for split in [Split::Whole, Split::Anew(end as u64)] {
            let mut server = server(Mode::Batched(3));
            script(&mut server, split)
                .hears([NEEDINIT, READY, &reply[..end]].concat())
                .evaluates_batch(&batch)
                .says(
                    [
                        STATUS,
                        &init(0, "  batch_size:3"),
                        STATUS,
                        &posdata_batch(&[golden(), golden(), golden()]),
                        GETFORCE,
                        STATUS,
                    ]
                    .concat(),
                )
                .waits()
                .hears_the_end()
                .refuses(expected(&[(Header::GetForce, reply.len())], end));
        }
    }
}

/// A complete answer counts; the end after it belongs to the next exchange.
#[test]
fn the_end_behind_an_answer() {
    for mode in MODES {
        at_every_split(|split| {
            let mut server = at_work(mode, true);
            let script = script(&mut server, split)
                .has_sent(&golden())
                .takes()
                .hears(hex(GOLDEN_FORCEREADY))
                .hears_the_end()
                .gets(&golden_answer())
                .asks();
            let said = if mode == Mode::Strict { STATUS } else { b"" };
            script
                .says(said)
                .learns(Status::DISCONNECTED)
                .knows(Status::DISCONNECTED)
                .evaluates(&golden())
                .refuses(ProtocolError::Unanswered(Header::Status))
                .exits()
                .ends()
                .reconnects()
                .knows(Status::UP);
        });
    }
}

/// The status of a driver that has gone, and the result of each call.
#[test]
fn each_call_to_a_driver_that_has_gone() {
    at_every_split(|split| {
        let mut server = at_work(Mode::Classic, false);
        let gone = ProtocolError::Unanswered(Header::Status);
        let mut script = script(&mut server, split)
            .has_sent(&golden())
            .takes()
            .hears_the_end()
            .refuses(gone)
            .knows(Status::DISCONNECTED);
        for call in [Call::Initialize, Call::Send, Call::Forces, Call::Evaluate] {
            script = script.calls(call).refuses(gone);
        }
        script
            .asks()
            .learns(Status::DISCONNECTED)
            .exits()
            .says_nothing()
            .ends();
    });
}

/// If a peer closes while we still write, the transport notices it, or the answer is missing.
#[test]
fn the_end_in_the_middle_of_a_message() {
    let structure = atoms(40);
    let cell = structure.cell();
    let mut server = at_ready(Server::new());
    let request = Request::new(&cell, &structure.positions);
    pour_some(server.send_positions(request), &mut &b""[..], 100);
    server.send_positions(request).end();
    assert_eq!(server.last_status(), Status::DISCONNECTED);
    let error = ProtocolError::Unanswered(Header::Status);
    assert_eq!(run(server.send_positions(request), b""), Err(error));
    assert_eq!(run(server.status(), b""), Ok(Status::DISCONNECTED));
    assert_eq!(run(server.exit(), b""), Ok(()));
    // Bytes that a transport reports after the end are ignored.
    let sent = server.traffic();
    server.status().advance(5);
    server.exit().advance(5);
    assert_eq!(server.traffic(), sent);
}
