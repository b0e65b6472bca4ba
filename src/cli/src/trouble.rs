//! Errors of the library in the words of a command: its flags, and what its user can do.

use std::io;

use forcewire::{Deadline, Error, Header, ProtocolError, TimedOut};

use crate::incoming::{MOST_ATOMS, MOST_STRUCTURES};

/// What a driver, or a relay, says about its server.
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

/// Without what the caller of a function can do: the command has given up.
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
        ProtocolError::NotUpperTriangular => {
            "the cell has numbers below its diagonal, which some drivers ignore: have the server send it \
             with the first vector along x and the second in the plane of x and y"
                .into()
        }
        error => error.to_string(),
    }
}
