//! The command line, and what is done about it.

use std::error::Error;
use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::iter;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use forcewire::net::{Address, PoolOptions};
use forcewire::{Cell, Mode};

use crate::drivers::{Drivers, Ended, log};
use crate::dynamics::{Plan, Simulation};
use crate::evaluate::evaluate;
use crate::units::Units;
use crate::xyz::Frames;

const HELP: &str = "\
A server for drivers of the i-PI socket protocol: it has them evaluate the frames of a file,
or runs molecular dynamics.

usage: server FILE --evaluate  [flags]
       server FILE --steps N   [flags]

  FILE              frames in the XYZ format, plain or extended (Lattice, Properties);
                    - reads the standard input
  --units UNITS     of its lengths, angstrom (default) or bohr
  --cell EDGE       of the cube for frames without a Lattice (default: 1000 bohr)

where drivers find it:
  -a HOST           where to listen, a name or an address (default: localhost);
                    with -u, the name of a unix socket
  -p PORT           the port (default: 31415); 0 lets the system choose one
  -u                a unix socket, PREFIX followed by HOST
  -S PREFIX         what comes before the name (default: /tmp/ipi_)
  --allow SUBNET    let in only TCP drivers from there, such as 10.1.0.0/16; may be repeated

how they are asked:
  --drivers N       how many to wait for before the first evaluation (default: 1);
                    others may come and go at any time
  --wait S          seconds to wait for them, and for another when none is left (default: 60)
  --timeout S       seconds for an evaluation, before the driver is dropped (default: no limit)
  --attempts N      drivers that had answered before and may be lost over one structure
                    (default: 3)
  --stragglers S    give a structure to a second driver after S seconds, if that driver has
                    nothing else to do; the first answer counts
  --mode MODE       consolidated (default), classic, or strict (ABINIT 9.6)
  --batch N         up to N structures at once, for drivers that ask for INIT
  --init TEXT       the text of INIT (default: one blank)
  --fold            move atoms into the cell before they are sent; LAMMPS needs it

--evaluate prints a line of JSON for each frame, in their order: frame, energy (hartree), forces
(hartree/bohr), virial (hartree), extras, driver and microseconds.
  --keep-going      a frame that can't be computed has a line too, with its number and an error,
                    and the others are computed

--steps runs molecular dynamics at constant energy, from the first frame:
  --timestep FS     of each step (default: 1)
  --temperature K   of the initial velocities (default: 0, atoms at rest)
  --seed N          for other velocities of the same temperature (default: 1)
  --output PREFIX   write PREFIX.out, a table of energies, and PREFIX.xyz, in the units of FILE;
                    otherwise the table is printed
  --stride N        steps from row to row and frame to frame (default: 10)
It ends with the drift of the conserved energy, which is the rise of the straight line through
its values at all steps, and with its largest deviation from the first; both an atom.

  -h, --help        this text

What happens is told on the standard error; the first line says where the server listens. It
ends with 0 when all is done, with 1 and the reason when something failed, with 2 when a flag
makes no sense. Drivers are told to EXIT. After SIGTERM or SIGHUP it waits for what is being
computed, prints it, and ends with 143 or 129; a second signal ends it at once.
";

/// The edge of the cube for frames without a cell, bohr.
const EDGE: f64 = 1000.0;

struct Arguments {
    file: String,
    units: Units,
    cell: Option<f64>,
    address: Address,
    options: PoolOptions,
    drivers: usize,
    wait: Duration,
    keep_going: bool,
    /// Frames are evaluated if there is none.
    plan: Option<Plan>,
}

pub fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            // A pager that has seen enough closes the pipe.
            return match io::stdout().write_all(HELP.as_bytes()) {
                Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                    log(&format!("can't print the help: {error}"));
                    ExitCode::FAILURE
                }
                _ => ExitCode::SUCCESS,
            };
        }
        Err(error) => {
            log(&format!("{error} (--help lists the flags)"));
            return ExitCode::from(2);
        }
    };
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log(&error.to_string());
            let ended = error.downcast_ref::<Ended>();
            ended.map_or(ExitCode::FAILURE, |ended| ExitCode::from(ended.status()))
        }
    }
}

fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let Arguments {
        file,
        units,
        cell,
        address,
        options,
        drivers: count,
        wait,
        keep_going,
        plan,
    } = arguments;
    let edge = cell.map_or(EDGE, |edge| edge * units.in_bohr());
    let mut frames = Frames::open(&file, units, Cell::orthorhombic([edge; 3]))?;
    // What is wrong with it is told before anyone waits.
    let first = frames.required()?;
    let simulation = plan.map(|plan| Simulation::new(first.clone(), plan));
    let simulation = simulation.transpose()?;
    let batch = match options.mode {
        Mode::Batched(size) => size,
        _ => 1,
    };
    let mut drivers = Drivers::listen(options, &address, wait)?;
    if cell.is_none() && !first.has_lattice {
        drivers.say(&format!("no Lattice in {file}: a cube of {EDGE} bohr"));
    }
    let result = drivers.gather(count).and_then(|()| match simulation {
        Some(simulation) => simulation.run(&mut drivers),
        None => {
            let frames = iter::once(Ok(first)).chain(frames);
            evaluate(frames, &mut drivers, batch, keep_going)
        }
    });
    let closed = drivers.close();
    result?;
    Ok(closed?)
}

/// What the command line asks for; nothing if that is help.
fn arguments() -> Result<Option<Arguments>, Box<dyn Error>> {
    use lexopt::prelude::*;

    let (mut file, mut units, mut cell) = (None, Units::Angstrom, None);
    let (mut host, mut port, mut unix) = (String::from("localhost"), 31415, false);
    let mut prefix = String::from(Address::PREFIX);
    let (mut drivers, mut wait) = (1, Duration::from_secs(60));
    let (mut mode, mut batch) = (None, None);
    let mut options = PoolOptions::default().attempts(Some(3));
    let (mut evaluate, mut keep_going) = (false, false);
    let mut plan = Plan {
        steps: 0,
        timestep: 1.0,
        temperature: 0.0,
        seed: 1,
        stride: 10,
        output: None,
        units,
    };
    // The last flag of those for molecular dynamics.
    let mut moving = None;

    let mut flags = lexopt::Parser::from_env();
    while let Some(flag) = flags.next()? {
        let name = match flag {
            Short(letter) => format!("-{letter}"),
            Long(name) => format!("--{name}"),
            Value(_) => String::new(),
        };
        if let Long("steps" | "timestep" | "temperature" | "seed" | "output" | "stride") = flag {
            moving = Some(name.clone());
        }
        let name = name.as_str();
        let text = |flags: &mut lexopt::Parser| flags.value()?.string();
        match flag {
            Value(path) if file.is_none() => file = Some(path.string()?),
            Long("units") => units = one_of(name, UNITS, &text(&mut flags)?)?,
            Long("cell") => cell = Some(positive(name, "a length", &text(&mut flags)?)?),
            Short('a') | Long("address") => host = text(&mut flags)?,
            Short('p') | Long("port") => port = number(name, "a port", &text(&mut flags)?)?,
            Short('u') | Long("unix") => unix = true,
            Short('S') => prefix = text(&mut flags)?,
            Long("allow") => {
                let subnet = number(name, "a subnet", &text(&mut flags)?)?;
                options.allow.push(subnet);
            }
            Long("drivers") => drivers = count(name, &text(&mut flags)?)?,
            Long("wait") => wait = seconds(name, &text(&mut flags)?)?,
            Long("timeout") => {
                options.deadlines.evaluation = Some(seconds(name, &text(&mut flags)?)?);
            }
            Long("attempts") => options.attempts = Some(count(name, &text(&mut flags)?)?),
            Long("stragglers") => {
                options.stragglers = Some(seconds(name, &text(&mut flags)?)?);
            }
            Long("keep-going") => keep_going = true,
            Long("mode") => mode = Some(one_of(name, MODES, &text(&mut flags)?)?),
            Long("batch") => batch = Some(count(name, &text(&mut flags)?)?),
            Long("init") => options.init = text(&mut flags)?.into_bytes(),
            Long("fold") => options.fold = true,
            Long("evaluate") => evaluate = true,
            Long("steps") => plan.steps = count(name, &text(&mut flags)?)?,
            Long("timestep") => plan.timestep = positive(name, "fs", &text(&mut flags)?)?,
            Long("temperature") => {
                let text = text(&mut flags)?;
                let zero = text.parse() == Ok(0.0);
                plan.temperature = if zero {
                    0.0
                } else {
                    positive(name, "K", &text)?
                };
            }
            Long("seed") => plan.seed = number(name, "a number", &text(&mut flags)?)?,
            Long("output") => plan.output = Some(text(&mut flags)?),
            Long("stride") => plan.stride = count(name, &text(&mut flags)?)?,
            Short('h') | Long("help") => return Ok(None),
            other => return Err(other.unexpected().into()),
        }
    }
    plan.units = units;

    options.mode = match (mode, batch) {
        (Some(mode @ (Mode::Classic | Mode::Strict)), Some(_)) => {
            let mode = format!("{mode:?}").to_lowercase();
            return Err(format!("--batch is for --mode consolidated, not {mode}").into());
        }
        (_, Some(size)) => Mode::Batched(size),
        (mode, None) => mode.unwrap_or_default(),
    };
    let plan = match moving {
        Some(flag) if evaluate => {
            return Err(format!("{flag} is for molecular dynamics, not for --evaluate").into());
        }
        _ if evaluate => None,
        _ if keep_going => return Err("--keep-going is for --evaluate".into()),
        _ if plan.steps == 0 => return Err("--evaluate or --steps N is missing".into()),
        _ => Some(plan),
    };
    let address = if unix {
        Address::unix(&prefix, &host)
    } else {
        Address::tcp(host, port)
    };
    Ok(Some(Arguments {
        file: file.ok_or("the FILE of frames is missing")?,
        units,
        cell,
        address,
        options,
        drivers,
        wait,
        keep_going,
        plan,
    }))
}

const UNITS: &[(&str, Units)] = &[("angstrom", Units::Angstrom), ("bohr", Units::Bohr)];

const MODES: &[(&str, Mode)] = &[
    ("classic", Mode::Classic),
    ("consolidated", Mode::Consolidated),
    ("strict", Mode::Strict),
];

fn one_of<T: Copy>(flag: &str, choices: &[(&str, T)], text: &str) -> Result<T, String> {
    let chosen = choices.iter().find(|(name, _)| *name == text);
    chosen.map(|(_, it)| *it).ok_or_else(|| {
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        format!("{flag} is one of {}, not {text:?}", names.join(", "))
    })
}

fn number<T: FromStr>(flag: &str, what: &str, text: &str) -> Result<T, String>
where
    T::Err: Display,
{
    text.parse()
        .map_err(|error| format!("{flag} takes {what}, not {text:?}: {error}"))
}

fn positive(flag: &str, what: &str, text: &str) -> Result<f64, String> {
    let number: f64 = number(flag, what, text)?;
    if number > 0.0 && number.is_finite() {
        Ok(number)
    } else {
        Err(format!("{flag} takes {what}, more than 0, not {text:?}"))
    }
}

/// How many of something, at least one.
fn count<T: FromStr + PartialEq + Default>(flag: &str, text: &str) -> Result<T, String>
where
    T::Err: Display,
{
    let count = number(flag, "a number", text)?;
    if count == T::default() {
        return Err(format!("{flag} takes a number, at least 1, not {text:?}"));
    }
    Ok(count)
}

fn seconds(flag: &str, text: &str) -> Result<Duration, String> {
    let seconds = number(flag, "a number of seconds", text)?;
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| format!("{flag} takes a number of seconds, not {text:?}"))
}
