//! Events of a pool, and its errors.

use core::fmt;
use core::time::Duration;
use std::boxed::Box;
use std::io;
use std::string::String;
use std::vec::Vec;

use super::{Answered, DriverId, Job, Ticket};
use crate::deadlines::TimedOut;
use crate::fmt::debug_as_display;
use crate::protocol::ProtocolError;

/// An event in a pool.
#[derive(Debug)]
#[non_exhaustive]
pub enum PoolEvent {
    /// A driver has connected and answered; in [`Mode::Strict`](crate::Mode::Strict), it has only
    /// connected.
    Joined {
        /// Its number.
        driver: DriverId,
        /// The address of the driver, or its process and the unix socket.
        peer: String,
    },
    /// A driver has gone, or was dropped. A driver that never answered may leave without having
    /// joined.
    Left {
        /// Its number.
        driver: DriverId,
        /// The address of the driver, or its process and the unix socket.
        peer: String,
        /// The reason.
        why: LeftReason,
        /// How many jobs it had. They go to other drivers.
        requeued: usize,
    },
    /// A job has been computed.
    Answered(Answered),
    /// A job has failed after the loss of as many drivers as
    /// [`PoolOptions::attempts`](crate::net::PoolOptions::attempts) allows.
    GivenUp {
        /// The ticket from [`Pool::submit`](crate::net::Pool::submit).
        ticket: Ticket,
        /// The job.
        job: Job,
        /// How many drivers had it.
        attempts: u32,
    },
}

/// Why a driver is no longer in a pool.
#[non_exhaustive]
pub enum LeftReason {
    /// The driver closed the connection while it had no job.
    Closed,
    /// The driver was sent EXIT and closed the connection.
    Dismissed,
    /// The driver's address is not in [`PoolOptions::allow`](crate::net::PoolOptions::allow), or it
    /// belongs to another user.
    NotAllowed,
    /// The driver sent something without being asked.
    OutOfTurn,
    /// The driver violated the protocol, or closed in the middle of a conversation.
    Protocol(ProtocolError),
    /// The connection was lost.
    Lost(io::Error),
    /// The driver exceeded a deadline.
    Late(TimedOut),
}

impl fmt::Display for LeftReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("it closed the connection"),
            Self::Dismissed => f.write_str("it was told to exit, and did"),
            Self::NotAllowed => f.write_str(
                "it is not allowed to connect: allow its address, or its user, if it should be",
            ),
            Self::OutOfTurn => f.write_str("it sent something without being asked"),
            Self::Protocol(error) => error.fmt(f),
            Self::Lost(error) => write!(f, "the connection was lost: {error}"),
            Self::Late(late) => late.describe(f),
        }
    }
}

impl LeftReason {
    /// Whether the driver did something wrong, or was lost.
    pub(super) const fn is_a_fault(&self) -> bool {
        !matches!(self, Self::Closed | Self::Dismissed | Self::NotAllowed)
    }
}

debug_as_display!(LeftReason);

impl core::error::Error for LeftReason {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Protocol(error) => Some(error),
            Self::Lost(error) => Some(error),
            Self::Late(late) => Some(late),
            _ => None,
        }
    }
}

/// A job that can't be sent to any driver, returned to the caller.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Refused {
    /// The job.
    pub job: Box<Job>,
    /// The reason.
    pub why: ProtocolError,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.why.fmt(f)
    }
}

debug_as_display!(Refused);

impl core::error::Error for Refused {}

/// [`Pool::evaluate`](crate::net::Pool::evaluate) could not get all answers. The error has the
/// answers so far, and the jobs without an answer, which can be submitted again.
#[non_exhaustive]
pub struct EvaluateError {
    /// The reason.
    pub why: EvaluateFailure,
    /// The answers so far, in the order of their jobs.
    pub answered: Vec<Answered>,
    /// The jobs without an answer, in their order, except for one that was
    /// [refused](EvaluateFailure::Refused).
    pub jobs: Vec<Job>,
}

/// Why [`Pool::evaluate`](crate::net::Pool::evaluate) could not get all answers.
#[non_exhaustive]
pub enum EvaluateFailure {
    /// One of the jobs can't be sent to any driver.
    Refused(Refused),
    /// A job has failed after the loss of as many drivers as
    /// [`PoolOptions::attempts`](crate::net::PoolOptions::attempts) allows.
    GivenUp {
        /// Its ticket.
        ticket: Ticket,
        /// How many drivers had it.
        attempts: u32,
    },
    /// The time limit has passed.
    Late {
        /// The number of jobs without an answer.
        missing: usize,
        /// The number of drivers.
        drivers: usize,
        /// The limit.
        limit: Duration,
    },
    /// The pool is [drained](crate::net::Pool::drain) and no longer hands out jobs.
    Draining,
    /// Waiting for sockets failed.
    Waiting(io::Error),
}

impl fmt::Display for EvaluateFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refused) => refused.fmt(f),
            Self::GivenUp { attempts, .. } => write!(
                f,
                "drivers were lost {attempts} times over one structure: look at it, or at what they say"
            ),
            Self::Late {
                missing,
                drivers: 0,
                limit,
            } => write!(
                f,
                "waited {limit:?} for {missing} evaluations and there is no driver: start one"
            ),
            Self::Late {
                missing,
                drivers,
                limit,
            } => write!(
                f,
                "waited {limit:?} for {missing} evaluations by {drivers} drivers: have more patience, or \
                 more drivers"
            ),
            Self::Draining => {
                f.write_str("the pool is drained, it gives jobs to nobody: make another")
            }
            Self::Waiting(error) => write!(f, "can't wait for sockets: {error}"),
        }
    }
}

debug_as_display!(EvaluateFailure);

impl fmt::Display for EvaluateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.why.fmt(f)
    }
}

debug_as_display!(EvaluateError);

impl core::error::Error for EvaluateError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match &self.why {
            EvaluateFailure::Refused(refused) => Some(refused),
            EvaluateFailure::Waiting(error) => Some(error),
            _ => None,
        }
    }
}
