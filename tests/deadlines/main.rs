//! Deadlines in virtual time, for both roles and over each shim. Each deadline passes when it
//! should and not before, reports what was waited for, and the conversation can still be completed.

mod driver;
mod server;
mod shims;
mod timed;

use std::fmt::Debug;
use std::time::Duration;

use forcewire::{Awaited, Deadline, Deadlines, Header, TimedOut};

use shims::{Asynch, Blocking, Rings, Shim};

/// The limit of each in seconds.
const HANDSHAKE: u64 = 10;
const MESSAGE: u64 = 5;
const EVALUATION: u64 = 60;

const DEADLINES: Deadlines = Deadlines::NONE
    .handshake(Duration::from_secs(HANDSHAKE))
    .message(Duration::from_secs(MESSAGE))
    .evaluation(Duration::from_secs(EVALUATION));

/// Checks that the exchange was given up at this second, or slightly later if the shim checks only
/// from time to time; the second time in a row, twice as late.
#[track_caller]
fn late<S: Shim, T: Debug>(shim: &S, at: u64, result: Result<T, TimedOut>) -> Late {
    late_after(shim, Duration::from_secs(at), 0, result)
}

/// Like [`late`], this many seconds after a given time.
#[track_caller]
fn late_after<S: Shim, T: Debug>(
    shim: &S,
    moment: Duration,
    seconds: u64,
    result: Result<T, TimedOut>,
) -> Late {
    let late = result.expect_err("more time than there was");
    let at = moment + Duration::from_secs(seconds);
    let now = shim.now();
    assert!(now >= at && now < at + 2 * S::LATE, "{now:?}, not {at:?}");
    let limit = match late.deadline {
        Deadline::Handshake => HANDSHAKE,
        Deadline::Message => MESSAGE,
        Deadline::Evaluation => EVALUATION,
        deadline => panic!("{deadline:?}"),
    };
    assert_eq!(late.limit, Duration::from_secs(limit));
    Late(late)
}

struct Late(TimedOut);

impl Late {
    /// Expects a time-out between two messages.
    #[track_caller]
    fn says(self, deadline: Deadline, awaited: Awaited, text: &str) {
        assert_eq!((self.0.deadline, self.0.awaited), (deadline, awaited));
        assert!(!self.0.is_midway() && self.0.within.is_none());
        let said = self.0.to_string();
        assert!(said.contains(text), "{said}");
        assert!(said.contains("connection is still good"), "{said}");
    }

    /// Expects a time-out inside an incoming message, after this many of its bytes.
    #[track_caller]
    fn says_rest(self, deadline: Deadline, of: Option<Header>, moved: usize, announced: usize) {
        let it = self.0;
        assert_eq!((it.deadline, it.awaited), (deadline, Awaited::Rest));
        assert_eq!(
            (it.within, it.moved, it.announced),
            (of, moved, Some(announced))
        );
        assert!(it.is_midway());
        let said = it.to_string();
        let name = of.map_or("a message", Header::name);
        let text = format!("for the rest of {name}, {moved} of {announced} bytes have moved");
        assert!(said.contains(&text), "{said}");
        let question = match deadline {
            Deadline::Handshake => "does it speak the i-PI protocol?",
            _ => "is it still running?",
        };
        assert!(said.contains(question), "{said}");
        assert!(
            said.contains("Run the same exchange again, or close"),
            "{said}"
        );
    }

    /// Expects a time-out inside an incoming message whose length is not known yet.
    #[track_caller]
    fn says_open(self, of: Header, moved: usize) {
        let it = self.0;
        assert_eq!(
            (it.deadline, it.awaited),
            (Deadline::Message, Awaited::Rest)
        );
        assert_eq!((it.within, it.moved, it.announced), (Some(of), moved, None));
        let text = format!("for the rest of {}, {moved} bytes have moved", of.name());
        assert!(it.to_string().contains(&text), "{it}");
    }

    /// Expects a time-out inside a message that is being sent.
    #[track_caller]
    fn says_taken(self, of: Header) {
        let it = self.0;
        assert_eq!(
            (it.deadline, it.awaited),
            (Deadline::Message, Awaited::Taken)
        );
        assert!(it.is_midway() && it.within == Some(of) && it.announced.is_none());
        let text = format!("for the peer to take {}, {} bytes", of.name(), it.moved);
        assert!(it.to_string().contains(&text), "{it}");
    }
}

/// Runs a test over each shim.
macro_rules! over_each {
    ($($name:ident)*) => {
        mod blocking { $(#[test] fn $name() { super::$name::<crate::Blocking>() })* }
        mod asynch { $(#[test] fn $name() { super::$name::<crate::Asynch>() })* }
        mod rings { $(#[test] fn $name() { super::$name::<crate::Rings>() })* }
    };
}
pub(crate) use over_each;
