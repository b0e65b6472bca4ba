//! The states of a driver, and the parts common to all of its exchanges: headers, INIT, cells,
//! counts.

use super::{Driver, Initialize};
use crate::exchange::{Awaited, Refused, Step, Wait, refuse};
use crate::fmt::{debug, trace};
use crate::geometry::Cell;
use crate::protocol::detect::{self, Format};
use crate::protocol::gather::Gather;
use crate::protocol::header::HEADER;
use crate::protocol::init_text::InitText;
use crate::protocol::layout::{self, ATOM, CELL, Field, MATRIX, Place, REAL};
use crate::protocol::{Header, ProtocolError, Quantity};

/// The message that is moving, and the place of the next byte in it.
#[derive(Clone, Copy, Debug)]
pub(super) enum State {
    /// Between two messages, with up to 11 bytes of the next header.
    Idle,
    Receiving {
        message: Header,
        place: Place,
    },
    /// All positions have arrived, and no event has been returned for them.
    Received,
    /// An answer to STATUS is being sent.
    Answering,
    /// GETFORCE has arrived, and no byte of FORCEREADY was sent.
    Asked,
    /// FORCEREADY is being sent: the contents of the scratch, which end at this place, or the
    /// caller's memory at this place.
    Gathered(Place),
    Direct(Place),
    /// FORCEREADY was sent, and its exchange has not ended.
    Replied,
    /// The conversation is over except for one more command to read. These are the bytes that are
    /// still missing, if it may have begun.
    Draining(&'static [u8]),
    Drained,
    /// The conversation has ended, with or without EXIT.
    Exited,
    Closed,
    Failed,
}

/// A driver's answer to STATUS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Uninit,
    Ready,
    HaveData,
}

impl Driver {
    /// The phase of a driver without any work.
    pub(super) const fn idle(&self) -> Phase {
        match self.initialize {
            Initialize::Never => Phase::Ready,
            Initialize::Once | Initialize::EveryStep => Phase::Uninit,
        }
    }

    #[inline(never)]
    pub(super) fn expect_message(&mut self) {
        self.state = State::Idle;
        self.seal = None;
        self.progress.message = 0;
        self.progress.expect(HEADER);
    }

    /// Continues with the field at `place`. The caller sets the lengths of text and positions.
    #[inline(never)]
    pub(super) fn expect(&mut self, message: Header, place: Place) {
        self.state = State::Receiving { message, place };
        self.progress.expect(place.fixed(self.structures));
    }

    #[cold]
    #[inline(never)]
    pub(super) fn fail(&mut self, error: ProtocolError) {
        debug!("{}", error);
        self.error = error;
        self.state = State::Failed;
    }

    /// Refuses the caller's request. The conversation is unchanged.
    #[cold]
    pub(super) fn refuse(&mut self, error: ProtocolError) -> Result<(), Refused> {
        refuse(&mut self.error, error)
    }

    /// The number of atoms of all structures of an exchange.
    #[inline(never)]
    pub(super) const fn total(&self) -> usize {
        self.natoms().saturating_mul(self.structures)
    }

    /// The next slice, for a field in the scratch.
    pub(super) fn step<T>(&mut self) -> Step<'_, T> {
        match self.state {
            State::Idle | State::Receiving { .. } => Step::Read(self.progress.rest_mut()),
            _ => Step::Write(self.progress.rest()),
        }
    }

    /// Counts moved bytes, and returns whether the slice is complete.
    #[inline(never)]
    pub(super) fn moved(&mut self, n: usize) -> bool {
        let progress = &mut self.progress;
        let n = progress.most(n);
        let traffic = match self.state {
            State::Idle | State::Receiving { .. } => &mut progress.traffic.received,
            State::Answering | State::Gathered(_) | State::Direct(_) => &mut progress.traffic.sent,
            _ => return false,
        };
        *traffic += n as u64;
        progress.count(n)
    }

    /// Handles the server's end of the stream.
    #[cold]
    #[inline(never)]
    pub(super) fn ended(&mut self) {
        let within = match self.state {
            State::Exited | State::Closed | State::Failed | State::Drained => return,
            State::Draining(_) => {
                self.state = State::Drained;
                return;
            }
            State::Receiving { message, .. } => Some(message),
            State::Answering => Some(self.status()),
            State::Gathered(_) | State::Direct(_) => Some(Header::ForceReady),
            _ => None,
        };
        match self.progress.message {
            0 => self.state = State::Closed,
            after => self.fail(ProtocolError::EndOfStream { within, after }),
        }
    }

    pub(super) const fn midway(&self) -> bool {
        self.progress.message > 0
    }

    /// Whether positions have been reported and not yet replied to.
    pub(super) fn owes_reply(&self) -> bool {
        self.phase == Phase::HaveData && !matches!(self.state, State::Received)
    }

    /// Whether the conversation has ended.
    pub(super) const fn is_over(&self) -> bool {
        matches!(
            self.state,
            State::Draining(_) | State::Drained | State::Exited | State::Closed | State::Failed
        )
    }

    /// Whether the next byte begins a message other than the server's first one.
    pub(super) const fn is_between(&self) -> bool {
        matches!(self.state, State::Idle) && self.progress.at == 0 && self.greeted
    }

    /// The wait of an exchange that waits for `next` between two messages. Inlined here and below:
    /// a call would remain in the flash of programs that never use it.
    #[inline(always)]
    pub(super) const fn waits_for(&self, next: Awaited) -> Wait {
        let (awaited, within) = match self.state {
            State::Received | State::Replied => (next, None),
            State::Idle if self.progress.at == 0 => (next, None),
            State::Idle => (Awaited::Rest, None),
            State::Receiving { message, .. } => (Awaited::Rest, Some(message)),
            // The server has sent it already, so it takes no longer than a message.
            State::Draining(_) => (Awaited::Rest, None),
            State::Answering => (Awaited::Taken, Some(self.status())),
            State::Gathered(_) | State::Direct(_) => (Awaited::Taken, Some(Header::ForceReady)),
            State::Asked | State::Exited | State::Closed | State::Failed | State::Drained => {
                (Awaited::Nothing, None)
            }
        };
        Wait {
            awaited,
            within,
            moved: self.progress.message,
            announced: match awaited {
                Awaited::Rest if !matches!(self.state, State::Draining(_)) => {
                    Some(self.announced())
                }
                _ => None,
            },
            greeted: self.greeted,
            evaluating: false,
            mark: self.progress.mark(),
        }
    }

    /// The remaining length of the incoming message, as far as it is known.
    pub(super) const fn announced(&self) -> usize {
        let before = self.progress.message.saturating_sub(self.progress.at);
        let positions = self.total().saturating_mul(ATOM);
        before.saturating_add(match self.state {
            State::Receiving { place, .. } => match place.field {
                Field::Text => self.init.len().saturating_sub(place.index),
                Field::Cell if self.structures > 1 => {
                    let cells = self.structures.saturating_sub(place.index);
                    cells.saturating_mul(CELL).saturating_add(positions)
                }
                Field::Positions => positions.saturating_sub(place.index.saturating_mul(REAL)),
                _ => self.progress.end,
            },
            _ => self.progress.end,
        })
    }

    /// Handles complete contents of the scratch. The cells of a batch are written to `cells`.
    pub(super) fn complete(&mut self, cells: &mut [Cell]) {
        let place = match self.state {
            State::Receiving { place, .. } => place,
            State::Answering => return self.expect_message(),
            _ => return self.header(),
        };
        let mut bytes = self.progress.field();
        match place.field {
            Field::Replica => {
                let replica = layout::take_i32(&mut bytes);
                let announced = layout::take_i32(&mut bytes);
                match usize::try_from(announced) {
                    Ok(len) => {
                        self.init = InitText::announced(replica, len);
                        self.text(Place::start(Field::Text));
                    }
                    Err(_) => self.fail(ProtocolError::NegativeLength(announced)),
                }
            }
            Field::Text => {
                self.init.feed(bytes);
                let taken = place.index.saturating_add(self.progress.end);
                self.text(place.at(taken));
            }
            Field::Atoms => {
                let announced = layout::take_i32(&mut bytes);
                self.take_atoms(announced, place);
            }
            Field::Cell => {
                let single = self.structures == 1;
                let batch = single && detect::is_batch(bytes);
                let h = bytes.get(..MATRIX).unwrap_or_default();
                let format = Format::of(h, Quantity::Cell);
                // A missing slot was refused earlier: see `Receive::room`.
                let cell = match cells.get_mut(place.index) {
                    Some(slot) if !single => slot,
                    _ => &mut self.cell,
                };
                layout::take_cell(&mut bytes, cell);
                let announced = layout::take_i32(&mut bytes);
                let finite = cell.is_finite();
                if batch {
                    self.fail(ProtocolError::UnannouncedBatch);
                } else if !self.accepts(format, Quantity::Cell, finite) {
                } else if single {
                    self.take_atoms(announced, place.next(Header::PosData, 1));
                } else {
                    self.expect(
                        Header::PosData,
                        place.next(Header::PosData, self.structures),
                    );
                }
            }
            _ => {}
        }
    }

    /// Continues with INIT's text, or ends it.
    pub(super) fn text(&mut self, place: Place) {
        let remaining = self.init.len() - place.index;
        if remaining > 0 {
            self.expect(Header::Init, place);
            return self.progress.expect(remaining);
        }
        self.init_unreported = true;
        if self.phase == Phase::Uninit {
            self.phase = Phase::Ready;
        }
        self.expect_message();
    }

    /// Handles a header.
    pub(super) fn header(&mut self) {
        let bytes = *self
            .progress
            .scratch
            .0
            .first_chunk()
            .unwrap_or(&[0; HEADER]);
        let Some(header) = Header::parse(&bytes) else {
            return self.fail(ProtocolError::UnknownHeader(bytes));
        };
        trace!("server: {}", header.name());
        self.greeted = true;
        match (header, self.phase) {
            (Header::Status, _) => {
                self.state = State::Answering;
                self.progress.message = 0;
                let answer = self.status();
                let mut message = Gather::after(&mut self.progress.scratch, 0);
                let _ = message.push(answer.bytes());
                let len = message.len();
                self.progress.expect(len);
            }
            (Header::Init, _) => self.expect(header, Place::HEADER.next(header, 1)),
            (Header::PosData, Phase::Ready) => {
                self.structures = self.init.batch_size().unwrap_or(1);
                self.expect(header, Place::HEADER.next(header, self.structures));
            }
            (Header::GetForce, Phase::HaveData) => {
                self.progress.message = 0;
                self.state = State::Asked;
            }
            (Header::Exit, _) => self.state = State::Exited,
            _ => self.fail(ProtocolError::OutOfTurn {
                command: header,
                status: self.status(),
            }),
        }
    }

    /// Handles the number of atoms of this message, and continues after it.
    pub(super) fn take_atoms(&mut self, announced: i32, place: Place) {
        let Ok(natoms) = usize::try_from(announced) else {
            return self.fail(ProtocolError::NegativeAtoms(announced));
        };
        match self.natoms {
            Some(expected) if expected != natoms && !self.changing_atoms => {
                self.fail(ProtocolError::AtomsChanged {
                    announced: natoms,
                    expected,
                });
            }
            _ => {
                self.natoms = Some(natoms);
                self.expect(
                    Header::PosData,
                    place.next(Header::PosData, self.structures),
                );
            }
        }
    }

    /// Whether the driver accepts received numbers in this format; otherwise the conversation
    /// fails.
    pub(super) fn accepts(&mut self, format: Format, quantity: Quantity, finite: bool) -> bool {
        let error = match format {
            Format::Reversed if !self.any_format => ProtocolError::BigEndian(quantity),
            Format::Integers if !self.any_format => ProtocolError::NotReals(quantity),
            _ if finite || self.not_finite => return true,
            _ => ProtocolError::NotFinite(quantity),
        };
        self.fail(error);
        false
    }

    /// The place of the next byte in an incoming message.
    pub(super) const fn incoming(&self) -> Option<Place> {
        match self.state {
            State::Receiving { place, .. } => Some(place),
            _ => None,
        }
    }
}
