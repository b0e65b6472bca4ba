//! One driver of the pool: its connection, its conversation and what it computes.

use core::time::Duration;
use std::io::{self, ErrorKind};
use std::string::String;
use std::time::Instant;
use std::vec::Vec;

use mio::Interest;

use super::{Answered, DriverId, LeftReason, Task, Ticket};
use crate::blocking::{Transport, run};
use crate::net::outbox::Outbox;
use crate::net::socket::{BUFFER, Socket, copy};
use crate::{
    Answer, Cell, DeadlineTimer, Deadlines, Error, Exchange, Mode, Request, Server, Status, Wait,
};

/// How long a replica waits for its driver to be free again before another one gets it.
const SOON: Duration = Duration::from_millis(50);

/// What a driver may send in one turn, so that none keeps the others waiting.
const TURN: usize = 1024 * 1024;

/// Bytes that came from the kernel. One for all drivers: it is empty between two turns.
#[derive(Debug)]
pub(super) struct Input {
    bytes: Vec<u8>,
    filled: usize,
    served: usize,
}

impl Input {
    pub(super) fn new() -> Self {
        Self {
            bytes: std::vec![0; BUFFER],
            filled: 0,
            served: 0,
        }
    }

    const fn is_empty(&self) -> bool {
        self.served == self.filled
    }

    const fn clear(&mut self) {
        self.served = self.filled;
    }
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) id: DriverId,
    pub(super) peer: String,
    pub(super) stage: Stage,
    pub(super) joined: bool,
    /// The replica that it had last, and whether it had that one before as well.
    pub(super) last: Option<i32>,
    pub(super) locked: bool,
    /// What the poll wakes it for.
    pub(super) interest: Interest,

    socket: Socket,
    outbox: Outbox,
    server: Server,
    mode: Mode,
    /// What it computes: nothing, a task, or the tasks of a batch with their arrays one after the other.
    work: Vec<Task>,
    cells: Vec<Cell>,
    positions: Vec<[f64; 3]>,
    forces: Vec<[f64; 3]>,
    answers: Vec<Answer>,
    extras: Vec<u8>,

    /// The kernel has no more bytes for us until it says so.
    drained: bool,
    /// The driver has closed its side: the kernel will not say so again.
    closing: bool,
    /// It has sent more than a turn takes.
    unfinished: bool,
    /// It has not taken all that there is to be sent.
    blocked: bool,
    connected: Instant,
    /// Since when it computes, or has computed.
    since: Instant,
    /// Its deadlines, since it connected.
    watch: DeadlineTimer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It has been asked what it needs.
    Asking,
    /// It has nothing to do.
    Free,
    Computing,
    /// It has been told EXIT.
    Leaving,
}

/// The connection as an exchange sees it: one that never waits.
struct Line<'a> {
    socket: &'a Socket,
    outbox: &'a mut Outbox,
    input: &'a mut Input,
    drained: &'a mut bool,
    closing: bool,
    turn: &'a mut usize,
    blocked: &'a mut bool,
}

impl Line<'_> {
    fn note<T>(&mut self, result: io::Result<T>) -> Result<T, Error<io::Error>> {
        if let Err(error) = &result {
            *self.blocked = error.kind() == ErrorKind::WouldBlock;
        }
        result.map_err(Error::Transport)
    }

    /// Reads what has come, if anything has.
    fn receive(&mut self, buffer: &mut [u8], owed: bool) -> io::Result<usize> {
        if self.input.is_empty() {
            if *self.drained && owed {
                // A peer without TCP_NODELAY waits for it, see `Stream`.
                self.socket.acknowledge_at_once();
            }
            if *self.drained || *self.turn == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            let large = buffer.len() >= BUFFER;
            let room = if large {
                &mut *buffer
            } else {
                &mut self.input.bytes
            };
            let result = self.socket.read(room);
            // Less than there was room for is all that there is, unless the end comes behind it.
            *self.drained = match &result {
                Ok(n) => *n < room.len() && !self.closing,
                Err(error) => error.kind() == ErrorKind::WouldBlock,
            };
            let n = result?;
            *self.turn = self.turn.saturating_sub(n);
            if large {
                return Ok(n);
            }
            self.input.filled = n;
            self.input.served = 0;
        }
        let input = &mut *self.input;
        let fresh = input.bytes.get(input.served..input.filled);
        let n = copy(fresh.unwrap_or_default(), buffer);
        input.served += n;
        Ok(n)
    }
}

impl Transport for Line<'_> {
    type Error = io::Error;

    fn read(&mut self, buffer: &mut [u8], wait: &Wait) -> Result<usize, Error<io::Error>> {
        let result = self.receive(buffer, wait.owed());
        result.map_err(Error::Transport)
    }

    fn write(&mut self, bytes: &[u8], _: &Wait) -> Result<usize, Error<io::Error>> {
        let result = self.outbox.write(self.socket, bytes);
        self.note(result)
    }

    fn flush(&mut self, _: &Wait) -> Result<(), Error<io::Error>> {
        let result = self.outbox.flush(self.socket);
        self.note(result)
    }
}

/// What an exchange has come to: nothing yet if the driver or the kernel has to do something first.
fn settled<T>(result: Result<T, Error<io::Error>>) -> Result<Option<T>, LeftReason> {
    match result {
        Ok(output) => Ok(Some(output)),
        Err(Error::Transport(error)) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(Error::Transport(error)) => Err(LeftReason::Lost(error)),
        Err(Error::Protocol(error)) => Err(LeftReason::Protocol(error)),
        Err(Error::TimedOut(late)) => Err(LeftReason::Late(late)),
        Err(Error::WriteZero | Error::Potential(_)) => {
            Err(LeftReason::Lost(ErrorKind::WriteZero.into()))
        }
    }
}

impl Client {
    pub(super) fn new(
        id: DriverId,
        peer: String,
        socket: Socket,
        server: Server,
        mode: Mode,
        deadlines: Deadlines,
    ) -> io::Result<Self> {
        socket.send_at_once()?;
        let now = Instant::now();
        Ok(Self {
            id,
            peer,
            // A strict driver is asked when there is something to compute.
            stage: match mode {
                Mode::Strict => Stage::Free,
                _ => Stage::Asking,
            },
            joined: mode == Mode::Strict,
            last: None,
            locked: false,
            interest: Interest::READABLE,
            socket,
            outbox: Outbox::default(),
            server,
            mode,
            work: Vec::new(),
            cells: Vec::new(),
            positions: Vec::new(),
            forces: Vec::new(),
            answers: Vec::new(),
            extras: Vec::new(),
            drained: true,
            closing: false,
            unfinished: false,
            blocked: false,
            connected: now,
            since: now,
            watch: DeadlineTimer::new(deadlines),
        })
    }

    pub(super) const fn socket(&self) -> &Socket {
        &self.socket
    }

    /// The kernel has something for us, or takes more, or tells of the end.
    pub(super) const fn woken(&mut self, closing: bool) {
        self.drained = false;
        self.closing |= closing;
    }

    /// There may be more to be read, in another turn.
    pub(super) const fn is_unfinished(&self) -> bool {
        self.unfinished
    }

    /// It has not taken all that there is to be sent: to be woken when it does.
    pub(super) const fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Structures that it takes at once.
    pub(super) fn capacity(&self) -> usize {
        match self.mode {
            // INIT will announce the batches.
            Mode::Batched(size) if self.server.last_status().contains(Status::NEEDS_INIT) => {
                size.max(1)
            }
            _ => self.server.capacity(),
        }
    }

    /// The replica that it has just computed, if it only has to say yet that it takes another: worth waiting for, but
    /// not for long.
    pub(super) fn soon_free(&self) -> Option<i32> {
        let asked = self.stage == Stage::Asking && self.since.elapsed() < SOON;
        self.last.filter(|_| asked)
    }

    /// Gives it something to compute. It is told when it is [driven](Self::drive).
    pub(super) fn assign(&mut self, tasks: impl IntoIterator<Item = Task>, extras: usize) {
        self.work.extend(tasks);
        if let Some(task) = self.work.last() {
            let replica = task.job.replica;
            self.locked = self.last == Some(replica);
            self.last = Some(replica);
        }
        if self.extras.is_empty() {
            // Zeroed by the kernel when they are touched, if ever.
            self.extras = std::vec![0; extras];
        }
        if let [task] = self.work.as_mut_slice() {
            task.job.forces.resize(task.job.positions.len(), [0.0; 3]);
        } else {
            let jobs = || self.work.iter().map(|task| &task.job);
            self.cells.clear();
            self.cells.extend(jobs().map(|job| job.cell));
            self.positions.clear();
            for job in jobs() {
                self.positions.extend_from_slice(&job.positions);
            }
            self.forces.resize(self.positions.len(), [0.0; 3]);
            self.answers.resize(self.work.len(), Answer::default());
        }
        self.stage = Stage::Computing;
        self.since = Instant::now();
    }

    /// What it was to compute and has not, each loss counted.
    pub(super) fn take_back(&mut self) -> Vec<Task> {
        self.work.iter_mut().for_each(|task| task.attempts += 1);
        core::mem::take(&mut self.work)
    }

    /// Whether it computes this, for no one from now on.
    pub(super) fn cancel(&mut self, ticket: Ticket) -> bool {
        let task = self.work.iter_mut().find(|task| task.ticket == ticket);
        task.is_some_and(|task| !core::mem::replace(&mut task.cancelled, true))
    }

    /// EXIT follows, whatever it does.
    pub(super) const fn dismiss(&mut self) {
        self.stage = Stage::Leaving;
    }

    /// Goes on as far as driver and kernel let us; what it has computed goes to `done`.
    ///
    /// # Errors
    ///
    /// The driver is to be dropped, and why.
    pub(super) fn drive(
        &mut self,
        init: &[u8],
        input: &mut Input,
        mut done: impl FnMut(Answered, bool),
    ) -> Result<(), LeftReason> {
        let mut turn = TURN;
        self.blocked = false;
        let result = loop {
            match self.advance(init, input, &mut turn, &mut done) {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(why) => break Err(why),
            }
        };
        input.clear();
        self.unfinished = turn == 0;
        let mut wait = self.server.status().waits_for();
        if self.blocked {
            wait = wait.taken();
        }
        // One that wants INIT again and again does not compute either.
        wait.evaluating |= self.stage == Stage::Computing;
        self.watch.note(self.connected.elapsed(), &wait);
        result
    }

    /// One exchange; whether it is through and another may follow.
    fn advance(
        &mut self,
        init: &[u8],
        input: &mut Input,
        turn: &mut usize,
        done: &mut impl FnMut(Answered, bool),
    ) -> Result<bool, LeftReason> {
        let server = &mut self.server;
        let mut line = Line {
            socket: &self.socket,
            outbox: &mut self.outbox,
            input,
            drained: &mut self.drained,
            closing: self.closing,
            turn,
            blocked: &mut self.blocked,
        };
        match self.stage {
            Stage::Asking => match settled(run(&mut line, server.status()))? {
                None => return Ok(false),
                Some(Status::DISCONNECTED) => return Err(LeftReason::Closed),
                Some(_) => {
                    self.joined = true;
                    self.stage = Stage::Free;
                }
            },
            Stage::Computing => {
                let exchange = match self.work.as_mut_slice() {
                    [task] => {
                        let job = &mut task.job;
                        let request = Request::new(&job.cell, &job.positions);
                        let request = request.replica(job.replica).init(init);
                        server
                            .evaluate(request, &mut job.forces, &mut self.extras)
                            .owned()
                    }
                    tasks => {
                        let replica = tasks.first().map_or(0, |task| task.job.replica);
                        let request = Request::batch(&self.cells, &self.positions);
                        let request = request.replica(replica).init(init);
                        let (answers, extras) = (&mut self.answers, &mut self.extras);
                        server
                            .evaluate_batch(request, answers, &mut self.forces, extras)
                            .owned()
                    }
                };
                let Some(answer) = settled(run(&mut line, exchange))? else {
                    return Ok(false);
                };
                self.joined = true;
                self.stage = match self.mode {
                    Mode::Strict => Stage::Free,
                    _ => Stage::Asking,
                };
                self.finish(answer, done);
            }
            Stage::Free => {
                // It has nothing to say now: what comes is its end, or a mistake.
                return match line.receive(&mut [0], false) {
                    Ok(0) => Err(LeftReason::Closed),
                    Ok(_) => Err(LeftReason::OutOfTurn),
                    result => {
                        settled(result.map_err(Error::Transport)).map(|_: Option<usize>| false)
                    }
                };
            }
            Stage::Leaving => match settled(run(&mut line, server.exit()))? {
                None => return Ok(false),
                Some(()) => return Err(LeftReason::Dismissed),
            },
        }
        Ok(true)
    }

    /// Hands over what has been computed.
    fn finish(&mut self, single: Answer, done: &mut impl FnMut(Answered, bool)) {
        let took = self.since.elapsed();
        self.since = Instant::now();
        let batch = self.work.len() > 1;
        let mut forces = self.forces.as_slice();
        for (index, mut task) in self.work.drain(..).enumerate() {
            let mut answer = single;
            if batch {
                answer = self.answers.get(index).copied().unwrap_or_default();
                let natoms = task.job.positions.len();
                let (ours, rest) = forces.split_at_checked(natoms).unwrap_or_default();
                task.job.forces.clear();
                task.job.forces.extend_from_slice(ours);
                forces = rest;
            }
            let answered = Answered {
                ticket: task.ticket,
                job: task.job,
                energy: answer.energy,
                virial: answer.virial,
                extras: answer.extras(&self.extras).to_vec(),
                extras_sent: answer.extras_sent(),
                driver: self.id,
                took,
                attempts: task.attempts + 1,
            };
            done(answered, task.cancelled);
        }
    }

    /// Why it is to be dropped now, if it has let a deadline pass.
    pub(super) fn overdue(&mut self) -> Option<LeftReason> {
        let late = self.watch.check(self.connected.elapsed()).err()?;
        self.server.mark_timed_out();
        Some(LeftReason::Late(late))
    }
}
