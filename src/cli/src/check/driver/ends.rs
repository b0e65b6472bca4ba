//! How conversations with a driver end, and the judgement of each ending.

use std::process::ExitStatus;
use std::thread::sleep;
use std::time::{Duration, Instant};

use forcewire::Header;

use super::Stop;
use super::session::Session;
use crate::check::ending::judge_end;
use crate::check::line::{Line, Lost};
use crate::check::listener::Listener;
use crate::check::program::TICK;
use crate::check::report::Finding;
use crate::check::wire;

impl Session<'_> {
    /// Ends a message early, then records what else the driver sends and how it ends.
    pub fn cut(&mut self, bytes: &[u8]) -> Result<Finding, Stop> {
        self.inside = true;
        self.line.send(bytes)?;
        self.line.say_no_more();
        let (heard, closed) = self.line.drain(self.limits.patience);
        let word = wire::header(Header::ForceReady);
        if heard.windows(word.len()).any(|bytes| bytes == word) {
            return Err(Stop::Wrong(
                "sent forces for a message that it never had".into(),
            ));
        }
        Ok(self.end(closed))
    }

    /// Begins a message and never completes it, until our patience runs out and we close.
    pub fn stall(&mut self, bytes: &[u8]) -> Result<Finding, Stop> {
        self.inside = true;
        self.line.send(bytes)?;
        match self.line.receive(12, self.limits.patience) {
            Ok(heard) => {
                let heard = heard.escape_ascii();
                Err(Stop::Wrong(format!(
                    "answered \"{heard}\" to half a message"
                )))
            }
            Err(Lost::Closed(_) | Lost::Refused) => Ok(self.end(true)),
            Err(Lost::Silent(_)) => {
                self.line.say_no_more();
                let (_, closed) = self.line.drain(self.limits.patience);
                let mut finding = self.end(closed);
                finding.timed = true;
                finding.because =
                    format!("waited until the server closed, then {}", finding.because);
                Ok(finding)
            }
        }
    }

    /// Closes the connection between two messages.
    pub fn hangs_up(&mut self) -> Result<Finding, Stop> {
        self.line.say_no_more();
        let (_, closed) = self.line.drain(self.limits.patience);
        Ok(self.end(closed))
    }

    /// Resets the connection; a unix socket can only close.
    pub fn resets(&mut self) -> Result<Finding, Stop> {
        self.replace()?.reset();
        Ok(self.end(false))
    }

    /// Resets the connection in the middle of a message.
    pub fn resets_inside(&mut self) -> Result<Finding, Stop> {
        self.inside = true;
        self.resets()
    }

    /// Stops listening and starts again.
    pub fn restarts(&mut self) -> Result<Finding, Stop> {
        drop(self.replace()?);
        let again = self
            .listener
            .take()
            .map(|listener| listener.again(Duration::from_millis(200)));
        match again {
            Some(Ok(listener)) => self.listener = Some(listener),
            _ => return Ok(Finding::hung("the kit could not listen again")),
        }
        Ok(self.end(false))
    }

    /// Takes the line and puts a dead one in its place.
    fn replace(&mut self) -> Result<Line, Stop> {
        let (dead, _) = std::os::unix::net::UnixStream::pair().map_err(|_| Lost::Closed(0))?;
        Ok(std::mem::replace(&mut self.line, Line::Unix(dead)))
    }

    /// Sends EXIT: the driver has to end without an error, or connect again for the next run.
    pub fn exits(&mut self) -> Result<Finding, Stop> {
        let (_, closed) = self.line.drain(self.limits.patience);
        let finding = self.end(closed);
        Ok(match finding.how {
            "closed" => Finding::hung("closed after EXIT, and does not end"),
            "silent" if !closed => Finding::hung("neither closed nor ended after EXIT"),
            _ => finding,
        })
    }

    /// The finding if the script could not continue.
    pub(super) fn stopped(&mut self, stop: Stop) -> Finding {
        match stop {
            Stop::Wrong(what) => Finding::wrong(what),
            Stop::NotFinite(what) => Finding {
                how: "NaN in, NaN out",
                ..Finding::wrong(format!("computed it: {what} infinite or NaN"))
            },
            Stop::Lost(lost) => self.lost(lost),
            Stop::Dropped => match self.is_right() {
                Ok(()) => {
                    Finding::handled("recovered", "let the structure drop; the next one is right")
                }
                Err(Stop::Dropped) => Finding::hung("takes no structure any more"),
                Err(stop) => self.stopped(stop),
            },
        }
    }

    /// Judges a driver whose connection is over: it may end, or connect again.
    fn lost(&mut self, lost: Lost) -> Finding {
        match lost {
            Lost::Closed(_) | Lost::Refused => self.end(true),
            Lost::Silent(after) => match self.subject.ended() {
                Some(_) => self.end(false),
                None => Finding::hung(match after {
                    0 => format!(
                        "no answer within {:.0?}, and it runs on",
                        self.limits.patience
                    ),
                    _ => format!("stopped after {after} bytes of its answer, and runs on"),
                }),
            },
        }
    }

    /// Judges how the driver ends. A driver that we saw closing may continue with other work.
    fn end(&mut self, closed: bool) -> Finding {
        let (start, before) = (Instant::now(), self.subject.cpu());
        let back = loop {
            if let Some(status) = self.subject.ended() {
                return self.ended(status);
            }
            if let Some(line) = self.listener.as_ref().and_then(Listener::accept) {
                break line;
            }
            if start.elapsed() > self.limits.patience {
                let busy = self.subject.cpu().saturating_sub(before);
                return runs_on(closed, busy, start.elapsed());
            }
            sleep(TICK);
        };
        self.line = back;
        self.line.patience(self.limits.patience);
        match self.is_right() {
            Ok(()) => Finding::handled("came back", "connected again; the numbers are right"),
            Err(Stop::Wrong(what)) => Finding::wrong(format!("connected again, then {what}")),
            Err(_) => match self.subject.ends_within(self.limits.patience) {
                Some(status) => {
                    let finding = self.ended(status);
                    Finding {
                        because: format!("connected again, then {}", finding.because),
                        ..finding
                    }
                }
                None => Finding::hung("connected again, and did not take part"),
            },
        }
    }

    fn ended(&self, status: ExitStatus) -> Finding {
        judge_end(status, &self.subject.said_since(self.said), self.inside)
    }
}

/// Judges a driver whose connection is over and which does not end.
fn runs_on(closed: bool, busy: Duration, time: Duration) -> Finding {
    // On a busy machine it gets only part of a processor. A waiting program uses almost none.
    if 20 * busy > time {
        return Finding::hung("the connection is over, and it spins: it keeps a processor busy");
    }
    match closed {
        true => Finding {
            timed: true,
            ..Finding::handled("closed", "closed the connection, and runs on")
        },
        false => Finding::hung("the connection is over, and it runs on without coming back"),
    }
}
