//! The queue of tasks, the idle drivers, and the matching of both.

use core::time::Duration;
use std::boxed::Box;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::vec::Vec;

use super::job::Map;
use super::{DriverId, Matching, Task, Ticket};

/// Waiting tasks. Tasks that lost their driver are kept in a separate queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    fresh: Lane,
    lost: Lane,
}

/// Tasks in the order of their losses, then in the order of submission.
#[derive(Debug, Default)]
struct Lane {
    tasks: Row<Place, Box<Task>>,
    by_replica: Map<i32, Row<Place, ()>>,
}

/// Entries in the order of their keys. Adding the last and removing the first costs almost nothing,
/// and most operations are of that kind; others move their neighbours.
#[derive(Debug)]
struct Row<K, V>(VecDeque<(K, V)>);

impl<K, V> Default for Row<K, V> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<K: Copy + Ord, V> Row<K, V> {
    fn insert(&mut self, key: K, value: V) {
        if self.0.back().is_none_or(|(last, _)| *last < key) {
            return self.0.push_back((key, value));
        }
        match self.find(key) {
            Ok(at) => drop(self.0.get_mut(at).map(|(_, old)| *old = value)),
            Err(at) => self.0.insert(at, (key, value)),
        }
    }

    fn remove(&mut self, key: K) -> Option<V> {
        let at = self.find(key).ok()?;
        self.0.remove(at).map(|(_, value)| value)
    }

    fn get(&self, key: K) -> Option<&V> {
        let at = self.find(key).ok()?;
        self.0.get(at).map(|(_, value)| value)
    }

    fn first(&self) -> Option<K> {
        self.0.front().map(|(key, _)| *key)
    }

    fn find(&self, key: K) -> Result<usize, usize> {
        match self.first() {
            Some(first) if first == key => Ok(0),
            _ => self.0.binary_search_by_key(&key, |(key, _)| *key),
        }
    }
}

/// How many drivers were lost over a task while they computed nothing else, and the task's ticket.
type Place = (u32, Ticket);

/// A driver, and the time before which a task must have been lost so that every driver may get it.
type Taker = (DriverId, Duration);

impl Lane {
    fn insert(&mut self, task: Box<Task>) {
        let place = (task.losses, task.ticket);
        let replica = self.by_replica.entry(task.job.replica).or_default();
        replica.insert(place, ());
        self.tasks.insert(place, task);
    }

    fn remove(&mut self, place: Place) -> Option<Box<Task>> {
        let task = self.tasks.remove(place)?;
        if let Entry::Occupied(mut places) = self.by_replica.entry(task.job.replica) {
            places.get_mut().remove(place);
            if places.get().0.is_empty() {
                places.remove();
            }
        }
        Some(task)
    }

    /// The first task of a replica that is not one of these.
    fn first_but(&self, claimed: &BTreeSet<i32>) -> Option<Place> {
        let (place, task) = self.tasks.0.front()?;
        if !claimed.contains(&task.job.replica) {
            return Some(*place);
        }
        // Usually there are fewer replicas than tasks.
        let others = self.by_replica.iter();
        let others = others.filter(|(replica, _)| !claimed.contains(replica));
        others.filter_map(|(_, places)| places.first()).min()
    }

    fn first_of(&self, replica: i32) -> Option<Place> {
        self.by_replica.get(&replica)?.first()
    }
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.fresh.tasks.0.len() + self.lost.tasks.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn insert(&mut self, task: Box<Task>) {
        let lane = match task.attempts {
            0 => &mut self.fresh,
            _ => &mut self.lost,
        };
        lane.insert(task);
    }

    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<Box<Task>> {
        if let Some(task) = self.fresh.remove((0, ticket)) {
            return Some(task);
        }
        let mut lost = self.lost.tasks.0.iter().map(|(place, _)| *place);
        let place = lost.find(|place| place.1 == ticket)?;
        self.lost.remove(place)
    }

    /// The number of atoms of a waiting task.
    pub(super) fn natoms(&self) -> Option<usize> {
        let mut tasks = self.fresh.tasks.0.iter().chain(&self.lost.tasks.0);
        tasks.next().map(|(_, task)| task.job.positions.len())
    }

    /// A task for the same batch as one with this many atoms, of this replica if possible. A task
    /// that has lost its driver is retried alone, not in a batch.
    fn take_companion(&mut self, natoms: usize, replica: Option<i32>) -> Option<Box<Task>> {
        let place = match replica {
            Some(replica) => self.fresh.first_of(replica)?,
            None => self.fresh.tasks.first()?,
        };
        let task = self.fresh.tasks.get(place)?;
        if task.job.positions.len() != natoms {
            return None;
        }
        self.fresh.remove(place)
    }

    fn take_replica(&mut self, replica: i32, for_whom: Taker) -> Option<Box<Task>> {
        let (fresh, lost) = (self.fresh.first_of(replica), self.lost.first_of(replica));
        self.take_older(fresh, lost.filter(|place| self.may_take(place, for_whom)))
    }

    /// The next task for a driver that has answered before.
    fn take_any(&mut self, claimed: &BTreeSet<i32>, for_whom: Taker) -> Option<Box<Task>> {
        let (fresh, lost) = (self.fresh.first_but(claimed), self.lost.first_but(claimed));
        self.take_older(fresh, lost.filter(|place| self.may_take(place, for_whom)))
    }

    /// Whether a lost task may go to a driver that has answered. It is reserved for a while for
    /// drivers that were connected before the loss, because they can't be the lost one.
    fn may_take(&self, lost: &Place, (driver, lost_before): Taker) -> bool {
        let task = self.lost.tasks.get(*lost);
        task.is_some_and(|task| !task.is_younger(driver) || task.lost_at <= lost_before)
    }

    /// The next task for a driver that has not answered yet. It gets a chance with a task without
    /// losses before it gets one of the others.
    fn take_first(&mut self, claimed: &BTreeSet<i32>, lost_before: Duration) -> Option<Box<Task>> {
        if let Some(place) = self.fresh.first_but(claimed) {
            return self.fresh.remove(place);
        }
        let place = self.lost.first_but(claimed)?;
        let task = self.lost.tasks.get(place)?;
        if task.lost_at > lost_before {
            return None;
        }
        self.lost.remove(place)
    }

    fn take_older(&mut self, fresh: Option<Place>, lost: Option<Place>) -> Option<Box<Task>> {
        let ticket = |place: Option<Place>| place.map(|place| place.1);
        match (fresh, lost) {
            (Some(place), _) if lost.is_none() || ticket(fresh) < ticket(lost) => {
                self.fresh.remove(place)
            }
            (_, Some(place)) => self.lost.remove(place),
            _ => None,
        }
    }
}

/// A driver's properties for the matching.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) id: DriverId,
    /// The last replica that the driver computed, if there was one.
    pub(super) last: Option<i32>,
    /// Whether the replica before that was the same.
    pub(super) settled: bool,
}

/// Drivers without work.
#[derive(Debug, Default)]
pub(super) struct Idle {
    new: BTreeSet<DriverId>,
    loose: BTreeMap<DriverId, i32>,
    settled: BTreeMap<DriverId, i32>,
    by_replica: Map<i32, BTreeSet<DriverId>>,
}

impl Idle {
    pub(super) fn len(&self) -> usize {
        self.new.len() + self.proved()
    }

    /// The number of idle drivers that have answered.
    pub(super) fn proved(&self) -> usize {
        self.loose.len() + self.settled.len()
    }

    /// Whether an idle driver has not answered yet.
    pub(super) fn has_new(&self) -> bool {
        !self.new.is_empty()
    }

    pub(super) fn insert(&mut self, candidate: Candidate) {
        let Candidate { id, last, settled } = candidate;
        let Some(replica) = last else {
            self.new.insert(id);
            return;
        };
        let drivers = match settled {
            true => &mut self.settled,
            false => &mut self.loose,
        };
        if drivers.insert(id, replica).is_none() {
            self.by_replica.entry(replica).or_default().insert(id);
        }
    }

    pub(super) fn remove(&mut self, id: DriverId) {
        if self.new.remove(&id) {
            return;
        }
        let replica = self.loose.remove(&id).or_else(|| self.settled.remove(&id));
        let Some(replica) = replica else { return };
        if let Some(drivers) = self.by_replica.get_mut(&replica) {
            drivers.remove(&id);
            if drivers.is_empty() {
                self.by_replica.remove(&replica);
            }
        }
    }

    /// The next idle driver that has answered; with `loose_first`, one that has not stayed with its
    /// replica.
    fn next_proved(&self, loose_first: bool) -> Option<DriverId> {
        let (loose, settled) = (
            self.loose.keys().next().copied(),
            self.settled.keys().next().copied(),
        );
        if loose_first {
            loose.or(settled)
        } else {
            [loose, settled].into_iter().flatten().min()
        }
    }
}

/// The state that the matching needs besides the queue and the idle drivers.
pub(super) struct Situation<'a> {
    pub(super) matching: Matching,
    /// How many structures a driver takes at once.
    pub(super) capacity: &'a dyn Fn(DriverId) -> usize,
    /// Replicas that are reserved for the driver that had them last.
    pub(super) claimed: BTreeSet<i32>,
    /// How many drivers compute that have not answered before.
    pub(super) trials: usize,
    /// Tasks that were lost after this time are reserved for drivers that have answered and were
    /// connected before.
    pub(super) lost_before: Duration,
}

/// Matches tasks to drivers as i-PI does (3.3.1 `InterfaceSocket.pool_distribute`), with two
/// exceptions for drivers that have not answered yet. A lost task is reserved for a while for
/// drivers that have answered and were connected before the loss. And while such a driver is idle,
/// new drivers are tried one at a time. Otherwise drivers that connect, accept a task and close
/// would be given every task.
///
/// A batch is filled before the next driver gets a task, because a driver computes as long for a
/// batch that is not full. The tasks of a batch are next to each other in the result.
pub(super) fn distribute(
    queue: &mut Queue,
    idle: &mut Idle,
    mut situation: Situation<'_>,
) -> Vec<(DriverId, Box<Task>)> {
    let most = idle.len().min(queue.len());
    let mut matched = Matched {
        queue,
        idle,
        pairs: Vec::with_capacity(most),
    };
    let now = &mut situation;
    match now.matching {
        Matching::Auto => {
            matched.same_replica(now);
            matched.newcomers(now, true);
            matched.proved(now, true);
            matched.newcomers(now, false);
        }
        Matching::Any => {
            matched.proved(now, false);
            matched.newcomers(now, false);
        }
        Matching::Locked => {
            now.lost_before = Duration::MAX; // the others have replicas
            matched.same_replica(now);
            matched.newcomers(now, false);
        }
    }
    matched.pairs
}

struct Matched<'a> {
    queue: &'a mut Queue,
    idle: &'a mut Idle,
    pairs: Vec<(DriverId, Box<Task>)>,
}

impl Matched<'_> {
    fn pair(&mut self, id: DriverId, task: Box<Task>, now: &Situation<'_>) {
        self.idle.remove(id);
        let companions = match task.attempts {
            0 => (now.capacity)(id).saturating_sub(1),
            _ => 0,
        };
        let natoms = task.job.positions.len();
        let same = (now.matching == Matching::Locked).then_some(task.job.replica);
        self.pairs.push((id, task));
        for _ in 0..companions {
            let Some(task) = self.queue.take_companion(natoms, same) else {
                break;
            };
            self.pairs.push((id, task));
        }
    }

    /// Gives drivers the same replica as last time.
    fn same_replica(&mut self, now: &Situation<'_>) {
        let (idle, queue) = (&self.idle.by_replica, &self.queue);
        let waits = |replica: &i32| {
            queue.fresh.by_replica.contains_key(replica)
                || queue.lost.by_replica.contains_key(replica)
        };
        let replicas = queue.fresh.by_replica.len() + queue.lost.by_replica.len();
        let both: Vec<i32> = if idle.len() < replicas {
            idle.keys().copied().filter(waits).collect()
        } else {
            let fresh = queue.fresh.by_replica.keys();
            let all = fresh.chain(queue.lost.by_replica.keys()).copied();
            all.filter(|replica| idle.contains_key(replica)).collect()
        };
        for replica in both {
            let idle = |matching: &Self| matching.idle.by_replica.get(&replica)?.first().copied();
            while let Some(id) = idle(self) {
                let Some(task) = self.queue.take_replica(replica, (id, now.lost_before)) else {
                    break;
                };
                self.pair(id, task, now);
            }
        }
    }

    /// Gives tasks to drivers that have not answered yet; only to one driver if `on_trial` is true
    /// and another driver could take the task.
    fn newcomers(&mut self, now: &mut Situation<'_>, on_trial: bool) {
        while let Some(&id) = self.idle.new.first() {
            if on_trial && self.idle.proved() > 0 && now.trials > 0 {
                return;
            }
            let Some(task) = self.queue.take_first(&now.claimed, now.lost_before) else {
                return;
            };
            if now.matching == Matching::Locked {
                now.claimed.insert(task.job.replica);
            }
            now.trials += 1;
            self.pair(id, task, now);
        }
    }

    /// Gives drivers that have answered the oldest tasks.
    fn proved(&mut self, now: &Situation<'_>, loose_first: bool) {
        while let Some(id) = self.idle.next_proved(loose_first) {
            let Some(task) = self.queue.take_any(&now.claimed, (id, now.lost_before)) else {
                return;
            };
            self.pair(id, task, now);
        }
    }
}
