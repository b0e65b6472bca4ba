//! `forcewire generate`: shell completions and manual pages, for packagers.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::Shell;

use crate::Cli;
use crate::say::Failure;

/// Write shell completions, or manual pages into a directory
#[derive(Args, Debug)]
#[command(after_help = "\
Example: forcewire generate bash > forcewire.bash
         forcewire generate man --directory man1")]
pub struct Arguments {
    /// A shell (bash, elvish, fish, powershell, zsh), or man
    what: String,
    /// Directory for manual pages, one for each command
    #[arg(long, default_value = ".")]
    directory: PathBuf,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut command = Cli::command();
    if arguments.what == "man" {
        return Ok(clap_mangen::generate_to(command, &arguments.directory)?);
    }
    let shell = Shell::from_str(&arguments.what, true)
        .map_err(|_| Failure::Usage(format!("{:?} is neither a shell nor man", arguments.what)))?;
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, "forcewire", &mut text);
    Ok(io::stdout().write_all(&text)?)
}
