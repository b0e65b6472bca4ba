//! The state of a server and its driver, and the next states if nothing fails.

use std::cell::{Cell, RefCell};
use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::Hasher;
use std::io::Write;

use forcewire::{
    Answer, Driver, Evaluation, Event, Exchange, ProtocolError, Request, Server, Sink, Source, Step,
};

use crate::copy::copy;
use crate::numbers::{Book, FIRST, Question, Received, SECOND, Taken, Truth, Untouched};
use crate::walk::Plan;

/// The constant data of a walk.
pub struct Scene {
    pub plan: Plan,
    pub book: Book,
    /// Arrays that no message has written to: the initial ones of exchanges, and others.
    pub usual: (Received, Taken),
    pub other: (Received, Taken),
    /// Two sets of arrays for exchanges, at two fixed addresses.
    desks: RefCell<[Desk; 2]>,
}

#[derive(Default)]
struct Desk {
    question: Question,
    taken: Taken,
    received: Received,
    truth: Truth,
}

impl Scene {
    pub fn new(plan: Plan) -> Self {
        Self {
            plan,
            book: Book::new(&plan),
            usual: (
                Untouched::Usual.received(&plan),
                Untouched::Usual.taken(&plan),
            ),
            other: (
                Untouched::Other.received(&plan),
                Untouched::Other.taken(&plan),
            ),
            desks: RefCell::default(),
        }
    }
}

/// The complete state.
pub struct State {
    pub server: Server,
    pub driver: Driver,
    pub down: Vec<u8>,
    pub up: Vec<u8>,
    pub asker: Asker,
    pub worker: Worker,
    /// The evaluation that the asker requests. It changes after each complete one.
    pub wanted: usize,
    /// The evaluation whose positions are being sent or were sent, until its answer has been
    /// returned or discarded.
    pub begun: Option<usize>,
    /// The incomplete message of each side, and the contents of its arrays.
    pub server_has: Partial,
    pub driver_has: Partial,
    pub taken: Taken,
    pub received: Received,
    /// Whether the arrays no longer hold what the accepted message has written. They are not
    /// changed a second time.
    pub altered: (bool, bool),
    /// The two halves of the state's identity, if they are known.
    server_side: Cell<Option<u128>>,
    driver_side: Cell<Option<u128>>,
}

/// The exchange of the server's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    Evaluates,
    /// The steps of an evaluation, as separate exchanges.
    Asks,
    Initializes,
    Sends,
    Takes,
    Discards,
    Exits,
    /// The asking side has closed the connection and waits for the next one.
    Away,
}

/// The activity of the driver's side for this evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worker {
    Receives,
    /// It answers STATUS meanwhile.
    Computes(usize),
    Replies(usize),
    Away,
}

/// How much of an incomplete message has moved, and a digest of that part.
#[derive(Clone, Copy, Default)]
pub struct Partial {
    moved: usize,
    digest: u64,
    first: u8,
}

/// How an exchange is made.
#[derive(Clone, Copy, Default)]
pub struct How {
    /// Which of the two addresses its arrays have.
    pub desk: usize,
    /// Which of its arrays is too short by one.
    pub short: Option<Array>,
    /// With numbers in single precision; the exchange is only stepped.
    pub single: bool,
    /// With a sink or a source instead of an array; the exchange is only stepped.
    pub windows: bool,
    /// The exchange is only stepped, and no bytes move.
    pub looks: bool,
    /// A change of the reply.
    pub reply: Option<ReplyChange>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Array {
    Answers,
    Forces,
    Extras,
    Cells,
    Positions,
}

/// How a reply differs from the one that belongs to the positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyChange {
    /// The reply to other positions.
    All,
    Energy,
    FirstForce,
    LastForce,
    Virial,
    Extras,
    NanEnergy,
    NanForce,
    NanVirial,
    OneForceTooFew,
    OneEvaluationTooFew,
}

impl ReplyChange {
    pub const fn is_an_error(self) -> bool {
        matches!(
            self,
            Self::NanEnergy
                | Self::NanForce
                | Self::NanVirial
                | Self::OneForceTooFew
                | Self::OneEvaluationTooFew
        )
    }

    fn change(self, truth: &mut Truth, other: &Truth, structures: usize) {
        let last = structures - 1;
        match self {
            Self::All => truth.clone_from(other),
            Self::Energy => truth.evaluations[last].energy = other.evaluations[last].energy,
            Self::FirstForce => truth.forces[0][0] = other.forces[0][0],
            Self::LastForce => {
                let (to, from) = (truth.forces.last_mut(), other.forces.last());
                to.expect("a force")[2] = from.expect("a force")[2];
            }
            Self::Virial => {
                let number = other.evaluations[last].virial.0[2][2];
                truth.evaluations[last].virial.0[2][2] = number;
            }
            Self::Extras => truth.extras[last] = other.extras[last],
            Self::NanEnergy => truth.evaluations[last].energy = f64::NAN,
            Self::NanForce => truth.forces.last_mut().expect("a force")[2] = f64::NAN,
            Self::NanVirial => truth.evaluations[last].virial.0[2][2] = f64::NAN,
            Self::OneForceTooFew => {
                truth.forces.pop();
            }
            Self::OneEvaluationTooFew => {
                truth.evaluations.pop();
                truth.extras.pop();
            }
        }
    }
}

/// The outcome of an exchange.
#[derive(Debug)]
pub enum Outcome {
    /// The exchange waits for the other side, or was only stepped.
    Blocked,
    /// Bytes have moved, or one side has advanced.
    Moved,
    /// An evaluation is complete.
    Complete,
    Refused(ProtocolError),
}

/// The outcome of one step of an exchange.
enum Carried<T> {
    Blocked,
    Moved,
    Done(T),
    Refused(ProtocolError),
}

impl<T> Carried<T> {
    fn map<U>(self, f: impl FnOnce(T) -> U) -> Carried<U> {
        match self {
            Self::Blocked => Carried::Blocked,
            Self::Moved => Carried::Moved,
            Self::Done(output) => Carried::Done(f(output)),
            Self::Refused(error) => Carried::Refused(error),
        }
    }
}

/// The source and the destination of an exchange's bytes.
struct Link<'a> {
    piece: usize,
    looks: bool,
    inbox: &'a mut Vec<u8>,
    /// None if nothing reads what is sent, and no bytes will arrive after those in the inbox.
    outbox: Option<(&'a mut Vec<u8>, usize)>,
    has: &'a mut Partial,
}

impl Link<'_> {
    /// Lets an exchange move a piece, or notice the end of the stream.
    fn carry<T: Exchange>(self, mut exchange: T) -> Carried<T::Output> {
        let has = self.has;
        let alone = self.outbox.is_none();
        let moved = match exchange.step() {
            Ok(Step::Done(output)) => return Carried::Done(output),
            Err(error) => return Carried::Refused(error),
            Ok(_) if self.looks => return Carried::Blocked,
            Ok(Step::Write(slice)) => {
                let n = slice.len().min(self.piece);
                let n = match self.outbox {
                    Some((queue, room)) => {
                        let n = n.min(room - queue.len());
                        queue.extend(&slice[..n]);
                        n
                    }
                    None => n,
                };
                if n == 0 {
                    return Carried::Blocked;
                }
                has.add(&slice[..n]);
                n
            }
            Ok(Step::Read(_)) if self.inbox.is_empty() && alone => {
                exchange.end();
                return Carried::Moved;
            }
            Ok(Step::Read(_)) if self.inbox.is_empty() => return Carried::Blocked,
            Ok(Step::Read(slice)) => {
                let n = slice.len().min(self.piece).min(self.inbox.len());
                slice[..n].copy_from_slice(&self.inbox[..n]);
                has.add(&slice[..n]);
                self.inbox.drain(..n);
                n
            }
        };
        exchange.advance(moved);
        Carried::Moved
    }
}

impl Partial {
    fn add(&mut self, bytes: &[u8]) {
        if self.moved == 0 {
            self.first = bytes[0];
        }
        self.moved += bytes.len();
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.digest);
        hasher.write(bytes);
        self.digest = hasher.finish();
    }
}

/// A sink and a source that move nothing: exchanges with them are only stepped.
struct Window(usize);

impl Sink for Window {
    type Real = f64;

    fn begin(&mut self, natoms: usize) -> bool {
        natoms <= self.0
    }

    fn put(&mut self, _: usize, _: &[[f64; 3]]) {
        unreachable!("nothing has moved");
    }
}

impl Source for Window {
    type Real = f64;

    fn natoms(&self) -> usize {
        self.0
    }

    fn get(&mut self, _: usize, forces: &mut [[f64; 3]]) {
        forces.fill([1.0; 3]);
    }
}

/// Adds the next step of an exchange to the text.
fn look<T: Exchange>(mut exchange: T, text: &mut Vec<u8>) {
    match exchange.step() {
        Ok(Step::Read(slice)) => text.extend([0, slice.len() as u8]),
        Ok(Step::Write(slice)) => text.extend(slice.iter()),
        Ok(Step::Done(_)) => text.push(1),
        Err(_) => text.push(2),
    }
    text.extend([
        u8::from(exchange.midway()),
        exchange.waits_for().owed().into(),
    ]);
}

/// A digest with two halves, so that two states do not coincide by chance.
fn identity(text: &[u8]) -> u128 {
    let half = |salt: u64| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(salt);
        hasher.write(text);
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}

impl State {
    /// A new connection.
    pub fn new(scene: &Scene, wanted: usize) -> Self {
        let plan = &scene.plan;
        Self {
            server: Server::new().mode(plan.mode),
            driver: Driver::new().initialize(plan.initialize),
            down: Vec::new(),
            up: Vec::new(),
            asker: Asker::Evaluates,
            worker: Worker::Receives,
            wanted,
            begun: None,
            server_has: Partial::default(),
            driver_has: Partial::default(),
            taken: scene.usual.1.clone(),
            received: scene.usual.0.clone(),
            altered: (false, false),
            server_side: Cell::default(),
            driver_side: Cell::default(),
        }
    }

    pub fn copy(&self) -> Self {
        Self {
            server: copy(&self.server),
            driver: copy(&self.driver),
            down: self.down.clone(),
            up: self.up.clone(),
            taken: self.taken.clone(),
            received: self.received.clone(),
            server_side: self.server_side.clone(),
            driver_side: self.driver_side.clone(),
            ..*self
        }
    }

    /// The identity of this state. A check shows that it is sufficient: whenever a state is reached
    /// again, it must continue as it did the first time.
    pub fn identity(&self, scene: &Scene) -> u128 {
        let mut text = Vec::with_capacity(4096);
        let sides = [self.server_side(scene), self.driver_side(scene)];
        text.extend(sides.map(u128::to_le_bytes).as_flattened());
        for bytes in [&self.down, &self.up] {
            text.extend(bytes.len().to_le_bytes());
            text.extend(bytes);
        }
        identity(&text)
    }

    /// The identity of the server's side, including its caller.
    pub fn server_side(&self, scene: &Scene) -> u128 {
        let side = self.server_side.get();
        let side = side.unwrap_or_else(|| self.describe_server(scene));
        self.server_side.set(Some(side));
        side
    }

    /// The identity of the driver's side, including its caller.
    pub fn driver_side(&self, scene: &Scene) -> u128 {
        let side = self.driver_side.get();
        let side = side.unwrap_or_else(|| self.describe_driver(scene));
        self.driver_side.set(Some(side));
        side
    }

    /// Call this after a change that no move has made.
    pub fn forget_identity(&self) {
        self.server_side.set(None);
        self.driver_side.set(None);
    }

    fn describe_server(&self, scene: &Scene) -> u128 {
        let mut text = Vec::with_capacity(4096);
        let parts = (
            self.asker,
            self.wanted,
            self.begun,
            self.is_altered(scene, true),
        );
        write!(text, "{parts:?}").expect("a Vec takes everything");
        let begun = text.len();
        describe(&self.server, &self.server_has, &mut text);
        if !self.is_midway() {
            forget_looks(&mut text, begun);
        }
        for answer in &self.taken.answers {
            text.extend(answer.evaluation.energy.to_le_bytes());
            add_reals(answer.evaluation.virial.0.as_flattened(), &mut text);
            text.push(answer.extras(&[0; 64]).len() as u8);
        }
        add_reals(self.taken.forces.as_flattened(), &mut text);
        text.extend(&self.taken.extras);
        // Parts of the state that are hidden, by their effect.
        let request = |which: usize| {
            let question: &Question = &scene.book.questions[which];
            Request::batch(&question.cells, &question.positions)
                .replica(question.replica)
                .init(&question.text)
        };
        let natoms = scene.plan.natoms;
        let structures = |which: usize| scene.book.questions[which].cells.len();
        let mut taken = self.taken.clone();
        look(copy(&self.server).status(), &mut text);
        look(copy(&self.server).discard(), &mut text);
        look(copy(&self.server).exit(), &mut text);
        let (arrays, n) = (&mut taken, structures(self.begun.unwrap_or(self.wanted)));
        let (answers, forces) = (&mut arrays.answers[..n], &mut arrays.forces[..n * natoms]);
        let (mut server, extras) = (copy(&self.server), &mut arrays.extras);
        look(server.get_forces_batch(answers, forces, extras), &mut text);
        for (which, question) in scene.book.questions.iter().enumerate() {
            if which == FIRST || which == SECOND {
                let mut server = copy(&self.server);
                let initialize = server.initialize(question.replica, &question.text);
                look(initialize, &mut text);
                let mut server = copy(&self.server);
                look(server.send_positions(request(which)), &mut text);
            }
            taken.clone_from(&self.taken);
            let (arrays, n) = (&mut taken, structures(which));
            let (answers, forces) = (&mut arrays.answers[..n], &mut arrays.forces[..n * natoms]);
            let (mut server, extras) = (copy(&self.server), &mut arrays.extras);
            let evaluate = server.evaluate_batch(request(which), answers, forces, extras);
            look(evaluate, &mut text);
        }
        identity(&text)
    }

    fn describe_driver(&self, scene: &Scene) -> u128 {
        let mut text = Vec::with_capacity(4096);
        let parts = (
            self.worker,
            self.driver.replica(),
            self.is_altered(scene, false),
        );
        write!(text, "{parts:?}").expect("a Vec takes everything");
        describe(&self.driver, &self.driver_has, &mut text);
        text.extend(self.driver.init_text());
        for cell in &self.received.cells {
            add_reals(cell.h().as_flattened(), &mut text);
        }
        add_reals(self.received.positions.as_flattened(), &mut text);
        for mut arrays in [self.received.clone(), scene.usual.0.clone()] {
            let (cells, positions) = (&mut arrays.cells, &mut arrays.positions);
            look(
                copy(&self.driver).receive_batch(cells, positions),
                &mut text,
            );
        }
        look(copy(&self.driver).await_getforce(), &mut text);
        let structures = self.driver.structures().min(2);
        let atoms = structures * scene.plan.natoms;
        for which in [FIRST, SECOND] {
            let truth = &scene.book.truths[which];
            let (evaluations, forces) = (&truth.evaluations[..structures], &truth.forces[..atoms]);
            let extras = &truth.extras[..structures];
            let mut driver = copy(&self.driver);
            look(driver.reply_batch(evaluations, forces, extras), &mut text);
        }
        identity(&text)
    }

    /// Whether the arrays of the server or the driver hold data that no message has written.
    pub fn is_altered(&self, scene: &Scene, servers: bool) -> bool {
        let (received, taken) = &scene.usual;
        if servers {
            self.altered.0 && self.taken != *taken
        } else {
            self.altered.1 && self.received != *received
        }
    }

    /// Whether a message of the server has moved in part.
    pub fn is_midway(&self) -> bool {
        copy(&self.server).status().midway()
    }

    /// The server closes the connection or restarts; the bytes that it has sent may still arrive.
    pub fn server_leaves(&mut self, scene: &Scene) {
        self.forget_identity();
        self.server.reset();
        self.altered.0 = false;
        self.server_has = Partial::default();
        self.taken.clone_from(&scene.usual.1);
        self.begun = None;
        self.up.clear();
        self.asker = Asker::Away;
    }

    pub fn driver_leaves(&mut self, scene: &Scene) {
        self.forget_identity();
        self.driver.reset();
        self.altered.1 = false;
        self.driver_has = Partial::default();
        self.received.clone_from(&scene.usual.0);
        self.down.clear();
        self.worker = Worker::Away;
    }

    /// Lets the server's exchange move a piece, and checks its result.
    pub fn server_moves(&mut self, scene: &Scene, how: How) -> Outcome {
        let plan = &scene.plan;
        let alone = self.worker == Worker::Away;
        let which = match self.asker {
            Asker::Takes => self.begun.unwrap_or(self.wanted),
            _ => self.wanted,
        };
        self.server_side.set(None);
        let begins = self.server_has.moved == 0;
        let mut desks = scene.desks.borrow_mut();
        let desk = &mut desks[how.desk];
        desk.question.clone_from(&scene.book.questions[self.wanted]);
        desk.taken.clone_from(&self.taken);
        let structures = scene.book.questions[which].cells.len();
        let short = |array| usize::from(how.short == Some(array));
        let Desk {
            question, taken, ..
        } = desk;
        let answers = &mut taken.answers[..structures - short(Array::Answers)];
        let forces = &mut taken.forces[..structures * plan.natoms - short(Array::Forces)];
        let extras_len = taken.extras.len() - short(Array::Extras);
        let extras = &mut taken.extras[..extras_len];
        let request = Request::batch(&question.cells, &question.positions)
            .replica(question.replica)
            .init(&question.text);
        let link = Link {
            piece: plan.piece,
            looks: how.looks || how.single,
            inbox: &mut self.up,
            outbox: (!alone).then_some((&mut self.down, plan.room.0)),
            has: &mut self.server_has,
        };
        let nothing = |()| Answer::default();
        let server = &mut self.server;
        let carried = match self.asker {
            Asker::Away => return Outcome::Blocked,
            Asker::Exits => link.carry(server.exit()).map(nothing),
            Asker::Asks => link.carry(server.status()).map(|_| Answer::default()),
            Asker::Initializes => {
                let initialize = server.initialize(question.replica, &question.text);
                link.carry(initialize).map(nothing)
            }
            Asker::Discards => link.carry(server.discard()).map(nothing),
            _ if how.single => {
                let round = |it: &[f64; 3]| it.map(|x| x as f32);
                let positions: Vec<_> = question.positions.iter().map(round).collect();
                let mut forces: Vec<_> = forces.iter().map(round).collect();
                let request = Request::batch(&question.cells, &positions)
                    .replica(question.replica)
                    .init(&question.text);
                match self.asker {
                    Asker::Sends => link.carry(server.send_positions(request)).map(nothing),
                    Asker::Takes => {
                        link.carry(server.get_forces_batch(answers, &mut forces, extras))
                    }
                    _ => link.carry(server.evaluate_batch(request, answers, &mut forces, extras)),
                }
            }
            Asker::Sends => link.carry(server.send_positions(request)).map(nothing),
            Asker::Takes => link.carry(server.get_forces_batch(answers, forces, extras)),
            Asker::Evaluates => link.carry(server.evaluate_batch(request, answers, forces, extras)),
        };
        self.taken.clone_from(taken);
        if self.server_has.moved > 0 {
            match self.server_has.first {
                b'P' if begins => self.begun = Some(self.wanted),
                // STATUS and INIT are sent, and READY and NEEDINIT arrive, only if nothing is owed.
                b'S' | b'I' | b'R' | b'N' => self.begun = None,
                _ => {}
            }
            if self.server_has.first != b'F' {
                // No part of an answer has arrived, so the contents of the arrays do not matter.
                self.taken.clone_from(&scene.usual.1);
            }
        }
        if !self.server.status().midway() {
            self.server_has = Partial::default();
        }
        let answer = match carried {
            Carried::Blocked => return Outcome::Blocked,
            Carried::Moved => return Outcome::Moved,
            Carried::Done(answer) => answer,
            Carried::Refused(error) => {
                let gone = matches!(
                    error,
                    ProtocolError::Unanswered(_) | ProtocolError::EndOfStream { .. }
                );
                // Nothing can be sent after half a message: the connection can only be closed.
                let exits =
                    self.asker == Asker::Exits && matches!(error, ProtocolError::Unfinished(_));
                if (alone && gone) || exits {
                    self.server_leaves(scene);
                    return Outcome::Moved;
                }
                return Outcome::Refused(error);
            }
        };
        match self.asker {
            Asker::Exits => self.server_leaves(scene),
            Asker::Sends => self.asker = Asker::Takes,
            Asker::Discards => {
                self.begun = None;
                self.asker = Asker::Evaluates;
            }
            Asker::Evaluates | Asker::Takes => {
                assert!(!how.single, "an answer in arrays of another type");
                if self.asker == Asker::Takes {
                    assert!(self.begun.is_some(), "an answer to nothing");
                }
                self.check_answers(scene, which, answer);
                self.taken.clone_from(&scene.usual.1);
                self.begun = None;
                self.asker = Asker::Evaluates;
                self.wanted = if self.wanted == FIRST { SECOND } else { FIRST };
                return Outcome::Complete;
            }
            _ => {
                drop(desks);
                self.chooses(scene);
            }
        }
        Outcome::Moved
    }

    /// The move of a caller that knows only what the server knows: it evaluates if that is
    /// possible, or receives what is owed, or discards it.
    fn chooses(&mut self, scene: &Scene) {
        let looks = How {
            looks: true,
            ..How::default()
        };
        for asker in [Asker::Evaluates, Asker::Takes, Asker::Discards] {
            self.asker = asker;
            match self.copy().server_moves(scene, looks) {
                Outcome::Refused(ProtocolError::AnswerDue | ProtocolError::Unfinished(_)) => {}
                _ => return,
            }
        }
    }

    /// Checks that the server's arrays hold the answer to these positions.
    fn check_answers(&self, scene: &Scene, which: usize, first: Answer) {
        let (question, truth) = (&scene.book.questions[which], &scene.book.truths[which]);
        let (natoms, taken) = (scene.plan.natoms, &self.taken);
        let structures = question.cells.len();
        assert_eq!(taken.answers[0], first, "the answer to {which}");
        for structure in 0..structures {
            let (answer, expected) = (taken.answers[structure], truth.evaluations[structure]);
            assert_eq!(
                answer.evaluation.energy, expected.energy,
                "the energy for {which}"
            );
            assert_eq!(
                answer.evaluation.virial, expected.virial,
                "the virial for {which}"
            );
            let extras = answer.extras(&taken.extras);
            assert_eq!(extras, truth.extras[structure], "the extras for {which}");
        }
        let atoms = ..structures * natoms;
        assert_eq!(
            taken.forces[atoms], truth.forces[atoms],
            "the forces for {which}"
        );
    }

    /// Lets the driver's exchange move a piece, and checks its result.
    pub fn driver_moves(&mut self, scene: &Scene, how: How) -> Outcome {
        let plan = &scene.plan;
        let alone = self.asker == Asker::Away;
        let mut desks = scene.desks.borrow_mut();
        let desk = &mut desks[how.desk];
        let link = Link {
            piece: plan.piece,
            looks: how.looks || how.single || how.windows || how.reply.is_some(),
            inbox: &mut self.down,
            outbox: (!alone).then_some((&mut self.up, plan.room.1)),
            has: &mut self.driver_has,
        };
        let structures = self.driver.structures();
        self.driver_side.set(None);
        let driver = &mut self.driver;
        // None means that the caller only wanted to continue.
        let carried = match self.worker {
            Worker::Away => return Outcome::Blocked,
            Worker::Computes(_) => link.carry(driver.await_getforce()),
            Worker::Replies(which) => {
                let truth = &mut desk.truth;
                truth.clone_from(&scene.book.truths[which]);
                truth.evaluations.truncate(structures);
                truth.extras.truncate(structures);
                truth.forces.truncate(structures * plan.natoms);
                if let Some(change) = how.reply {
                    let mut other = scene.book.truths[usize::from(which == FIRST)].clone();
                    other.evaluations.truncate(structures);
                    other.extras.truncate(structures);
                    other.forces.truncate(structures * plan.natoms);
                    change.change(truth, &other, structures);
                }
                let (evaluations, extras) = (&truth.evaluations, &truth.extras);
                let carried = if how.single {
                    let round = |it: &[f64; 3]| it.map(|x| x as f32);
                    let forces: Vec<_> = truth.forces.iter().map(round).collect();
                    link.carry(driver.reply_batch(evaluations, &forces, extras))
                } else if how.windows {
                    let mut source = Window(truth.forces.len());
                    link.carry(driver.reply_from(evaluations, &mut source, extras))
                } else {
                    if how.reply.is_some() {
                        leaves_as_it_is(driver, truth);
                    }
                    link.carry(driver.reply_batch(evaluations, &truth.forces, extras))
                };
                if let Carried::Done(()) = carried {
                    // The exchange also ends, without sending anything, if the server has ended the
                    // conversation.
                    let left = alone || self.asker == Asker::Exits;
                    assert!(how.reply.is_none() || left, "another reply has left");
                    self.worker = Worker::Receives;
                    self.driver_has = Partial::default();
                    return Outcome::Moved;
                }
                carried.map(|()| None)
            }
            Worker::Receives => {
                let received = &mut desk.received;
                received.clone_from(&self.received);
                let short = |array| usize::from(how.short == Some(array));
                let cells_len = received.cells.len() - short(Array::Cells);
                let cells = &mut received.cells[..cells_len];
                let len = received.positions.len() - short(Array::Positions);
                let positions = &mut received.positions[..len];
                let carried = if how.single {
                    let round = |it: &[f64; 3]| it.map(|x| x as f32);
                    let mut positions: Vec<_> = positions.iter().map(round).collect();
                    link.carry(driver.receive_batch(cells, &mut positions))
                } else if how.windows {
                    link.carry(driver.receive_into(cells, &mut Window(positions.len())))
                } else {
                    link.carry(driver.receive_batch(cells, positions))
                };
                self.received.clone_from(received);
                carried.map(Some)
            }
        };
        if !self.driver.await_getforce().midway() {
            self.driver_has = Partial::default();
        }
        let event = match carried {
            Carried::Blocked => return Outcome::Blocked,
            Carried::Moved => return Outcome::Moved,
            // GETFORCE has arrived: the forces are sent once they are ready.
            Carried::Done(None) => return Outcome::Blocked,
            Carried::Done(Some(event)) => event,
            Carried::Refused(ProtocolError::EndOfStream { .. }) if alone => {
                self.driver_leaves(scene);
                return Outcome::Moved;
            }
            Carried::Refused(error) => return Outcome::Refused(error),
        };
        match event {
            Event::Init { .. } => {}
            Event::Positions {
                natoms, structures, ..
            } => {
                assert!(!how.single && !how.windows, "positions in other arrays");
                assert_eq!(natoms, plan.natoms);
                let which = self.received_question(scene, structures);
                let which = which.expect("positions of one of the evaluations");
                // The positions belong neither to an earlier connection nor to a completed
                // evaluation.
                assert!(
                    alone || self.begun == Some(which),
                    "positions that nobody sent"
                );
                self.worker = Worker::Computes(which);
            }
            Event::Exit | Event::Closed => {
                assert!(alone || self.asker == Asker::Exits, "{event:?}");
                self.driver_leaves(scene);
                return Outcome::Moved;
            }
            event => panic!("{event:?}"),
        }
        self.received.clone_from(&scene.usual.0);
        Outcome::Moved
    }

    /// The evaluation whose positions are in the driver's arrays.
    pub fn received_question(&self, scene: &Scene, structures: usize) -> Option<usize> {
        let atoms = structures * scene.plan.natoms;
        let (cells, positions) = (&self.received.cells, &self.received.positions);
        scene
            .book
            .which(cells.get(..structures)?, positions.get(..atoms)?)
    }

    /// The computation ends.
    pub fn computed(&mut self) -> Outcome {
        match self.worker {
            Worker::Computes(which) => {
                self.forget_identity();
                self.worker = Worker::Replies(which);
                Outcome::Moved
            }
            _ => Outcome::Blocked,
        }
    }
}

/// If a reply may be sent now, it is this one, complete.
fn leaves_as_it_is(driver: &Driver, truth: &Truth) {
    let mut driver = copy(driver);
    let (extras, forces) = (&truth.extras, &truth.forces);
    let mut reply = driver.reply_batch(&truth.evaluations, forces, extras);
    let mut sent = Vec::new();
    while let Ok(Step::Write(slice)) = reply.step() {
        let n = slice.len();
        sent.extend(slice.iter());
        reply.advance(n);
    }
    if sent.starts_with(forcewire_support::FORCEREADY) {
        let natoms = forces.len() / truth.evaluations.len();
        let answer = |(structure, evaluation): (usize, &Evaluation)| forcewire_support::Answer {
            evaluation: *evaluation,
            forces: forces[structure * natoms..(structure + 1) * natoms].to_vec(),
            extras: extras[structure].to_vec(),
        };
        let answers: Vec<_> = truth.evaluations.iter().enumerate().map(answer).collect();
        assert!(
            sent == forcewire_support::forceready_batch(&answers),
            "another reply leaves"
        );
    }
}

/// Adds the visible state of a machine, and how much of its message has moved.
fn describe(machine: &dyn fmt::Debug, has: &Partial, text: &mut Vec<u8>) {
    text.extend(has.moved.to_le_bytes());
    text.extend(has.digest.to_le_bytes());
    // The count of bytes over all connections is not part of the state, and comes last.
    let from = text.len();
    write!(text, "{machine:?}").expect("a Vec takes everything");
    let traffic = text[from..].windows(9).rposition(|it| it == b", traffic");
    text.truncate(from + traffic.expect("the machine's traffic"));
}

/// A message that has moved no byte counts as none: the next exchange begins another one.
fn forget_looks(text: &mut Vec<u8>, begun: usize) {
    let shown = String::from_utf8_lossy(&text[begun..]).into_owned();
    let (before, state) = shown.split_once(", state: ").expect("the state");
    let (state, after) = state.split_once(", error").expect("what follows it");
    if ["Gathered", "Direct", "Header"]
        .iter()
        .any(|it| state.starts_with(it))
    {
        let shown = format!("{before}, state: Idle, error{after}");
        text.splice(begun.., shown.into_bytes());
    }
}

fn add_reals(reals: &[f64], text: &mut Vec<u8>) {
    for real in reals {
        text.extend(real.to_le_bytes());
    }
}
