//! A server's phases, the calls in them, and its reaction to each message.

use forcewire::{Header, Mode, ProtocolError, Request, Server, Status};

use crate::{MALFORMED, MODES, hears, table};
use forcewire_support::*;

/// The effect of each call in each phase: the bytes that the server sends; `waits` if it sends
/// nothing and reads; `done` if it does nothing at all; `turn` if it is refused; `due` if it is
/// refused because forces for another request are owed. Written by hand from
/// `src/manual/protocol.md`, section 2; the STATUS after GETFORCE is i-PI's probe. Classic:
/// GETFORCE after the driver has answered HAVEDATA.
const CLASSIC: &str = "
           status   initialize   send            forces           evaluate         exit
unknown    STATUS   turn         turn            turn             STATUS           EXIT
asked      waits    turn         turn            turn             waits            EXIT
needs-init STATUS   INIT+STATUS  turn            turn             INIT+STATUS      EXIT
init-sent  waits    turn         turn            turn             waits            EXIT
ready      STATUS   turn         POSDATA+STATUS  turn             POSDATA+STATUS   EXIT
computing  waits    turn         turn            waits            due              EXIT
has-data   done     turn         turn            GETFORCE+STATUS  due              EXIT
awaiting   done     turn         turn            waits            due              EXIT
leaving    done     turn         turn            turn             turn             waits
gone       done     turn         turn            turn             turn             done
";

/// Consolidated: POSDATA and GETFORCE at once, without HAVEDATA.
const CONSOLIDATED: &str = "
           status   initialize   send                     forces   evaluate                 exit
unknown    STATUS   turn         turn                     turn     STATUS                   EXIT
asked      waits    turn         turn                     turn     waits                    EXIT
needs-init STATUS   INIT+STATUS  turn                     turn     INIT+STATUS              EXIT
init-sent  waits    turn         turn                     turn     waits                    EXIT
ready      STATUS   turn         POSDATA+GETFORCE+STATUS  turn     POSDATA+GETFORCE+STATUS  EXIT
awaiting   done     turn         turn                     waits    due                      EXIT
leaving    done     turn         turn                     turn     turn                     waits
gone       done     turn         turn                     turn     turn                     done
";

/// Strict: every STATUS is followed by what the driver has asked for, so none is sent twice and
/// none after GETFORCE.
const STRICT: &str = "
           status   initialize   send            forces    evaluate        exit
unknown    STATUS   turn         turn            turn      STATUS          EXIT
asked      waits    turn         turn            turn      waits           EXIT
needs-init done     INIT+STATUS  turn            turn      INIT+STATUS     EXIT
init-sent  waits    turn         turn            turn      waits           EXIT
ready      done     turn         POSDATA+STATUS  turn      POSDATA+STATUS  EXIT
computing  waits    turn         turn            waits     due             EXIT
has-data   done     turn         turn            GETFORCE  due             EXIT
awaiting   done     turn         turn            waits     due             EXIT
leaving    done     turn         turn            turn      turn            waits
gone       done     turn         turn            turn      turn            done
";

/// The effect of each answer on a server that waits for one: its new status, or the refusal. A
/// server that has sent EXIT drops all bytes. In the other phases nothing is read, so nothing can
/// arrive.
const ANSWERS: &str = "
             asked       init-sent   computing   awaiting    leaving
STATUS       answer      answer      answer      answer      dropped
INIT         answer      answer      answer      answer      dropped
POSDATA      answer      answer      answer      answer      dropped
GETFORCE     answer      answer      answer      answer      dropped
EXIT         answer      answer      answer      answer      dropped
NEEDINIT     needs-init  init-again  answer      answer      dropped
READY        ready       ready       answer      answer      dropped
HAVEDATA     answer      answer      has-data    answer      dropped
FORCEREADY   answer      answer      answer      forces      dropped
lower-case   unknown     unknown     unknown     unknown     dropped
out-of-step  unknown     unknown     unknown     unknown     dropped
noughts      unknown     unknown     unknown     unknown     dropped
blank        unknown     unknown     unknown     unknown     dropped
http         unknown     unknown     unknown     unknown     dropped
(the-end)    gone        gone        gone        gone        done
";

/// The effect of a call: the bytes sent, and the result if it ended.
type Came = (Vec<u8>, Option<Result<(), ProtocolError>>);

fn calls(server: &mut Server, call: &str, inbox: &mut &[u8], ended: bool, piece: usize) -> Came {
    let (cell, positions) = (golden().cell(), golden().positions);
    let request = Request::new(&cell, &positions);
    let (mut forces, mut extras) = ([[UNTOUCHED; 3]], [b'#'; 4]);
    let (said, told) = match call {
        "status" => {
            let (said, told) = hears(server.status(), inbox, ended, piece);
            let known = server.last_status();
            // The returned status equals the known one.
            let told = told.map(|told| told.map(|status| assert_eq!(status, known)));
            (said, told)
        }
        "initialize" => hears(server.initialize(0, b" "), inbox, ended, piece),
        "send" => hears(server.send_positions(request), inbox, ended, piece),
        "exit" => hears(server.exit(), inbox, ended, piece),
        "forces" | "evaluate" => {
            let exchange = if call == "forces" {
                server.get_forces(&mut forces, &mut extras)
            } else {
                server.evaluate(request, &mut forces, &mut extras)
            };
            let (said, told) = hears(exchange, inbox, ended, piece);
            let told = told.map(|told| {
                told.map(|answer| {
                    let expected = golden_answer();
                    assert_eq!(
                        answer.evaluation.energy.to_bits(),
                        expected.evaluation.energy.to_bits()
                    );
                    assert_eq!(answer.evaluation.virial, expected.evaluation.virial);
                    assert_eq!(forces.as_slice(), expected.forces);
                    assert_eq!(answer.extras(&extras), expected.extras);
                })
            });
            (said, told)
        }
        _ => unreachable!("{call}"),
    };
    (said, told)
}

/// A server in this phase.
fn phase(name: &str, mode: Mode, piece: usize) -> Server {
    let mut server = Server::new().mode(mode);
    // The calls and messages that lead to this phase.
    let consolidated = matches!(mode, Mode::Consolidated | Mode::Batched(_));
    let steps: &[(&str, &[u8])] = match name {
        "unknown" => &[],
        "asked" => &[("status", b"")],
        "needs-init" => &[("status", NEEDINIT)],
        "init-sent" => &[("status", NEEDINIT), ("initialize", b"")],
        "ready" => &[("status", READY)],
        "computing" => &[("status", READY), ("send", b"")],
        "has-data" => &[("status", READY), ("send", b""), ("status", HAVEDATA)],
        "awaiting" if consolidated => &[("status", READY), ("send", b"")],
        "awaiting" => &[
            ("status", READY),
            ("send", b""),
            ("status", HAVEDATA),
            ("forces", b""),
        ],
        "leaving" | "gone" => &[("status", READY), ("exit", b"")],
        _ => unreachable!("{name}"),
    };
    for (call, mut heard) in steps.iter().copied() {
        let (_, told) = calls(&mut server, call, &mut heard, false, piece);
        assert!(!matches!(told, Some(Err(_))), "{name}: {told:?}");
        assert_eq!(heard.len(), 0, "{name}");
    }
    if name == "gone" {
        calls(&mut server, "exit", &mut &b""[..], true, piece);
    }
    server
}

fn known(name: &str) -> Status {
    match name {
        "unknown" => Status::UP,
        "asked" | "init-sent" | "computing" | "awaiting" => Status::UP | Status::BUSY,
        "needs-init" => Status::UP | Status::NEEDS_INIT,
        "ready" => Status::UP | Status::READY,
        "has-data" => Status::UP | Status::HAS_DATA,
        "leaving" | "gone" => Status::DISCONNECTED,
        _ => unreachable!("{name}"),
    }
}

fn bytes(message: &str) -> Vec<u8> {
    match message {
        "STATUS" => STATUS.to_vec(),
        "INIT" => init(0, " "),
        "POSDATA" => posdata(&golden()),
        "GETFORCE" => GETFORCE.to_vec(),
        "EXIT" => EXIT.to_vec(),
        "NEEDINIT" => NEEDINIT.to_vec(),
        "READY" => READY.to_vec(),
        "HAVEDATA" => HAVEDATA.to_vec(),
        "FORCEREADY" => hex(GOLDEN_FORCEREADY),
        "(the-end)" => vec![],
        _ => {
            let known = MALFORMED.iter().find(|it| it.0 == message);
            known.expect("a malformed message").1.to_vec()
        }
    }
}

fn header(message: &str) -> Header {
    match message {
        "STATUS" | "status" => Header::Status,
        "INIT" | "initialize" => Header::Init,
        "POSDATA" | "send" | "evaluate" => Header::PosData,
        "GETFORCE" | "forces" => Header::GetForce,
        "EXIT" | "exit" => Header::Exit,
        "NEEDINIT" => Header::NeedInit,
        "READY" => Header::Ready,
        "HAVEDATA" => Header::HaveData,
        "FORCEREADY" => Header::ForceReady,
        _ => unreachable!("{message}"),
    }
}

#[test]
fn each_call_in_each_phase() {
    let mut pairs = 0;
    for mode in MODES {
        let (names, rows) = table(match mode {
            Mode::Classic => CLASSIC,
            Mode::Consolidated => CONSOLIDATED,
            Mode::Strict => STRICT,
            // INIT of a server in this mode announces batches; without INIT there are none.
            Mode::Batched(_) => CONSOLIDATED,
        });
        for (name, cells) in rows {
            for (call, does) in names.iter().zip(cells) {
                for piece in [1, 5, usize::MAX] {
                    let at = format!("{mode:?}: {call} when {name}, {piece} bytes at once");
                    called(mode, name, call, does, piece, &at);
                }
                pairs += 1;
            }
        }
    }
    assert_eq!(pairs, 6 * (10 + 8 + 10 + 8));
    println!("server: {pairs} pairs of phase and call");
}

fn called(mode: Mode, name: &str, call: &str, does: &str, piece: usize, at: &str) {
    let mut server = phase(name, mode, piece);
    let status = known(name);
    assert_eq!(server.last_status(), status, "{at}");
    let (said, told) = calls(&mut server, call, &mut &b""[..], false, piece);
    match does {
        "turn" => {
            let command = header(call);
            let error = ProtocolError::InvalidStatus { command, status };
            assert_eq!((said, told), (vec![], Some(Err(error))), "{at}");
            assert_eq!(server.last_status(), status, "{at}: as it was");
        }
        "due" => {
            let error = ProtocolError::AnswerDue;
            assert_eq!((said, told), (vec![], Some(Err(error))), "{at}");
            assert_eq!(server.last_status(), status, "{at}: as it was");
        }
        "done" => assert_eq!((said, told), (vec![], Some(Ok(()))), "{at}"),
        "waits" => assert_eq!((said, told), (vec![], None), "{at}"),
        words => {
            let mut expected: Vec<_> = words.split('+').flat_map(bytes).collect();
            if words.starts_with("INIT") && matches!(mode, Mode::Batched(_)) {
                expected = [init(0, "  batch_size:2"), STATUS.to_vec()].concat();
            }
            assert_eq!(
                said.escape_ascii().to_string(),
                expected.escape_ascii().to_string(),
                "{at}"
            );
            let ends = matches!(call, "initialize" | "send");
            assert_eq!(told, ends.then_some(Ok(())), "{at}");
        }
    }
    works_after_a_reset(server, mode, at);
}

#[test]
fn each_answer_in_each_phase() {
    let (phases, rows) = table(ANSWERS);
    assert_eq!(rows.len(), 15);
    let mut pairs = 0;
    for mode in MODES {
        for (answer, cells) in &rows {
            for (name, does) in phases.iter().zip(cells) {
                let classic = matches!(mode, Mode::Classic | Mode::Strict);
                if *name == "computing" && !classic {
                    continue;
                }
                for piece in [1, 5, usize::MAX] {
                    let at = format!("{mode:?}: {answer} when {name}, {piece} bytes at once");
                    answered(mode, name, answer, does, piece, &at);
                }
                pairs += 1;
            }
        }
    }
    assert_eq!(pairs, 15 * (5 + 4 + 5 + 4));
    println!("server: {pairs} pairs of phase and answer");
}

fn answered(mode: Mode, name: &str, answer: &str, does: &str, piece: usize, at: &str) {
    let mut server = phase(name, mode, piece);
    let call = match name {
        "leaving" => "exit",
        "awaiting" => "forces",
        _ => "status",
    };
    let answer_bytes = bytes(answer);
    let mut inbox = answer_bytes.as_slice();
    let ended = answer == "(the-end)";
    let (said, told) = calls(&mut server, call, &mut inbox, ended, piece);
    assert_eq!(said, b"", "{at}");
    let to = match name {
        "awaiting" => Header::GetForce,
        _ => Header::Status,
    };
    let error = match does {
        "dropped" => {
            assert_eq!((told, inbox.len()), (None, 0), "{at}");
            return works_after_a_reset(server, mode, at);
        }
        "forces" | "done" => {
            assert_eq!((told, inbox.len()), (Some(Ok(())), 0), "{at}");
            return works_after_a_reset(server, mode, at);
        }
        "gone" if call == "status" => {
            assert_eq!(told, Some(Ok(())), "{at}");
            assert_eq!(server.last_status(), Status::DISCONNECTED, "{at}");
            let (_, told) = calls(&mut server, "evaluate", &mut &b""[..], true, piece);
            let error = ProtocolError::Unanswered(to);
            assert_eq!(told, Some(Err(error)), "{at}");
            return works_after_a_reset(server, mode, at);
        }
        "gone" => ProtocolError::Unanswered(to),
        "answer" => ProtocolError::UnexpectedAnswer {
            answer: header(answer),
            to,
        },
        // A driver that asks again right after INIT would do so forever.
        "init-again" => ProtocolError::UnexpectedAnswer {
            answer: Header::NeedInit,
            to: Header::Init,
        },
        "unknown" => ProtocolError::UnknownHeader(answer_bytes[..].try_into().expect("a header")),
        status => {
            assert_eq!((told, inbox.len()), (Some(Ok(())), 0), "{at}");
            assert_eq!(server.last_status(), known(status), "{at}");
            return works_after_a_reset(server, mode, at);
        }
    };
    assert_eq!(told, Some(Err(error)), "{at}");
    assert_eq!(server.last_status(), Status::DISCONNECTED, "{at}");
    if does != "gone" {
        // Nothing after the header is read, and each later call is refused with the same error.
        assert_eq!(inbox.len(), answer_bytes.len() - 12, "{at}");
        for call in ["status", "initialize", "send", "forces", "evaluate", "exit"] {
            let came = calls(&mut server, call, &mut &*READY, true, piece);
            assert_eq!(came, (vec![], Some(Err(error))), "{at}: final");
        }
    }
    works_after_a_reset(server, mode, at);
}

/// After a reset the server is like a new one: an evaluation succeeds.
fn works_after_a_reset(mut server: Server, mode: Mode, at: &str) {
    server.reset();
    assert_eq!(server.last_status(), Status::UP, "{at}");
    let data = match mode {
        Mode::Classic | Mode::Strict => HAVEDATA,
        _ => b"",
    };
    let heard = [READY, data, &hex(GOLDEN_FORCEREADY)].concat();
    let mut inbox = heard.as_slice();
    let (said, told) = calls(&mut server, "evaluate", &mut inbox, false, 7);
    assert_eq!((told, inbox.len()), (Some(Ok(())), 0), "{at}");
    assert!(
        said.starts_with(&[STATUS, &posdata(&golden())].concat()),
        "{at}"
    );
}
