//! Plays situations in parallel and adds up the results.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock, mpsc};
use std::thread;
use std::time::Instant;

use super::physics::PHYSICS;
use super::report::{Finding, Row, Verdict};
use super::situation::{About, CONTROL};
use crate::say::{Failure, say};

/// A situation with everything needed to play it.
pub struct Play<'a> {
    about: &'static About,
    run: Box<dyn Fn(u32) -> Result<Finding, String> + Sync + 'a>,
}

/// Which situations to play, and how to print them.
pub struct Choice {
    pub only: Vec<String>,
    /// Whether to play the physics situation too.
    pub physics: bool,
    pub json: bool,
    pub title: String,
    pub jobs: usize,
}

impl<'a> Play<'a> {
    pub fn new(
        about: &'static About,
        run: impl Fn(u32) -> Result<Finding, String> + Sync + 'a,
    ) -> Self {
        Self {
            about,
            run: Box::new(run),
        }
    }
}

impl Play<'_> {
    /// Plays a situation. If the machine's load may have decided the finding, plays it again, alone
    /// and with longer limits.
    fn judged(&self, alone: &RwLock<()>) -> Result<Finding, String> {
        let finding = {
            let _beside = alone.read().unwrap_or_else(PoisonError::into_inner);
            (self.run)(1)
        };
        let sure = finding
            .as_ref()
            .is_ok_and(|finding| !finding.timed && finding.verdict != Verdict::GaveUp);
        if sure {
            return finding;
        }
        let _only = alone.write().unwrap_or_else(PoisonError::into_inner);
        (self.run)(2)
    }
}

impl Choice {
    /// Refuses names of unknown situations.
    pub fn known(&self, abouts: impl Iterator<Item = &'static About>) -> Result<(), Failure> {
        let names: Vec<_> = abouts.map(|about| about.name).collect();
        match self
            .only
            .iter()
            .find(|name| !names.contains(&name.as_str()))
        {
            None => Ok(()),
            Some(unknown) => Err(Failure::Usage(format!(
                "--only {unknown}: there is no such situation, --list names them"
            ))),
        }
    }

    fn wants(&self, about: &About) -> bool {
        let named = self.only.iter().any(|name| name == about.name);
        match about.name {
            PHYSICS => named || self.physics,
            _ => named || self.only.is_empty(),
        }
    }
}

/// Plays the chosen situations and prints the findings. Returns true if all were handled.
pub fn all(role: &str, plays: Vec<Play>, choice: &Choice) -> Result<bool, Failure> {
    choice.known(plays.iter().map(|play| play.about))?;
    let mut plays = plays;
    plays.retain(|play| choice.wants(play.about));
    let widths = plays.iter().map(|play| play.about.name.len());
    let width = widths.max().unwrap_or_default();

    let mut rows = Vec::new();
    // The first situation runs alone: if it fails, the others can't be judged.
    let (first, others) = plays.split_at(plays.len().min(1));
    for (some, jobs) in [(first, 1), (others, choice.jobs)] {
        in_parallel(some, jobs, |row| {
            let text = match choice.json {
                true => row.json(&choice.title, role).to_string(),
                false => row.line(width),
            };
            rows.push(row);
            writeln!(io::stdout().lock(), "{text}").map_err(|error| format!("can't print: {error}"))
        })?;
    }
    rows.retain(|row| row.about.name != CONTROL);
    let count = |verdict| {
        let rows = rows.iter().filter(|row| row.finding.verdict == verdict);
        rows.count()
    };
    let handled = count(Verdict::Handled);
    if rows.is_empty() {
        say("only the control was played, and nothing is judged by it: --only names nothing else");
        return Ok(true);
    }
    say(format_args!(
        "{handled} of {} handled, {} gave up, {} hung, {} crashed, {} silently wrong",
        rows.len(),
        count(Verdict::GaveUp),
        count(Verdict::Hung),
        count(Verdict::Crashed),
        count(Verdict::SilentlyWrong)
    ));
    Ok(handled == rows.len())
}

/// Plays the situations, `jobs` at a time, and reports them in order. Stops if a control fails.
fn in_parallel(
    plays: &[Play],
    jobs: usize,
    mut tell: impl FnMut(Row) -> Result<(), String>,
) -> Result<(), String> {
    let (next, alone) = (AtomicUsize::new(0), RwLock::new(()));
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..jobs.min(plays.len()) {
            let (sender, next, alone) = (sender.clone(), &next, &alone);
            scope.spawn(move || {
                while let Some((index, play)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    plays.get(index).map(|play| (index, play))
                } {
                    let start = Instant::now();
                    let about = play.about;
                    let row = play.judged(alone).map(|finding| Row {
                        about,
                        finding,
                        seconds: start.elapsed().as_secs_f64(),
                    });
                    let row =
                        row.map_err(|what| format!("{}: the control failed: {what}", about.name));
                    if sender.send((index, row)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let (mut early, mut told) = (BTreeMap::new(), 0);
        let result = receiver.iter().try_for_each(|(index, row)| {
            early.insert(index, row?);
            while let Some(row) = early.remove(&told) {
                tell(row)?;
                told += 1;
            }
            Ok(())
        });
        // No thread begins another situation.
        next.store(plays.len(), Ordering::Relaxed);
        result
    })
}
