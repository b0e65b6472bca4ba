//! Frames in, one line of JSON for each out, in their order.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use forcewire::Rotation;
use forcewire::net::{Answered, Job, Ticket};
use serde_json::{Value, json};

use crate::drivers::{Drivers, counted};
use crate::xyz::Frame;

/// Frames for each driver, or each place in its batch, that are asked for and not printed yet: more
/// would fill the memory while the first of them takes its time.
const AHEAD: usize = 8;

/// How long drivers are served before we look for frames again, and the other way round.
const TICK: Duration = Duration::from_millis(10);

type Item = Result<Frame, String>;

/// A frame that drivers have.
struct Asked {
    index: usize,
    line: usize,
    rotation: Rotation,
}

/// Evaluates all frames, by drivers that take `batch` at once. A frame that can't be computed ends
/// it, or has a line that says so if it is to `keep_going`.
pub fn evaluate(
    frames: impl Iterator<Item = Item> + Send + 'static,
    drivers: &mut Drivers,
    batch: usize,
    keep_going: bool,
) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let mut evaluation = Evaluation {
        keep_going,
        asked: BTreeMap::new(),
        lines: BTreeMap::new(),
        submitted: 0,
        printed: 0,
        failed: 0,
    };
    let result = evaluation.run(&read_ahead(frames), drivers, batch);
    // What has been computed is not lost with what has not.
    let printed = evaluation.print_all();
    let seconds = start.elapsed().as_secs_f64();
    let frames = counted(evaluation.printed, "frame");
    let rate = evaluation.printed as f64 / seconds;
    drivers.say(&format!(
        "{frames} in {seconds:.3} s, {rate:.1} evaluations/s"
    ));
    result?;
    printed?;
    match evaluation.failed {
        0 => Ok(()),
        failed => Err(format!("{} can't be computed", counted(failed, "frame")).into()),
    }
}

struct Evaluation {
    keep_going: bool,
    /// Frames that drivers have.
    asked: BTreeMap<Ticket, Asked>,
    /// Lines that wait for those before them.
    lines: BTreeMap<usize, String>,
    submitted: usize,
    printed: usize,
    failed: usize,
}

impl Evaluation {
    fn run(
        &mut self,
        frames: &Receiver<Item>,
        drivers: &mut Drivers,
        batch: usize,
    ) -> Result<(), Box<dyn Error>> {
        let mut end = None;
        loop {
            let most = AHEAD
                .saturating_mul(batch)
                .saturating_mul(drivers.count().max(1));
            while end.is_none() && self.submitted - self.printed < most {
                let patience = if self.asked.is_empty() {
                    TICK
                } else {
                    Duration::ZERO
                };
                match frames.recv_timeout(patience) {
                    Ok(Ok(frame)) => self.submit(frame, drivers)?,
                    Ok(Err(error)) => end = Some(Err(error)),
                    Err(RecvTimeoutError::Disconnected) => end = Some(Ok(())),
                    Err(RecvTimeoutError::Timeout) => break,
                }
            }
            self.print()?;
            let limit = match (self.asked.is_empty(), &end) {
                (true, Some(_)) => break,
                (true, None) => Some(Duration::ZERO),
                (false, None) if self.submitted - self.printed < most => Some(TICK),
                (false, _) => None,
            };
            match drivers.next(limit)? {
                Some(Ok(answer)) => {
                    if let Some(one) = self.asked.remove(&answer.ticket) {
                        self.lines.insert(one.index, line(&one, &answer)?);
                    }
                }
                Some(Err(why)) => {
                    if let Some(one) = self.asked.remove(&why.ticket) {
                        self.fail(&one, &why)?;
                    }
                }
                None => {}
            }
            self.print()?;
        }
        Ok(end.unwrap_or(Ok(()))?)
    }

    fn submit(&mut self, frame: Frame, drivers: &mut Drivers) -> Result<(), Box<dyn Error>> {
        let (job, one) = job(frame, self.submitted);
        self.submitted += 1;
        match drivers.submit(job) {
            Ok(ticket) => {
                self.asked.insert(ticket, one);
                Ok(())
            }
            Err(why) => self.fail(&one, &*why),
        }
    }

    /// A frame can't be computed.
    fn fail(&mut self, one: &Asked, why: &dyn fmt::Display) -> Result<(), Box<dyn Error>> {
        if !self.keep_going {
            let Asked { index, line, .. } = one;
            return Err(format!("frame {index}, which begins in line {line}: {why}").into());
        }
        let error = json!(why.to_string());
        let line = format!(r#"{{"frame":{},"error":{error}}}"#, one.index);
        self.lines.insert(one.index, line);
        self.failed += 1;
        Ok(())
    }

    /// Prints the lines that wait for none before them.
    fn print(&mut self) -> Result<(), String> {
        while let Some(line) = self.lines.remove(&self.printed) {
            print(line)?;
            self.printed += 1;
        }
        Ok(())
    }

    /// Prints the lines that there are.
    fn print_all(&mut self) -> Result<(), String> {
        while let Some((_, line)) = self.lines.pop_first() {
            print(line)?;
            self.printed += 1;
        }
        Ok(())
    }
}

fn print(line: String) -> Result<(), String> {
    // The line and its end at once: a pipe would be written to twice.
    let result = io::stdout().lock().write_all((line + "\n").as_bytes());
    result.map_err(|error| format!("can't print a result: {error}"))
}

/// Reads frames in another thread: no driver waits for a file, or a person at the standard input.
fn read_ahead(frames: impl Iterator<Item = Item> + Send + 'static) -> Receiver<Item> {
    let (sender, receiver) = mpsc::sync_channel(AHEAD);
    thread::spawn(move || {
        for frame in frames {
            if sender.send(frame).is_err() {
                break;
            }
        }
    });
    receiver
}

fn job(frame: Frame, index: usize) -> (Job, Asked) {
    let rotation = frame.rotation;
    let positions = frame.positions.iter().map(|r| rotation.apply(*r));
    let asked = Asked {
        index,
        line: frame.line,
        rotation,
    };
    (Job::new(frame.upper, positions.collect()), asked)
}

/// What a driver found, in the frame's own axes.
fn line(asked: &Asked, answer: &Answered) -> serde_json::Result<String> {
    let forces = answer.job.forces.iter().map(|f| asked.rotation.undo(*f));
    let virial = asked.rotation.undo_virial(&answer.virial);
    Ok(format!(
        r#"{{"frame":{},"energy":{},"forces":{},"virial":{},"extras":{},"driver":{},"microseconds":{}}}"#,
        asked.index,
        json!(answer.energy),
        serde_json::to_string(&forces.collect::<Vec<_>>())?,
        serde_json::to_string(&virial.0)?,
        extras(&answer.extras),
        answer.driver,
        answer.took.as_micros()
    ))
}

/// JSON as it is, other text as a string. Drivers that have none send nothing, a blank or a NUL.
fn extras(bytes: &[u8]) -> Value {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
    if text.is_empty() {
        return Value::Null;
    }
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extras_are_json_or_a_string_or_nothing() {
        for nothing in [&b""[..], b" ", b"\0", b" \n"] {
            assert_eq!(extras(nothing), Value::Null);
        }
        let json = extras(b"{\"dipole\": [1, 0.1],\n \"ok\": true}\n");
        assert_eq!(json.to_string(), r#"{"dipole":[1,0.1],"ok":true}"#);
        assert_eq!(extras(b"done\n at \xff"), json!("done\n at \u{fffd}"));
        assert_eq!(extras(b"{\"x\": NaN}"), json!("{\"x\": NaN}"));
    }
}
