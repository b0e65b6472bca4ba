//! The order of exchanges: what an exchange does between two messages, and when it has to wait.

use super::exchange::{Course, Goal, Stage};
use super::{Mode, Phase, State};
use crate::exchange::Refused;
use crate::protocol::{Header, ProtocolError, Scalar};

/// The next action of an exchange between two messages.
pub(super) enum Turn {
    Ends,
    Reads,
    Sends(Header),
    /// It is another exchange's turn.
    Waits,
}

impl<T: Scalar> Course<'_, T> {
    /// The next action of this exchange, given the driver's status.
    pub(super) fn turn(&self) -> Turn {
        use Goal::{Discard, Evaluate, Exit, Forces, Initialize, Send, Status};

        match (self.goal, self.server.phase) {
            (Exit, _) => Turn::Sends(Header::Exit),

            (Status | Evaluate, Phase::Asked | Phase::Initializing)
            | (Status | Forces | Discard | Evaluate, Phase::Computing)
            | (Forces | Discard | Evaluate, Phase::Awaiting) => Turn::Reads,

            (Status, Phase::Awaiting | Phase::HasData | Phase::Leaving) => Turn::Ends,
            (Status, Phase::Ready | Phase::NeedsInit) if self.server.mode == Mode::Strict => {
                Turn::Ends
            }
            (Status, _) | (Evaluate, Phase::Unknown) => Turn::Sends(Header::Status),

            (Initialize | Evaluate, Phase::NeedsInit) => Turn::Sends(Header::Init),
            (Send | Evaluate, Phase::Ready) => Turn::Sends(Header::PosData),
            (Forces | Discard | Evaluate, Phase::HasData) => Turn::Sends(Header::GetForce),
            (Discard, _) => Turn::Ends,
            (Initialize | Send | Forces | Evaluate, _) => Turn::Waits,
        }
    }

    #[cold]
    pub(super) fn out_of_turn(&mut self) -> Result<(), Refused> {
        let error = ProtocolError::InvalidStatus {
            command: match self.goal {
                Goal::Status => Header::Status,
                Goal::Initialize => Header::Init,
                Goal::Send | Goal::Evaluate => Header::PosData,
                Goal::Forces | Goal::Discard => Header::GetForce,
                Goal::Exit => Header::Exit,
            },
            status: self.server.last_status(),
        };
        self.server.refuse(error)
    }

    /// Checks that it is this exchange's turn: the moving message must serve its purpose.
    fn check_turn(&mut self) -> Result<(), Refused> {
        use Goal::{Discard, Evaluate, Exit, Forces, Initialize, Send, Status};

        let server = &*self.server;
        let belongs = if server.is_sending() {
            match (server.first, self.goal) {
                // The rest of this message needs no arguments, or this exchange has them.
                (_, Status) | (Header::Exit, Exit) => true,
                (Header::Exit, _) => false,
                (_, Exit | Evaluate) | (Header::Init, Initialize) | (Header::PosData, Send) => true,
                (Header::PosData | Header::GetForce, Forces | Discard) => true,
                _ => false,
            }
        } else {
            server.is_receiving() && matches!(self.turn(), Turn::Reads)
        };
        if !belongs {
            return self.out_of_turn();
        }
        if matches!(self.goal, Forces | Evaluate) && server.is_receiving() && server.owes_forces() {
            self.check_room(self.server.natoms(), self.server.structures)?;
        }
        Ok(())
    }

    /// Checks that the exchange can continue from here, or has no work left.
    pub(super) fn check_state(&mut self) -> Result<(), Refused> {
        let (leaving, asking) = (self.goal == Goal::Exit, self.goal == Goal::Status);
        match self.server.state {
            _ if self.stage == Stage::Ended => {}
            State::Failed => return Err(Refused),
            State::Leaving if leaving => {}
            State::Closed if leaving => self.stage = Stage::Ended,
            State::Leaving | State::Closed if asking => self.stage = Stage::Ended,
            // This also holds in the middle of another message. A driver that was sent EXIT owes
            // nothing.
            _ if self.goal == Goal::Discard && !self.server.owes_forces() => {
                self.stage = Stage::Ended;
            }
            State::Closed if self.server.phase != Phase::Leaving => {
                let error = ProtocolError::Unanswered(self.server.asked());
                return self.server.refuse(error);
            }
            // Forces are arriving, so there is nothing to ask.
            _ if asking && self.server.phase == Phase::Awaiting && self.server.is_receiving() => {
                self.stage = Stage::Ended;
            }
            _ => self.check_turn()?,
        }
        Ok(())
    }
}
