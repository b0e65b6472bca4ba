//! The command `forcewire`: programs around the i-PI socket protocol.
//!
//! ```text
//! bridge/       forcewire bridge: boards on serial lines
//! driver/       forcewire driver: computes for a server
//! evaluate/     forcewire evaluate: frames to drivers, results in their order
//! check/        forcewire check: clumsy peers for any driver and any server
//! md/           forcewire md: molecular dynamics
//! relay/        forcewire relay: one driver towards a server, any number behind it
//! incoming.rs   positions of a server, which take memory as they come
//! meet.rs       a file by which server and drivers find each other
//! pool.rs       the drivers of a server
//! progress.rs   how far a run is
//! arguments.rs  flags that several commands have
//! xyz/          frames of extended XYZ files
//! sent.rs       a frame as drivers get it
//! digest.rs     what a result was computed from
//! trouble.rs    errors in the words of a command
//! say.rs        what is said, and how a command ends
//! ```

#![forbid(unsafe_code)]
// Unix only: the pool of drivers, and with it the commands that read files.
#![cfg_attr(not(unix), allow(dead_code, unused_imports))]

mod arguments;
#[cfg(unix)]
mod bridge;
#[cfg(unix)]
mod check;
#[cfg(unix)]
mod digest;
mod driver;
mod elements;
#[cfg(unix)]
mod evaluate;
mod generate;
mod incoming;
#[cfg(unix)]
mod md;
mod meet;
mod number;
#[cfg(unix)]
mod pool;
#[cfg(unix)]
mod progress;
#[cfg(unix)]
mod relay;
mod say;
mod sent;
mod trouble;
mod units;
mod xyz;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// Programs around the i-PI socket protocol, in which a server moves atoms and drivers compute
/// forces
#[derive(Parser, Debug)]
#[command(
    name = "forcewire",
    version,
    disable_help_subcommand = true,
    after_help = "\
Example: a simulation of argon, and the driver that computes its forces
  forcewire md argon.xyz --steps 1000 --temperature 80 --output run &
  forcewire driver -m lj -o 6.43452,0.000379384,16.0863

Each command has its own --help."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Driver(driver::Arguments),
    #[cfg(unix)]
    Evaluate(evaluate::Arguments),
    #[cfg(unix)]
    Md(md::Arguments),
    #[cfg(unix)]
    Relay(relay::Arguments),
    #[cfg(unix)]
    Bridge(bridge::Arguments),
    #[cfg(unix)]
    Check(check::Arguments),
    #[command(hide = true)]
    Generate(generate::Arguments),
}

fn main() -> ExitCode {
    let command = arguments::with_negative_numbers(Cli::command());
    let cli = Cli::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
    let result = match cli.command {
        Command::Driver(arguments) => driver::run(arguments),
        #[cfg(unix)]
        Command::Evaluate(arguments) => evaluate::run(arguments),
        #[cfg(unix)]
        Command::Md(arguments) => md::run(arguments),
        #[cfg(unix)]
        Command::Relay(arguments) => relay::run(arguments),
        #[cfg(unix)]
        Command::Bridge(arguments) => bridge::run(arguments),
        #[cfg(unix)]
        Command::Check(arguments) => return check::run(arguments),
        Command::Generate(arguments) => generate::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
