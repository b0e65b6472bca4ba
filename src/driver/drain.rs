//! Reading what a server has sent before the connection is closed.

use super::{Driver, Phase, State};
use crate::exchange::{Awaited, Exchange, Sealed, Step, Wait};
use crate::protocol::{Header, ProtocolError, Quantity};

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
    /// Keep the exchange and run it again to go on. One that is made anew is done at once.
    pub const fn drain(&mut self) -> Drain<'_> {
        let have_data = matches!(self.phase, Phase::HaveData);
        // Whether the server sends a command without waiting for anything of this driver.
        let awaits = match self.state {
            State::Receiving {
                message: Header::PosData,
                ..
            }
            | State::Received => true,
            State::Idle | State::Receiving { .. } | State::Answering => have_data,
            State::Failed(error) => refuses_positions(error) && !self.drained,
            _ => false,
        };
        let begun = match self.state {
            State::Idle => self.progress.at,
            _ => 0,
        };
        Drain {
            driver: self,
            awaits,
            begun,
            rest: &[],
        }
    }
}

/// The exchange that reads what the server has sent before the connection is closed; made by [`Driver::drain`].
#[derive(Debug)]
#[must_use = "an exchange does nothing by itself: run it over a transport"]
pub struct Drain<'a> {
    driver: &'a mut Driver,
    /// The command has not come.
    awaits: bool,
    /// Bytes in the scratch that came before this exchange and may begin the command.
    begun: usize,
    /// What remains of the command that may have begun; empty if none has.
    rest: &'static [u8],
}

impl Drain<'_> {
    /// Looks for the command in the first bytes of the scratch.
    fn look(&mut self, len: usize) {
        for &byte in self
            .driver
            .progress
            .scratch
            .0
            .get(..len)
            .unwrap_or_default()
        {
            // C programs may pad a header with NULs.
            let byte = if byte == 0 { b' ' } else { byte };
            self.rest = match self.rest {
                [next] if *next == byte => {
                    self.awaits = false;
                    return;
                }
                [next, rest @ ..] if *next == byte => rest,
                // A byte that does not fit may begin another one: none begins in the middle of itself or another, but
                // for the second S of STATUS, with which numbers would have to end.
                _ => match byte {
                    b'G' => after_first(Header::GetForce),
                    b'S' => after_first(Header::Status),
                    b'E' => after_first(Header::Exit),
                    _ => &[],
                },
            };
        }
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
        // The conversation is over, whether this exchange comes to its end or not.
        self.driver.drained = true;
        if !matches!(self.driver.state, State::Exited | State::Failed(_)) {
            self.driver.state = State::Closed;
        }
        let begun = core::mem::take(&mut self.begun);
        self.look(begun);
        if self.awaits {
            Ok(Step::Read(&mut self.driver.progress.scratch.0))
        } else {
            Ok(Step::Done(()))
        }
    }

    fn advance(&mut self, n: usize) {
        let progress = &mut self.driver.progress;
        progress.traffic.received += n as u64;
        progress.message = progress.message.saturating_add(n);
        self.look(n);
    }

    fn end(&mut self) {
        self.awaits = false;
    }

    fn midway(&self) -> bool {
        false
    }

    #[inline(always)]
    fn waits_for(&self) -> Wait {
        let wait = self.driver.waits_for(Awaited::Nothing);
        if self.awaits {
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
