//! Reading what a server has sent before the connection is closed.

use super::{Driver, Phase, State};
use crate::protocol::header::HEADER;
use crate::{Awaited, Exchange, Header, ProtocolError, Step, Wait};

impl Driver {
    /// Reads what the server has sent with positions that will get no reply, so that the connection can be closed
    /// without harm.
    ///
    /// A socket that is closed with bytes unread is reset, and i-PI's poll thread does not survive a reset: the run
    /// hangs for ever (i-PI 3.3.1 `ipi/interfaces/sockets.py`, `_recv_forces_bulk` and `recvall` catch no
    /// `ConnectionResetError`). Run this after a potential has failed, after a reply or positions were refused, and
    /// whenever a driver gives up between positions and forces; then close. [`serve`](crate::serve()) does so itself.
    ///
    /// Every server sends a command together with positions or straight after them: GETFORCE in consolidated
    /// conversations, STATUS in classic ones. This exchange reads up to it, whatever is before it, and answers
    /// nothing: a classic i-PI takes a driver that leaves a STATUS unanswered for a lost one, but asks for ever, in a
    /// loop, once it has been answered HAVEDATA and has sent GETFORCE (`_recv_forceready` compares what it has read
    /// with `""`, and that is bytes).
    ///
    /// It is done at once if no command is to come: the server has left or waits for a reply that it has asked for,
    /// no positions have begun, or the server does not keep to the protocol at all
    /// ([`UnknownHeader`](ProtocolError::UnknownHeader)). Afterwards the conversation is over:
    /// [`reset`](Self::reset) the driver and connect again.
    ///
    /// # Errors
    ///
    /// None of its own.
    ///
    /// # Cancel safety
    ///
    /// Keep the exchange and run it again to go on. One that is made anew goes on too, unless the other one was
    /// dropped within the twelve bytes of the command.
    pub const fn drain(&mut self) -> Drain<'_> {
        Drain {
            driver: self,
            last: None,
        }
    }

    /// Whether the server sends a command without waiting for anything of this driver.
    fn expects_command(&self) -> bool {
        let positions = self.within == Some(Header::PosData);
        match self.state {
            State::Reading(_) | State::Positions | State::Answering => {
                positions || self.phase == Phase::HaveData
            }
            State::Failed(_) => positions,
            _ => false,
        }
    }
}

/// The exchange that reads what the server has sent before the connection is closed; made by [`Driver::drain`].
#[derive(Debug)]
#[must_use = "an exchange does nothing by itself: run it over a transport"]
pub struct Drain<'a> {
    driver: &'a mut Driver,
    /// The last bytes that came, as many as a header has; none before the first step.
    last: Option<u128>,
}

impl Drain<'_> {
    /// Takes bytes that have come from the scratch; whether a command was the last thing in them that is one.
    fn look(&mut self, len: usize) -> bool {
        let Self { driver, last } = self;
        let last = last.get_or_insert(0);
        for &byte in driver.scratch.get(..len).unwrap_or_default() {
            // C programs may pad a header with NULs.
            let byte = if byte == 0 { b' ' } else { byte };
            *last = ((*last << 8) | u128::from(byte)) & ((1 << (8 * HEADER)) - 1);
            if COMMANDS.contains(last) {
                return true;
            }
        }
        false
    }

    /// The conversation is over.
    fn close(&mut self) {
        if !matches!(self.driver.state, State::Exited | State::Failed(_)) {
            self.driver.state = State::Closed;
        }
        // Nothing is expected after this.
        self.driver.within = None;
    }
}

/// What a server sends after positions.
const COMMANDS: [u128; 3] = [
    number(Header::GetForce.bytes()),
    number(Header::Status.bytes()),
    number(Header::Exit.bytes()),
];

/// Bytes as a number, the first the highest.
const fn number(bytes: &[u8]) -> u128 {
    match bytes {
        [before @ .., last] => (number(before) << 8) | *last as u128,
        [] => 0,
    }
}

impl Exchange for Drain<'_> {
    type Output = ();

    fn step(&mut self) -> Result<Step<'_, ()>, ProtocolError> {
        if self.last.is_none() {
            // The beginning of the command may have come already.
            let begun = match self.driver.state {
                State::Reading(_) => self.driver.at,
                _ => 0,
            };
            if !self.driver.expects_command() || self.look(begun) {
                self.close();
            }
        }
        if self.driver.expects_command() {
            Ok(Step::Read(&mut self.driver.scratch))
        } else {
            Ok(Step::Done(()))
        }
    }

    fn advance(&mut self, n: usize) {
        if !self.driver.expects_command() {
            return;
        }
        self.driver.traffic.received += n as u64;
        self.driver.message = self.driver.message.saturating_add(n);
        if self.look(n) {
            self.close();
        }
    }

    fn end(&mut self) {
        self.close();
    }

    fn midway(&self) -> bool {
        false
    }

    #[inline(always)]
    fn waits_for(&self) -> Wait {
        let wait = self.driver.waits_for(Awaited::Nothing);
        if self.driver.expects_command() {
            // It has left the server already, so this takes no longer than a message does.
            Wait {
                awaited: Awaited::Rest,
                announced: None,
                ..wait
            }
        } else {
            wait.nothing()
        }
    }
}
