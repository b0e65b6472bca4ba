//! Results in the order of the frames, and results that an earlier run has written.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};

use forcewire::net::Answered;
use forcewire::{Cell, Virial};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::spool::Spool;
use crate::digest::digest;
use crate::elements;
use crate::say::lock;
use crate::sent::{Sent, Vacuum};
use crate::units::{ANGSTROM, ELECTRONVOLT, Units};
use crate::xyz::{Frame, Frames, Lines, Motion, Writer};

/// The key of the input's digest in an XYZ comment.
const DIGEST: &str = "forcewire_input";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Xyz,
}

impl Format {
    /// The format that a file name stands for.
    fn named(path: &str) -> Option<Self> {
        let ends_in = |ends: &[&str]| ends.iter().any(|end| path.ends_with(end));
        if ends_in(&[".jsonl", ".json", ".ndjson"]) {
            Some(Self::Json)
        } else if ends_in(&[".xyz", ".extxyz"]) {
            Some(Self::Xyz)
        } else {
            None
        }
    }
}

/// Checks a name for results, whose ending selects the format.
pub fn file_name(path: &str) -> Result<String, String> {
    match Format::named(path) {
        Some(_) => Ok(path.into()),
        None => Err("it ends in .xyz or .extxyz, or in .jsonl, .json or .ndjson for JSON".into()),
    }
}

/// The frames to evaluate, and the flags that change what is sent to drivers.
#[derive(Clone)]
pub struct Input {
    pub path: String,
    pub units: Units,
    pub vacuum: Vacuum,
}

impl Input {
    fn digest(&self, frame: &Frame) -> String {
        digest(frame, self.units, self.vacuum)
    }
}

/// The destination of results.
pub struct Output {
    format: Format,
    input: Input,
    file: Box<dyn Write>,
    name: String,
    /// The next frame to be written, and the results that wait for it.
    next: usize,
    waiting: BTreeMap<usize, Vec<u8>>,
    spool: Spool,
}

impl Output {
    /// Opens a file, or standard output. With `resume`, continues after the results in the file.
    pub fn open(path: Option<&str>, resume: bool, input: Input) -> Result<Self, String> {
        let Some(path) = path else {
            let (file, name) = (Box::new(io::stdout()), "the standard output");
            return Ok(Self::new(Format::Json, input, file, name, 0));
        };
        let format = Format::named(path).unwrap_or(Format::Xyz);
        let named = |error: io::Error| format!("{path}: {error}");
        let file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(path)
            .map_err(named)?;
        lock(&file, path)?;
        let len = file.metadata().map_err(named)?.len();
        let (next, end) = match (len, resume) {
            (0, _) => (0, 0),
            (_, false) => {
                return Err(format!(
                    "{path} is there already: go on with --resume, choose another --output, or move it away"
                ));
            }
            (_, true) => match format {
                Format::Json => whole_lines(path, &file, &input)?,
                Format::Xyz => whole_frames(path, &input)?,
            },
        };
        // A partly written frame is computed again.
        if end < len {
            file.set_len(end).map_err(named)?;
        }
        let mut output = Self::new(format, input, Box::new(file), path, next);
        let (spool, waiting) =
            Spool::open(path, resume).map_err(|error| format!("{path}.part: {error}"))?;
        output.spool = spool;
        output.waiting = waiting;
        output.waiting.retain(|index, _| *index >= next);
        output.check_waiting()?;
        output.advance(&ProgressBar::hidden())?;
        Ok(output)
    }

    fn new(format: Format, input: Input, file: Box<dyn Write>, name: &str, next: usize) -> Self {
        Self {
            format,
            input,
            file,
            name: name.into(),
            next,
            waiting: BTreeMap::new(),
            spool: Spool::NONE,
        }
    }

    /// Frames whose results wait to be written, so they need not be computed again.
    pub fn computed(&self) -> BTreeSet<usize> {
        self.waiting.keys().copied().collect()
    }

    /// The number of frames written.
    pub const fn written(&self) -> usize {
        self.next
    }

    /// How many results wait until earlier frames have theirs.
    pub fn held(&self) -> usize {
        self.waiting.len()
    }

    /// The number of frames computed.
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

    /// Writes a result as soon as all earlier frames have been written.
    pub fn put(
        &mut self,
        index: usize,
        frame: &Frame,
        sent: &Sent,
        answer: &Answered,
        bar: &ProgressBar,
    ) -> Result<(), String> {
        let digest = self.input.digest(frame);
        let result = match self.format {
            Format::Json => json_line(index, &digest, sent, answer).map_err(io::Error::from),
            Format::Xyz => xyz(frame, self.input.units, &digest, sent, answer),
        };
        let result = result.map_err(|error| format!("can't write frame {index}: {error}"))?;
        self.write(index, result, bar)
    }

    /// Records why a frame has no result. XYZ has no place for that.
    pub fn put_error(
        &mut self,
        index: usize,
        frame: &Frame,
        why: &str,
        bar: &ProgressBar,
    ) -> Result<(), String> {
        let (input, error) = (json!(self.input.digest(frame)), json!(why));
        let line = format!("{{\"frame\":{index},\"input\":{input},\"error\":{error}}}\n");
        self.write(index, line.into_bytes(), bar)
    }

    fn write(&mut self, index: usize, result: Vec<u8>, bar: &ProgressBar) -> Result<(), String> {
        if index != self.next {
            let kept = self.spool.keep(index, &result);
            kept.map_err(|error| format!("can't write to {}.part: {error}", self.name))?;
        }
        self.waiting.insert(index, result);
        self.advance(bar)
    }

    /// Writes the results that no longer have to wait.
    fn advance(&mut self, bar: &ProgressBar) -> Result<(), String> {
        while let Some(result) = self.waiting.remove(&self.next) {
            // Write a whole frame in one call: a killed run then leaves at most one incomplete
            // frame.
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

    /// Checks that the waiting results belong to frames of the input.
    fn check_waiting(&self) -> Result<(), String> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let Self { name, input, .. } = self;
        let mut unseen = self.waiting.len();
        for (index, frame) in Frames::open(&input.path)?.enumerate() {
            let frame = frame?;
            let Some(result) = self.waiting.get(&index) else {
                continue;
            };
            unseen -= 1;
            let other = match self.format {
                Format::Json => other_line(result, index, &frame, input),
                Format::Xyz => {
                    let source = Lines::stream(Box::new(io::Cursor::new(result.clone())));
                    let result = Frames::new(source, name).next().transpose()?;
                    result.map_or(Some(NO_RESULT), |result| {
                        other_frame(&result, &frame, input)
                    })
                }
            };
            if let Some(why) = other {
                return Err(format!(
                    "{name}.part has no result of frame {index} of {}: {why}. Move it away",
                    input.path
                ));
            }
        }
        match unseen {
            0 => Ok(()),
            _ => Err(format!(
                "{name}.part has results of more frames than {} has: move it away",
                input.path
            )),
        }
    }
}

/// Counts complete lines and returns where the last one ends. They must belong to the first frames
/// of the input.
fn whole_lines(path: &str, file: &File, input: &Input) -> Result<(usize, u64), String> {
    let mut inputs = Frames::open(&input.path)?;
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
        let frame = inputs.next().transpose()?;
        let other = frame.map_or(Some(NO_FRAME), |frame| {
            other_line(&line, count, &frame, input)
        });
        if let Some(why) = other {
            return Err(not_the_result(path, count + 1, count, input, why));
        }
        count += 1;
        end += len as u64;
    }
}

/// Counts complete frames with results and returns where the last one ends. They must be the first
/// frames of the input.
fn whole_frames(path: &str, input: &Input) -> Result<(usize, u64), String> {
    let mut inputs = Frames::open(&input.path)?;
    let mut results = Frames::open(path)?;
    let (mut count, mut end) = (0, 0);
    while let Some(result) = results.next() {
        let Ok(result) = result else {
            if results.at_end() {
                break;
            }
            return result.map(|_| (0, 0));
        };
        // A frame that was cut off may end in a number that looks complete.
        if !results.line_has_end() {
            break;
        }
        let frame = inputs.next().transpose()?;
        let other = frame.map_or(Some(NO_FRAME), |frame| other_frame(&result, &frame, input));
        if let Some(why) = other {
            return Err(not_the_result(path, result.line, count, input, why));
        }
        count += 1;
        end = results.offset();
    }
    Ok((count, end))
}

const NO_FRAME: &str = "there are fewer frames";
const NO_RESULT: &str = "it has no energy";
const OTHER_INPUT: &str =
    "it was computed from other atoms, or with another --units, --cell or --as-periodic";

fn not_the_result(path: &str, line: usize, frame: usize, input: &Input, why: &str) -> String {
    let input = &input.path;
    format!(
        "{path}:{line}: this is not the result of frame {frame} of {input}, so nothing goes on here: {why}"
    )
}

/// Why a line is not the result of a frame of the input.
fn other_line(line: &[u8], index: usize, frame: &Frame, input: &Input) -> Option<&'static str> {
    let Ok(line) = serde_json::from_slice::<Value>(line) else {
        return Some("it is not JSON");
    };
    if line["frame"].as_u64() != Some(index as u64) {
        return Some("it is of another frame");
    }
    match line["input"].as_str() {
        None => Some("it does not say of which input it is"),
        Some(of) if of == input.digest(frame) => None,
        Some(_) => Some(OTHER_INPUT),
    }
}

/// Why a frame with results is not this frame of the input.
fn other_frame(result: &Frame, frame: &Frame, input: &Input) -> Option<&'static str> {
    let value = |key: &str| {
        let pair = result.info.iter().find(|(name, _)| name == key)?;
        pair.1.as_deref()
    };
    let elements = |frame: &Frame| -> Vec<String> {
        let species = frame.species.iter();
        species
            .map(|symbol| elements::element(symbol).to_owned())
            .collect()
    };
    let scale = input.units.in_angstrom();
    let near = |result: &[[f64; 3]], frame: &[[f64; 3]]| {
        let mut pairs = result.as_flattened().iter().zip(frame.as_flattened());
        pairs.all(|(a, b)| (a - b * scale).abs() < 1e-9)
    };
    if value("energy").is_none() {
        Some(NO_RESULT)
    } else if elements(result) != elements(frame) {
        Some("its species are others")
    } else if !near(&result.positions, &frame.positions) {
        Some("its positions are others")
    } else if !near(&result.lattice, &frame.lattice) {
        Some("its Lattice is another")
    } else if result.pbc != frame.pbc {
        Some("its pbc is another")
    } else if value(DIGEST) != Some(&input.digest(frame)) {
        Some(OTHER_INPUT)
    } else {
        None
    }
}

/// A driver's results in the frame's original axes and atomic units.
fn json_line(
    index: usize,
    digest: &str,
    sent: &Sent,
    answer: &Answered,
) -> serde_json::Result<Vec<u8>> {
    let forces: Vec<_> = answer
        .job
        .forces
        .iter()
        .map(|f| sent.rotation.undo(*f))
        .collect();
    let virial = sent.rotation.undo_virial(&answer.evaluation.virial);
    let line = format!(
        r#"{{"frame":{index},"input":"{digest}","energy":{},"forces":{},"virial":{},"extras":{},"driver":{},"microseconds":{}}}"#,
        json!(answer.evaluation.energy),
        serde_json::to_string(&forces)?,
        serde_json::to_string(&virial.0)?,
        extras(&answer.extras),
        answer.driver,
        answer.took.as_micros()
    );
    Ok((line + "\n").into_bytes())
}

/// A driver's results as a frame in eV and Å, for ASE.
fn xyz(
    frame: &Frame,
    units: Units,
    digest: &str,
    sent: &Sent,
    answer: &Answered,
) -> io::Result<Vec<u8>> {
    let force = ANGSTROM / ELECTRONVOLT;
    let forces = answer
        .job
        .forces
        .iter()
        .map(|f| sent.rotation.undo(*f).map(|x| x * force));
    let forces: Vec<_> = forces.collect();
    let mut writer = Writer::new(frame, units.in_angstrom())
        .text(DIGEST, digest)
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
        // A comment has only one line.
        Value::String(text) if !text.contains(char::is_control) => {
            writer = writer.text("extras", &text);
        }
        value => writer = writer.text("extras", &format!("_JSON {value}")),
    }
    let mut out = Vec::new();
    writer.write(&mut out)?;
    Ok(out)
}

/// The stress -W / V in eV/Å³, with the volume of the frame's own cell; `None` if there is no cell.
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

/// JSON extras unchanged, other text as a string. Drivers without extras send nothing, a blank or a
/// NUL.
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
