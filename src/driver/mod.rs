//! The machine that computes: answers a server's questions, takes positions and sends forces.
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
//! By `src/manual/protocol.md`, sections 2 and 3.
//!
//! [`Driver::receive`] moves through the two states on the left and ends with an [`Event`];
//! [`Driver::reply`] starts and ends on the right. Both answer STATUS on the way. A server that
//! sends POSDATA and GETFORCE together (i-PI's consolidated messages) and one that asks in between
//! (classic) take the same path.
//!
//! After INIT has announced batches, POSDATA and FORCEREADY carry several structures, in another
//! order (`protocol/layout.rs`). A reply to one structure is the same bytes as a batch of one.

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
/// Holds the state of the conversation and about 1 KiB of scratch, and no array: positions and
/// forces are the caller's. See the [crate's page](crate) for a whole program.
///
/// # Interrupted exchanges
///
/// [`receive`](Self::receive), [`reply`](Self::reply) and [`await_getforce`](Self::await_getforce)
/// return an [`Exchange`](crate::Exchange) that may stop half-way: a time-out, a future that is
/// dropped, a poll that returns `Pending`. Keep it and run it again. One that was dropped can be
/// made anew: between two messages without a condition, in the middle of POSDATA or FORCEREADY only
/// with arrays that still hold what has moved. Otherwise it is [`ProtocolError::Unfinished`], and
/// nothing has changed.
#[repr(C)] // in this order: what is near the beginning is reached by short instructions
pub struct Driver {
    initialize: Initialize,
    changing_atoms: bool,
    not_finite: bool,
    any_format: bool,
    phase: Phase,
    /// The server has sent a header.
    greeted: bool,
    /// INIT has come, and no event has been returned for it.
    init_unreported: bool,

    state: State,
    natoms: Option<usize>,
    structures: usize,
    /// POSDATA messages that have come whole, over all connections.
    taken: u32,
    /// Of the arrays of an exchange that was dropped in the middle of a message.
    seal: Option<Fingerprint>,
    /// Why it has failed, or has refused what the caller asked for last.
    error: ProtocolError,
    progress: Progress,
    cell: Cell,
    init: InitText,
}

impl Driver {
    /// A driver that is about to be connected and never asks for INIT.
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

    /// Asks the server for INIT: never, once a connection, or for every structure.
    #[must_use]
    pub const fn initialize(mut self, when: Initialize) -> Self {
        self.initialize = when;
        self.phase = self.idle();
        self
    }

    /// Lets the number of atoms change from one structure to the next, which is an error otherwise:
    /// no real server changes it within a connection.
    #[must_use]
    pub const fn allow_changing_atoms(mut self) -> Self {
        self.changing_atoms = true;
        self
    }

    /// Lets infinite numbers and NaN pass, in both directions, which are an error otherwise: i-PI
    /// takes a NaN into its trajectory without a message.
    #[must_use]
    pub const fn allow_not_finite(mut self) -> Self {
        self.not_finite = true;
        self
    }

    /// Takes the server's numbers as they come, even if their bytes look reversed or if they look
    /// like integers ([`ProtocolError::BigEndian`], [`ProtocolError::NotReals`]).
    ///
    /// Needed only by a structure whose coordinates are all below 1e-10 bohr, and hardly ever
    /// there.
    #[must_use]
    pub const fn trust_number_format(mut self) -> Self {
        self.any_format = true;
        self
    }

    /// Prepares the driver for its next connection, after an end or an error. Its configuration
    /// ([`initialize`](Self::initialize) and the like) and [`traffic`](Self::traffic) stay.
    pub fn reset(&mut self) {
        self.init = InitText::new();
        self.init_unreported = false;
        self.phase = self.idle();
        self.natoms = None;
        self.structures = 1;
        self.greeted = false;
        self.expect_message();
    }

    /// Answers the server until there is an [`Event`]; a structure's positions go to the beginning
    /// of `positions`, in bohr.
    ///
    /// Receive again after an [`Event::Init`]; after [`Event::Positions`] it is time to
    /// [`reply`](Self::reply). The array may be longer than the system.
    ///
    /// # Errors
    ///
    /// With the driver as it was:
    /// - [`ProtocolError::TooManyAtoms`], before anything is in the array: receive again with a
    ///   longer one to continue.
    /// - [`ProtocolError::Unfinished`]: part of POSDATA is in another array, or in this one before
    ///   it was changed.
    /// - [`ProtocolError::ReplyDue`]: positions have been received and not replied to.
    ///
    /// Every other error is final for the connection; close it.
    ///
    /// # Cancel safety
    ///
    /// The exchange may be kept and run again, or dropped and made anew with the same array, moved
    /// or not, as long as it was not written to.
    pub const fn receive<'a, T: Scalar>(
        &'a mut self,
        positions: &'a mut [[T; 3]],
    ) -> Receive<'a, &'a mut [[T; 3]]> {
        self.receive_batch(&mut [], positions)
    }

    /// Like [`receive`](Self::receive), from a server that may send several structures at once
    /// (i-PI's `batch_size`): their cells go into `cells`, their positions one after the other into
    /// `positions`.
    ///
    /// Servers only send batches to a driver that asks for INIT. One that doesn't fills one cell.
    ///
    /// # Errors
    ///
    /// Those of [`receive`](Self::receive), and [`ProtocolError::TooManyStructures`] before
    /// anything is in either array.
    pub const fn receive_batch<'a, T: Scalar>(
        &'a mut self,
        cells: &'a mut [Cell],
        positions: &'a mut [[T; 3]],
    ) -> Receive<'a, &'a mut [[T; 3]]> {
        Receive::new(self, cells, positions)
    }

    /// Like [`receive_batch`](Self::receive_batch), into a [`Sink`] that takes up to 32 atoms at a
    /// time as they come, for structures larger than the memory and for accelerators that are fed
    /// by DMA.
    ///
    /// # Errors
    ///
    /// Those of [`receive_batch`](Self::receive_batch). After
    /// [`NotFinite`](ProtocolError::NotFinite) the sink has had the chunks before the one with the
    /// wrong number, and must not use them.
    ///
    /// # Cancel safety
    ///
    /// Keep the exchange and run it again. Once the sink has taken atoms, one made anew is
    /// [`ProtocolError::Unfinished`], because what the sink holds is not known.
    pub const fn receive_into<'a, S: Sink>(
        &'a mut self,
        cells: &'a mut [Cell],
        sink: &'a mut S,
    ) -> Receive<'a, Chunks<'a, S>> {
        Receive::new(self, cells, Chunks::new(sink))
    }

    /// Replies to the structure that was received: waits for GETFORCE, answering STATUS with
    /// HAVEDATA, then sends energy, forces (hartree/bohr, one triple an atom), virial and `extras`.
    ///
    /// Extras may be empty; if not, i-PI needs a JSON object in UTF-8 without the key `raw`, and
    /// hangs on anything else. [`Extras`](crate::Extras) builds one. The reply begins to leave when
    /// all of it is there.
    ///
    /// If the server leaves instead of asking, the exchange ends too, and the next
    /// [`receive`](Self::receive) returns how it left.
    ///
    /// # Errors
    ///
    /// Before a byte has moved, and with the driver as it was: [`ProtocolError::WrongLength`],
    /// [`NothingToReplyTo`](ProtocolError::NothingToReplyTo),
    /// [`NotFinite`](ProtocolError::NotFinite), [`TextTooLong`](ProtocolError::TextTooLong); and
    /// [`Unfinished`](ProtocolError::Unfinished) if another reply has begun to leave.
    ///
    /// # Cancel safety
    ///
    /// The exchange may be kept and run again, or dropped and made anew. Until its first byte is
    /// sent the new one may have other numbers, which are checked again; after that, only the same.
    pub const fn reply<'a, T: Scalar>(
        &'a mut self,
        evaluation: &'a Evaluation,
        forces: &'a [[T; 3]],
        extras: &'a [u8],
    ) -> Reply<'a, &'a [[T; 3]]> {
        let evaluations = core::slice::from_ref(evaluation);
        Reply::new(self, evaluations, forces, ExtrasOf::All(extras))
    }

    /// Like [`reply`](Self::reply), to all structures of a batch: an evaluation each, their forces
    /// one after the other, and either extras for each or none at all (an empty slice).
    pub const fn reply_batch<'a, T: Scalar>(
        &'a mut self,
        evaluations: &'a [Evaluation],
        forces: &'a [[T; 3]],
        extras: &'a [&'a [u8]],
    ) -> Reply<'a, &'a [[T; 3]]> {
        Reply::new(self, evaluations, forces, ExtrasOf::Each(extras))
    }

    /// Like [`reply_batch`](Self::reply_batch), with forces from a [`Source`] that is asked for up
    /// to 32 atoms at a time, as they leave.
    ///
    /// # Errors
    ///
    /// Those of [`reply_batch`](Self::reply_batch). Forces are checked as they leave: if one is not
    /// finite, [`NotFinite`](ProtocolError::NotFinite) is final, and the server sees a reply that
    /// breaks off.
    ///
    /// # Cancel safety
    ///
    /// Keep the exchange and run it again. Once a byte was sent, one made anew is
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

    /// Answers STATUS while forces are being computed, and ends when the server asks for them
    /// (`None`) or has left ([`Event::Exit`], [`Event::Closed`]), so that a computation that nobody
    /// waits for can be stopped. Optional: [`reply`](Self::reply) does the same afterwards.
    ///
    /// Works with a transport that never waits, polled now and then (`smoltcp::poll`, a host's
    /// `net::Stream::poll`), and with an interrupt, a task or a second core beside the computation.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::NothingToReplyTo`], with the driver as it was, and errors of what the
    /// server sends.
    ///
    /// # Cancel safety
    ///
    /// The exchange may be kept, or dropped at any point; make it anew, or reply, to continue.
    pub const fn await_getforce(&mut self) -> AwaitGetForce<'_> {
        AwaitGetForce::new(self)
    }

    /// What the driver would answer to STATUS now: NEEDINIT, READY or HAVEDATA.
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

    /// The text of the last INIT, up to its first 256 bytes. `batch_size` is found in a text of any
    /// length.
    #[must_use]
    pub fn init_text(&self) -> &[u8] {
        self.init.text()
    }

    /// The parameters in [`init_text`](Self::init_text), up to the first byte that is not UTF-8 and
    /// without one that was cut off.
    #[must_use]
    pub fn parameters(&self) -> Parameters<'_> {
        self.init.parameters()
    }

    /// Atoms of each structure that was announced last.
    #[must_use]
    pub const fn natoms(&self) -> usize {
        match self.natoms {
            Some(natoms) => natoms,
            None => 0,
        }
    }

    /// Structures that came last: 1, or those of a batch.
    #[must_use]
    pub const fn structures(&self) -> usize {
        self.structures
    }

    /// Bytes moved, over all connections.
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
