//! A driver with the flags of i-PI's own (`i-pi-driver`, i-PI 3.3.1 `drivers/f90/driver.f90`).
//!
//! ```text
//! cargo run --release --example driver -- -a localhost -p 31415 -m lj -o 6.43452,0.000379384,16.0863
//! cargo run --release --example driver -- -u -a argon -m sg -o 15
//! ```

use std::error::Error;
use std::fmt::Display;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, Instant};

use forcewire::net::{Address, Arrays, Calculator, ConnectOptions, connect_with, serve_with};
use forcewire::potential::{
    Cutoff, Harmonic, Harmonic1d, IdealGas, LennardJones, Morse, SilveraGoldman, storage_for,
};
use forcewire::{Cell, Driver, Evaluation, Event, Initialize, Potential, PotentialError};

const HELP: &str = "\
A driver for i-PI and every other server that speaks its socket protocol.

usage: driver [-u] [-a HOST] [-p PORT] -m MODEL [-o PARAMETERS] [-S PREFIX] [-v]

  -a HOST         where the server listens, a name or an address (default: localhost);
                  with -u, the name of its unix socket
  -p PORT         its port (default: 31415)
  -u              a unix socket, PREFIX followed by HOST
  -S PREFIX       what comes before the name (default: /tmp/ipi_)
  -m MODEL        gas    [-o DELAY]     no forces at all, after DELAY seconds
                  harm    -o K          a spring on x of the first atom
                  harm3d  -o K          a spring on every atom
                  morse  [-o R0,D,A]    a Morse well around the origin (default: O-H stretch)
                  lj      -o SIGMA,EPSILON,CUTOFF
                                        Lennard-Jones with its long-range tail
                  sg      -o CUTOFF     Silvera-Goldman para-hydrogen
  -o PARAMETERS   of the model, separated by commas, in atomic units
  --cutoff HOW    what lj does at its cutoff: tail (default), truncated or shifted
  --init WHEN     ask the server for INIT: once (default; needed for batches), never or every
  --patience S    seconds to wait for the server to listen, and for a message that it
                  has begun (default: 60)
  -v              say what happens
  -h, --help      this text

The driver ends with 0 when the server says EXIT, with 1 and the reason when the server
goes away without (ASE's does), with 2 when a flag makes no sense.
";

/// The most atoms and structures of one exchange, so that a stream out of step does not ask for all memory.
const MOST_ATOMS: usize = 10_000_000;
const MOST_STRUCTURES: usize = 10_000;

/// Makes the potential for the cell of the first structure: i-PI's driver lets the cutoffs of lj and sg follow its
/// volume from there.
type Model = Box<dyn Fn(&Cell) -> Box<dyn Potential<Real = f64>>>;

struct Arguments {
    address: Address,
    model: Model,
    initialize: Initialize,
    options: ConnectOptions,
    verbose: bool,
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("driver: {error} (--help lists the flags)");
            return ExitCode::from(2);
        }
    };
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("driver: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let Arguments {
        address,
        model,
        initialize,
        options,
        verbose,
    } = arguments;
    let mut silent = true;
    let mut stream = connect_with(&address, options, |error, _| {
        if std::mem::take(&mut silent) {
            let seconds = options.connect.as_secs_f64();
            eprintln!("driver: {error}; trying again for {seconds} s");
        }
    })?;
    if verbose {
        eprintln!("driver: connected to {address}");
    }
    let mut driver = Driver::new().initialize(initialize);
    let mut arrays = Arrays::new().at_most(MOST_ATOMS, MOST_STRUCTURES);
    let mut work = Work::new(model, verbose);
    let start = Instant::now();
    let end = serve_with(&mut stream, &mut driver, &mut arrays, &mut work);
    if verbose {
        let traffic = driver.traffic();
        eprintln!(
            "driver: {} evaluations in {:.3} s, {:.3} s of it computing; {} bytes received, {} sent",
            work.count,
            start.elapsed().as_secs_f64(),
            work.computing.as_secs_f64(),
            traffic.received,
            traffic.sent
        );
    }
    match end {
        Ok(Event::Exit) => Ok(()),
        Ok(_) => Err(format!("{address} closed the connection without EXIT").into()),
        Err(forcewire::Error::TimedOut(late)) => Err(format!("{address}: {late}").into()),
        Err(error) => Err(error.into()),
    }
}

/// What is computed, and what has been.
struct Work {
    model: Model,
    potential: Option<Box<dyn Potential<Real = f64>>>,
    verbose: bool,
    count: usize,
    computing: Duration,
}

impl Work {
    const fn new(model: Model, verbose: bool) -> Self {
        Self {
            model,
            potential: None,
            verbose,
            count: 0,
            computing: Duration::ZERO,
        }
    }
}

impl Calculator for Work {
    type Real = f64;

    fn initialize(&mut self, driver: &Driver) -> Result<(), PotentialError> {
        if self.verbose {
            let replica = driver.replica().unwrap_or_default();
            let text = driver.init_text().escape_ascii();
            eprintln!("driver: replica {replica}, \"{text}\"");
        }
        Ok(())
    }

    fn evaluate(
        &mut self,
        cell: &Cell,
        positions: &[[f64; 3]],
        forces: &mut [[f64; 3]],
    ) -> Result<Evaluation, PotentialError> {
        let start = Instant::now();
        let potential = self.potential.get_or_insert_with(|| (self.model)(cell));
        let evaluation = potential.evaluate(cell, positions, forces)?;
        self.count += 1;
        self.computing += start.elapsed();
        if self.verbose {
            let (natoms, energy) = (positions.len(), evaluation.energy);
            eprintln!("driver: {natoms} atoms, energy {energy} hartree");
        }
        Ok(evaluation)
    }
}

/// The model called `name`, as i-PI's driver means it.
fn model(name: &str, parameters: &[f64], cutoff: Option<Cutoff>) -> Result<Model, String> {
    let wrong = |needed: &str| {
        let given = parameters.len();
        Err(format!(
            "-m {name} takes {needed}, and -o gives {given} numbers"
        ))
    };
    if cutoff.is_some() && name != "lj" {
        return Err(format!("--cutoff is for -m lj, not for -m {name}"));
    }
    if parameters.iter().any(|number| number.is_nan()) {
        return Err("-o takes numbers, and NaN is none".into());
    }
    let cutoff = cutoff.unwrap_or(Cutoff::Tail);
    let storage = || vec![0; storage_for(MOST_ATOMS)]; // stays untouched beyond the atoms that there are
    Ok(match (name, parameters) {
        ("gas", []) => Box::new(|_| Box::new(IdealGas::new())),
        ("gas", &[seconds]) => {
            let delay = Duration::try_from_secs_f64(seconds)
                .map_err(|_| format!("-m gas takes seconds of delay, not {seconds}"))?;
            Box::new(move |_| Box::new(Delayed(IdealGas::new(), delay)))
        }
        ("gas", _) => return wrong("-o DELAY or no parameters"),
        ("harm", &[k]) => Box::new(move |_| Box::new(Harmonic1d::new(k))),
        ("harm3d", &[k]) => Box::new(move |_| Box::new(Harmonic::new(k))),
        ("harm" | "harm3d", _) => return wrong("-o K"),
        ("morse", []) => Box::new(|_| Box::new(Morse::default())),
        ("morse", &[r0, depth, a]) => Box::new(move |_| Box::new(Morse::new(r0, depth, a))),
        ("morse", _) => return wrong("-o R0,D,A or no parameters"),
        ("lj", &[sigma, epsilon, radius]) => Box::new(move |cell| {
            let mut lj = LennardJones::new(sigma, epsilon, radius).with_cutoff(cutoff);
            // LAMMPS's cutoff and ASE's stay where they are.
            if cutoff == Cutoff::Tail {
                lj = lj.with_reference_volume(cell.volume());
            }
            Box::new(lj.with_storage(storage()))
        }),
        ("lj", _) => return wrong("-o SIGMA,EPSILON,CUTOFF"),
        ("sg", &[radius]) => Box::new(move |cell| {
            let sg = SilveraGoldman::new(radius).with_reference_volume(cell.volume());
            Box::new(sg.with_storage(storage()))
        }),
        ("sg", _) => return wrong("-o CUTOFF"),
        _ => {
            return Err(format!(
                "-m is gas, harm, harm3d, morse, lj or sg, not {name:?}"
            ));
        }
    })
}

/// A potential that takes its time.
struct Delayed<P>(P, Duration);

impl<P: Potential> Potential for Delayed<P> {
    type Real = P::Real;

    fn evaluate(
        &mut self,
        cell: &Cell,
        positions: &[[P::Real; 3]],
        forces: &mut [[P::Real; 3]],
    ) -> Result<Evaluation, PotentialError> {
        std::thread::sleep(self.1);
        self.0.evaluate(cell, positions, forces)
    }
}

/// What the command line asks for; nothing if that is help.
fn arguments() -> Result<Option<Arguments>, Box<dyn Error>> {
    use lexopt::prelude::*;

    let (mut host, mut port, mut unix) = (String::from("localhost"), 31415, false);
    let mut prefix = String::from(Address::PREFIX);
    let (mut name, mut parameters) = (None, Vec::new());
    let mut cutoff = None;
    let mut initialize = Initialize::Once;
    let mut options = ConnectOptions::new();
    let mut verbose = false;

    let mut flags = lexopt::Parser::from_env();
    while let Some(flag) = flags.next()? {
        match flag {
            Short('a') | Long("address") => host = flags.value()?.string()?,
            Short('p') | Long("port") => port = number("-p", "a port", &flags.value()?.string()?)?,
            Short('u') | Long("unix") => unix = true,
            Short('S') => prefix = flags.value()?.string()?,
            Short('m') | Long("mode") => name = Some(flags.value()?.string()?),
            Short('o') | Long("param") => {
                parameters = flags
                    .value()?
                    .string()?
                    .split(',')
                    .map(|text| number("-o", "a number", text.trim()))
                    .collect::<Result<_, _>>()?;
            }
            Long("cutoff") => {
                cutoff = Some(match flags.value()?.string()?.as_str() {
                    "tail" => Cutoff::Tail,
                    "truncated" => Cutoff::Truncated,
                    "shifted" => Cutoff::Shifted,
                    other => {
                        return Err(format!(
                            "--cutoff is tail, truncated or shifted, not {other:?}"
                        )
                        .into());
                    }
                });
            }
            Long("init") => {
                initialize = match flags.value()?.string()?.as_str() {
                    "never" => Initialize::Never,
                    "once" => Initialize::Once,
                    "every" => Initialize::EveryStep,
                    other => {
                        return Err(format!("--init is never, once or every, not {other:?}").into());
                    }
                };
            }
            Long("patience") => {
                let text = flags.value()?.string()?;
                let seconds = Duration::try_from_secs_f64(number(
                    "--patience",
                    "a number of seconds",
                    &text,
                )?)
                .map_err(|_| format!("--patience takes a number of seconds, not {text:?}"))?;
                options = options
                    .connect(seconds)
                    .deadlines(options.deadlines.message(seconds));
            }
            Short('v') => verbose = true,
            Short('h') | Long("help") => return Ok(None),
            other => return Err(other.unexpected().into()),
        }
    }

    let name = name.ok_or("-m MODEL is missing: gas, harm, harm3d, morse, lj or sg")?;
    let model = model(&name, &parameters, cutoff)?;
    let address = if unix {
        Address::unix(&prefix, &host)
    } else {
        Address::tcp(host, port)
    };
    Ok(Some(Arguments {
        address,
        model,
        initialize,
        options,
        verbose,
    }))
}

fn number<T: FromStr>(flag: &str, what: &str, text: &str) -> Result<T, String>
where
    T::Err: Display,
{
    text.parse()
        .map_err(|error| format!("{flag} takes {what}, not {text:?}: {error}"))
}
