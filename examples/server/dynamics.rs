//! Molecular dynamics at constant energy, and what is written of it.

use std::error::Error;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::time::{Duration, Instant};

use forcewire::net::Job;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use crate::drivers::{Drivers, counted};
use crate::masses::mass;
use crate::units::{BOLTZMANN, DALTON, FEMTOSECOND, Units};
use crate::verlet::{Atoms, Drift, conserves_momentum, maxwell_boltzmann};
use crate::xyz::{self, Frame};

/// How often a log is told how far we are, while there is no terminal for a progress bar.
const REPORT: Duration = Duration::from_secs(10);

/// What is to be simulated.
pub struct Plan {
    pub steps: u64,
    /// In fs.
    pub timestep: f64,
    /// In K.
    pub temperature: f64,
    pub seed: u64,
    /// Steps from one row of the table, and one frame, to the next.
    pub stride: u64,
    /// What the names of the files begin with; otherwise the table is printed and there is no other.
    pub output: Option<String>,
    pub units: Units,
}

/// A simulation that has its atoms and its files, and no forces yet.
pub struct Simulation {
    plan: Plan,
    frame: Frame,
    atoms: Atoms,
    potential: f64,
    table: Box<dyn Write>,
    trajectory: Box<dyn Write>,
}

impl Simulation {
    pub fn new(frame: Frame, plan: Plan) -> Result<Self, String> {
        let daltons = match &frame.masses {
            Some(masses) => masses.clone(),
            None => {
                let masses = frame.species.iter().map(|species| {
                    mass(species).ok_or_else(|| {
                        format!("{species:?} is no element: name one, or give the file a column masses:R:1, in daltons")
                    })
                });
                masses.collect::<Result<_, _>>()?
            }
        };
        if let Some(mass) = daltons.iter().find(|&&mass| mass <= 0.0) {
            return Err(format!("a mass of {mass} daltons: it must be more than 0"));
        }
        let masses: Vec<_> = daltons.iter().map(|mass| mass * DALTON).collect();
        let velocities = maxwell_boltzmann(&masses, BOLTZMANN * plan.temperature, plan.seed);
        let (table, trajectory): (Box<dyn Write>, Box<dyn Write>) = match &plan.output {
            Some(prefix) => (
                Box::new(create(format!("{prefix}.out"))?),
                Box::new(create(format!("{prefix}.xyz"))?),
            ),
            None => (Box::new(io::stdout()), Box::new(io::sink())),
        };
        Ok(Self {
            atoms: Atoms {
                masses,
                positions: frame.positions.clone(),
                forces: vec![[0.0; 3]; velocities.len()],
                velocities,
            },
            plan,
            frame,
            potential: 0.0,
            table,
            trajectory,
        })
    }

    /// Goes all the steps, and tells how well energy was conserved.
    pub fn run(mut self, drivers: &mut Drivers) -> Result<(), Box<dyn Error>> {
        let bar = progress_bar(self.plan.steps);
        drivers.show(&bar);
        let mut drift = Drift::default();
        let start = Instant::now();
        let result = self.steps(drivers, &bar, &mut drift);
        let seconds = start.elapsed().as_secs_f64();
        bar.finish_and_clear();
        let steps = drift.steps();
        if steps > 0 {
            let natoms = self.atoms.masses.len() as f64;
            drivers.say(&format!(
                "{} in {seconds:.3} s, {:.1} evaluations/s; drift of the conserved energy {:.2e} hartree an atom \
                 in {} fs (a line through all steps), largest deviation {:.2e}",
                counted(steps, "step"),
                (steps + 1) as f64 / seconds,
                drift.slope() * steps as f64 / natoms,
                steps as f64 * self.plan.timestep,
                drift.largest() / natoms
            ));
        }
        result
    }

    fn steps(
        &mut self,
        drivers: &mut Drivers,
        bar: &ProgressBar,
        drift: &mut Drift,
    ) -> Result<(), Box<dyn Error>> {
        let Plan {
            steps,
            timestep,
            temperature,
            seed,
            stride,
            ..
        } = self.plan;
        writeln!(
            self.table,
            "# NVE, {timestep} fs a step, {temperature} K at first, seed {seed}, {}\n\
             #{:>9} {:>14} {:>23} {:>23} {:>23} {:>14}",
            counted(self.atoms.masses.len(), "atom"),
            "step",
            "time/fs",
            "conserved/hartree",
            "potential/hartree",
            "kinetic/hartree",
            "temperature/K"
        )?;
        let dt = timestep * FEMTOSECOND;
        let start = Instant::now();
        let mut reported = start;
        self.compute(drivers)?;
        for step in 0..=steps {
            if step > 0 {
                self.atoms.kick(0.5 * dt);
                self.atoms.drift(dt);
                self.compute(drivers)?;
                self.atoms.kick(0.5 * dt);
            }
            drift.add(self.potential + self.atoms.kinetic());
            if step % stride == 0 || step == steps {
                let result = match self.plan.output {
                    Some(_) => self.write(step),
                    // The table may be on the same terminal.
                    None => bar.suspend(|| self.write(step)),
                };
                result.map_err(|error| format!("can't write step {step}: {error}"))?;
            }
            let state = || {
                let drivers = counted(drivers.count(), "driver");
                format!("potential {:.6} hartree, {drivers}", self.potential)
            };
            if !bar.is_hidden() {
                bar.set_message(state());
                bar.set_position(step);
            } else if reported.elapsed() >= REPORT {
                reported = Instant::now();
                let rate = step as f64 / start.elapsed().as_secs_f64();
                drivers.say(&format!(
                    "step {step} of {steps}, {rate:.1} steps/s, {}",
                    state()
                ));
            }
        }
        Ok(())
    }

    /// Potential and forces where the atoms are now.
    fn compute(&mut self, drivers: &mut Drivers) -> Result<(), Box<dyn Error>> {
        let rotation = self.frame.rotation;
        let positions = self.atoms.positions.iter().map(|r| rotation.apply(*r));
        let job = Job::new(self.frame.upper, positions.collect());
        let answer = drivers.evaluate(job)?;
        self.potential = answer.energy;
        for (force, rotated) in self.atoms.forces.iter_mut().zip(answer.job.forces) {
            *force = rotation.undo(rotated);
        }
        Ok(())
    }

    /// A row of the table, and a frame.
    fn write(&mut self, step: u64) -> io::Result<()> {
        let time = step as f64 * self.plan.timestep;
        let kinetic = self.atoms.kinetic();
        let natoms = self.atoms.masses.len();
        let freedoms = 3 * natoms - if conserves_momentum(natoms) { 3 } else { 0 };
        writeln!(
            self.table,
            "{step:>10} {time:>14.4} {:>23.16e} {:>23.16e} {kinetic:>23.16e} {:>14.6}",
            self.potential + kinetic,
            self.potential,
            2.0 * kinetic / (freedoms as f64 * BOLTZMANN)
        )?;
        self.table.flush()?;
        xyz::write(
            &mut self.trajectory,
            &self.frame.species,
            &self.frame.cell,
            &self.atoms.positions,
            self.plan.units,
            &format!("step={step} time_fs={time}"),
        )?;
        self.trajectory.flush()
    }
}

/// A file that is new or empty: no one's trajectory is lost.
fn create(path: String) -> Result<BufWriter<File>, String> {
    let file = OpenOptions::new().create(true).append(true).open(&path);
    match file.and_then(|file| Ok((file.metadata()?.len(), file))) {
        Ok((0, file)) => Ok(BufWriter::new(file)),
        Ok(_) => Err(format!(
            "{path} is there already: choose another --output, or move it away"
        )),
        Err(error) => Err(format!("{path}: {error}")),
    }
}

fn progress_bar(steps: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("{bar:24} step {pos} of {len}, {rate}, {eta} left, {msg}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    let rate = |state: &ProgressState, out: &mut dyn fmt::Write| {
        let _ = write!(out, "{:.1} steps/s", state.per_sec());
    };
    ProgressBar::new(steps).with_style(style.with_key("rate", rate))
}
