//! Runs the evaluation group by group, frame by frame.

use std::collections::BTreeMap;
use std::fs;
use std::iter;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use forcewire::net::{Address, Job};

use super::Arguments;
use super::output::{Input, Output};
use super::survey::{Survey, formula};
use crate::pool::{Drivers, interruptions};
use crate::progress::Progress;
use crate::say::{Failure, counted, say};
use crate::sent::{Sent, Vacuum};
use crate::units::Units;
use crate::xyz::{Frame, Frames};

/// How many frames per driver, or per place in its batch, may be under way or wait to be written.
/// More would fill the memory while the first of them is still being computed.
const AHEAD: usize = 8;

/// How long to serve drivers before looking for new frames, and vice versa.
const TICK: Duration = Duration::from_millis(10);

/// A frame and its number in the file.
type Item = Result<(usize, Frame), String>;

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let mut address = arguments.meeting.address()?;
    let file = arguments.file.as_str();
    let units = arguments.cell.units;
    // Report faults of a file before waiting for anything.
    let mut stream = None;
    let is_file = fs::metadata(file).map_or(file != "-", |metadata| metadata.is_file());
    let survey = if !is_file {
        if arguments.resume {
            return Err(Failure::Usage(
                "--resume needs a FILE that can be read twice".into(),
            ));
        }
        let mut frames = Frames::open(file)?;
        let first = frames
            .next()
            .ok_or_else(|| format!("{file}: there is no frame in it"))??;
        let survey = Survey::of_first(&first);
        stream = Some(iter::once(Ok(first)).chain(frames));
        survey
    } else {
        Survey::of(file)?
    };
    let total = stream.is_none().then_some(survey.frames);
    let output = arguments.output.as_deref();
    let vacuum = arguments.cell.vacuum();
    let input = Input {
        path: file.into(),
        units,
        vacuum,
    };
    let output = Output::open(output, arguments.resume, input)?;
    if arguments.keep_going && !output.is_json() {
        return Err(Failure::Usage(
            "--keep-going is for JSON: XYZ has no place for errors".into(),
        ));
    }
    if let Some(total) = total.filter(|total| output.done() >= *total) {
        say(format_args!(
            "all {} are in {}",
            counted(total as u64, "frame"),
            output.name()
        ));
        return Ok(());
    }
    if output.done() > 0 {
        let done = counted(output.done() as u64, "frame");
        say(format_args!("{done} are in {} already", output.name()));
    }
    arguments.cell.note_open(survey.open, survey.frames);

    let mut run = Run {
        keep_going: arguments.keep_going,
        failed: 0,
        progress: Progress::new(
            "frames",
            output.done() as u64,
            total.map(|total| total as u64),
        ),
        units,
        vacuum,
        groups: survey.groups.len(),
        output,
    };
    let before = run.output.done();
    let result = run.groups(&arguments, &survey, stream, &mut address);
    let result = result.and_then(|()| match total {
        Some(total) if run.output.written() < total => Err(Failure::Run(format!(
            "{file} was changed while it was read"
        ))),
        _ => Ok(()),
    });
    let Run {
        progress,
        output,
        failed,
        ..
    } = run;
    let seconds = progress.seconds();
    let done = progress.of(output.done() as u64);
    drop(progress);
    match result {
        Ok(()) => {
            let rate = (output.done() - before) as f64 / seconds;
            say(format_args!(
                "{done} in {seconds:.3} s, {rate:.1} evaluations/s"
            ));
            match failed {
                0 => Ok(()),
                failed => {
                    let frames = counted(failed, "frame");
                    Err(Failure::Run(format!("{frames} can't be computed")))
                }
            }
        }
        Err(Failure::Run(why)) => {
            let place = match output.is_stdout() {
                true => String::new(),
                false => format!(", in {}; --resume goes on from there", output.name()),
            };
            Err(Failure::Run(format!(
                "{why}\nforcewire: {done} are done{place}"
            )))
        }
        Err(failure) => Err(failure),
    }
}

struct Run {
    keep_going: bool,
    /// The number of frames that can't be computed.
    failed: u64,
    output: Output,
    progress: Progress,
    units: Units,
    vacuum: Vacuum,
    groups: usize,
}

/// A frame that a driver has received.
struct Asked {
    index: usize,
    frame: Frame,
    sent: Sent,
}

impl Run {
    fn groups(
        &mut self,
        arguments: &Arguments,
        survey: &Survey,
        mut stream: Option<impl Iterator<Item = Result<Frame, String>> + Send + 'static>,
        address: &mut Address,
    ) -> Result<(), Failure> {
        let interrupted = interruptions()?;
        let count = survey.groups.len();
        let (written, computed) = (self.output.written(), self.output.computed());
        for (group, (species, members)) in survey.groups.iter().enumerate() {
            let frames = match stream.take() {
                Some(frames) => read_ahead(frames.enumerate().map(stream_item(species.clone()))),
                None => {
                    let species = species.clone();
                    let computed = computed.clone();
                    let of_group = move |item: &Item| match item {
                        Ok((index, frame)) => {
                            *index >= written
                                && !computed.contains(index)
                                && frame.species == species
                        }
                        Err(_) => true,
                    };
                    let frames = Frames::open(&arguments.file)?.enumerate();
                    read_ahead(
                        frames
                            .map(|(index, frame)| frame.map(|frame| (index, frame)))
                            .filter(of_group),
                    )
                }
            };
            // If an earlier run has done the whole group, don't wait for drivers.
            let Ok(first) = frames.recv() else {
                continue;
            };
            let mut drivers = Drivers::listen(
                &arguments.asking,
                arguments.meeting.file(),
                address,
                &self.progress.bar,
                &interrupted,
            )?;
            address.clone_from(drivers.address());
            if count > 1 {
                let (number, formula) = (group + 1, formula(species));
                let members = counted(*members as u64, "frame");
                drivers.say(&format!(
                    "group {number} of {count}: {members} of {formula}"
                ));
            }
            let result = drivers.gather(&arguments.asking);
            let result = result
                .and_then(|()| self.group(first, &frames, &mut drivers, arguments.asking.batch()));
            let closed = drivers.close();
            result?;
            closed?;
        }
        Ok(())
    }

    /// Evaluates all frames of a group, with drivers that take `batch` frames at once.
    fn group(
        &mut self,
        first: Item,
        frames: &Receiver<Item>,
        drivers: &mut Drivers,
        batch: usize,
    ) -> Result<(), Failure> {
        let mut asked: BTreeMap<_, Asked> = BTreeMap::new();
        let mut first = Some(first);
        let mut end = None;
        loop {
            let most = AHEAD
                .saturating_mul(batch)
                .saturating_mul(drivers.count().max(1));
            while end.is_none() && asked.len() + self.held() < most {
                let patience = if asked.is_empty() {
                    TICK
                } else {
                    Duration::ZERO
                };
                let item = match first.take() {
                    Some(first) => Ok(first),
                    None => frames.recv_timeout(patience),
                };
                match item {
                    Ok(Ok((index, frame))) => {
                        let (job, one) = self.job(index, frame)?;
                        asked.insert(drivers.submit(job)?, one);
                    }
                    Ok(Err(error)) => end = Some(Err(error)),
                    Err(RecvTimeoutError::Disconnected) => end = Some(Ok(())),
                    Err(RecvTimeoutError::Timeout) => break,
                }
            }
            let limit = match (asked.is_empty(), &end) {
                (true, Some(_)) => break,
                (true, None) => Some(Duration::ZERO),
                (false, None) if asked.len() + self.held() < most => Some(TICK),
                (false, _) => None,
            };
            if let Some(outcome) = drivers.next(limit)?
                && let Some(Asked { index, frame, sent }) = asked.remove(&outcome.ticket)
            {
                let (line, bar) = (frame.line, &self.progress.bar);
                match outcome.answer {
                    Ok(answer) => self.output.put(index, &frame, &sent, &answer, bar)?,
                    Err(why) if self.keep_going => {
                        self.failed += 1;
                        self.output.put_error(index, &frame, &why, bar)?;
                    }
                    Err(why) => {
                        let why = format!("frame {index}, which begins in line {line}: {why}");
                        return Err(Failure::Run(why));
                    }
                }
            }
            let count = drivers.count();
            self.progress.show(self.output.done() as u64, || {
                counted(count as u64, "driver")
            });
        }
        Ok(end.unwrap_or(Ok(()))?)
    }

    /// How many results wait for a frame under way. Results that wait for another group don't
    /// count.
    fn held(&self) -> usize {
        if self.groups == 1 {
            self.output.held()
        } else {
            0
        }
    }

    fn job(&self, index: usize, frame: Frame) -> Result<(Job, Asked), Failure> {
        let sent = Sent::new(&frame, self.units, self.vacuum);
        let sent = sent
            .ok_or_else(|| format!("frame {index}, line {}: the cell has no volume", frame.line))?;
        let job = Job::new(sent.cell, sent.positions(&frame, self.units));
        Ok((job, Asked { index, frame, sent }))
    }
}

/// Frames from standard input can't be sorted by composition.
fn stream_item(species: Vec<String>) -> impl FnMut((usize, Result<Frame, String>)) -> Item {
    move |(index, frame)| {
        let frame = frame?;
        if frame.species != species {
            return Err(format!(
                "the frame of line {} has other atoms than the first: give a FILE that can be read twice, whose \
                 frames are served by composition",
                frame.line
            ));
        }
        Ok((index, frame))
    }
}

/// Reads frames in a separate thread, so no driver waits for a file, or for a person at standard
/// input.
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
