//! The clumsy and hostile drivers that the kit plays against a server. A good driver joins each of
//! them.

mod computing;
mod connections;
mod extras;
mod pieces;
mod replies;
mod statuses;

use crate::check::line::Lost;
use crate::check::server::{Clumsy, Judged, Manner, Session, Situation};
use crate::check::situation::{About, CONTROL};
use crate::check::wire::with;

type Outcome = Result<Vec<Clumsy>, Lost>;

const fn situation(
    name: &'static str,
    does: &'static str,
    why: &'static str,
    reference: &'static str,
    script: fn(&mut Session) -> Outcome,
) -> Situation {
    Situation {
        about: About::new(name, does, why, reference),
        judged: Judged::GoesOn,
        script,
    }
}

impl Situation {
    /// Marks a situation that spoils the run: the server may continue with another driver, or end
    /// with a reason.
    const fn may_end(self) -> Self {
        Self {
            judged: Judged::MayEnd,
            ..self
        }
    }
}

const BESIDE: &str =
    "whoever connects may be gone, slow or something else; the others' work goes on";
const REPLY: &str = "FORCEREADY: float64 energy, int32 atoms, forces, virial, int32 length, extras; atoms as in POSDATA";
const EXTRAS: &str =
    "extras: int32 length, at least 0; empty, or a JSON object in UTF-8 for i-PI (`parse_extra`)";
const ORDER: &str =
    "STATUS is answered with NEEDINIT, READY or HAVEDATA, and GETFORCE with FORCEREADY";

/// All situations. The first one is the control.
pub fn all() -> impl Iterator<Item = &'static Situation> {
    const LISTS: [&[Situation]; 7] = [
        CONTROLS,
        connections::SITUATIONS,
        statuses::SITUATIONS,
        computing::SITUATIONS,
        pieces::SITUATIONS,
        replies::SITUATIONS,
        extras::SITUATIONS,
    ];
    LISTS.into_iter().flatten()
}

const CONTROLS: &[Situation] = &[
    situation(
        CONTROL,
        "(control: a good driver)",
        "what has to go well before anything else can be judged",
        ORDER,
        |_| Ok(Vec::new()),
    ),
    Situation {
        judged: Judged::Messages,
        ..situation(
            "messages",
            "looks at every message that it gets",
            "ASE sends the transposed inverse, others angstrom, rows for columns, an INIT without text",
            "cell and positions in bohr, float64, little-endian; a cell's vectors are the columns of h",
            |_| Ok(Vec::new()),
        )
    },
    Situation {
        judged: Judged::Init,
        ..situation(
            "asks-for-init",
            "asks for INIT before its first positions",
            "i-PI's Python driver and Quantum ESPRESSO do",
            ORDER,
            |s| {
                let mut driver = s.probed()?;
                driver.asks_for_init()?;
                Ok(vec![driver])
            },
        )
    },
];

impl Session<'_> {
    /// A connection that sends nothing, no matter what it receives.
    fn mute(&mut self) -> Result<Clumsy, Lost> {
        Ok(self.connect()?.then(Manner::Silent))
    }

    fn says(&mut self, bytes: &[u8]) -> Outcome {
        let mut driver = self.connect()?;
        driver.line.send(bytes)?;
        Ok(vec![driver])
    }

    /// The numbers are correct, no matter what follows them.
    fn with_extras(&mut self, extras: &[u8]) -> Outcome {
        let mut driver = self.asked()?;
        let reply = driver.reply_announcing(extras.len() as i32);
        driver.line.send(&[&reply, extras].concat())?;
        driver.is_right();
        Ok(vec![driver])
    }
}

impl Clumsy {
    /// A reply that announces this many bytes of extras but contains none.
    fn reply_announcing(&self, extras: i32) -> Vec<u8> {
        let reply = self.reply();
        let at = reply.len() - 4;
        with(reply, at, &extras.to_le_bytes())
    }

    fn replies(&mut self) -> Result<(), Lost> {
        self.line.send(&self.reply())?;
        self.is_right();
        Ok(())
    }
}
