//! The clumsy and hostile servers that drivers are played against.

mod counts;
mod cuts;
mod ends;
mod numbers;
mod pieces;
mod turns;
mod words;

use crate::check::driver::{Session, Situation, Stop};
use crate::check::physics;
use crate::check::report::Finding;
use crate::check::situation::{About, CONTROL};

type Outcome = Result<Finding, Stop>;

const fn after_control(
    name: &'static str,
    does: &'static str,
    why: &'static str,
    reference: &'static str,
    script: fn(&mut Session) -> Outcome,
) -> Situation {
    Situation {
        about: About::new(name, does, why, reference),
        fresh: false,
        legal: false,
        script,
    }
}

/// The server does nothing wrong: a driver has no reason to end.
const fn legal(
    name: &'static str,
    does: &'static str,
    why: &'static str,
    reference: &'static str,
    script: fn(&mut Session) -> Outcome,
) -> Situation {
    Situation {
        legal: true,
        ..after_control(name, does, why, reference, script)
    }
}

const fn at_once(
    name: &'static str,
    does: &'static str,
    why: &'static str,
    reference: &'static str,
    script: fn(&mut Session) -> Outcome,
) -> Situation {
    Situation {
        fresh: true,
        ..after_control(name, does, why, reference, script)
    }
}

const MESSAGE: &str = "a message is complete with its last byte, and i-PI's drivers compute then";
const COUNTS: &str =
    "the number of atoms is an int32, at least 0, and the same within a run (i-PI's driver.py)";
const TEXT: &str =
    "INIT: int32 replica, int32 length, so many bytes (i-PI sockets.py, `initialize`)";
const ORDER: &str =
    "STATUS at any time; POSDATA when READY; GETFORCE when HAVEDATA (i-PI's driver.f90)";
const END: &str = "EXIT at any message's end; ASE's server closes instead (socketio.py, `close`)";

/// All of them. The first one is the control.
pub fn all() -> impl Iterator<Item = &'static Situation> {
    const LISTS: [&[Situation]; 9] = [
        CONTROLS,
        pieces::SITUATIONS,
        cuts::SITUATIONS,
        words::SITUATIONS,
        counts::SITUATIONS,
        numbers::SITUATIONS,
        turns::SITUATIONS,
        ends::SITUATIONS,
        PHYSICS,
    ];
    LISTS.into_iter().flatten()
}

const CONTROLS: &[Situation] = &[after_control(
    CONTROL,
    "(control: a good server)",
    "what has to go well before anything else can be judged",
    ORDER,
    |s| s.carries_on(),
)];

const PHYSICS: &[Situation] = &[Situation {
    about: physics::ABOUT,
    fresh: true,
    legal: false,
    script: physics::play,
}];
