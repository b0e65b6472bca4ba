//! The clumsy and hostile servers that the kit plays against a driver.

mod counts;
mod cuts;
mod ends;
mod numbers;
mod pieces;
mod turns;
mod words;

use forcewire::Header::{Exit, GetForce};

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

impl Situation {
    /// Marks a situation in which the server does nothing wrong: a driver has no reason to end.
    const fn legal(self) -> Self {
        Self {
            legal: true,
            ..self
        }
    }

    /// Marks a situation for a connection on which nothing has been sent.
    const fn at_once(self) -> Self {
        Self {
            fresh: true,
            ..self
        }
    }
}

impl Session<'_> {
    fn hears_ready(&mut self) -> Result<(), Stop> {
        let heard = self.hears()?;
        self.ready(&heard)
    }

    /// Reads the requested forces, which have to belong to this structure, and continues.
    fn is_answered(&mut self, index: usize) -> Outcome {
        let answer = self.answer(self.structure(index).positions.len())?;
        self.is(&answer, index)?;
        self.carries_on()
    }

    /// Asks for the forces, which have to belong to this structure, and continues.
    fn computes(&mut self, index: usize) -> Outcome {
        self.send(GetForce)?;
        self.is_answered(index)
    }

    /// Closes after this part of POSDATA.
    fn cuts_positions(&mut self, part: impl Fn(&[u8]) -> &[u8]) -> Outcome {
        self.is_ready()?;
        let message = self.posdata(1);
        self.cut(part(&message))
    }

    fn sends_exit(&mut self) -> Outcome {
        self.send(Exit)?;
        self.exits()
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

/// All situations. The first one is the control.
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
    // The structures are valid, so an early end is not due to the numbers.
    legal: true,
    script: physics::play,
}];
