//! The library's errors in terms of a command: its flags, and what its user can do.

use std::io;

use forcewire::{Deadline, Error, Header, ProtocolError, TimedOut};

use crate::incoming::{MOST_ATOMS, MOST_STRUCTURES};

/// Describes a server's error for a driver or a relay.
pub fn explain(error: &Error<io::Error>) -> String {
    match error {
        Error::Protocol(error) => with_protocol(error),
        Error::TimedOut(late) if late.deadline == Deadline::Message => {
            format!("{} (--patience)", what_happened(late))
        }
        Error::TimedOut(late) => what_happened(late),
        error => error.to_string(),
    }
}

/// Describes what happened, without the advice for callers of the library: the command has given
/// up.
fn what_happened(late: &TimedOut) -> String {
    let text = late.to_string();
    match text.split_once('?') {
        Some((what, _)) => format!("{what}?"),
        None => text,
    }
}

fn with_protocol(error: &ProtocolError) -> String {
    match *error {
        ProtocolError::UnannouncedBatch => {
            "the server sends batches, which INIT has to announce: use --init once".into()
        }
        ProtocolError::OutOfTurn {
            command: Header::PosData,
            status: Header::NeedInit,
        } => {
            "the server sent positions and no INIT, which it was asked for: use --init never".into()
        }
        ProtocolError::AtomsChanged {
            announced,
            expected,
        } => format!(
            "{announced} atoms after {expected}: their number is fixed within a connection, start a \
             driver for each system"
        ),
        ProtocolError::TooManyAtoms { announced, .. } => format!(
            "the server announced {announced} atoms, more than {MOST_ATOMS}: is the stream out of step?"
        ),
        ProtocolError::TooManyStructures { announced, .. } => format!(
            "the server announced batches of {announced} structures, more than {MOST_STRUCTURES}: lower \
             its batch_size"
        ),
        error => error.to_string(),
    }
}
