//! Flags that several commands have, and how their values are read.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use forcewire::net::Address;

use crate::meet::Target;
use crate::number::real;
use crate::say::say;

/// Where a server listens and drivers connect, with i-PI's flags.
#[derive(Args, Debug)]
pub struct Meeting {
    /// Host, by name or address; with -u, the name of the socket
    #[arg(
        short = 'a',
        long = "address",
        value_name = "HOST",
        default_value = "localhost"
    )]
    host: String,
    /// i-PI's old spelling of -a
    #[arg(short = 'h', value_name = "HOST", hide = true)]
    old_host: Option<String>,
    /// Port [default: 31415; of a server with --meet: any]
    #[arg(short, long, value_name = "PORT")]
    port: Option<u16>,
    /// Unix socket, PREFIX followed by HOST
    #[arg(short, long)]
    unix: bool,
    /// What comes before the socket's name
    #[arg(short = 'S', long, value_name = "PREFIX", default_value = Address::PREFIX)]
    sockets_prefix: String,
    /// A FILE with host and port: servers write it, drivers wait for it
    #[arg(long, value_name = "FILE")]
    meet: Option<PathBuf>,
    /// Print this help
    #[arg(long, action = clap::ArgAction::Help, display_order = 1000)]
    help: Option<bool>,
}

impl Meeting {
    /// The file in which drivers look, if there is one.
    pub fn file(&self) -> Option<&Path> {
        self.meet.as_deref()
    }

    /// Where a driver looks for the server.
    pub fn target(&self) -> Target {
        match &self.meet {
            Some(path) => Target::File(path.clone()),
            None => Target::Address(self.address()),
        }
    }

    pub fn address(&self) -> Address {
        let host = self.old_host.as_ref().unwrap_or(&self.host);
        if self.old_host.is_some() {
            say(format_args!(
                "-h {host} is an old spelling of -a {host}; help is --help"
            ));
        }
        match self.unix {
            true => Address::unix(&self.sockets_prefix, host),
            false => {
                let default = if self.meet.is_some() { 0 } else { 31415 };
                Address::tcp(host, self.port.unwrap_or(default))
            }
        }
    }
}

pub fn number(text: &str) -> Result<f64, String> {
    real(text.trim()).ok_or_else(|| "it is not a number".into())
}

pub fn positive(text: &str) -> Result<f64, String> {
    let number = number(text)?;
    (number > 0.0)
        .then_some(number)
        .ok_or_else(|| "it must be more than 0".into())
}

pub fn not_negative(text: &str) -> Result<f64, String> {
    let number = number(text)?;
    (number >= 0.0)
        .then_some(number)
        .ok_or_else(|| "it must not be negative".into())
}

pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = not_negative(text)?;
    Duration::try_from_secs_f64(seconds).map_err(|_| "it is too long".into())
}
