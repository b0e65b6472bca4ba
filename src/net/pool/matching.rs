//! What waits to be computed, and which of it is for whom.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::vec::Vec;

use super::{DriverId, Matching, Task, Ticket};

/// Tasks in the order in which they were asked for, a task that was lost back in its place.
#[derive(Debug, Default)]
pub(super) struct Queue {
    tasks: BTreeMap<Ticket, Task>,
    by_replica: HashMap<i32, BTreeSet<Ticket>>,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    pub(super) fn insert(&mut self, task: Task) {
        let replica = task.job.replica;
        self.by_replica
            .entry(replica)
            .or_default()
            .insert(task.ticket);
        self.tasks.insert(task.ticket, task);
    }

    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<Task> {
        let task = self.tasks.remove(&ticket)?;
        let replica = task.job.replica;
        if let Some(tickets) = self.by_replica.get_mut(&replica) {
            tickets.remove(&ticket);
            if tickets.is_empty() {
                self.by_replica.remove(&replica);
            }
        }
        Some(task)
    }

    /// The oldest task of a replica that is none of these.
    fn take_oldest_but(&mut self, replicas: &BTreeSet<i32>) -> Option<Task> {
        let other = |task: &&Task| !replicas.contains(&task.job.replica);
        let ticket = self.tasks.values().find(other)?.ticket;
        self.remove(ticket)
    }

    /// The oldest task, if it has so many atoms.
    pub(super) fn take_alike(&mut self, natoms: usize) -> Option<Task> {
        let (&ticket, task) = self.tasks.first_key_value()?;
        if task.job.positions.len() == natoms {
            self.remove(ticket)
        } else {
            None
        }
    }

    /// The oldest task of this replica.
    fn take_replica(&mut self, replica: i32) -> Option<Task> {
        let &ticket = self.by_replica.get(&replica)?.first()?;
        self.remove(ticket)
    }

    /// Matches tasks to free drivers as i-PI does (3.3.1 `InterfaceSocket.pool_distribute`): in rounds, in each of
    /// which every driver that still has nothing may get something. `claimed` are the replicas that wait for their drivers:
    /// no other gets them.
    pub(super) fn distribute(
        &mut self,
        matching: Matching,
        mut free: Vec<Free>,
        mut claimed: BTreeSet<i32>,
    ) -> Vec<(DriverId, Task)> {
        let mut assigned = Vec::new();
        let rounds: &[Round] = match matching {
            Matching::Auto => &[Round::Same, Round::Fresh, Round::Unlocked, Round::Any],
            Matching::Any => &[Round::Any],
            Matching::Locked => &[Round::Same, Round::Fresh],
        };
        for round in rounds {
            free.retain(|driver| {
                let task = match (round, driver.last) {
                    (Round::Same, Some(replica)) => self.take_replica(replica),
                    (Round::Fresh, None) | (Round::Any, _) => self.take_oldest_but(&claimed),
                    (Round::Unlocked, _) if !driver.locked => self.take_oldest_but(&claimed),
                    _ => None,
                };
                let Some(task) = task else { return true };
                if matching == Matching::Locked {
                    claimed.insert(task.job.replica);
                }
                assigned.push((driver.id, task));
                false
            });
        }
        assigned
    }
}

/// A driver that has nothing to do.
#[derive(Debug)]
pub(super) struct Free {
    pub(super) id: DriverId,
    /// The replica that it had last, and whether it had that one before as well.
    pub(super) last: Option<i32>,
    pub(super) locked: bool,
}

/// Who may get what, in a round of the distribution.
enum Round {
    /// The replica that it had last.
    Same,
    /// Anything, if it had nothing yet.
    Fresh,
    /// Anything, unless it has stayed with its replica.
    Unlocked,
    Any,
}
