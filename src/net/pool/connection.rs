//! One driver of the pool: its connection, its conversation and what it computes.

use core::time::Duration;
use std::io::{self, ErrorKind};
use std::string::String;
use std::time::Instant;
use std::vec::Vec;

use mio::Interest;

use super::admission::Origin;
use super::matching::Candidate;
use super::{Answered, DriverId, LeftReason, PoolOptions, Task, Ticket};
use crate::blocking::{Transport, run};
use crate::net::outbox::Outbox;
use crate::net::socket::{BUFFER, Socket, copy};
use crate::{
    Answer, Cell, DeadlineTimer, Error, Exchange, Mode, ProtocolError, Quantity, Request, Server,
    Status, Wait,
};

/// How long a replica waits for its driver to be free again before another one gets it.
const SOON: Duration = Duration::from_millis(50);

/// Extras of a batch that are kept in a buffer for the next one.
const SMALL: usize = 64 * 1024;

/// What a driver may still do in its turn. A turn ends when one of these is used up, so that no
/// driver keeps the others waiting.
#[derive(Debug)]
struct Turn {
    /// Exchanges.
    messages: usize,
    /// Calls of the kernel, in both directions.
    calls: usize,
    /// Bytes, in both directions.
    bytes: usize,
}

impl Turn {
    const fn new() -> Self {
        Self {
            messages: 16,
            calls: 64,
            bytes: 1024 * 1024,
        }
    }

    const fn is_over(&self) -> bool {
        self.messages == 0 || self.calls == 0 || self.bytes == 0
    }

    const fn count(&mut self, bytes: usize) {
        self.calls = self.calls.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// Memory that the driver whose turn it is uses, so that those who wait need none.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Bytes that came from the kernel, and what of them is there and has been served.
    input: Vec<u8>,
    filled: usize,
    served: usize,
    output: Outbox,
    /// Arrays of batches that are computed.
    spare: Vec<Batch>,
}

/// Arrays of batches that are kept for others to come.
const SPARE: usize = 64;

impl Shared {
    /// What has come and has not been served.
    fn rest(&self) -> &[u8] {
        self.input.get(self.served..self.filled).unwrap_or_default()
    }

    fn fill(&mut self, read: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<usize> {
        if self.input.is_empty() {
            self.input.resize(BUFFER, 0);
        }
        self.served = 0;
        self.filled = 0;
        self.filled = read(&mut self.input)?;
        Ok(self.filled)
    }
}

/// The structures of a batch with their arrays one after the other.
#[derive(Debug, Default)]
struct Batch {
    cells: Vec<Cell>,
    positions: Vec<[f64; 3]>,
    forces: Vec<[f64; 3]>,
    answers: Vec<Answer>,
    extras: Vec<u8>,
}

impl Batch {
    fn fill(&mut self, tasks: &[Task]) {
        self.cells.clear();
        self.cells.extend(tasks.iter().map(|task| task.job.cell));
        self.positions.clear();
        for task in tasks {
            self.positions.extend_from_slice(&task.job.positions);
        }
        self.forces.resize(self.positions.len(), [0.0; 3]);
        self.answers.resize(tasks.len(), Answer::default());
    }
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: DriverId,
    pub(super) peer: String,
    pub(super) origin: Origin,
    pub(super) stage: Stage,
    pub(super) joined: bool,
    /// The replica that it had last, and whether it had that one before as well.
    pub(super) last: Option<i32>,
    settled: bool,
    /// Whether it has answered a job.
    pub(super) proved: bool,
    /// Until when it gets no job, on the pool's clock.
    pub(super) held_until: Duration,
    /// EXIT follows when it has nothing to compute.
    dismissed: bool,
    /// It has a place in the queue for turns.
    pub(super) scheduled: bool,
    /// Atoms of the structures that it was given.
    pub(super) natoms: Option<usize>,
    /// What the poll wakes it for.
    pub(super) interest: Interest,

    socket: Socket,
    outbox: Outbox,
    /// Bytes that have come and that nothing has asked for yet.
    held: Vec<u8>,
    server: Server,
    mode: Mode,
    /// What it computes: nothing, a task, or the tasks of a batch.
    work: Vec<Task>,
    batch: Option<Batch>,
    extras: Vec<u8>,
    most_extras: usize,

    /// The kernel has no more bytes for us until it says so.
    drained: bool,
    /// The driver has closed its side: the kernel will not say so again.
    closing: bool,
    /// There was more to do than a turn allows.
    unfinished: bool,
    /// It has not taken all that there is to be sent.
    blocked: bool,
    /// Since when it computes, or has computed.
    since: Instant,
    timer: DeadlineTimer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It has been sent STATUS.
    Asking,
    /// It has nothing to do.
    Free,
    Computing,
    /// It is sent EXIT.
    Leaving,
}

/// The connection as an exchange sees it: one that never waits.
struct Line<'a> {
    socket: &'a Socket,
    outbox: &'a mut Outbox,
    shared: &'a mut Shared,
    turn: &'a mut Turn,
    drained: &'a mut bool,
    closing: bool,
    blocked: &'a mut bool,
}

impl Line<'_> {
    /// Reads what has come, if anything has.
    fn receive(&mut self, buffer: &mut [u8], owed: bool) -> io::Result<usize> {
        if self.shared.rest().is_empty() {
            if *self.drained && owed {
                // A peer without TCP_NODELAY waits for it, see `Stream`.
                self.socket.acknowledge_at_once();
            }
            if *self.drained || self.turn.is_over() {
                return Err(ErrorKind::WouldBlock.into());
            }
            let (socket, direct) = (self.socket, buffer.len() >= BUFFER);
            let room = if direct { buffer.len() } else { BUFFER };
            let result = if direct {
                socket.read(buffer)
            } else {
                self.shared.fill(|room| socket.read(room))
            };
            // Less than there was room for is all that there is, unless the end comes after it.
            *self.drained = match &result {
                Ok(n) => *n < room && !self.closing,
                Err(error) => error.kind() == ErrorKind::WouldBlock,
            };
            self.turn.count(*result.as_ref().unwrap_or(&0));
            if direct {
                return result;
            }
            result?;
        }
        let n = copy(self.shared.rest(), buffer);
        self.shared.served += n;
        Ok(n)
    }

    /// Sends, unless the turn is over. The call returns how many bytes that were.
    fn send(
        &mut self,
        call: impl FnOnce(&mut Self) -> io::Result<usize>,
    ) -> Result<usize, Error<io::Error>> {
        if self.turn.is_over() {
            return Err(Error::Transport(ErrorKind::WouldBlock.into()));
        }
        let result = call(self);
        if let Err(error) = &result {
            *self.blocked = error.kind() == ErrorKind::WouldBlock;
        }
        self.turn.count(*result.as_ref().unwrap_or(&0));
        result.map_err(Error::Transport)
    }
}

impl Transport for Line<'_> {
    type Error = io::Error;

    fn read(&mut self, buffer: &mut [u8], wait: &Wait) -> Result<usize, Error<io::Error>> {
        let result = self.receive(buffer, wait.owed());
        result.map_err(Error::Transport)
    }

    fn write(&mut self, bytes: &[u8], _: &Wait) -> Result<usize, Error<io::Error>> {
        if self.outbox.fits(bytes) {
            return Ok(self.outbox.keep(bytes));
        }
        self.send(|line| line.outbox.write(line.socket, bytes))
    }

    fn flush(&mut self, _: &Wait) -> Result<(), Error<io::Error>> {
        if self.outbox.is_empty() {
            return Ok(());
        }
        let flush = |line: &mut Self| line.outbox.flush(line.socket).map(|()| 0);
        self.send(flush).map(|_| ())
    }
}

/// What an exchange has come to: nothing yet if the driver or the kernel has to do something first.
fn progress<T>(result: Result<T, Error<io::Error>>) -> Result<Option<T>, LeftReason> {
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

/// Makes an extras buffer as long as the driver's announcement needs.
fn grow(extras: &mut Vec<u8>, len: usize) -> Result<(), LeftReason> {
    let missing = len.saturating_sub(extras.len());
    if extras.try_reserve_exact(missing).is_err() {
        return Err(LeftReason::Lost(ErrorKind::OutOfMemory.into()));
    }
    extras.resize(len, 0);
    Ok(())
}

impl Connection {
    pub(super) fn new(
        id: DriverId,
        peer: String,
        origin: Origin,
        socket: Socket,
        options: &PoolOptions,
    ) -> io::Result<Self> {
        socket.send_at_once()?;
        let mut server = Server::new().mode(options.mode);
        if options.fold {
            server = server.fold_positions();
        }
        if options.allow_not_finite {
            server = server.allow_not_finite();
        }
        if options.allow_changing_atoms {
            server = server.allow_changing_atoms();
        }
        let is_strict = options.mode == Mode::Strict;
        Ok(Self {
            id,
            peer,
            origin,
            // A strict driver is asked when there is something to compute.
            stage: if is_strict {
                Stage::Free
            } else {
                Stage::Asking
            },
            joined: is_strict,
            last: None,
            settled: false,
            proved: false,
            held_until: Duration::ZERO,
            dismissed: false,
            scheduled: false,
            natoms: None,
            interest: Interest::READABLE,
            socket,
            outbox: Outbox::default(),
            held: Vec::new(),
            server,
            mode: options.mode,
            work: Vec::new(),
            batch: None,
            extras: Vec::new(),
            most_extras: options.extras,
            drained: true,
            closing: false,
            unfinished: false,
            blocked: false,
            since: Instant::now(),
            timer: DeadlineTimer::new(options.deadlines),
        })
    }

    pub(super) const fn socket(&self) -> &Socket {
        &self.socket
    }

    /// The kernel has something for us, or takes more, or reports the end.
    pub(super) const fn woken(&mut self, closing: bool) {
        self.drained = false;
        self.closing |= closing;
    }

    /// There is more to do in another turn.
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

    pub(super) const fn candidate(&self) -> Candidate {
        Candidate {
            id: self.id,
            last: self.last,
            settled: self.settled,
        }
    }

    /// The replica that it has just computed, if it only has to answer STATUS before it takes
    /// another: worth waiting for, but not for long.
    pub(super) fn soon_free(&self) -> Option<i32> {
        let asked = self.stage == Stage::Asking && self.since.elapsed() < SOON;
        self.last.filter(|_| asked)
    }

    /// Gives it something to compute. It is sent in its [turn](Self::take_turn).
    pub(super) fn assign(&mut self, tasks: Vec<Task>, shared: &mut Shared) {
        self.work = tasks;
        if let Some(task) = self.work.last() {
            let replica = task.job.replica;
            self.settled = self.last == Some(replica);
            self.last = Some(replica);
            self.natoms = Some(task.job.positions.len());
        }
        if let [task] = self.work.as_mut_slice() {
            task.job.forces.resize(task.job.positions.len(), [0.0; 3]);
        } else {
            let mut batch = shared.spare.pop().unwrap_or_default();
            batch.fill(&self.work);
            self.batch = Some(batch);
        }
        self.stage = Stage::Computing;
        self.since = Instant::now();
    }

    /// The tasks that it has.
    pub(super) fn work(&self) -> &[Task] {
        &self.work
    }

    /// How long it has computed, if it does.
    pub(super) fn computes_for(&self) -> Option<Duration> {
        (self.stage == Stage::Computing).then(|| self.since.elapsed())
    }

    /// What it was to compute and has not.
    pub(super) fn take_back(&mut self) -> Vec<Task> {
        core::mem::take(&mut self.work)
    }

    /// Whether it computes this, for nobody from now on.
    pub(super) fn cancel(&mut self, ticket: Ticket) -> bool {
        let task = self.work.iter_mut().find(|task| task.ticket == ticket);
        task.is_some_and(|task| !core::mem::replace(&mut task.cancelled, true))
    }

    /// EXIT follows: now, whatever it does, or when it has answered.
    pub(super) fn dismiss(&mut self, at_once: bool) {
        self.dismissed = true;
        if at_once || self.stage != Stage::Computing {
            self.stage = Stage::Leaving;
        }
    }

    /// Takes its turn: goes on as far as driver, kernel and the turn allow. What has been computed
    /// goes to `done`. `now` is the pool's clock.
    ///
    /// # Errors
    ///
    /// Why the driver is to be dropped.
    pub(super) fn take_turn(
        &mut self,
        now: Duration,
        init: &[u8],
        shared: &mut Shared,
        mut done: impl FnMut(Answered, bool),
    ) -> Result<(), LeftReason> {
        let mut turn = Turn::new();
        self.blocked = false;
        if !self.held.is_empty() {
            let held = core::mem::take(&mut self.held);
            let _ = shared.fill(|room| Ok(copy(&held, room)));
        }
        if self.outbox.is_empty() {
            core::mem::swap(&mut self.outbox, &mut shared.output);
        }
        let result = loop {
            match self.advance(init, shared, &mut turn, &mut done) {
                Ok(true) => {
                    turn.messages -= 1;
                    self.timer.end_exchange();
                    if turn.messages == 0 {
                        break Ok(());
                    }
                }
                Ok(false) => break Ok(()),
                Err(why) => break Err(why),
            }
        };
        if self.outbox.is_empty() {
            core::mem::swap(&mut self.outbox, &mut shared.output);
        }
        self.held.extend_from_slice(shared.rest());
        shared.served = shared.filled;
        self.unfinished = turn.is_over();
        let mut wait = self.server.status().waits_for();
        if self.blocked {
            wait = wait.taken();
        }
        // One that wants INIT again and again does not compute either.
        wait.evaluating |= self.stage == Stage::Computing;
        self.timer.note(now, &wait);
        result
    }

    /// One exchange; whether it is done and another may follow.
    fn advance(
        &mut self,
        init: &[u8],
        shared: &mut Shared,
        turn: &mut Turn,
        done: &mut impl FnMut(Answered, bool),
    ) -> Result<bool, LeftReason> {
        let server = &mut self.server;
        let mut line = Line {
            socket: &self.socket,
            outbox: &mut self.outbox,
            shared,
            turn,
            drained: &mut self.drained,
            closing: self.closing,
            blocked: &mut self.blocked,
        };
        match self.stage {
            Stage::Asking => match progress(run(&mut line, server.status()))? {
                None => return Ok(false),
                Some(Status::DISCONNECTED) => return Err(LeftReason::Closed),
                Some(_) => {
                    self.joined = true;
                    self.stage = self.free();
                }
            },
            Stage::Computing => {
                let (most, extras) = (self.most_extras, &mut self.extras);
                let result = match (self.work.as_mut_slice(), &mut self.batch) {
                    ([task], _) => {
                        let job = &mut task.job;
                        let request = Request::new(&job.cell, &job.positions);
                        let request = request.replica(job.replica).init(init);
                        let exchange = server.evaluate(request, &mut job.forces, extras);
                        run(&mut line, exchange.owned(most))
                    }
                    (tasks, batch) => {
                        let batch = batch.get_or_insert_default();
                        let replica = tasks.first().map_or(0, |task| task.job.replica);
                        let request = Request::batch(&batch.cells, &batch.positions);
                        let request = request.replica(replica).init(init);
                        let (answers, forces) = (&mut batch.answers, &mut batch.forces);
                        let extras = &mut batch.extras;
                        let exchange = server.evaluate_batch(request, answers, forces, extras);
                        run(&mut line, exchange.owned(most))
                    }
                };
                if let Err(Error::Protocol(ProtocolError::WrongLength {
                    quantity: Quantity::Extras,
                    expected,
                    ..
                })) = result
                {
                    let batch = self.batch.as_mut().map(|batch| &mut batch.extras);
                    return grow(batch.unwrap_or(&mut self.extras), expected).map(|()| true);
                }
                let Some(answer) = progress(result)? else {
                    return Ok(false);
                };
                self.joined = true;
                self.proved = true;
                self.finish(answer, shared, done);
                self.stage = match self.mode {
                    Mode::Strict => self.free(),
                    _ if self.dismissed => Stage::Leaving,
                    _ => Stage::Asking,
                };
            }
            Stage::Free => {
                // It owes nothing: what comes is its end, or a mistake.
                return match line.receive(&mut [0], false) {
                    Ok(0) => Err(LeftReason::Closed),
                    Ok(_) => Err(LeftReason::OutOfTurn),
                    result => {
                        progress(result.map_err(Error::Transport)).map(|_: Option<usize>| false)
                    }
                };
            }
            Stage::Leaving => match progress(run(&mut line, server.exit()))? {
                None => return Ok(false),
                Some(()) => return Err(LeftReason::Dismissed),
            },
        }
        Ok(true)
    }

    /// What follows when it has nothing to do.
    const fn free(&self) -> Stage {
        match self.dismissed {
            true => Stage::Leaving,
            false => Stage::Free,
        }
    }

    /// Hands over what has been computed.
    fn finish(
        &mut self,
        single: Answer,
        shared: &mut Shared,
        done: &mut impl FnMut(Answered, bool),
    ) {
        let now = Instant::now();
        let took = now.duration_since(self.since);
        self.since = now;
        let mut batch = self.batch.take();
        let mut first = 0;
        for (index, mut task) in self.work.drain(..).enumerate() {
            let (answer, extras) = match &mut batch {
                None => {
                    // All that came is this answer's.
                    let mut extras = core::mem::take(&mut self.extras);
                    extras.truncate(single.extras(&extras).len());
                    (single, extras)
                }
                Some(batch) => {
                    let end = first + task.job.positions.len();
                    let forces = batch.forces.get(first..end).unwrap_or_default();
                    first = end;
                    task.job.forces.clear();
                    task.job.forces.extend_from_slice(forces);
                    let answer = batch.answers.get(index).copied().unwrap_or_default();
                    (answer, answer.extras(&batch.extras).to_vec())
                }
            };
            let answered = Answered {
                ticket: task.ticket,
                job: task.job,
                energy: answer.energy,
                virial: answer.virial,
                extras,
                extras_sent: answer.extras_sent(),
                driver: self.id,
                took,
                attempts: task.attempts + 1,
            };
            done(answered, task.cancelled);
        }
        if let Some(mut batch) = batch
            && shared.spare.len() < SPARE
        {
            if batch.extras.len() > SMALL {
                batch.extras = Vec::new();
            }
            shared.spare.push(batch);
        }
    }

    /// Why it is to be dropped now, if a deadline has passed: after a turn that began at `now`.
    pub(super) fn overdue(&mut self, now: Duration) -> Option<LeftReason> {
        let late = self.timer.check(now).err()?;
        self.server.mark_timed_out();
        Some(LeftReason::Late(late))
    }

    /// Whether a deadline would have passed if no turn followed.
    pub(super) fn is_due(&self, now: Duration) -> bool {
        self.timer.due().is_some_and(|due| due <= now)
    }
}
