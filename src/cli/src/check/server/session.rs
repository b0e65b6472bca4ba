//! A session with a server under test: the drivers connected to it, and how it reacts to them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use forcewire::Header;

use super::book::{Book, locked};
use super::clumsy::{Clumsy, Manner};
use super::heard;
use super::{ENOUGH, Judged, Plan};
use crate::check::ending::{judge_end, last_line, quoted};
use crate::check::limits::Limits;
use crate::check::line::{Address, Line, Lost};
use crate::check::program::{Subject, TICK};
use crate::check::report::{Finding, Verdict};

pub struct Session<'a> {
    pub(super) plan: &'a Plan,
    pub(super) limits: Limits,
    pub(super) subject: Option<Subject>,
    pub(super) address: Address,
    pub(super) book: Arc<Book>,
    /// How many bytes of output the server had written when it accepted us.
    pub(super) said: Option<usize>,
}

impl Session<'_> {
    /// Connects as a driver, once the server listens.
    pub fn connect(&mut self) -> Result<Clumsy, Lost> {
        self.connect_within(self.limits.start)
    }

    pub fn connect_within(&mut self, limit: Duration) -> Result<Clumsy, Lost> {
        let start = Instant::now();
        loop {
            match Line::connect(&self.address) {
                Ok(line) => {
                    line.patience(self.limits.patience);
                    let said = self.said().len();
                    self.said.get_or_insert(said);
                    return Ok(Clumsy {
                        line,
                        patience: self.limits.patience,
                        book: self.book.clone(),
                        good: false,
                        manner: Manner::Good,
                        asked: None,
                    });
                }
                Err(_)
                    if self
                        .subject
                        .as_mut()
                        .is_some_and(|subject| subject.ended().is_some()) =>
                {
                    return Err(Lost::Closed(0));
                }
                Err(error) if start.elapsed() > limit => {
                    let nobody = [io::ErrorKind::ConnectionRefused, io::ErrorKind::NotFound];
                    return Err(match nobody.contains(&error.kind()) {
                        true => Lost::Refused,
                        false => Lost::Silent(0),
                    });
                }
                Err(_) => sleep(10 * TICK),
            }
        }
    }

    /// Connects a driver that has received STATUS and not answered it.
    pub fn probed(&mut self) -> Result<Clumsy, Lost> {
        let mut driver = self.connect()?;
        driver.line.receive(12, self.limits.patience)?;
        Ok(driver)
    }

    /// Connects a driver that has received positions.
    pub fn given(&mut self) -> Result<Clumsy, Lost> {
        let mut driver = self.connect()?;
        while driver.turn()? != Header::PosData {}
        Ok(driver)
    }

    /// Connects a driver that has been asked for its forces.
    pub fn asked(&mut self) -> Result<Clumsy, Lost> {
        let mut driver = self.connect()?;
        while driver.turn()? != Header::GetForce {}
        Ok(driver)
    }

    /// Connects a driver that sends something other than its forces, then continues.
    pub fn answers(&mut self, reply: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Result<Vec<Clumsy>, Lost> {
        let mut driver = self.asked()?;
        let bytes = reply(driver.reply());
        driver.line.send(&bytes)?;
        driver.asked = None;
        Ok(vec![driver])
    }

    /// Connects a driver that sends the beginning of its reply and closes.
    pub fn cut(&mut self, end: impl FnOnce(usize) -> usize) -> Result<Vec<Clumsy>, Lost> {
        let mut driver = self.asked()?;
        let reply = driver.reply();
        driver.line.send(&reply[..end(reply.len())])?;
        Ok(Vec::new())
    }

    /// The finding for a server to which no driver can connect.
    pub(super) fn refused(&self) -> String {
        format!(
            "the server refuses connections: nobody listens at {} within {:.0?}{}",
            self.address,
            self.limits.start,
            quoted(last_line(&self.said()))
        )
    }

    pub(super) fn said(&self) -> String {
        self.subject.as_ref().map(Subject::said).unwrap_or_default()
    }

    /// Lets a good driver join and waits for the end of the run.
    pub(super) fn finish(mut self, left: Vec<Clumsy>, judged: Judged) -> Finding {
        let mut drivers: Vec<_> = left.into_iter().map(Clumsy::goes_on).collect();
        let mut finding = None;
        // If a driver has already been connected, the server is listening.
        let limit = match drivers.len() {
            0 => self.limits.start,
            _ => self.limits.patience,
        };
        match self.connect_within(limit) {
            Ok(mut good) => {
                good.good = true;
                drivers.push(good.goes_on());
            }
            Err(Lost::Silent(_)) => {
                finding = Some(Finding::hung("does not let a good driver connect"))
            }
            Err(Lost::Refused) => finding = Some(Finding::hung(self.refused())),
            // The server has ended.
            Err(Lost::Closed(_)) => {}
        }
        *locked(&self.book.heard) = Some(Instant::now());
        let finding = finding.unwrap_or_else(|| self.watch());
        self.book.over.store(true, Ordering::Relaxed);
        for driver in drivers {
            let _ = driver.join();
        }
        self.judge(finding, judged)
    }

    /// Judges a finding for this situation.
    fn judge(&self, finding: Finding, judged: Judged) -> Finding {
        let handled = finding.verdict == Verdict::Handled;
        if handled && finding.how != "carried on" && judged != Judged::MayEnd {
            return Finding {
                verdict: Verdict::GaveUp,
                because: format!("the run was over for that: {}", finding.because),
                ..finding
            };
        }
        if !handled {
            return finding;
        }
        let mut faults = self.book.faults();
        match judged {
            Judged::GoesOn | Judged::MayEnd => faults.clear(),
            Judged::Init => faults.retain(|fault| fault.name.ends_with("INIT")),
            Judged::Messages => {
                let asked = locked(&self.book.asked);
                let first = asked.first().zip(self.plan.expected.as_ref());
                faults.extend(first.and_then(|(key, right)| heard::expected(key, right)));
            }
        }
        Finding::faulty(&faults).unwrap_or(finding)
    }

    /// Waits until the server ends or shows no more activity.
    fn watch(&mut self) -> Finding {
        let start = Instant::now();
        loop {
            let ended = self.subject.as_mut().and_then(Subject::ended);
            // In this order: everything asked before the end has been recorded by now.
            sleep(TICK);
            if let Some(strange) = self.book.strange(self.plan.control.as_ref()) {
                return Finding::wrong(strange);
            }
            let good = self.book.good.load(Ordering::Relaxed);
            if let Some(status) = ended {
                sleep(10 * TICK);
                let at = self.said.unwrap_or_default();
                let said = self.subject.as_ref().map(|subject| subject.said_since(at));
                let finding = judge_end(status, &said.unwrap_or_default(), false);
                let missing = self
                    .plan
                    .control
                    .as_ref()
                    .map(|control| self.book.missing(control));
                return match missing {
                    _ if !status.success() => finding,
                    Some(0) | None => Finding::handled(
                        "carried on",
                        format!("the whole run is right; {good} of it by the good driver"),
                    ),
                    Some(missing) => Finding::wrong(format!(
                        "ended well, but {missing} of its evaluations never had a right answer"
                    )),
                };
            }
            if self.subject.is_none() && self.book.later.load(Ordering::Relaxed) >= ENOUGH {
                return Finding::handled("carried on", "the work goes on");
            }
            if start.elapsed() > self.limits.run {
                return Finding::hung(format!(
                    "has not come to its end within {:.0?}",
                    self.limits.run
                ));
            }
            let silent = locked(&self.book.heard).map_or(Duration::ZERO, |heard| heard.elapsed());
            if silent > self.limits.patience {
                let said = self.said();
                let patience = self.limits.patience;
                return Finding::hung(format!(
                    "runs, and asked the good driver nothing for {patience:.0?} (answers by then: {good}){}",
                    quoted(last_line(&said))
                ));
            }
        }
    }
}
