//! A driver's states and its reaction to each message.

use forcewire::{Driver, Event, Header, Initialize, ProtocolError};

use crate::{MALFORMED, hears, table};
use forcewire_support::*;

/// Written by hand from `src/manual/protocol.md`, sections 2 and 3. A cell has the driver's bytes;
/// after `:`, its result; after `>`, its new status, if that has changed.
///
/// In `replies`, `batch` and `again` the caller has replied; in `attends` it computes and listens.
/// `again` needs INIT for every structure. A driver whose caller computes and does not read
/// receives nothing, and neither does one that is about to send FORCEREADY.
const TABLE: &str = "
             uninit      ready       batches     attends     replies            batch              again
STATUS       NEEDINIT    READY       READY       HAVEDATA    HAVEDATA           HAVEDATA           HAVEDATA
INIT         :init>READY :init       :init       -           -                  -                  -
POSDATA      turn        :pos>HAVEDATA :pos>HAVEDATA turn    turn               turn               turn
GETFORCE     turn        turn        turn        :asked      FORCEREADY>READY   FORCEREADY>READY   FORCEREADY>NEEDINIT
EXIT         :exit       :exit       :exit       :exit       :exit              :exit              :exit
NEEDINIT     turn        turn        turn        turn        turn               turn               turn
READY        turn        turn        turn        turn        turn               turn               turn
HAVEDATA     turn        turn        turn        turn        turn               turn               turn
FORCEREADY   turn        turn        turn        turn        turn               turn               turn
lower-case   unknown     unknown     unknown     unknown     unknown            unknown            unknown
out-of-step  unknown     unknown     unknown     unknown     unknown            unknown            unknown
noughts      unknown     unknown     unknown     unknown     unknown            unknown            unknown
blank        unknown     unknown     unknown     unknown     unknown            unknown            unknown
http         unknown     unknown     unknown     unknown     unknown            unknown            unknown
(the-end)    :closed     :closed     :closed     :closed     :closed            :closed            :closed
";

/// The caller's activity.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Caller {
    Receives,
    Attends,
    /// The caller replies to this many structures.
    Replies(usize),
}

/// The result of the driver's exchange.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Told {
    /// The exchange waits for more bytes.
    Nothing,
    /// The server has asked for the forces.
    Asked,
    Replied,
    Event(Event),
}

/// A driver in this state.
fn state(name: &str, piece: usize) -> (Driver, Caller) {
    let (initialize, heard, caller) = match name {
        "uninit" => (Initialize::Once, vec![], Caller::Receives),
        "ready" => (Initialize::Never, vec![], Caller::Receives),
        "batches" => (Initialize::Once, init(0, "batch_size:2"), Caller::Receives),
        "attends" => (Initialize::Never, posdata(&golden()), Caller::Attends),
        "replies" => (Initialize::Never, posdata(&golden()), Caller::Replies(1)),
        "batch" => {
            let batch = posdata_batch(&[golden(), golden()]);
            let heard = [init(0, "batch_size:2"), batch].concat();
            (Initialize::Once, heard, Caller::Replies(2))
        }
        "again" => {
            let heard = [init(0, " "), posdata(&golden())].concat();
            (Initialize::EveryStep, heard, Caller::Replies(1))
        }
        _ => unreachable!("{name}"),
    };
    let mut driver = Driver::new().initialize(initialize);
    let mut inbox = heard.as_slice();
    while !inbox.is_empty() {
        let (said, told) = goes_on(&mut driver, Caller::Receives, &mut inbox, false, piece);
        assert_eq!(said, b"");
        assert!(matches!(told, Ok(Told::Event(_))), "{told:?}");
    }
    (driver, caller)
}

fn goes_on(
    driver: &mut Driver,
    caller: Caller,
    inbox: &mut &[u8],
    ended: bool,
    piece: usize,
) -> (Vec<u8>, Result<Told, ProtocolError>) {
    let answer = golden_answer();
    let (evaluations, forces) = ([answer.evaluation; 2], [answer.forces[0]; 2]);
    let extras = [answer.extras.as_slice(); 2];
    let (said, told) = match caller {
        Caller::Receives => {
            let (cells, positions) = (&mut [UNTOUCHED_CELL; 2], &mut [[UNTOUCHED; 3]; 2]);
            let receive = driver.receive_batch(cells, positions);
            let (said, told) = hears(receive, inbox, ended, piece);
            (said, told.map(|told| told.map(Told::Event)))
        }
        Caller::Attends => {
            let (said, told) = hears(driver.await_getforce(), inbox, ended, piece);
            let told = told.map(|told| told.map(|event| event.map_or(Told::Asked, Told::Event)));
            (said, told)
        }
        Caller::Replies(n) => {
            let reply = driver.reply_batch(&evaluations[..n], &forces[..n], &extras[..n]);
            let (said, told) = hears(reply, inbox, ended, piece);
            (said, told.map(|told| told.map(|()| Told::Replied)))
        }
    };
    (said, told.unwrap_or(Ok(Told::Nothing)))
}

/// A message as it is sent to a driver in this state, and its header.
fn message(name: &str, state: &str) -> (Vec<u8>, Option<Header>) {
    let header = |bytes: &[u8; 12]| bytes.to_vec();
    match name {
        "STATUS" => (STATUS.to_vec(), Some(Header::Status)),
        "INIT" => (init(-7, "key : value"), Some(Header::Init)),
        "POSDATA" if state == "batches" || state == "batch" => {
            let batch = posdata_batch(&[golden(), golden()]);
            (batch, Some(Header::PosData))
        }
        "POSDATA" => (posdata(&golden()), Some(Header::PosData)),
        "GETFORCE" => (GETFORCE.to_vec(), Some(Header::GetForce)),
        "EXIT" => (EXIT.to_vec(), Some(Header::Exit)),
        "NEEDINIT" => (NEEDINIT.to_vec(), Some(Header::NeedInit)),
        "READY" => (READY.to_vec(), Some(Header::Ready)),
        "HAVEDATA" => (HAVEDATA.to_vec(), Some(Header::HaveData)),
        "FORCEREADY" => (hex(GOLDEN_FORCEREADY), Some(Header::ForceReady)),
        "(the-end)" => (vec![], None),
        _ => {
            let known = MALFORMED.iter().find(|it| it.0 == name);
            (header(known.expect("a malformed message").1), None)
        }
    }
}

fn status(name: &str) -> Header {
    match name {
        "NEEDINIT" => Header::NeedInit,
        "READY" => Header::Ready,
        "HAVEDATA" => Header::HaveData,
        _ => unreachable!("{name}"),
    }
}

#[test]
fn each_message_in_each_state() {
    let (states, rows) = table(TABLE);
    let mut pairs = 0;
    for (name, cells) in &rows {
        for (state_name, cell) in states.iter().zip(cells) {
            for piece in [1, 5, usize::MAX] {
                meets(name, state_name, cell, piece);
            }
            pairs += 1;
        }
    }
    // Nine headers, five malformed ones, and the end.
    assert_eq!((rows.len(), pairs), (15, 15 * 7));
    println!("driver: {pairs} pairs of state and message");
}

/// One cell of the table.
fn meets(name: &str, state_name: &str, cell: &str, piece: usize) {
    let at = format!("{name} in state {state_name}, {piece} bytes at once");
    let (mut driver, mut caller) = state(state_name, piece);
    let before = driver.status();
    let (bytes, header) = message(name, state_name);
    let mut inbox = bytes.as_slice();
    let ended = name == "(the-end)";
    let (said, told) = goes_on(&mut driver, caller, &mut inbox, ended, piece);
    let (does, after) = cell.split_once('>').unwrap_or((cell, ""));
    let after = if after.is_empty() {
        before
    } else {
        status(after)
    };
    let structures = if state_name.starts_with("batch") {
        2
    } else {
        1
    };
    let expected = match does {
        "turn" | "unknown" => {
            let error = match header {
                Some(command) => ProtocolError::OutOfTurn {
                    command,
                    status: before,
                },
                None => ProtocolError::UnknownHeader(bytes[..12].try_into().expect("a header")),
            };
            assert_eq!(does == "turn", header.is_some(), "{at}");
            // Nothing after the header is read, and nothing is sent now or later.
            assert_eq!((said, told), (vec![], Err(error)), "{at}");
            assert_eq!(inbox.len(), bytes.len() - 12, "{at}");
            let (said, told) = goes_on(&mut driver, caller, &mut &*STATUS, true, piece);
            assert_eq!((said, told), (vec![], Err(error)), "{at}: final");
            assert_eq!(driver.status(), after, "{at}");
            return works_after_a_reset(driver, &at);
        }
        ":exit" | ":closed" => {
            let event = if does == ":exit" {
                Event::Exit
            } else {
                Event::Closed
            };
            let first = match caller {
                Caller::Replies(_) => Told::Replied,
                _ => Told::Event(event),
            };
            assert_eq!((said, told), (vec![], Ok(first)), "{at}");
            // The result is returned each time, and nothing is read.
            for caller in [Caller::Receives, Caller::Attends] {
                let mut more = STATUS;
                let (said, told) = goes_on(&mut driver, caller, &mut more, true, piece);
                let event = Told::Event(event);
                assert_eq!((said, told), (vec![], Ok(event)), "{at}: final");
                assert_eq!(more.len(), 12, "{at}");
            }
            return works_after_a_reset(driver, &at);
        }
        "NEEDINIT" | "READY" | "HAVEDATA" => (message(does, "").0, Told::Nothing),
        "FORCEREADY" => {
            let answers = vec![golden_answer(); structures];
            (forceready_batch(&answers), Told::Replied)
        }
        "-" => (vec![], Told::Nothing),
        ":asked" => (vec![], Told::Asked),
        ":init" => (vec![], Told::Event(Event::Init { replica: -7 })),
        ":pos" => {
            let event = Event::Positions {
                natoms: 1,
                structures,
                cell: golden().cell(),
            };
            (vec![], Told::Event(event))
        }
        _ => unreachable!("{cell}"),
    };
    assert_eq!((said, told), (expected.0, Ok(expected.1)), "{at}");
    assert_eq!(inbox.len(), 0, "{at}: all of it was heard");
    assert_eq!(driver.status(), after, "{at}");
    if driver.status() == Header::HaveData {
        if does != "-" {
            // Nothing is received until the reply has been sent.
            let mut more = STATUS;
            let (said, told) = goes_on(&mut driver, Caller::Receives, &mut more, false, piece);
            assert_eq!(told, Err(ProtocolError::ReplyDue), "{at}");
            assert_eq!((said.len(), more.len()), (0, 12), "{at}");
        }
        caller = Caller::Replies(structures);
        let mut asked = if does == ":asked" { &b""[..] } else { GETFORCE };
        let (said, told) = goes_on(&mut driver, caller, &mut asked, false, piece);
        let answers = vec![golden_answer(); structures];
        let reply = (forceready_batch(&answers), Ok(Told::Replied));
        assert_eq!((said, told), reply, "{at}");
    }
    if cell == "-" {
        // An INIT that arrived while the driver waited for GETFORCE is reported after the reply.
        let (said, told) = goes_on(&mut driver, Caller::Receives, &mut &b""[..], false, piece);
        let told_late = Told::Event(Event::Init { replica: -7 });
        assert_eq!((said, told), (vec![], Ok(told_late)), "{at}");
    }
    works_after_a_reset(driver, &at);
}

/// After a reset the driver is like a new one: an evaluation succeeds.
fn works_after_a_reset(mut driver: Driver, at: &str) {
    driver.reset();
    let first = driver.status();
    assert_ne!(first, Header::HaveData, "{at}");
    let asked = first == Header::NeedInit;
    let before = if asked { init(1, " ") } else { vec![] };
    let all = [STATUS, &before, &posdata(&golden()), GETFORCE].concat();
    let mut inbox = all.as_slice();
    let mut said = Vec::new();
    for (caller, expected) in [
        (Caller::Receives, Told::Event(Event::Init { replica: 1 })),
        (Caller::Receives, Told::Event(golden().event())),
        (Caller::Replies(1), Told::Replied),
    ] {
        if matches!(expected, Told::Event(Event::Init { .. })) && !asked {
            continue;
        }
        let (more, told) = goes_on(&mut driver, caller, &mut inbox, false, 7);
        said.extend(more);
        assert_eq!(told, Ok(expected), "{at}: after a reset");
    }
    let answer = if asked { NEEDINIT } else { READY };
    assert_eq!(said, [answer, &hex(GOLDEN_FORCEREADY)].concat(), "{at}");
}
