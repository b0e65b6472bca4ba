//! Messages that end too early.

use forcewire::Header::{GetForce, PosData};

use super::{END, MESSAGE, after_control};
use crate::check::driver::Situation;
use crate::check::wire::{ATOM, CELL, COUNT, POSITIONS, header};

pub const SITUATIONS: &[Situation] = &[
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
        |s| s.cuts_positions(|message| &message[..CELL + 44]),
    ),
    after_control(
        "cut-count",
        "closes inside the number of atoms",
        "killed while it sends",
        MESSAGE,
        |s| s.cuts_positions(|message| &message[..COUNT + 2]),
    ),
    after_control(
        "cut-positions",
        "closes inside the positions",
        "killed while it sends; i-PI's `sendall` gives up after 0.1 s",
        MESSAGE,
        |s| s.cuts_positions(|message| &message[..message.len() - 20]),
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
            s.resets_inside()
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
            s.line.is_taken();
            s.resets_inside()
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
];
