//! The clumsy and hostile servers that drivers are played against.

use std::thread::sleep;
use std::time::Duration;

use forcewire::Header::{Exit, GetForce, HaveData, PosData, Status};

use crate::driver::{Session, Situation, Stop};
use crate::line::PAUSE;
use crate::report::Finding;
use crate::situation::{About, CONTROL, FINITE, STREAM, WORDS};
use crate::wire::{
    ATOM, CELL, COUNT, HTTP, MATRIX, POSITIONS, header, init, noise, posdata, reals, with,
};

type Outcome = Result<Finding, Stop>;

const fn after_control(
    name: &'static str,
    does: &'static str,
    why: &'static str,
    reference: &'static str,
    script: fn(&mut Session) -> Outcome,
) -> Situation {
    Situation {
        about: About::new(name, does, why, reference),
        fresh: false,
        script,
    }
}

const fn at_once(
    name: &'static str,
    does: &'static str,
    why: &'static str,
    reference: &'static str,
    script: fn(&mut Session) -> Outcome,
) -> Situation {
    Situation {
        fresh: true,
        ..after_control(name, does, why, reference, script)
    }
}

const MESSAGE: &str = "a message is complete with its last byte, and i-PI's drivers compute then";
const COUNTS: &str =
    "the number of atoms is an int32, at least 0, and the same within a run (i-PI's driver.py)";
const TEXT: &str =
    "INIT: int32 replica, int32 length, so many bytes (i-PI sockets.py, `initialize`)";
const ORDER: &str =
    "STATUS at any time; POSDATA when READY; GETFORCE when HAVEDATA (i-PI's driver.f90)";
const END: &str = "EXIT at any message's end; ASE's server closes instead (socketio.py, `close`)";

/// All of them. The first one is the control.
pub const SERVERS: &[Situation] = &[
    after_control(
        CONTROL,
        "(control: a good server)",
        "what has to go well before anything else can be judged",
        ORDER,
        |s| s.carries_on(),
    ),
    // Bytes that come in other pieces.
    after_control(
        "split-header",
        "sends a header in two segments",
        "a router fragments, a sender writes twice",
        STREAM,
        |s| {
            s.line.send(&header(Status)[..1])?;
            sleep(20 * PAUSE);
            s.line.send(&header(Status)[1..])?;
            let heard = s.hears()?;
            s.ready(&heard)?;
            s.carries_on()
        },
    ),
    after_control(
        "dribble",
        "sends everything a byte at a time",
        "a serial line, a microcontroller without buffers",
        STREAM,
        |s| {
            s.line.dribble(header(Status))?;
            let heard = s.hears()?;
            s.ready(&heard)?;
            s.line.dribble(&s.posdata(1))?;
            s.line.dribble(header(Status))?;
            s.expects(HaveData)?;
            s.line.dribble(header(GetForce))?;
            let answer = s.answer(s.structure(1).positions.len())?;
            s.is(&answer, 1)?;
            s.carries_on()
        },
    ),
    after_control(
        "pieces",
        "sends positions in pieces of 5 bytes",
        "a large structure over a real network comes in segments that end anywhere",
        STREAM,
        |s| {
            s.is_ready()?;
            s.line.pieces(&s.posdata(1), 5)?;
            s.has_data()?;
            let answer = s.forces(s.structure(1).positions.len())?;
            s.is(&answer, 1)?;
            s.carries_on()
        },
    ),
    after_control(
        "one-segment",
        "sends POSDATA, STATUS and GETFORCE in one write",
        "a server that does not wait for HAVEDATA, or whose kernel puts writes together",
        STREAM,
        |s| {
            s.is_ready()?;
            let message = [&s.posdata(1), header(Status), header(GetForce)].concat();
            s.line.send(&message)?;
            s.expects(HaveData)?;
            let answer = s.answer(s.structure(1).positions.len())?;
            s.is(&answer, 1)?;
            s.carries_on()
        },
    ),
    after_control(
        "consolidated",
        "sends POSDATA and GETFORCE in one write",
        "i-PI since 3.2 does, unless it is told not to",
        "i-PI 3.3.1 sockets.py, `dispatch_send`",
        |s| {
            s.is_ready()?;
            s.line.send(&[&s.posdata(1), header(GetForce)].concat())?;
            let answer = s.answer(s.structure(1).positions.len())?;
            s.is(&answer, 1)?;
            s.carries_on()
        },
    ),
    after_control(
        "ten-status",
        "asks STATUS ten times in one write",
        "an impatient server, or one that polls a driver that computes",
        ORDER,
        |s| {
            s.is_ready()?;
            s.line.send(&header(Status).repeat(10))?;
            for _ in 0..10 {
                let heard = s.hears()?;
                s.ready(&heard)?;
            }
            s.carries_on()
        },
    ),
    after_control(
        "status-behind-getforce",
        "sends GETFORCE and the next STATUS in one write",
        "a server that hurries to the next step",
        STREAM,
        |s| {
            s.is_ready()?;
            s.line.send(&s.posdata(1))?;
            s.has_data()?;
            s.line.send(&[header(GetForce), header(Status)].concat())?;
            let answer = s.answer(s.structure(1).positions.len())?;
            s.is(&answer, 1)?;
            let heard = s.hears()?;
            s.ready(&heard)?;
            s.carries_on()
        },
    ),
    after_control(
        "slow-reader",
        "takes the reply 7 bytes at a time",
        "a busy server, a narrow network",
        STREAM,
        |s| {
            s.is_ready()?;
            s.line.small_window();
            s.line.send(&s.posdata(1))?;
            s.has_data()?;
            s.send(GetForce)?;
            sleep(100 * PAUSE);
            let answer = s.answer_by(s.structure(1).positions.len(), 7, 5 * PAUSE)?;
            s.is(&answer, 1)?;
            s.carries_on()
        },
    ),
    after_control(
        "idle",
        "says nothing for a second between two steps",
        "another driver is slower, the server writes a restart",
        ORDER,
        |s| {
            sleep(Duration::from_secs(1));
            s.carries_on()
        },
    ),
    after_control(
        "no-status",
        "sends POSDATA without STATUS before it",
        "a server that knows the driver's state (IPICalculator.jl asks once)",
        ORDER,
        |s| {
            s.is_ready()?;
            let natoms = s.structure(1).positions.len();
            for index in [1, 0, 1] {
                s.line.send(&s.posdata(index))?;
                let answer = s.forces(natoms)?;
                s.is(&answer, index)?;
            }
            s.carries_on()
        },
    ),
    // Messages that end too early.
    after_control(
        "cut-header",
        "closes inside a header",
        "the server is killed, or its machine restarts, while it sends",
        MESSAGE,
        |s| s.cut(&header(PosData)[..7]),
    ),
    after_control(
        "cut-after-header",
        "closes after POSDATA's header",
        "a server that fails between two writes (ASE's makes five)",
        MESSAGE,
        |s| {
            s.is_ready()?;
            s.cut(header(PosData))
        },
    ),
    after_control(
        "cut-cell",
        "closes inside the cell",
        "killed while it sends",
        MESSAGE,
        |s| {
            s.is_ready()?;
            let message = s.posdata(1);
            s.cut(&message[..CELL + 44])
        },
    ),
    after_control(
        "cut-count",
        "closes inside the number of atoms",
        "killed while it sends",
        MESSAGE,
        |s| {
            s.is_ready()?;
            let message = s.posdata(1);
            s.cut(&message[..COUNT + 2])
        },
    ),
    after_control(
        "cut-positions",
        "closes inside the positions",
        "killed while it sends; i-PI's `sendall` gives up after 0.1 s",
        MESSAGE,
        |s| {
            s.is_ready()?;
            let message = s.posdata(1);
            s.cut(&message[..message.len() - 20])
        },
    ),
    after_control(
        "cut-before-getforce",
        "closes before GETFORCE, with STATUS unanswered",
        "the simulation ends while forces are computed",
        END,
        |s| {
            s.is_ready()?;
            s.line.send(&s.posdata(1))?;
            s.has_data()?;
            s.hangs_up()
        },
    ),
    after_control(
        "reset-header",
        "resets the connection inside a header",
        "a firewall, a crashed server with data unread",
        "a reset is `ECONNRESET` (RFC 9293, 3.10.7)",
        |s| {
            s.line.send(&header(PosData)[..7])?;
            s.resets()
        },
    ),
    after_control(
        "reset-positions",
        "resets the connection inside the positions",
        "a firewall, a crashed server",
        "a reset is `ECONNRESET` (RFC 9293, 3.10.7)",
        |s| {
            s.is_ready()?;
            let message = s.posdata(1);
            s.line.send(&message[..POSITIONS + ATOM])?;
            sleep(20 * PAUSE);
            s.resets()
        },
    ),
    after_control(
        "reset-reply",
        "resets the connection instead of reading the forces",
        "a server that is killed while drivers compute",
        "a write to it is `EPIPE` and SIGPIPE, which ends programs that did not ask for the error",
        |s| {
            s.is_ready()?;
            s.line.send(&[&s.posdata(1), header(GetForce)].concat())?;
            s.resets()
        },
    ),
    after_control(
        "stall",
        "stops in the middle of the positions, and closes after some time",
        "a suspended server, a cable that is pulled",
        MESSAGE,
        |s| {
            s.is_ready()?;
            let message = s.posdata(1);
            s.stall(&message[..POSITIONS + ATOM / 2])
        },
    ),
    // What is no message.
    after_control(
        "unknown-header",
        "sends a header that there is not",
        "a newer server, another protocol",
        WORDS,
        |s| {
            s.line.send(b"GETSTRESS   ")?;
            s.carries_on()
        },
    ),
    after_control(
        "lower-case",
        "sends \"status\" in lower case",
        "a server written from memory",
        WORDS,
        |s| {
            s.line.send(b"status      ")?;
            s.carries_on_after_an_answer()
        },
    ),
    after_control(
        "nul-padding",
        "pads headers with NUL",
        "a C server that copies a string into zeros",
        WORDS,
        |s| {
            s.line.send(b"STATUS\0\0\0\0\0\0")?;
            s.carries_on_after_an_answer()
        },
    ),
    at_once(
        "http",
        "speaks HTTP",
        "the port belongs to something else",
        WORDS,
        |s| {
            s.line.send(HTTP)?;
            s.carries_on()
        },
    ),
    after_control(
        "garbage",
        "sends 1000 random bytes",
        "the port belongs to something else, a stream out of step",
        WORDS,
        |s| {
            s.line.send(&noise(1000))?;
            s.carries_on()
        },
    ),
    // Counts.
    after_control(
        "negative-atoms",
        "announces -1 atoms",
        "a stream out of step, an overflow",
        COUNTS,
        |s| {
            s.is_ready()?;
            let message = with(s.posdata(1), COUNT, &(-1i32).to_le_bytes());
            s.line.send(&message[..POSITIONS])?;
            s.refuses(0, false)
        },
    ),
    after_control(
        "huge-atoms",
        "announces 2147483647 atoms",
        "a stream out of step",
        COUNTS,
        |s| {
            s.is_ready()?;
            let message = with(s.posdata(1), COUNT, &i32::MAX.to_le_bytes());
            s.stall(&message)
        },
    ),
    after_control(
        "one-atom-more",
        "sends one atom more than before",
        "another simulation at the same port, atoms that are inserted",
        COUNTS,
        |s| {
            let mut more = s.structure(0).clone();
            let [x, y, z] = more.positions[0];
            more.positions.push([x + 40.0, y, z]);
            let natoms = more.positions.len();
            let first = s.evaluate(&more)?;
            if s.evaluate(&more)? != first || first.forces.len() != 3 * natoms {
                return Err(Stop::Wrong("answered twice, with different numbers".into()));
            }
            s.carries_on()
        },
    ),
    after_control(
        "one-atom-less",
        "sends one atom less than before",
        "another simulation at the same port, atoms that are removed",
        COUNTS,
        |s| {
            let mut less = s.structure(0).clone();
            less.positions.pop();
            let first = s.evaluate(&less)?;
            if s.evaluate(&less)? != first {
                return Err(Stop::Wrong("answered twice, with different numbers".into()));
            }
            s.carries_on()
        },
    ),
    at_once(
        "zero-atoms",
        "sends no atoms",
        "a server that tries the connection, an empty region",
        COUNTS,
        |s| {
            let mut none = s.structure(0).clone();
            none.positions.clear();
            let energy = s.evaluate(&none)?.energy;
            let because = format!("answered with no forces and an energy of {energy}");
            Ok(Finding::handled("carried on", because))
        },
    ),
    // Numbers.
    after_control(
        "nan-position",
        "sends a position that is NaN",
        "a simulation that has blown up",
        FINITE,
        |s| position(s, f64::NAN),
    ),
    after_control(
        "infinite-position",
        "sends an infinite position",
        "a simulation that has blown up",
        FINITE,
        |s| position(s, f64::NEG_INFINITY),
    ),
    after_control(
        "infinite-cell",
        "sends a cell with an infinite length",
        "an aperiodic system in a server that means well, a barostat that has blown up",
        FINITE,
        |s| {
            s.is_ready()?;
            let message = with(s.posdata(0), CELL, &f64::INFINITY.to_le_bytes());
            s.line.send(&message)?;
            s.refuses(s.structure(0).positions.len(), true)
        },
    ),
    after_control(
        "nan-cell",
        "sends a cell of NaN",
        "a barostat that has blown up",
        FINITE,
        |s| {
            s.is_ready()?;
            let message = with(s.posdata(0), CELL, &reals(&[f64::NAN; 9]));
            s.line.send(&message)?;
            s.refuses(s.structure(0).positions.len(), true)
        },
    ),
    after_control(
        "singular-cell",
        "sends a cell with two equal vectors",
        "a mistake in an input, a barostat that has blown up",
        "three vectors in a plane have no inverse, and images no nearest one",
        |s| {
            s.is_ready()?;
            let mut flat = s.structure(0).clone();
            for row in &mut flat.h {
                row[1] = row[0];
            }
            s.line.send(&posdata(&flat))?;
            s.refuses(flat.positions.len(), true)
        },
    ),
    after_control(
        "wrong-inverse",
        "sends a wrong inverse with a right cell",
        "ASE sends the transposed inverse, pysisyphus and eOn the unit matrix, IPICalculator.jl zeros",
        "i-PI's driver.py: \"inverse of the cell. mostly useless legacy stuff\"",
        |s| {
            s.is_ready()?;
            let message = with(s.posdata(0), CELL + MATRIX, &[0; MATRIX]);
            s.line.send(&message)?;
            s.has_data()?;
            let answer = s.forces(s.structure(0).positions.len())?;
            s.is(&answer, 0)?;
            s.carries_on()
        },
    ),
    // Out of turn.
    after_control(
        "getforce-first",
        "asks GETFORCE without POSDATA",
        "a server that has lost count, or was restarted",
        ORDER,
        |s| {
            s.is_ready()?;
            s.send(GetForce)?;
            match s.line.receive(12, s.patience()) {
                Ok(heard) if heard == header(forcewire::Header::ForceReady) => Err(Stop::Wrong(
                    "sent the forces of the step before once more".into(),
                )),
                Ok(heard) => {
                    let heard = heard.escape_ascii();
                    Err(Stop::Wrong(format!("answered \"{heard}\" to GETFORCE")))
                }
                // Silence may mean that it took no notice.
                Err(crate::line::Lost::Silent(_)) => s.carries_on(),
                Err(lost) => Err(lost.into()),
            }
        },
    ),
    after_control(
        "posdata-twice",
        "sends POSDATA twice, of two structures",
        "a server that sends again what it thinks was lost",
        ORDER,
        |s| {
            s.is_ready()?;
            s.line.send(&s.posdata(1))?;
            s.has_data()?;
            s.line.send(&s.posdata(0))?;
            s.has_data()?;
            let answer = s.forces(s.structure(0).positions.len())?;
            s.is(&answer, 0)?;
            s.carries_on()
        },
    ),
    after_control(
        "init-unasked",
        "sends INIT to a driver that is READY",
        "older servers always do, i-PI where a driver once asked",
        TEXT,
        |s| {
            s.is_ready()?;
            s.line.send(&init(1, b" "))?;
            s.carries_on()
        },
    ),
    after_control(
        "init-empty",
        "sends INIT with no text",
        "a server without parameters",
        TEXT,
        |s| {
            s.is_ready()?;
            s.line.send(&init(0, b""))?;
            s.carries_on()
        },
    ),
    after_control(
        "init-long",
        "sends INIT with 5000 bytes of text",
        "a server with many parameters; buffers of 80 and 1024 bytes are in use",
        TEXT,
        |s| {
            s.is_ready()?;
            s.line.send(&init(5000, &b"a : 1, ".repeat(715)[..5000]))?;
            s.carries_on()
        },
    ),
    after_control(
        "init-negative",
        "sends INIT with a length of -5",
        "a stream out of step",
        TEXT,
        |s| {
            s.is_ready()?;
            s.line.send(&init(-5, b""))?;
            s.carries_on()
        },
    ),
    after_control(
        "init-huge",
        "sends INIT with a length of 2147483647, and little of it",
        "a stream out of step; IPICalculator.jl writes eight bytes of length",
        TEXT,
        |s| {
            s.is_ready()?;
            s.stall(&init(i32::MAX, b"k : 1"))
        },
    ),
    // Ends.
    at_once(
        "exit-at-once",
        "sends EXIT before anything else",
        "a simulation that ends while a driver connects",
        END,
        |s| {
            s.send(Exit)?;
            s.exits()
        },
    ),
    after_control(
        "exit-ready",
        "sends EXIT to a driver that is READY",
        "the end of every run of i-PI's",
        END,
        |s| {
            s.send(Exit)?;
            s.exits()
        },
    ),
    after_control(
        "exit-behind-posdata",
        "sends POSDATA and EXIT in one write",
        "a simulation that is stopped in the middle of a step",
        END,
        |s| {
            s.is_ready()?;
            s.line.send(&[&s.posdata(1), header(Exit)].concat())?;
            s.exits()
        },
    ),
    after_control(
        "exit-havedata",
        "sends EXIT instead of GETFORCE",
        "a simulation that is stopped in the middle of a step",
        END,
        |s| {
            s.is_ready()?;
            s.line.send(&s.posdata(1))?;
            s.has_data()?;
            s.send(Exit)?;
            s.exits()
        },
    ),
    after_control(
        "close",
        "closes without EXIT",
        "ASE's server, and every one that crashes",
        END,
        |s| s.hangs_up(),
    ),
    at_once(
        "close-at-once",
        "closes before the first byte",
        "a server that is full, or an allow-list",
        END,
        |s| s.hangs_up(),
    ),
    after_control(
        "restart",
        "goes away and comes back at the same address",
        "a simulation that is restarted",
        "a driver that connects again begins without data",
        |s| s.restarts(),
    ),
];

fn position(s: &mut Session, number: f64) -> Outcome {
    s.is_ready()?;
    let message = with(s.posdata(0), POSITIONS + ATOM + 8, &number.to_le_bytes());
    s.line.send(&message)?;
    s.refuses(s.structure(0).positions.len(), false)
}
