//! A conversation of a server as a script.

use forcewire::{Cell, ProtocolError, Request, Scalar, Server, Status, Traffic, Virial};

use super::bytes::{Answer, Structure};
use super::driver::UNTOUCHED;
use super::wire::{Pause, Split, Wire};

/// Begins a script for a server with room for 64 bytes of extras, in double precision.
pub fn script(server: &mut Server, split: Split) -> Script<'_, f64> {
    script_with_room(server, split, 64)
}

/// Begins a script for a server with this much room for extras.
pub fn script_with_room<T: Scalar>(
    server: &mut Server,
    split: Split,
    extras: usize,
) -> Script<'_, T> {
    Script {
        before: server.traffic(),
        server,
        wire: Wire::new(split),
        moved: Traffic::default(),
        replica: 0,
        text: Vec::new(),
        cells: Vec::new(),
        positions: Vec::new(),
        forces: Vec::new(),
        extras: vec![UNTOUCHED_BYTE; extras],
        answers: Vec::new(),
        call: None,
        outcome: None,
    }
}

/// The contents of the buffer for extras before anything has arrived.
pub const UNTOUCHED_BYTE: u8 = b'#';

/// The caller's call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Call {
    Status,
    Initialize,
    Send,
    Forces,
    Evaluate,
    Exit,
}

/// The result of a call; its numbers are in the caller's arrays.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    Status(Status),
    Done,
    Answered(forcewire::Answer),
}

/// A conversation, line by line. Everything that the server sends or a call returns must be
/// expected by the next line.
///
/// The caller's arrays have the length of the request; `evaluates` and `sends` renew them.
pub struct Script<'s, T: Scalar> {
    server: &'s mut Server,
    wire: Wire,
    /// The server's traffic before the script, and our own count since.
    before: Traffic,
    moved: Traffic,
    replica: i32,
    text: Vec<u8>,
    cells: Vec<Cell>,
    positions: Vec<[T; 3]>,
    forces: Vec<[T; 3]>,
    extras: Vec<u8>,
    answers: Vec<forcewire::Answer>,
    call: Option<Call>,
    outcome: Option<Result<Outcome, ProtocolError>>,
}

impl<T: Scalar> Script<'_, T> {
    /// Sets the replica of INIT.
    pub fn for_replica(mut self, replica: i32) -> Self {
        self.replica = replica;
        self
    }

    /// Sets the text of INIT.
    pub fn with_text(mut self, text: impl AsRef<[u8]>) -> Self {
        self.text = text.as_ref().to_vec();
        self
    }

    // ---- the caller's calls ----

    /// The caller asks for the driver's status.
    #[track_caller]
    pub fn asks(self) -> Self {
        self.calls(Call::Status)
    }

    /// The caller initializes the driver with the replica and text set before.
    #[track_caller]
    pub fn initializes(self) -> Self {
        self.calls(Call::Initialize)
    }

    /// The caller sends positions.
    #[track_caller]
    pub fn sends(self, structure: &Structure) -> Self {
        self.sends_batch(std::slice::from_ref(structure))
    }

    /// The caller sends the positions of several structures.
    #[track_caller]
    pub fn sends_batch(mut self, structures: &[Structure]) -> Self {
        self.give(structures);
        self.calls(Call::Send)
    }

    /// The caller has arrays for this structure, which was sent before the script began.
    pub fn has_sent(mut self, structure: &Structure) -> Self {
        self.give(std::slice::from_ref(structure));
        self
    }

    /// The caller receives the forces for what was sent.
    #[track_caller]
    pub fn takes(self) -> Self {
        self.calls(Call::Forces)
    }

    /// The caller lets the driver compute a structure.
    #[track_caller]
    pub fn evaluates(self, structure: &Structure) -> Self {
        self.evaluates_batch(std::slice::from_ref(structure))
    }

    /// The caller lets the driver compute several structures at once.
    #[track_caller]
    pub fn evaluates_batch(mut self, structures: &[Structure]) -> Self {
        self.give(structures);
        self.calls(Call::Evaluate)
    }

    /// The caller no longer needs the driver.
    #[track_caller]
    pub fn exits(self) -> Self {
        self.calls(Call::Exit)
    }

    /// The caller makes this call with its present arrays. The earlier call is dropped.
    #[track_caller]
    pub fn calls(mut self, call: Call) -> Self {
        assert_eq!(self.outcome, None, "{:?}: not expected", self.wire.split);
        self.call = Some(call);
        self.go_on();
        self
    }

    // ---- the driver's messages ----

    /// The driver sends these bytes.
    pub fn hears(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.wire.inbox.extend(bytes.as_ref());
        self.go_on();
        self
    }

    /// The driver closes its side.
    pub fn hears_the_end(mut self) -> Self {
        self.wire.ended = true;
        self.go_on();
        self
    }

    // ---- expectations ----

    /// Expects that the server has sent exactly these bytes since the last such line.
    #[track_caller]
    pub fn says(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.wire.has_said(bytes.as_ref());
        self
    }

    /// Expects that the server has sent nothing.
    #[track_caller]
    pub fn says_nothing(self) -> Self {
        self.says(b"")
    }

    /// Expects that the call waits for the driver.
    #[track_caller]
    pub fn waits(self) -> Self {
        assert_eq!(self.outcome, None, "{:?}: not expected", self.wire.split);
        assert_ne!(self.call, None, "{:?}: nothing is called", self.wire.split);
        self
    }

    /// The caller drops its call.
    #[track_caller]
    pub fn drops(self) -> Self {
        let mut script = self.waits();
        script.call = None;
        script
    }

    /// Expects that the call has not ended with an error.
    #[track_caller]
    pub fn goes_on(mut self) -> Self {
        let outcome = self.end();
        assert!(!matches!(outcome, Some(Err(_))), "{outcome:?}");
        self.wire.outbox.clear();
        self
    }

    /// Expects that the call ends with this status.
    #[track_caller]
    pub fn learns(mut self, status: Status) -> Self {
        let (outcome, expected) = (self.end(), Some(Ok(Outcome::Status(status))));
        assert_eq!(outcome, expected, "{:?}", self.wire.split);
        self
    }

    /// Expects that the call ends without a result.
    #[track_caller]
    pub fn ends(mut self) -> Self {
        let (outcome, expected) = (self.end(), Some(Ok(Outcome::Done)));
        assert_eq!(outcome, expected, "{:?}", self.wire.split);
        self
    }

    /// Expects that the call ends with this answer, and with as much of its extras as there was
    /// room for.
    #[track_caller]
    pub fn gets(self, answer: &Answer) -> Self {
        self.gets_batch(std::slice::from_ref(answer))
    }

    /// Expects that the call ends with these answers.
    #[track_caller]
    pub fn gets_batch(mut self, answers: &[Answer]) -> Self {
        let split = self.wire.split;
        let first = match self.end() {
            Some(Ok(Outcome::Answered(first))) => first,
            outcome => panic!("{split:?}: {outcome:?}"),
        };
        let got = match answers {
            [_] => &[first][..],
            _ => &self.answers[..],
        };
        assert_eq!(got.len(), answers.len(), "{split:?}");
        assert_eq!(got[0].extras_sent(), first.extras_sent(), "{split:?}");
        let mut room = self.extras.len();
        for (got, expected) in got.iter().zip(answers) {
            let evaluation = &expected.evaluation;
            assert_eq!(
                got.evaluation.energy.to_bits(),
                evaluation.energy.to_bits(),
                "{split:?}"
            );
            assert_eq!(
                bits(&got.evaluation.virial),
                bits(&evaluation.virial),
                "{split:?}"
            );
            let kept = expected.extras.len().min(room);
            room -= kept;
            assert_eq!(
                got.extras(&self.extras),
                &expected.extras[..kept],
                "{split:?}"
            );
            assert_eq!(got.extras_sent(), expected.extras.len(), "{split:?}");
        }
        let behind = &self.extras[self.extras.len() - room..];
        assert!(behind.iter().all(|&byte| byte == UNTOUCHED_BYTE));
        let forces = answers.iter().flat_map(|it| &it.forces);
        let forces: Vec<_> = forces.map(|it| it.map(T::from_f64)).collect();
        let bits = |forces: &[[T; 3]]| -> Vec<u64> {
            let numbers = forces.as_flattened().iter();
            numbers.map(|x| x.to_f64().to_bits()).collect()
        };
        assert_eq!(bits(&self.forces), bits(&forces), "{split:?}");
        self
    }

    /// Expects that the call ends with this error, each time that it is stepped.
    #[track_caller]
    pub fn refuses(mut self, error: ProtocolError) -> Self {
        let expected = Some(Err(error));
        assert_eq!(self.outcome.take(), expected, "{:?}", self.wire.split);
        self.go_on();
        assert_eq!(self.end(), expected, "{:?}", self.wire.split);
        self
    }

    /// Expects that a call with arrays for this many forces, answers and bytes of extras returns
    /// this error and sends nothing.
    #[track_caller]
    pub fn refuses_with(
        mut self,
        [forces, answers, extras]: [usize; 3],
        call: Call,
        error: ProtocolError,
    ) -> Self {
        let untouched = T::from_f64(UNTOUCHED);
        let mut others = (
            vec![[untouched; 3]; forces],
            vec![forcewire::Answer::default(); answers],
            vec![UNTOUCHED_BYTE; extras],
        );
        let mut swap = |script: &mut Self| {
            std::mem::swap(&mut script.forces, &mut others.0);
            std::mem::swap(&mut script.answers, &mut others.1);
            std::mem::swap(&mut script.extras, &mut others.2);
        };
        swap(&mut self);
        let mut script = self.calls(call).refuses(error).says_nothing();
        swap(&mut script);
        script
    }

    /// Expects that the server knows this status of the driver without asking.
    #[track_caller]
    pub fn knows(self, status: Status) -> Self {
        assert_eq!(self.server.last_status(), status, "{:?}", self.wire.split);
        self
    }

    /// The caller resets the server, and another driver connects.
    pub fn reconnects(mut self) -> Self {
        self.server.reset();
        self.wire.reconnect();
        self.call = None;
        self.outcome = None;
        self
    }

    /// Inspects the server.
    pub fn then(self, look: impl FnOnce(&mut Server)) -> Self {
        look(self.server);
        self
    }

    fn give(&mut self, structures: &[Structure]) {
        self.cells = structures.iter().map(Structure::cell).collect();
        let positions = structures.iter().flat_map(|it| &it.positions);
        self.positions = positions.map(|it| it.map(T::from_f64)).collect();
        self.forces = vec![[T::from_f64(UNTOUCHED); 3]; self.positions.len()];
        self.extras.fill(UNTOUCHED_BYTE);
        self.answers = match structures {
            [_] => Vec::new(),
            _ => vec![forcewire::Answer::default(); structures.len()],
        };
    }

    /// Takes the result of the call, which is over then.
    fn end(&mut self) -> Option<Result<Outcome, ProtocolError>> {
        self.call = None;
        self.outcome.take()
    }

    /// Moves bytes until the server waits for more, or the call is over.
    fn go_on(&mut self) {
        let Some(call) = self.call.filter(|_| self.outcome.is_none()) else {
            return;
        };
        let before = (self.wire.inbox.len(), self.wire.outbox.len());
        let request = Request::batch(&self.cells, &self.positions)
            .replica(self.replica)
            .init(&self.text);
        let (server, wire) = (&mut *self.server, &mut self.wire);
        let (answers, forces) = (&mut self.answers, &mut self.forces);
        let extras = &mut self.extras;
        self.outcome = loop {
            let pause = match call {
                Call::Status => wire.carry(server.status()).map(Outcome::Status),
                Call::Initialize => {
                    let initialize = server.initialize(self.replica, &self.text);
                    wire.carry(initialize).map(|()| Outcome::Done)
                }
                Call::Send => wire
                    .carry(server.send_positions(request))
                    .map(|()| Outcome::Done),
                Call::Forces => wire
                    .carry(server.get_forces_batch(answers, forces, extras))
                    .map(Outcome::Answered),
                Call::Evaluate => wire
                    .carry(server.evaluate_batch(request, answers, forces, extras))
                    .map(Outcome::Answered),
                Call::Exit => wire.carry(server.exit()).map(|()| Outcome::Done),
            };
            match pause {
                Pause::Anew => {}
                Pause::Waiting => break None,
                Pause::Over(outcome) => break Some(outcome),
            }
        };
        self.moved.received += (before.0 - self.wire.inbox.len()) as u64;
        self.moved.sent += (self.wire.outbox.len() - before.1) as u64;
    }
}

fn bits(virial: &Virial) -> Vec<u64> {
    let numbers = virial.0.as_flattened().iter();
    numbers.map(|x| x.to_bits()).collect()
}

impl<T: Scalar> Drop for Script<'_, T> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.outcome, None, "{:?}: not expected", self.wire.split);
            let said = self.wire.outbox.escape_ascii().to_string();
            assert_eq!(said, "", "{:?}: not expected", self.wire.split);
            let all = Traffic {
                received: self.before.received + self.moved.received,
                sent: self.before.sent + self.moved.sent,
            };
            assert_eq!(self.server.traffic(), all, "{:?}", self.wire.split);
        }
    }
}
