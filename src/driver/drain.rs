//! Reading what a server has sent before the connection is closed.

use super::{Driver, Field, Phase, State};
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
    /// The exchange may be dropped at any point; make it again to go on.
    pub const fn drain(&mut self) -> Drain<'_> {
        Drain { driver: self }
    }
}

/// The exchange that reads what the server has sent before the connection is closed; made by [`Driver::drain`].
#[derive(Debug)]
#[must_use = "an exchange does nothing by itself: run it over a transport"]
pub struct Drain<'a> {
    driver: &'a mut Driver,
}

impl Drain<'_> {
    /// Leaves what the driver was doing, as far as it would go on with that.
    fn begin(&mut self) {
        let driver = &mut *self.driver;
        match driver.state {
            State::Answering => driver.expect_message(),
            State::Reading(Field::Header) | State::Failed(_) | State::Closed | State::Exited => {}
            // These positions are of no use to anyone any more.
            _ => {
                driver.state = State::Closed;
                driver.at = 0;
            }
        }
    }

    /// Whether the command is still to come: the server sends it without waiting for anything. What may be its beginning
    /// is in the scratch, [`Driver::at`] bytes.
    fn awaits(&self) -> bool {
        match self.driver.state {
            State::Reading(Field::Header) => self.driver.phase == Phase::HaveData,
            State::Failed(_) | State::Closed => self.driver.within == Some(Header::PosData),
            _ => false,
        }
    }

    /// The conversation is over.
    fn finish(&mut self) {
        self.driver.within = None;
        if !matches!(self.driver.state, State::Exited | State::Failed(_)) {
            self.driver.state = State::Closed;
        }
    }

    /// Looks for the command in this many bytes of the scratch, and keeps what may be the beginning of it.
    fn look(&mut self, len: usize) {
        let scratch = &mut self.driver.scratch;
        let (mut command, mut matched) = (Header::Status.bytes(), 0);
        for &byte in scratch.get(..len).unwrap_or_default() {
            // C programs may pad a header with NULs.
            let byte = if byte == 0 { b' ' } else { byte };
            if command.get(matched) == Some(&byte) {
                matched += 1;
                if matched == HEADER {
                    return self.finish();
                }
                continue;
            }
            // Another one may begin here; not inside of what has matched, but for the second S of STATUS, with which
            // the numbers before would have to end.
            matched = 1;
            command = match byte {
                b'S' => Header::Status.bytes(),
                b'G' => Header::GetForce.bytes(),
                b'E' => Header::Exit.bytes(),
                _ => {
                    matched = 0;
                    command
                }
            };
        }
        for (kept, byte) in scratch.iter_mut().zip(command).take(matched) {
            *kept = *byte;
        }
        self.driver.at = matched;
        self.driver.end = HEADER;
    }
}

impl Exchange for Drain<'_> {
    type Output = ();

    fn step(&mut self) -> Result<Step<'_, ()>, ProtocolError> {
        self.begin();
        if !self.awaits() {
            self.finish();
            return Ok(Step::Done(()));
        }
        let bytes = self.driver.scratch.get_mut(self.driver.at..);
        Ok(Step::Read(bytes.unwrap_or_default()))
    }

    fn advance(&mut self, n: usize) {
        if self.awaits() {
            self.driver.traffic.received += n as u64;
            self.driver.message = self.driver.message.saturating_add(n);
            self.look(self.driver.at.saturating_add(n));
        }
    }

    fn end(&mut self) {
        self.finish();
    }

    fn midway(&self) -> bool {
        false
    }

    #[inline(always)]
    fn waits_for(&self) -> Wait {
        let wait = self.driver.waits_for(Awaited::Nothing);
        if self.awaits() {
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
