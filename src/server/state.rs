//! The states of a server, and the next one after each message and answer.

use super::Server;
use super::exchange::Goal;
use crate::exchange::{Awaited, Refused, Wait, refuse};
use crate::fmt::{debug, trace};
use crate::protocol::gather::SCRATCH;
use crate::protocol::header::HEADER;
use crate::protocol::layout::{ATOM, Field, INTEGER, MATRIX, Place, REAL};
use crate::protocol::{Header, ProtocolError, Quantity};

/// Which message moves, and where in it the next byte is.
#[derive(Clone, Copy, Debug)]
pub(super) enum State {
    /// Between messages.
    Idle,
    /// The content of the scratch is being sent; this place of this message comes after it.
    Gathered {
        message: Header,
        place: Place,
    },
    /// Positions, from this number on, are leaving from the caller's array.
    Direct(usize),
    /// The header of an answer is coming.
    Header,
    /// A field of FORCEREADY is coming, into the scratch or the caller's array.
    Receiving(Place),
    /// So many bytes of forces of copies are coming, and are dropped.
    Copies(usize),
    /// Extras of this structure are coming for which there is no room.
    Surplus(usize),
    /// EXIT was sent; all bytes until the driver closes are dropped.
    Leaving,
    Closed,
    Failed,
}

/// What is known about the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Unknown,
    Asked,
    NeedsInit,
    Initializing,
    Ready,
    Computing,
    HasData,
    Awaiting,
    Leaving,
}

impl Server {
    #[cold]
    #[inline(never)]
    pub(super) fn fail(&mut self, error: ProtocolError) {
        debug!("{}", error);
        self.error = error;
        self.state = State::Failed;
    }

    /// Refuses what the caller asks for. The conversation stays as it is.
    #[cold]
    #[inline(never)]
    pub(super) fn refuse(&mut self, error: ProtocolError) -> Result<(), Refused> {
        refuse(&mut self.error, error)
    }

    /// Counts bytes that have moved, and returns whether the slice is complete.
    pub(super) fn moved(&mut self, n: usize) -> bool {
        if matches!(self.state, State::Idle | State::Closed | State::Failed) {
            return false;
        }
        let n = self.progress.most(n);
        let traffic = if self.is_sending() {
            &mut self.progress.traffic.sent
        } else {
            self.timed_out &= n == 0;
            &mut self.progress.traffic.received
        };
        *traffic += n as u64;
        self.progress.count(n)
    }

    /// The last question that the driver has not answered.
    pub(super) const fn asked(&self) -> Header {
        match self.phase {
            Phase::Awaiting => Header::GetForce,
            _ => Header::Status,
        }
    }

    pub(super) const fn is_sending(&self) -> bool {
        matches!(self.state, State::Gathered { .. } | State::Direct(_))
    }

    pub(super) const fn is_receiving(&self) -> bool {
        matches!(
            self.state,
            State::Header | State::Receiving(_) | State::Copies(_) | State::Surplus(_)
        )
    }

    /// The field of FORCEREADY that is coming.
    #[cfg(feature = "std")]
    pub(super) const fn incoming(&self) -> Option<Field> {
        match self.state {
            State::Receiving(place) => Some(place.field),
            _ => None,
        }
    }

    /// Whether an answer to positions is owed, or is coming.
    #[inline(never)]
    pub(super) const fn owes_forces(&self) -> bool {
        match self.phase {
            _ if self.is_sending() => matches!(self.first, Header::PosData | Header::GetForce),
            Phase::Computing | Phase::HasData | Phase::Awaiting => true,
            _ => false,
        }
    }

    /// What is awaited, whichever exchange does it; `anew` if it is one that will abandon a message
    /// of which no byte has moved. Inlined here and below: a call would remain in the flash of
    /// programs that never ask.
    #[inline(always)]
    pub(super) const fn waits_for(&self, anew: bool) -> Wait {
        let awaited = match self.state {
            State::Gathered { .. } | State::Direct(_) if anew && self.progress.message == 0 => {
                self.answer_awaited()
            }
            State::Closed | State::Failed => Awaited::Nothing,
            State::Leaving => Awaited::Close,
            State::Gathered { .. } | State::Direct(_) => Awaited::Taken,
            State::Receiving(_) | State::Copies(_) | State::Surplus(_) => Awaited::Rest,
            State::Header if self.progress.message > 0 => Awaited::Rest,
            State::Idle | State::Header => self.answer_awaited(),
        };
        Wait {
            awaited,
            within: match (awaited, self.state) {
                (Awaited::Rest, State::Header) => None,
                (Awaited::Rest, _) => Some(Header::ForceReady),
                (Awaited::Taken, _) => Some(self.first),
                _ => None,
            },
            moved: match awaited {
                // Later bytes belong to no message and are dropped.
                Awaited::Close => 0,
                _ => self.progress.message,
            },
            announced: match awaited {
                Awaited::Rest => self.announced(),
                _ => None,
            },
            greeted: self.greeted,
            evaluating: self.owes_forces(),
            mark: self.progress.mark(),
        }
    }

    /// The answer that the driver owes.
    pub(super) const fn answer_awaited(&self) -> Awaited {
        match self.phase {
            Phase::Asked => Awaited::Status,
            Phase::Initializing => Awaited::Init,
            Phase::Computing | Phase::Awaiting => Awaited::Forces,
            _ => Awaited::Nothing,
        }
    }

    /// The remaining length of the message that is coming, as far as it is known.
    pub(super) const fn announced(&self) -> Option<usize> {
        let structures = self.carried;
        let each = self.natoms().saturating_mul(ATOM);
        let each = each.saturating_add(REAL + MATRIX + INTEGER);
        let whole = (HEADER + INTEGER).saturating_add(structures.saturating_mul(each));
        match self.state {
            State::Header => Some(HEADER),
            State::Surplus(_)
            | State::Receiving(Place {
                field: Field::Extras,
                ..
            }) if structures == 1 => Some(whole.saturating_add(self.answer.extras_sent)),
            State::Surplus(_)
            | State::Receiving(Place {
                field: Field::Extras | Field::ExtrasLength,
                ..
            }) => None,
            _ => Some(whole),
        }
    }

    /// A whole message was sent or has come.
    pub(super) const fn between(&mut self, phase: Phase) {
        self.state = State::Idle;
        self.phase = phase;
        self.progress.message = 0;
    }

    /// A whole write was sent.
    pub(super) fn sent(&mut self) {
        self.between(self.mode.after(self.first));
        match self.first {
            Header::Init => {
                self.unreported = Some(Goal::Initialize);
                if self.mode.batch_size() > 1 {
                    self.carried = self.mode.batch_size();
                }
            }
            Header::PosData => self.unreported = Some(Goal::Send),
            Header::Exit => {
                self.state = State::Leaving;
                self.progress.expect(SCRATCH);
            }
            _ => {}
        }
    }

    /// The driver has closed its side.
    #[cold]
    pub(super) fn ended(&mut self) {
        let within = match self.state {
            State::Failed => return,
            State::Header if self.progress.at > 0 => None,
            State::Receiving(_) | State::Copies(_) | State::Surplus(_) => Some(Header::ForceReady),
            _ => {
                self.state = State::Closed;
                return;
            }
        };
        let after = self.progress.message;
        self.fail(ProtocolError::EndOfStream { within, after });
    }

    /// The header of an answer has come.
    pub(super) fn header(&mut self) {
        let bytes = *self
            .progress
            .scratch
            .0
            .first_chunk()
            .unwrap_or(&[0; HEADER]);
        let Some(answer) = Header::parse(&bytes) else {
            return self.fail(ProtocolError::UnknownHeader(bytes));
        };
        trace!("driver: {}", answer.name());
        self.greeted = true;
        let phase = match (self.phase, answer) {
            (Phase::Asked | Phase::Initializing, Header::Ready) => Phase::Ready,
            (Phase::Asked, Header::NeedInit) => {
                self.init = None;
                Phase::NeedsInit
            }
            (Phase::Computing, Header::HaveData) => Phase::HasData,
            (Phase::Awaiting, Header::ForceReady) => {
                return self.expect(Place::HEADER.next(answer, self.carried));
            }
            // HAVEDATA of a driver that was given nothing is data of another conversation, and one
            // that asks for INIT again straight after it will do so forever.
            _ => {
                let to = match (self.phase, answer) {
                    (Phase::Initializing, Header::NeedInit) => Header::Init,
                    _ => self.asked(),
                };
                return self.fail(ProtocolError::UnexpectedAnswer { answer, to });
            }
        };
        self.between(phase);
        self.unreported = Some(Goal::Status);
    }

    /// Atoms of all structures of the request under way.
    pub(super) const fn total(&self) -> usize {
        self.natoms().saturating_mul(self.structures)
    }

    /// Accepts these numbers of the driver, or fails.
    pub(super) fn accepts(&mut self, quantity: Quantity, finite: bool) -> bool {
        let accepts = finite || self.not_finite;
        if !accepts {
            self.fail(ProtocolError::NotFinite(quantity));
        }
        accepts
    }
}
