//! The machine that asks: sends positions to a driver and takes forces from it.
//!
//! ```text
//!                  STATUS            NEEDINIT             INIT, STATUS
//! connect --> [ Unknown ] --> [ Asked ] --> [ NeedsInit ] --> [ Asked ]
//!                 ^              | READY
//!                 |              v
//!    strict only  |          [ Ready ] --POSDATA, STATUS--> [ Computing ] --HAVEDATA--> [ HasData ]
//!                 |              |                                                          |
//!                 |              | POSDATA, GETFORCE, STATUS                                | GETFORCE, STATUS
//!                 |              | (consolidated)                                           | (strict: no STATUS)
//!                 |              v                                                          |
//!                 +--------- [ Awaiting ] <-------------------------------------------------+
//!    FORCEREADY   |
//!                 +--> [ Asked ], or [ Unknown ] if strict
//! ```
//!
//! What stands together on an arrow leaves in one write. The STATUS behind GETFORCE is i-PI's probe (3.3.1,
//! `ipi/interfaces/sockets.py`, `get_status`), asked before the forces are here: it waits in the driver's receive
//! buffer, as the one behind POSDATA always did, and saves a journey in each evaluation. Its answer is read when
//! it is needed.
//!
//! A driver that was told of batches by INIT gets several structures at once, in another order (`dispatch_send_batch`).

use core::convert::Infallible;
use core::fmt;

use crate::exchange::progress::{Gather, SCRATCH};
use crate::fmt::{debug, trace};
use crate::protocol::header::HEADER;
use crate::protocol::layout::{self, ATOM, CELL, INTEGER, MATRIX, REAL};
use crate::protocol::scalar::from_wire;
use crate::{
    Awaited, Cell, Exchange, Header, ProtocolError, Quantity, Scalar, Status, Step, Traffic,
    Virial, Wait,
};

/// How a server speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Mode {
    /// STATUS, POSDATA, STATUS, GETFORCE: every driver knows it, with one journey more. i-PI before 3.2, ASE.
    Classic,
    /// POSDATA and GETFORCE in one go, as i-PI ≥ 3.2 does unless told otherwise.
    #[default]
    Consolidated,
    /// The same four as [`Classic`](Self::Classic) and nothing else: each STATUS is followed by POSDATA or GETFORCE
    /// (or INIT, if the driver wants it). ABINIT 9.6 and pysisyphus insist on it.
    Strict,
    /// Consolidated, with up to this many structures at once for drivers that ask for INIT, which announces them
    /// (i-PI ≥ 3.3, `batch_size`). Drivers that don't ask get one structure at a time.
    Batched(usize),
}

/// What a driver is to compute. Borrows everything; `Copy`.
///
/// ```
/// use forcewire::{Cell, Request};
///
/// let cell = Cell::orthorhombic([20.0; 3]);
/// let positions = [[0.0, 0.0, 0.0], [1.8, 0.0, 0.0]];
/// let request = Request::new(&cell, &positions).replica(3);
/// # let _ = request;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Request<'a, T> {
    replica: i32,
    text: &'a [u8],
    cells: &'a [Cell],
    positions: &'a [[T; 3]],
}

impl<'a, T> Request<'a, T> {
    const NOTHING: Self = Self {
        replica: 0,
        text: b"",
        cells: &[],
        positions: &[],
    };

    /// One structure: a cell, upper triangular, and the atoms' positions, in bohr.
    #[must_use]
    pub const fn new(cell: &'a Cell, positions: &'a [[T; 3]]) -> Self {
        Self::batch(core::slice::from_ref(cell), positions)
    }

    /// Several structures of as many atoms each: their cells, and their positions one after the other. No more
    /// than [`Server::capacity`].
    #[must_use]
    pub const fn batch(cells: &'a [Cell], positions: &'a [[T; 3]]) -> Self {
        Self {
            replica: 0,
            text: b"",
            cells,
            positions,
        }
    }

    /// Atoms of each structure.
    const fn natoms(&self) -> usize {
        match self.positions.len().checked_div(self.cells.len()) {
            Some(natoms) => natoms,
            None => 0,
        }
    }

    /// Whether a driver can be sent this.
    #[cfg(feature = "std")]
    pub(crate) fn check(&self, not_finite: bool) -> Result<(), ProtocolError>
    where
        T: Scalar,
    {
        self.check_atoms(not_finite)?;
        let mut inverse = [[0.0; 3]; 3];
        self.cells.iter().try_for_each(|cell| {
            let inverted = cell.invert_upper(&mut inverse) && cell.is_thick();
            check_cell(cell, inverted)
        })
    }

    /// Whether a driver can be sent the atoms.
    fn check_atoms(&self, not_finite: bool) -> Result<(), ProtocolError>
    where
        T: Scalar,
    {
        let structures = self.cells.len();
        check_length(Quantity::Structures, structures, structures.max(1))?;
        let natoms = self.natoms().min(MOST_ATOMS);
        let expected = natoms.saturating_mul(structures);
        check_length(Quantity::Positions, self.positions.len(), expected)?;
        if not_finite || T::all_finite(self.positions.as_flattened()) {
            Ok(())
        } else {
            Err(ProtocolError::NotFinite(Quantity::Positions))
        }
    }

    /// The structure that is sent as number `index`: behind the last come copies of it.
    fn source(&self, index: usize) -> usize {
        index.min(self.cells.len().saturating_sub(1))
    }

    fn cell(&self, index: usize) -> &'a Cell {
        const NONE: &Cell = &Cell::orthorhombic([0.0; 3]);
        self.cells.get(self.source(index)).unwrap_or(NONE)
    }

    /// The numbers of this structure's positions, from this one on.
    fn reals(&self, index: usize, gone: usize) -> &'a [T] {
        let first = self.source(index).saturating_mul(self.natoms());
        let behind = self.positions.get(first..).unwrap_or_default();
        let atoms = behind.get(..self.natoms()).unwrap_or_default();
        atoms.as_flattened().get(gone..).unwrap_or_default()
    }

    /// The text of INIT without what is added to it.
    fn text(&self) -> &'a [u8] {
        match self.text {
            [] => b" ",
            text => text,
        }
    }

    /// Bytes of INIT's text, with what is added to it.
    fn text_len(&self, mode: Mode) -> usize {
        let added = match mode {
            Mode::Batched(size @ 2..) => {
                usize::from(self.says_something()) + BATCH_SIZE.len() + digits(size)
            }
            _ => 0,
        };
        self.text().len().saturating_add(added)
    }

    fn says_something(&self) -> bool {
        !self.text().iter().all(u8::is_ascii_whitespace)
    }

    /// Adds what announces batches behind the text of INIT, as i-PI 3.3.1 writes it (`DriverSocket.initialize`).
    fn put_batch_size(&self, mode: Mode, message: &mut Gather<'_>) -> bool {
        let Mode::Batched(size @ 2..) = mode else {
            return true;
        };
        let comma: &[u8] = if self.says_something() { b"," } else { b"" };
        let len = comma.len() + BATCH_SIZE.len() + digits(size);
        if message.left() < len || !message.push(comma) || !message.push(BATCH_SIZE) {
            return false;
        }
        // By hand: `core::fmt` takes 2 KB of flash.
        let mut rest = size;
        for digit in message.reserve(digits(size)).into_iter().flatten().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        true
    }

    /// The replica (bead) that INIT names. 0 unless told otherwise; i-PI's may be negative.
    #[must_use]
    pub const fn replica(self, replica: i32) -> Self {
        Self { replica, ..self }
    }

    /// The text of INIT for a driver that wants it. One blank unless told otherwise, because Quantum ESPRESSO 6.7
    /// takes the length for a set of flags and a text of no bytes ends every driver built on i-PI's C `readbuffer`.
    /// NWChem has room for 80 bytes and doesn't check. `batch_size` is added to it where that is due.
    #[must_use]
    pub const fn init(self, text: &'a [u8]) -> Self {
        Self { text, ..self }
    }
}

/// What came with the forces of a structure.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Answer {
    /// The potential energy, hartree.
    pub energy: f64,
    /// The virial, hartree, made symmetric ([`Virial::symmetric`]).
    pub virial: Virial,
    extras_at: usize,
    extras_kept: usize,
    extras_sent: usize,
}

impl Answer {
    const NONE: Self = Self {
        energy: 0.0,
        virial: Virial::ZERO,
        extras_at: 0,
        extras_kept: 0,
        extras_sent: 0,
    };

    /// The extras, as many bytes of them as there was room for in `buffer`, which is the one that the exchange was
    /// given. Nothing, one blank, a NUL, or text; often JSON.
    #[must_use]
    pub fn extras<'a>(&self, buffer: &'a [u8]) -> &'a [u8] {
        let behind = buffer.get(self.extras_at..).unwrap_or_default();
        behind.get(..self.extras_kept).unwrap_or_default()
    }

    /// Bytes of extras that the driver sent. More than [`extras`](Self::extras) has if there was no room.
    #[must_use]
    pub const fn extras_sent(&self) -> usize {
        self.extras_sent
    }
}

/// The server's side of one connection to a driver: what i-PI's `DriverSocket` is.
///
/// Takes 1 KiB, scratch included, and holds no array: positions, forces and extras are the caller's. Each of its exchanges is a [`Exchange`]; [`evaluate`](Self::evaluate) is all of them.
///
/// ```no_run
/// # fn ask<S: embedded_io::Read + embedded_io::Write>(mut socket: S) -> Result<(), forcewire::Error<S::Error>> {
/// use forcewire::{Cell, Request, Server, blocking};
///
/// let cell = Cell::orthorhombic([20.0; 3]);
/// let positions = [[0.0, 0.0, 0.0], [1.8, 0.0, 0.0]];
/// let (mut forces, mut extras) = ([[0.0; 3]; 2], [0; 256]);
///
/// let mut server = Server::new();
/// let request = Request::new(&cell, &positions);
/// let answer = blocking::run(&mut socket, server.evaluate(request, &mut forces, &mut extras))?;
/// let _ = (answer.energy, answer.virial, answer.extras(&extras)); // and `forces`
/// blocking::run(&mut socket, server.exit())
/// # }
/// ```
pub struct Server {
    mode: Mode,
    /// A pointer, so that a server that is never told to fold takes no flash for it.
    fold: Option<Fold>,
    changing_atoms: bool,
    not_finite: bool,

    state: State,
    phase: Phase,
    /// What the phase will be when the message that is leaving has left, and which exchange is through then.
    then: (Phase, Option<Goal>),
    /// What has ended and was not told yet.
    news: Option<Goal>,
    timed_out: bool,
    /// The driver has sent a header.
    greeted: bool,
    /// Bytes of the current field that have moved, and how many there are.
    at: usize,
    end: usize,
    /// Bytes of the current message that have moved.
    message: usize,

    /// Structures that each exchange carries: 1, or as many as INIT announced.
    carried: usize,
    natoms: Option<usize>,
    /// Structures of the request under way, the others of its batch being copies of the last.
    structures: usize,
    /// The answer for the first structure.
    answer: Answer,
    /// Bytes of extras kept so far, and bytes of the current ones for which there is no room.
    kept: usize,
    left: usize,

    traffic: Traffic,
    /// Of the cell that is leaving, or by which atoms are folded.
    inverse: [[f64; 3]; 3],
    scratch: [u8; SCRATCH],
}

/// Where in a message the machine is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// Between messages.
    Idle,
    /// Pieces of a message are leaving from the scratch; behind them comes this part. When they have left, the scratch
    /// is filled again by the next step.
    Gathered(Part),
    /// Positions of this structure are leaving straight from the caller's array.
    Direct(usize),
    /// A field is coming into the scratch.
    Reading(Field),
    /// Forces are coming straight into the caller's array.
    Forces,
    /// Extras of this structure are coming straight into the caller's buffer.
    Extras(usize),
    /// EXIT has left; whatever comes until the driver closes is dropped.
    Leaving,
    Closed,
    Failed(ProtocolError),
}

/// What is known of the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Unknown,
    Asked,
    NeedsInit,
    Ready,
    Computing,
    HasData,
    Awaiting,
    Leaving,
}

/// A part of what is sent; an index counts structures, `gone` reals or bytes of a text.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Init,
    Text { gone: usize },
    BatchSize,
    PosData,
    Cell(usize),
    Positions { index: usize, gone: usize },
    GetForce,
    Status,
    Exit,
    End,
}

/// A field that comes into the scratch; an index counts structures.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Field {
    Header,
    /// An energy, and behind the last the number of atoms.
    Energy(usize),
    /// Forces that have to be converted, from this number on.
    Reals(usize),
    /// Forces of copies, of which this many bytes are left.
    Copies(usize),
    /// A virial, and behind the last the length of the first extras.
    Virial(usize),
    Length(usize),
    /// Extras of this structure for which there is no room, of which this many bytes are left.
    Surplus(usize, usize),
}

/// What is put behind what is gathered: a cell, positions in this cell, whatever else messages are made of.
enum Next<'a> {
    Cell(&'a Cell),
    Positions(&'a Cell),
    Words,
    Nothing,
}

/// What an exchange is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    Status,
    Initialize,
    Send,
    Forces,
    Evaluate,
    Exit,
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
            state: State::Idle,
            phase: Phase::Unknown,
            then: (Phase::Unknown, None),
            news: None,
            timed_out: false,
            greeted: false,
            at: 0,
            end: 0,
            message: 0,
            carried: 1,
            natoms: None,
            structures: 1,
            answer: Answer::NONE,
            kept: 0,
            left: 0,
            traffic: Traffic {
                received: 0,
                sent: 0,
            },
            inverse: [[0.0; 3]; 3],
            scratch: [0; SCRATCH],
        }
    }

    /// Speaks as told.
    #[must_use]
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Moves atoms by whole lattice vectors into the cell before they are sent. LAMMPS of 2021
    /// folds by two box lengths at most; atoms farther out give wrong energies there without a word. The caller's array
    /// stays as it is.
    #[must_use]
    pub const fn fold_positions(mut self) -> Self {
        self.fold = Some(folded);
        self
    }

    /// Lets the number of atoms change from one structure to the next. It is refused otherwise: few real drivers
    /// stand it.
    #[must_use]
    pub const fn allow_changing_atoms(mut self) -> Self {
        self.changing_atoms = true;
        self
    }

    /// Lets infinite numbers and NaN through, in both directions. They are refused otherwise; in a cell they always
    /// are, for it would have no inverse.
    #[must_use]
    pub const fn allow_not_finite(mut self) -> Self {
        self.not_finite = true;
        self
    }

    /// Makes the server new for the next connection. What it was told to be and the [`traffic`](Self::traffic)
    /// stay.
    pub const fn reset(&mut self) {
        self.state = State::Idle;
        self.phase = Phase::Unknown;
        self.news = None;
        self.timed_out = false;
        self.greeted = false;
        self.message = 0;
        self.carried = 1;
        self.natoms = None;
    }

    /// Asks the driver for its status. While a question is open, its answer is waited for instead: in a classic
    /// conversation that of a driver that computes, which comes with the forces. In a consolidated one such a driver
    /// is [busy](Status::BUSY) and not waited for. One that has closed the connection, or was told EXIT, is
    /// [disconnected](Status::DISCONNECTED). In [`Mode::Strict`] a driver whose status is known is not asked again.
    ///
    /// # Errors
    ///
    /// With the server as it was: [`ProtocolError::InvalidStatus`] if a message has begun to leave whose rest only
    /// the exchange that began it has. Final for the connection: [`UnknownHeader`](ProtocolError::UnknownHeader),
    /// [`UnexpectedAnswer`](ProtocolError::UnexpectedAnswer), [`EndOfStream`](ProtocolError::EndOfStream).
    ///
    /// # Cancel safety
    ///
    /// Here and in every other exchange: the transfer may be dropped at any point; make it again with the same
    /// arguments to go on. If it has moved no byte of a message yet, any other exchange may follow as well.
    pub const fn status(&mut self) -> ServerExchange<'_, f64, Status> {
        ServerExchange::new(self, Goal::Status, Server::last_status)
    }

    /// Sends INIT to a driver that asked for it: the number of a replica and a text ([`Request::init`]).
    ///
    /// # Errors
    ///
    /// With the server as it was: [`ProtocolError::InvalidStatus`] unless the driver [needs it](Status::NEEDS_INIT),
    /// [`TextTooLong`](ProtocolError::TextTooLong).
    pub const fn initialize<'a>(
        &'a mut self,
        replica: i32,
        text: &'a [u8],
    ) -> ServerExchange<'a, f64, ()> {
        let mut exchange = ServerExchange::new(self, Goal::Initialize, nothing);
        exchange.course.request.replica = replica;
        exchange.course.request.text = text;
        exchange
    }

    /// Sends one structure, or a batch, to a driver that is ready: bohr, h upper triangular, and its true inverse.
    ///
    /// # Errors
    ///
    /// With the server as it was: [`ProtocolError::InvalidStatus`] unless the driver is [ready](Status::READY),
    /// [`NotUpperTriangular`](ProtocolError::NotUpperTriangular), [`SingularCell`](ProtocolError::SingularCell),
    /// [`NotFinite`](ProtocolError::NotFinite), [`AtomsChanged`](ProtocolError::AtomsChanged),
    /// [`WrongLength`](ProtocolError::WrongLength).
    pub const fn send_positions<'a, T: Scalar>(
        &'a mut self,
        request: Request<'a, T>,
    ) -> ServerExchange<'a, T, ()> {
        let mut exchange = ServerExchange::new(self, Goal::Send, nothing);
        exchange.course.request = request;
        exchange
    }

    /// Waits until the driver has computed and takes what it found: forces into `forces`, hartree/bohr, exactly as
    /// many as positions were sent; extras into `extras`, as far as there is room.
    ///
    /// # Errors
    ///
    /// With the server as it was: [`ProtocolError::InvalidStatus`] unless positions have been sent,
    /// [`WrongLength`](ProtocolError::WrongLength). Final for the connection:
    /// [`WrongAtoms`](ProtocolError::WrongAtoms), [`NegativeLength`](ProtocolError::NegativeLength),
    /// [`NotFinite`](ProtocolError::NotFinite), [`Unanswered`](ProtocolError::Unanswered),
    /// [`EndOfStream`](ProtocolError::EndOfStream) and what [`status`](Self::status) knows. `forces` (and `answers` of a
    /// batch) may hold parts of an answer then.
    pub const fn get_forces<'a, T: Scalar>(
        &'a mut self,
        forces: &'a mut [[T; 3]],
        extras: &'a mut [u8],
    ) -> ServerExchange<'a, T, Answer> {
        self.get_forces_batch(&mut [], forces, extras)
    }

    /// Like [`get_forces`](Self::get_forces), for several structures: see [`evaluate_batch`](Self::evaluate_batch).
    pub const fn get_forces_batch<'a, T: Scalar>(
        &'a mut self,
        answers: &'a mut [Answer],
        forces: &'a mut [[T; 3]],
        extras: &'a mut [u8],
    ) -> ServerExchange<'a, T, Answer> {
        let mut exchange = ServerExchange::new(self, Goal::Forces, Server::first_answer);
        exchange.course.answers = answers;
        exchange.course.forces = forces;
        exchange.course.extras = extras;
        exchange
    }

    /// Has the driver compute one structure, whatever that takes: asks for its status, sends INIT if it wants that,
    /// sends positions and takes the forces, as [`get_forces`](Self::get_forces) does. What the single steps have
    /// done already is not done again.
    ///
    /// # Errors
    ///
    /// Those of the exchanges that it consists of.
    pub const fn evaluate<'a, T: Scalar>(
        &'a mut self,
        request: Request<'a, T>,
        forces: &'a mut [[T; 3]],
        extras: &'a mut [u8],
    ) -> ServerExchange<'a, T, Answer> {
        self.evaluate_batch(request, &mut [], forces, extras)
    }

    /// Like [`evaluate`](Self::evaluate), for a request of several structures: an answer each into `answers`, their
    /// forces one after the other, their extras one behind the other in one buffer ([`Answer::extras`]).
    ///
    /// Needs a driver that asks for INIT, which tells it of batches: see [`capacity`](Self::capacity). A request with
    /// fewer structures is filled up with copies of the last, which the driver computes and no one sees.
    pub const fn evaluate_batch<'a, T: Scalar>(
        &'a mut self,
        request: Request<'a, T>,
        answers: &'a mut [Answer],
        forces: &'a mut [[T; 3]],
        extras: &'a mut [u8],
    ) -> ServerExchange<'a, T, Answer> {
        let mut exchange = ServerExchange::new(self, Goal::Evaluate, Server::first_answer);
        exchange.course.request = request;
        exchange.course.answers = answers;
        exchange.course.forces = forces;
        exchange.course.extras = extras;
        exchange
    }

    /// Tells the driver that it is no longer needed, and waits until it has closed the connection.
    ///
    /// Drivers differ in how: LAMMPS ends with an error, others reset the connection. An error of the transport
    /// after EXIT has left means no more than that. What is still to come of an answer is dropped.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::InvalidStatus`] if another message has begun to leave and was not finished: nothing can be
    /// said then. The error that the connection has failed with, if it has.
    pub const fn exit(&mut self) -> ServerExchange<'_, f64, ()> {
        ServerExchange::new(self, Goal::Exit, nothing)
    }

    /// What is known of the driver without asking.
    #[must_use]
    pub fn last_status(&self) -> Status {
        let status = match (self.state, self.phase) {
            (State::Leaving | State::Closed | State::Failed(_), _) | (_, Phase::Leaving) => {
                return Status::DISCONNECTED;
            }
            (_, Phase::Unknown) => Status::UP,
            (_, Phase::Asked | Phase::Computing | Phase::Awaiting) => Status::UP | Status::BUSY,
            (_, Phase::NeedsInit) => Status::UP | Status::NEEDS_INIT,
            (_, Phase::Ready) => Status::UP | Status::READY,
            (_, Phase::HasData) => Status::UP | Status::HAS_DATA,
        };
        if self.timed_out {
            status | Status::TIMEOUT
        } else {
            status
        }
    }

    /// Tells the server that the caller's deadline for the driver has passed: its status says so until something
    /// is heard of it. The server has no clock of its own.
    pub const fn mark_timed_out(&mut self) {
        self.timed_out = true;
    }

    /// Structures that a request may have: 1, or with [`Mode::Batched`] as many as INIT has announced.
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
        self.traffic
    }

    fn first_answer(&self) -> Answer {
        self.answer
    }

    /// Goes on with this part, or ends the message.
    #[inline(always)]
    fn gather(&mut self, part: Part) {
        if part == Part::End {
            self.sent();
        } else {
            self.state = State::Gathered(part);
            self.at = 0;
            self.end = 0;
        }
    }

    /// The part behind so many structures' positions.
    const fn behind_positions(&self, index: usize) -> Part {
        if index < self.carried {
            Part::Positions { index, gone: 0 }
        } else {
            match self.mode {
                Mode::Classic | Mode::Strict => Part::Status,
                Mode::Consolidated | Mode::Batched(_) => Part::GetForce,
            }
        }
    }

    fn expect(&mut self, field: Field, len: usize) {
        self.state = State::Reading(field);
        self.at = 0;
        self.end = len.min(SCRATCH);
    }

    fn fail(&mut self, error: ProtocolError) {
        debug!("{}", error);
        self.state = State::Failed(error);
    }

    /// Counts bytes that have moved; whether that was all of the field.
    fn moved(&mut self, n: usize) -> bool {
        if matches!(self.state, State::Idle | State::Closed | State::Failed(_)) {
            return false;
        }
        let n = n.min(self.end - self.at);
        self.at += n;
        self.message = self.message.saturating_add(n);
        match self.state {
            State::Gathered(_) | State::Direct(_) => self.traffic.sent += n as u64,
            _ => {
                self.traffic.received += n as u64;
                self.timed_out &= n == 0;
            }
        }
        self.at == self.end
    }

    /// What the driver has been asked last and has not answered.
    const fn asked(&self) -> Header {
        match self.phase {
            Phase::Awaiting => Header::GetForce,
            _ => Header::Status,
        }
    }

    const fn is_sending(&self) -> bool {
        matches!(self.state, State::Gathered(_) | State::Direct(_))
    }

    const fn is_receiving(&self) -> bool {
        matches!(
            self.state,
            State::Reading(_) | State::Forces | State::Extras(_)
        )
    }

    /// What is waited for, whatever exchange does it. Inlined here and below: a call would stay in
    /// the flash of those who never ask.
    #[inline(always)]
    const fn waits_for(&self) -> Wait {
        let (phase, news) = self.then;
        let awaited = match self.state {
            State::Closed | State::Failed(_) => Awaited::Nothing,
            State::Leaving => Awaited::Close,
            State::Gathered(_) | State::Direct(_) => Awaited::Taken,
            State::Forces | State::Extras(_) => Awaited::Rest,
            State::Reading(_) if self.message > 0 => Awaited::Rest,
            State::Idle | State::Reading(_) => match (self.phase, news) {
                (Phase::Asked, Some(Goal::Initialize)) => Awaited::Init,
                (Phase::Asked, _) => Awaited::Status,
                (Phase::Computing | Phase::Awaiting, _) => Awaited::Forces,
                _ => Awaited::Nothing,
            },
        };
        let within = match (awaited, phase, news) {
            (Awaited::Rest, ..) if matches!(self.state, State::Reading(Field::Header)) => None,
            (Awaited::Rest, ..) => Some(Header::ForceReady),
            (Awaited::Taken, _, Some(Goal::Initialize)) => Some(Header::Init),
            (Awaited::Taken, _, Some(Goal::Send)) => Some(Header::PosData),
            (Awaited::Taken, Phase::Leaving, _) => Some(Header::Exit),
            (Awaited::Taken, Phase::Awaiting, _) => Some(Header::GetForce),
            (Awaited::Taken, ..) => Some(Header::Status),
            _ => None,
        };
        let evaluating = match self.phase {
            _ if self.is_sending() => {
                matches!((phase, news), (Phase::Awaiting, _) | (_, Some(Goal::Send)))
            }
            Phase::Computing | Phase::HasData | Phase::Awaiting => true,
            _ => false,
        };
        let traffic = self.traffic.received + self.traffic.sent;
        Wait {
            awaited,
            within,
            moved: match awaited {
                // What still comes then is dropped, and no message of anyone's.
                Awaited::Close => 0,
                _ => self.message,
            },
            announced: match awaited {
                Awaited::Rest => self.announced(),
                _ => None,
            },
            greeted: self.greeted,
            evaluating,
            mark: traffic.saturating_sub(self.message as u64),
        }
    }

    /// Bytes of the message that is coming, as far as is known.
    const fn announced(&self) -> Option<usize> {
        let structures = self.carried;
        let each = self.natoms().saturating_mul(ATOM);
        let each = each.saturating_add(REAL + MATRIX + INTEGER);
        let whole = (HEADER + INTEGER).saturating_add(structures.saturating_mul(each));
        match self.state {
            State::Reading(Field::Header) => Some(HEADER),
            State::Extras(_) | State::Reading(Field::Surplus(..)) if structures == 1 => {
                Some(whole.saturating_add(self.answer.extras_sent))
            }
            State::Extras(_) | State::Reading(Field::Surplus(..) | Field::Length(_)) => None,
            _ => Some(whole),
        }
    }

    /// A whole message has left or has come.
    fn between(&mut self, phase: Phase) {
        self.state = State::Idle;
        self.phase = phase;
        self.message = 0;
    }

    /// A whole message has left.
    fn sent(&mut self) {
        let (phase, news) = self.then;
        self.between(phase);
        self.news = news;
        if phase == Phase::Leaving {
            self.state = State::Leaving;
            self.at = 0;
            self.end = SCRATCH;
        }
        if let (Some(Goal::Initialize), Mode::Batched(size @ 2..)) = (news, self.mode) {
            self.carried = size;
        }
    }

    /// The driver has closed its side.
    fn ended(&mut self) {
        self.state = match self.state {
            State::Failed(error) => State::Failed(error),
            State::Reading(Field::Header) if self.at == 0 => State::Closed,
            State::Reading(_) | State::Forces | State::Extras(_) => {
                let header = matches!(self.state, State::Reading(Field::Header));
                return self.fail(ProtocolError::EndOfStream {
                    within: (!header).then_some(Header::ForceReady),
                    after: self.message,
                });
            }
            _ => State::Closed,
        };
    }

    /// An answer has come, or the beginning of one.
    fn heard(&mut self) {
        let bytes = *self.scratch.first_chunk().unwrap_or(&[0; HEADER]);
        let Some(answer) = Header::parse(&bytes) else {
            return self.fail(ProtocolError::UnknownHeader(bytes));
        };
        trace!("driver: {}", answer.name());
        self.greeted = true;
        let phase = match (self.phase, answer) {
            (Phase::Asked, Header::Ready) => Phase::Ready,
            (Phase::Asked, Header::NeedInit) => Phase::NeedsInit,
            (Phase::Computing, Header::HaveData) => Phase::HasData,
            (Phase::Awaiting, Header::ForceReady) => return self.energy(0),
            // HAVEDATA of a driver that was given nothing is data of another conversation.
            _ => {
                let to = self.asked();
                return self.fail(ProtocolError::UnexpectedAnswer { answer, to });
            }
        };
        self.between(phase);
        self.news = Some(Goal::Status);
    }

    fn energy(&mut self, index: usize) {
        let last = index + 1 >= self.carried;
        self.expect(
            Field::Energy(index),
            if last { REAL + INTEGER } else { REAL },
        );
    }

    fn virial(&mut self, index: usize) {
        let last = index + 1 >= self.carried;
        self.expect(
            Field::Virial(index),
            if last { MATRIX + INTEGER } else { MATRIX },
        );
    }

    /// Goes on behind the extras of this structure.
    fn behind_extras(&mut self, index: usize) {
        if index + 1 < self.carried {
            self.expect(Field::Length(index + 1), INTEGER);
        } else {
            self.between(match self.mode {
                Mode::Strict => Phase::Unknown,
                _ => Phase::Asked,
            });
            self.news = Some(Goal::Forces);
        }
    }

    /// Goes on with what there is no room for.
    fn surplus(&mut self, index: usize, left: usize) {
        if left == 0 {
            self.behind_extras(index);
        } else {
            self.expect(Field::Surplus(index, left), left);
        }
    }

    /// Goes on behind the forces of the structures that were asked for.
    fn copies(&mut self, left: usize) {
        if left == 0 {
            self.virial(0);
        } else {
            self.expect(Field::Copies(left), left);
        }
    }

    /// Atoms of all structures of the request under way.
    fn total(&self) -> usize {
        self.natoms().saturating_mul(self.structures)
    }

    /// Whether numbers of the driver's may be taken; fails otherwise.
    fn accepts(&mut self, quantity: Quantity, finite: bool) -> bool {
        let accepts = finite || self.not_finite;
        if !accepts {
            self.fail(ProtocolError::NotFinite(quantity));
        }
        accepts
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
        f.debug_struct("Server")
            .field("mode", &self.mode)
            .field("known", &self.last_status())
            .field("state", &self.state)
            .field("natoms", &self.natoms)
            .field("carried", &self.carried)
            .field("traffic", &self.traffic)
            .finish_non_exhaustive()
    }
}

/// An exchange with a driver; made by the methods of [`Server`].
#[must_use = "a transfer does nothing by itself: run it over a transport"]
pub struct ServerExchange<'a, T, O> {
    course: Course<'a, T>,
    output: fn(&Server) -> O,
}

/// An exchange, whatever it ends with.
struct Course<'a, T> {
    server: &'a mut Server,
    goal: Goal,
    request: Request<'a, T>,
    answers: &'a mut [Answer],
    forces: &'a mut [[T; 3]],
    extras: &'a mut [u8],
    /// It has taken over from the exchange before.
    took_over: bool,
    done: bool,
    /// Why the step under way can't be made.
    refused: Option<ProtocolError>,
}

impl<T, O> fmt::Debug for ServerExchange<'_, T, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerExchange")
            .field("goal", &self.course.goal)
            .field("server", &self.course.server)
            .finish_non_exhaustive()
    }
}

impl<'a, T: Scalar, O> ServerExchange<'a, T, O> {
    const fn new(server: &'a mut Server, goal: Goal, output: fn(&Server) -> O) -> Self {
        Self {
            course: Course {
                server,
                goal,
                request: Request::NOTHING,
                answers: &mut [],
                forces: &mut [],
                extras: &mut [],
                took_over: false,
                done: false,
                refused: None,
            },
            output,
        }
    }

    /// What the exchange ends with.
    #[inline(never)] // it may be large
    fn outcome(&self) -> Step<'static, O> {
        Step::Done((self.output)(self.course.server))
    }

    /// The slice that is to be moved, or what the exchange ends with.
    #[inline(never)]
    fn look(&mut self) -> Result<Step<'_, O>, ProtocolError> {
        if self.course.done {
            return Ok(self.outcome());
        }
        Ok(match self.course.look()? {
            Step::Read(bytes) => Step::Read(bytes),
            Step::Write(bytes) => Step::Write(bytes),
            Step::Done(never) => match never {},
        })
    }
}

impl<'a, T: Scalar> Course<'a, T> {
    /// Takes over from the exchange before. What that has only looked at has not begun; an answer that is half here
    /// is not waited for by one that leaves.
    fn take_over(&mut self) {
        let server = &mut *self.server;
        let moving = server.is_sending() || server.is_receiving();
        if moving && server.message == 0 {
            server.state = State::Idle;
        } else if self.goal == Goal::Exit && server.is_receiving() {
            server.between(Phase::Leaving);
        }
        self.took_over = true;
    }

    /// Whether the exchange can go on from here, or has nothing left to do.
    fn check_state(&mut self) -> Result<(), ProtocolError> {
        let (leaving, asking) = (self.goal == Goal::Exit, self.goal == Goal::Status);
        match self.server.state {
            _ if self.done => {}
            State::Failed(error) => return Err(error),
            State::Leaving if leaving => {}
            State::Closed if leaving => self.done = true,
            State::Leaving | State::Closed if asking => self.done = true,
            State::Closed if self.server.phase != Phase::Leaving => {
                return Err(ProtocolError::Unanswered(self.server.asked()));
            }
            // Forces are on their way: there is nothing to ask.
            _ if asking && self.server.phase == Phase::Awaiting && self.server.is_receiving() => {
                self.done = true;
            }
            _ => self.check_resumed()?,
        }
        Ok(())
    }

    /// The slice that is to be moved.
    #[inline(never)]
    fn look(&mut self) -> Result<Step<'_, Infallible>, ProtocolError> {
        if let Some(error) = self.refused.take() {
            return Err(error);
        }
        let (at, end) = (self.server.at, self.server.end);
        match self.server.state {
            State::Direct(index) => {
                let bytes = self.direct(index);
                match bytes.get(at..) {
                    Some(rest) if bytes.len() == end => Ok(Step::Write(rest)),
                    // Begun with numbers that leave as they are, and gone on with others.
                    _ => Err(ProtocolError::WrongLength {
                        quantity: Quantity::Positions,
                        given: 0,
                        expected: end / ATOM,
                    }),
                }
            }
            State::Forces => match T::as_wire_mut(self.forces.as_flattened_mut()) {
                Some(bytes) => Ok(Step::Read(bytes.get_mut(at..end).unwrap_or_default())),
                None => Err(ProtocolError::WrongLength {
                    quantity: Quantity::Forces,
                    given: 0,
                    expected: end / ATOM,
                }),
            },
            State::Extras(_) => Ok(Step::Read(self.extras().get_mut(at..).unwrap_or_default())),
            State::Gathered(_) => {
                let rest = self.server.scratch.get(at..end).unwrap_or_default();
                Ok(Step::Write(rest))
            }
            _ => {
                let rest = self.server.scratch.get_mut(at..end).unwrap_or_default();
                Ok(Step::Read(rest))
            }
        }
    }

    /// Remembers why the step can't be made; whether it can.
    fn allows(&mut self, result: Result<(), ProtocolError>) -> bool {
        self.refused = result.err();
        self.refused.is_none()
    }

    /// Takes over, and looks at what is to be sent.
    #[inline(never)] // here and below, so that only one of them is on the stack
    fn enter(&mut self) -> bool {
        if !self.took_over {
            self.take_over();
        }
        let result = if self.sends_next() {
            self.check_request()
        } else {
            Ok(())
        };
        self.allows(result)
    }

    /// Looks at the cells that are to be sent.
    #[inline(always)]
    fn check_cells(&mut self) -> bool {
        if self.sends_next() {
            for cell in self.request.cells {
                let inverted = cell.invert_upper(&mut self.server.inverse) && cell.is_thick();
                if !self.check_cell(cell, inverted) {
                    return false;
                }
            }
        }
        true
    }

    #[inline(never)]
    fn check_cell(&mut self, cell: &Cell, inverted: bool) -> bool {
        self.allows(check_cell(cell, inverted))
    }

    /// Begins the next message if none is under way; whether the exchange may go on.
    #[inline(never)]
    fn begin(&mut self) -> bool {
        let begun = if self.server.state == State::Idle && !self.done {
            self.begin_next()
        } else {
            Ok(())
        };
        let result = begun.and_then(|()| self.check_state());
        self.allows(result)
    }

    /// Between messages: begins the next one, or finds that nothing is left to be done.
    fn begin_next(&mut self) -> Result<(), ProtocolError> {
        use Goal::{Evaluate, Exit, Forces, Initialize, Send, Status};

        let (goal, phase) = (self.goal, self.server.phase);
        let strict = self.server.mode == Mode::Strict;
        let done = match (self.server.news, goal, phase) {
            (Some(Forces), Evaluate, _) => true,
            (Some(news), ..) if news == goal => true,
            (_, Status, Phase::Awaiting | Phase::HasData | Phase::Leaving) => true,
            (_, Status, Phase::Ready | Phase::NeedsInit) => strict,
            _ => false,
        };
        if done {
            self.server.news = None;
            self.done = true;
            return Ok(());
        }
        // What leaves, what is known of the driver then, and which exchange is through.
        let (part, phase, news) = match (goal, phase) {
            (Exit, _) => (Part::Exit, Phase::Leaving, None),
            (Status | Evaluate, Phase::Asked)
            | (Status | Forces | Evaluate, Phase::Computing)
            | (Forces | Evaluate, Phase::Awaiting) => {
                self.server.news = None;
                self.server.expect(Field::Header, HEADER);
                return Ok(());
            }
            (Status, _) | (Evaluate, Phase::Unknown) => (Part::Status, Phase::Asked, None),
            (Initialize | Evaluate, Phase::NeedsInit) => {
                self.check_text()?;
                (Part::Init, Phase::Asked, Some(Initialize))
            }
            (Send | Evaluate, Phase::Ready) => {
                let phase = match self.server.mode {
                    Mode::Classic | Mode::Strict => Phase::Computing,
                    Mode::Consolidated | Mode::Batched(_) => Phase::Awaiting,
                };
                (Part::PosData, phase, Some(Send))
            }
            (Forces | Evaluate, Phase::HasData) => {
                self.check_room(self.server.natoms(), self.server.structures)?;
                (Part::GetForce, Phase::Awaiting, None)
            }
            (Initialize | Send | Forces | Evaluate, _) => return Err(self.out_of_turn()),
        };
        self.server.then = (phase, news);
        self.server.gather(part);
        Ok(())
    }

    fn out_of_turn(&self) -> ProtocolError {
        ProtocolError::InvalidStatus {
            command: match self.goal {
                Goal::Status => Header::Status,
                Goal::Initialize => Header::Init,
                Goal::Send | Goal::Evaluate => Header::PosData,
                Goal::Forces => Header::GetForce,
                Goal::Exit => Header::Exit,
            },
            status: self.server.last_status(),
        }
    }

    /// Whether this exchange can go on with what it, or another one, has begun.
    fn check_resumed(&self) -> Result<(), ProtocolError> {
        use Goal::{Evaluate, Exit, Forces, Initialize, Send, Status};

        let server = &*self.server;
        match (server.state, self.goal) {
            (
                State::Gathered(Part::Init | Part::Text { .. } | Part::BatchSize),
                Initialize | Evaluate,
            ) => Ok(()),
            (
                State::Gathered(Part::PosData | Part::Cell(_) | Part::Positions { .. })
                | State::Direct(_),
                Send | Evaluate,
            ) => self.check_structures(),
            (State::Gathered(Part::GetForce | Part::Status | Part::Exit | Part::End), goal) => {
                // What is left to be sent needs no argument.
                let (phase, news) = server.then;
                match goal {
                    Status | Exit => Ok(()),
                    Evaluate if phase != Phase::Leaving => Ok(()),
                    Forces if matches!(phase, Phase::Computing | Phase::Awaiting) => Ok(()),
                    _ if news == Some(goal) => Ok(()),
                    _ => Err(self.out_of_turn()),
                }
            }
            (State::Reading(_) | State::Forces | State::Extras(_), goal) => {
                match (goal, server.phase) {
                    (Status | Evaluate, Phase::Asked) | (Status, Phase::Computing) => Ok(()),
                    (Forces | Evaluate, Phase::Computing | Phase::Awaiting) => {
                        self.check_room(server.natoms(), server.structures)
                    }
                    _ => Err(self.out_of_turn()),
                }
            }
            _ => Err(self.out_of_turn()),
        }
    }

    fn check_text(&self) -> Result<(), ProtocolError> {
        let len = self.request.text_len(self.server.mode);
        i32::try_from(len).map_or(Err(ProtocolError::TextTooLong(len)), |_| Ok(()))
    }

    /// Whether positions are what leaves next.
    fn sends_next(&self) -> bool {
        let between = self.server.state == State::Idle && !self.done;
        let sends = matches!(self.goal, Goal::Send | Goal::Evaluate);
        between && sends && self.server.phase == Phase::Ready
    }

    /// Whether the structures can be sent, but for their cells, and the answers have a place.
    fn check_request(&self) -> Result<(), ProtocolError> {
        let (server, request) = (&*self.server, &self.request);
        let structures = request.cells.len();
        let most = structures.min(server.carried);
        check_length(Quantity::Structures, structures, most)?;
        request.check_atoms(server.not_finite)?;
        let natoms = request.natoms();
        match server.natoms {
            Some(expected) if expected != natoms && !server.changing_atoms => {
                return Err(ProtocolError::AtomsChanged {
                    announced: natoms,
                    expected,
                });
            }
            _ => {}
        }
        if self.goal == Goal::Evaluate {
            self.check_room(natoms, structures)?;
        }
        Ok(())
    }

    /// Whether the structures are as many and as large as those of which a part has left.
    fn check_structures(&self) -> Result<(), ProtocolError> {
        let (server, request) = (&*self.server, &self.request);
        if server.message == 0 {
            return Ok(());
        }
        check_length(Quantity::Structures, request.cells.len(), server.structures)?;
        check_length(Quantity::Positions, request.positions.len(), server.total())
    }

    /// Whether the answers to so many structures have a place.
    fn check_room(&self, natoms: usize, structures: usize) -> Result<(), ProtocolError> {
        let forces = natoms.saturating_mul(structures);
        check_length(Quantity::Forces, self.forces.len(), forces)?;
        // One answer is told anyway.
        if structures > 1 || !self.answers.is_empty() {
            check_length(Quantity::Evaluations, self.answers.len(), structures)?;
        }
        match self.server.state {
            State::Extras(_) => {
                let extras = self.server.kept.saturating_add(self.server.end);
                check_length(Quantity::Extras, self.extras.len().min(extras), extras)
            }
            _ => Ok(()),
        }
    }

    /// Puts what is small into the scratch until it is full or an array comes that can leave by itself.
    #[inline(always)]
    fn fill(&mut self) {
        if self.server.at < self.server.end {
            return;
        }
        loop {
            let from = self.server.end;
            let fits = match self.next() {
                Next::Nothing => return,
                Next::Words => self.put_words(),
                Next::Cell(cell) => {
                    cell.invert_upper(&mut self.server.inverse);
                    self.put_cell(cell)
                }
                Next::Positions(cell) => {
                    let fits = self.put_positions();
                    if let Some(fold) = self.server.fold {
                        cell.invert_upper(&mut self.server.inverse);
                        let server = &mut *self.server;
                        let atoms = server.scratch.get_mut(from..server.end);
                        fold(cell, &server.inverse, atoms.unwrap_or_default());
                    }
                    fits
                }
            };
            if !fits {
                break;
            }
        }
        self.leave_directly();
    }

    /// What is to be put behind what is gathered.
    #[inline(never)]
    fn next(&self) -> Next<'a> {
        match self.server.state {
            State::Gathered(Part::Cell(index)) if index < self.server.carried => {
                Next::Cell(self.request.cell(index))
            }
            State::Gathered(Part::Positions { index, .. }) => {
                Next::Positions(self.request.cell(index))
            }
            State::Gathered(_) => Next::Words,
            _ => Next::Nothing,
        }
    }

    /// With nothing gathered, positions are what is too large for it.
    #[inline(never)]
    fn leave_directly(&mut self) {
        if let (State::Gathered(Part::Positions { index, gone }), 0) =
            (self.server.state, self.server.end)
        {
            self.server.state = State::Direct(index);
            // Some have left if they were begun with numbers that are converted.
            self.server.at = gone.saturating_mul(REAL);
            self.server.end = self.direct(index).len();
        }
    }

    /// Adds this cell, which is inverted, or says that there is no room.
    #[inline(never)]
    fn put_cell(&mut self, cell: &Cell) -> bool {
        let server = &mut *self.server;
        let State::Gathered(Part::Cell(index)) = server.state else {
            return false;
        };
        let mut message = Gather::behind(&mut server.scratch, server.end);
        let Some(room) = message.reserve(CELL) else {
            return false;
        };
        layout::put_cell(cell, &server.inverse, room);
        server.end += CELL;
        server.state = State::Gathered(Part::Cell(index + 1));
        true
    }

    /// Adds positions as far as there is room; false if more of them are to come.
    #[inline(never)]
    fn put_positions(&mut self) -> bool {
        let State::Gathered(Part::Positions { index, gone }) = self.server.state else {
            return false;
        };
        let rest = self.request.reals(index, gone);
        let server = &mut *self.server;
        let mut message = Gather::behind(&mut server.scratch, server.end);
        let fit = match (server.fold, T::as_wire(rest)) {
            (None, Some(bytes)) if message.push(bytes) => rest.len(),
            (None, Some(_)) => 0,
            _ => message.push_atoms(rest),
        };
        server.end = message.len();
        let whole = fit == rest.len();
        server.state = State::Gathered(if whole {
            server.behind_positions(index + 1)
        } else {
            let gone = gone + fit;
            Part::Positions { index, gone }
        });
        whole
    }

    /// Adds whatever else messages are made of, or says that there is no room.
    #[inline(never)]
    fn put_words(&mut self) -> bool {
        let State::Gathered(part) = self.server.state else {
            return false;
        };
        let (server, request) = (&mut *self.server, &self.request);
        let natoms = i32::try_from(request.natoms()).unwrap_or(i32::MAX);
        let mut message = Gather::behind(&mut server.scratch, server.end);
        let (fits, next) = match part {
            Part::Init => {
                let len = request.text_len(server.mode);
                let len = i32::try_from(len).unwrap_or(i32::MAX);
                let fits = message.push(Header::Init.bytes())
                    && message.push(&request.replica.to_le_bytes())
                    && message.push(&len.to_le_bytes());
                (fits, Part::Text { gone: 0 })
            }
            Part::Text { gone } => match request.text().get(gone..).unwrap_or_default() {
                [] => (true, Part::BatchSize),
                rest => {
                    let fit = message.push_text(rest);
                    (fit > 0, Part::Text { gone: gone + fit })
                }
            },
            Part::BatchSize => (
                request.put_batch_size(server.mode, &mut message),
                Part::Status,
            ),
            Part::PosData => {
                let mut fits = message.push(Header::PosData.bytes());
                if server.carried > 1 {
                    fits = fits && message.push(&natoms.to_le_bytes());
                }
                (fits, Part::Cell(0))
            }
            Part::Cell(_) => {
                let fits = server.carried > 1 || message.push(&natoms.to_le_bytes());
                (fits, Part::Positions { index: 0, gone: 0 })
            }
            Part::GetForce => (
                message.push(Header::GetForce.bytes()),
                match server.mode {
                    Mode::Strict => Part::End,
                    _ => Part::Status,
                },
            ),
            Part::Status => (message.push(Header::Status.bytes()), Part::End),
            Part::Exit => (message.push(Header::Exit.bytes()), Part::End),
            Part::Positions { .. } | Part::End => (false, part),
        };
        if fits {
            server.end = message.len();
            server.state = State::Gathered(next);
        }
        fits
    }

    /// The memory of positions that leave without being copied.
    fn direct(&self, index: usize) -> &'a [u8] {
        T::as_wire(self.request.reals(index, 0)).unwrap_or_default()
    }

    /// Counts bytes that have moved; whether that was all that could.
    #[inline(never)]
    fn moved(&mut self, n: usize) -> bool {
        let server = &mut *self.server;
        let begins = server.is_sending() && server.message == 0 && n > 0;
        if begins && server.then.1 == Some(Goal::Send) {
            server.natoms = Some(self.request.natoms());
            server.structures = self.request.cells.len();
        }
        server.moved(n)
    }

    /// All of a slice has moved.
    #[inline(never)]
    fn go_on(&mut self) {
        match self.server.state {
            State::Gathered(part) => self.server.gather(part),
            State::Direct(index) => {
                let part = self.server.behind_positions(index + 1);
                self.server.gather(part);
            }
            State::Reading(field) => self.complete(field),
            State::Forces => self.expect_virials(),
            State::Extras(index) => {
                self.server.kept += self.server.end;
                let left = self.server.left;
                self.server.surplus(index, left);
            }
            State::Leaving => self.server.at = 0,
            State::Idle | State::Closed | State::Failed(_) => {}
        }
    }

    /// A field has come into the scratch.
    fn complete(&mut self, field: Field) {
        let server = &mut *self.server;
        let mut bytes = server.scratch.get(..server.end).unwrap_or_default();
        match field {
            Field::Header => server.heard(),
            Field::Energy(index) => {
                let energy = layout::take_f64(&mut bytes);
                let announced = layout::take_i32(&mut bytes);
                let copy = index >= server.structures;
                if !copy && !server.accepts(Quantity::Energy, energy.is_finite()) {
                    return;
                }
                if let Some(answer) = self.answer(index) {
                    answer.energy = energy;
                }
                let server = &mut *self.server;
                let expected = server.natoms();
                if index + 1 < server.carried {
                    server.energy(index + 1);
                } else if usize::try_from(announced) == Ok(expected) {
                    server.kept = 0;
                    self.expect_forces();
                } else {
                    server.fail(ProtocolError::WrongAtoms {
                        announced,
                        expected,
                    });
                }
            }
            Field::Reals(first) => {
                let forces = self.forces.as_flattened_mut();
                from_wire(bytes, forces.get_mut(first..).unwrap_or_default());
                let next = first + bytes.len() / REAL;
                self.expect_reals(next);
            }
            Field::Copies(left) => {
                let left = left.saturating_sub(bytes.len());
                server.copies(left);
            }
            Field::Virial(index) => {
                let mut behind = bytes.get(MATRIX..).unwrap_or_default();
                let announced = layout::take_i32(&mut behind);
                let answer = self.answer(index);
                let finite = answer.is_none_or(|answer| answer.virial.is_finite());
                if !self.server.accepts(Quantity::Virial, finite) {
                    return;
                }
                if index + 1 < self.server.carried {
                    self.server.virial(index + 1);
                } else {
                    self.expect_extras(0, announced);
                }
            }
            Field::Length(index) => {
                let announced = layout::take_i32(&mut bytes);
                self.expect_extras(index, announced);
            }
            Field::Surplus(index, left) => {
                let left = left.saturating_sub(bytes.len());
                server.surplus(index, left);
            }
        }
    }

    /// Takes a virial that has come into the scratch to its place, if it has one, and is to be made symmetric there.
    #[inline(never)]
    fn take_virial(&mut self) -> Option<&mut Virial> {
        let State::Reading(Field::Virial(index)) = self.server.state else {
            return None;
        };
        let server = &mut *self.server;
        let answer = place(&mut server.answer, self.answers, index)?;
        layout::take_matrix(&mut server.scratch.as_slice(), &mut answer.virial.0);
        Some(&mut answer.virial)
    }

    /// The answer for this structure, unless that is a copy.
    fn answer(&mut self, index: usize) -> Option<&mut Answer> {
        place(&mut self.server.answer, self.answers, index)
    }

    fn expect_forces(&mut self) {
        let len = self.server.total().saturating_mul(ATOM);
        if len > 0 && T::as_wire_mut(&mut []).is_some() {
            self.server.state = State::Forces;
            self.server.at = 0;
            self.server.end = len;
        } else {
            self.expect_reals(0);
        }
    }

    /// Goes on with forces from this number on, or ends when there are none.
    fn expect_reals(&mut self, first: usize) {
        match self.server.total().saturating_mul(3).saturating_sub(first) {
            0 => self.expect_virials(),
            left => {
                let left = left.saturating_mul(REAL);
                self.server.expect(Field::Reals(first), left);
            }
        }
    }

    /// All forces are here.
    fn expect_virials(&mut self) {
        let server = &mut *self.server;
        let finite = server.not_finite || T::all_finite(self.forces.as_flattened());
        if server.accepts(Quantity::Forces, finite) {
            let copies = server.carried.saturating_sub(server.structures);
            server.copies(copies.saturating_mul(server.natoms()).saturating_mul(ATOM));
        }
    }

    /// Goes on with the extras of this structure.
    fn expect_extras(&mut self, index: usize, announced: i32) {
        let Ok(len) = usize::try_from(announced) else {
            return self.server.fail(ProtocolError::NegativeLength(announced));
        };
        let at = self.server.kept;
        let room = self.extras.len().saturating_sub(at);
        let kept = if index < self.server.structures {
            len.min(room)
        } else {
            0
        };
        if let Some(answer) = self.answer(index) {
            answer.extras_at = at;
            answer.extras_kept = kept;
            answer.extras_sent = len;
        }
        let server = &mut *self.server;
        if let (0, Some(first)) = (index, self.answers.first_mut()) {
            *first = server.answer;
        }
        server.left = len - kept;
        if kept > 0 {
            server.state = State::Extras(index);
            server.at = 0;
            server.end = kept;
        } else {
            server.surplus(index, len);
        }
    }

    /// Room for the extras that are coming.
    fn extras(&mut self) -> &mut [u8] {
        let behind = self.extras.get_mut(self.server.kept..).unwrap_or_default();
        behind.get_mut(..self.server.end).unwrap_or_default()
    }
}

/// Where the answer for this structure is: the first one is the machine's, and copied to the caller's at its end.
fn place<'s>(
    first: &'s mut Answer,
    answers: &'s mut [Answer],
    index: usize,
) -> Option<&'s mut Answer> {
    match index {
        0 => Some(first),
        _ => answers.get_mut(index),
    }
}

/// Whether a driver can be sent this cell, of which it is known whether it could be inverted.
#[inline(never)]
fn check_cell(cell: &Cell, inverted: bool) -> Result<(), ProtocolError> {
    if !cell.is_finite() {
        Err(ProtocolError::NotFinite(Quantity::Cell))
    } else if !cell.is_upper_triangular() {
        Err(ProtocolError::NotUpperTriangular)
    } else if !inverted {
        Err(ProtocolError::SingularCell)
    } else {
        Ok(())
    }
}

fn check_length(quantity: Quantity, given: usize, expected: usize) -> Result<(), ProtocolError> {
    if given == expected {
        Ok(())
    } else {
        Err(ProtocolError::WrongLength {
            quantity,
            given,
            expected,
        })
    }
}

/// What stands before their number where batches are announced.
const BATCH_SIZE: &[u8] = b" batch_size:";

/// How many digits a number has.
fn digits(mut n: usize) -> usize {
    let mut digits = 1;
    while n >= 10 {
        n /= 10;
        digits += 1;
    }
    digits
}

/// Atoms of a structure that can be announced.
const MOST_ATOMS: usize = i32::MAX as usize;

/// Moves atoms, given as they are sent, into a cell, given with its inverse.
type Fold = fn(&Cell, &[[f64; 3]; 3], &mut [u8]);

/// By whole vectors. c first, then b, then a, because h has nothing below its diagonal: what is behind is not moved any
/// more, and one number at a time is enough.
#[inline(never)]
fn folded(cell: &Cell, inverse: &[[f64; 3]; 3], atoms: &mut [u8]) {
    for atom in atoms.as_chunks_mut::<ATOM>().0 {
        let (reals, _) = atom.as_chunks_mut::<REAL>();
        for (k, row) in inverse.iter().enumerate().rev() {
            let mut boxes = 0.0;
            for (x, real) in row.iter().zip(reals.iter()).skip(k) {
                boxes += x * f64::from_le_bytes(*real);
            }
            boxes = libm::floor(boxes);
            for (vectors, real) in cell.h().iter().zip(reals.iter_mut()).take(k + 1) {
                let moved = f64::from_le_bytes(*real) - vectors.get(k).unwrap_or(&0.0) * boxes;
                *real = moved.to_le_bytes();
            }
        }
    }
}

impl<T: Scalar, O> Exchange for ServerExchange<'_, T, O> {
    type Output = O;

    fn step(&mut self) -> Result<Step<'_, O>, ProtocolError> {
        // Whatever computes is called from here with next to nothing on the stack: where floating point is software,
        // it takes most of what a call may.
        if self.course.enter() && self.course.check_cells() && self.course.begin() {
            self.course.fill();
        }
        self.look()
    }

    fn advance(&mut self, n: usize) {
        if self.course.done || !self.course.moved(n) {
            return;
        }
        // From here, as in `step`.
        if let Some(virial) = self.course.take_virial() {
            virial.symmetrize();
        }
        self.course.go_on();
    }

    fn end(&mut self) {
        self.course.server.ended();
    }

    fn midway(&self) -> bool {
        self.course.server.message > 0
    }

    #[inline(always)]
    fn waits_for(&self) -> Wait {
        let wait = self.course.server.waits_for();
        // One before it has looked at a message and sent nothing of it.
        let looked = !self.course.took_over && wait.awaited == Awaited::Taken && wait.moved == 0;
        if self.course.done || looked {
            wait.nothing()
        } else {
            wait
        }
    }
}
