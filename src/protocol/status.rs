//! What a server knows about its driver.

use core::fmt;
use core::ops::BitOr;

/// What a [`Server`](crate::Server) knows about its driver: a set of flags, as in i-PI (3.3.1
/// `ipi/interfaces/sockets.py`, `Status`).
///
/// ```
/// use forcewire::Status;
///
/// let status = Status::UP | Status::NEEDS_INIT;
/// assert!(status.contains(Status::NEEDS_INIT) && !status.contains(Status::READY));
/// assert_eq!(status.to_string(), "up, needs init");
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Status(u8);

impl Status {
    /// The empty set: the driver has gone, or never connected. Compare with `==`: `contains` is
    /// always true for the empty set.
    pub const DISCONNECTED: Self = Self(0);
    /// The driver is connected.
    pub const UP: Self = Self(1);
    /// The driver waits for positions.
    pub const READY: Self = Self(2);
    /// The driver waits for INIT.
    pub const NEEDS_INIT: Self = Self(4);
    /// The driver has computed forces and waits until it is asked for them.
    pub const HAS_DATA: Self = Self(8);
    /// The driver owes an answer: it computes, or has not answered STATUS yet.
    pub const BUSY: Self = Self(16);
    /// A deadline of the caller has passed
    /// ([`Server::mark_timed_out`](crate::Server::mark_timed_out)), and the driver has sent nothing
    /// since.
    pub const TIMEOUT: Self = Self(32);

    const NAMES: [(Self, &'static str); 6] = [
        (Self::UP, "up"),
        (Self::READY, "ready"),
        (Self::NEEDS_INIT, "needs init"),
        (Self::HAS_DATA, "has data"),
        (Self::BUSY, "busy"),
        (Self::TIMEOUT, "timeout"),
    ];

    /// Whether all flags of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Status {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::DISCONNECTED {
            return f.write_str("disconnected");
        }
        let mut separator = "";
        for (flag, name) in Self::NAMES {
            if self.contains(flag) {
                f.write_str(separator)?;
                f.write_str(name)?;
                separator = ", ";
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Status({self})")
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Status {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "{}", defmt::Display2Format(self));
    }
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::ToString as _;

    use super::*;

    #[test]
    fn a_set_is_told_by_the_names_of_what_is_in_it() {
        let all = Status::NAMES
            .iter()
            .fold(Status::DISCONNECTED, |set, &(flag, _)| set | flag);
        let names = "up, ready, needs init, has data, busy, timeout";
        assert_eq!(all.to_string(), names);
        assert_eq!(Status::default().to_string(), "disconnected");
        assert_eq!((Status::UP | Status::BUSY).to_string(), "up, busy");
        let debug = format!("{:?}", Status::UP | Status::BUSY);
        assert_eq!(debug, "Status(up, busy)");
        assert_eq!(all | all, all);
        for (flag, name) in Status::NAMES {
            assert_eq!(flag.to_string(), name);
            assert_eq!(format!("{flag:?}"), format!("Status({name})"));
            assert!(all.contains(flag) && !Status::DISCONNECTED.contains(flag));
        }
    }
}
