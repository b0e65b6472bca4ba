//! The pool's work: rounds of turns, drivers that join and leave, and the choice of jobs.

use core::time::Duration;
use std::boxed::Box;
use std::collections::BTreeSet;
use std::io;
use std::string::ToString;
use std::vec::Vec;

use mio::Interest;

use super::admission::Arrival;
use super::connection::{Connection, Stage};
use super::matching::{self, Situation};
use super::reactor::{Limit, TICK, Woken};
use super::{DriverId, LeftReason, Loss, Matching, Pool, PoolEvent};
use crate::fmt::debug;
use crate::net::listener::Accepted;
use crate::server::Mode;

/// How many drivers get a job even if the caller's time is over.
const LEAST_GIVEN: usize = 64;

/// How many answers to accept before the kernel is asked again.
const MOST_AHEAD: usize = 16;

/// How long a lost job is reserved for a driver that has answered, if there is one, before another
/// driver may get it.
const RESERVED: Duration = Duration::from_secs(1);

/// The weight of a loss of a driver that had answered; other losses weigh 1.
const BLAME: u32 = 4;

impl Pool {
    /// Waits until a socket is ready, at most for the caller's remaining time, and takes a round of
    /// turns.
    pub(super) fn wait(&mut self, limit: &Limit) -> io::Result<()> {
        self.ahead = 0;
        self.reactor.wait(self.longest_wait(), limit)?;
        let (connections, admission) = (&mut self.connections, &mut self.admission);
        self.reactor.wake(|woken| match woken {
            Woken::Driver(id, closing) => connections.get_mut(&id).is_some_and(|connection| {
                connection.woken(closing);
                !core::mem::replace(&mut connection.scheduled, true)
            }),
            Woken::Listener(index) => {
                admission.knock(index);
                false
            }
        });
        for taken in 0..self.reactor.round() {
            let Some(id) = self.reactor.next_turn(taken, limit) else {
                break;
            };
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.scheduled = false;
                self.turn(id);
            }
        }
        if self.reactor.is_time_to_judge() {
            self.judge();
            self.give_twice();
        }
        self.accept();
        Ok(())
    }

    /// Checks whether the only driver has answered, without asking the kernel which driver has.
    /// Returns true if something has happened. A driver that shares our CPU often has answered as
    /// soon as its job was sent. The number of checks in a row is limited, because other drivers
    /// may be waiting to connect.
    pub(super) fn look_ahead(&mut self) -> bool {
        if self.running == 0 || self.connections.len() > 1 || self.ahead >= MOST_AHEAD {
            return false;
        }
        self.ahead += 1;
        let only = self.connections.values_mut().next();
        let only = only.map(|connection| {
            connection.woken(false);
            connection.id
        });
        if let Some(id) = only {
            self.turn(id);
        }
        !self.events.is_empty()
    }

    /// The time until there is work even if no socket is ready.
    fn longest_wait(&self) -> Option<Duration> {
        if self.crowded {
            return Some(Duration::ZERO);
        }
        // Held drivers need attention only while jobs wait.
        let is_wanted = !self.queue.is_empty() && !self.draining;
        let held = self.held.first().filter(|_| is_wanted);
        let held = held.map(|(until, _)| until.saturating_sub(self.reactor.now()).min(TICK));
        // A driver that is not idle may exceed a deadline.
        let is_timed = self.admission.is_knocking()
            || self.idle.len() < self.connections.len()
            || self.options.stragglers.is_some()
            || !self.queue.is_empty();
        held.or(is_timed.then_some(TICK))
    }

    /// Takes a turn of a driver.
    pub(super) fn turn(&mut self, id: DriverId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let (joined, proved) = (connection.joined, connection.proved);
        let was_on_trial = connection.stage == Stage::Computing && !proved;
        let (events, counters) = (&mut self.events, &mut self.counters);
        let (running, before) = (&mut self.running, events.len());
        let now = self.reactor.now();
        let mut answered = 0;
        let result = connection.take_turn(
            now,
            &self.options.init,
            &mut self.shared,
            |answer, is_cancelled| {
                *running -= 1;
                if answered == 0 {
                    counters.latencies.add(answer.took);
                }
                answered += 1;
                if !is_cancelled {
                    events.push_back(PoolEvent::Answered(answer));
                }
            },
        );
        self.counters.evaluations += answered;
        if connection.proved && !proved {
            self.proved += 1;
            self.admission.has_answered(connection.origin, now);
        }
        if was_on_trial && connection.proved {
            self.trials -= 1;
        }
        if connection.joined && !joined {
            self.joined += 1;
            self.counters.joined += 1;
            self.events.push_back(PoolEvent::Joined {
                driver: id,
                peer: connection.peer.clone(),
            });
        }
        let result = result.and_then(|()| {
            // Ask for writability only while blocked: a unix socket would otherwise report all the
            // time that it can be written to.
            let interest = match connection.is_blocked() {
                true => Interest::READABLE | Interest::WRITABLE,
                false => Interest::READABLE,
            };
            if interest == connection.interest {
                return Ok(());
            }
            connection.interest = interest;
            self.reactor
                .reregister(connection.socket(), id.token(), interest)
                .map_err(LeftReason::Lost)
        });
        match result {
            Ok(()) => self.settle(id),
            Err(why) => self.lose(id, why),
        }
        if answered > 0 && !self.twins.is_empty() {
            self.drop_twins(before);
        }
    }

    /// Sorts a driver by its state after its turn.
    fn settle(&mut self, id: DriverId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if connection.stage == Stage::Free {
            let until = connection.held_until;
            if !connection.proved && until > self.reactor.now() {
                self.held.insert((until, id));
            } else {
                self.idle.insert(connection.candidate());
            }
        }
        if connection.stage == Stage::Asking && connection.last.is_some() {
            self.asked.insert(id);
        } else if !self.asked.is_empty() {
            self.asked.remove(&id);
        }
        if connection.is_unfinished() && !core::mem::replace(&mut connection.scheduled, true) {
            self.reactor.schedule(id);
        }
    }

    /// Removes a driver; its jobs go back into the queue.
    fn lose(&mut self, id: DriverId, why: LeftReason) {
        let Some(mut connection) = self.connections.remove(&id) else {
            return;
        };
        let text = why.to_string();
        debug!("driver {} left: {}", id.0, text.as_str());
        self.reactor.deregister(connection.socket());
        self.idle.remove(id);
        self.held.remove(&(connection.held_until, id));
        self.asked.remove(&id);
        if let Some(replica) = connection.last
            && self.owners.get(&replica) == Some(&id)
        {
            self.owners.remove(&replica);
        }
        self.joined -= usize::from(connection.joined);
        self.proved -= usize::from(connection.proved);
        self.trials -= usize::from(connection.stage == Stage::Computing && !connection.proved);
        let tasks = connection.take_back();
        self.running -= tasks.len();
        if !tasks.is_empty() || why.is_a_fault() {
            self.counters.last_loss = Some(Loss {
                driver: id,
                peer: connection.peer.clone(),
                why: text,
                jobs: tasks.len(),
            });
        }
        let blame = self.blame(&connection, tasks.len());
        let (mut requeued, mut given_up) = (0, Vec::new());
        for mut task in tasks {
            // The other driver with this job is still computing.
            if self.twins.remove(&task.ticket) || task.cancelled {
                continue;
            }
            // This may be the driver that was lost before, connected again while another one
            // computes.
            let blame = match task.is_younger(id) && self.proved > 0 {
                true => blame.map(|blame| blame.min(1)),
                false => blame,
            };
            task.lost(self.reactor.now(), blame, DriverId(self.drivers));
            let most = self.options.attempts;
            if most.is_some_and(|most| task.blame >= most.saturating_mul(BLAME)) {
                given_up.push(PoolEvent::GivenUp {
                    ticket: task.ticket,
                    job: task.job,
                    attempts: task.attempts,
                });
            } else {
                requeued += 1;
                self.queue.insert(task);
            }
        }
        self.counters.requeued += requeued as u64;
        self.counters.given_up += given_up.len() as u64;
        self.events.push_back(PoolEvent::Left {
            driver: id,
            peer: connection.peer,
            why,
            requeued,
        });
        self.events.extend(given_up);
    }

    /// The weight of this driver's loss against a job that it had alone; `None` if it had several.
    /// The loss of a driver that never answered proves little about its job.
    fn blame(&mut self, connection: &Connection, jobs: usize) -> Option<u32> {
        let origin = connection.origin;
        if jobs > 0 && !connection.proved {
            // Count from now rather than from the last reading of the clock, when the driver may
            // have had no job yet.
            let now = self.reactor.look();
            self.admission.strike(origin, now, self.options.hold_back);
        }
        let blame = match connection.proved {
            true => BLAME,
            false => u32::from(self.admission.is_known(origin)),
        };
        (jobs == 1).then_some(blame)
    }

    /// Drops the drivers that have exceeded a deadline. Each driver gets a turn first, in case
    /// bytes from it are still unread.
    fn judge(&mut self) {
        let now = self.reactor.now();
        let due = self
            .connections
            .values()
            .filter(|connection| connection.is_due(now));
        let due: Vec<_> = due.map(|connection| connection.id).collect();
        for id in due {
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.woken(false);
                self.turn(id);
            }
            let connection = self.connections.get_mut(&id);
            if let Some(why) = connection.and_then(|connection| connection.overdue(now)) {
                self.lose(id, why);
            }
        }
    }

    /// Puts jobs that have been running for long into the queue again, if no other job waits for
    /// idle drivers.
    fn give_twice(&mut self) {
        let Some(after) = self.options.stragglers else {
            return;
        };
        let idle = self.idle.proved();
        let is_locked = self.options.matching == Matching::Locked;
        if idle == 0 || is_locked || !self.queue.is_empty() || self.draining {
            return;
        }
        let mut slow: Vec<_> = self.connections.values().collect();
        slow.retain(|connection| connection.computes_for() >= Some(after));
        slow.sort_by_key(|connection| core::cmp::Reverse(connection.computes_for()));
        let tasks = slow.iter().flat_map(|connection| connection.work().iter());
        let tasks = tasks.filter(|task| !task.cancelled && !self.twins.contains(&task.ticket));
        let tasks: Vec<_> = tasks.take(idle).map(|task| task.twin()).collect();
        for task in tasks {
            self.counters.given_twice += 1;
            self.twins.insert(task.ticket);
            self.queue.insert(task);
        }
    }

    /// Drops the second copies of jobs that have just been answered, in events from this one on.
    fn drop_twins(&mut self, first: usize) {
        let answered = self.events.iter().skip(first);
        let answered = answered.filter_map(|event| match event {
            PoolEvent::Answered(answer) => Some(answer.ticket),
            _ => None,
        });
        let twins: Vec<_> = answered
            .filter(|ticket| self.twins.contains(ticket))
            .collect();
        for ticket in twins {
            self.twins.remove(&ticket);
            self.queue.remove(ticket);
            self.cancel_running(ticket);
        }
    }

    /// Accepts waiting connections as long as there is room.
    fn accept(&mut self) {
        let room = self.options.clients.saturating_sub(self.connections.len());
        let (arrivals, more) = self.admission.accept(room, &self.options);
        self.crowded = more;
        for arrival in arrivals {
            self.welcome(arrival);
        }
    }

    fn welcome(&mut self, arrival: Arrival) {
        let Arrival {
            accepted: Accepted { socket, peer, .. },
            origin,
            is_allowed,
        } = arrival;
        self.counters.connections += 1;
        self.drivers += 1;
        let id = DriverId(self.drivers);
        if !is_allowed {
            self.events.push_back(PoolEvent::Left {
                driver: id,
                peer,
                why: LeftReason::NotAllowed,
                requeued: 0,
            });
            return;
        }
        let Ok(mut connection) = Connection::new(id, peer, origin, socket, &self.options) else {
            return; // it has gone already
        };
        let (socket, interest) = (connection.socket(), connection.interest);
        if self.reactor.register(socket, id.token(), interest).is_err() {
            return; // no memory is left for it, and it sees its connection closed
        }
        connection.held_until = self.admission.held_until(origin);
        if connection.joined {
            self.joined += 1;
            self.counters.joined += 1;
            self.events.push_back(PoolEvent::Joined {
                driver: id,
                peer: connection.peer.clone(),
            });
        }
        self.connections.insert(id, Box::new(connection));
        self.turn(id);
    }

    /// Gives waiting jobs to idle drivers.
    pub(super) fn distribute(&mut self, limit: &Limit) {
        if self.queue.is_empty() || self.draining {
            return;
        }
        while let Some(&(until, id)) = self.held.first() {
            if until > self.reactor.now() {
                break;
            }
            self.held.pop_first();
            if let Some(connection) = self.connections.get(&id) {
                self.idle.insert(connection.candidate());
            }
        }
        if self.idle.len() == 0 {
            return;
        }
        let matching = self.options.matching;
        let claimed = match matching {
            Matching::Locked if self.idle.has_new() => self.owners.keys().copied().collect(),
            Matching::Auto => self.soon_free(),
            Matching::Locked | Matching::Any => BTreeSet::new(),
        };
        let (mode, connections) = (self.options.mode, &self.connections);
        let capacity = |id: DriverId| match mode {
            Mode::Batched(_) => connections.get(&id).map_or(1, |it| it.capacity()),
            _ => 1,
        };
        let situation = Situation {
            matching,
            capacity: &capacity,
            claimed,
            trials: self.trials,
            lost_before: match self.proved {
                0 => Duration::MAX,
                _ => self.reactor.now().saturating_sub(RESERVED),
            },
        };
        let matched = matching::distribute(&mut self.queue, &mut self.idle, situation);
        let mut matched = matched.into_iter().peekable();
        let mut given = 0;
        while let Some(&(id, ref task)) = matched.peek() {
            let replica = task.job.replica;
            let tasks = core::iter::from_fn(|| matched.next_if(|(next, _)| *next == id));
            let tasks = tasks.map(|(_, task)| task);
            let Some(connection) = self.connections.get_mut(&id) else {
                tasks.for_each(|task| self.queue.insert(task));
                continue;
            };
            self.running += connection.assign(tasks, &mut self.shared);
            self.trials += usize::from(!connection.proved);
            if matching == Matching::Locked {
                self.owners.insert(replica, id);
            }
            if given < LEAST_GIVEN || !limit.is_over() {
                self.turn(id);
            } else if !core::mem::replace(&mut connection.scheduled, true) {
                self.reactor.schedule(id);
            }
            given += 1;
        }
    }

    /// The replicas of drivers that will soon be idle.
    fn soon_free(&mut self) -> BTreeSet<i32> {
        let connections = &self.connections;
        let soon = |id: &DriverId| {
            connections
                .get(id)
                .and_then(|connection| connection.soon_free())
        };
        self.asked.retain(|id| soon(id).is_some());
        self.asked.iter().filter_map(soon).collect()
    }
}
