//! A run: its atoms, its steps, and its output.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use forcewire::Cell;
use forcewire::net::Job;

use super::Arguments;
use super::files::{Checkpoint, Files, Plan, checkpoint};
use super::integrator::{Atoms, Drift, Langevin};
use super::plot::{Row, range, sparkline, svg};
use super::start::{atoms, in_angstrom};
use crate::digest::digest;
use crate::pool::{Asking, Drivers, interruptions};
use crate::progress::Progress;
use crate::say::{Failure, counted, say};
use crate::sent::Sent;
use crate::units::{ANGSTROM, BOLTZMANN, DALTON, ELECTRONVOLT, FEMTOSECOND, Units, ase_momentum};
use crate::xyz::{Frame, Frames, Writer};

/// The shortest time between two checkpoints. A killed run repeats the steps after the last one.
const KEEP: Duration = Duration::from_secs(1);
const SHARE: u32 = 50;

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let address = arguments.meeting.address()?;
    let mut simulation = Simulation::new(&arguments)?;
    let steps = arguments.steps;
    let first = simulation.state.step;
    if simulation.begun && first == steps {
        say(format_args!("all {} are done", counted(steps, "step")));
        return Ok(());
    }
    let progress = Progress::new("steps", first, Some(steps));
    let interrupted = interruptions()?;
    let mut drivers = Drivers::listen(
        &arguments.asking,
        arguments.meeting.file(),
        &address,
        &progress.bar,
        &interrupted,
    )?;
    let result = simulation.go(&mut drivers, &arguments.asking, steps, progress);
    let closed = drivers.close();
    match result {
        Ok(()) => {
            simulation.plot();
            closed
        }
        Err(Failure::Run(why)) => {
            let done = simulation.reached;
            let goes_on = match simulation.kept() {
                Ok(Some(step)) => format!("; --restart goes on from step {step}"),
                Ok(None) => String::new(),
                Err(error) => format!("; {error}"),
            };
            Err(Failure::Run(format!(
                "{why}\nforcewire: {done} of {steps} steps are done{goes_on}"
            )))
        }
        Err(failure) => Err(failure),
    }
}

struct Simulation {
    /// The first frame, in Å.
    frame: Frame,
    sent: Sent,
    langevin: Option<Langevin>,
    files: Files,
    /// The current state. Its forces belong to its positions once step 0 has been computed.
    state: Checkpoint,
    /// The state at the last row, and whether it is in the checkpoint file.
    last: Option<(Checkpoint, bool)>,
    /// Whether step 0 has been computed.
    begun: bool,
    /// The last computed step.
    reached: u64,
    rows: Vec<Row>,
}

impl Simulation {
    fn new(arguments: &Arguments) -> Result<Self, Failure> {
        let units = arguments.cell.units;
        let mut frames = Frames::open(&arguments.file)?;
        let none = || format!("{}: there is no frame in it", arguments.file);
        let frame = frames.next().ok_or_else(none)??;
        let vacuum = arguments.cell.vacuum();
        let input = digest(&frame, units, vacuum);
        let frame = in_angstrom(frame, units);
        let sent = Sent::new(&frame, Units::Angstrom, vacuum);
        let sent = sent.ok_or_else(|| "the cell has no volume".to_owned())?;
        let is_open = frame.pbc != [true; 3];
        arguments.cell.note_open(usize::from(is_open), 1);
        let cells = [frame.lattice, *sent.cell.h()];
        let plan = Plan {
            timestep: arguments.timestep,
            temperature: arguments.temperature.unwrap_or(0.0),
            langevin: arguments.langevin,
            seed: arguments.seed,
            stride: arguments.stride,
        };
        let langevin = plan.langevin.map(|tau| Langevin {
            tau: tau * FEMTOSECOND,
            thermal: BOLTZMANN * plan.temperature,
            seed: plan.seed,
        });
        let prefix = arguments.output.clone();
        let before = match (&prefix, arguments.restart) {
            (Some(prefix), true) => checkpoint(prefix)?,
            _ => None,
        };
        let (files, state, rows) = match (before, prefix) {
            (Some(before), Some(prefix)) => {
                if let Some(why) = plan.differs(&before.plan) {
                    return Err(Failure::Usage(format!(
                        "{why}: --restart needs the flags of the run that it goes on"
                    )));
                }
                if before.species != frame.species || before.cells != cells {
                    return Err(Failure::Run(format!(
                        "{prefix}.restart is of other atoms, or of another cell, than {}",
                        arguments.file
                    )));
                }
                if before.input != input {
                    return Err(Failure::Run(format!(
                        "{prefix}.restart began with other positions, masses or velocities than those of {}, or \
                         with another --units, --cell or --as-periodic",
                        arguments.file
                    )));
                }
                let (steps, done) = (arguments.steps, before.step);
                if done > steps {
                    return Err(Failure::Usage(format!(
                        "--steps is {steps}, of all parts of the run, and {done} are done"
                    )));
                }
                let files = Files::go_on(prefix.clone(), before.lengths)?;
                say(format_args!("going on from step {}", before.step));
                let rows = Row::read(&format!("{prefix}.out"))?;
                (files, before, rows)
            }
            (_, prefix) => {
                let atoms = atoms(&frame, arguments)?;
                let state = Checkpoint {
                    plan,
                    input,
                    species: frame.species.clone(),
                    cells,
                    step: 0,
                    atoms,
                    potential: 0.0,
                    virial: [[0.0; 3]; 3],
                    given: 0.0,
                    drift: Drift::default(),
                    lengths: [0; 2],
                };
                let files = Files::begin(prefix, arguments.restart)?;
                (files, state, Vec::new())
            }
        };
        let begun = state.lengths[0] > 0;
        Ok(Self {
            frame,
            sent,
            langevin,
            files,
            reached: state.step,
            state,
            last: None,
            begun,
            rows,
        })
    }

    /// Runs all steps, and reports how well energy was conserved.
    fn go(
        &mut self,
        drivers: &mut Drivers,
        asking: &Asking,
        steps: u64,
        mut progress: Progress,
    ) -> Result<(), Failure> {
        drivers.gather(asking)?;
        let first = self.state.step;
        let result = self.steps(drivers, steps, &mut progress);
        let seconds = progress.seconds();
        drop(progress);
        let made = self.reached - first;
        if made > 0 {
            let natoms = self.state.atoms.masses.len() as f64;
            let drift = &self.state.drift;
            let time = self.reached as f64 * self.state.plan.timestep;
            let time = match time {
                1e-5.. => time.to_string(),
                time => format!("{time:e}"),
            };
            say(format_args!(
                "{} in {seconds:.3} s, {:.1} evaluations/s; drift of the conserved energy {:.2e} hartree an atom \
                 in {time} fs (a line through all steps), largest deviation {:.2e}",
                counted(made, "step"),
                made as f64 / seconds,
                drift.slope() * self.reached as f64 / natoms,
                drift.largest() / natoms
            ));
        }
        result
    }

    fn steps(
        &mut self,
        drivers: &mut Drivers,
        steps: u64,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        let dt = self.state.plan.timestep * FEMTOSECOND;
        let stride = self.state.plan.stride;
        let (mut kept, mut pause) = (Instant::now(), KEEP);
        if !self.begun {
            self.compute(drivers)?;
            let heading = self.heading();
            // Write a checkpoint before the first row: otherwise a stopped run could have rows and
            // no checkpoint. A run that continues from it computes this step again and counts it
            // then.
            self.files.keep(&self.state)?;
            self.state.drift.add(self.conserved());
            self.row(drivers, &heading)?;
            self.begun = true;
            self.last = Some((self.state.clone(), false));
        }
        while self.state.step < steps {
            let step = self.state.step + 1;
            self.thermostat(dt, 2 * step);
            self.state.atoms.kick(0.5 * dt);
            self.state.atoms.drift(dt);
            self.compute(drivers)?;
            self.state.atoms.kick(0.5 * dt);
            self.thermostat(dt, 2 * step + 1);
            self.state.step = step;
            self.reached = step;
            self.state.drift.add(self.conserved());
            if step.is_multiple_of(stride) {
                self.row(drivers, "")?;
                // A run that stops here or later continues with the same bytes.
                let keep = kept.elapsed() >= pause || step == steps;
                self.last = Some((self.state.clone(), keep));
                if keep {
                    kept = Instant::now();
                    self.files.keep(&self.state)?;
                    pause = KEEP.max(SHARE * kept.elapsed());
                }
            } else if step == steps {
                // A row off the stride is not part of a run that continues.
                self.files.keep(&self.state)?;
                self.last = Some((self.state.clone(), true));
                self.row(drivers, "")?;
            }
            let count = drivers.count() as u64;
            let potential = self.state.potential;
            progress.show(step, || {
                format!(
                    "potential {potential:.6} hartree, {}",
                    counted(count, "driver")
                )
            });
        }
        Ok(())
    }

    /// Writes the checkpoint of the last row if the file does not have it yet; returns its step.
    fn kept(&mut self) -> Result<Option<u64>, String> {
        if self.files.is_stdout() {
            return Ok(None);
        }
        match &mut self.last {
            Some((last, kept)) => {
                if !*kept {
                    self.files.keep(last)?;
                    *kept = true;
                }
                Ok(Some(last.step))
            }
            None if self.begun => Ok(Some(self.state.step)),
            None => Ok(None),
        }
    }

    fn thermostat(&mut self, dt: f64, half_step: u64) {
        if let Some(langevin) = self.langevin {
            self.state.given += langevin.apply(&mut self.state.atoms, dt, half_step);
        }
    }

    fn conserved(&self) -> f64 {
        self.state.potential + self.state.atoms.kinetic() - self.state.given
    }

    /// Computes potential, forces and virial at the current positions.
    fn compute(&mut self, drivers: &mut Drivers) -> Result<(), Failure> {
        let rotation = self.sent.rotation;
        let positions = self
            .state
            .atoms
            .positions
            .iter()
            .map(|r| rotation.apply(*r));
        let answer = drivers.evaluate(Job::new(self.sent.cell, positions.collect()))?;
        self.state.potential = answer.evaluation.energy;
        self.state.virial = rotation.undo_virial(&answer.evaluation.virial).0;
        for (force, rotated) in self.state.atoms.forces.iter_mut().zip(answer.job.forces) {
            *force = rotation.undo(rotated);
        }
        Ok(())
    }

    fn heading(&self) -> String {
        let Plan {
            timestep,
            temperature,
            langevin,
            seed,
            ..
        } = &self.state.plan;
        let ensemble = match langevin {
            Some(tau) => format!("Langevin, {tau} fs, {temperature} K"),
            None => format!("NVE, {temperature} K at first"),
        };
        format!(
            "# {ensemble}, {timestep} fs a step, seed {seed}, {}\n#{:>9} {:>14} {:>23} {:>23} {:>23} {:>14}\n",
            counted(self.state.atoms.masses.len() as u64, "atom"),
            "step",
            "time/fs",
            "conserved/hartree",
            "potential/hartree",
            "kinetic/hartree",
            "temperature/K"
        )
    }

    /// Writes a row of the table, and a frame.
    fn row(&mut self, drivers: &Drivers, heading: &str) -> Result<(), Failure> {
        let step = self.state.step;
        let time = step as f64 * self.state.plan.timestep;
        let kinetic = self.state.atoms.kinetic();
        let natoms = self.state.atoms.masses.len();
        // Without a thermostat the total momentum stays zero.
        let held = if natoms > 1 && self.langevin.is_none() {
            3
        } else {
            0
        };
        let freedoms = (3 * natoms - held) as f64;
        let row = Row {
            time,
            conserved: self.conserved(),
            potential: self.state.potential,
            kinetic,
        };
        let mut text = heading.to_owned();
        let _ = writeln!(
            text,
            "{step:>10} {time:>14.4} {:>23.16e} {:>23.16e} {kinetic:>23.16e} {:>14.6}",
            row.conserved,
            row.potential,
            2.0 * kinetic / (freedoms * BOLTZMANN)
        );
        self.rows.push(row);
        let frame = if self.files.is_stdout() {
            Vec::new()
        } else {
            self.frame(step, time)?
        };
        let result = match self.files.is_stdout() {
            // The table may share a terminal with the progress bar.
            true => drivers.suspend(|| self.files.write(text.as_bytes(), &frame)),
            false => self.files.write(text.as_bytes(), &frame),
        };
        result.map_err(|error| Failure::Run(format!("can't write step {step}: {error}")))?;
        self.state.lengths = self.files.lengths;
        Ok(())
    }

    /// The state in ASE's units: Å, eV, and ASE's unit of momentum.
    fn frame(&self, step: u64, time: f64) -> Result<Vec<u8>, Failure> {
        let Atoms {
            masses,
            positions,
            velocities,
            forces,
        } = &self.state.atoms;
        let mut frame = self.frame.clone();
        frame.positions = positions.iter().map(|r| r.map(|x| x / ANGSTROM)).collect();
        frame.masses = Some(masses.iter().map(|mass| mass / DALTON).collect());
        let momentum = ase_momentum();
        let momenta = velocities
            .iter()
            .zip(masses)
            .map(|(v, mass)| v.map(|x| x * mass / momentum));
        let momenta: Vec<_> = momenta.collect();
        let force = ANGSTROM / ELECTRONVOLT;
        let forces: Vec<_> = forces.iter().map(|f| f.map(|x| x * force)).collect();
        let mut writer = Writer::new(&frame, 1.0)
            .text("step", &step.to_string())
            .number("time_fs", time)
            .number("energy", self.state.potential / ELECTRONVOLT)
            .column("momenta", &momenta)
            .column("forces", &forces);
        let cell = Cell::from_vectors(frame.lattice);
        if frame.is_periodic() && cell.inverse().is_some() {
            let scale = -1.0 / (ELECTRONVOLT * cell.volume());
            writer = writer.matrix(
                "stress",
                self.state.virial.map(|row| row.map(|x| x * scale)),
            );
        }
        let mut out = Vec::new();
        writer.write(&mut out)?;
        Ok(out)
    }

    /// Shows the course of the energy. If a plot can't be drawn, the run is still complete.
    fn plot(&self) {
        let energies: Vec<f64> = self.rows.iter().map(|row| row.potential).collect();
        let (low, high) = range(energies.iter().copied());
        say(format_args!(
            "potential {} {low:.6} to {high:.6} hartree",
            sparkline(&energies)
        ));
        if let Some(path) = self.files.beside("svg")
            && let Err(error) = svg(&path, &self.rows, self.state.atoms.masses.len())
        {
            say(format_args!("can't draw {path}: {error}"));
        }
    }
}
