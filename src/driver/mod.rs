//! The machine that computes: answers a server's questions, takes positions and hands back forces.
//!
//! ```text
//!            STATUS -> NEEDINIT              STATUS -> READY                     STATUS -> HAVEDATA
//!               +----+                          +----+                              +----+
//!               v    |         INIT             v    |         POSDATA              v    |
//! connect --> [ Uninit ] -----------------> [ Ready ] -----------------------> [ HaveData ]
//!    |           ^                           ^    ^                                 |
//!    |           | INIT every step           |    |        GETFORCE -> FORCEREADY   |
//!    |           +---------------------------|----+---------------------------------+
//!    +----- INIT never ----------------------+
//!
//! any state: INIT is taken, EXIT or an end of stream between messages is the end
//! ```
//!
//! [`Driver::receive`] moves through the two states on the left and ends with what happened;
//! [`Driver::reply`] starts and ends on the right. Both answer STATUS on the way. A server that sends
//! POSDATA and GETFORCE in one go (i-PI's consolidated messages) and one that asks in between (classic)
//! take the same path.
//!
//! After a batch was announced, POSDATA and FORCEREADY carry several structures, in another order
//! (i-PI 3.3.1 `ipi/interfaces/sockets.py`, `dispatch_send_batch`). A reply of one structure is the same
//! bytes as a batch of one.

mod drain;
mod storage;

use core::fmt;

pub use drain::Drain;
pub use storage::Storage;

use crate::exchange::progress::{Gather, SCRATCH};
use crate::fmt::{debug, trace};
use crate::protocol::detect;
use crate::protocol::header::HEADER;
use crate::protocol::init_text::BatchSize;
use crate::protocol::layout::{self, ATOM, CELL, FRAME, INIT, INTEGER, MATRIX, REAL};
use crate::protocol::scalar::from_wire;
use crate::{
    Awaited, Cell, Evaluation, Exchange, Header, Parameters, ProtocolError, Quantity, Scalar, Step,
    Traffic, Wait,
};

/// When a driver asks its server for INIT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Initialize {
    /// Never: answer READY from the start. Every server knows this (i-PI's Fortran driver, LAMMPS, ASE).
    #[default]
    Never,
    /// Once a connection, as i-PI's Python driver does. Needed to hear of batches; CP2K's and ASE's servers
    /// know it, those of IPICalculator.jl, eOn and pysisyphus don't.
    Once,
    /// Before every structure, as Quantum ESPRESSO does: each comes with the number of its replica.
    EveryStep,
}

/// What a driver was told.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Event {
    /// The server has sent INIT; its text is at [`Driver::init_text`].
    Init {
        /// The replica (bead) that comes next. May be negative.
        replica: i32,
    },
    /// Positions are in the caller's array: compute, then [`reply`](Driver::reply).
    Positions {
        /// Atoms of each structure.
        natoms: usize,
        /// Structures that came: 1, or those of a batch. Structure `i` begins at atom `i * natoms`.
        structures: usize,
        /// The cell, of the first structure in a batch.
        cell: Cell,
    },
    /// The server sent EXIT: it needs no more forces.
    Exit,
    /// The server closed the connection between two messages. ASE's ends so, i-PI only drops a driver so:
    /// connecting again may be worth it.
    Closed,
}

/// The driver's side of one connection.
///
/// Holds the state of the conversation and about 1 KiB of scratch, and no array: positions and forces are
/// the caller's. See the [crate's page](crate) for a whole program.
pub struct Driver {
    initialize: Initialize,
    changing_atoms: bool,
    not_finite: bool,

    state: State,
    phase: Phase,
    /// Bytes of the current field that have moved, and how many there are.
    at: usize,
    end: usize,
    /// The message that is moving, and the bytes of it that have moved.
    within: Option<Header>,
    message: usize,
    /// The server has sent a header.
    greeted: bool,

    init: Init,
    natoms: Option<usize>,
    structures: usize,
    cell: Cell,
    /// The reply's numbers were looked at and are fit to be sent.
    checked: bool,
    /// The last thing that was done is a reply: making it again finds it done.
    replied: bool,

    traffic: Traffic,
    scratch: [u8; SCRATCH],
}

/// Where in a message the machine is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// A field is coming into the scratch.
    Reading(Field),
    /// Positions are coming straight into the caller's array.
    Positions,
    /// An answer to STATUS is leaving from the scratch.
    Answering,
    /// GETFORCE has come; FORCEREADY has not begun.
    Asked,
    /// Pieces of FORCEREADY are leaving from the scratch; behind them comes this part.
    Gathered(Part),
    /// This part of FORCEREADY is leaving straight from the caller's array.
    Direct(Part),
    /// The conversation is over: with EXIT or without.
    Exited,
    Closed,
    Failed(ProtocolError),
}

/// What the driver would answer to STATUS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Uninit,
    Ready,
    HaveData,
}

/// A field that comes into the scratch.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Field {
    Header,
    /// INIT: replica and length.
    Init,
    /// INIT: text, of which this many bytes have been taken.
    Text(usize),
    /// POSDATA of one structure: cell, inverse cell, number of atoms.
    Frame,
    /// POSDATA of a batch: number of atoms.
    Count,
    /// POSDATA of a batch: cell and inverse cell of this structure.
    Cell(usize),
    /// Positions that have to be converted, from this number on.
    Reals(usize),
}

/// A part of FORCEREADY, in the order in which they leave; an index counts structures, for forces reals.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Header,
    Energy(usize),
    Forces(usize),
    Virial(usize),
    Length(usize),
    Extras(usize),
    End,
}

/// What INIT said.
struct Init {
    replica: Option<i32>,
    text: heapless::Vec<u8, INIT_TEXT>,
    len: usize,
    batch_size: BatchSize,
    /// The caller has not been told yet.
    news: bool,
}

/// Bytes of INIT's text that are kept. i-PI's own text is shorter unless the input has many parameters.
const INIT_TEXT: usize = 256;

impl Init {
    const fn new() -> Self {
        Self {
            replica: None,
            text: heapless::Vec::new(),
            len: 0,
            batch_size: BatchSize::new(),
            news: false,
        }
    }
}

impl Driver {
    /// A driver that is about to be connected and never asks for INIT.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            initialize: Initialize::Never,
            changing_atoms: false,
            not_finite: false,
            state: State::Reading(Field::Header),
            phase: Phase::Ready,
            at: 0,
            end: HEADER,
            within: None,
            message: 0,
            greeted: false,
            init: Init::new(),
            natoms: None,
            structures: 1,
            cell: Cell::orthorhombic([0.0; 3]),
            checked: false,
            replied: false,
            traffic: Traffic {
                received: 0,
                sent: 0,
            },
            scratch: [0; SCRATCH],
        }
    }

    /// Asks the server for INIT: never, once a connection, or for every structure.
    #[must_use]
    pub const fn initialize(mut self, when: Initialize) -> Self {
        self.initialize = when;
        self.phase = self.idle();
        self
    }

    /// Lets the number of atoms change from one structure to the next. It is refused otherwise: no real
    /// server changes it within a connection.
    #[must_use]
    pub const fn allow_changing_atoms(mut self) -> Self {
        self.changing_atoms = true;
        self
    }

    /// Lets infinite numbers and NaN through, in both directions. They are refused otherwise: i-PI takes a
    /// NaN into its trajectory without a word.
    #[must_use]
    pub const fn allow_not_finite(mut self) -> Self {
        self.not_finite = true;
        self
    }

    /// Makes the driver new for the next connection, after an end or an error. What it was told to be
    /// ([`initialize`](Self::initialize) and the like) and the [`traffic`](Self::traffic) stay.
    pub fn reset(&mut self) {
        self.init = Init::new();
        self.phase = self.idle();
        self.natoms = None;
        self.structures = 1;
        self.checked = false;
        self.replied = false;
        self.greeted = false;
        self.expect_message();
    }

    /// Answers the server until it has something to tell; a structure's positions go into `positions`,
    /// bohr, from its beginning.
    ///
    /// Ask again after an [`Event::Init`]; after [`Event::Positions`] it is time to
    /// [`reply`](Self::reply). The array stays the caller's and may be longer than the system.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::TooManyAtoms`] leaves the driver as it was, so that the caller may come back with
    /// a longer array. Everything else is final for the connection.
    ///
    /// # Cancel safety
    ///
    /// The transfer may be dropped at any point; make it again with the same array to go on.
    pub const fn receive<'a, T: Scalar>(
        &'a mut self,
        positions: &'a mut [[T; 3]],
    ) -> Receive<'a, T> {
        self.receive_batch(&mut [], positions)
    }

    /// Like [`receive`](Self::receive), from a server that may send several structures at once (i-PI's
    /// `batch_size`): their cells go into `cells`, their positions one after the other into `positions`.
    ///
    /// Servers only batch for a driver that asks for INIT. A server that doesn't batch fills one cell.
    pub const fn receive_batch<'a, T: Scalar>(
        &'a mut self,
        cells: &'a mut [Cell],
        positions: &'a mut [[T; 3]],
    ) -> Receive<'a, T> {
        Receive {
            driver: self,
            cells,
            positions,
            told: false,
        }
    }

    /// Replies to the structure that was received: waits to be asked, answering STATUS with HAVEDATA, then
    /// sends energy, forces (hartree/bohr, one triple an atom), virial and `extras`.
    ///
    /// Extras may be empty; if not, i-PI wants a JSON object in UTF-8 without the key `raw` and hangs on
    /// anything else. [`Extras`](crate::Extras) builds one. Nothing is sent before all of it is here.
    ///
    /// If the server leaves instead of asking, the transfer is done too, and the next
    /// [`receive`](Self::receive) says which way it left.
    ///
    /// # Errors
    ///
    /// Before a byte has moved, and with the driver as it was: [`ProtocolError::WrongLength`],
    /// [`NothingToReplyTo`](ProtocolError::NothingToReplyTo), [`NotFinite`](ProtocolError::NotFinite),
    /// [`TextTooLong`](ProtocolError::TextTooLong).
    ///
    /// # Cancel safety
    ///
    /// The transfer may be dropped at any point; make it again with the same arguments to go on.
    pub const fn reply<'a, T: Scalar>(
        &'a mut self,
        evaluation: &'a Evaluation,
        forces: &'a [[T; 3]],
        extras: &'a [u8],
    ) -> Reply<'a, T> {
        let evaluations = core::slice::from_ref(evaluation);
        Reply {
            driver: self,
            evaluations,
            forces,
            extras: ExtrasOf::All(extras),
        }
    }

    /// Like [`reply`](Self::reply), to all structures of a batch: an evaluation each, their forces one
    /// after the other, and either extras for each or none at all (an empty slice).
    pub const fn reply_batch<'a, T: Scalar>(
        &'a mut self,
        evaluations: &'a [Evaluation],
        forces: &'a [[T; 3]],
        extras: &'a [&'a [u8]],
    ) -> Reply<'a, T> {
        Reply {
            driver: self,
            evaluations,
            forces,
            extras: ExtrasOf::Each(extras),
        }
    }

    /// Listens to the server while forces are being computed: answers STATUS, and is done when the server asks for
    /// them (`None`) or has gone ([`Event::Exit`], [`Event::Closed`]), so that a long computation for no one can be
    /// stopped. [`reply`](Self::reply) does the same where no one listens in between.
    ///
    /// A transport that never waits fits: `smoltcp::poll`, or a host's `net::Stream::poll`, now
    /// and then.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::NothingToReplyTo`], with the driver as it was, and those of what the server sends.
    ///
    /// # Cancel safety
    ///
    /// The transfer may be dropped at any point; make it again, or reply, to go on.
    pub const fn await_getforce(&mut self) -> AwaitGetForce<'_> {
        AwaitGetForce { driver: self }
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
        self.init.replica
    }

    /// The text of the last INIT, the first 256 bytes of it. A batch is understood however long the text.
    #[must_use]
    pub fn init_text(&self) -> &[u8] {
        &self.init.text
    }

    /// The parameters in [`init_text`](Self::init_text), as far as it is UTF-8 and without one that was cut.
    #[must_use]
    pub fn parameters(&self) -> Parameters<'_> {
        let mut text = self.init.text.as_slice();
        if self.init.len > text.len() {
            let whole = text.iter().rposition(|&byte| byte == b',').unwrap_or(0);
            text = text.get(..whole).unwrap_or_default();
        }
        let valid = match core::str::from_utf8(text) {
            Ok(text) => text,
            Err(error) => {
                let valid = text.get(..error.valid_up_to()).unwrap_or_default();
                core::str::from_utf8(valid).unwrap_or_default()
            }
        };
        Parameters::new(valid)
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
        self.traffic
    }

    /// The phase of a driver that has nothing to do.
    const fn idle(&self) -> Phase {
        match self.initialize {
            Initialize::Never => Phase::Ready,
            Initialize::Once | Initialize::EveryStep => Phase::Uninit,
        }
    }

    fn expect_message(&mut self) {
        self.within = None;
        self.message = 0;
        self.expect(Field::Header, HEADER);
    }

    fn expect(&mut self, field: Field, len: usize) {
        self.state = State::Reading(field);
        self.at = 0;
        self.end = len.min(SCRATCH);
    }

    fn fail(&mut self, error: ProtocolError) {
        debug!("{}", error);
        self.state = State::Failed(error);
        self.at = 0; // of what is drained
    }

    /// Atoms of all structures of an exchange.
    const fn total(&self) -> usize {
        self.natoms().saturating_mul(self.structures)
    }

    /// The slice that comes next while everything is in the scratch. Never empty: fields of no bytes are
    /// never expected.
    fn step<T>(&mut self) -> Step<'_, T> {
        let rest = self.scratch.get_mut(self.at..self.end).unwrap_or_default();
        if let State::Reading(_) = self.state {
            Step::Read(rest)
        } else {
            Step::Write(rest)
        }
    }

    /// Counts bytes that have moved; whether that was all of the field.
    fn moved(&mut self, n: usize) -> bool {
        let n = n.min(self.end - self.at);
        self.at += n;
        self.message = self.message.saturating_add(n);
        match self.state {
            State::Reading(_) | State::Positions => self.traffic.received += n as u64,
            _ => self.traffic.sent += n as u64,
        }
        self.at == self.end
    }

    fn ended(&mut self) {
        match self.state {
            State::Exited | State::Closed | State::Failed(_) => {}
            _ if self.message == 0 => self.state = State::Closed,
            _ => self.fail(ProtocolError::EndOfStream {
                within: self.within,
                after: self.message,
            }),
        }
    }

    const fn midway(&self) -> bool {
        self.message > 0
    }

    /// What is waited for by an exchange that waits for `next` between two messages. Inlined here and below: a call would stay in
    /// the flash of those who never ask.
    #[inline(always)]
    const fn waits_for(&self, next: Awaited) -> Wait {
        let (awaited, within) = match self.state {
            State::Reading(Field::Header) if self.at == 0 => (next, None),
            State::Reading(_) | State::Positions => (Awaited::Rest, self.within),
            State::Answering => (Awaited::Taken, Some(self.status())),
            State::Gathered(_) | State::Direct(_) => (Awaited::Taken, Some(Header::ForceReady)),
            State::Asked | State::Exited | State::Closed | State::Failed(_) => {
                (Awaited::Nothing, None)
            }
        };
        let traffic = self.traffic.received + self.traffic.sent;
        Wait {
            awaited,
            within,
            moved: self.message,
            announced: match awaited {
                Awaited::Rest => Some(self.announced()),
                _ => None,
            },
            greeted: self.greeted,
            evaluating: false,
            mark: traffic.saturating_sub(self.message as u64),
        }
    }

    /// Bytes of the message that is coming, as far as is known.
    const fn announced(&self) -> usize {
        let before = self.message.saturating_sub(self.at);
        before.saturating_add(match self.state {
            State::Reading(Field::Text(taken)) => self.init.len.saturating_sub(taken),
            State::Reading(Field::Cell(index)) => {
                let cells = self.structures.saturating_sub(index).saturating_mul(CELL);
                cells.saturating_add(self.total().saturating_mul(ATOM))
            }
            State::Reading(Field::Reals(first)) => {
                let left = self.total().saturating_mul(3).saturating_sub(first);
                left.saturating_mul(REAL)
            }
            _ => self.end,
        })
    }

    /// A field that both exchanges know has come.
    fn complete(&mut self, field: Field) {
        let mut bytes = self.scratch.get(..self.end).unwrap_or_default();
        match field {
            Field::Header => self.heard(),
            Field::Init => {
                let replica = layout::take_i32(&mut bytes);
                let announced = layout::take_i32(&mut bytes);
                let Ok(len) = usize::try_from(announced) else {
                    return self.fail(ProtocolError::NegativeLength(announced));
                };
                self.init = Init {
                    replica: Some(replica),
                    len,
                    ..Init::new()
                };
                self.text(0);
            }
            Field::Text(taken) => {
                self.init.batch_size.feed(bytes);
                let room = self.init.text.capacity() - self.init.text.len();
                let kept = bytes.get(..room).unwrap_or(bytes);
                let _ = self.init.text.extend_from_slice(kept);
                self.text(taken.saturating_add(self.end));
            }
            Field::Frame | Field::Count | Field::Cell(_) | Field::Reals(_) => {}
        }
    }

    /// A header has come.
    fn heard(&mut self) {
        let bytes = *self.scratch.first_chunk().unwrap_or(&[0; HEADER]);
        let Some(header) = Header::parse(&bytes) else {
            return self.fail(ProtocolError::UnknownHeader(bytes));
        };
        trace!("server: {}", header.name());
        self.within = Some(header);
        self.greeted = true;
        self.replied = false;
        match (header, self.phase) {
            (Header::Status, _) => {
                self.state = State::Answering;
                self.message = 0;
                self.at = 0;
                let mut answer = Gather::new(&mut self.scratch);
                let _ = answer.push(match self.phase {
                    Phase::Uninit => Header::NeedInit.bytes(),
                    Phase::Ready => Header::Ready.bytes(),
                    Phase::HaveData => Header::HaveData.bytes(),
                });
                self.end = answer.len();
            }
            (Header::Init, _) => self.expect(Field::Init, INIT),
            (Header::PosData, Phase::Ready) => match self.init.batch_size.announced() {
                None => self.expect(Field::Frame, FRAME),
                Some(_) => self.expect(Field::Count, INTEGER),
            },
            (Header::GetForce, Phase::HaveData) => {
                self.within = Some(Header::ForceReady);
                self.message = 0;
                self.state = State::Asked;
            }
            (Header::Exit, _) => self.state = State::Exited,
            _ => self.fail(ProtocolError::OutOfTurn {
                command: header,
                status: self.status(),
            }),
        }
    }

    /// Goes on with INIT's text, of which this much has been taken.
    fn text(&mut self, taken: usize) {
        match self.init.len - taken {
            0 => {
                self.init.news = true;
                if self.phase == Phase::Uninit {
                    self.phase = Phase::Ready;
                }
                self.expect_message();
            }
            left => self.expect(Field::Text(taken), left),
        }
    }

    /// Takes the number of atoms of this message.
    fn atoms(&mut self, announced: i32) -> Result<(), ProtocolError> {
        let Ok(natoms) = usize::try_from(announced) else {
            return Err(ProtocolError::NegativeAtoms(announced));
        };
        match self.natoms {
            Some(expected) if expected != natoms && !self.changing_atoms => {
                Err(ProtocolError::AtomsChanged {
                    announced: natoms,
                    expected,
                })
            }
            _ => {
                self.natoms = Some(natoms);
                Ok(())
            }
        }
    }

    /// Whether positions may begin with these bytes: the first atoms tell in which order their bytes came.
    fn check_order(&self, sent: &[u8]) -> Result<(), ProtocolError> {
        const { assert!(16 * ATOM <= SCRATCH) };
        let sent = sent.get(..16 * ATOM).unwrap_or(sent);
        if detect::is_big_endian(sent) && !self.not_finite {
            return Err(ProtocolError::BigEndian(Quantity::Positions));
        }
        Ok(())
    }

    /// Whether a structure may have this cell, of which these bytes came.
    fn check_cell(&self, sent: &[u8], cell: &Cell) -> Result<(), ProtocolError> {
        if self.not_finite {
            Ok(())
        } else if detect::is_big_endian(sent.get(..MATRIX).unwrap_or_default()) {
            Err(ProtocolError::BigEndian(Quantity::Cell))
        } else if cell.is_finite() {
            Ok(())
        } else {
            Err(ProtocolError::NotFinite(Quantity::Cell))
        }
    }
}

impl Default for Driver {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("initialize", &self.initialize)
            .field("status", &self.status())
            .field("state", &self.state)
            .field("natoms", &self.natoms)
            .field("structures", &self.structures)
            .field("traffic", &self.traffic)
            .finish_non_exhaustive()
    }
}

/// The exchange that ends with an [`Event`]; made by [`Driver::receive`].
#[derive(Debug)]
#[must_use = "a transfer does nothing by itself: run it over a transport"]
pub struct Receive<'a, T> {
    driver: &'a mut Driver,
    cells: &'a mut [Cell],
    positions: &'a mut [[T; 3]],
    /// This exchange has ended with an INIT.
    told: bool,
}

impl<T: Scalar> Receive<'_, T> {
    /// A field has come into the scratch.
    fn complete(&mut self, field: Field) -> Result<(), ProtocolError> {
        let driver = &mut *self.driver;
        let mut bytes = driver.scratch.get(..driver.end).unwrap_or_default();
        match field {
            Field::Frame => {
                let sent = bytes;
                let batch = detect::is_batch(bytes);
                layout::take_cell(&mut bytes, &mut driver.cell);
                let announced = layout::take_i32(&mut bytes);
                if batch {
                    return Err(ProtocolError::UnannouncedBatch);
                }
                driver.check_cell(sent, &driver.cell)?;
                driver.structures = 1;
                driver.atoms(announced)?;
                self.expect_positions();
            }
            Field::Count => {
                let announced = layout::take_i32(&mut bytes);
                driver.structures = driver.init.batch_size.announced().unwrap_or(1);
                driver.atoms(announced)?;
                driver.expect(Field::Cell(0), CELL);
            }
            Field::Cell(index) => {
                // A missing slot has been refused: see `room`.
                if let Some(cell) = self.cells.get_mut(index) {
                    if index == 0 {
                        layout::take_cell(&mut { bytes }, &mut driver.cell);
                    }
                    layout::take_cell(&mut { bytes }, cell);
                    driver.check_cell(bytes, cell)?;
                }
                if index + 1 < driver.structures {
                    driver.expect(Field::Cell(index + 1), CELL);
                } else {
                    self.expect_positions();
                }
            }
            Field::Reals(first) => {
                if first == 0 {
                    driver.check_order(bytes)?;
                }
                let values = self.positions.as_flattened_mut();
                from_wire(bytes, values.get_mut(first..).unwrap_or_default());
                let next = first + bytes.len() / REAL;
                self.expect_reals(next)?;
            }
            Field::Header | Field::Init | Field::Text(_) => driver.complete(field),
        }
        Ok(())
    }

    fn expect_positions(&mut self) {
        let driver = &mut *self.driver;
        let len = driver.total().saturating_mul(ATOM);
        if len == 0 {
            // Numbers that no one has seen yet can't be wrong.
            let _ = self.received();
        } else if Self::is_wire() {
            driver.state = State::Positions;
            driver.at = 0;
            driver.end = len;
        } else {
            driver.expect(Field::Reals(0), len);
        }
    }

    /// Whether positions can come straight into the caller's array.
    fn is_wire() -> bool {
        T::as_wire_mut(&mut []).is_some()
    }

    /// Goes on with positions from this number on, or ends when there are none.
    fn expect_reals(&mut self, first: usize) -> Result<(), ProtocolError> {
        match self.driver.total().saturating_mul(3).saturating_sub(first) {
            0 => self.received(),
            left => {
                self.driver
                    .expect(Field::Reals(first), left.saturating_mul(REAL));
                Ok(())
            }
        }
    }

    /// All positions are here.
    fn received(&mut self) -> Result<(), ProtocolError> {
        let driver = &mut *self.driver;
        let total = driver.total();
        let positions = self.positions.get_mut(..total).unwrap_or_default();
        if let Some(bytes) = T::as_wire_mut(positions.as_flattened_mut()) {
            driver.check_order(bytes)?;
        }
        if !driver.not_finite && !T::all_finite(positions.as_flattened()) {
            return Err(ProtocolError::NotFinite(Quantity::Positions));
        }
        driver.phase = Phase::HaveData;
        driver.checked = false;
        driver.expect_message();
        Ok(())
    }

    /// Whether the caller's arrays hold what was announced.
    fn room(&mut self) -> Result<(), ProtocolError> {
        let (atoms, structures) = (self.driver.total(), self.driver.structures);
        match self.driver.state {
            State::Reading(Field::Cell(_)) if self.cells.len() < structures => {
                let capacity = self.cells.len();
                Err(ProtocolError::TooManyStructures {
                    announced: structures,
                    capacity,
                })
            }
            State::Positions | State::Reading(Field::Cell(_) | Field::Reals(_))
                if self.positions.len() < atoms =>
            {
                Err(ProtocolError::TooManyAtoms {
                    announced: atoms,
                    capacity: self.positions.len(),
                })
            }
            // A caller who had too little room has come back with another kind of number.
            State::Positions if !Self::is_wire() && self.driver.at == 0 => {
                self.driver
                    .expect(Field::Reals(0), atoms.saturating_mul(ATOM));
                Ok(())
            }
            State::Positions if !Self::is_wire() => Err(ProtocolError::WrongLength {
                quantity: Quantity::Positions,
                given: 0,
                expected: atoms,
            }),
            _ => Ok(()),
        }
    }
}

impl<T: Scalar> Exchange for Receive<'_, T> {
    type Output = Event;

    fn step(&mut self) -> Result<Step<'_, Event>, ProtocolError> {
        self.room()?;
        let driver = &mut *self.driver;
        if self.told || driver.init.news {
            self.told = true;
            driver.init.news = false;
            return Ok(Step::Done(Event::Init {
                replica: driver.init.replica.unwrap_or(0),
            }));
        }
        match driver.state {
            State::Failed(error) => Err(error),
            State::Exited => Ok(Step::Done(Event::Exit)),
            State::Closed => Ok(Step::Done(Event::Closed)),
            _ if driver.phase == Phase::HaveData => {
                if driver.structures == 1
                    && let Some(first) = self.cells.first_mut()
                {
                    *first = driver.cell;
                }
                Ok(Step::Done(Event::Positions {
                    natoms: driver.natoms(),
                    structures: driver.structures,
                    cell: driver.cell,
                }))
            }
            State::Positions => {
                let bytes = T::as_wire_mut(self.positions.as_flattened_mut()).unwrap_or_default();
                Ok(Step::Read(
                    bytes.get_mut(driver.at..driver.end).unwrap_or_default(),
                ))
            }
            _ => Ok(driver.step()),
        }
    }

    fn advance(&mut self, n: usize) {
        if self.told || self.driver.phase == Phase::HaveData || !self.driver.moved(n) {
            return;
        }
        let result = match self.driver.state {
            State::Reading(field) => self.complete(field),
            State::Positions => self.received(),
            State::Answering => {
                self.driver.expect_message();
                Ok(())
            }
            _ => Ok(()),
        };
        if let Err(error) = result {
            self.driver.fail(error);
        }
    }

    fn end(&mut self) {
        self.driver.ended();
    }

    fn midway(&self) -> bool {
        self.driver.midway()
    }

    #[inline(always)]
    fn waits_for(&self) -> Wait {
        let driver = &*self.driver;
        let told = self.told || driver.init.news || driver.phase == Phase::HaveData;
        let wait = driver.waits_for(Awaited::Command);
        if told { wait.nothing() } else { wait }
    }
}

/// The exchange that listens while forces are computed; made by [`Driver::await_getforce`].
#[derive(Debug)]
#[must_use = "a transfer does nothing by itself: run it over a transport"]
pub struct AwaitGetForce<'a> {
    driver: &'a mut Driver,
}

impl Exchange for AwaitGetForce<'_> {
    type Output = Option<Event>;

    fn step(&mut self) -> Result<Step<'_, Option<Event>>, ProtocolError> {
        match self.driver.state {
            State::Failed(error) => Err(error),
            State::Exited => Ok(Step::Done(Some(Event::Exit))),
            State::Closed => Ok(Step::Done(Some(Event::Closed))),
            _ if self.driver.phase != Phase::HaveData => Err(ProtocolError::NothingToReplyTo),
            State::Reading(_) | State::Answering => Ok(self.driver.step()),
            _ => Ok(Step::Done(None)),
        }
    }

    fn advance(&mut self, n: usize) {
        if !self.driver.moved(n) {
            return;
        }
        match self.driver.state {
            State::Reading(field) => self.driver.complete(field),
            State::Answering => self.driver.expect_message(),
            _ => {}
        }
    }

    fn end(&mut self) {
        self.driver.ended();
    }

    fn midway(&self) -> bool {
        self.driver.midway()
    }

    #[inline(always)]
    fn waits_for(&self) -> Wait {
        // The server may take its time to ask: the forces are not there.
        self.driver.waits_for(Awaited::Nothing)
    }
}

/// Extras of a reply: of its one structure, or of each.
#[derive(Clone, Copy, Debug)]
enum ExtrasOf<'a> {
    All(&'a [u8]),
    Each(&'a [&'a [u8]]),
}

impl<'a> ExtrasOf<'a> {
    fn get(self, index: usize) -> &'a [u8] {
        match self {
            Self::All(bytes) => bytes,
            Self::Each(extras) => extras.get(index).copied().unwrap_or_default(),
        }
    }
}

/// The exchange that hands back what was computed; made by [`Driver::reply`].
#[derive(Debug)]
#[must_use = "a transfer does nothing by itself: run it over a transport"]
pub struct Reply<'a, T> {
    driver: &'a mut Driver,
    evaluations: &'a [Evaluation],
    forces: &'a [[T; 3]],
    extras: ExtrasOf<'a>,
}

impl<'a, T: Scalar> Reply<'a, T> {
    /// Whether the reply is one to the structures that came. Its numbers are looked at once.
    #[inline(never)] // what it compares would lie on the stack below everything that is sent
    fn check(&mut self) -> Result<(), ProtocolError> {
        let wrong = |quantity, given, expected| {
            if given == expected {
                Ok(())
            } else {
                Err(ProtocolError::WrongLength {
                    quantity,
                    given,
                    expected,
                })
            }
        };
        let structures = self.driver.structures;
        wrong(Quantity::Evaluations, self.evaluations.len(), structures)?;
        wrong(Quantity::Forces, self.forces.len(), self.driver.total())?;
        if self.driver.checked {
            return Ok(());
        }
        if let ExtrasOf::Each(extras) = self.extras
            && !extras.is_empty()
        {
            wrong(Quantity::Extras, extras.len(), structures)?;
        }
        for (index, evaluation) in self.evaluations.iter().enumerate() {
            let len = self.extras.get(index).len();
            if i32::try_from(len).is_err() {
                return Err(ProtocolError::TextTooLong(len));
            }
            if self.driver.not_finite {
                continue;
            }
            if !evaluation.energy.is_finite() {
                return Err(ProtocolError::NotFinite(Quantity::Energy));
            }
            if !evaluation.virial.is_finite() {
                return Err(ProtocolError::NotFinite(Quantity::Virial));
            }
        }
        if !self.driver.not_finite && !T::all_finite(self.forces.as_flattened()) {
            return Err(ProtocolError::NotFinite(Quantity::Forces));
        }
        self.driver.checked = true;
        Ok(())
    }

    /// Puts what is small, from `part` on, into the scratch until it is full or an array comes that can
    /// leave by itself.
    fn gather(&mut self, mut part: Part) {
        let forces = self.forces.as_flattened();
        let natoms = i32::try_from(self.driver.natoms()).unwrap_or(i32::MAX);
        let mut message = Gather::new(&mut self.driver.scratch);
        loop {
            let (fits, next) = match part {
                Part::Header => (message.push(Header::ForceReady.bytes()), Part::Energy(0)),
                Part::Energy(index) => match self.evaluations.get(index) {
                    Some(it) => (
                        message.push(&it.energy.to_le_bytes()),
                        Part::Energy(index + 1),
                    ),
                    None => (message.push(&natoms.to_le_bytes()), Part::Forces(0)),
                },
                Part::Forces(gone) => {
                    let rest = forces.get(gone..).unwrap_or_default();
                    if rest.is_empty() {
                        (true, Part::Virial(0))
                    } else if let Some(bytes) = T::as_wire(rest) {
                        (message.push(bytes), Part::Virial(0))
                    } else {
                        let fit = message.push_atoms(rest);
                        (fit > 0, Part::Forces(gone + fit))
                    }
                }
                Part::Virial(index) => match self.evaluations.get(index) {
                    Some(it) => {
                        let room = message.reserve(MATRIX);
                        let fits = room.map(|room| layout::put_virial(&it.virial, room));
                        (fits.is_some(), Part::Virial(index + 1))
                    }
                    None => (true, Part::Length(0)),
                },
                Part::Length(index) if index < self.evaluations.len() => {
                    let len = i32::try_from(self.extras.get(index).len()).unwrap_or(i32::MAX);
                    (message.push(&len.to_le_bytes()), Part::Extras(index))
                }
                Part::Extras(index) => (
                    message.push(self.extras.get(index)),
                    Part::Length(index + 1),
                ),
                Part::Length(_) | Part::End => break part = Part::End,
            };
            if !fits {
                break;
            }
            part = next;
        }
        let gathered = message.len();
        self.driver.at = 0;
        if gathered > 0 {
            self.driver.state = State::Gathered(part);
            self.driver.end = gathered;
        } else if part == Part::End {
            self.sent();
        } else {
            self.driver.state = State::Direct(part);
            self.driver.end = self.direct(part).len();
        }
    }

    /// The memory of a part that leaves without being copied.
    fn direct(&self, part: Part) -> &'a [u8] {
        match part {
            Part::Forces(gone) => {
                let rest = self.forces.as_flattened().get(gone..).unwrap_or_default();
                T::as_wire(rest).unwrap_or_default()
            }
            Part::Extras(index) => self.extras.get(index),
            _ => &[],
        }
    }

    /// The whole reply has left.
    fn sent(&mut self) {
        self.driver.phase = match self.driver.initialize {
            Initialize::EveryStep => Phase::Uninit,
            Initialize::Never | Initialize::Once => Phase::Ready,
        };
        self.driver.replied = true;
        self.driver.expect_message();
    }
}

impl<T: Scalar> Exchange for Reply<'_, T> {
    type Output = ();

    fn step(&mut self) -> Result<Step<'_, ()>, ProtocolError> {
        match self.driver.state {
            State::Failed(error) => return Err(error),
            State::Exited | State::Closed => return Ok(Step::Done(())),
            _ if self.driver.replied => return Ok(Step::Done(())),
            _ if self.driver.phase != Phase::HaveData => {
                return Err(ProtocolError::NothingToReplyTo);
            }
            _ => self.check()?,
        }
        if self.driver.state == State::Asked {
            self.gather(Part::Header);
        }
        match self.driver.state {
            State::Direct(part) => {
                let (bytes, expected) = (self.direct(part), self.driver.end);
                match bytes.get(self.driver.at..) {
                    Some(rest) if bytes.len() == expected => Ok(Step::Write(rest)),
                    _ => Err(ProtocolError::WrongLength {
                        quantity: if let Part::Forces(_) = part {
                            Quantity::Forces
                        } else {
                            Quantity::Extras
                        },
                        given: bytes.len(),
                        expected,
                    }),
                }
            }
            _ => Ok(self.driver.step()),
        }
    }

    fn advance(&mut self, n: usize) {
        if self.driver.phase != Phase::HaveData || !self.driver.moved(n) {
            return;
        }
        match self.driver.state {
            State::Reading(field) => {
                self.driver.complete(field);
            }
            State::Answering => self.driver.expect_message(),
            State::Gathered(part) => self.gather(part),
            State::Direct(Part::Forces(_)) => self.gather(Part::Virial(0)),
            State::Direct(Part::Extras(index)) => self.gather(Part::Length(index + 1)),
            _ => {}
        }
    }

    fn end(&mut self) {
        self.driver.ended();
    }

    fn midway(&self) -> bool {
        self.driver.midway()
    }

    #[inline(always)]
    fn waits_for(&self) -> Wait {
        let wait = self.driver.waits_for(Awaited::GetForce);
        let through = self.driver.replied || self.driver.phase != Phase::HaveData;
        if through { wait.nothing() } else { wait }
    }
}
