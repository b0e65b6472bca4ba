//! Reads what a server has sent before the connection is closed.

use super::{Driver, Phase, State};
use crate::exchange::{Awaited, Exchange, Sealed, Step, Wait};
use crate::protocol::gather::SCRATCH;
use crate::protocol::{Header, ProtocolError, Quantity};

impl Driver {
    /// Reads what the server has sent with positions that will get no reply, so that the connection
    /// can be closed safely.
    ///
    /// A socket that is closed with bytes unread is reset, and i-PI's poll thread does not survive
    /// a reset: the run hangs forever (i-PI 3.3.1 `ipi/interfaces/sockets.py`, `_recv_forces_bulk`
    /// and `recvall` catch no `ConnectionResetError`). Run this exchange after a potential has
    /// failed, after a reply or positions were refused, and whenever a driver gives up between
    /// positions and forces; then close. [`serve`](crate::serve()) does this itself.
    ///
    /// Every server sends a command together with positions or right after them: GETFORCE in
    /// consolidated conversations, STATUS in classic ones. This exchange reads everything up to
    /// that command and answers nothing. If a driver leaves a STATUS unanswered, a classic i-PI
    /// counts it as lost. If a driver answers HAVEDATA and then closes, i-PI has sent GETFORCE and
    /// asks in an endless loop (`_recv_forceready` compares bytes with the string `""`).
    ///
    /// The exchange is done at once if no command will come: the server has ended the conversation,
    /// waits for a reply that it has asked for, no positions have begun, or the server violated the
    /// protocol ([`UnknownHeader`](ProtocolError::UnknownHeader)). Afterwards the conversation is
    /// over. Every other exchange returns the driver's earlier error, or
    /// [`Drained`](ProtocolError::Drained): [`reset`](Self::reset) the driver and connect again.
    ///
    /// # Errors
    ///
    /// No errors of its own. The connection's: an answer to STATUS that was written before is
    /// flushed first.
    ///
    /// # Cancel safety
    ///
    /// The exchange may be dropped at any point; make a new one to continue.
    pub const fn drain(&mut self) -> Drain<'_> {
        Drain { driver: self }
    }
}

/// Reads what the server has sent before the connection is closed. Made by [`Driver::drain`].
#[derive(Debug)]
#[must_use = "an exchange does nothing by itself: run it over a transport"]
pub struct Drain<'a> {
    driver: &'a mut Driver,
}

impl Drain<'_> {
    /// Whether the server will send a command without waiting for this driver. Returns how many
    /// bytes of the scratch may be its beginning.
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

    /// Gives up the driver's current work.
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

    /// Searches this many bytes of the scratch for the command.
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
                // A byte that does not match may begin another command. No command contains the
                // beginning of a command, except for the second S of STATUS, and numbers would have
                // to end in that.
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

/// Whether the driver's error came from POSDATA.
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
