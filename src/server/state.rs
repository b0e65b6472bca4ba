//! The states of a server, and the transitions after each message and answer.

use super::Server;
use super::exchange::Goal;
use crate::exchange::{Awaited, Refused, Wait, refuse};
use crate::fmt::{debug, trace};
use crate::protocol::gather::SCRATCH;
use crate::protocol::header::HEADER;
use crate::protocol::layout::{ATOM, Field, INTEGER, MATRIX, Place, REAL};
use crate::protocol::{Header, ProtocolError, Quantity};

/// The message that is moving, and the place of the next byte in it.
#[derive(Clone, Copy, Debug)]
pub(super) enum State {
    /// Between messages.
    Idle,
    /// The contents of the scratch are being sent; they end at this place of this message.
    Gathered {
        message: Header,
        place: Place,
    },
    /// Positions are being sent from the caller's array, starting with this number.
    Direct(usize),
    /// The header of an answer is expected.
    Header,
    /// A field of FORCEREADY is being received, into the scratch or the caller's array.
    Receiving(Place),
    /// Forces of copies are being received and dropped; this many bytes remain.
    Copies(usize),
    /// Extras of this structure that don't fit are being received and dropped.
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

    /// Refuses the caller's request. The conversation is unchanged.
    #[cold]
    #[inline(never)]
    pub(super) fn refuse(&mut self, error: ProtocolError) -> Result<(), Refused> {
        refuse(&mut self.error, error)
    }

    /// Counts moved bytes, and returns whether the slice is complete.
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

    /// The last request that the driver has not answered.
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

    /// The field of FORCEREADY that is being received.
    #[cfg(feature = "std")]
    pub(super) const fn incoming(&self) -> Option<Field> {
        match self.state {
            State::Receiving(place) => Some(place.field),
            _ => None,
        }
    }

    /// Whether an answer to positions is owed, or is being received.
    #[inline(never)]
    pub(super) const fn owes_forces(&self) -> bool {
        match self.phase {
            _ if self.is_sending() => matches!(self.first, Header::PosData | Header::GetForce),
            Phase::Computing | Phase::HasData | Phase::Awaiting => true,
            _ => false,
        }
    }

    /// What any exchange would wait for now. `anew` is true for an exchange that will abandon a
    /// message before any of its bytes have moved. Inlined here and below: a call would remain in
    /// the flash of programs that never use it.
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

    /// The remaining length of the incoming message, as far as it is known.
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

    /// Ends a complete message, sent or received.
    pub(super) const fn between(&mut self, phase: Phase) {
        self.state = State::Idle;
        self.phase = phase;
        self.progress.message = 0;
    }

    /// Ends a complete write.
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

    /// Handles the driver's end of the stream.
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

    /// Handles the header of an answer.
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
            // HAVEDATA of a driver that has received nothing belongs to another conversation. A
            // driver that asks for INIT again right after INIT would do so forever.
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

    /// The number of atoms of all structures of the current request.
    pub(super) const fn total(&self) -> usize {
        self.natoms().saturating_mul(self.structures)
    }

    /// Accepts numbers from the driver, or fails.
    pub(super) fn accepts(&mut self, quantity: Quantity, finite: bool) -> bool {
        let accepts = finite || self.not_finite;
        if !accepts {
            self.fail(ProtocolError::NotFinite(quantity));
        }
        accepts
    }
}
