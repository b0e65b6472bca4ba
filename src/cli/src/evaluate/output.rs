//! Results in the order of the frames, and those that an earlier run has written.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};

use forcewire::net::Answered;
use forcewire::{Cell, Virial};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::spool::Spool;
use crate::elements;
use crate::sent::Sent;
use crate::units::{ANGSTROM, ELECTRONVOLT, Units};
use crate::xyz::{Frame, Frames, Lines, Motion, Writer};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Xyz,
}

/// Where results go.
pub struct Output {
    format: Format,
    units: Units,
    file: Box<dyn Write>,
    name: String,
    /// The next frame to be written, and those that wait for it.
    next: usize,
    waiting: BTreeMap<usize, Vec<u8>>,
    spool: Spool,
}

impl Output {
    /// Opens a file, or the standard output. With `resume`, goes on after what is in the file.
    pub fn open(
        path: Option<&str>,
        resume: bool,
        input: &str,
        units: Units,
    ) -> Result<Self, String> {
        let Some(path) = path else {
            let file = Box::new(io::stdout());
            return Ok(Self::new(
                Format::Json,
                units,
                file,
                "the standard output",
                0,
            ));
        };
        let is_json = [".jsonl", ".json", ".ndjson"]
            .iter()
            .any(|end| path.ends_with(end));
        let format = if is_json { Format::Json } else { Format::Xyz };
        let named = |error: io::Error| format!("{path}: {error}");
        let file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(path)
            .map_err(named)?;
        let len = file.metadata().map_err(named)?.len();
        let (next, end) = match (len, resume) {
            (0, _) => (0, 0),
            (_, false) => {
                return Err(format!(
                    "{path} is there already: go on with --resume, choose another --output, or move it away"
                ));
            }
            (_, true) => match format {
                Format::Json => whole_lines(path, &file)?,
                Format::Xyz => whole_frames(path, input, units)?,
            },
        };
        // A frame that was cut is computed again.
        if end < len {
            file.set_len(end).map_err(named)?;
        }
        let mut output = Self::new(format, units, Box::new(file), path, next);
        let (spool, waiting) =
            Spool::open(path, resume).map_err(|error| format!("{path}.part: {error}"))?;
        output.spool = spool;
        output.waiting = waiting;
        output.waiting.retain(|index, _| *index >= next);
        output.check_waiting(input)?;
        output.advance(&ProgressBar::hidden())?;
        Ok(output)
    }

    fn new(format: Format, units: Units, file: Box<dyn Write>, name: &str, next: usize) -> Self {
        Self {
            format,
            units,
            file,
            name: name.into(),
            next,
            waiting: BTreeMap::new(),
            spool: Spool::NONE,
        }
    }

    /// Frames that need not be computed, besides those that are written.
    pub fn computed(&self) -> BTreeSet<usize> {
        self.waiting.keys().copied().collect()
    }

    /// Frames that are written.
    pub const fn written(&self) -> usize {
        self.next
    }

    /// Results that wait for those of earlier frames.
    pub fn held(&self) -> usize {
        self.waiting.len()
    }

    /// Frames that are computed.
    pub fn done(&self) -> usize {
        self.next + self.waiting.len()
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    pub fn is_stdout(&self) -> bool {
        self.name == "the standard output"
    }

    /// Writes a result as soon as those of all frames before it are written.
    pub fn put(
        &mut self,
        index: usize,
        frame: &Frame,
        sent: &Sent,
        answer: &Answered,
        bar: &ProgressBar,
    ) -> Result<(), String> {
        let result = match self.format {
            Format::Json => json_line(index, sent, answer).map_err(io::Error::from),
            Format::Xyz => xyz(frame, self.units, sent, answer),
        };
        let result = result.map_err(|error| format!("can't write frame {index}: {error}"))?;
        self.write(index, result, bar)
    }

    /// Writes why a frame has no result, which XYZ has no place for.
    pub fn put_error(&mut self, index: usize, why: &str, bar: &ProgressBar) -> Result<(), String> {
        let line = json!({"frame": index, "error": why});
        self.write(index, format!("{line}\n").into_bytes(), bar)
    }

    fn write(&mut self, index: usize, result: Vec<u8>, bar: &ProgressBar) -> Result<(), String> {
        if index != self.next {
            let kept = self.spool.keep(index, &result);
            kept.map_err(|error| format!("can't write to {}.part: {error}", self.name))?;
        }
        self.waiting.insert(index, result);
        self.advance(bar)
    }

    /// Writes what no longer waits.
    fn advance(&mut self, bar: &ProgressBar) -> Result<(), String> {
        while let Some(result) = self.waiting.remove(&self.next) {
            // Writes a whole frame in one call, so that a killed run leaves at most one that is
            // cut.
            let written = match self.is_stdout() {
                true => bar.suspend(|| self.file.write_all(&result)),
                false => self.file.write_all(&result),
            };
            let written = written.and_then(|()| self.file.flush());
            written.map_err(|error| format!("can't write to {}: {error}", self.name))?;
            self.next += 1;
        }
        if self.waiting.is_empty() && !self.spool.is_empty() {
            let cleared = self.spool.clear();
            cleared.map_err(|error| format!("can't remove {}.part: {error}", self.name))?;
        }
        Ok(())
    }

    /// Sees that what waits is of frames of the input.
    fn check_waiting(&self, input: &str) -> Result<(), String> {
        if self.waiting.is_empty() || self.format == Format::Json {
            return Ok(());
        }
        for (index, frame) in Frames::open(input)?.enumerate() {
            let frame = frame?;
            let Some(result) = self.waiting.get(&index) else {
                continue;
            };
            let source = Lines::stream(Box::new(io::Cursor::new(result.clone())));
            let result = Frames::new(source, &self.name).next().transpose()?;
            if !result.is_some_and(|it| is_result_of(&it, &frame, self.units)) {
                let name = &self.name;
                return Err(format!(
                    "{name}.part has no result of frame {index} of {input}: move it away"
                ));
            }
        }
        Ok(())
    }
}

/// Lines that have an end, and where the last of them ends.
fn whole_lines(path: &str, file: &File) -> Result<(usize, u64), String> {
    let mut source = BufReader::new(file);
    let (mut count, mut end) = (0, 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        let len = source
            .read_until(b'\n', &mut line)
            .map_err(|error| format!("{path}: {error}"))?;
        if !line.ends_with(b"\n") {
            return Ok((count, end));
        }
        let index = serde_json::from_slice::<Value>(&line).ok();
        if index.and_then(|it| it.get("frame")?.as_u64()) != Some(count as u64) {
            let number = count + 1;
            return Err(format!(
                "{path}:{number}: this is not the result of frame {count}, so nothing goes on here"
            ));
        }
        count += 1;
        end += len as u64;
    }
}

/// Frames that are whole and have results, and where the last of them ends. They must be the first
/// ones of the input.
fn whole_frames(path: &str, input: &str, units: Units) -> Result<(usize, u64), String> {
    let mut inputs = Frames::open(input)?;
    let mut results = Frames::open(path)?;
    let (mut count, mut end) = (0, 0);
    while let Some(result) = results.next() {
        let Ok(result) = result else {
            if results.at_end() {
                break;
            }
            return result.map(|_| (0, 0));
        };
        // The last number of a frame that was cut may look whole.
        if !results.line_has_end() {
            break;
        }
        let frame = inputs.next().transpose()?;
        let same = frame.is_some_and(|frame| is_result_of(&result, &frame, units));
        if !same {
            let line = result.line;
            return Err(format!(
                "{path}:{line}: this is not the result of frame {count} of {input}, so nothing goes on here"
            ));
        }
        count += 1;
        end = results.offset();
    }
    Ok((count, end))
}

/// Whether a frame has results, and is otherwise this frame of the input.
fn is_result_of(result: &Frame, frame: &Frame, units: Units) -> bool {
    let has_energy = result.info.iter().any(|(key, _)| key == "energy");
    let scale = units.in_angstrom();
    let near = |(a, b): (&f64, &f64)| (a * scale - b).abs() < 1e-9;
    let elements = |frame: &Frame| -> Vec<String> {
        frame
            .species
            .iter()
            .map(|it| elements::element(it).to_owned())
            .collect()
    };
    let (a, b) = (
        frame.positions.as_flattened(),
        result.positions.as_flattened(),
    );
    has_energy && elements(result) == elements(frame) && a.iter().zip(b).all(near)
}

/// A driver's answer, in the frame's axes and atomic units.
fn json_line(index: usize, sent: &Sent, answer: &Answered) -> serde_json::Result<Vec<u8>> {
    let forces: Vec<_> = answer
        .job
        .forces
        .iter()
        .map(|f| sent.rotation.undo(*f))
        .collect();
    let virial = sent.rotation.undo_virial(&answer.evaluation.virial);
    let line = format!(
        r#"{{"frame":{index},"energy":{},"forces":{},"virial":{},"extras":{},"driver":{},"microseconds":{}}}"#,
        json!(answer.evaluation.energy),
        serde_json::to_string(&forces)?,
        serde_json::to_string(&virial.0)?,
        extras(&answer.extras),
        answer.driver,
        answer.took.as_micros()
    );
    Ok((line + "\n").into_bytes())
}

/// The same as a frame in eV and Å, for ASE.
fn xyz(frame: &Frame, units: Units, sent: &Sent, answer: &Answered) -> io::Result<Vec<u8>> {
    let force = ANGSTROM / ELECTRONVOLT;
    let forces = answer
        .job
        .forces
        .iter()
        .map(|f| sent.rotation.undo(*f).map(|x| x * force));
    let forces: Vec<_> = forces.collect();
    let mut writer = Writer::new(frame, units.in_angstrom())
        .number("energy", answer.evaluation.energy / ELECTRONVOLT)
        .column("forces", &forces);
    if let Some(stress) = stress(frame, units, sent, &answer.evaluation.virial) {
        writer = writer.matrix("stress", stress);
    }
    match &frame.motion {
        Some(Motion::Momenta(momenta)) => writer = writer.column("momenta", momenta),
        Some(Motion::Velocities(velocities)) => writer = writer.column("velocities", velocities),
        None => {}
    }
    match extras(&answer.extras) {
        Value::Null => {}
        // A comment is one line.
        Value::String(text) if !text.contains(char::is_control) => {
            writer = writer.text("extras", &text);
        }
        value => writer = writer.text("extras", &format!("_JSON {value}")),
    }
    let mut out = Vec::new();
    writer.write(&mut out)?;
    Ok(out)
}

/// -W / V in eV/Å³, with the volume of the frame's own cell; `None` if it has none.
fn stress(frame: &Frame, units: Units, sent: &Sent, virial: &Virial) -> Option<[[f64; 3]; 3]> {
    if !frame.is_periodic() {
        return None;
    }
    let cell = Cell::from_vectors(frame.lattice);
    cell.inverse()?;
    let volume = cell.volume() * units.in_angstrom().powi(3);
    let virial = sent.rotation.undo_virial(virial);
    Some(virial.0.map(|row| row.map(|x| -x / ELECTRONVOLT / volume)))
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
