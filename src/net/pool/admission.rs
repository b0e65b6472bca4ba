//! Accepts connections, and decides how long newcomers wait for a job.

use core::time::Duration;
use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::vec::Vec;

use mio::Interest;

use super::PoolOptions;
use super::reactor::{Reactor, listener_token};
use crate::net::Address;
use crate::net::listener::{self, Accepted, Listener};

/// The most connections to accept in one round, from all listeners together.
const ACCEPTS: usize = 64;

/// The first waiting time of a peer that was lost and connects again without having answered a job.
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// After this time without another loss, the earlier losses of a peer no longer count.
const FORGIVEN: Duration = Duration::from_secs(60);

/// The number of peers to remember.
const REMEMBERED: usize = 4096;

/// The known origin of a connection: an address, or a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Origin {
    Address(IpAddr),
    User(u32),
}

/// The record of an origin.
#[derive(Clone, Copy, Debug, Default)]
struct Record {
    /// How many drivers were lost over a job without ever having answered one.
    strikes: u32,
    /// The time until which the next driver gets no job.
    until: Duration,
    /// Whether a driver from this origin has answered a job.
    has_answered: bool,
}

#[derive(Debug, Default)]
pub(super) struct Admission {
    listeners: Vec<Door>,
    /// The index of the listener to ask first.
    first: usize,
    records: HashMap<Origin, Record>,
}

#[derive(Debug)]
struct Door {
    listener: Listener,
    /// Whether a connection may be waiting that the poll will not report again.
    knocking: bool,
}

/// An accepted connection that may become one of the pool's.
pub(super) struct Arrival {
    pub(super) accepted: Accepted,
    pub(super) origin: Origin,
    pub(super) is_allowed: bool,
}

impl Admission {
    pub(super) fn listen(
        &mut self,
        address: &Address,
        options: &PoolOptions,
        reactor: &Reactor,
    ) -> io::Result<Address> {
        let opened = Listener::open(address, options.any_user)?;
        let bound = opened
            .first()
            .map_or_else(|| address.clone(), |listener| listener.address().clone());
        for listener in opened {
            let token = listener_token(self.listeners.len());
            reactor.register(&listener, token, Interest::READABLE)?;
            self.listeners.push(Door {
                listener,
                knocking: true,
            });
        }
        Ok(bound)
    }

    /// Stops listening.
    pub(super) fn close(&mut self, reactor: &Reactor) {
        for door in self.listeners.drain(..) {
            reactor.deregister(&door.listener);
        }
    }

    pub(super) fn knock(&mut self, index: usize) {
        if let Some(door) = self.listeners.get_mut(index) {
            door.knocking = true;
        }
    }

    pub(super) fn is_knocking(&self) -> bool {
        self.listeners.iter().any(|door| door.knocking)
    }

    /// Accepts waiting connections as long as there is `room`. Each listener has its share, and
    /// each round begins with another one. Returns the connections, and whether more may be waiting
    /// for the next round.
    pub(super) fn accept(&mut self, room: usize, options: &PoolOptions) -> (Vec<Arrival>, bool) {
        let knocking = self.listeners.iter().filter(|door| door.knocking).count();
        if knocking == 0 || room == 0 {
            return (Vec::new(), false);
        }
        let share = ACCEPTS.div_ceil(knocking);
        let (mut arrivals, mut more) = (Vec::new(), false);
        let count = self.listeners.len();
        self.first = (self.first + 1) % count.max(1);
        for index in 0..count {
            let Some(door) = self.listeners.get_mut((self.first + index) % count) else {
                continue;
            };
            // Connections that closed before they were accepted count too.
            for _ in 0..share {
                if !door.knocking || arrivals.len() >= room {
                    break;
                }
                match door.listener.accept() {
                    Ok(accepted) => arrivals.push(Arrival::new(accepted, options)),
                    Err(error) => match error.kind() {
                        ErrorKind::WouldBlock => door.knocking = false,
                        ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                        // No descriptor is free. The end of another driver, or time, may help.
                        _ => return (arrivals, false),
                    },
                }
            }
            more |= door.knocking && arrivals.len() < room;
        }
        (arrivals, more)
    }

    /// The time until which a driver that connects now gets no job.
    pub(super) fn held_until(&self, origin: Origin) -> Duration {
        let record = self.records.get(&origin);
        record.map_or(Duration::ZERO, |record| record.until)
    }

    /// Records that a driver was lost over a job before it had answered any. The next driver from
    /// this origin has to wait, for twice as long each time, up to `most`.
    pub(super) fn strike(&mut self, origin: Origin, now: Duration, most: Duration) {
        let Some(record) = self.record(origin, now) else {
            return;
        };
        if record.until + FORGIVEN < now {
            record.strikes = 0;
        }
        let wait = FIRST_WAIT.saturating_mul(1 << record.strikes.min(16));
        record.strikes += 1;
        record.until = now + wait.min(most);
    }

    /// Records that a driver from this origin has answered.
    pub(super) fn has_answered(&mut self, origin: Origin, now: Duration) {
        if let Some(record) = self.record(origin, now) {
            record.has_answered = true;
        }
    }

    /// Whether a driver from this origin has ever answered.
    pub(super) fn is_known(&self, origin: Origin) -> bool {
        let record = self.records.get(&origin);
        record.is_some_and(|record| record.has_answered)
    }

    fn record(&mut self, origin: Origin, now: Duration) -> Option<&mut Record> {
        if self.records.len() >= REMEMBERED && !self.records.contains_key(&origin) {
            self.records
                .retain(|_, record| record.has_answered || record.until + FORGIVEN > now);
            if self.records.len() >= REMEMBERED {
                return None;
            }
        }
        Some(self.records.entry(origin).or_default())
    }
}

impl Arrival {
    fn new(accepted: Accepted, options: &PoolOptions) -> Self {
        let (origin, is_allowed) = match accepted.from {
            listener::Origin::Address(address) => {
                let address = address.ip().to_canonical();
                let allow = &options.allow;
                let is_allowed =
                    allow.is_empty() || allow.iter().any(|subnet| subnet.contains(address));
                (Origin::Address(address), is_allowed)
            }
            listener::Origin::Process(peer) => (
                Origin::User(peer.user()),
                options.any_user || peer.is_ours(),
            ),
        };
        Self {
            accepted,
            origin,
            is_allowed,
        }
    }
}
