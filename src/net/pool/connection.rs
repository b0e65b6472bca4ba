//! A driver of the pool: its connection, its conversation and its work.

use core::time::Duration;
use std::boxed::Box;
use std::io::{self, ErrorKind};
use std::string::String;
use std::time::Instant;
use std::vec::Vec;

use mio::Interest;

use super::admission::Origin;
use super::batch::Batch;
use super::line::{Line, Shared, Turn, progress};
use super::matching::Candidate;
use super::{Answered, DriverId, LeftReason, PoolOptions, Task, Ticket};
use crate::blocking::run;
use crate::deadlines::DeadlineTimer;
use crate::error::Error;
use crate::exchange::Exchange;
use crate::net::outbox::Outbox;
use crate::net::socket::{Socket, copy};
use crate::protocol::{ProtocolError, Quantity, Status};
use crate::server::{Answer, Mode, Request, Server};

/// How long a replica waits for its busy driver before another driver gets it.
const SOON: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: DriverId,
    pub(super) peer: String,
    pub(super) origin: Origin,
    pub(super) stage: Stage,
    pub(super) joined: bool,
    /// The driver's last replica, and whether the one before was the same.
    pub(super) last: Option<i32>,
    settled: bool,
    /// Whether the driver has answered a job.
    pub(super) proved: bool,
    /// The time until which it gets no job, on the pool's clock.
    pub(super) held_until: Duration,
    /// Whether the driver receives EXIT once it has nothing to compute.
    dismissed: bool,
    /// Whether the connection is in the queue for turns.
    pub(super) scheduled: bool,
    /// The number of atoms of the structures that it has received.
    pub(super) natoms: Option<usize>,
    /// The events for which it is polled.
    pub(super) interest: Interest,

    socket: Socket,
    outbox: Outbox,
    /// Bytes that were read and not served yet.
    held: Vec<u8>,
    server: Server,
    mode: Mode,
    /// The driver's work: nothing, a task, or the tasks of a batch.
    #[allow(clippy::vec_box)] // the queue's boxes
    work: Vec<Box<Task>>,
    batch: Option<Batch>,
    extras: Vec<u8>,
    most_extras: usize,

    /// Whether the kernel has no more bytes until the next event.
    drained: bool,
    /// Whether the driver has closed its side, which the kernel reports only once.
    closing: bool,
    /// Whether work remains that did not fit into a turn.
    unfinished: bool,
    /// Whether bytes remain that the driver has not accepted.
    blocked: bool,
    /// When the driver's current or last computation began.
    since: Instant,
    timer: DeadlineTimer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The driver has been sent STATUS.
    Asking,
    /// The driver has nothing to do.
    Free,
    Computing,
    /// The driver is being sent EXIT.
    Leaving,
}

/// Lengthens the buffer for extras to the length that the driver has announced.
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
            // A strict driver is asked only when there is a job.
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

    /// Records that the kernel has bytes, has room for more, or reports the end.
    pub(super) const fn woken(&mut self, closing: bool) {
        self.drained = false;
        self.closing |= closing;
    }

    /// Whether work remains for another turn.
    pub(super) const fn is_unfinished(&self) -> bool {
        self.unfinished
    }

    /// Whether bytes remain to be sent once the socket can accept them.
    pub(super) const fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// How many structures the driver accepts at once.
    pub(super) fn capacity(&self) -> usize {
        match self.mode {
            // INIT will announce the batch.
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

    /// The replica that it has just computed, if it only has to answer STATUS before the next job.
    /// That is worth a short wait.
    pub(super) fn soon_free(&self) -> Option<i32> {
        let asked = self.stage == Stage::Asking && self.since.elapsed() < SOON;
        self.last.filter(|_| asked)
    }

    /// Gives tasks to the driver, and returns how many. They are sent in its
    /// [turn](Self::take_turn).
    pub(super) fn assign(
        &mut self,
        tasks: impl Iterator<Item = Box<Task>>,
        shared: &mut Shared,
    ) -> usize {
        self.work.extend(tasks);
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
        self.work.len()
    }

    /// The driver's tasks.
    pub(super) fn work(&self) -> &[Box<Task>] {
        &self.work
    }

    /// How long it has been computing, if it is.
    pub(super) fn computes_for(&self) -> Option<Duration> {
        (self.stage == Stage::Computing).then(|| self.since.elapsed())
    }

    /// Takes back the tasks that it has not computed.
    #[allow(clippy::vec_box)] // the queue's boxes
    pub(super) fn take_back(&mut self) -> Vec<Box<Task>> {
        core::mem::take(&mut self.work)
    }

    /// Marks a task as cancelled, so that its answer is dropped. Returns whether the driver has it.
    pub(super) fn cancel(&mut self, ticket: Ticket) -> bool {
        let task = self.work.iter_mut().find(|task| task.ticket == ticket);
        task.is_some_and(|task| !core::mem::replace(&mut task.cancelled, true))
    }

    /// Lets the driver receive EXIT: now, or once it has answered.
    pub(super) fn dismiss(&mut self, at_once: bool) {
        self.dismissed = true;
        if at_once || self.stage != Stage::Computing {
            self.stage = Stage::Leaving;
        }
    }

    /// Takes a turn: advances as far as driver, kernel and the turn's budget allow. Finished tasks
    /// are added to `done`. `now` is the pool's clock.
    ///
    /// # Errors
    ///
    /// The reason to drop the driver.
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
        shared.clear();
        self.unfinished = turn.is_over();
        let mut wait = self.server.status().waits_for();
        if self.blocked {
            wait = wait.taken();
        }
        // A driver that asks for INIT again and again counts as one that computes.
        wait.evaluating |= self.stage == Stage::Computing;
        self.timer.note(now, &wait);
        result
    }

    /// Advances one exchange. Returns whether it is done and another may follow.
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
                // The driver owes nothing, so these bytes are its end or a mistake.
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

    /// The next exchange of a driver without work.
    const fn free(&self) -> Stage {
        match self.dismissed {
            true => Stage::Leaving,
            false => Stage::Free,
        }
    }

    /// Delivers what has been computed.
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
                    // All extras received belong to this answer.
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
                evaluation: answer.evaluation,
                extras,
                extras_sent: answer.extras_sent(),
                driver: self.id,
                took,
                attempts: task.attempts + 1,
            };
            done(answered, task.cancelled);
        }
        if let Some(batch) = batch {
            batch.keep(&mut shared.spare);
        }
    }

    /// The reason to drop the driver now, if a deadline has passed. Call this after a turn that
    /// began at `now`.
    pub(super) fn overdue(&mut self, now: Duration) -> Option<LeftReason> {
        let late = self.timer.check(now).err()?;
        self.server.mark_timed_out();
        Some(LeftReason::Late(late))
    }

    /// Whether a deadline has passed, unless a turn shows otherwise.
    pub(super) fn is_due(&self, now: Duration) -> bool {
        self.timer.due().is_some_and(|due| due <= now)
    }
}
