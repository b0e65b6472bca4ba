//! `forcewire md`: molecular dynamics with the forces of drivers.

mod files;
mod integrator;
mod plot;
mod simulation;
mod start;

use clap::Args;

use crate::arguments::{Meeting, not_negative, positive};
use crate::evaluate::CellArguments;
use crate::pool::Asking;

pub use simulation::run;

/// Run molecular dynamics with the forces of drivers
#[derive(Args, Debug)]
#[command(
    disable_help_flag = true,
    after_help = "\
It begins with the first frame of FILE, and with its momenta, or velocities in Å/fs, if it has
them. PREFIX.xyz has positions, momenta, masses, forces, energy and stress as ASE reads them,
PREFIX.out the energies, PREFIX.svg their plot, PREFIX.restart what --restart needs.

Example: forcewire md argon.xyz --steps 1000 --temperature 80 --output run

Status: 0 when all steps are done, 1 when something fails, 2 when a flag makes no sense."
)]
pub struct Arguments {
    /// Atoms, plain or extended XYZ; - is standard input
    file: String,
    /// Total number of steps
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    steps: u64,
    /// Time of a step
    #[arg(long, value_name = "FS", default_value = "1", value_parser = positive)]
    timestep: f64,
    /// Temperature of initial velocities, or of the thermostat [default: those of FILE, or 0]
    #[arg(long, value_name = "K", value_parser = not_negative)]
    temperature: Option<f64>,
    /// Langevin's thermostat with this time constant [default: constant energy]
    #[arg(long, value_name = "FS", value_parser = positive, requires = "temperature")]
    langevin: Option<f64>,
    /// Seed of velocities and noise
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Write PREFIX.xyz and so on; otherwise energies are printed
    #[arg(short = 'O', long, value_name = "PREFIX")]
    output: Option<String>,
    /// Number of steps between rows and between frames
    #[arg(long, value_name = "N", default_value = "10", value_parser = clap::value_parser!(u64).range(1..))]
    stride: u64,
    /// Continue an existing --output, bit for bit
    #[arg(long, requires = "output")]
    restart: bool,
    #[command(flatten)]
    cell: CellArguments,
    #[command(flatten)]
    meeting: Meeting,
    #[command(flatten)]
    asking: Asking,
}
