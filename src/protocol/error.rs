//! The errors of a conversation, and what to do about them.

use core::fmt;

use super::header::{HEADER, Header, word};
use super::status::Status;
use crate::fmt::debug_as_display;

/// The conversation can't continue, or the caller made an impossible request.
///
/// A fault of the peer is final for the connection, because the protocol has no way to refuse:
/// close it, [`reset`](crate::Driver::reset) the machine and connect again. Some variants leave the
/// machine unchanged, as documented there; after those the call can be repeated with better
/// arguments.
#[derive(Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The peer sent a header that the protocol does not have.
    UnknownHeader([u8; HEADER]),
    /// The server sent a command that this state does not allow.
    OutOfTurn {
        /// The command received.
        command: Header,
        /// The answer that [`Driver`](crate::Driver) would have given to STATUS.
        status: Header,
    },
    /// The server announced more atoms than the caller's array holds. Nothing has been written to
    /// the array: call again with a longer one to continue, or close the connection.
    TooManyAtoms {
        /// The number of atoms announced, of all structures of a batch together.
        announced: usize,
        /// The number of atoms that the array holds.
        capacity: usize,
    },
    /// The server announced more structures per batch than the caller has cells for. Call again
    /// with more cells to continue, or close the connection.
    TooManyStructures {
        /// The number of structures in a batch.
        announced: usize,
        /// The number of cells that the caller passed.
        capacity: usize,
    },
    /// The server announced a negative number of atoms.
    NegativeAtoms(i32),
    /// The number of atoms changed within a connection. A [`Server`](crate::Server) is unchanged.
    AtomsChanged {
        /// The number of atoms of this structure.
        announced: usize,
        /// The number of atoms of the previous structure.
        expected: usize,
    },
    /// The server sent a batch (i-PI's `batch_size`) without announcing it, because this driver did
    /// not ask for INIT.
    UnannouncedBatch,
    /// The numbers are lengths only with their bytes reversed, so the server sends them big-endian.
    ///
    /// [`Driver::trust_number_format`](crate::Driver::trust_number_format) switches this check off.
    BigEndian(Quantity),
    /// All numbers are subnormal, so the server sends integers or objects in place of floats.
    ///
    /// [`Driver::trust_number_format`](crate::Driver::trust_number_format) switches this check off.
    NotReals(Quantity),
    /// The peer announced a negative length for a text (INIT or extras).
    NegativeLength(i32),
    /// A number is infinite or NaN.
    NotFinite(Quantity),
    /// The stream ended inside a message.
    EndOfStream {
        /// The message, if its header had arrived.
        within: Option<Header>,
        /// How many bytes of the message had moved.
        after: usize,
    },
    /// The caller replied, but no structure waits for a reply. The driver is unchanged.
    NothingToReplyTo,
    /// Part of this message has moved, and the exchange was given other arrays, or they no longer
    /// hold what has moved. The machine is unchanged: run the exchange that began the message, or
    /// close the connection.
    Unfinished(Header),
    /// Positions were received and have no reply yet. The driver is unchanged.
    ReplyDue,
    /// The driver has given up the conversation ([`Driver::drain`](crate::Driver::drain)).
    Drained,
    /// The driver still owes the forces of other positions. The server is unchanged: receive them
    /// ([`Server::get_forces`](crate::Server::get_forces)), drop them
    /// ([`Server::discard`](crate::Server::discard)), or close the connection.
    AnswerDue,
    /// The caller's arrays don't have the lengths that the structures need. The machine is
    /// unchanged.
    WrongLength {
        /// The contents of the array.
        quantity: Quantity,
        /// The length of the array, in atoms, structures or texts.
        given: usize,
        /// The required length.
        expected: usize,
    },
    /// A text, of INIT or extras, is longer than its length field can hold (2^31 - 1 bytes). The
    /// machine is unchanged.
    TextTooLong(usize),
    /// The caller asked to send a message that the driver is not waiting for. The server is
    /// unchanged.
    InvalidStatus {
        /// The message to send.
        command: Header,
        /// The known status of the driver.
        status: Status,
    },
    /// The driver's answer does not fit the request.
    UnexpectedAnswer {
        /// The driver's answer.
        answer: Header,
        /// The request.
        to: Header,
    },
    /// The driver closed the connection instead of answering this message.
    Unanswered(Header),
    /// The driver's reply has another number of atoms than the structure it received.
    WrongAtoms {
        /// The number of atoms in the reply.
        announced: i32,
        /// The number of atoms sent.
        expected: usize,
    },
    /// The vectors of a cell to be sent lie in one plane. The server is unchanged.
    SingularCell,
    /// A cell to be sent has nonzero numbers below its diagonal, which LAMMPS and others ignore.
    /// The server is unchanged; [`Cell::to_upper_triangular`](crate::Cell::to_upper_triangular)
    /// rotates the cell.
    NotUpperTriangular,
}

/// The meaning of a number or an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Quantity {
    /// The cell, bohr.
    Cell,
    /// Positions, bohr.
    Positions,
    /// The potential energy, hartree.
    Energy,
    /// Forces, hartree/bohr.
    Forces,
    /// The virial, hartree.
    Virial,
    /// Evaluations: energies and virials of structures.
    Evaluations,
    /// Structures that are computed together in a batch.
    Structures,
    /// Extras.
    Extras,
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cell => "cell",
            Self::Positions => "positions",
            Self::Energy => "energy",
            Self::Forces => "forces",
            Self::Virial => "virial",
            Self::Evaluations => "evaluations",
            Self::Structures => "structures",
            Self::Extras => "extras",
        })
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::UnknownHeader(bytes) => write!(
                f,
                "the peer sent \"{}\", which is no header of the i-PI protocol: does it speak that, and \
                 was the message before it read to its end?",
                shown(&bytes).escape_ascii()
            ),
            Self::OutOfTurn { command: Header::PosData, status: Header::NeedInit } => f.write_str(
                "the server sent POSDATA to a driver that waits for INIT: it may be one that never sends \
                 INIT, don't ask it to (Initialize::Never)",
            ),
            Self::OutOfTurn { command, status } => write!(
                f,
                "the server sent {} to a driver whose status is {}: server and driver have lost step, \
                 connect again",
                command.name(),
                status.name()
            ),
            Self::TooManyAtoms { announced, capacity } => write!(
                f,
                "the server sends {announced} atoms and there is room for {capacity}: give the driver \
                 longer arrays or simulate a smaller system"
            ),
            Self::TooManyStructures { announced, capacity } => write!(
                f,
                "the server sends {announced} structures a batch and there is room for {capacity}: give \
                 the driver more cells or lower the server's batch_size"
            ),
            Self::NegativeAtoms(announced) => write!(
                f,
                "the server sends {announced} atoms: the stream is out of step or the peer's integers are \
                 not 4 little-endian bytes"
            ),
            Self::AtomsChanged { announced, expected } => write!(
                f,
                "{announced} atoms after {expected}: their number is fixed within a connection unless it \
                 is allowed to change (allow_changing_atoms)"
            ),
            Self::UnannouncedBatch => f.write_str(
                "the server sends batches of structures and was not asked to announce them: ask for INIT \
                 (Initialize::Once) or remove batch_size from the server's input",
            ),
            Self::BigEndian(quantity) => write!(
                f,
                "the numbers of the {quantity} are lengths only with their bytes reversed: send \
                 little-endian float64 (NumPy: positions.astype('<f8'))"
            ),
            Self::NotReals(quantity) => write!(
                f,
                "all numbers of the {quantity} are subnormal: integers or objects were sent as if they \
                 were floats, send float64 (NumPy: positions.astype('<f8'))"
            ),
            Self::NegativeLength(announced) => write!(
                f,
                "the peer announced a text of {announced} bytes: the stream is out of step or its integers \
                 are not 4 little-endian bytes"
            ),
            Self::NotFinite(quantity) => write!(
                f,
                "infinite numbers or NaN in the {quantity}: nothing was computed from or answered with \
                 them, look at the step before"
            ),
            Self::EndOfStream { within, after } => write!(
                f,
                "the peer closed the connection inside {}, after {after} bytes of it: it ended or gave up \
                 waiting, connect again",
                within.map_or("a header", Header::name)
            ),
            Self::NothingToReplyTo => f.write_str("no structure waits for a reply: receive one first"),
            Self::Unfinished(message) => write!(
                f,
                "{} is unfinished, and these are not the numbers that it was begun with: run the exchange \
                 that began it, or close the connection",
                message.name()
            ),
            Self::ReplyDue => f.write_str(
                "positions were received and wait for a reply: reply, or close the connection",
            ),
            Self::Drained => f.write_str(
                "the driver has given the conversation up (drain): close the connection, reset the driver \
                 and connect again",
            ),
            Self::AnswerDue => f.write_str(
                "the driver still owes the forces of other positions: take them (get_forces), drop them \
                 (discard), or close the connection",
            ),
            Self::WrongLength { quantity, given, expected } => {
                write!(f, "the {quantity} have length {given} where {expected} is needed")
            }
            Self::TextTooLong(len) => {
                write!(f, "a text of {len} bytes is longer than the 2147483647 that can be announced")
            }
            Self::InvalidStatus { command, status: Status::DISCONNECTED } => write!(
                f,
                "{} can't be sent, the driver was told EXIT or has gone: reset the server and let a driver connect",
                command.name()
            ),
            Self::InvalidStatus { command, status } => write!(
                f,
                "{} is out of turn, the driver's last status is \"{status}\": end what was begun, ask for \
                 its status and do what it needs first",
                command.name()
            ),
            Self::UnexpectedAnswer { answer, to } => write!(
                f,
                "the driver answered {} with {}: it has lost step or lost its data, drop it and let it \
                 connect again",
                to.name(),
                answer.name()
            ),
            Self::Unanswered(command) => write!(
                f,
                "the driver closed the connection instead of answering {}: it ended or failed, its own \
                 output may tell why",
                command.name()
            ),
            Self::WrongAtoms { announced, expected } => write!(
                f,
                "the driver answered for {announced} atoms and was given {expected}: does it simulate the \
                 same system?"
            ),
            Self::SingularCell => f.write_str(
                "the vectors of the cell lie in one plane: give a box to a system that has none",
            ),
            Self::NotUpperTriangular => f.write_str(
                "the cell has numbers below its diagonal, which some drivers ignore: rotate it \
                 (Cell::to_upper_triangular)",
            ),
        }
    }
}

/// A header without its padding; the whole header if it is only padding.
fn shown(header: &[u8; HEADER]) -> &[u8] {
    match word(header) {
        b"" => header,
        word => word,
    }
}

debug_as_display!(ProtocolError);

impl core::error::Error for ProtocolError {}

#[cfg(feature = "defmt")]
impl defmt::Format for ProtocolError {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "{}", defmt::Display2Format(self));
    }
}
