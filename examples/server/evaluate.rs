//! Frames in, one line of JSON for each out, in their order.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use forcewire::Rotation;
use forcewire::net::{Answered, Job};
use serde_json::{Value, json};

use crate::drivers::{Drivers, counted};
use crate::xyz::Frame;

/// Frames for each driver, or each place in its batch, that are asked for and not printed yet: more would fill the
/// memory while the first of them takes its time.
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

/// Evaluates all frames, by drivers that take `batch` at once.
pub fn evaluate(
    frames: impl Iterator<Item = Item> + Send + 'static,
    drivers: &mut Drivers,
    batch: usize,
) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let frames = read_ahead(frames);
    let mut out = io::stdout().lock();
    let mut asked = BTreeMap::new();
    // Lines that wait for those before them.
    let mut lines = BTreeMap::new();
    let (mut submitted, mut printed) = (0, 0);
    let mut end = None;
    loop {
        let most = AHEAD
            .saturating_mul(batch)
            .saturating_mul(drivers.count().max(1));
        while end.is_none() && submitted - printed < most {
            let patience = if asked.is_empty() {
                TICK
            } else {
                Duration::ZERO
            };
            match frames.recv_timeout(patience) {
                Ok(Ok(frame)) => {
                    let (job, one) = job(frame, submitted);
                    asked.insert(drivers.submit(job)?, one);
                    submitted += 1;
                }
                Ok(Err(error)) => end = Some(Err(error)),
                Err(RecvTimeoutError::Disconnected) => end = Some(Ok(())),
                Err(RecvTimeoutError::Timeout) => break,
            }
        }
        let limit = match (asked.is_empty(), &end) {
            (true, Some(_)) => break,
            (true, None) => Some(Duration::ZERO),
            (false, None) if submitted - printed < most => Some(TICK),
            (false, _) => None,
        };
        match drivers.next(limit)? {
            Some(Ok(answer)) => {
                if let Some(one) = asked.remove(&answer.ticket) {
                    lines.insert(one.index, line(&one, &answer)?);
                }
            }
            Some(Err(why)) => {
                let one = asked.get(&why.ticket);
                let (index, line) = one.map_or((0, 0), |one: &Asked| (one.index, one.line));
                return Err(format!("frame {index}, which begins in line {line}: {why}").into());
            }
            None => {}
        }
        while let Some(line) = lines.remove(&printed) {
            // The line and its end at once: a pipe would be written to twice.
            out.write_all((line + "\n").as_bytes())
                .map_err(|error| format!("can't print a result: {error}"))?;
            printed += 1;
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let frames = counted(printed, "frame");
    let rate = printed as f64 / seconds;
    drivers.say(&format!(
        "{frames} in {seconds:.3} s, {rate:.1} evaluations/s"
    ));
    Ok(end.unwrap_or(Ok(()))?)
}

/// Reads frames in a thread of its own, so that no driver waits for a file, or a person at the standard input.
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
