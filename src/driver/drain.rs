//! Reading what a server has sent before the connection is closed.

use super::{Driver, Phase, State};
use crate::exchange::{Awaited, Exchange, Sealed, Step, Wait};
use crate::protocol::gather::SCRATCH;
use crate::protocol::{Header, ProtocolError, Quantity};

impl Driver {
    /// Reads what the server has sent with positions that will get no reply, so that the connection
    /// can be closed without harm.
    ///
    /// A socket that is closed with bytes unread is reset, and i-PI's poll thread does not survive
    /// a reset: the run hangs forever (i-PI 3.3.1 `ipi/interfaces/sockets.py`, `_recv_forces_bulk`
    /// and `recvall` catch no `ConnectionResetError`). Run this after a potential has failed, after
    /// a reply or positions were refused, and whenever a driver gives up between positions and
    /// forces; then close. [`serve`](crate::serve()) does so itself.
    ///
    /// Every server sends a command together with positions or straight after them: GETFORCE in
    /// consolidated conversations, STATUS in classic ones. This exchange reads up to it, whatever
    /// is before it, and answers nothing: a classic i-PI takes a driver that leaves a STATUS
    /// unanswered for a lost one, but asks forever, in a loop, once it has been answered HAVEDATA
    /// and has sent GETFORCE (`_recv_forceready` compares what it has read with `""`, and that is
    /// bytes).
    ///
    /// It is done at once if no command is to come: the server has left or waits for a reply that
    /// it has asked for, no positions have begun, or the server does not keep to the protocol at
    /// all ([`UnknownHeader`](ProtocolError::UnknownHeader)). Afterwards the conversation is over,
    /// and every other exchange returns what the driver had failed with, or
    /// [`Drained`](ProtocolError::Drained): [`reset`](Self::reset) the driver and connect again.
    ///
    /// # Errors
    ///
    /// It adds no errors.
    ///
    /// # Cancel safety
    ///
    /// The exchange may be dropped at any point; make it anew to continue.
    pub const fn drain(&mut self) -> Drain<'_> {
        Drain { driver: self }
    }
}

/// Reads what the server has sent before the connection is closed; made by [`Driver::drain`].
#[derive(Debug)]
#[must_use = "an exchange does nothing by itself: run it over a transport"]
pub struct Drain<'a> {
    driver: &'a mut Driver,
}

impl Drain<'_> {
    /// Whether a command is to come: the server sends it without waiting for anything of this
    /// driver. Returns how many bytes of the scratch may begin it.
    const fn begins(&self) -> Option<usize> {
        let computing = matches!(self.driver.phase, Phase::HaveData);
        match self.driver.state {
            State::Failed if refuses_positions(self.driver.error) => Some(0),
            State::Received
            | State::Receiving {
                message: Header::PosData,
                ..
            } => Some(0),
            State::Idle if computing => Some(self.driver.progress.at),
            State::Receiving { .. } if computing => Some(0),
            _ => None,
        }
    }

    /// Gives up what the driver was doing.
    #[inline(never)]
    fn begin(&mut self) {
        match (self.begins(), self.driver.state) {
            (None, State::Idle | State::Answering | State::Asked | State::Replied)
            | (None, State::Receiving { .. } | State::Gathered(_) | State::Direct(_)) => {
                self.driver.error = ProtocolError::Drained;
                self.driver.state = State::Drained;
            }
            (None, _) => {}
            (Some(begun), state) => {
                // The earlier error explains more.
                if !matches!(state, State::Failed) {
                    self.driver.error = ProtocolError::Drained;
                }
                self.driver.state = State::Draining(&[]);
                self.driver.progress.expect(SCRATCH);
                self.look(begun);
            }
        }
    }

    /// Looks for the command in this many bytes of the scratch.
    fn look(&mut self, len: usize) {
        let driver = &mut *self.driver;
        let State::Draining(mut rest) = driver.state else {
            return;
        };
        for &byte in driver.progress.scratch.0.get(..len).unwrap_or_default() {
            // C programs may pad a header with NULs.
            let byte = if byte == 0 { b' ' } else { byte };
            rest = match rest {
                [next] if *next == byte => {
                    driver.state = State::Drained;
                    return;
                }
                [next, rest @ ..] if *next == byte => rest,
                // A byte that does not fit may begin another command. None begins inside itself or
                // another, except with the second S of STATUS, with which numbers would have to
                // end.
                _ => match byte {
                    b'G' => after_first(Header::GetForce),
                    b'S' => after_first(Header::Status),
                    b'E' => after_first(Header::Exit),
                    _ => &[],
                },
            };
        }
        driver.state = State::Draining(rest);
    }
}

/// Whether it is POSDATA that the driver has failed with.
const fn refuses_positions(error: ProtocolError) -> bool {
    matches!(
        error,
        ProtocolError::OutOfTurn {
            command: Header::PosData,
            ..
        } | ProtocolError::NegativeAtoms(_)
            | ProtocolError::AtomsChanged { .. }
            | ProtocolError::UnannouncedBatch
            | ProtocolError::BigEndian(_)
            | ProtocolError::NotReals(_)
            | ProtocolError::NotFinite(Quantity::Cell | Quantity::Positions)
    )
}

const fn after_first(header: Header) -> &'static [u8] {
    header.bytes().split_at(1).1
}

impl Sealed for Drain<'_> {}

impl Exchange for Drain<'_> {
    type Output = ();

    fn step(&mut self) -> Result<Step<'_, ()>, ProtocolError> {
        self.begin();
        match self.driver.state {
            State::Draining(_) => Ok(Step::Read(&mut self.driver.progress.scratch.0)),
            _ => Ok(Step::Done(())),
        }
    }

    fn advance(&mut self, n: usize) {
        if let State::Draining(_) = self.driver.state {
            let progress = &mut self.driver.progress;
            let n = n.min(SCRATCH);
            progress.traffic.received += n as u64;
            progress.message = progress.message.saturating_add(n);
            self.look(n);
        }
    }

    fn end(&mut self) {
        self.driver.ended();
    }

    fn midway(&self) -> bool {
        false
    }

    #[inline(always)]
    fn waits_for(&self) -> Wait {
        let wait = self.driver.waits_for(Awaited::Nothing);
        if self.begins().is_none() {
            return wait;
        }
        Wait {
            awaited: Awaited::Rest,
            announced: None,
            ..wait
        }
    }
}
