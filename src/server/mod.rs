//! The machine that asks: sends positions to a driver and takes forces from it.
//!
//! ```text
//!                 STATUS           NEEDINIT            INIT, STATUS
//! connect -> [ Unknown ] --> [ Asked ] --> [ NeedsInit ] --> [ Initializing ] --READY--> [ Ready ]
//!                ^              | READY
//!                |              v
//!   strict only  |          [ Ready ] --POSDATA, STATUS--> [ Computing ] --HAVEDATA--> [ HasData ]
//!                |              |                                                          |
//!                |              | POSDATA, GETFORCE, STATUS               GETFORCE, STATUS |
//!                |              | (consolidated)                       (strict: no STATUS) |
//!                |              v                                                          |
//!                +--------- [ Awaiting ] <-------------------------------------------------+
//!   FORCEREADY   |
//!                +--> [ Asked ], or [ Unknown ] if strict
//! ```
//!
//! By `src/manual/protocol.md`, sections 2 and 4. The messages on one arrow are sent in one write.
//! The STATUS after GETFORCE is i-PI's probe (3.3.1, `ipi/interfaces/sockets.py`, `get_status`),
//! sent before the forces are there: it waits in the driver's receive buffer, as the one after
//! POSDATA always did, and saves a round trip in each evaluation. Its answer is read when it is
//! needed.
//!
//! A driver to which INIT has announced batches gets several structures at once, in another order
//! (`protocol/layout.rs`).

mod answer;
mod exchange;
mod fold;
mod identity;
mod incoming;
mod mode;
mod outgoing;
mod request;
mod state;
mod turn;

use core::fmt;

pub use answer::Answer;
pub use exchange::ServerExchange;
pub use mode::Mode;
pub use request::Request;

use crate::exchange::Traffic;
use crate::exchange::fingerprint::Fingerprint;
use crate::exchange::progress::Progress;
use crate::protocol::{Header, ProtocolError, Scalar, Status};
use exchange::Goal;
use fold::Fold;
use state::{Phase, State};

/// The server's side of one connection to a driver: what i-PI's `DriverSocket` is.
///
/// Takes 1 KiB, scratch included, and holds no array: positions, forces and extras are the
/// caller's. Each of its exchanges is an [`Exchange`](crate::Exchange);
/// [`evaluate`](Self::evaluate) is all of them together.
///
/// ```no_run
/// # fn ask<S: embedded_io::Read + embedded_io::Write>(
/// #     mut socket: S,
/// # ) -> Result<(), forcewire::Error<S::Error>> {
/// use forcewire::{Cell, Request, Server, blocking};
///
/// let cell = Cell::orthorhombic([20.0; 3]);
/// let positions = [[0.0, 0.0, 0.0], [1.8, 0.0, 0.0]];
/// let (mut forces, mut extras) = ([[0.0; 3]; 2], [0; 256]);
///
/// let mut server = Server::new();
/// let request = Request::new(&cell, &positions);
/// let answer = blocking::run(&mut socket, server.evaluate(request, &mut forces, &mut extras))?;
/// let _ = (answer.evaluation, answer.extras(&extras)); // and `forces`
/// blocking::run(&mut socket, server.exit())
/// # }
/// ```
///
/// # Interrupted exchanges
///
/// An exchange may stop half-way: a time-out, a future that is dropped, a poll that returns
/// `Pending`. Keep it and run it again. One that was dropped can be made anew:
///
/// - If no byte of a message had moved, any exchange may follow.
/// - In the middle of a message, only the same exchange with the same numbers: the request's, and
///   in the caller's arrays what has come of an answer. Otherwise it is
///   [`Unfinished`](ProtocolError::Unfinished).
/// - While the driver computes, [`evaluate`](Self::evaluate) with the same request, or
///   [`get_forces`](Self::get_forces). `evaluate` with other positions is
///   [`AnswerDue`](ProtocolError::AnswerDue): the forces that come next are not those of its
///   request. [`discard`](Self::discard) drops them.
/// - Between INIT and the positions, `evaluate` with the same replica and text. INIT has named the
///   replica whose positions will come.
///
/// After such an error the server is as it was.
#[repr(C)] // in this order: what is near the beginning is reached by short instructions
pub struct Server {
    phase: Phase,
    /// The first message of the current or the last write.
    first: Header,
    /// A result that no exchange has returned yet.
    unreported: Option<Goal>,
    timed_out: bool,
    /// The driver has sent a header.
    greeted: bool,
    changing_atoms: bool,
    not_finite: bool,

    state: State,
    mode: Mode,
    /// A pointer, so that a server that never folds takes no flash for it.
    fold: Option<Fold>,
    /// Structures that each message carries: 1, or as many as INIT announced.
    carried: usize,
    natoms: Option<usize>,
    /// Structures of the request under way; the others of its batch are copies of the last. 0 while
    /// its answer is being discarded.
    structures: usize,
    /// Bytes of extras kept so far, and bytes of the current ones for which there is no room.
    kept: usize,
    surplus: usize,
    /// Of the request that was begun, and of what has come of an answer, after their exchange was
    /// dropped.
    request: Option<Fingerprint>,
    received: Option<Fingerprint>,
    /// Of INIT that an evaluation has sent, until its positions leave.
    init: Option<Fingerprint>,
    /// Why it has failed, or has refused what the caller asked for last.
    error: ProtocolError,
    progress: Progress,
    /// The answer for the first structure.
    answer: Answer,
    /// Of the cell that is leaving, or by which atoms are folded.
    inverse: [[f64; 3]; 3],
}

impl Server {
    /// A server whose driver has just connected; [`Mode::Consolidated`].
    #[must_use]
    pub const fn new() -> Self {
        Self {
            mode: Mode::Consolidated,
            fold: None,
            changing_atoms: false,
            not_finite: false,
            phase: Phase::Unknown,
            state: State::Idle,
            first: Header::Status,
            unreported: None,
            timed_out: false,
            greeted: false,
            carried: 1,
            natoms: None,
            structures: 1,
            kept: 0,
            surplus: 0,
            request: None,
            received: None,
            init: None,
            error: ProtocolError::AnswerDue,
            answer: Answer::NONE,
            inverse: [[0.0; 3]; 3],
            progress: Progress::expecting(0),
        }
    }

    /// Chooses the messages of an evaluation. Once anything has been sent over a connection this
    /// changes nothing until [`reset`](Self::reset): a driver that knows the size of its batches,
    /// or computes, keeps its mode.
    #[must_use]
    pub const fn mode(mut self, mode: Mode) -> Self {
        if self.progress.message == 0 && matches!(self.phase, Phase::Unknown) && !self.greeted {
            self.mode = mode;
        }
        self
    }

    /// Moves atoms by whole lattice vectors into the cell before they are sent. LAMMPS of 2021
    /// folds by one box length at most; atoms farther out silently give wrong energies there. The
    /// caller's array stays as it is.
    #[must_use]
    pub const fn fold_positions(mut self) -> Self {
        self.fold = Some(fold::fold);
        self
    }

    /// Lets the number of atoms change from one structure to the next, which is an error otherwise:
    /// few real drivers support it.
    #[must_use]
    pub const fn allow_changing_atoms(mut self) -> Self {
        self.changing_atoms = true;
        self
    }

    /// Lets infinite numbers and NaN pass, in both directions, which are an error otherwise. In a
    /// cell they always are: it would have no inverse.
    #[must_use]
    pub const fn allow_not_finite(mut self) -> Self {
        self.not_finite = true;
        self
    }

    /// Prepares the server for its next connection. Its configuration and
    /// [`traffic`](Self::traffic) stay.
    pub const fn reset(&mut self) {
        self.state = State::Idle;
        self.phase = Phase::Unknown;
        self.unreported = None;
        self.timed_out = false;
        self.greeted = false;
        self.progress.message = 0;
        self.carried = 1;
        self.natoms = None;
        self.request = None;
        self.received = None;
        self.init = None;
    }

    /// Asks the driver for its status. If a question is open, its answer is awaited instead: in a
    /// classic conversation that of a driver that computes, which comes when the forces are there.
    /// In a consolidated one such a driver is [busy](Status::BUSY), which is returned at once. A
    /// driver that has closed the connection, or was sent EXIT, is
    /// [disconnected](Status::DISCONNECTED). In [`Mode::Strict`] a driver whose status is known is
    /// not asked again.
    ///
    /// # Errors
    ///
    /// With the server as it was: [`ProtocolError::Unfinished`] if a message was sent in part,
    /// whose rest only the exchange that began it has. Final for the connection:
    /// [`UnknownHeader`](ProtocolError::UnknownHeader),
    /// [`UnexpectedAnswer`](ProtocolError::UnexpectedAnswer),
    /// [`EndOfStream`](ProtocolError::EndOfStream).
    ///
    /// # Cancel safety
    ///
    /// Here and in every other exchange: see [`Server`], "Interrupted exchanges".
    pub const fn status(&mut self) -> ServerExchange<'_, f64, Status> {
        ServerExchange::new(self, Goal::Status, Server::last_status)
    }

    /// Sends INIT to a driver that asked for it: the number of a replica and a text
    /// ([`Request::init`]).
    ///
    /// # Errors
    ///
    /// With the server as it was: [`ProtocolError::InvalidStatus`] unless the driver
    /// [needs it](Status::NEEDS_INIT), [`TextTooLong`](ProtocolError::TextTooLong).
    pub const fn initialize<'a>(
        &'a mut self,
        replica: i32,
        text: &'a [u8],
    ) -> ServerExchange<'a, f64, ()> {
        let request = Request::NOTHING.replica(replica).init(text);
        ServerExchange::new(self, Goal::Initialize, nothing).with(
            request,
            &mut [],
            &mut [],
            &mut [],
        )
    }

    /// Sends one structure, or a batch, to a driver that is ready: bohr, h upper triangular, and
    /// its true inverse.
    ///
    /// # Errors
    ///
    /// With the server as it was: [`ProtocolError::InvalidStatus`] unless the driver is
    /// [ready](Status::READY), [`NotUpperTriangular`](ProtocolError::NotUpperTriangular),
    /// [`SingularCell`](ProtocolError::SingularCell), [`NotFinite`](ProtocolError::NotFinite),
    /// [`AtomsChanged`](ProtocolError::AtomsChanged), [`WrongLength`](ProtocolError::WrongLength),
    /// [`Unfinished`](ProtocolError::Unfinished) if part of another request has left.
    pub const fn send_positions<'a, T: Scalar>(
        &'a mut self,
        request: Request<'a, T>,
    ) -> ServerExchange<'a, T, ()> {
        ServerExchange::new(self, Goal::Send, nothing).with(request, &mut [], &mut [], &mut [])
    }

    /// Waits until the driver has computed, and takes the result: forces into `forces`,
    /// hartree/bohr, exactly as many as positions were sent; extras into `extras`, as far as there
    /// is room.
    ///
    /// # Errors
    ///
    /// With the server as it was: [`ProtocolError::InvalidStatus`] unless positions have been sent,
    /// [`WrongLength`](ProtocolError::WrongLength), [`Unfinished`](ProtocolError::Unfinished) if
    /// part of the answer is in other arrays, or the buffer for extras has another length than when
    /// the first of them came. Final for the connection:
    /// [`WrongAtoms`](ProtocolError::WrongAtoms),
    /// [`NegativeLength`](ProtocolError::NegativeLength), [`NotFinite`](ProtocolError::NotFinite),
    /// [`Unanswered`](ProtocolError::Unanswered), [`EndOfStream`](ProtocolError::EndOfStream) and
    /// those of [`status`](Self::status); `forces` (and `answers` of a batch) may then hold parts
    /// of an answer.
    pub const fn get_forces<'a, T: Scalar>(
        &'a mut self,
        forces: &'a mut [[T; 3]],
        extras: &'a mut [u8],
    ) -> ServerExchange<'a, T, Answer> {
        self.get_forces_batch(&mut [], forces, extras)
    }

    /// Like [`get_forces`](Self::get_forces), for several structures: see
    /// [`evaluate_batch`](Self::evaluate_batch).
    pub const fn get_forces_batch<'a, T: Scalar>(
        &'a mut self,
        answers: &'a mut [Answer],
        forces: &'a mut [[T; 3]],
        extras: &'a mut [u8],
    ) -> ServerExchange<'a, T, Answer> {
        ServerExchange::new(self, Goal::Forces, Server::first_answer).with(
            Request::NOTHING,
            answers,
            forces,
            extras,
        )
    }

    /// Waits for the forces that the driver owes, and drops them; does nothing if it owes none. Use
    /// it to give up a request and send another. Once it has begun, the answer can't be taken any
    /// more: [`get_forces`](Self::get_forces) and [`evaluate`](Self::evaluate) are
    /// [`Unfinished`](ProtocolError::Unfinished) until the answer has been dropped.
    ///
    /// # Errors
    ///
    /// With the server as it was: [`ProtocolError::Unfinished`] if the request was sent only in
    /// part. Final for the connection: those of [`get_forces`](Self::get_forces).
    pub const fn discard(&mut self) -> ServerExchange<'_, f64, ()> {
        ServerExchange::new(self, Goal::Discard, nothing)
    }

    /// Has the driver compute one structure, whatever that takes: asks for its status, sends INIT
    /// if the driver needs it, sends positions and takes the forces, as
    /// [`get_forces`](Self::get_forces) does.
    ///
    /// # Errors
    ///
    /// Those of the exchanges that it consists of, and [`ProtocolError::AnswerDue`], with the
    /// server as it was, if positions have been sent by another exchange.
    pub const fn evaluate<'a, T: Scalar>(
        &'a mut self,
        request: Request<'a, T>,
        forces: &'a mut [[T; 3]],
        extras: &'a mut [u8],
    ) -> ServerExchange<'a, T, Answer> {
        self.evaluate_batch(request, &mut [], forces, extras)
    }

    /// Like [`evaluate`](Self::evaluate), for a request of several structures: one answer each into
    /// `answers`, their forces one after the other, their extras one after the other in one buffer
    /// ([`Answer::extras`]).
    ///
    /// Needs a driver that asks for INIT, which announces batches: see
    /// [`capacity`](Self::capacity). A request with fewer structures is padded with copies of the
    /// last, whose results are dropped.
    pub const fn evaluate_batch<'a, T: Scalar>(
        &'a mut self,
        request: Request<'a, T>,
        answers: &'a mut [Answer],
        forces: &'a mut [[T; 3]],
        extras: &'a mut [u8],
    ) -> ServerExchange<'a, T, Answer> {
        ServerExchange::new(self, Goal::Evaluate, Server::first_answer)
            .with(request, answers, forces, extras)
    }

    /// Sends EXIT, and waits until the driver has closed the connection. The rest of an answer is
    /// dropped.
    ///
    /// Drivers end in different ways: LAMMPS with an error, others reset the connection. An error
    /// of the transport after EXIT was sent is ignored.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::Unfinished`] if another message has left in part: nothing can be sent after
    /// it. The error that the connection has failed with, if it has.
    pub const fn exit(&mut self) -> ServerExchange<'_, f64, ()> {
        ServerExchange::new(self, Goal::Exit, nothing)
    }

    /// What is known about the driver without asking.
    #[must_use]
    pub fn last_status(&self) -> Status {
        let status = match (self.state, self.phase) {
            (State::Leaving | State::Closed | State::Failed, _) | (_, Phase::Leaving) => {
                return Status::DISCONNECTED;
            }
            (_, Phase::Unknown) => Status::UP,
            (_, Phase::NeedsInit) => Status::UP | Status::NEEDS_INIT,
            (_, Phase::Ready) => Status::UP | Status::READY,
            (_, Phase::HasData) => Status::UP | Status::HAS_DATA,
            (_, Phase::Asked | Phase::Initializing | Phase::Computing | Phase::Awaiting) => {
                Status::UP | Status::BUSY
            }
        };
        if self.timed_out {
            status | Status::TIMEOUT
        } else {
            status
        }
    }

    /// Notes that one of the caller's deadlines has passed: the driver's status includes
    /// [`TIMEOUT`](Status::TIMEOUT) until something comes from it. The server has no clock of its
    /// own.
    pub const fn mark_timed_out(&mut self) {
        self.timed_out = true;
    }

    /// Structures that a request may have: 1, or with [`Mode::Batched`] as many as INIT has
    /// announced.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.carried
    }

    /// Atoms of each structure that was sent last.
    #[must_use]
    pub const fn natoms(&self) -> usize {
        match self.natoms {
            Some(natoms) => natoms,
            None => 0,
        }
    }

    /// Bytes moved, over all connections.
    #[must_use]
    pub const fn traffic(&self) -> Traffic {
        self.progress.traffic
    }

    fn first_answer(&self) -> Answer {
        self.answer
    }
}

fn nothing(_: &Server) {}

impl Default for Server {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = matches!(self.state, State::Failed);
        f.debug_struct("Server")
            .field("mode", &self.mode)
            .field("last_status", &self.last_status())
            .field("state", &self.state)
            .field("error", &failed.then_some(self.error))
            .field("initialized", &self.init.is_some())
            .field("natoms", &self.natoms)
            .field("carried", &self.carried)
            .field("traffic", &self.progress.traffic)
            .finish_non_exhaustive()
    }
}
