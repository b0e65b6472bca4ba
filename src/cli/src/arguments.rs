//! Flags that several commands share, and the parsers of their values.

use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Command};
use forcewire::net::Address;

use crate::meet::Target;
use crate::number::real;
use crate::say::{Failure, say};

/// Where a server listens and drivers connect. The flags are i-PI's.
#[derive(Args, Debug)]
pub struct Meeting {
    /// Host, by name or address; with -u, the name of the socket [default: localhost]
    #[arg(short = 'a', long = "address", value_name = "HOST")]
    host: Option<String>,
    /// i-PI's old spelling of -a
    #[arg(short = 'h', value_name = "HOST", hide = true)]
    old_host: Option<String>,
    /// Port [default: 31415; of a server with --meet: any]
    #[arg(short, long, value_name = "PORT")]
    port: Option<u16>,
    /// Unix socket, PREFIX followed by HOST
    #[arg(short, long)]
    unix: bool,
    /// Prefix of the socket's name [default: /tmp/ipi_]
    #[arg(short = 'S', long, value_name = "PREFIX")]
    sockets_prefix: Option<String>,
    /// A FILE with host and port: servers write it, drivers wait for it
    #[arg(long, value_name = "FILE")]
    meet: Option<PathBuf>,
    /// Print this help
    #[arg(long, action = clap::ArgAction::Help, display_order = 1000)]
    help: Option<bool>,
}

impl Meeting {
    /// The file that a server writes, if one was given.
    pub fn file(&self) -> Option<&Path> {
        self.meet.as_deref()
    }

    /// Where a driver finds the server.
    pub fn target(&self) -> Result<Target, Failure> {
        let Some(path) = &self.meet else {
            return Ok(Target::Address(self.address()?));
        };
        let given = [
            (self.host.is_some() || self.old_host.is_some(), "-a"),
            (self.port.is_some(), "-p"),
            (self.unix, "-u"),
            (self.sockets_prefix.is_some(), "-S"),
        ];
        match given.iter().find(|(is_given, _)| *is_given) {
            None => Ok(Target::File(path.clone())),
            Some((_, flag)) => Err(Failure::Usage(format!(
                "the FILE of --meet says where the server is, {flag} can't be given with it"
            ))),
        }
    }

    /// The address at which a server listens.
    pub fn address(&self) -> Result<Address, Failure> {
        if let Some(host) = &self.old_host {
            say(format_args!(
                "-h {host} is an old spelling of -a {host}; help is --help"
            ));
        }
        let host = self.old_host.as_ref().or(self.host.as_ref());
        let host = host.map_or("localhost", String::as_str);
        if self.unix {
            let prefix = self.sockets_prefix.as_deref().unwrap_or(Address::PREFIX);
            return Ok(Address::unix(prefix, host));
        }
        let default = if self.meet.is_some() { 0 } else { 31415 };
        let host = host_alone(host).map_err(Failure::Usage)?;
        Ok(Address::tcp(host, self.port.unwrap_or(default)))
    }
}

/// A host given without a port, in brackets or not.
fn host_alone(text: &str) -> Result<&str, String> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let host = bare.unwrap_or(text);
    // An address, with its interface if it is link-local.
    let is_ipv6 = |host: &str| {
        let ip = host.split_once('%').map_or(host, |(ip, _)| ip);
        ip.parse::<Ipv6Addr>().is_ok()
    };
    if host.is_empty() {
        Err("-a takes a host, and not nothing".into())
    } else if host.contains(':') && !is_ipv6(host) {
        Err(format!(
            "-a takes a host, and -p its port: {text:?} is not a host"
        ))
    } else {
        Ok(host)
    }
}

/// Accepts values that begin with a minus sign, so that the error says what is wrong with them.
/// Without this, `-1` counts as an unknown flag.
pub fn with_negative_numbers(command: Command) -> Command {
    let command = command.mut_args(|argument| {
        let is_value = argument.get_action().takes_values() && !argument.is_positional();
        argument.allow_negative_numbers(is_value)
    });
    command.mut_subcommands(with_negative_numbers)
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

/// A time limit, which may be infinite.
pub fn seconds(text: &str) -> Result<Duration, String> {
    if text.trim() == "inf" {
        return Ok(Duration::MAX);
    }
    let seconds = not_negative(text)?;
    Duration::try_from_secs_f64(seconds).map_err(|_| "it is too long".into())
}
