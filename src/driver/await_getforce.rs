//! The exchange that answers STATUS while forces are computed.

use super::{Driver, Event, Phase, State};
use crate::exchange::{Awaited, Exchange, Sealed, Step, Wait};
use crate::protocol::ProtocolError;

/// Ends when the server asks for forces or ends the conversation. Made by
/// [`Driver::await_getforce`].
#[derive(Debug)]
#[must_use = "an exchange does nothing by itself: run it over a transport"]
pub struct AwaitGetForce<'a> {
    driver: &'a mut Driver,
}

impl<'a> AwaitGetForce<'a> {
    pub(super) const fn new(driver: &'a mut Driver) -> Self {
        Self { driver }
    }
}

impl Sealed for AwaitGetForce<'_> {}

impl Exchange for AwaitGetForce<'_> {
    type Output = Option<Event>;

    fn enter(&mut self) -> Result<(), ProtocolError> {
        if !self.driver.owes_reply() && !self.driver.is_over() {
            return Err(ProtocolError::NothingToReplyTo);
        }
        Ok(())
    }

    fn step(&mut self) -> Result<Step<'_, Option<Event>>, ProtocolError> {
        let driver = &mut *self.driver;
        Ok(Step::Done(match driver.state {
            State::Failed | State::Draining(_) | State::Drained => return Err(driver.error),
            State::Exited => Some(Event::Exit),
            State::Closed => Some(Event::Closed),
            _ if !driver.owes_reply() => return Err(ProtocolError::NothingToReplyTo),
            State::Idle | State::Receiving { .. } | State::Answering => return Ok(driver.step()),
            _ => None,
        }))
    }

    fn advance(&mut self, n: usize) {
        self.driver.listen(n);
    }

    fn end(&mut self) {
        self.driver.ended();
    }

    fn midway(&self) -> bool {
        self.driver.midway()
    }

    #[inline(always)]
    fn waits_for(&self) -> Wait {
        // The server may take its time before it asks, because the forces are not ready.
        self.driver.waits_for(Awaited::Nothing)
    }
}

impl Driver {
    /// Handles bytes that moved while the exchange waits for GETFORCE: headers, INIT, and answers
    /// to STATUS.
    pub(super) fn listen(&mut self, n: usize) {
        match self.state {
            State::Idle | State::Receiving { .. } | State::Answering
                if self.phase == Phase::HaveData => {}
            _ => return,
        }
        if self.moved(n) {
            self.complete(&mut []);
        }
    }
}
