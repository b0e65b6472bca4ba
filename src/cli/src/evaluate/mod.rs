//! `forcewire evaluate`: sends the frames of a file to drivers and writes the results in the
//! frames' order.

mod output;
mod run;
mod spool;
mod survey;

use clap::Args;

use crate::arguments::{Meeting, positive};
use crate::pool::Asking;
use crate::say::say;
use crate::sent::{EDGE, Vacuum};
use crate::units::Units;

pub use run::run;

/// Let drivers evaluate the frames of an XYZ file
#[derive(Args, Debug)]
#[command(
    disable_help_flag = true,
    after_help = "\
Without --output, a line of JSON a frame is printed, in atomic units: frame, input, energy,
forces, virial, extras, driver, microseconds. Frames of several compositions are served
group by group: drivers of one group are sent EXIT before the next is waited for.

input, in extended XYZ forcewire_input, is a digest of the frame and of --units, --cell and
--as-periodic. --resume goes on only after results of the same input.

Example: forcewire evaluate frames.xyz --output results.xyz --drivers 4 -p 31415

Status: 0 when all frames are done, 1 when something fails, 2 when a flag makes no sense."
)]
pub struct Arguments {
    /// Frames, plain or extended XYZ; - is standard input
    file: String,
    /// Results: .xyz, extended XYZ in eV and Å as ASE reads it; .jsonl, JSON
    #[arg(short = 'O', long, value_name = "FILE", value_parser = output::file_name)]
    output: Option<String>,
    /// Continue an existing --output
    #[arg(long, requires = "output")]
    resume: bool,
    /// Continue after a frame that can't be computed: its line of JSON has an error
    #[arg(long)]
    keep_going: bool,
    #[command(flatten)]
    cell: CellArguments,
    #[command(flatten)]
    meeting: Meeting,
    #[command(flatten)]
    asking: Asking,
}

/// How to interpret frames.
#[derive(Args, Debug)]
pub struct CellArguments {
    /// Unit of lengths in FILE: angstrom or bohr
    #[arg(
        long,
        default_value = "angstrom",
        value_name = "UNIT",
        hide_possible_values = true
    )]
    pub units: Units,
    /// Length of the cell where it is not periodic [default: 1000 bohr]
    #[arg(long, value_name = "EDGE", value_parser = positive)]
    cell: Option<f64>,
    /// Send each Lattice as it is, ignoring pbc
    #[arg(long)]
    as_periodic: bool,
}

impl CellArguments {
    /// Logs how frames that are not periodic in all directions are treated.
    pub fn note_open(&self, open: usize, frames: usize) {
        if open == 0 || self.as_periodic {
            return;
        }
        let edge = match (self.cell, self.units) {
            (None, _) => format!("{EDGE} bohr"),
            (Some(edge), Units::Angstrom) => format!("{edge} Å"),
            (Some(edge), Units::Bohr) => format!("{edge} bohr"),
        };
        let frames = match frames {
            1 => "the frame is".into(),
            frames => format!("{open} of {frames} frames are"),
        };
        say(format_args!(
            "{frames} not periodic in all directions (pbc, or no Lattice): the cell that is sent is {edge} \
             long there (--cell, --as-periodic)"
        ));
    }

    pub fn vacuum(&self) -> Vacuum {
        Vacuum {
            edge: self.cell.map(|edge| edge * self.units.in_bohr()),
            as_periodic: self.as_periodic,
        }
    }
}
