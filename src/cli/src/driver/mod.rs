//! `forcewire driver`: computes for a server, with the flags of i-PI's own driver.

mod conversation;
mod images;
mod models;

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::arguments::{Meeting, seconds};
use crate::say::Failure;
use conversation::Conversation;
use models::{AtCutoff, Model, model};

/// Compute energies and forces for i-PI, ASE or another server
#[derive(Args, Debug)]
#[command(
    disable_help_flag = true,
    args_override_self = true,
    after_help = "\
Models and their PARAMETERS, in atomic units:
  gas     DELAY or none              no forces, after DELAY seconds
  harm    K                          a spring on x of the first atom
  harm3d  K                          a spring on every atom
  morse   R0,D,A or none             a Morse well around the origin (default: O-H)
  lj      SIGMA,EPSILON,CUTOFF       Lennard-Jones, summed over all images
  sg      CUTOFF                     Silvera-Goldman para-hydrogen, the same

At the cutoff, tail adds the mean of what is beyond it. So does ipi, where the cutoff also
grows with the cell, from its size in the first structure that the driver was sent. Use it to
repeat a run of i-PI's driver at constant pressure, with one driver from start to end: the
numbers depend on that first structure. With a constant volume both are the same.

Example: forcewire driver -a localhost -p 31415 -m lj -o 6.43452,0.000379384,16.0863

Status: 0 after EXIT or when the server closes between messages, 1 when something
fails, 2 when a flag makes no sense."
)]
pub struct Arguments {
    #[command(flatten)]
    meeting: Meeting,
    /// Potential to compute
    #[arg(
        short,
        long = "mode",
        value_name = "MODEL",
        value_enum,
        hide_possible_values = true
    )]
    model: Model,
    /// Parameters of the potential, separated by commas
    #[arg(
        short = 'o',
        long = "param",
        value_name = "PARAMETERS",
        allow_hyphen_values = true
    )]
    parameters: Option<String>,
    /// Treatment of the cutoff: tail (the default), ipi, truncated (LAMMPS) or shifted (ASE)
    #[arg(long, value_name = "HOW", value_enum, hide_possible_values = true)]
    cutoff: Option<AtCutoff>,
    /// Ask for INIT: auto (only if batches come), never, once or every
    #[arg(
        long,
        value_name = "WHEN",
        default_value = "auto",
        value_enum,
        hide_possible_values = true
    )]
    init: Init,
    /// Seconds to wait for a server to listen, and for the rest of a message
    #[arg(long, value_name = "S", default_value = "60", value_parser = seconds)]
    patience: Duration,
    /// Seconds without a message from the server after which to give up [default: no limit]
    #[arg(long, value_name = "S", value_parser = seconds)]
    idle: Option<Duration>,
    /// Wait for the next server when one ends
    #[arg(long)]
    reconnect: bool,
    /// Log what happens
    #[arg(short, long)]
    verbose: bool,
}

/// When to ask for INIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Init {
    Auto,
    Never,
    Once,
    Every,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments {
        meeting,
        model: name,
        parameters,
        cutoff,
        init,
        patience,
        idle,
        reconnect,
        verbose,
    } = arguments;
    let potential = model(name, parameters.as_deref(), cutoff).map_err(Failure::Usage)?;
    let mut conversation = Conversation::new(meeting.target()?, potential, init, verbose);
    conversation.limits(patience, idle);
    conversation.run(reconnect)
}
