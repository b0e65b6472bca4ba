//! A driver with the flags of i-PI's own (`i-pi-driver`, i-PI 3.3.1 `drivers/f90/driver.f90`).
//!
//! ```text
//! cargo run --release --features std --example driver -- -a localhost -p 31415 -m lj -o 6.43452,0.000379384,16.0863
//! cargo run --release --features std --example driver -- -u -a argon -m sg -o 15
//! ```

use std::error::Error;
use std::fmt::Display;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, Instant};

use forcewire::net::{Address, Patience, Stream, connect_with};
use forcewire::potential::{
    Cutoff, Harmonic, Harmonic1d, IdealGas, LennardJones, Morse, SilveraGoldman, storage_for,
};
use forcewire::{Cell, Driver, Evaluation, Event, Initialize, Potential, ProtocolError, blocking};

const HELP: &str = "\
A driver for i-PI and every other server that speaks its socket protocol.

usage: driver [-u] [-a HOST] [-p PORT] -m MODEL [-o PARAMETERS] [-S PREFIX] [-v]

  -a HOST         where the server listens, a name or an address (default: localhost);
                  with -u, the name of its unix socket
  -p PORT         its port (default: 31415)
  -u              a unix socket, PREFIX followed by HOST
  -S PREFIX       what comes before the name (default: /tmp/ipi_)
  -m MODEL        gas                   no forces at all
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

/// The most atoms of one exchange, so that a stream out of step does not ask for all memory.
const MOST_ATOMS: usize = 10_000_000;

struct Arguments {
    address: Address,
    potential: Box<dyn Potential<Real = f64>>,
    initialize: Initialize,
    patience: Patience,
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

fn run(mut arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let Arguments {
        address,
        patience,
        verbose,
        ..
    } = &arguments;
    let mut silent = true;
    let mut stream = connect_with(address, *patience, |error, _| {
        if std::mem::take(&mut silent) {
            let seconds = patience.connect.as_secs_f64();
            eprintln!("driver: {error}; trying again for {seconds} s");
        }
    })?;
    if *verbose {
        eprintln!("driver: connected to {address}");
    }
    let mut driver = Driver::new().initialize(arguments.initialize);
    let mut work = Work::default();
    let start = Instant::now();
    let result = serve(&mut stream, &mut driver, &mut work, &mut arguments);
    if arguments.verbose {
        let Work {
            count, computing, ..
        } = work;
        let traffic = driver.traffic();
        eprintln!(
            "driver: {count} evaluations in {:.3} s, {:.3} s of it computing; {} bytes received, {} sent",
            start.elapsed().as_secs_f64(),
            computing.as_secs_f64(),
            traffic.received,
            traffic.sent
        );
    }
    result
}

/// The arrays of an exchange, as long as the server's structures need, and what has been done with them.
#[derive(Default)]
struct Work {
    cells: Vec<Cell>,
    positions: Vec<[f64; 3]>,
    forces: Vec<[f64; 3]>,
    evaluations: Vec<Evaluation>,
    count: usize,
    computing: Duration,
}

/// Computes whatever the server asks for until it has had enough.
fn serve(
    stream: &mut Stream,
    driver: &mut Driver,
    work: &mut Work,
    arguments: &mut Arguments,
) -> Result<(), Box<dyn Error>> {
    let verbose = arguments.verbose;
    loop {
        let receive = driver.receive_batch(&mut work.cells, &mut work.positions);
        match blocking::run(stream, receive) {
            Ok(Event::Positions {
                natoms,
                structures,
                cell,
            }) => {
                let start = Instant::now();
                work.forces.resize(natoms * structures, [0.0; 3]);
                work.evaluations.clear();
                for index in 0..structures {
                    // Only a batch needs more than the cell that comes with the event.
                    let cell = work.cells.get(index).unwrap_or(&cell);
                    let atoms = index * natoms..(index + 1) * natoms;
                    let (positions, forces) =
                        (&work.positions[atoms.clone()], &mut work.forces[atoms]);
                    work.evaluations
                        .push(arguments.potential.evaluate(cell, positions, forces)?);
                }
                work.count += structures;
                work.computing += start.elapsed();
                blocking::run(
                    stream,
                    driver.reply_batch(&work.evaluations, &work.forces, &[]),
                )?;
                if verbose {
                    let energies: Vec<f64> = work.evaluations.iter().map(|it| it.energy).collect();
                    eprintln!("driver: {natoms} atoms, energy {energies:?} hartree");
                }
            }
            Ok(Event::Init { replica }) => {
                if verbose {
                    let text = driver.init_text().escape_ascii();
                    eprintln!("driver: replica {replica}, \"{text}\"");
                }
            }
            Ok(Event::Exit) => return Ok(()),
            Ok(_) => {
                return Err(format!("{} closed the connection without EXIT", stream.peer()).into());
            }
            // Once there is room, the exchange goes on.
            Err(forcewire::Error::Protocol(ProtocolError::TooManyAtoms { announced, .. }))
                if announced <= MOST_ATOMS =>
            {
                work.positions.resize(announced, [0.0; 3]);
            }
            Err(forcewire::Error::Protocol(ProtocolError::TooManyStructures {
                announced, ..
            })) if announced <= MOST_ATOMS => {
                work.cells.resize(announced, Cell::orthorhombic([0.0; 3]));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The model called `name`, as i-PI's driver means it.
fn potential(
    name: &str,
    parameters: &[f64],
    cutoff: Option<Cutoff>,
) -> Result<Box<dyn Potential<Real = f64>>, String> {
    let wrong = |needed: &str| {
        let given = parameters.len();
        Err(format!(
            "-m {name} takes {needed}, and -o gives {given} numbers"
        ))
    };
    if cutoff.is_some() && name != "lj" {
        return Err(format!("--cutoff is for -m lj, not for -m {name}"));
    }
    let storage = || vec![0; storage_for(MOST_ATOMS)]; // untouched beyond the atoms that there are
    Ok(match (name, parameters) {
        ("gas", []) => Box::new(IdealGas::new()),
        ("gas", _) => return wrong("no parameters"),
        ("harm", &[k]) => Box::new(Harmonic1d::new(k)),
        ("harm3d", &[k]) => Box::new(Harmonic::new(k)),
        ("harm" | "harm3d", _) => return wrong("-o K"),
        ("morse", []) => Box::new(Morse::default()),
        ("morse", &[r0, depth, a]) => Box::new(Morse::new(r0, depth, a)),
        ("morse", _) => return wrong("-o R0,D,A or no parameters"),
        ("lj", &[sigma, epsilon, radius]) => Box::new(
            LennardJones::new(sigma, epsilon, radius)
                .with_cutoff(cutoff.unwrap_or(Cutoff::Tail))
                .with_storage(storage()),
        ),
        ("lj", _) => return wrong("-o SIGMA,EPSILON,CUTOFF"),
        ("sg", &[radius]) => Box::new(SilveraGoldman::new(radius).with_storage(storage())),
        ("sg", _) => return wrong("-o CUTOFF"),
        _ => {
            return Err(format!(
                "-m is gas, harm, harm3d, morse, lj or sg, not {name:?}"
            ));
        }
    })
}

/// What the command line asks for; nothing if that is help.
fn arguments() -> Result<Option<Arguments>, Box<dyn Error>> {
    use lexopt::prelude::*;

    let (mut host, mut port, mut unix) = (String::from("localhost"), 31415, false);
    let mut prefix = String::from(Address::PREFIX);
    let (mut model, mut parameters) = (None, Vec::new());
    let mut cutoff = None;
    let mut initialize = Initialize::Once;
    let mut patience = Patience::default();
    let mut verbose = false;

    let mut flags = lexopt::Parser::from_env();
    while let Some(flag) = flags.next()? {
        match flag {
            Short('a') | Long("address") => host = flags.value()?.string()?,
            Short('p') | Long("port") => port = number("-p", "a port", &flags.value()?.string()?)?,
            Short('u') | Long("unix") => unix = true,
            Short('S') => prefix = flags.value()?.string()?,
            Short('m') | Long("mode") => model = Some(flags.value()?.string()?),
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
                patience = Patience {
                    connect: seconds,
                    message: seconds,
                    ..patience
                };
            }
            Short('v') => verbose = true,
            Short('h') | Long("help") => return Ok(None),
            other => return Err(other.unexpected().into()),
        }
    }

    let model = model.ok_or("-m MODEL is missing: gas, harm, harm3d, morse, lj or sg")?;
    let potential = potential(&model, &parameters, cutoff)?;
    let address = if unix {
        Address::unix(&prefix, &host)
    } else {
        Address::tcp(host, port)
    };
    Ok(Some(Arguments {
        address,
        potential,
        initialize,
        patience,
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
