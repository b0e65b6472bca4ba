//! The server machine: sends positions to a driver and receives forces from it.
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
//! The states follow `src/manual/protocol.md`, sections 2 and 4. The messages on one arrow are sent
//! in one write. The STATUS after GETFORCE is i-PI's probe (3.3.1, `ipi/interfaces/sockets.py`,
//! `get_status`). It is sent before the forces are there and waits in the driver's receive buffer,
//! as the one after POSDATA always did. This saves a round trip in each evaluation. Its answer is
//! read when it is needed.
//!
//! A driver to which INIT has announced batches receives several structures at once, in another
//! order (`protocol/layout.rs`).

mod answer;
mod checks;
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

/// The server's side of one connection to a driver, like i-PI's `DriverSocket`.
///
/// It takes 1 KiB including its scratch and holds no arrays: positions, forces and extras are the
/// caller's. Each of its exchanges is an [`Exchange`](crate::Exchange);
/// [`evaluate`](Self::evaluate) combines all of them.
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
/// An exchange may stop half-way, because of a time-out, a dropped future, or a poll that returns
/// `Pending`. Keep it and run it again. An exchange that was dropped can be recreated:
///
/// - If no byte of a message had moved, any exchange may follow.
/// - In the middle of a message, only the same exchange with the same numbers may follow: the
///   numbers of the request, and the received part of an answer in the caller's arrays. Otherwise
///   it fails with [`Unfinished`](ProtocolError::Unfinished).
/// - While the driver computes, [`evaluate`](Self::evaluate) with the same request, or
///   [`get_forces`](Self::get_forces), may follow. `evaluate` with other positions fails with
///   [`AnswerDue`](ProtocolError::AnswerDue), because the next forces do not belong to its request.
///   [`discard`](Self::discard) drops them.
/// - Between the INIT of an `evaluate` and its positions, `evaluate` or
///   [`send_positions`](Self::send_positions) with the same replica and text may follow, because
///   INIT has named the replica of these positions. After [`initialize`](Self::initialize) the
///   replica is up to the caller and is not compared with the request's.
///
/// After such an error the server is unchanged.
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
    /// A pointer, so that a server that never folds uses no flash for it.
    fold: Option<Fold>,
    /// How many structures each message carries: 1, or as many as INIT announced.
    carried: usize,
    natoms: Option<usize>,
    /// The number of structures of the current request; the others of its batch are copies of the
    /// last. 0 while its answer is being discarded.
    structures: usize,
    /// How many bytes of extras have been kept, and how many of the current ones have no room.
    kept: usize,
    surplus: usize,
    /// Fingerprints of the begun request and of the received part of an answer, after their
    /// exchange was dropped.
    request: Option<Fingerprint>,
    received: Option<Fingerprint>,
    /// The fingerprint of INIT from an evaluation, until its positions are sent.
    init: Option<Fingerprint>,
    /// The error of a failed conversation, or of the last refused call.
    error: ProtocolError,
    progress: Progress,
    /// The answer for the first structure.
    answer: Answer,
    /// The inverse of the cell that is being sent, or into which atoms are folded.
    inverse: [[f64; 3]; 3],
}

impl Server {
    /// Makes a server for a driver that has just connected, with [`Mode::Consolidated`].
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

    /// Selects the messages of an evaluation. Once anything has been sent over a connection, a
    /// change takes effect only after [`reset`](Self::reset): a driver that knows its batch size,
    /// or computes, keeps its mode.
    #[must_use]
    pub const fn mode(mut self, mode: Mode) -> Self {
        if self.progress.message == 0 && matches!(self.phase, Phase::Unknown) && !self.greeted {
            self.mode = mode;
        }
        self
    }

    /// Wraps atoms into the cell by whole lattice vectors before they are sent. LAMMPS of 2021
    /// folds by at most one box length, and atoms farther out silently give wrong energies there.
    /// The caller's array is unchanged.
    #[must_use]
    pub const fn fold_positions(mut self) -> Self {
        self.fold = Some(fold::fold);
        self
    }

    /// Allows the number of atoms to change from one structure to the next. By default that is an
    /// error, because few real drivers support it.
    #[must_use]
    pub const fn allow_changing_atoms(mut self) -> Self {
        self.changing_atoms = true;
        self
    }

    /// Allows infinite numbers and NaN in both directions, except in a cell, which would have no
    /// inverse. By default they are an error.
    #[must_use]
    pub const fn allow_not_finite(mut self) -> Self {
        self.not_finite = true;
        self
    }

    /// Prepares the server for its next connection. Its configuration and
    /// [`traffic`](Self::traffic) are kept.
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

    /// Asks the driver for its status, or waits for the answer if it has been asked already. In a
    /// classic conversation a driver that computes answers only when its forces are there. In a
    /// consolidated one such a driver is [busy](Status::BUSY), which is returned at once. A driver
    /// that has closed the connection, or was sent EXIT, is [disconnected](Status::DISCONNECTED).
    /// In [`Mode::Strict`] a driver whose status is known is not asked again.
    ///
    /// # Errors
    ///
    /// The server is unchanged after [`ProtocolError::Unfinished`]: a message was sent in part, and
    /// only the exchange that began it has the rest. These errors are final for the connection:
    /// [`UnknownHeader`](ProtocolError::UnknownHeader),
    /// [`UnexpectedAnswer`](ProtocolError::UnexpectedAnswer),
    /// [`EndOfStream`](ProtocolError::EndOfStream).
    ///
    /// # Cancel safety
    ///
    /// For this and all other exchanges see [`Server`], "Interrupted exchanges".
    pub const fn status(&mut self) -> ServerExchange<'_, f64, Status> {
        ServerExchange::new(self, Goal::Status, Server::last_status)
    }

    /// Sends INIT to a driver that asked for it: the number of a replica and a text
    /// ([`Request::init`]).
    ///
    /// # Errors
    ///
    /// These errors leave the server unchanged: [`ProtocolError::InvalidStatus`] unless the driver
    /// [needs INIT](Status::NEEDS_INIT), [`TextTooLong`](ProtocolError::TextTooLong),
    /// [`WrongLength`](ProtocolError::WrongLength) if [batches](Mode::Batched) have more structures
    /// than INIT can announce, 2^31 - 1.
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

    /// Sends one structure, or a batch, to a driver that is ready: positions and cell in bohr, with
    /// h upper triangular and its true inverse.
    ///
    /// # Errors
    ///
    /// These errors leave the server unchanged: [`ProtocolError::InvalidStatus`] unless the driver
    /// is [ready](Status::READY), [`NotUpperTriangular`](ProtocolError::NotUpperTriangular),
    /// [`SingularCell`](ProtocolError::SingularCell), [`NotFinite`](ProtocolError::NotFinite),
    /// [`AtomsChanged`](ProtocolError::AtomsChanged), [`WrongLength`](ProtocolError::WrongLength),
    /// [`Unfinished`](ProtocolError::Unfinished) if part of another request has been sent.
    pub const fn send_positions<'a, T: Scalar>(
        &'a mut self,
        request: Request<'a, T>,
    ) -> ServerExchange<'a, T, ()> {
        ServerExchange::new(self, Goal::Send, nothing).with(request, &mut [], &mut [], &mut [])
    }

    /// Waits until the driver has computed, and receives the result: forces, in hartree/bohr, into
    /// `forces`, which is exactly as long as the positions sent; extras into `extras`, as far as
    /// there is room.
    ///
    /// # Errors
    ///
    /// These errors leave the server unchanged: [`ProtocolError::InvalidStatus`] unless positions
    /// have been sent, [`WrongLength`](ProtocolError::WrongLength),
    /// [`Unfinished`](ProtocolError::Unfinished) if part of the answer is in other arrays, or the
    /// buffer for extras has changed its length since the first of them arrived. Final for the
    /// connection: [`WrongAtoms`](ProtocolError::WrongAtoms),
    /// [`NegativeLength`](ProtocolError::NegativeLength), [`NotFinite`](ProtocolError::NotFinite),
    /// [`Unanswered`](ProtocolError::Unanswered), [`EndOfStream`](ProtocolError::EndOfStream) and
    /// the errors of [`status`](Self::status); `forces` (and `answers` of a batch) may then hold
    /// parts of an answer.
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

    /// Waits for the forces that the driver owes, and drops them. Does nothing if it owes none. Use
    /// it to give up a request and send another. Once this exchange has begun, the answer can't be
    /// received any more: [`get_forces`](Self::get_forces) and [`evaluate`](Self::evaluate) fail
    /// with [`Unfinished`](ProtocolError::Unfinished) until the answer has been dropped.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::Unfinished`] if the request was sent only in part; the server is unchanged.
    /// Other errors are final for the connection, as in [`get_forces`](Self::get_forces).
    pub const fn discard(&mut self) -> ServerExchange<'_, f64, ()> {
        ServerExchange::new(self, Goal::Discard, nothing)
    }

    /// Lets the driver compute one structure, with all messages that this needs: asks for its
    /// status, sends INIT if the driver needs it, sends positions and receives the forces as
    /// [`get_forces`](Self::get_forces) does.
    ///
    /// # Errors
    ///
    /// Returns the errors of the exchanges that it consists of, and [`ProtocolError::AnswerDue`] if
    /// another exchange has sent positions; the server is then unchanged.
    pub const fn evaluate<'a, T: Scalar>(
        &'a mut self,
        request: Request<'a, T>,
        forces: &'a mut [[T; 3]],
        extras: &'a mut [u8],
    ) -> ServerExchange<'a, T, Answer> {
        self.evaluate_batch(request, &mut [], forces, extras)
    }

    /// Like [`evaluate`](Self::evaluate), for a request with several structures. There is one
    /// answer for each in `answers`; forces and extras ([`Answer::extras`]) are concatenated.
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
    /// dropped. If part of an answer has arrived, the first step of this exchange is final, and
    /// only another `exit` can follow.
    ///
    /// Drivers end in different ways: LAMMPS with an error, others reset the connection. An error
    /// of the transport after EXIT was sent is ignored.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::Unfinished`] if another message has been sent in part: nothing can follow
    /// it. Otherwise the error of a failed connection.
    pub const fn exit(&mut self) -> ServerExchange<'_, f64, ()> {
        ServerExchange::new(self, Goal::Exit, nothing)
    }

    /// What is known about the driver without asking it.
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

    /// Records that one of the caller's deadlines has passed: the driver's status includes
    /// [`TIMEOUT`](Status::TIMEOUT) until the driver sends something. The server has no clock.
    pub const fn mark_timed_out(&mut self) {
        self.timed_out = true;
    }

    /// The most structures that a request may have: 1, or with [`Mode::Batched`] as many as INIT
    /// has announced.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.carried
    }

    /// The number of atoms of each structure sent last.
    #[must_use]
    pub const fn natoms(&self) -> usize {
        match self.natoms {
            Some(natoms) => natoms,
            None => 0,
        }
    }

    /// How many bytes have moved, over all connections.
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
