//! The driver machine: answers a server's requests, receives positions and sends forces.
//!
//! ```text
//!            STATUS -> NEEDINIT              STATUS -> READY                    STATUS -> HAVEDATA
//!               +----+                          +----+                              +----+
//!               v    |         INIT             v    |         POSDATA              v    |
//! connect --> [ Uninit ] -----------------> [ Ready ] -----------------------> [ HaveData ]
//!    |           ^                           ^    ^                                 |
//!    |           | INIT every step           |    |        GETFORCE -> FORCEREADY   |
//!    |           +---------------------------|----+---------------------------------+
//!    +----- INIT never ----------------------+
//!
//! any state: INIT is accepted; EXIT, or an end of stream between two messages, is the end
//! ```
//!
//! The states follow `src/manual/protocol.md`, sections 2 and 3.
//!
//! [`Driver::receive`] moves through the two states on the left and ends with an [`Event`].
//! [`Driver::reply`] starts and ends on the right. Both answer STATUS on the way. A server that
//! sends POSDATA and GETFORCE together (i-PI's consolidated messages) and one that sends STATUS in
//! between (classic) follow the same path.
//!
//! After INIT has announced batches, POSDATA and FORCEREADY carry several structures, in another
//! order (`protocol/layout.rs`). A reply to one structure has the same bytes as a reply to a batch
//! of one.

mod await_getforce;
mod drain;
mod event;
mod receive;
mod reply;
mod state;
mod storage;
mod windows;

use core::fmt;

pub use await_getforce::AwaitGetForce;
pub use drain::Drain;
pub use event::{Event, Initialize};
pub use receive::Receive;
pub use reply::Reply;
pub use storage::Storage;
pub use windows::{Chunks, Destination, Origin, Sink, Source};

use crate::exchange::Traffic;
use crate::exchange::fingerprint::Fingerprint;
use crate::exchange::progress::Progress;
use crate::geometry::Cell;
use crate::potential::Evaluation;
use crate::protocol::header::HEADER;
use crate::protocol::init_text::InitText;
use crate::protocol::{Header, Parameters, ProtocolError, Scalar};
use reply::ExtrasOf;
use state::{Phase, State};

/// The driver's side of one connection.
///
/// It holds the state of the conversation and about 1 KiB of scratch, but no arrays: positions and
/// forces are the caller's. See the [crate's page](crate) for a complete program.
///
/// # Interrupted exchanges
///
/// [`receive`](Self::receive), [`reply`](Self::reply) and [`await_getforce`](Self::await_getforce)
/// return an [`Exchange`](crate::Exchange) that may stop half-way, because of a time-out, a dropped
/// future, or a poll that returns `Pending`. Keep it and run it again. An exchange that was dropped
/// can be recreated: between two messages without a condition, in the middle of POSDATA or
/// FORCEREADY only with arrays that still hold what has moved. Otherwise it fails with
/// [`ProtocolError::Unfinished`], and nothing has changed.
#[repr(C)] // in this order: what is near the beginning is reached by short instructions
pub struct Driver {
    initialize: Initialize,
    changing_atoms: bool,
    not_finite: bool,
    any_format: bool,
    phase: Phase,
    /// The server has sent a header.
    greeted: bool,
    /// INIT has arrived, and no event has been returned for it.
    init_unreported: bool,

    state: State,
    natoms: Option<usize>,
    structures: usize,
    /// How many complete POSDATA messages have arrived, over all connections.
    taken: u32,
    /// The fingerprint of the arrays of an exchange that was dropped in the middle of a message.
    seal: Option<Fingerprint>,
    /// The error of a failed conversation, or of the last refused call.
    error: ProtocolError,
    progress: Progress,
    cell: Cell,
    init: InitText,
}

impl Driver {
    /// Makes a driver for a new connection; it never asks for INIT.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            initialize: Initialize::Never,
            changing_atoms: false,
            not_finite: false,
            any_format: false,
            phase: Phase::Ready,
            state: State::Idle,
            init: InitText::new(),
            init_unreported: false,
            natoms: None,
            structures: 1,
            taken: 0,
            seal: None,
            error: ProtocolError::NothingToReplyTo,
            greeted: false,
            cell: Cell::orthorhombic([0.0; 3]),
            progress: Progress::expecting(HEADER),
        }
    }

    /// Sets when to ask the server for INIT: never, once per connection, or for every structure.
    #[must_use]
    pub const fn initialize(mut self, when: Initialize) -> Self {
        self.initialize = when;
        self.phase = self.idle();
        self
    }

    /// Allows the number of atoms to change from one structure to the next. By default that is an
    /// error, because no real server changes it within a connection.
    #[must_use]
    pub const fn allow_changing_atoms(mut self) -> Self {
        self.changing_atoms = true;
        self
    }

    /// Allows infinite numbers and NaN in both directions. By default they are an error: i-PI
    /// writes a NaN into its trajectory without a warning.
    #[must_use]
    pub const fn allow_not_finite(mut self) -> Self {
        self.not_finite = true;
        self
    }

    /// Accepts the server's numbers even if their bytes look reversed or if they look like integers
    /// ([`ProtocolError::BigEndian`], [`ProtocolError::NotReals`]).
    ///
    /// Only a structure whose coordinates are all below 1e-10 bohr needs this, which is very rare.
    #[must_use]
    pub const fn trust_number_format(mut self) -> Self {
        self.any_format = true;
        self
    }

    /// Prepares the driver for its next connection, after an end or an error. Its configuration
    /// ([`initialize`](Self::initialize) and the like) and [`traffic`](Self::traffic) are kept.
    pub fn reset(&mut self) {
        self.init = InitText::new();
        self.init_unreported = false;
        self.phase = self.idle();
        self.natoms = None;
        self.structures = 1;
        self.greeted = false;
        self.expect_message();
    }

    /// Answers the server until there is an [`Event`]. A structure's positions are written to the
    /// beginning of `positions`, in bohr.
    ///
    /// After an [`Event::Init`], receive again; after [`Event::Positions`], [`reply`](Self::reply).
    /// The array may be longer than the structure.
    ///
    /// # Errors
    ///
    /// The driver is unchanged after these:
    /// - [`ProtocolError::TooManyAtoms`], before anything was written to the array: receive again
    ///   with a longer one to continue.
    /// - [`ProtocolError::Unfinished`]: part of POSDATA is in another array, or this array was
    ///   changed since.
    /// - [`ProtocolError::ReplyDue`]: positions have been received and have no reply yet.
    ///
    /// Every other error is final for the connection; close it.
    ///
    /// # Cancel safety
    ///
    /// The exchange may be kept and run again. It may also be dropped and recreated with the same
    /// array, even if that was moved, as long as its contents are unchanged.
    pub const fn receive<'a, T: Scalar>(
        &'a mut self,
        positions: &'a mut [[T; 3]],
    ) -> Receive<'a, &'a mut [[T; 3]]> {
        self.receive_batch(&mut [], positions)
    }

    /// Like [`receive`](Self::receive), for a server that may send several structures at once
    /// (i-PI's `batch_size`). Their cells are written to `cells`, their positions one structure
    /// after another to `positions`.
    ///
    /// Servers send batches only to a driver that asks for INIT. Any other driver gets one cell.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`receive`](Self::receive), and [`ProtocolError::TooManyStructures`]
    /// before anything was written to either array.
    pub const fn receive_batch<'a, T: Scalar>(
        &'a mut self,
        cells: &'a mut [Cell],
        positions: &'a mut [[T; 3]],
    ) -> Receive<'a, &'a mut [[T; 3]]> {
        Receive::new(self, cells, positions)
    }

    /// Like [`receive_batch`](Self::receive_batch), into a [`Sink`] that accepts up to 32 atoms at
    /// a time as they arrive. For structures larger than the memory, and for accelerators fed by
    /// DMA.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`receive_batch`](Self::receive_batch). After
    /// [`NotFinite`](ProtocolError::NotFinite) the sink has received the chunks before the wrong
    /// number and must not use them.
    ///
    /// # Cancel safety
    ///
    /// Keep the exchange and run it again. Once the sink has received atoms, a new exchange fails
    /// with [`ProtocolError::Unfinished`], because the contents of the sink are unknown.
    pub const fn receive_into<'a, S: Sink>(
        &'a mut self,
        cells: &'a mut [Cell],
        sink: &'a mut S,
    ) -> Receive<'a, Chunks<'a, S>> {
        Receive::new(self, cells, Chunks::new(sink))
    }

    /// Replies to the structure received last. The exchange waits for GETFORCE while it answers
    /// STATUS with HAVEDATA, then sends energy, forces (hartree/bohr, one triple per atom), virial
    /// and `extras`.
    ///
    /// Extras may be empty. Otherwise i-PI needs a JSON object in UTF-8 without the key `raw`, and
    /// hangs on anything else; [`Extras`](crate::Extras) builds one. The first byte is sent only
    /// when the whole reply is there.
    ///
    /// If the server ends the conversation instead of asking, the exchange ends too, and the next
    /// [`receive`](Self::receive) returns how the server ended it.
    ///
    /// # Errors
    ///
    /// These errors are returned before a byte has moved, and leave the driver unchanged:
    /// [`ProtocolError::WrongLength`], [`NothingToReplyTo`](ProtocolError::NothingToReplyTo),
    /// [`NotFinite`](ProtocolError::NotFinite), [`TextTooLong`](ProtocolError::TextTooLong), and
    /// [`Unfinished`](ProtocolError::Unfinished) if another reply has been sent in part.
    ///
    /// # Cancel safety
    ///
    /// The exchange may be kept and run again, or dropped and recreated. Until its first byte is
    /// sent, the new one may have other numbers, which are checked again; after that it needs the
    /// same numbers.
    pub const fn reply<'a, T: Scalar>(
        &'a mut self,
        evaluation: &'a Evaluation,
        forces: &'a [[T; 3]],
        extras: &'a [u8],
    ) -> Reply<'a, &'a [[T; 3]]> {
        let evaluations = core::slice::from_ref(evaluation);
        Reply::new(self, evaluations, forces, ExtrasOf::All(extras))
    }

    /// Like [`reply`](Self::reply), for all structures of a batch: one evaluation each, their
    /// forces one structure after another, and either extras for each or none at all (an empty
    /// slice).
    pub const fn reply_batch<'a, T: Scalar>(
        &'a mut self,
        evaluations: &'a [Evaluation],
        forces: &'a [[T; 3]],
        extras: &'a [&'a [u8]],
    ) -> Reply<'a, &'a [[T; 3]]> {
        Reply::new(self, evaluations, forces, ExtrasOf::Each(extras))
    }

    /// Like [`reply_batch`](Self::reply_batch), with forces from a [`Source`], which provides up to
    /// 32 atoms at a time as they are sent.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`reply_batch`](Self::reply_batch). Forces are checked as they are
    /// sent: if one is not finite, [`NotFinite`](ProtocolError::NotFinite) is final, and the server
    /// receives only part of a reply.
    ///
    /// # Cancel safety
    ///
    /// Keep the exchange and run it again. Once a byte was sent, a new exchange fails with
    /// [`ProtocolError::Unfinished`].
    pub const fn reply_from<'a, S: Source>(
        &'a mut self,
        evaluations: &'a [Evaluation],
        source: &'a mut S,
        extras: &'a [&'a [u8]],
    ) -> Reply<'a, Chunks<'a, S>> {
        Reply::new(
            self,
            evaluations,
            Chunks::new(source),
            ExtrasOf::Each(extras),
        )
    }

    /// Answers STATUS while forces are being computed. The exchange ends when the server asks for
    /// the forces (`None`) or has ended the conversation ([`Event::Exit`], [`Event::Closed`]), so
    /// that a useless computation can be stopped. It is optional: [`reply`](Self::reply) does the
    /// same afterwards.
    ///
    /// Poll it from time to time with a transport that never waits (`smoltcp::poll`, a host's
    /// `net::Stream::poll`), or run it in an interrupt, a task or a second core during the
    /// computation.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::NothingToReplyTo`], which leaves the driver unchanged, and errors in the
    /// server's messages.
    ///
    /// # Cancel safety
    ///
    /// The exchange may be kept, or dropped at any point; make a new one, or reply, to continue.
    pub const fn await_getforce(&mut self) -> AwaitGetForce<'_> {
        AwaitGetForce::new(self)
    }

    /// The driver's present answer to STATUS: NEEDINIT, READY or HAVEDATA.
    #[must_use]
    pub const fn status(&self) -> Header {
        match self.phase {
            Phase::Uninit => Header::NeedInit,
            Phase::Ready => Header::Ready,
            Phase::HaveData => Header::HaveData,
        }
    }

    /// The replica (bead) that the last INIT named.
    #[must_use]
    pub const fn replica(&self) -> Option<i32> {
        self.init.replica()
    }

    /// The first 256 bytes of the last INIT's text. `batch_size` is found in a text of any length.
    #[must_use]
    pub fn init_text(&self) -> &[u8] {
        self.init.text()
    }

    /// The parameters in [`init_text`](Self::init_text), up to the first byte that is not UTF-8,
    /// without a last one that was cut off.
    #[must_use]
    pub fn parameters(&self) -> Parameters<'_> {
        self.init.parameters()
    }

    /// The number of atoms of each structure announced last.
    #[must_use]
    pub const fn natoms(&self) -> usize {
        match self.natoms {
            Some(natoms) => natoms,
            None => 0,
        }
    }

    /// The number of structures received last: 1, or more in a batch.
    #[must_use]
    pub const fn structures(&self) -> usize {
        self.structures
    }

    /// How many bytes have moved, over all connections.
    #[must_use]
    pub const fn traffic(&self) -> Traffic {
        self.progress.traffic
    }
}

impl Default for Driver {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = matches!(self.state, State::Failed);
        f.debug_struct("Driver")
            .field("initialize", &self.initialize)
            .field("status", &self.status())
            .field("state", &self.state)
            .field("error", &failed.then_some(self.error))
            .field("natoms", &self.natoms)
            .field("structures", &self.structures)
            .field("traffic", &self.progress.traffic)
            .finish_non_exhaustive()
    }
}
